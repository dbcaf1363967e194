"""Print how an artifact was built, as SLSA provenance (v1, an in-toto statement in JSON), from the records of its build.

It names the artifact by its digests, the script and its variables, every package and source with its hash, the builder, and
when it was built. The same result gives the same text. It is not signed.

ARTIFACT is a result link, a folder of the store, the start of a digest (b3:...), or a name.

examples:
  builder provenance result > provenance.json
  builder provenance jq | jq '.predicate.buildDefinition.resolvedDependencies | length'
"""

from __future__ import annotations

import argparse

from builder.commands import Context, artifact, say_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    artifact.argument(parser, json="print JSON, which it always does")


def run(options: argparse.Namespace, context: Context) -> int:
    """Print it."""
    from builder.materials import build_of
    from builder.provenance import statement

    with artifact.opened(context, options.artifact) as (store, named, index):
        build = build_of(store, index.graph(), named.digest)
        manifest = store.read_manifest(named.digest)
    say_json(statement(build, f"{named.folder.name}-{named.folder.version}", manifest))
    return 0
