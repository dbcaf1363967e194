"""The command line: finds the command, runs it, and turns errors into messages and exit statuses.

Only this package prints. A command is a module of ``builder.commands`` with ``arguments`` and ``run``; it is imported only
when it is the one that was asked for, so that a build that has nothing to do starts fast.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence

from builder import VERSION
from store.errors import Error

# As typing has it, whose import would take a twentieth of a build that has nothing to do.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

ABOUT = "Build software from recipes into artifacts that run on any Linux."
MORE = """\
exit status:
  0  done      1  failed      2  wrong usage      130  stopped by Ctrl-C
  3  `check` found damage     4  `build --check` gave something else
  `run` and `shell` end as the program that they start

environment:
  BUILDER_STORE  where the store is (default: ~/.local/share/builder)
  NO_COLOR       no colours

Recipes are Python modules: building one runs its code. Build only what you would also install.
"""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal. argparse would load four compression libraries to find that width, for any command."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
        except (ValueError, OSError):
            columns = 80
        super().__init__(prog, width=max(40, columns - 2))


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command line, or with ``only`` of one that has that command and no other."""
    from builder.commands import COMMANDS

    top = argparse.ArgumentParser(prog="builder", description=ABOUT, epilog=MORE, formatter_class=_Help, allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"builder {VERSION}")
    top.add_argument("--store", metavar="DIR", help="the store's folder (default: BUILDER_STORE, or ~/.local/share/builder)")
    # The program's name is given because argparse would format a whole usage to find it, for every command.
    commands = top.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True, prog="builder")
    for name in COMMANDS if only is None else (only,):
        module = importlib.import_module(f"builder.commands.{name.replace('-', '_')}")
        inner = commands.add_parser(
            name,
            help=COMMANDS[name],
            description=str(module.__doc__),
            formatter_class=_Help,
            allow_abbrev=False,
        )
        module.arguments(inner)
        inner.set_defaults(run=module.run)
    return top


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point of the ``builder`` command."""
    # Nothing that is made while modules are loaded is garbage, and looking for some costs a tenth of the start. What runs
    # long enough to make any turns it on.
    gc.disable()
    words = list(sys.argv[1:] if arguments is None else arguments)
    # The store may lie in a folder whose name is no text: it is printed as the bytes that it has.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from builder.commands import Context

        command = _command_in(words)
        # What stands behind -- is the program's, also where argparse has seen options before it and wants no more.
        end = words.index("--") if command == "run" and "--" in words else len(words)
        options = parser(command).parse_args(words[:end])
        if end < len(words):
            options.words = [*options.words, *words[end + 1 :]]
        status = options.run(options, Context.of(os.environ, options.store))
    except KeyboardInterrupt:
        status = _say("stopped", "", 130)
    except Error as error:
        status = _say(error.message, error.hint, error.exit_code)
    except BrokenPipeError:
        _end_quietly()
    except OSError as error:
        # The machine refused something that no part above has a better word for: no memory, no descriptors, a full disk.
        from store import files

        named = isinstance(error.filename, str | bytes)  # or it is a descriptor, which says nothing to anybody
        told = files.explain(error, os.fsdecode(error.filename) if named else "")
        status = _say(told.message, told.hint, 1)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """End here: Python would take a tenth of a short run to take itself apart, and nothing is left to be closed."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        _end_quietly()
    except OSError as error:
        # A full disk behind standard output: what was printed is not there, and must not count as done.
        os.write(2, f"error: standard output: {os.strerror(error.errno or 0)}\n".encode())
        status = 1
    os._exit(status)


def _end_quietly() -> NoReturn:
    """A closed pipe (`builder log x | head`) ends the program by its signal, like any other of its kind.

    The signal is not left to do so by itself: it comes as well when the other end of a network's connection is gone.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(1)


def _interrupt(number: int, frame: object) -> None:  # noqa: ARG001
    """SIGTERM stops as Ctrl-C does: what runs is ended, and nothing half-made stays."""
    raise KeyboardInterrupt


def _command_in(words: Sequence[str]) -> str | None:
    """The command's name in ``words``, so that no other command's module is imported. None: all are needed, to explain."""
    from builder.commands import COMMANDS

    skip = False
    for word in words:
        if skip:
            skip = False
        elif word == "--store":
            skip = True
        elif not word.startswith("--store="):
            return word if word in COMMANDS else None
    return None


def _say(message: str, hint: str, status: int) -> int:
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    mark = "\x1b[1;31merror:\x1b[0m" if colour else "error:"
    sys.stderr.write(f"{mark} {message}\n")
    if hint:
        sys.stderr.write(f"hint: {hint}\n")
    return status
