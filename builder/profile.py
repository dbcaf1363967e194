"""A user's profile on the disk: generations, the one that is in use, and the links to it in the user's folders.

    generations/<number>/generation.json     the record; without it, the folder is what a killed command left
    generations/<number>/packages/<name>     a symlink to the artifact, which is its root: see store.roots
    generations/<number>/bin/<program>       a symlink to the package's file, through packages/; so share/, or an edited copy
    current                                  a symlink to generations/<number>
    folders.json                             the directories that were made for links outside
    lock                                     held while something is changed

What is outside are symlinks *through* ``current``: ``~/.local/bin/jq`` leads to ``<profile>/current/bin/jq``, so that one
rename of ``current`` switches all of them. Links that only the new generation wants are made before that, and those that
only the old one wants are removed after it: a command that is killed leaves links that lead nowhere at worst, and the next
one removes them, for every generation's record says what links it wants.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder import desktop, generation
from builder.generation import BadGeneration, Generation, Package
from builder.steps import PREFIX
from store import files, roots
from store.errors import Error
from store.manifest import File, Manifest, follow
from store.store import Store

RECORD = "generation.json"


class Foreign(Error):
    """Something that no install made is where a link has to be; it is left as it is."""

    def __init__(self, path: Path, package: str) -> None:
        super().__init__(
            f"{path} is there already, and {package} wants to be there; it is not replaced",
            hint="It was not installed by this builder. Move it away, and run the same command again.",
        )
        self.path = path


class OtherStore(Error):
    """The profile's packages are in another store than the one that is used now."""

    def __init__(self, store: str) -> None:
        super().__init__(f"what is installed is in the store {store}", hint="Name that one with --store, or uninstall all.")


class NoGeneration(Error):
    """A generation that is not there."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"there is no generation {number}" if number else "there is no generation before this one",
            hint="`builder history` lists those that are there; --to goes to any of them.",
        )


@dataclass(frozen=True, slots=True)
class Places:
    """Where things go: the profile, the folder of programs, and the one for what lies in an artifact's ``share``."""

    profile: Path
    programs: Path
    data: Path

    def of(self, path: bytes) -> Path:
        """The user's own place for a path of an artifact."""
        folder, _, rest = os.fsdecode(path).partition("/")
        return (self.programs if folder == "bin" else self.data) / rest


