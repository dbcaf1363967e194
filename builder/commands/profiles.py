"""What the commands that change a profile share."""

from __future__ import annotations

import sys
from pathlib import Path

from builder.commands import Context, say, say_json
from builder.generation import Change, Generation, Package
from builder.profile import Places, Profile
from store.errors import Error
from store.store import Store

# As typing has it: what builds is loaded where something is built.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.known import Built
    from builder.recipe import Buildable


class NotInstalled(Error):
    """No package of this name is installed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not installed", hint="`builder list` lists what is.")


def profile_of(context: Context) -> Profile:
    """The user's profile. Raises Error when the environment has no home."""
    home = Path(context.environment.get("HOME") or "/").absolute()
    state = Path(context.environment.get("XDG_STATE_HOME") or home / ".local" / "state")
    data = Path(context.environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    return Profile(Places(state / "builder" / "profile", home / ".local" / "bin", data))


def build(store: Store, context: Context, recipes: list[tuple[str, bool]]) -> list[Package]:
    """The packages that recipe files give, all of each or what running needs. Built is what is not there.

    For who is in the store's ``in_use``.
    """
    from builder import runtime
    from builder.known import Known, artifact_path
    from builder.load import load
    from store.artifacts import Folder
    from store.resolve import Named

    items = [load(path) for path, _ in recipes]
    known = Known(store)
    found: dict[int, Named] = {}
    for number, (item, (_, everything)) in enumerate(zip(items, recipes, strict=True)):
        # A collection leaves of what is installed no more than running needs: nothing is built again to see that it is there.
        built = None if everything else known.built(item)
        part = runtime.made_before(store, built.artifact, item.name, item.version) if built and built.artifact else None
        found |= {number: part} if part else {}
    left = [number for number in range(len(items)) if number not in found]
    for number, built in zip(left, _built(store, context, [items[number] for number in left]), strict=True):
        path, everything = recipes[number]
        if built.artifact is None:
            raise Error(f"{path} is a system root, and has no programs of its own to install")
        folder = Folder.of(built.artifact, built.item.name, built.item.version)
        made = Named(folder, built.artifact, artifact_path(store, built))
        found[number] = made if everything else runtime.needed(store, made)
    return [
        Package(item.name, item.version, found[n].digest, str(found[n].folder), str(Path(path).absolute()), everything)
        for n, (item, (path, everything)) in enumerate(zip(items, recipes, strict=True))
    ]


def _built(store: Store, context: Context, items: list[Buildable]) -> list[Built]:
    from builder.commands.build import ready

    built = ready(store, items)
    if built is None:
        from builder.commands.common import realiser

        with realiser(store, context, verbose=False) as maker:
            built = maker.run(items)
    return built


def report(new: Generation | None, changed: list[Change], *, as_json: bool) -> None:
    """Say what a command changed, on standard output."""
    if as_json:
        rows = [
            {
                "name": one.name,
                "before": one.before.version if one.before else None,
                "after": one.after.version if one.after else None,
                "digest": str(one.after.digest) if one.after else None,
            }
            for one in changed
        ]
        say_json({"generation": new.number if new else 0, "changes": rows})
        return
    for one in changed:
        match one:
            case Change(name, None, Package(version=version)):
                say(f"installed {name} {version}")
            case Change(name, Package(version=version), None):
                say(f"uninstalled {name} {version}")
            case Change(name, Package(version=was), Package(version=version)):
                say(f"changed {name} {was} to {version}")
    if not changed:
        say("nothing to do")


def mind_path(profile: Profile, context: Context, new: Generation | None) -> None:
    """Say once if shells will not find what was installed."""
    folder = str(profile.places.programs)
    listed = context.environment.get("PATH", "").split(":")
    has_programs = new is not None and any(path.startswith(b"bin/") for path in new.links)
    if has_programs and folder not in (name.rstrip("/") for name in listed) and profile.once("path"):
        sys.stderr.write(f"{folder} is not on PATH: add it in your shell's profile, as in PATH={folder}:$PATH\n")
