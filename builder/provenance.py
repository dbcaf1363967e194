"""SLSA provenance: how an artifact was built, as an in-toto statement. From results alone, so always the same."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

from builder.materials import Build, Material, NotKnown
from store.action import Action
from store.codec import Value
from store.graph import LEAVES_OUT, Step
from store.manifest import Manifest

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILDER = "urn:builder:builder"


def statement(build: Build, name: str, artifact: Manifest) -> dict[str, Any]:
    """The provenance of ``artifact``, whose folder is called ``name``. Raises NotKnown."""
    packed, made = build.of("pack", "debug", "select"), build.of("build", "adopt", "select")
    made = made or packed
    if made is None:
        raise NotKnown(artifact.digest)
    last = packed or made
    actions = [row[0] for row in (build.of(LEAVES_OUT), last, made) if row]
    step, result, action = made
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": _digests(artifact)}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": f"urn:builder:{step.kind}:v{action.settings[0]!r}",
                "externalParameters": _parameters(step, action),
                "internalParameters": {
                    "actions": {one.kind: str(one.action) for one in actions},
                    "inputs": [{"name": label, "digest": {"blake3": tree.hex}} for label, tree in step.inputs],
                },
                "resolvedDependencies": [_dependency(material) for material in build.materials],
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": dict([_version(result.by)])},
                "metadata": {
                    "invocationId": str(actions[0].action),
                    "startedOn": _time(result.started),
                    # Packing may be known from before: of an earlier build with the same outcome.
                    "finishedOn": _time(max(one.started + -(-one.milliseconds // 1000) for one in (result, last[1]))),
                },
                "byproducts": [{"name": "log", "digest": {"blake3": result.log.hex}}] if result.log else [],
            },
        },
    }


def _digests(tree: Manifest) -> dict[str, str]:
    """Those of a manifest's bytes. Its name in the store is the BLAKE3 one; few other tools know that hash."""
    return {"blake3": tree.digest.hex, "sha256": hashlib.sha256(tree.encode()).hexdigest()}


def _dependency(material: Material) -> dict[str, Any]:
    # Of what was not fetched as one file, the tree's own digest says what it was.
    digest = {"sha256": material.sha256} if material.sha256 else {"blake3": material.tree.hex}
    row: dict[str, Any] = {"name": material.label, "digest": digest, "annotations": {"kind": material.kind}}
    if material.purl:
        row["uri"] = material.purl
    return row


def _parameters(step: Step, action: Action) -> dict[str, Any]:
    match action.settings:
        case [_, str(platform), [*command], [*variables], [*_]] if step.kind == "build":
            pairs = dict(_pair(row) for row in variables)
            return {"label": step.label, "platform": platform, "command": command, "variables": pairs}
    return {"label": step.label}


def _pair(row: Value) -> tuple[str, str]:
    match row:
        case [str(key), str(value)]:
            return key, value
    return str(row), ""


def _version(by: str) -> tuple[str, str]:
    name, _, version = by.partition(" ")
    return name, version


def _time(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
