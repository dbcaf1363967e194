"""What long work says of itself. The work knows this protocol only; who shows it, and how, is the command line's choice."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Task(Protocol):
    """One piece of work under way. A with block ends it. Any thread may call it."""

    def advance(self, amount: int) -> None:
        """So many more units (bytes, or entries) are done."""

    def say(self, text: str) -> None:
        """What it does right now, or a line of a build's output."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Progress(Protocol):
    """Where tasks are announced. Any thread may call it."""

    def task(self, verb: str, label: str, *, total: int = 0) -> Task:
        """A new task: ``verb`` as "fetch" or "build", ``label`` says of what, ``total`` is in units, 0 when not known."""

    def warn(self, text: str) -> None:
        """Something that a person should know, although the work goes on."""


class _SilentTask:
    def advance(self, amount: int) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


class Silent:
    """Says nothing."""

    def task(self, verb: str, label: str, *, total: int = 0) -> Task:  # noqa: ARG002
        """A task that says nothing."""
        return _SilentTask()

    def warn(self, text: str) -> None:
        """Nothing either."""
