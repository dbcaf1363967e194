"""Finding libraries as the loader does (ld.so(8)), in manifests instead of on a disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from launcher import elf as elves
from launcher.elf import Elf, Kind
from launcher.host import configured
from launcher.layout import BadElf
from launcher.names import PREFIX, Namespace, base, parent
from store.digest import Digest
from store.manifest import Directory, File


@dataclass(frozen=True, slots=True)
class Library:
    """A library that was found. ``opened`` is the name it was found under, ``real`` that name without symlinks."""

    soname: bytes
    opened: bytes
    real: bytes
    node: File
    elf: Elf


@dataclass(frozen=True, slots=True)
class Closure:
    """All that a program or library needs, in the order in which the loader loads it: breadth first.

    ``names`` has every soname asked for with the library that answers it, ``None`` being the interpreter. ``missing`` has
    (soname, who needs it) for each that nothing answers. ``dlopen`` are the notes found on the way, with who has them.
    """

    names: tuple[tuple[bytes, Library | None], ...]
    missing: tuple[tuple[bytes, bytes], ...]
    dlopen: tuple[tuple[bytes, elves.Dlopen], ...]


@dataclass(frozen=True, slots=True)
class _Object:
    """Something loaded: where, what, and what asked for it."""

    opened: bytes
    elf: Elf
    loader: _Object | None


class Files:
    """What the files of a build are, each looked into once. ``read`` gives the bytes of a blob."""

    def __init__(self, namespace: Namespace, read: Callable[[Digest], bytes]) -> None:
        self.namespace = namespace
        self.read = read
        self._elves: dict[Digest, Elf | None] = {}

    def elf(self, node: File) -> Elf | None:
        """What the file is, or None when it is no ELF file. Raises BadElf."""
        if node.blob not in self._elves:
            data = self.read(node.blob) if node.size >= 52 else b""
            self._elves[node.blob] = elves.read(data) if elves.is_elf(data) else None
        return self._elves[node.blob]

    def library(self, path: bytes) -> Library | None:
        """The library that ``path`` leads to, under the name that it calls itself; None when it leads to none."""
        found = self.namespace.file(path)
        try:
            elf = self.elf(found[1]) if found is not None else None
        except BadElf:
            return None
        if found is None or elf is None or elf.kind is not Kind.LIBRARY:
            return None
        return Library(elf.soname or base(path), found[0], *found, elf)


class Loader:
    """The loader of one launch directory: ``triplet`` says which."""

    def __init__(self, files: Files, triplet: str) -> None:
        self.namespace = files.namespace
        self.files = files
        self.triplet = triplet
        self.platform = triplet.partition("-")[0].encode()
        self.musl = triplet.endswith("-musl")
        self._directories = (PREFIX + b"/lib", *self._system_directories(triplet.encode()))

    def closure(self, path: bytes, elf: Elf) -> Closure:
        """Everything that the program or library at ``path`` needs."""
        return self._walk(_Object(path, elf, None), elf.needed, elf)

    def closure_of(self, soname: bytes, path: bytes, elf: Elf) -> Closure:
        """Everything that ``dlopen(soname)`` loads when the object at ``path`` calls it."""
        return self._walk(_Object(path, elf, None), (soname,), elf)

    def _walk(self, start: _Object, wanted: tuple[bytes, ...], like: Elf) -> Closure:
        names: dict[bytes, Library | None] = {}
        missing: list[tuple[bytes, bytes]] = []
        notes = [(start.opened, note) for note in like.dlopen]
        loaded: dict[bytes, Library] = {}
        queue: deque[tuple[_Object, tuple[bytes, ...]]] = deque([(start, wanted)])
        while queue:
            asking, sonames = queue.popleft()
            for soname in sonames:
                if soname in names:
                    continue
                if self._is_interpreter(soname):
                    names[soname] = None
                    continue
                known = next((library for library in loaded.values() if soname == library.elf.soname), None)
                library = known or self._find(soname, asking, like)
                if library is None:
                    missing.append((soname, asking.opened))
                    continue
                again = loaded.get(library.real)
                names[soname] = again or library
                if again is None:
                    loaded[library.real] = library
                    notes += [(library.opened, note) for note in library.elf.dlopen]
                    queue.append((_Object(library.opened, library.elf, asking), library.elf.needed))
        return Closure(tuple(names.items()), tuple(missing), tuple(notes))

    def _is_interpreter(self, soname: bytes) -> bool:
        if not self.musl:
            return soname.startswith(b"ld-linux")
        # musl answers these names itself: they are all in its one library (ldso/dynlink.c).
        first, _, _ = soname.removeprefix(b"lib").partition(b".")
        parts = (b"c", b"pthread", b"rt", b"m", b"dl", b"util", b"xnet")
        return soname.startswith(b"ld-musl-") or (soname.startswith(b"lib") and first in parts)

    def _find(self, soname: bytes, asking: _Object, like: Elf) -> Library | None:
        if b"/" in soname:
            return self._try(soname, _expand(soname, asking.opened, self.platform), like)
        for directory in (*self._run_paths(asking), *self._directories):
            if found := self._try(soname, directory + b"/" + soname, like):
                return found
        return None

    def _try(self, soname: bytes, path: bytes, like: Elf) -> Library | None:
        found = self.namespace.file(path)
        if found is None:
            return None
        real, node = found
        try:
            elf = self.files.elf(node)
        except BadElf:
            return None
        if elf is None or elf.kind is not Kind.LIBRARY or (elf.bits, elf.machine) != (like.bits, like.machine):
            return None
        return Library(soname, path.lstrip(b"/"), real, node, elf)

    def _run_paths(self, asking: _Object) -> Iterator[bytes]:
        if asking.elf.runpath:
            yield from (_expand(path, asking.opened, self.platform) for path in asking.elf.runpath)
            if not self.musl:
                return
        link: _Object | None = asking
        while link is not None:
            if not link.elf.runpath or self.musl:
                yield from (_expand(path, link.opened, self.platform) for path in link.elf.rpath or link.elf.runpath)
            link = link.loader

    def _system_directories(self, triplet: bytes) -> Iterator[bytes]:
        if not self.musl:
            yield from (directory.strip(b"/") for directory in configured(self._text, self._matching))
        both = (b"lib/" + triplet, b"usr/lib/" + triplet)
        yield from (
            (*both, b"lib", b"usr/local/lib", b"usr/lib") if self.musl else (*both, b"lib64", b"usr/lib64", b"lib", b"usr/lib")
        )

    def _text(self, path: bytes) -> bytes | None:
        found = self.namespace.file(path)
        return self.files.read(found[1].blob) if found else None

    def _matching(self, pattern: bytes) -> list[bytes]:
        import fnmatch

        folder = self.namespace.resolve(parent(pattern))
        if folder is None or not isinstance(folder[1], Directory):
            return []
        names = self.namespace.root.names(folder[0])
        return [folder[0] + b"/" + name for name in names if fnmatch.fnmatchcase(name, base(pattern))]


def _expand(path: bytes, opened: bytes, platform: bytes) -> bytes:
    """A run path's directory with the loader's own words replaced."""
    for word, value in ((b"ORIGIN", b"/" + parent(opened)), (b"LIB", b"lib"), (b"PLATFORM", platform)):
        path = path.replace(b"${" + word + b"}", value).replace(b"$" + word, value)
    return path.strip(b"/")
