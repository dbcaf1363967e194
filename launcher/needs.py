"""What of an artifact running needs. The rest is there to build against it: headers, static libraries, documentation.

A pure function of the artifact's tree. Which paths go is said by patterns: a ``/`` separates names, ``*``, ``?`` and ``[…]``
stand for part of a name, ``**`` for any number of folders, and what matches a folder matches all that is in it. An artifact
travels without its recipe, so what the recipe says besides is a file in it:

    .launch/runtime     lines "development PATTERN" and "runtime PATTERN"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from launcher.names import base, parent
from store.digest import Digest
from store.errors import Error
from store.manifest import Directory, File, Manifest, Symlink, way

RECORD = b".launch/runtime"
MAX_RECORD = 1 << 20

# For compilers and what prepares their work. Of libtool's files only those beside libraries: programs that load modules by
# libtool's own loader (ImageMagick) read the ones in their folders. A module of Python may be called cmake or pkgconfig, so
# that these are looked for in few places.
COMPILING = (
    "include",
    "lib*/**/*.a",
    "lib*/*.la",
    "lib*/cmake",
    "lib*/*/cmake",
    "lib*/pkgconfig",
    "lib*/*/pkgconfig",
    "share/aclocal",
    "share/cmake",
    "share/*/cmake",
    "share/gir-1.0",
    "share/pkgconfig",
    "share/vala",
)
# For people who program: sections 2, 3 and 9 of the manual are about functions.
READING = ("share/doc", "share/gtk-doc", "share/info", "share/man/**/man[239]*")
# Programs that answer compilers; where there is nothing to compile against, a program of such a name is another kind.
ANSWERING = ("bin/*-config", "share/man/**/man1/*-config.*")

# What has to go wherever the rest goes: a file of one of the usual names, or in a folder of such a name. No header is one.
_LICENCE = re.compile(rb"(?:(?:un)?licen[cs]es?|copying|copyright|notices?)(?:[._-].*)?", re.IGNORECASE | re.DOTALL)
_HEADER = re.compile(rb".*\.h\w{0,2}", re.DOTALL)
_MIRRORS = (b".launch/script/", b".launch/apart/")
_INPUTS = b".launch/inputs"


class BadChoice(Error):
    """An artifact's file about what running needs that says nothing that this builder understands; ``line`` is in it."""

    def __init__(self, line: str) -> None:
        super().__init__(
            f"the artifact's {RECORD.decode()} says {line!r}, which this builder does not understand",
            hint="--all takes all of the artifact, without asking that file.",
        )
        self.line = line


@dataclass(frozen=True, slots=True)
class Choice:
    """What a recipe says: patterns of paths that only building against it needs, and of those that running needs after all."""

    development: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[list[str], list[str]]:
        """Both, where order means nothing."""
        return sorted(set(self.development)), sorted(set(self.runtime))

    def encode(self) -> bytes:
        """The file."""
        development, runtime = self.rows
        lines = [*(f"development {pattern}" for pattern in development), *(f"runtime {pattern}" for pattern in runtime)]
        return "".join(f"{line}\n" for line in lines).encode()

    @classmethod
    def decode(cls, data: bytes) -> Choice:
        """Read the file. Raises BadChoice."""
        found: dict[str, list[str]] = {"development": [], "runtime": []}
        *lines, rest = data.decode("utf-8", "backslashreplace").split("\n")
        for line in lines:
            word, _, pattern = line.partition(" ")
            if word not in found or refused(pattern):
                raise BadChoice(line)
            found[word].append(pattern)
        choice = cls(tuple(found["development"]), tuple(found["runtime"]))
        if choice.encode() != data:
            raise BadChoice(rest or lines[0])
        return choice


NO_CHOICE = Choice()


def refused(pattern: str) -> str:
    """Why this can be no pattern; empty if it can."""
    names = pattern.split("/")
    if not pattern.isprintable() or not pattern:
        return "it is empty, or has control characters"
    if any(name in ("", ".", "..") for name in names):
        return "it is not a plain path relative to the artifact"
    if any("**" in name and name != "**" for name in names):
        return "** stands for whole folders, between slashes"
    if any(pair == ("**", "**") for pair in pairwise(names)):
        return "** stands for any number of folders already"
    if names[-1] == "**":
        return "it ends with **, and a pattern of a folder is one of all that is in it"
    if names[0] == ".launch":
        return "what is in .launch is the launchers'"
    return ""


