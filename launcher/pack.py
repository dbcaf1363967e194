"""Packing: what a build put out, and what it was built on, become an artifact that is complete.

A pure function: manifests in, a manifest out; the caller brings and takes the bytes of blobs.

    .launch/<triplet>/ld.so          the interpreter
    .launch/<triplet>/lib/<soname>   libraries that the build did not make, and a symlink to the interpreter
    .launch/<triplet>/bin/<name>     a shell, or the like, that scripts need
    .launch/inputs/<path>            what input recipes put out, when a script needs an interpreter of theirs
    .launch/script/<path>/<path>     the script of that path (launcher/scripts.py)
    .launch/apart/<path>             the program of that path, if it has a payload (launcher/apart.py)
    .launch/runtime                  what the recipe says of what running needs (launcher/needs.py)

and what the recipe's ``data`` brings (launcher/data.py).

A library that the build made stays where it is. It has one more name in the launch directory, a symlink, when it is not
in ``lib``, where every program looks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from launcher import apart, data, host, libc, library, needs
from launcher import elf as elves
from launcher.bootstrap import Bootstrap
from launcher.config import ORIGIN, Config
from launcher.elf import Elf, Kind
from launcher.graft import PayloadBehind, Wiring, graft
from launcher.interpreter import NotForThisMachine, is_musl, triplet, without_host
from launcher.libraries import Closure, Files, Library, Loader
from launcher.names import PREFIX, Namespace, Tree, base, parent, up
from launcher.scripts import FOLDERS, BadFirstLine, Shebang, asked_by, mirror, place_of, read_shebang, write_launcher
from launcher.settings import Settings
from store.digest import Digest
from store.errors import Error
from store.manifest import File, Manifest, Node, Symlink, show

# Interpreters that are whole in one file, so that one of the input root can be taken along. Others (perl, python, ruby)
# would start, and then miss their own files.
ALONE = (b"sh", b"dash", b"bash", b"awk", b"mawk", b"gawk", b"sed", b"make", b"bc", b"dc")
LAUNCH = b".launch"
# A program with more libraries gets no paths of them. The interpreter compares each path with all that is loaded, which
# takes longer, from about this number on, than its search in one directory.
MOST_NAMES = 32
# Where the prefix as the input recipes laid it is, when a script needs an interpreter of theirs.
INPUTS = LAUNCH + b"/inputs"
# The kernel follows so many scripts, each the interpreter of the one before.
MOST_SCRIPTS = 5


class UnresolvedLibrary(Error):
    """Libraries that are neither in the output nor in the input root: pairs of a soname and who needs it."""

    def __init__(self, missing: tuple[tuple[bytes, bytes], ...]) -> None:
        listed = "\n".join(f"  {show(soname)}, needed by {show(path)}" for soname, path in missing)
        super().__init__(
            f"libraries that were not found:\n{listed}",
            hint="Add the package that has them to the recipe's inputs, or list those under `missing` that it works without.",
        )
        self.missing = missing


class AmbiguousLibrary(Error):
    """Two libraries of one name, of which the launch directory can hold one."""

    def __init__(self, name: bytes, first: bytes, second: bytes) -> None:
        super().__init__(f"{show(name)} is {show(first)} for one program and {show(second)} for another")
        self.name = name
        self.first = first
        self.second = second


class BadProgram(Error):
    """A program or library of the output that cannot be packed; ``reason`` says why."""

    def __init__(self, path: bytes, reason: Error) -> None:
        super().__init__(f"{show(path)}: {reason.message}", hint=reason.hint)
        self.path = path
        self.reason = reason


class LinkLeadsOut(Error):
    """Symlinks of the output that lead out of it: pairs of a path and its target."""

    def __init__(self, links: tuple[tuple[bytes, bytes], ...]) -> None:
        listed = "\n".join(f"  {show(path)} -> {show(target)}" for path, target in links)
        super().__init__(
            f"symlinks that lead out of the artifact:\n{listed}",
            hint="Let the script copy what they lead to, or remove them at its end.",
        )
        self.links = links


class NoInterpreter(Error):
    """A script whose interpreter would not be in the artifact."""

    def __init__(self, path: bytes, interpreter: bytes) -> None:
        super().__init__(
            f"the script {show(path)} needs {show(interpreter)}, which would not be in the artifact",
            hint="Remove the script at the end of the build, build the interpreter into the same artifact or take its recipe "
            "as an input, or list it under `host_interpreters` if every host has to have it. Of the system's root only "
            f"{b', '.join(ALONE).decode()} are taken along: others have files of their own.",
        )
        self.path = path
        self.interpreter = interpreter


class NoSuchProgram(Error):
    """A program that the settings speak of, and that the output does not have."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the recipe gives {path} an environment, and it is no launcher of the output")
        self.path = path


