"""Push artifacts to a remote, so that others can pull them, or take them instead of building.

What the remote has already is not sent again: not a library, and not after a push that broke off. With the artifact go the
results that lead to it, signed with your key, and what its script put out before it was packed, which other recipes are
built from.

A REMOTE that begins with oci:// is a registry of container images: what goes there is the artifact as an image, as
`builder export --format oci` makes it, of which the registry's layers are not sent again. Without :TAG, its version is the tag.
An image has what running needs, and with --all everything. Logins are those of `docker login` and `skopeo login`.

examples:
  builder push ours result                 the artifact of a result link
  builder push ours crystal jq             the newest of these names
  builder push /media/stick crystal --no-sign
  builder push oci://registry.example.org/tools/jq jq
"""

from __future__ import annotations

import argparse

from builder.commands import Context, image, say, say_json, whole
from store.errors import Error


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("remote", metavar="REMOTE", help="a remote's name, or its address")
    parser.add_argument("artifacts", nargs="+", metavar="ARTIFACT", help="a result link, folder, digest or name")
    parser.add_argument("--key", metavar="NAME", help="the key that signs (default: the only one)")
    parser.add_argument("--no-sign", action="store_true", help="sign nothing: it can be pulled by digest only")
    parser.add_argument("--no-outputs", action="store_true", help="leave out what other recipes would be built from")
    parser.add_argument(
        "--again", action="store_true", help="send everything, whatever the remote says it has: mends a damaged one"
    )
    whole.argument(parser)
    image.arguments(parser)
    parser.add_argument("--json", action="store_true", help="print what was moved as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Push, and say what was moved."""
    if options.remote.startswith(image.SCHEMES):
        return image.push(options, context)
    if options.entrypoint or options.label or options.all:
        raise Error(
            "--entrypoint, --label and --all are of images", hint="What is pushed to other remotes than oci:// is always whole."
        )
    import gc

    from builder import publish, show
    from store import push, resolve

    gc.enable()
    sharing = context.sharing()
    place = sharing.open(options.remote)
    key = None if options.no_sign else sharing.secret(options.key)
    if key is None and not options.no_sign:
        raise Error(
            "there is no key to sign with, and nobody believes a result that is not signed",
            hint="`builder key new NAME` makes one; --no-sign pushes what can be pulled by digest only.",
        )
    store = context.store()
    with store.in_use(), show.progress(verbose=False) as progress:
        found = [resolve.resolve(store, spec) for spec in options.artifacts]
        load = publish.load(store, found, key=key, with_outputs=not options.no_outputs)
        names = ", ".join(f"{item.folder.name} {item.folder.version}" for item in found)
        with progress.task("push", f"{names} to {place.name}") as task:
            done = push.push(store, place, load, again=options.again, report=task.advance)
    if options.json:
        rows = [{"name": n.folder.name, "version": n.folder.version, "digest": str(n.digest)} for n in found]
        moved = {"bytes": done.bytes, "parcels": done.parcels, "blobs": done.blobs, "known": done.known}
        say_json({"artifacts": rows, "moved": moved})
    else:
        for item in found:
            say(f"{item.digest}  {item.folder.name} {item.folder.version}")
    return 0
