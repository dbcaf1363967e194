"""How progress looks: a live list on a terminal, plain lines anywhere else. Both write to standard error."""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from builder.progress import Progress, Task

if TYPE_CHECKING:
    from rich.console import Group

# What a verb is called when it is over, and whether its units are bytes.
_DONE = {
    "fetch": "fetched",
    "import": "imported",
    "merge": "merged",
    "build": "built",
    "split": "split",
    "pack": "packed",
    "check": "checked",
    "export": "exported",
    "push": "pushed",
    "pull": "pulled",
    "collect": "collected",
}
_REFRESH = 8  # a second
_LARGE, _LONG = 20_000_000, 3.0  # bytes, seconds: downloads worth a line of their own


def duration(seconds: float) -> str:
    """A length of time for people: ``0.4 s``, ``12 s``, ``3 min 20 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(count: float) -> str:
    """A number of bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


class _Task:
    def __init__(self, view: _View, verb: str, label: str, total: int) -> None:
        self.verb, self.label, self.total = verb, label, total
        self.view = view
        self.done = 0
        self.line = ""
        self.started = time.monotonic()

    def advance(self, amount: int) -> None:
        self.done += amount

    def say(self, text: str) -> None:
        self.line = text
        self.view.said(self, text)

    def __enter__(self) -> Self:
        self.view.began(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.view.ended(self, failed=kind is not None)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def amount(self) -> str:
        """How far it is, for people."""
        if self.verb not in ("fetch", "import", "push", "pull"):
            return ""
        return f"{size(self.done)} of {size(self.total)}" if self.total else size(self.done) if self.done else ""


class _View:
    """What both looks share: the tasks under way, and lines that stay."""

    def __init__(self, *, verbose: bool) -> None:
        self.verbose = verbose
        self.tasks: dict[_Task, None] = {}
        self.lock = threading.RLock()

    def task(self, verb: str, label: str, *, total: int = 0) -> Task:
        """A task of this view."""
        return _Task(self, verb, label, total)

    def warn(self, text: str) -> None:
        """A line that stays."""
        self.print(f"warning: {text}")

    def began(self, task: _Task) -> None:
        with self.lock:
            self.tasks[task] = None

    def ended(self, task: _Task, *, failed: bool) -> None:
        with self.lock:
            self.tasks.pop(task, None)
        # A hundred packages that come in a second each are the import's business, not a hundred lines.
        brief = task.verb == "fetch" and task.done < _LARGE and task.seconds < _LONG
        if not failed and not brief:
            amount = f", {size(task.done)}" if task.verb in ("fetch", "import") and task.done else ""
            self.print(f"{_DONE.get(task.verb, task.verb)} {task.label} ({duration(task.seconds)}{amount})")

    def said(self, task: _Task, text: str) -> None:
        if self.verbose and task.verb in ("build", "check"):
            self.print(f"{task.label.split(' ')[0]}> {text}")

    def print(self, text: str) -> None:
        """A line that stays: each look has its own way."""
        raise NotImplementedError


class Plain(_View):
    """A line when something longer begins, and one when it ends."""

    def began(self, task: _Task) -> None:
        """A line for what takes its time."""
        super().began(task)
        if task.verb == "build" or (task.verb == "fetch" and task.total > _LARGE):
            self.print(f"{task.verb} {task.label} ...")

    def print(self, text: str) -> None:
        """A line that stays."""
        """A line that stays."""
        with self.lock:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


class Live(_View):
    """The tasks under way as a list that stays at the bottom, below the lines of what is over."""

    def __init__(self, *, verbose: bool) -> None:
        super().__init__(verbose=verbose)
        from rich.console import Console
        from rich.live import Live as RichLive

        self._spinner = itertools.cycle("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
        self._console = Console(stderr=True, highlight=False)
        self._live = RichLive(console=self._console, get_renderable=self._render, refresh_per_second=_REFRESH, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._live.stop()

    def print(self, text: str) -> None:
        """A line that stays, above the list."""
        self._console.print(text, markup=False, soft_wrap=True)

    def _render(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        with self.lock:
            tasks = list(self.tasks)
        room = max(3, self._console.height - 2)
        rows: list[Text] = []
        mark = next(self._spinner)
        for task in tasks[:room]:
            row = Text(no_wrap=True, overflow="ellipsis")
            row.append(f"{mark} ", "cyan")
            row.append(f"{task.verb:6} ", "bold")
            row.append(task.label)
            amount = task.amount()
            if amount:
                row.append(f"  {amount}", "green")
            row.append(f"  {duration(task.seconds)}", "dim")
            if task.line and not self.verbose:
                row.append(f"  {task.line.strip()}", "dim")
            rows.append(row)
        if len(tasks) > room:
            rows.append(Text(f"  and {len(tasks) - room} more", "dim"))
        return Group(*rows)


@contextlib.contextmanager
def progress(*, verbose: bool) -> Iterator[Progress]:
    """The look that fits standard error, for as long as the with block lasts."""
    if sys.stderr.isatty():
        with Live(verbose=verbose) as view:
            yield view
    else:
        yield Plain(verbose=verbose)
