"""Print an artifact's bill of materials, in JSON: what is in it, and what it was built from.

Every Debian package and source is listed with its package URL, version, hash, and licences where its copyright file says
them and the store still holds that. What took part in the build and is not in the artifact is marked. The same
artifact gives the same text; its time is SOURCE_DATE_EPOCH, or else that of the build.

ARTIFACT is a result link, a folder of the store, the start of a digest (b3:...), or a name.

examples:
  builder sbom result --format spdx > sbom.spdx.json
  builder sbom jq | jq -r '.components[] | select(.scope == "required") | .purl'
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from builder.commands import Context, artifact
from store.errors import Error


class BadTime(Error):
    """SOURCE_DATE_EPOCH is no time."""

    def __init__(self, value: str) -> None:
        super().__init__(f"SOURCE_DATE_EPOCH is {value!r}", hint="It is a whole number of seconds since 1970.")
        self.value = value


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    artifact.argument(parser, json="print JSON, which it always does")
    parser.add_argument("--format", choices=("cyclonedx", "spdx"), default="cyclonedx", help="CycloneDX 1.6 or SPDX 2.3")
    parser.add_argument("--files", action="store_true", help="list every file of the artifact with its hashes too")


def run(options: argparse.Namespace, context: Context) -> int:
    """Print it."""
    from builder import sbom
    from builder.materials import build_of, licences, used
    from store.origins import origins

    with artifact.opened(context, options.artifact) as (store, named, index):
        build = build_of(store, index.graph(), named.digest)
        there = used(build, origins(index, named.digest))
        bill = sbom.Bill(
            name=named.folder.name,
            version=named.folder.version,
            digest=named.digest,
            time=_time(context.environment, build.started),
            manifest=store.read_manifest(named.digest),
            parts=tuple(sbom.Part(m, m.tree in there, tuple(licences(store, m))) for m in build.materials),
            read=store.read_blob if options.files else None,
        )
        sys.stdout.write(sbom.spdx(bill) if options.format == "spdx" else sbom.cyclonedx(bill))
    return 0


def _time(environment: Mapping[str, str], built: int) -> int:
    value = environment.get("SOURCE_DATE_EPOCH")
    if value is None:
        return built
    # Dates that others cannot read, behind the year 9999, are none.
    if not (value.isascii() and value.isdigit() and int(value[:12]) < 253_402_300_800 and len(value) < 13):
        raise BadTime(value)
    return int(value)
