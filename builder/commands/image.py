"""What the commands that make images share, and pushing one to a registry."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from builder.commands import Context, say, say_json, whole
from store.errors import Error

if TYPE_CHECKING:
    from builder.export import Export
    from store.manifest import Manifest
    from store.resolve import Named
    from store.store import Store

# As builder.registry has them, which takes long to import.
SCHEMES = ("oci://", "oci+http://")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what can be said of an image."""
    parser.add_argument(
        "--entrypoint",
        metavar="NAME",
        help="of an image or one file: the program in bin/ that it starts (default: the main one)",
    )
    parser.add_argument(
        "--label", action="append", default=[], type=_label, metavar="KEY=VALUE", help="of an image: one more label"
    )


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def job_of(options: argparse.Namespace, store: Store, named: Named, tree: Manifest, report: Callable[[int], None]) -> Export:
    """What is to be exported of ``named``, whose tree is ``tree``, as ``arguments`` let it be said."""
    from builder.commands.common import cores
    from builder.export import Export

    return Export(
        store,
        tree,
        named.folder.name,
        named.folder.version,
        threads=cores(),
        entrypoint=options.entrypoint,
        labels=tuple(options.label),
        report=report,
    )


def push(options: argparse.Namespace, context: Context) -> int:
    """Push an artifact as an image, and say what it is called there."""
    import gc

    from builder import export, logins, mirrors, oci, registry, show
    from store.resolve import resolve

    gc.enable()
    reference = registry.Reference.parse(options.remote)
    if len(options.artifacts) > 1:
        raise Error("an image is of one artifact", hint="Push them one by one.")
    if options.key or options.no_sign or options.no_outputs:
        raise Error("--key, --no-sign and --no-outputs are not of images", hint="Sign an image with a tool for images.")
    login = logins.login_for(reference.host, reference.repository, _logins(context))
    places = mirrors.find(context.config_path, context.environment)
    store = context.store()
    with store.in_use(), show.progress(verbose=False) as progress, store.workspace() as folder:
        named = whole.taken(store, resolve(store, options.artifacts[0]), everything=options.all)
        name, version = named.folder.name, named.folder.version
        tree = store.read_manifest(named.digest)
        with progress.task("export", f"{name} {version} as oci", total=tree.size) as task:
            image = export.write_image(job_of(options, store, named, tree, task.advance), folder / "image")
        reference = reference if reference.tag else reference.tagged(oci.tag(version))
        with progress.task("push", f"{name} {version} to {reference}", total=sum(blob.size for blob in image.parts)) as task:
            done = registry.push(
                reference,
                image,
                folder / "image",
                login=login,
                proxy=lambda address: places.places(address)[0].proxy,
                again=options.again,
                report=task.advance,
            )
    if options.json:
        say_json(
            {
                "artifacts": [{"name": name, "version": version, "digest": str(named.digest)}],
                "image": f"{reference}@{image.manifest.digest}",
                "moved": {"bytes": done.bytes, "blobs": done.blobs, "known": done.known, "tagged": not done.unchanged},
            }
        )
    else:
        say(f"{reference}@{image.manifest.digest}")
    return 0


def _logins(context: Context) -> list[Path]:
    """The files in which tools for images keep their logins, in the order in which they are asked."""
    given = context.environment.get("REGISTRY_AUTH_FILE")
    if given:
        return [Path(given)]
    home = Path(context.environment.get("HOME") or "/")
    runtime = context.environment.get("XDG_RUNTIME_DIR")
    own = [Path(runtime) / "containers" / "auth.json"] if runtime else []
    config = Path(context.environment.get("XDG_CONFIG_HOME") or home / ".config")
    docker = Path(context.environment.get("DOCKER_CONFIG") or home / ".docker")
    return [*own, config / "containers" / "auth.json", docker / "config.json"]