class Profile:
    """A profile, which need not be there yet."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._root = places.profile
        self._current = places.profile / "current"

    # -- reading --

    def current(self) -> Generation | None:
        """The generation that is in use. Raises BadGeneration."""
        name = self._in_use()
        return self._read(name) if name else None

    def generations(self) -> list[Generation]:
        """All that are there, the oldest first, but those in ``damaged``."""
        found = []
        for number in self._numbers():
            with contextlib.suppress(BadGeneration):
                found += [one for one in (self._read(str(number)),) if one]
        return found

    def damaged(self) -> list[BadGeneration]:
        """What is wrong with those that cannot be read."""
        found = []
        for number in self._numbers():
            try:
                self._read(str(number))
            except BadGeneration as error:
                found.append(error)
        return found

    def number(self) -> int:
        """That of the generation in use, whether it can be read or not; 0 for none."""
        name = self._in_use()
        return int(name) if name and name.isdecimal() else 0

    def _in_use(self) -> str | None:
        try:
            return os.path.basename(os.readlink(self._current))
        except OSError:
            return None

    def _numbers(self) -> list[int]:
        try:
            return sorted(int(name) for name in os.listdir(self._root / "generations") if name.isdecimal())
        except FileNotFoundError:
            return []

    def _read(self, name: str) -> Generation | None:
        path = self._root / "generations" / name / RECORD
        try:
            return Generation.decode(path.read_bytes(), str(path))
        except FileNotFoundError:
            return None

    # -- changing --

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the profile's lock: other commands that change it wait. Leftovers of killed ones are taken away."""
        import fcntl

        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                (self._root / "generations").mkdir(exist_ok=True)
                for name in os.listdir(self._root / "generations"):
                    if not (self._root / "generations" / name / RECORD).exists():
                        shutil.rmtree(self._root / "generations" / name)
                yield
            finally:
                os.close(fd)
        except OSError as error:
            # Of a symlink and a rename, the second name is the one that is made.
            raise files.explain(error, str(error.filename2 or error.filename or self._root)) from error

    def install(self, store: Store, packages: Sequence[Package], prefer: Sequence[str], *, by: str) -> Generation | None:
        """Make the generation that has these packages, and switch to it. The one in use, if it is the same; None: nothing is.

        For who is ``changing``, and in the store's ``in_use``. Raises Conflict, Foreign, OtherStore and what the store does.
        """
        old = self.current()
        packages = sorted(packages, key=lambda one: one.name)
        if old and any(one in old.packages for one in packages) and old.store != str(store.root):
            raise OtherStore(old.store)
        trees = {one.name: store.read_manifest(one.digest) for one in packages}
        links = generation.links(trees, prefer)
        if old and (old.packages, old.prefer, old.links) == (tuple(packages), tuple(prefer), links):
            self.switch(old, durable=store.durable)
            return old
        if old is None and not packages:
            return None
        number = 1 + max(self._numbers(), default=0)
        before = old.number if old else 0
        new = Generation(
            number, before, int(time.time()), by, str(store.root), tuple(packages), tuple(prefer), links
        )  # fmt: skip
        self._refuse_foreign(new)
        self._write(store, new, trees)
        try:
            self.switch(new, durable=store.durable)
        except BaseException:
            if self._in_use() != str(new.number):
                self._tidy(old)
                self._remove(new)
            raise
        return new

    def switch(self, new: Generation, *, durable: bool = True) -> None:
        """Use a generation that is there. Raises Foreign, before anything is changed."""
        self._refuse_foreign(new)
        for path in new.links:
            self._link(path, new)
        if self._in_use() != str(new.number):
            self._point(new, durable=durable)
        self._tidy(new)

    def _point(self, new: Generation, *, durable: bool) -> None:
        fresh = self._root / "current.new"
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fresh.symlink_to(f"generations/{new.number}")
        if durable:
            with files.directory(self._root) as fd:
                files.sync_file_system(fd)
        fresh.rename(self._current)
        if durable:
            files.sync_directory(self._root)

    def back(self, to: int | None) -> Generation:
        """The generation ``to``, or the one that the one in use was made from. Raises NoGeneration and BadGeneration."""
        number = to
        if number is None:
            current = self.current()
            number = current.before if current else 0
        found = self._read(str(number))
        if found is None:
            raise NoGeneration(number)
        return found

    def prune(self, keep: int) -> list[Generation]:
        """Remove all generations but the newest ``keep`` and the one in use. Gives those that went."""
        current = self.current()
        every = self.generations()
        gone = [one for one in every[: max(0, len(every) - keep)] if current is None or one.number != current.number]
        # What a killed command left is known from the records only.
        self._tidy(current)
        for one in gone:
            self._remove(one)
        return gone

    # -- a generation's folder --

    def _folder(self, one: Generation) -> Path:
        return self._root / "generations" / str(one.number)

    def _write(self, store: Store, new: Generation, trees: dict[str, Manifest]) -> None:
        folder = self._folder(new)
        try:
            (folder / "packages").mkdir(parents=True)
            for package in new.packages:
                target = store.root / "artifacts" / package.folder
                roots.add_link(store, folder / "packages" / package.name, package.digest, target)
            sources = {name: generation.wanted(tree) for name, tree in trees.items()}
            where = {name: self._where(tree, name) for name, tree in trees.items()}
            for path, name in new.links.items():
                place, source = folder / os.fsdecode(path), sources[name][path]
                place.parent.mkdir(parents=True, exist_ok=True)
                if desktop.is_edited(path):
                    place.write_bytes(desktop.installed(path, _text(store, trees[name], source), where[name]))
                else:
                    up = "../" * path.count(b"/")
                    place.symlink_to(f"{up}packages/{name}/{os.fsdecode(source)}")
            if store.durable:
                with files.directory(folder) as fd:
                    files.sync_file_system(fd)
            record = folder / f"{RECORD}.new"
            record.write_bytes(new.encode())
            record.rename(folder / RECORD)
        except BaseException:
            self._remove(new)
            raise

    def _where(self, tree: Manifest, name: str) -> desktop.Where:
        return desktop.Where(
            programs={word: folder + b"/" + word for folder in (b"sbin", b"bin") for word in tree.names(folder)},
            pixmaps=tree.names(b"share/pixmaps"),
            services=tree.names(b"share/dbus-1/services"),
            prefix=PREFIX.encode(),
            place=os.fsencode(self._current / "packages" / name),
        )

    def _remove(self, one: Generation) -> None:
        folder = self._folder(one)
        with contextlib.suppress(FileNotFoundError):
            # The record first: what is left of a folder without one is taken away by the next command.
            (folder / RECORD).unlink()
        # With its links, the roots are gone.
        shutil.rmtree(folder, ignore_errors=True)

    # -- links outside --

    def _target(self, path: bytes) -> str:
        return str(self._current / os.fsdecode(path))

    def _is_ours(self, path: bytes) -> bool:
        try:
            return os.readlink(self.places.of(path)) == self._target(path)
        except OSError:
            return False

    def _refuse_foreign(self, new: Generation) -> None:
        for path, name in new.links.items():
            place = self.places.of(path)
            if os.path.lexists(place) and not self._is_ours(path):
                raise Foreign(place, name)

    def _link(self, path: bytes, new: Generation) -> None:
        place = self.places.of(path)
        if self._is_ours(path):
            return
        self._make_folders(place.parent)
        try:
            place.symlink_to(self._target(path))
        except FileExistsError:
            raise Foreign(place, new.links[path]) from None

    def _tidy(self, new: Generation | None) -> None:
        """Remove the links that some generation wants and ``new`` does not, and the directories made for them."""
        keep = new.links if new else {}
        for path in {path for one in self.generations() for path in one.links} - set(keep):
            if self._is_ours(path):
                self.places.of(path).unlink()
        made = self._made()
        left = []
        for name in sorted(made, key=len, reverse=True):
            try:
                os.rmdir(name)
            except FileNotFoundError:
                continue
            except OSError:  # something is in there
                left.append(name)
        if sorted(left) != sorted(made):
            self._set_made(left)

    def _make_folders(self, folder: Path) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        if not missing:
            return
        # Noted first: a directory that was noted and not made does no harm.
        self._set_made([*self._made(), *map(str, missing)])
        for one in reversed(missing):
            one.mkdir(exist_ok=True)

    def _made(self) -> list[str]:
        try:
            return [str(name) for name in json.loads((self._root / "folders.json").read_bytes())]
        except (FileNotFoundError, ValueError):
            return []

    def _set_made(self, made: list[str]) -> None:
        fresh = self._root / "folders.json.new"
        fresh.write_text(json.dumps(sorted(set(made)), indent=1) + "\n")
        fresh.rename(self._root / "folders.json")

    def once(self, what: str) -> bool:
        """Whether this was never asked before of this profile: for what is said once."""
        try:
            (self._root / f"said-{what}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _text(store: Store, tree: Manifest, path: bytes) -> bytes:
    node = tree.get(follow(tree, path) or path)
    assert isinstance(node, File)
    return store.read_blob(node.blob)
