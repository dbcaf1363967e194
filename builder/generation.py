"""What a profile holds at one time, as a value: the packages, and which links the user's folders want of them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from store.digest import BadDigest, Digest
from store.errors import Error
from store.manifest import File, Manifest, follow, show

FORMAT = 1

# What users' folders take of an artifact, by its place below them. A picture's theme has an index and a cache of its own; so
# has info, in the file "dir".
_WANTED = re.compile(
    rb"""
    (?: bin/[^/]+
    |   share/man/(?:.+/)?man\w+/[^/]+
    |   share/info/(?!dir(?:\.|\Z))[^/]+
    |   share/bash-completion/completions/[^/]+
    |   share/zsh/site-functions/_[^/]+
    |   share/fish/vendor_completions\.d/[^/]+\.fish
    |   share/applications/(?:.+/)?[^/]+\.desktop
    |   share/icons/.+/[^/]+\.(?:png|svg|svgz|xpm)
    |   share/mime/packages/[^/]+\.xml
    |   share/dbus-1/services/[^/]+\.service
    |   share/systemd/user/[^/]+\.(?:service|socket|timer|path|target|slice)
    |   share/fonts/.+\.(?:tt[fc]|ot[fc]|pf[ab]|afm|(?:pcf|bdf)(?:\.gz)?)
    )\Z""",
    re.VERBOSE,
)

# Folders of artifacts whose files have their place where those of another folder have theirs.
_ALSO = ((b"sbin/", b"bin/"), (b"lib/systemd/user/", b"share/systemd/user/"))


class Conflict(Error):
    """Two packages with the same file, and nobody said which one it comes from."""

    def __init__(self, place: bytes, first: str, second: str) -> None:
        super().__init__(
            f"{first} and {second} both have {show(place)}",
            hint=f"Choose whose files are taken with --prefer {first} or --prefer {second}, or uninstall one of them.",
        )
        self.place = place


class BadGeneration(Error):
    """A generation's record that says nothing that this builder understands."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{where}: no generation's record", hint="Go to another one with `builder rollback --to NUMBER`.")


@dataclass(frozen=True, slots=True)
class Package:
    """An installed artifact. ``folder`` is its name in the store; ``recipe`` the file that it was built from, or None.

    ``everything`` was asked for, and not only what running needs.
    """

    name: str
    version: str
    digest: Digest
    folder: str
    recipe: str | None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """What a profile held or holds.

    ``before`` is the number of the generation that it was made from, 0 for none. ``made`` is when, in seconds since 1970,
    ``by`` the command. Where packages have the same file, the first of ``prefer`` that has it wins. ``links`` says of each
    path below the generation whose it is.
    """

    number: int
    before: int
    made: int
    by: str
    store: str
    packages: tuple[Package, ...]
    prefer: tuple[str, ...]
    links: Mapping[bytes, str]

    def package(self, name: str) -> Package | None:
        """The package of a name, if it is installed."""
        return next((one for one in self.packages if one.name == name), None)

    def encode(self) -> bytes:
        """The record: JSON, so that a person can read it."""
        value = {
            "format": FORMAT,
            "number": self.number,
            "before": self.before,
            "made": self.made,
            "by": self.by,
            "store": self.store,
            "packages": [_row(one) for one in self.packages],
            "prefer": list(self.prefer),
            "links": {path.decode("utf-8", "surrogateescape"): name for path, name in sorted(self.links.items())},
        }
        return json.dumps(value, indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, where: str) -> Generation:
        """Read a record. Raises BadGeneration, which names ``where`` it was."""
        try:
            value = json.loads(data)
            if value["format"] != FORMAT:
                raise BadGeneration(where)
            packages = tuple(_package(row) for row in value["packages"])
            links = {path.encode("utf-8", "surrogateescape"): str(name) for path, name in value["links"].items()}
            number, before, made = (int(value[key]) for key in ("number", "before", "made"))
            return cls(number, before, made, value["by"], value["store"], packages, tuple(value["prefer"]), links)
        except (ValueError, TypeError, KeyError, AttributeError, BadDigest):
            raise BadGeneration(where) from None


def _row(one: Package) -> list[str | bool | None]:
    return [one.name, one.version, str(one.digest), one.folder, one.recipe, one.everything]


def _package(row: list[Any]) -> Package:
    name, version, digest, folder, recipe, *more = row
    # There was no choice of how much is installed before there were two.
    (everything,) = more or [False]
    return Package(name, version, Digest.parse(digest), folder, recipe, everything)


def wanted(tree: Manifest) -> dict[bytes, bytes]:
    """What users' folders want of an artifact: by its place below them, the path that it has in the artifact."""
    found: dict[bytes, bytes] = {}
    for path, _ in tree.entries:
        place = _place(path)
        if not _WANTED.match(place) or (place in found and place != path):
            continue
        end = follow(tree, path)
        node = tree.get(end) if end is not None else None
        if isinstance(node, File) and (node.executable or not place.startswith(b"bin/")):
            found[place] = path
    return found


def _place(path: bytes) -> bytes:
    return next((new + path.removeprefix(old) for old, new in _ALSO if path.startswith(old)), path)


def links(trees: Mapping[str, Manifest], prefer: Iterable[str]) -> dict[bytes, str]:
    """Of each path that is wanted of some package, that package. Raises Conflict."""
    order = list(prefer)
    owners: dict[bytes, list[str]] = {}
    for name in sorted(trees):
        for path in wanted(trees[name]):
            owners.setdefault(path, []).append(name)
    chosen = {}
    for path, names in sorted(owners.items()):
        best = next((name for name in order if name in names), None)
        if best is None and len(names) > 1:
            raise Conflict(path, names[0], names[1])
        chosen[path] = best or names[0]
    return chosen


@dataclass(frozen=True, slots=True)
class Change:
    """A package that one generation has in another version than another one, or that only one of them has."""

    name: str
    before: Package | None
    after: Package | None


def changes(old: Generation | None, packages: Iterable[Package]) -> list[Change]:
    """What of the packages differs from the generation ``old``, by name."""
    was = {one.name: one for one in old.packages} if old else {}
    now = {one.name: one for one in packages}
    every = (Change(name, was.get(name), now.get(name)) for name in sorted({*was, *now}))
    return [one for one in every if one.before is None or one.after is None or one.before.digest != one.after.digest]
