"""Print the completion script of a shell, for commands, options and files.

examples:
  builder completion bash > ~/.local/share/bash-completion/completions/builder
  builder completion zsh > ~/.zsh/completions/_builder        (a folder of $fpath)
"""

from __future__ import annotations

import argparse

from builder.commands import Context, say


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")


def run(options: argparse.Namespace, context: Context) -> int:  # noqa: ARG001
    """Print the script."""
    import shtab

    from builder.cli import parser

    top = parser()
    _complete_files(top, shtab.FILE, shtab.DIRECTORY)
    say(shtab.complete(top, options.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser, file: object, directory: object) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _complete_files(inner, file, directory)
        elif action.metavar in ("RECIPE", "PATH", "ARTIFACT", "TARGET", "FILE"):
            action.complete = file  # type: ignore[attr-defined]
        elif action.metavar == "DIR":
            action.complete = directory  # type: ignore[attr-defined]
