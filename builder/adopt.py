"""Adopting: an artifact from programs that are on a machine, with the libraries that they have there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder import steps
from builder.machine import Machine
from builder.progress import Progress
from builder.record import record
from launcher import bootstrap, pack
from launcher import elf as elves
from launcher.data import NoData, NoUse
from launcher.elf import Kind
from launcher.interpreter import NotForThisMachine
from launcher.layout import BadElf
from launcher.names import Namespace, base, parent
from launcher.scripts import read_shebang
from launcher.settings import Settings
from store import artifacts, files
from store.digest import Digest
from store.errors import Error
from store.manifest import Directory, File, Manifest, Node, Symlink, show
from store.store import Store

# What was adopted has no version of its own: it is what the machine had.
VERSION = "adopted"
# Where another root has its programs: the PATH of this process is about this machine.
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NoSuchFile(Error):
    """What is to be adopted and is not there."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(f"there is no {what}", hint=hint)
        self.what = what


class NotAProgram(Error):
    """What was given as a program and is none; ``reason`` says what it is."""

    def __init__(self, path: str, reason: str, hint: str) -> None:
        super().__init__(f"{path} is {reason}, and not a program", hint=hint)
        self.path = path


class NoLauncher(Error):
    """A program that is given a variable, and that has no launcher to set it."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"--env gives {path} a variable, and it is no launcher of the artifact",
            hint="Give a program's name, or its path in the artifact. Static programs have no launcher.",
        )
        self.path = path


class OnePlace(Error):
    """Two files of the machine that would lie at one place of the artifact."""

    def __init__(self, place: bytes, first: bytes, second: bytes) -> None:
        super().__init__(
            f"/{show(first)} and /{show(second)} would both be {show(place)} in the artifact",
            hint="Leave one of them out, or adopt them into two artifacts.",
        )
        self.place = place


@dataclass(frozen=True, slots=True)
class Default:
    """A variable that a launcher sets where the user has not. ``program`` is its path in the artifact, or "" for all."""

    program: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be adopted, and as what.

    ``programs`` are paths, or names to be found in ``search``, which is a PATH. ``files`` are paths of files and folders.
    All paths are below ``root``. ``libraries`` are sonames that the programs open by themselves, ``missing`` those that may
    be missing, ``data`` words of launcher.settings.DATA.
    """

    name: str
    programs: tuple[str, ...]
    root: Path
    search: str
    files: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    environment: tuple[Default, ...] = ()


