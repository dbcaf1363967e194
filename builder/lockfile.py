"""Lock files: the exact packages that a system root is made of.

A text with a line a fact, so that a change shows as a change of lines, and read without any library: a build that has
nothing to do reads it every time. First ``word value`` lines, then a line a package, in the order of their names::

    builder-lock 1
    suite bookworm
    component main
    architecture amd64
    date Sat, 11 Jul 2026 10:16:37 UTC
    want gcc
    exclude debconf
    package gcc 4:12.2.0-3 amd64 pool/main/g/gcc-defaults/gcc_12.2.0-3_amd64.deb 5216 6a5c…
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from store.errors import Error

FORMAT = "builder-lock 1"

_PACKAGE = re.compile(
    r"package ([a-z0-9][a-z0-9+.-]*) ([0-9A-Za-z.+:~-]+) ([a-z0-9-]+) ([A-Za-z0-9._+~%:/-]+)"
    r" (0|[1-9][0-9]{0,12}) ([0-9a-f]{64})\Z"
)
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*\Z")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*\Z")
_DATE = re.compile(r"[A-Za-z0-9,: +-]+\Z")
_HINT = "`builder lock RECIPE` makes it anew."


class BadLock(Error):
    """A lock file with a mistake: ``line`` (from 1) of the file ``path``."""

    def __init__(self, path: str, line: int, reason: str) -> None:
        super().__init__(f"{path}:{line}: {reason}", hint=_HINT)
        self.path = path
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One pinned package: ``path`` is where its archive lies in a mirror, ``size`` is in bytes."""

    name: str
    version: str
    architecture: str
    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Lock:
    """What `builder lock` found: the question (``suite`` to ``excluded``), the answer (packages), and how old it is.

    ``date`` is the Date of the suite's Release file, as it stands there. ``names`` are the packages asked for.
    """

    suite: str
    components: tuple[str, ...]
    architecture: str
    date: str
    names: tuple[str, ...]
    excluded: tuple[str, ...]
    packages: tuple[LockedPackage, ...]

    @property
    def size(self) -> int:
        """The bytes of all archives."""
        return sum(package.size for package in self.packages)


def render(lock: Lock) -> str:
    """The text of a lock file."""
    lines = [FORMAT, f"suite {lock.suite}"]
    lines += [f"component {component}" for component in lock.components]
    lines += [f"architecture {lock.architecture}", f"date {lock.date}"]
    lines += [f"want {name}" for name in lock.names]
    lines += [f"exclude {name}" for name in lock.excluded]
    lines += [f"package {p.name} {p.version} {p.architecture} {p.path} {p.size} {p.sha256}" for p in lock.packages]
    return "\n".join(lines) + "\n"


def parse(text: str, path: str) -> Lock:
    """Read what render gave. ``path`` is the file's name, for messages. Raises BadLock."""
    if not text.endswith("\n"):
        raise BadLock(path, text.count("\n") + 1, "the last line does not end: the file was cut off")
    lines = text.split("\n")
    lines.pop()
    if lines[0] != FORMAT:
        raise BadLock(path, 1, f"the first line is not {FORMAT!r}")
    facts: dict[str, list[str]] = {}
    packages: list[LockedPackage] = []
    names: set[str] = set()
    for number, line in enumerate(lines[1:], 2):
        if match := _PACKAGE.match(line):
            name, version, architecture, place, size, sha256 = match.groups()
            if name in names:
                raise BadLock(path, number, f"{name} is there twice")
            if not place.startswith("pool/") or any(part in ("", ".", "..") for part in place.split("/")):
                raise BadLock(path, number, f"not a path in a package pool: {place}")
            names.add(name)
            packages.append(LockedPackage(name, version, architecture, place, int(size), sha256))
            continue
        word, _, value = line.partition(" ")
        if packages or word not in _FACTS:
            raise BadLock(path, number, f"not a line of a lock file: {line[:80]!r}")
        many, pattern = _FACTS[word]
        if not pattern.match(value):
            raise BadLock(path, number, f"{word} has no value that can be right: {value[:80]!r}")
        known = facts.setdefault(word, [])
        if value in known or (known and not many):
            raise BadLock(path, number, f"{word} is there twice")
        known.append(value)
    for word in ("suite", "component", "architecture", "date", "want"):
        if word not in facts:
            raise BadLock(path, len(lines), f"there is no line {word!r}")
    lock = Lock(
        suite=facts["suite"][0],
        components=tuple(facts["component"]),
        architecture=facts["architecture"][0],
        date=facts["date"][0],
        names=tuple(facts["want"]),
        excluded=tuple(facts.get("exclude", ())),
        packages=tuple(packages),
    )
    if render(lock) != text:
        # One lock has one text, so that two files can be compared by eye.
        raise BadLock(path, _first_difference(render(lock), text), "the lines are not in their usual order")
    return lock


# By word: whether it may be there more than once, and what its value looks like.
_FACTS = {
    "suite": (False, _WORD),
    "component": (True, _WORD),
    "architecture": (False, _NAME),
    "date": (False, _DATE),
    "want": (True, _NAME),
    "exclude": (True, _NAME),
}


def _first_difference(one: str, two: str) -> int:
    pairs = zip(one.split("\n"), two.split("\n"), strict=False)
    return next((number for number, (a, b) in enumerate(pairs, 1) if a != b), 1)
