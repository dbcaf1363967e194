"""Show what an artifact was built from: its steps, their inputs, what those were made of, and so on, back to packages.

What was shown before is not shown again, but marked with (*). With --dot, Graphviz draws it. Checks made nothing, and are
left out.

ARTIFACT is a result link, a folder of the store, the start of a digest (b3:...), or a name.

examples:
  builder graph result
  builder graph jq --dot | dot -Tsvg > jq.svg
"""

from __future__ import annotations

import argparse

from builder.commands import Context, artifact, plain, say, say_json
from store.digest import Digest
from store.graph import Step


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    artifact.argument(parser)
    parser.add_argument("--dot", action="store_true", help="print a graph for Graphviz")


def run(options: argparse.Namespace, context: Context) -> int:
    """Show it."""
    with artifact.opened(context, options.artifact) as (_, named, index):
        steps = index.graph().built_from(named.digest)
    made = {step.output: step for step in steps}
    if options.json:
        rows = [
            {
                "tree": str(step.output),
                "kind": step.kind,
                "label": step.label,
                "action": str(step.action),
                "started": step.started,
                "inputs": [{"label": label, "tree": str(tree)} for label, tree in step.inputs],
            }
            for step in steps
        ]
        say_json({"digest": str(named.digest), "steps": rows})
    elif options.dot:
        _print_dot(steps, made)
    else:
        _print_tree(named.digest, made, f"{named.folder.name} {named.folder.version}")
    return 0


def _print_tree(top: Digest, made: dict[Digest, Step], label: str) -> None:
    shown: set[Digest] = set()
    # No recursion: a chain of builds may be long.
    waiting = [(top, label, 0)]
    while waiting:
        tree, label, depth = waiting.pop()
        step = made.get(tree)
        again = tree in shown and step is not None and bool(step.inputs)
        what = f"{step.kind} {step.label}" if step is not None else label
        name = f"{label}: " if step is not None and label != step.label else ""
        say(f"{'  ' * depth}{plain(name + what)}  {tree.short}{' (*)' if again else ''}")
        if step is not None and not again:
            shown.add(tree)
            waiting += [(inner, text, depth + 1) for text, inner in reversed(step.inputs)]


def _print_dot(steps: list[Step], made: dict[Digest, Step]) -> None:
    labels = {tree: label for step in steps for label, tree in step.inputs}
    labels |= {tree: f"{step.kind} {step.label}" for tree, step in made.items()}
    say("digraph {")
    for tree in sorted(labels, key=lambda tree: tree.raw):
        say(f'  "{tree.short}" [label="{_quoted(labels[tree])}"];')
    for step in steps:
        for label, tree in step.inputs:
            say(f'  "{step.output.short}" -> "{tree.short}" [tooltip="{_quoted(label)}"];')
    say("}")


def _quoted(label: str) -> str:
    return plain(label).replace("\\", "\\\\").replace('"', '\\"')
