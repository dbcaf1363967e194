"""Every dynamic program of a few hundred Debian packages as a launcher, beside the program that it was.

The root, the same root with launchers in the place of its programs, and an otherwise empty root with the launchers alone
have every program at the same path. So what a program prints of itself is the same, wherever it runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from builder import tools
from builder.recipe import Limits
from builder.sandbox import Bind, Sandbox, run
from launcher import bootstrap, pack
from launcher.elf import Kind
from launcher.libraries import Files
from launcher.names import Namespace, base, parent
from launcher.settings import Settings
from store import files
from store.digest import Digest
from store.manifest import DIRECTORY, File, Manifest, Node, Symlink
from store.store import Store
from store.trees import check_out
from tests.conftest import ROOT, Builder, environment

pytestmark = [pytest.mark.large, pytest.mark.xdist_group("large")]

PLACES = re.compile(rb"usr/(bin|sbin|libexec|lib/(.*/)?bin|lib/git-core|lib/gcc)/")
WORDS = ("--version", "--help")
# libblas.so.3 is a link that an install script makes.
SETTINGS = Settings(missing=("libblas.so.3",))
LOOK = ("/usr/bin/readelf", "-W", "-h", "-l", "-S", "-d")

# Programs whose launcher answers otherwise, and why.
OTHERWISE: dict[str, str] = {}
# Those whose launcher answers otherwise on an empty root than the program with its libraries there.
APART = {
    "/usr/bin/node": "it aborts in both for want of a file, and prints a stack with addresses that are never twice the same"
}

Answer = tuple[int, bytes]


@dataclass(frozen=True)
class Roots:
    """Four folders to be `/`, the programs in them, and what runs them."""

    native: Path
    launched: Path
    alone: Path
    bare: Path
    programs: tuple[str, ...]
    bwrap: Path
    work: Path

    def start(self, root: Path, commands: Sequence[tuple[str, ...]]) -> list[Answer]:
        """Start all commands, one after the other, in a sandbox without network: each one's wait status and output."""
        (self.work / "list").write_text("".join("\t".join(words) + "\n" for words in commands))
        variables = {"PATH": "/usr/bin:/usr/sbin", "HOME": "/tmp", "LANG": "C.UTF-8"}
        command = ("/artifact/start_all", "/artifact/list")
        limits = Limits(seconds=3000, silence=600)
        box = Sandbox(root, command, variables, "/tmp", (Bind(self.work, "/artifact"),), limits)
        said: list[bytes] = []
        outcome = run(self.bwrap, box, output=said.append, cancel=Event())
        assert outcome.status == 0, (outcome, b"".join(said)[-1000:])
        answers, text, place = [], b"".join(said), 0
        while place < len(text):
            end = text.index(b"\n", place)
            status, length = map(int, text[place:end].split())
            answers.append((status, text[end + 1 : end + 1 + length]))
            place = end + 1 + length
        assert len(answers) == len(commands)
        return answers


def linked(root: Manifest, made: Manifest) -> Iterator[tuple[bytes, Node]]:
    """What of the root its programs are linked with: the libraries that the artifact has, and the links on the way to them."""
    names = {base(path) for path, _ in made.entries if parent(path).endswith(b"-linux-gnu/lib")} | {b"ld-linux-x86-64.so.2"}
    namespace = Namespace(root, Manifest([]))
    for path, node in root.entries:
        if b"/" not in path and isinstance(node, Symlink):
            yield path, node
        elif base(path) in names and (found := namespace.file(path)) is not None:
            yield path, found[1]
        elif path.startswith(b"etc/ld.so.conf"):
            yield path, node