def choice_of(artifact: Manifest, read: Callable[[Digest], bytes]) -> Choice:
    """What the recipe of ``artifact`` said. ``read`` gives the bytes of a blob. Raises BadChoice."""
    node = artifact.get(RECORD)
    if not isinstance(node, File):
        return NO_CHOICE
    if node.size > MAX_RECORD:
        raise BadChoice(f"{node.size} bytes")
    return Choice.decode(read(node.blob))


def needed(artifact: Manifest, choice: Choice = NO_CHOICE) -> Manifest:
    """What of ``artifact`` running needs: the artifact itself, if nothing is to be left out, as of what this gave.

    Licences stay. What a link that stays leads to, and is a file, stays too. A link to a folder that went goes.
    """
    gone = _gone(artifact, choice)
    if not gone:
        return artifact
    full = {parent(path) for path in artifact}
    kept = {path for path, node in artifact.entries if path not in gone and (type(node) is not Directory or path not in full)}
    links = {path: found for path in kept if type(artifact[path]) is Symlink and (found := way(artifact, path))}
    # In the mirror of a script everything else is a link, which says nothing of what is needed.
    mirrored = {path for path in links if path.startswith(_MIRRORS)}
    to_files = {path for path in links.keys() - mirrored if type(artifact.get(links[path][1])) is File}
    led_to = {place for path in to_files for place in (*links[path][0], links[path][1])}
    apart = set(_without_program(artifact, gone - led_to)) - led_to
    standing = links.keys() - to_files - apart
    kept = (kept | led_to) - apart - standing
    while True:
        there = kept.union(standing, *(links[path][0] for path in standing - mirrored), (b"",))
        there.update(*map(_above, there))
        fallen = {path for path in standing if not there.issuperset((*links[path][0], links[path][1]))}
        if not fallen:
            return Manifest((path, node) for path, node in artifact.entries if path in there)
        standing = standing - fallen


def is_idle(tree: Manifest) -> bool:
    """Whether there is nothing to run, or to be loaded, in a tree: at most licences and manual pages."""
    return all(
        path.startswith((b".launch/", b"share/man/")) or _is_licence(path)
        for path, node in tree.entries
        if type(node) is not Directory
    )


def _gone(artifact: Manifest, choice: Choice) -> set[bytes]:
    """The paths that are left out as far as their names say it."""
    compiling = _matching(artifact, COMPILING)
    gone = compiling | _matching(artifact, (*READING, *choice.development, *(ANSWERING if compiling else ())))
    gone = {path for path in gone if type(artifact[path]) is Directory or not _is_licence(path)}
    return gone - _matching(artifact, choice.runtime) if gone and choice.runtime else gone


def _is_licence(path: bytes) -> bool:
    return any(map(_LICENCE.fullmatch, path.split(b"/"))) and not _HEADER.fullmatch(path)


def _matching(artifact: Manifest, patterns: Iterable[str]) -> set[bytes]:
    """The paths that match, which all those below a path are that does."""
    start = frozenset(tuple(pattern.encode().split(b"/")) for pattern in patterns)
    # What of the patterns is still to be matched below each folder; () is a pattern that was.
    left: dict[bytes, frozenset[tuple[bytes, ...]]] = {b"": start}
    found = set()
    for path, node in artifact.entries:
        if path == b".launch":
            left[path] = frozenset()
            continue
        if path == _INPUTS:
            left[path] = start
            continue
        before = left[parent(path)]
        after = before
        if before and () not in before:
            name = base(path)
            after = frozenset(rest for pattern in before for rest in _step(pattern, name))
        if () in after:
            found.add(path)
        if type(node) is Directory:
            left[path] = after
    return found


def _step(pattern: tuple[bytes, ...], name: bytes) -> Iterator[tuple[bytes, ...]]:
    """What is left of a pattern behind the name, if it matches."""
    head, rest = pattern[0], pattern[1:]
    if head == b"**":
        yield pattern
        yield from _step(rest, name)
    elif fnmatchcase(name, head):
        yield rest


def _without_program(artifact: Manifest, gone: set[bytes]) -> Iterator[bytes]:
    """The scripts and programs in ``.launch`` whose launchers are gone."""
    files = {path for path in gone if type(artifact[path]) is File}
    if not files:
        return
    for path in artifact:
        if path.startswith(_MIRRORS):
            inner = path.split(b"/", 2)[2]
            if not files.isdisjoint((inner, *_above(inner))):
                yield path


def _above(path: bytes) -> Iterator[bytes]:
    """The folders that ``path`` is in."""
    while path := parent(path):
        yield path
