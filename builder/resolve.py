"""From the packages that are wanted to all that they need. Pure: an index in, a choice out, the same one every time.

This is not a solver: nothing is taken back once it is chosen. What is needed without alternatives is chosen first, so that
an alternative which is there anyway is seen as such. Conflicts are not looked at, because nothing is installed: two packages
that hold the same path are found when their trees are merged.
"""

from __future__ import annotations

import difflib
import re
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cmp_to_key

from builder.lockfile import LockedPackage
from builder.versions import compare, satisfies
from store.errors import Error

# The fields of an index that are looked at (Debian Policy 5.3).
FIELDS = frozenset(
    [
        *("Package", "Version", "Architecture", "Filename", "Size", "SHA256"),
        *("Depends", "Pre-Depends", "Provides", "Priority", "Essential"),
    ]
)

_RELATION = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9+.-]*)(?::[a-z0-9-]+)?\s*(?:\(\s*(<<|<=|=|>=|>>|<|>)\s*([^\s)]+)\s*\))?\s*(?:\[[^\]]*\])?\s*\Z"
)
_PRIORITIES = {"required": 0, "important": 1, "standard": 2, "optional": 3}


class UnknownPackage(Error):
    """A wanted name that the suite does not have."""

    def __init__(self, name: str, similar: Sequence[str]) -> None:
        super().__init__(
            f"the suite has no package {name}",
            hint=f"It has {', '.join(similar)}." if similar else "Look the name up in the suite's list of packages.",
        )
        self.name = name


class Unsatisfied(Error):
    """A dependency that nothing in the suite fulfils; ``chain`` leads from a wanted package to the one that has it."""

    def __init__(self, chain: tuple[str, ...], dependency: str) -> None:
        super().__init__(
            f"nothing in the suite fulfils {dependency!r}, which {' -> '.join(chain)} needs",
            hint="If it can be done without, name it in exclude.",
        )
        self.chain = chain
        self.dependency = dependency