def pack(
    output: Manifest,
    root: Tree,
    settings: Settings,
    *,
    bootstrap: Bootstrap,
    read: Callable[[Digest], bytes],
    add: Callable[[bytes, bool], File],
    came: Mapping[bytes, bytes] | None = None,
) -> Manifest:
    """The artifact made of ``output``, whose paths are relative to the prefix, built on ``root``, whose prefix is ``pkg``.

    ``read`` gives the bytes of a blob, ``add`` keeps the bytes of a file, executable or not. ``came`` says of paths of the
    output where in the root they were copied from. Raises the errors of this module.
    """
    return _Packing(Namespace(root, output, came), settings, bootstrap=bootstrap, read=read, add=add).run()


@dataclass(slots=True)
class _Launch:
    """A launch directory in the making: its libraries by name, and the interpreter."""

    loader: Loader
    interpreter: tuple[bytes, File]
    libraries: dict[bytes, Library] = dataclasses.field(default_factory=dict)
    shells: dict[bytes, tuple[bytes, File, Elf]] = dataclasses.field(default_factory=dict)
    variables: dict[str, bytes] = dataclasses.field(default_factory=dict)

    @property
    def path(self) -> bytes:
        return LAUNCH + b"/" + self.loader.triplet.encode()


@dataclass(frozen=True, slots=True)
class _Program:
    """A program that is to become a launcher: its path in the artifact and in the build, and where it finds what."""

    path: bytes
    opened: bytes
    node: File
    elf: Elf
    launch: _Launch


