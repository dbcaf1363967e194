"""Build a recipe, and run one of its programs in place of this one, with the arguments after `--`.

The program is the one named like the recipe, the only one in bin/, or the one that --program names. The exit status is
the program's. With --host-libraries it also finds libraries that only this machine has; what its artifact has, it takes
from there.

examples:
  builder run recipes/jq.py -- -r .name package.json
  builder run recipes/zlib.py --program minigzip -- -d file.gz
"""

from __future__ import annotations

import argparse
import glob
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from builder.commands import Context
from builder.commands.build import ready
from builder.known import artifact_path
from builder.load import load
from launcher import host
from store.errors import Error


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe file")
    parser.add_argument("words", nargs="*", metavar="ARGS", help="the program's arguments, after --")
    parser.add_argument("--program", metavar="NAME", help="the program in the artifact's bin/")
    parser.add_argument(
        "--host-libraries", action="store_true", help="let it load libraries of this machine that its artifact has not"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show what the builds say")


def run(options: argparse.Namespace, context: Context) -> int:
    """Build, and become the program."""
    store = context.store()
    item = load(options.recipe)
    with store.in_use():
        built = ready(store, [item])
        if built is None:
            from builder.commands.common import realiser

            with realiser(store, context, verbose=options.verbose) as maker:
                built = maker.run([item])
        if built[0].artifact is None:
            raise Error(f"{item.name} is a system root, and has no programs of its own to run")
        place = artifact_path(store, built[0])
    program = _choose(place, item.name, options.program)
    environment = _with_host(place, item.name, context.environment) if options.host_libraries else context.environment
    sys.stdout.flush()
    try:
        # Python ignores it, and what is ignored stays so in the program.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execve(program, [str(program), *options.words], dict(environment))  # noqa: S606
    except OSError as error:
        raise Error(f"cannot run {program}: {os.strerror(error.errno or 0)}") from None


def _with_host(place: Path, name: str, environment: Mapping[str, str]) -> Mapping[str, str]:
    """The environment in which a launcher's loader finds what it misses on this machine."""
    triplets = sorted(folder.name for folder in (place / ".launch").glob("*-linux-gnu"))
    if not triplets:
        raise Error(
            f"{name} has no dynamic program for glibc",
            hint="Libraries of this machine can be loaded by such programs only: run it without --host-libraries.",
        )
    found = host.search_path(_read, lambda pattern: sorted(glob.glob(pattern)), triplets[0])
    here = [os.fsdecode(folder) for folder in found if os.path.isdir(folder)]
    # An empty name would be the working directory.
    own = [folder for folder in environment.get("LD_LIBRARY_PATH", "").split(":") if folder]
    return {**environment, "LD_LIBRARY_PATH": ":".join([*own, *here])}


def _read(path: bytes) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _choose(place: Path, name: str, asked: str | None) -> Path:
    programs = sorted(entry.name for entry in (place / "bin").iterdir()) if (place / "bin").is_dir() else []
    wanted = asked or (name if name in programs else programs[0] if len(programs) == 1 else None)
    if wanted is None or wanted not in programs:
        what = f"has no program {asked}" if asked else "has several programs" if programs else "has no programs"
        hint = f"Name one with --program: {', '.join(programs)}." if programs else ""
        raise Error(f"{name} {what}", hint=hint)
    return place / "bin" / wanted