class BadIndex(Error):
    """An index that breaks its own rules."""

    def __init__(self, package: str, reason: str) -> None:
        super().__init__(f"the suite's index is damaged: {package or 'a package'}: {reason}")


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to fulfil a dependency: a name, and a relation to a version, both empty when any will do."""

    name: str
    relation: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} ({self.relation} {self.version})" if self.relation else self.name


@dataclass(frozen=True, slots=True)
class Package:
    """One package of an index. ``depends`` and ``provides`` are the texts of the fields, with Pre-Depends in front."""

    locked: LockedPackage
    depends: str
    provides: str
    priority: int
    essential: bool

    @property
    def name(self) -> str:
        """Its name."""
        return self.locked.name


class Index:
    """The packages of a suite by name, and who provides which name, both in the order of preference."""

    def __init__(self, stanzas: Iterable[Mapping[str, str]]) -> None:
        """Take the paragraphs of ``Packages`` files, in any order. Raises BadIndex."""
        self._packages: dict[str, list[Package]] = {}
        self._providers: dict[str, list[tuple[Package, str]]] = {}
        for fields in stanzas:
            package = _package(fields)
            self._packages.setdefault(package.name, []).append(package)
        newest = cmp_to_key(_newer)
        for versions in self._packages.values():
            if len(versions) > 1:
                versions.sort(key=lambda package: package.locked.path)
                versions.sort(key=newest)
            for package in versions:
                for provided in provisions(package):
                    self._providers.setdefault(provided.name, []).append((package, provided.version))
        for providers in self._providers.values():
            # Stable, and so still the newest version of each first.
            providers.sort(key=lambda pair: (pair[0].priority, pair[0].name))

    def __len__(self) -> int:
        return len(self._packages)

    @property
    def essential(self) -> list[str]:
        """The names of the packages that Debian takes for granted (Debian Policy 3.8)."""
        return sorted(name for name, versions in self._packages.items() if versions[0].essential)

    def find(self, wanted: Alternative) -> Package | None:
        """The best package that fulfils ``wanted``: one of that name, else one that provides it."""
        for package in self._packages.get(wanted.name, ()):
            if fulfils(package, wanted):
                return package
        for package, _ in self._providers.get(wanted.name, ()):
            if fulfils(package, wanted):
                return package
        return None

    def similar(self, name: str) -> list[str]:
        """Names like ``name``, for hints."""
        return difflib.get_close_matches(name, self._packages, 4, 0.75)


def _newer(one: Package, two: Package) -> int:
    return compare(two.locked.version, one.locked.version)


def resolve(index: Index, names: Iterable[str], exclude: Collection[str] = ()) -> list[LockedPackage]:
    """The packages ``names`` and all that they need, in the order of their names.

    An excluded name counts as being there already: it cuts every dependency that it would fulfil. Raises UnknownPackage
    and Unsatisfied.
    """
    return _Resolution(index, frozenset(exclude)).run(sorted(set(names)))


class _Resolution:
    def __init__(self, index: Index, exclude: frozenset[str]) -> None:
        self.index = index
        self.exclude = exclude
        self.chosen: dict[str, Package] = {}
        self.provided: dict[str, list[Package]] = {}
        self.needed_by: dict[str, str] = {}
        self.certain: deque[tuple[Package, tuple[Alternative, ...]]] = deque()
        self.open: deque[tuple[Package, tuple[Alternative, ...]]] = deque()
        excluded = (index.find(Alternative(name, "", "")) for name in sorted(exclude))
        self.cut = exclude | {item.name for package in excluded if package for item in provisions(package)}

    def run(self, names: list[str]) -> list[LockedPackage]:
        for name in names:
            package = self.index.find(Alternative(name, "", ""))
            if package is None:
                raise UnknownPackage(name, self.index.similar(name))
            self.choose(package, "")
        while self.certain or self.open:
            needing, group = (self.certain or self.open).popleft()
            if not self.is_fulfilled(group):
                self.choose(self.pick(needing, group), needing.name)
        return [self.chosen[name].locked for name in sorted(self.chosen)]

    def choose(self, package: Package, needed_by: str) -> None:
        if package.name in self.chosen:
            return
        self.chosen[package.name] = package
        self.needed_by[package.name] = needed_by
        for provided in provisions(package):
            self.provided.setdefault(provided.name, []).append(package)
        for group in parse_relations(package.depends, package.name):
            (self.certain if len(group) == 1 else self.open).append((package, group))

    def is_fulfilled(self, group: tuple[Alternative, ...]) -> bool:
        for wanted in group:
            if wanted.name in self.cut:
                return True
            package = self.chosen.get(wanted.name)
            if package is not None and fulfils(package, wanted):
                return True
            if any(fulfils(provider, wanted) for provider in self.provided.get(wanted.name, ())):
                return True
        return False

    def pick(self, needing: Package, group: tuple[Alternative, ...]) -> Package:
        for wanted in group:
            package = self.index.find(wanted)
            # One that is chosen in another version is no choice any more.
            if package is not None and package.name not in self.chosen:
                return package
        raise Unsatisfied(self.chain(needing.name), " | ".join(map(str, group)))

    def chain(self, name: str) -> tuple[str, ...]:
        found = [name]
        while name := self.needed_by[name]:
            found.append(name)
        return tuple(reversed(found))


def fulfils(package: Package, wanted: Alternative) -> bool:
    """Whether ``package`` is, or provides, what is wanted. A name provided without a version fulfils no relation (7.5)."""
    if package.name == wanted.name and (
        not wanted.relation or satisfies(package.locked.version, wanted.relation, wanted.version)
    ):
        return True
    for provided in provisions(package):
        if provided.name == wanted.name:
            if not wanted.relation:
                return True
            if provided.version and satisfies(provided.version, wanted.relation, wanted.version):
                return True
    return False


def provisions(package: Package) -> Iterable[Alternative]:
    """What a package provides beside its own name."""
    if not package.provides:
        return ()
    return (group[0] for group in parse_relations(package.provides, package.name))


def parse_relations(text: str, package: str) -> list[tuple[Alternative, ...]]:
    """A field such as Depends: groups of alternatives (Debian Policy 7.1). Raises BadIndex."""
    groups = []
    for part in text.replace("\n", " ").split(","):
        if not part.strip():
            continue
        group = []
        for choice in part.split("|"):
            match = _RELATION.match(choice.strip())
            if match is None:
                raise BadIndex(package, f"not a relation: {choice.strip()[:80]!r}")
            name, relation, version = match.groups()
            group.append(Alternative(name, relation or "", version or ""))
        groups.append(tuple(group))
    return groups


def _package(fields: Mapping[str, str]) -> Package:
    name = fields.get("Package", "")
    for key in ("Package", "Version", "Architecture", "Filename", "Size", "SHA256"):
        if not fields.get(key):
            raise BadIndex(name, f"no field {key}")
    if not (fields["Size"].isascii() and fields["Size"].isdigit()) or len(fields["Size"]) > 13:
        raise BadIndex(name, f"a size of {fields['Size'][:40]!r}")
    locked = LockedPackage(
        name, fields["Version"], fields["Architecture"], fields["Filename"], int(fields["Size"]), fields["SHA256"].lower()
    )
    depends = ", ".join(fields[key] for key in ("Pre-Depends", "Depends") if fields.get(key))
    priority = _PRIORITIES.get(fields.get("Priority", ""), len(_PRIORITIES))
    return Package(locked, depends, fields.get("Provides", ""), priority, fields.get("Essential") == "yes")