class _Packing:
    def __init__(
        self,
        namespace: Namespace,
        settings: Settings,
        *,
        bootstrap: Bootstrap,
        read: Callable[[Digest], bytes],
        add: Callable[[bytes, bool], File],
    ) -> None:
        self.output = namespace.output
        self.namespace = namespace
        self.files = Files(namespace, read)
        self.settings = settings
        self.bootstrap = bootstrap
        self.read = read
        self.add = add
        self.nodes: dict[bytes, Node] = dict(namespace.output.entries)
        self.launches: dict[str, _Launch] = {}
        self.programs: list[_Program] = []
        self.libraries: list[tuple[bytes, File, Elf]] = []
        self.scripts: dict[bytes, tuple[File, Shebang]] = {}
        self.inputs = False
        self.borrowed: dict[bytes, tuple[bytes, Library]] = {}
        self.missing: dict[tuple[bytes, bytes], None] = {}
        self.defaults = {path.encode(): variables for path, variables in settings.environment}

    def run(self) -> Manifest:
        self.tie_links()
        self.sort_files()
        found_scripts = self.follow_scripts()
        for launch in self.launches.values():
            for name, (real, node, elf) in launch.shells.items():
                self.programs.append(_Program(launch.path + b"/bin/" + name, real, node, elf, launch))
        closures = [(program, self.closure(program)) for program in self.programs]
        self.collect_modules()
        self.collect_data()
        self.tie_borrowed()
        allowed = {soname.encode() for soname in self.settings.missing}
        missing = tuple(pair for pair in self.missing if pair[0] not in allowed)
        if missing:
            raise UnresolvedLibrary(missing)
        unknown = set(self.defaults) - {program.path for program in self.programs} - set(found_scripts)
        if unknown:
            raise NoSuchProgram(min(unknown).decode())
        for program, closure in closures:
            self.nodes[program.path] = self.rewrite(program, closure)
        for path, node, elf in self.libraries:
            self.nodes[path] = self.edit(path, node, elf)
        entries = dict(self.nodes)
        entries.update(self.launch_entries())
        if self.settings.needs != needs.NO_CHOICE:
            entries[needs.RECORD] = self.add(self.settings.needs.encode(), False)
        nodes = dict(Manifest.with_parents(self.nodes.items()).entries) if self.inputs else self.output.nodes
        for path, found in found_scripts.items():
            if found is not None:
                entries[path] = self.launch_script(path, *found)
                entries.update(mirror(nodes, path, self.scripts[path][0]))
        return Manifest.with_parents(entries.items())

    # -- what there is --

    def take_inputs(self) -> None:
        """What input recipes laid at the prefix comes along, and is treated as if the build had put it out."""
        self.inputs = True
        top = PREFIX + b"/"
        taken = tuple(self.namespace.root.below(PREFIX).entries)
        wrong = []
        for inner, node in taken:
            path = INPUTS + b"/" + inner
            self.nodes[path] = node
            if type(node) is not Symlink:
                continue
            leads = _target(inner, node.target)
            if leads == PREFIX or (leads is not None and leads.startswith(top)):
                if node.target.startswith(b"/"):
                    self.nodes[path] = Symlink(up(path) + INPUTS + leads.removeprefix(PREFIX))
            elif (found := self.files.library(top + inner)) is not None:
                self.borrowed[path] = node.target, found
            else:
                wrong.append((path, node.target))
        if wrong:
            raise LinkLeadsOut(tuple(wrong))
        self.sort(INPUTS + b"/", taken)

    def tie_links(self) -> None:
        """Absolute links into the output become relative. Those to a library of the input root are kept for later."""
        wrong = []
        for path, node in self.output.entries:
            if type(node) is not Symlink:
                continue
            target = node.target
            inner = _target(path, target)
            if inner is not None and (inner == PREFIX or inner.startswith(PREFIX + b"/")):
                inner = inner.removeprefix(PREFIX).lstrip(b"/")
                if inner in self.output or self.namespace.get(PREFIX + b"/" + inner) is None:
                    if target.startswith(b"/"):
                        self.nodes[path] = Symlink((up(path) + inner).rstrip(b"/") or b".")
                    continue
            found = self.files.library(PREFIX + b"/" + path)
            if found is not None:
                self.borrowed[path] = target, found
            else:
                wrong.append((path, target))
        if wrong:
            raise LinkLeadsOut(tuple(wrong))

    def tie_borrowed(self) -> None:
        """A link to a library of the input root leads into the launch directory, which then has that library."""
        wrong = []
        for path, (target, found) in self.borrowed.items():
            for launch in self.launches.values():
                if _fits(found.elf, musl=is_musl(launch.loader.triplet)):
                    self.keep_library(launch, found.soname, found)
                    self.take(launch, launch.loader.closure(found.real, found.elf))
                    self.nodes[path] = Symlink(up(path) + launch.path + b"/lib/" + found.soname)
                    break
            else:
                wrong.append((path, target))
        if wrong:
            raise LinkLeadsOut(tuple(wrong))

    def sort_files(self) -> None:
        if any(path.startswith(LAUNCH + b"/") for path, _ in self.output.files):
            raise BadProgram(LAUNCH, Error("the name .launch is for the artifact's own launchers"))
        self.sort(b"", tuple(self.output.entries))

    def sort(self, top: bytes, entries: Sequence[tuple[bytes, Node]]) -> None:
        """Programs, libraries and scripts of a tree that lay at the prefix, and lies in the artifact at ``top``."""
        keep = tuple(path.encode().strip(b"/") for path in self.settings.keep)
        started = self.started(entries)
        for inner, node in entries:
            path = top + inner
            if type(node) is not File or any(path == kept or path.startswith(kept + b"/") for kept in keep):
                continue
            if inner in started and (shebang := read_shebang(self.read(node.blob))):
                self.scripts[path] = node, shebang
                continue
            try:
                elf = self.files.elf(node)
                if elf is None:
                    continue
                if elf.kind is Kind.PROGRAM and node.executable:
                    self.programs.append(_Program(path, self.namespace.opened(inner), node, elf, self.launch(elf)))
                elif elf.kind is Kind.LIBRARY and (elf.bits, elf.machine) == (64, self.bootstrap.machine.elf):
                    self.libraries.append((path, node, elf))
            except Error as error:
                # A damaged file that nobody starts or loads may be a test's own.
                if node.executable:
                    raise BadProgram(path, error) from None

    def started(self, entries: Sequence[tuple[bytes, Node]]) -> set[bytes]:
        """Every executable file in a folder of programs, or that a link there leads to."""
        found = set()
        for path, node in entries:
            if path.split(b"/", 1)[0] in FOLDERS and b"/" in path:
                real = self.namespace.file(PREFIX + b"/" + path) if type(node) is not File else (PREFIX + b"/" + path, node)
                if real and real[0].startswith(PREFIX + b"/") and real[1].executable:
                    found.add(real[0].removeprefix(PREFIX + b"/"))
        return found

    def placed(self, path: bytes) -> bytes | None:
        """Where the artifact has what the build saw at ``path``, if it is the build's own or of inputs that come along."""
        own = self.namespace.own(path)
        if own is None and self.inputs and path.startswith(PREFIX + b"/") and self.namespace.root.get(path):
            return INPUTS + path.removeprefix(PREFIX)
        return own

    def launch(self, elf: Elf) -> _Launch:
        """The launch directory for a program."""
        name = triplet(elf, self.bootstrap.machine)
        found = self.namespace.file(elf.interpreter.lstrip(b"/"))
        if found is None:
            raise UnresolvedLibrary(((elf.interpreter, b"it"),))
        launch = self.launches.setdefault(name, _Launch(Loader(self.files, name), found))
        if launch.interpreter[1].blob != found[1].blob:
            raise AmbiguousLibrary(elf.interpreter, launch.interpreter[0], found[0])
        return launch

    # -- libraries --

    def closure(self, program: _Program) -> Closure:
        """What the program starts with. All of it, and what it may open, gets into the launch directory."""
        closure = program.launch.loader.closure(program.opened, program.elf)
        self.take(program.launch, closure)
        for soname in self.settings.dlopen:
            self.take(program.launch, program.launch.loader.closure_of(soname.encode(), program.opened, program.elf))
        return closure

    def take(self, launch: _Launch, closure: Closure) -> None:
        done: set[tuple[bytes, elves.Dlopen]] = set()
        todo = [closure]
        while todo:
            closure = todo.pop()
            self.missing.update(dict.fromkeys(closure.missing))
            for name, found in closure.names:
                if found is not None:
                    self.keep_library(launch, base(name), found)
            for opened, note in closure.dlopen:
                if (opened, note) in done:
                    continue
                done.add((opened, note))
                tried = [launch.loader.closure_of(soname, opened, _plain(self.note_owner(opened))) for soname in note.sonames]
                good = next((one for one in tried if not one.missing), None)
                if good is not None:
                    todo.append(good)
                elif note.required:
                    self.missing[note.sonames[0], opened] = None

    def note_owner(self, opened: bytes) -> Elf:
        """What the file is that has a dlopen note."""
        found = self.namespace.file(opened)
        elf = self.files.elf(found[1]) if found else None
        assert elf is not None
        return elf

    def keep_library(self, launch: _Launch, name: bytes, found: Library) -> None:
        known = launch.libraries.setdefault(name, found)
        if known.real == found.real:
            return
        ours, theirs = (self.placed(one.real) for one in (known, found))
        if ours is None and theirs is None and known.node.blob != found.node.blob:
            raise AmbiguousLibrary(name, known.real, found.real)
        if ours is not None and theirs is None:
            # A launcher reaches the output's own library where it lies; the launch directory has the other.
            launch.libraries[name] = found

    def collect_modules(self) -> None:
        """What the output's own libraries need: a program may open any of them."""
        for path, _, elf in self.libraries:
            for launch in self.launches.values():
                if _fits(elf, musl=is_musl(launch.loader.triplet)):
                    opened = self.namespace.opened(path.removeprefix(INPUTS + b"/"))
                    self.take(launch, launch.loader.closure(opened, elf))

    def collect_data(self) -> None:
        """What the recipe's ``data`` names, and the library that glibc itself opens."""
        for launch in self.launches.values():
            if not is_musl(launch.loader.triplet):
                unwinder = self.opened_by_libc(launch, libc.UNWINDER)
                if not unwinder.missing:
                    self.take(launch, unwinder)
        if self.settings.host_libraries:
            self.users("host_libraries")
        for word in sorted(set(self.settings.data)):
            for launch in self.users(word):
                found = data.collect(word, launch.loader.triplet, self.namespace, self.read, self.add)
                self.nodes.update(found.entries)
                launch.variables.update(found.variables)
                for soname in found.sonames:
                    self.take(launch, self.opened_by_libc(launch, soname))

    def users(self, word: str) -> list[_Launch]:
        """The launch directories of programs that have a use for what the recipe asks for."""
        found = [launch for launch in self.launches.values() if data.fits(word, launch.loader.triplet)]
        if not found:
            raise data.NoUse(word)
        return found

    def opened_by_libc(self, launch: _Launch, soname: bytes) -> Closure:
        """What is loaded when the C library opens a library by its name."""
        path, node = launch.interpreter
        elf = self.files.elf(node)
        assert elf is not None, path
        return launch.loader.closure_of(soname, path, elf)

    def own_place(self, found: Library) -> bytes | None:
        """Where the library is in the artifact when it is the build's own, or of inputs that come along."""
        return self.placed(found.opened) or self.placed(found.real)

    def place(self, launch: _Launch, name: bytes, found: Library) -> bytes:
        return self.own_place(found) or launch.path + b"/lib/" + name

    def launch_entries(self) -> Iterable[tuple[bytes, Node]]:
        for launch in self.launches.values():
            yield launch.path + b"/ld.so", self.add(without_host(self.read(launch.interpreter[1].blob)), True)
            if soname := self.soname_of_interpreter(launch):
                # A second namespace (dlmopen, LD_AUDIT) looks for it by name, and then sees that it is there already.
                yield launch.path + b"/lib/" + soname, Symlink(b"../ld.so")
            named: dict[bytes, bytes] = {}
            # A library's own soname first: its other names become links to it, for no library may be loaded twice.
            order = sorted(launch.libraries.items(), key=lambda item: (item[0] != item[1].elf.soname, item[0]))
            for name, found in order:
                path = launch.path + b"/lib/" + name
                own = self.own_place(found)
                if own == b"lib/" + name:
                    continue
                if own is not None:
                    yield path, Symlink(up(path) + own)
                elif found.real in named:
                    yield path, Symlink(named[found.real])
                else:
                    named[found.real] = name
                    yield path, self.bundle(launch, found)

    def soname_of_interpreter(self, launch: _Launch) -> bytes:
        """What glibc's interpreter is called in its libraries' DT_NEEDED. musl's is its libc, and is not looked for."""
        elf = None if is_musl(launch.loader.triplet) else self.files.elf(launch.interpreter[1])
        return elf.soname if elf else b""

    def bundle(self, launch: _Launch, found: Library) -> File:
        """A library of the input root. It is changed only when it would look for others in places that are not there."""
        elf = found.elf
        away = any(not path.startswith(b"$") for path in (*elf.rpath, *elf.runpath)) or any(b"/" in name for name in elf.needed)
        here = launch.path + b"/lib"
        blocked = elf.runpath and not any(_normal(_at(path, here)) == here for path in elf.runpath)
        known = found.elf.soname == libc.NAME
        if not away and not blocked and not known:
            return found.node
        changed = self.read(found.node.blob)
        if away or blocked:
            changed = library.tie_down(changed, keep_relative=False)
        return self.add(libc.without_host(changed) if known else changed, found.node.executable)

    def edit(self, path: bytes, node: File, elf: Elf) -> File:
        """A library of the output, which looks for others where its artifact has them."""
        if (
            not elf.runpath
            and not any(not one.startswith(b"$") for one in elf.rpath)
            and not any(b"/" in n for n in elf.needed)
        ):
            return node
        try:
            return self.add(library.tie_down(self.read(node.blob), keep_relative=True), node.executable)
        except Error as error:
            raise BadProgram(path, error) from None

    # -- programs --

    def rewrite(self, program: _Program, closure: Closure) -> File:
        path, launch = program.path, program.launch
        origin = ORIGIN + b"/" + up(path)
        needed: list[bytes] = []
        for name, found in closure.names:
            if found is None:
                needed.append(name)
            else:
                needed.append(origin + self.place(launch, base(name), found))
        own = [origin + entry for entry in self.own_run_path(program)]
        run_path = (*dict.fromkeys([*own, origin + b"lib"] if self.has_lib() else own), origin + launch.path + b"/lib")
        if self.settings.host_libraries and not is_musl(launch.loader.triplet):
            run_path += host.directories(launch.loader.triplet)
        by_name = is_musl(launch.loader.triplet) or (
            len(needed) > MOST_NAMES and not any(b"/" in name for name in program.elf.needed)
        )
        wiring = Wiring(
            origin + launch.path + b"/ld.so",
            () if by_name else tuple(dict.fromkeys(needed)),
            run_path,
            self.defaults_of(path, launch.variables),
        )
        file = self.read(program.node.blob)
        try:
            try:
                return self.add(graft(file, wiring, self.bootstrap), True)
            except PayloadBehind as behind:
                size = len(file) - behind.size
                place = apart.place_of(path)
                self.nodes[place] = self.add(graft(file[:size], wiring, self.bootstrap), True)
                return self.add(apart.write(file, size, Config(origin + place), self.bootstrap), True)
        except Error as error:
            raise BadProgram(path, error) from None

    def has_lib(self) -> bool:
        return any(parent(path) == b"lib" for path, _, _ in self.libraries)

    def own_run_path(self, program: _Program) -> Iterable[bytes]:
        """The directories of the program's own run path that are in the artifact."""
        for entry in program.elf.runpath or program.elf.rpath:
            inner = _normal(_at(entry, parent(program.opened)))
            own = self.placed(inner) if inner is not None else None
            if own is not None:
                yield own

    def defaults_of(self, path: bytes, variables: Mapping[str, bytes] | None = None) -> tuple[bytes, ...]:
        """The recipe's own for this program; then ``variables``, whose values are paths in the artifact."""
        root = ORIGIN + b"/.." * path.count(b"/")
        found = {name: value.encode().replace(b"{root}", root) for name, value in self.defaults.get(path, ())}
        more = {name: root + b"/" + value for name, value in (variables or {}).items()}
        return tuple(name.encode() + b"=" + value for name, value in (more | found).items())

    # -- scripts --

    def follow_scripts(self) -> dict[bytes, tuple[bytes, tuple[bytes, ...]] | None]:
        """Each script's interpreter and arguments, as interpreter_of says; interpreters that are scripts are followed too."""
        found: dict[bytes, tuple[bytes, tuple[bytes, ...]] | None] = {}
        unable: dict[bytes, Error] = {}
        while todo := [path for path in self.scripts if path not in found]:
            for path in todo:
                try:
                    found[path] = self.interpreter_of(path, self.scripts[path][1])
                except (NoInterpreter, BadProgram) as error:
                    if not path.startswith(INPUTS + b"/"):
                        raise
                    # What else an input has is not this artifact's concern, unless a script of its own gets there.
                    found[path], unable[path] = None, error
        for first in found:
            path, scripts = first, 0
            while (one := found.get(path)) is not None:
                path, scripts = one[0], scripts + 1
                if scripts > MOST_SCRIPTS:
                    raise BadProgram(first, Error(f"more than {MOST_SCRIPTS} scripts, each the interpreter of the one before"))
            if path in unable and not first.startswith(INPUTS + b"/"):
                raise unable[path]
        return found

    def interpreter_of(self, path: bytes, shebang: Shebang) -> tuple[bytes, tuple[bytes, ...]] | None:
        """The interpreter's place in the artifact, and its arguments; None: the host provides it."""
        try:
            asked = asked_by(shebang)
        except BadFirstLine as error:
            if self.on_host(shebang.interpreter):
                return None
            raise BadProgram(path, error) from None
        name = asked.name
        if self.on_host(name):
            return None
        folders = (
            [PREFIX + b"/bin/", PREFIX + b"/sbin/", b"usr/bin/", b"bin/"] if asked.searched and b"/" not in name else [b""]
        )
        for folder in folders:
            opened = folder + name.lstrip(b"/")
            found = self.namespace.file(opened)
            if found is None or not found[1].executable:
                continue
            place = self.placed(opened) or self.placed(found[0])
            if place is None and base(name) in ALONE:
                return self.shell(path, base(name), *found), asked.arguments
            if place is None and found[0].startswith(PREFIX + b"/"):
                self.take_inputs()
                place = self.placed(opened) or self.placed(found[0])
            if place is not None:
                self.follow(place, found[1])
                return place, asked.arguments
        raise NoInterpreter(path, name)

    def on_host(self, name: bytes) -> bool:
        return name.decode(errors="surrogateescape") in self.settings.host_interpreters

    def follow(self, place: bytes, node: File) -> None:
        """An interpreter that is a script has to be a launcher, wherever it lies."""
        if place not in self.scripts and (shebang := read_shebang(self.read(node.blob))):
            self.scripts[place] = node, shebang

    def shell(self, script: bytes, name: bytes, real: bytes, node: File) -> bytes:
        elf = self.files.elf(node)
        if elf is None or elf.kind is not Kind.PROGRAM:
            raise NoInterpreter(script, real)
        try:
            launch = self.launch(elf)
        except NotForThisMachine as error:
            raise BadProgram(real, error) from None
        launch.shells[name] = (real, node, elf)
        return launch.path + b"/bin/" + name

    def launch_script(self, path: bytes, interpreter: bytes, arguments: tuple[bytes, ...]) -> File:
        origin = ORIGIN + b"/" + up(path)
        settings = Config(origin + interpreter, self.defaults_of(path), origin + place_of(path), arguments)
        return self.add(write_launcher(settings, self.bootstrap.script, self.bootstrap.machine), True)


def _plain(elf: Elf) -> Elf:
    """The same, without its notes, which are being followed already."""
    return dataclasses.replace(elf, dlopen=())


def _fits(elf: Elf, *, musl: bool) -> bool:
    """Whether programs of one C library may load the library: nobody links with both."""
    other = any(name.startswith((b"libc.musl-", b"ld-musl-")) or name == b"libc.so" for name in elf.needed)
    return other if musl else not other


def _at(entry: bytes, directory: bytes) -> bytes:
    """A run path's entry, seen from a directory."""
    return entry.replace(b"${ORIGIN}", b"$ORIGIN").replace(b"$ORIGIN", directory)


def _normal(path: bytes) -> bytes | None:
    """The path without ``.``, ``..`` and empty names, or None when it goes above the top."""
    done: list[bytes] = []
    for name in path.split(b"/"):
        if name == b"..":
            if not done:
                return None
            done.pop()
        elif name not in (b"", b"."):
            done.append(name)
    return b"/".join(done)


def _target(path: bytes, target: bytes) -> bytes | None:
    """Where the link ``path`` below the prefix leads to, as _normal."""
    return _normal(target if target.startswith(b"/") else PREFIX + b"/" + parent(path) + b"/" + target)
