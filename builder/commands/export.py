"""Write an artifact as something to hand on: one file that starts, a folder, an archive, or an image for container engines.

The same artifact gives the same bytes on any machine. The format is --format, or what the ending of PATH says: .run,
.tar.zst, .oci (a folder) or .oci.tar. What is at PATH already is never replaced.

One file (.run) needs nothing of the machine that it is started on: its first start unpacks it, and each becomes the program.
--builder-help, as its own first argument, says what else it can do.

What is written is what running needs: headers, static libraries, files for pkg-config and documentation are left out, and
licences never. --all takes everything.

ARTIFACT is a result link, a folder of the store, the start of a digest (b3:...), or a name.

examples:
  builder export result -o jq-1.7.1-x86_64-linux.run
  builder export result -o jq-1.7.1-x86_64-linux.tar.zst
  builder export jq --format dir -o /srv/jq
  builder export jq -o jq.oci.tar       for skopeo and podman; `builder push oci://...` needs no file
"""

from __future__ import annotations

import argparse
from pathlib import Path

from builder.commands import Context, artifact, image, say, say_json, whole


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    artifact.argument(parser)
    parser.add_argument("-o", "--output", metavar="PATH", required=True, help="where to write it")
    parser.add_argument("--format", metavar="FORMAT", choices=FORMATS, help=f"one of {', '.join(FORMATS)}")
    whole.argument(parser)
    image.arguments(parser)


# As builder.export has them: an import of that would make the help of every command slow.
FORMATS = ("dir", "tar.zst", "oci", "run")


def run(options: argparse.Namespace, context: Context) -> int:
    """Write it, and say where it is."""
    import gc

    from builder import export, show
    from store.errors import Error
    from store.resolve import resolve

    gc.enable()
    path = Path(options.output)
    kind = options.format or export.format_of(path)
    if kind not in ("oci", "run") and options.entrypoint:
        raise Error("--entrypoint is of images and of one file", hint="Say --format oci or run, or leave it out.")
    if kind != "oci" and options.label:
        raise Error("--label is of images", hint="Say --format oci, or leave it out.")
    store = context.store()
    with store.in_use(), show.progress(verbose=False) as progress:
        named = whole.taken(store, resolve(store, options.artifact), everything=options.all)
        tree = store.read_manifest(named.digest)
        name, version = named.folder.name, named.folder.version
        with progress.task("export", f"{name} {version} as {kind}", total=tree.size) as task:
            done = export.write(image.job_of(options, store, named, tree, task.advance), kind, path)
    if options.json:
        say_json(
            {
                "name": name,
                "version": version,
                "digest": str(named.digest),
                "format": kind,
                "path": str(done.path),
                "bytes": done.size,
                "sha256": done.sha256,
                "image": done.image,
            }
        )
    else:
        say(str(done.path))
    return 0