@pytest.fixture(scope="module")
def roots(shared_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Roots:
    builder = Builder(shared_store, environment(shared_store))
    (built,) = builder.build(ROOT / "tests" / "debian" / "everything.py")
    store = Store(shared_store)
    root = store.read_manifest(Digest.parse(built["digest"]))
    looked = Files(Namespace(root, Manifest([])), store.read_blob)
    programs: dict[bytes, Node] = {}
    for path, node in root.files:
        if PLACES.match(path) and node.executable:
            elf = looked.elf(node)
            if elf is not None and elf.kind is Kind.PROGRAM:
                programs[path] = node
    with store.batch() as batch:

        def add(data: bytes, executable: bool) -> File:
            return batch.add_bytes(data, executable=executable)

        output = Manifest.with_parents(programs.items())
        made = pack.pack(output, root, SETTINGS, bootstrap=bootstrap.load(), read=store.read_blob, add=add)
    mounts: dict[bytes, Node] = dict.fromkeys((b"proc", b"dev", b"tmp", b"artifact"), DIRECTORY)
    top = tmp_path_factory.mktemp("everything")
    trees = {
        "native": {**dict(root.entries), **mounts},
        "launched": {**dict(root.entries), **dict(made.entries), **mounts},
        "alone": {**dict(made.entries), **mounts},
        "bare": {**dict(Manifest.with_parents([*programs.items(), *linked(root, made)]).entries), **mounts},
    }
    for name, nodes in trees.items():
        (top / name).mkdir()
        with files.directory(top / name) as fd:
            check_out(store, Manifest(nodes.items()), fd)
    work = top / "work"
    work.mkdir()
    source = Path(__file__).parent / "start_all.c"
    with tempfile.TemporaryDirectory() as folder:
        variables = dict(os.environ, ZIG_GLOBAL_CACHE_DIR=folder, ZIG_LOCAL_CACHE_DIR=folder)
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-static", "-Os", "-o", "start_all"]
        subprocess.run([*command, str(source)], check=True, cwd=work, env=variables)
    bwrap = next((shared_store / "artifacts").glob(f"*-bubblewrap-{tools.SYSTEM.version}")) / "bin" / "bwrap"
    names = tuple("/" + os.fsdecode(path) for path in programs)
    return Roots(top / "native", top / "launched", top / "alone", top / "bare", names, bwrap, work)


def test_readelf_says_nothing_that_it_did_not_say_of_the_program(roots: Roots) -> None:
    commands = [(*LOOK, path) for path in roots.programs]
    answers = [roots.start(root, commands) for root in (roots.native, roots.launched)]
    assert all(one[1] != two[1] for one, two in zip(*answers, strict=True)), "a program is no launcher"
    complaints = [[(status, re.findall(rb"^readelf:.*", text, re.MULTILINE)) for status, text in half] for half in answers]
    wrong = [(path, one, two) for path, one, two in zip(roots.programs, *complaints, strict=True) if one != two]
    assert len(roots.programs) > 800
    assert not wrong


def test_launchers_answer_as_the_programs(roots: Roots) -> None:
    commands = [(path, word) for path in roots.programs for word in WORDS]
    answers = dict(zip(commands, roots.start(roots.native, commands), strict=True))
    good = [command for command in commands if answers[command][0] == 0 and answers[command][1]]
    # Some print the time or their number: they do not answer the same twice.
    again = dict(zip(good, roots.start(roots.native, good), strict=True))
    steady = [command for command in good if again[command] == answers[command]]
    launched = dict(zip(steady, roots.start(roots.launched, steady), strict=True))
    wrong = {command: (answers[command], launched[command]) for command in steady if launched[command] != answers[command]}
    # Some seldom answer otherwise: groff, whose helpers print at the same time. Of these the launchers may say any.
    for command in list(wrong):
        if launched[command] in roots.start(roots.native, [command] * 40):
            del wrong[command]
            steady.remove(command)
    print(f"{len(roots.programs)} programs; {len({path for path, _ in good})} answer natively, with {len(good)} answers")
    print("not the same twice:", [" ".join(command) for command in good if command not in steady])
    print(f"launchers on the same root: {len(steady) - len(wrong)} of {len(steady)} answers are the same")
    assert {path for path, _ in wrong} == set(OTHERWISE), wrong
    # On an empty root. Some miss files of theirs there: natively too, with nothing but libraries.
    bare = dict(zip(steady, roots.start(roots.bare, steady), strict=True))
    alone = dict(zip(steady, roots.start(roots.alone, steady), strict=True))
    same = [command for command in steady if alone[command] == answers[command]]
    apart = {command: (bare[command], alone[command]) for command in steady if bare[command] != alone[command]}
    print(f"launchers on an empty root: {len(same)} answers are the same as on the full one")
    print(f"{len([one for one in steady if bare[one] == answers[one]])} are, natively with nothing but libraries")
    for command, (one, two) in apart.items():
        print("  apart:", " ".join(command), one[0], one[1][:200], two[0], two[1][:200])
    assert {path for path, _ in apart} == set(APART), list(apart)