def adopt(store: Store, wish: Wish, progress: Progress) -> tuple[Digest, Path]:
    """Make the artifact: its digest and its folder. Raises the errors of this module, of builder.machine and launcher.pack."""
    artifacts.path_of(store, Digest.of(b""), name=wish.name, version=VERSION)  # a bad name is told before the work
    heading = f"{wish.name} {VERSION}"
    with progress.task("pack", heading), store.batch() as batch:
        try:
            fd = os.open(wish.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise files.explain(error, str(wish.root)) from None
        try:
            started = time.time()
            machine = Machine(fd, batch)
            taken = _Taking(machine, wish).run()
            code = bootstrap.load()
            output = Manifest.with_parents(taken.entries.items())
            settings = taken.settings()

            def add(data: bytes, executable: bool) -> File:
                return batch.add_bytes(data, executable=executable)

            try:
                artifact = pack.pack(output, machine, settings, bootstrap=code, read=machine.read, add=add, came=taken.came)
            except Error as error:
                raise _advised(error) from None
            seen = batch.add_manifest(machine.seen())
            batch.add_manifest(output)
            batch.add_manifest(artifact)
            label = "this machine" if wish.root == Path("/") else f"the root {show(os.fsencode(wish.root))}"
            links = {path: node.target for path, node in output.entries if type(node) is Symlink}
            for action, name, tree in (
                (steps.machine_action(seen), label, seen),
                (steps.adopt_action(label, seen, taken.came, links), heading, output.digest),
                (steps.pack_action(output.digest, seen, settings, code.digest, taken.came), heading, artifact.digest),
            ):
                batch.add_result(record(action, name, tree, started))
        finally:
            os.close(fd)
    return artifact.digest, artifacts.check_out(store, artifact, name=wish.name, version=VERSION)


def _advised(error: Error) -> Error:
    """An error of packing, with a hint for somebody who has no recipe."""
    match error:
        case pack.UnresolvedLibrary():
            error.hint = (
                "Install the packages that have them, or give --missing SONAME for those that the programs work without."
            )
        case pack.BadProgram(reason=NotForThisMachine()):
            error.hint = "Launchers are made for 64-bit programs of this CPU with glibc or musl."
        case pack.AmbiguousLibrary():
            error.hint = "Adopt the programs into two artifacts."
        case NoData(word=word):
            return Error(f"--data {word}: there is none", hint="Install the package that has it, or leave it out.")
        case NoUse(word=word):
            return Error(f"--data {word}: no program has a use for it", hint="Leave it out.")
        case pack.NoInterpreter():
            error.hint = "Adopt the interpreter too, as one more program."
        case pack.NoSuchProgram(path=path):
            return NoLauncher(path)
    return error


class _Taking:
    """Which files of the machine come to lie where in the artifact."""

    def __init__(self, machine: Machine, wish: Wish) -> None:
        self.machine = machine
        self.wish = wish
        self.names = Namespace(machine, Manifest([]))
        self.entries: dict[bytes, Node] = {}
        self.came: dict[bytes, bytes] = {}
        self.places: dict[bytes, bytes] = {}
        self.links: list[tuple[bytes, bytes]] = []
        self.launchers: list[str] = []

    def run(self) -> _Taking:
        """Take all that is wished for."""
        for word in self.wish.programs:
            self.program(word)
        for word in self.wish.files:
            self.file(word)
        # Only now it is known which links lead to what was taken.
        while self.links:
            self.link(*self.links.pop(0))
        return self

    def settings(self) -> Settings:
        """What packing has to know."""
        defaults: dict[str, dict[str, str]] = {}
        for default in self.wish.environment:
            if not default.program and not self.launchers:
                raise NoLauncher("bin/" + os.path.basename(self.wish.programs[0]))
            for program in [default.program] if default.program else self.launchers:
                defaults.setdefault(program, {})[default.name] = default.value
        environment = tuple((program, tuple(variables.items())) for program, variables in defaults.items())
        wish = self.wish
        return Settings(environment=environment, dlopen=wish.libraries, missing=wish.missing, data=wish.data)

    def program(self, word: str) -> None:
        path = next(self.candidates(word), None)
        found = self.names.resolve(path) if path is not None else None
        if path is None or found is None:
            raise NoSuchFile(f"program {word}", "Give its path, or a name that is in PATH.")
        real, node = found
        shown = f"/{show(path)}"
        if not isinstance(node, File):
            raise NotAProgram(shown, "a folder", "Give a program in it, or take the folder along with --file.")
        data = self.machine.read(node.blob)
        try:
            kind = elves.read(data).kind if elves.is_elf(data) else None
        except BadElf as error:
            raise pack.BadProgram(real, error) from None
        script = read_shebang(data) is not None
        if not node.executable or not (script or kind in (Kind.PROGRAM, Kind.STATIC)):
            what = "a library" if kind is Kind.LIBRARY else "a file that cannot be started"
            raise NotAProgram(
                shown, what, "--file takes files along, and --lib the libraries that programs open by themselves."
            )
        place = b"bin/" + base(path)
        self.put(place, real, node)
        if script or kind is Kind.PROGRAM:
            self.launchers.append(place.decode(errors="backslashreplace"))

    def candidates(self, word: str) -> Iterator[bytes]:
        """The paths that a program's name may mean, the first first."""
        if "/" in word:
            yield self.path(word)
            return
        for folder in self.wish.search.split(":"):
            path = self.path(f"{folder or '.'}/{word}")
            found = self.names.file(path)
            if found is not None and found[1].executable:
                yield path

    def path(self, word: str) -> bytes:
        """A path from the root, without the slash in front. Relative ones begin where the user is, or at another root's top."""
        start = Path.cwd() if self.wish.root == Path("/") else "/"
        # Not normalised: after a symlink, `..` means something else.
        return os.fsencode(os.path.join(start, word)).strip(b"/")

    def file(self, word: str) -> None:
        path = self.path(word)
        found = self.names.resolve(path)
        if found is None:
            raise NoSuchFile(f"file or folder /{show(path)}", "--file takes the path of a file or folder that may be read.")
        place = os.path.normpath(b"/" + path).lstrip(b"/")
        for prefix in (b"usr/local/", b"usr/"):
            if place.startswith(prefix):
                place = place.removeprefix(prefix)
                break
        if not place:
            raise NotAProgram("/", "the whole root", "--file takes the folders that programs read.")
        self.take(place, *found)

    def take(self, place: bytes, real: bytes, node: File | Directory) -> None:
        """Put a file, or a folder with all that is in it."""
        self.put(place, real, node)
        if isinstance(node, File):
            return
        for name in self.machine.names(real):
            match self.machine.get(real + b"/" + name):
                case Symlink():
                    self.links.append((place + b"/" + name, real + b"/" + name))
                case File() | Directory() as inner:
                    self.take(place + b"/" + name, real + b"/" + name, inner)

    def put(self, place: bytes, real: bytes, node: File | Directory) -> None:
        known = self.entries.get(place)
        if known is not None and known != node:
            raise OnePlace(place, self.came.get(place, place), real)
        self.entries[place] = node
        self.came.setdefault(place, real)
        self.places.setdefault(real, place)

    def link(self, place: bytes, path: bytes) -> None:
        """A link of a folder leads to what was taken; else what it leads to takes its place. Links to nowhere are left out."""
        found = self.names.resolve(path)
        if found is None or place in self.entries:
            return
        real, node = found
        if real in self.places:
            target = self.places[real]
            self.entries[place] = Symlink(os.path.relpath(b"/" + target, b"/" + parent(place)))
        elif isinstance(node, File) or (real and not any(one.startswith(real + b"/") for one in self.places)):
            # Not a folder in which this one lies: it would be taken into itself.
            self.take(place, real, node)
