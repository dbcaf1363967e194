"""Pin the packages of a system root: resolve the names in a recipe against the suite's signed index, into its lock file.

The signature is verified against Debian's keys, which the builder brings. Where to look is your configuration
(~/.config/builder/config.toml), else that of the machine's apt. The same index gives the same lock file.

examples:
  builder lock recipes/toolchain.py
  builder lock recipes/toolchain.py --check     is the lock file still what the suite has?
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from builder import lockfile, tools
from builder.commands import Context, say, say_json
from builder.known import lock_path
from builder.load import load
from builder.recipe import PLATFORMS, BadRecipe, System, closure
from store import files


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="a recipe file that has a System")
    parser.add_argument("--tools", action="store_true", help="pin what the builder itself runs, in the builder's own folder")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 when the lock file would change")
    parser.add_argument("--json", action="store_true", help="print what changed as JSON")


def run(options: argparse.Namespace, context: Context) -> int:
    """Resolve and write."""
    from builder import debian, mirrors, show
    from builder.fetch import Fetcher

    store = context.store()
    rows = []
    changed = False
    with store.in_use(), show.progress(verbose=False) as progress:
        fetcher = Fetcher(store, mirrors.find(context.config_path, context.environment), progress)
        for system in _systems(options):
            lock = debian.lock(
                fetcher,
                progress,
                system.packages,
                suite=system.suite,
                exclude=system.exclude,
                architecture=PLATFORMS[system.platform],
            )
            path = lock_path(system)
            before = _packages(path)
            after = {package.name: package.version for package in lock.packages}
            text = lockfile.render(lock)
            differs = not path.exists() or path.read_text("utf-8") != text
            changed = changed or differs
            if differs and not options.check:
                _write(path, text)
            rows.append((path, lock, before, after, differs))
    if options.json:
        say_json([_json(*row) for row in rows])
    else:
        for path, lock, before, after, differs in rows:
            for name in sorted(before.keys() | after.keys()):
                if before and before.get(name) != after.get(name):
                    say(f"{name}: {before.get(name, 'new')} -> {after.get(name, 'gone')}")
            state = "unchanged" if not differs else "would change" if options.check else "written"
            say(f"{path}: {len(lock.packages)} packages, {show.size(lock.size)} to fetch, {state}")
    return 1 if options.check and changed else 0


def _systems(options: argparse.Namespace) -> list[System]:
    if options.tools:
        return [tools.SYSTEM, tools.DEBUG]
    if options.recipe is None:
        raise BadRecipe("no recipe file was named", hint="For example: builder lock recipes/toolchain.py")
    item = load(options.recipe)
    there = [inner for inner in closure((item,)) if isinstance(inner, System)]
    own = [system for system in there if Path(system.position.file) == Path(os.path.abspath(options.recipe))]
    if not own:
        where = ", ".join(sorted({os.path.relpath(system.position.file) for system in there}))
        raise BadRecipe(f"{options.recipe} has no System of its own", hint=f"It builds on those of {where}." if where else "")
    return own


def _packages(path: Path) -> dict[str, str]:
    try:
        return {p.name: p.version for p in lockfile.parse(path.read_text("utf-8"), str(path)).packages}
    except (FileNotFoundError, lockfile.BadLock):
        return {}


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    files.sync_directory(path.parent)


def _json(path: Path, lock: lockfile.Lock, before: dict[str, str], after: dict[str, str], differs: bool) -> dict[str, object]:
    return {
        "lock": str(path),
        "suite": lock.suite,
        "date": lock.date,
        "changed": differs,
        "packages": after,
        "before": before,
        "bytes": lock.size,
    }
