"""An artifact in one file: starts, first starts under all that may go wrong, and what else it can be told to do."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from store import files
from store.digest import Digest
from store.manifest import Directory, File, Manifest, Symlink
from store.store import Store
from tests.conftest import RECIPES, ROOT, Builder, environment
from tests.real.conftest import HERE, Places
from tests.real.places import Done, Place

HINT = "\nIt unpacks itself there, once. BUILDER_RUN_DATA names another folder for that.\n"


@dataclass(frozen=True)
class Files:
    """Exports: `several`, a folder for them all, what is in several, and where it is unpacked below ``home``."""

    folder: Path
    tree: Manifest
    name: str

    @property
    def several(self) -> Path:
        return self.folder / "several-1.run"


@pytest.fixture(scope="session")
def made(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("one-file")
    several, jq, hello = builder.build(HERE / "several.py", RECIPES / "jq.py", RECIPES / "hello.py")
    for built, name in ((several, "several-1.run"), (jq, "jq.run"), (hello, "hello.run")):
        builder("export", built["path"], "-o", folder / name)
    tree = Store(builder.store).read_manifest(Digest.parse(several["digest"]))
    return Files(folder, tree, Path(several["path"]).name)


@dataclass(frozen=True)
class User:
    """Somebody with a home, and nothing else."""

    home: Path
    made: Files

    @property
    def data(self) -> Path:
        return self.home / ".local" / "share" / "builder-run"

    @property
    def tree(self) -> Path:
        return self.data / "artifacts" / self.made.name

    def start(self, file: str | Path, *words: str, **variables: str) -> subprocess.Popen[str]:
        env = {"HOME": str(self.home), **variables}
        pipe = subprocess.PIPE
        return subprocess.Popen([self.made.folder / file, *words], env=env, cwd=self.home, stdout=pipe, stderr=pipe, text=True)

    def __call__(self, file: str | Path, *words: str, **variables: str) -> Done:
        process = self.start(file, *words, **variables)
        out, err = process.communicate()
        return Done(process.returncode, out, err)

    def several(self, *words: str, **variables: str) -> Done:
        return self(self.made.several, *words, **variables)

    def is_whole(self) -> None:
        """What is unpacked is all that was made, and nothing else is there."""
        assert list((self.data / "tmp").iterdir()) == []
        compare(self.tree, self.made.tree, sealed=True)


def compare(top: Path, tree: Manifest, *, sealed: bool) -> None:
    """A folder is as a manifest says."""
    found = {os.fsencode(path.relative_to(top)): path for path in top.rglob("*")}
    assert found.keys() == set(tree)
    for name, node in tree.entries:
        path = found[name]
        mode = path.lstat().st_mode & 0o777
        match node:
            case Directory():
                assert path.is_dir() and not path.is_symlink()
                assert mode == (0o555 if sealed else 0o755)
            case Symlink(target):
                assert os.fsencode(os.readlink(path)) == target
            case File(blob, _, executable):
                assert Digest.of(path.read_bytes()) == blob
                assert mode == (0o444 if sealed else 0o644) | (0o111 if executable else 0)
                assert path.stat().st_mtime == files.EPOCH


@pytest.fixture
def user(made: Files, tmp_path: Path) -> Iterator[User]:
    home = tmp_path / "a home: with $signs"
    home.mkdir()
    yield User(home, made)
    with files.directory(tmp_path) as fd:
        files.remove_tree(home.name, at=fd)


# -- starts --


def test_it_is_as_if_it_were_the_program(user: User) -> None:
    assert user.several("facts").status == 0
    user.is_whole()
    program = user.tree / "bin" / "facts"
    words = ["one two", "", "-x", "--builder-help"]
    limits = 'ulimit -S -s 4321; trap "" USR1 BUS XFSZ; '
    said = []
    for command in ([user.made.several, "facts"], [program]):
        script = limits + 'exec "$@"'
        env = {"HOME": str(user.home), "ODD": "\x01=\n"}
        done = subprocess.run(
            ["/bin/sh", "-c", script, "sh", *command, *words], env=env, capture_output=True, text=True, check=True, cwd="/"
        )
        said.append(done.stdout + done.stderr)
    assert said[0] == said[1]
    assert "one two" in said[0]


def test_a_program_finds_itself(user: User) -> None:
    done = user.several("reexec")
    program = user.tree / "bin" / "reexec"
    assert done.status == 5
    assert done.out.splitlines()[0] == f"{program} {program}"
    assert done.out.endswith("its own file\n")


@pytest.mark.parametrize("number", [1, 9, 15])
def test_a_signal_ends_it(user: User, number: int) -> None:
    assert user.several("crash", str(number)).status == -number
    assert user.several("crash", str(number)).status == -number


def test_what_else_the_folder_holds_is_left_alone(user: User) -> None:
    """BUILDER_RUN_DATA may be any folder of somebody's."""
    (thesis := user.home / "mine" / "tmp" / "thesis").parent.mkdir(parents=True)
    thesis.write_text("x")
    assert user.several("script", BUILDER_RUN_DATA=str(user.home / "mine")).status == 6
    other = user.home / "mine" / "builder-run" / "tmp" / "other"
    other.write_text("x")
    assert user("jq.run", "-n", "1", BUILDER_RUN_DATA=str(user.home / "mine")).status == 0
    assert other.exists()
    assert user.several("--builder-uninstall", BUILDER_RUN_DATA=str(user.home / "mine")).status == 0
    assert thesis.exists()


@pytest.mark.parametrize("limit", ["-s 200", "-f 100", "-n 20", "-c 0"])
def test_low_limits(user: User, limit: str) -> None:
    """It works, or says why not, and leaves nothing; and what programs inherit is the user's."""
    words = ["/bin/sh", "-c", f'ulimit -S {limit}; exec "$@"', "sh", str(user.made.several), "script"]
    done = subprocess.run(words, env={"HOME": str(user.home)}, capture_output=True, text=True, check=False)
    if limit == "-f 100":
        assert done.returncode == 121
        assert done.stderr.endswith(": File too large\n")
        assert not user.tree.exists()
        assert list((user.data / "tmp").iterdir()) == []
    else:
        assert (done.returncode, done.stderr) == (6, "")


def test_first_starts_beside_uninstalls(user: User) -> None:
    """Whoever is faster: a start works, or says that what it was to start was taken away."""

    def start(number: int) -> Done:
        return user("jq.run", *(("--builder-uninstall",) if number % 3 == 0 else ("-n", "1")))

    with ThreadPoolExecutor(6) as pool:
        ended = list(pool.map(start, range(60)))
    for number, done in enumerate(ended):
        if number % 3 == 0 or done.status == 0:
            assert (done.status, done.err) == (0, ""), number
        else:
            # Gone between unpacking and start, or under the program itself.
            assert "--builder-uninstall" in done.err or "/.launch/" in done.err or "/lib/" in done.err, done
    assert user("jq.run", "-n", "1").out == "1\n"
    assert user("jq.run", "--builder-verify").status == 0
    assert user("jq.run", "--builder-uninstall").status == 0
    assert not user.data.exists()


def test_which_program(user: User, made: Files, tmp_path: Path) -> None:
    """The name of the file, or of a link to it, or else the first argument."""
    listing = "  alias\n  crash\n  facts\n  reexec\n  script\n  static\n"
    for words in ((), ("nothing",)):
        done = user.several(*words)
        assert done.status == 2
        assert (
            done.err
            == f"several-1.run: which program? Its name is the first argument, or that of a link to this file:\n{listing}\n"
        )
    assert user.several("script").status == 6
    for name in ("script", "script.run", "script-1.2.run", "script_x86", "script.old"):
        (link := tmp_path / name).symlink_to(made.several)
        assert user(link, "facts").status == 6, name
    (link := tmp_path / "scripts").symlink_to(made.several)
    assert user(link).status == 2
    # A link in the artifact is a program too, and knows what it was called.
    done = user.several("alias")
    assert done.out.startswith(str(user.tree / "bin" / "alias") + " ")
    # Whatever the name says.
    assert user(tmp_path / "script", "--builder-run", "reexec").status == 5
    assert user(tmp_path / "script", "--builder-run", "facts", "--builder-help").status == 0
    done = user.several("--builder-run", "nothing")
    assert (done.status, done.err) == (2, f"several-1.run: it has no program nothing, but\n{listing}\n")
    assert user.several("--builder-run").status == 2
    assert user("jq.run", "-n", "1 + 1").out == "2\n"


def test_words_that_are_nearly_options_are_the_programs(user: User) -> None:
    done = user("jq.run", "--builder-hel")
    assert done.status == 2
    assert "jq --help for help" in done.err


def test_nobodys_home(user: User, made: Files) -> None:
    pipe = subprocess.PIPE
    done = subprocess.run([made.several, "script"], env={}, stdout=pipe, stderr=pipe, text=True, check=False)
    assert done.returncode == 121
    assert done.stderr == "several-1.run: where to unpack? HOME is not set: set it, or BUILDER_RUN_DATA to a folder for that\n"
    assert "BUILDER_RUN_DATA is to be the whole path" in user.several("script", BUILDER_RUN_DATA="here").err
    assert user.several("script", XDG_DATA_HOME=str(user.home / "x")).status == 6
    assert (user.home / "x" / "builder-run" / "artifacts" / made.name).is_dir()
    assert user.several("script", XDG_DATA_HOME="relative").status == 6
    user.is_whole()
    assert user.several("script", BUILDER_RUN_DATA=str(user.home / "deep" / "er")).status == 6
    assert (user.home / "deep" / "er" / "builder-run" / "artifacts").is_dir()


def test_on_all_kinds_of_hosts(host: Place, made: Files, tmp_path: Path) -> None:
    """No /proc, no shell, no libraries, and nobody's privileges."""
    place = host.but(binds=((made.folder, "/other"),), writable=((tmp_path, "/work"),), proc=False)
    for _ in range(2):
        done = place.run("/other/several-1.run", "facts", "a b", env={"HOME": "/work"}, expect=0)
        assert '"a b"' in done.out
        assert place.run("/other/jq.run", "-n", "6 * 7", env={"HOME": "/work"}, expect=0).out == "42\n"
    assert place.run("/other/several-1.run", "--builder-verify", env={"HOME": "/work"}, expect=0).err == ""
    compare(tmp_path / ".local" / "share" / "builder-run" / "artifacts" / made.name, made.tree, sealed=True)
    assert place.run("/other/several-1.run", "--builder-uninstall", env={"HOME": "/work"}, expect=0).all == ""
    assert place.run("/other/jq.run", "--builder-uninstall", env={"HOME": "/work"}, expect=0).all == ""
    assert not (tmp_path / ".local" / "share" / "builder-run").exists()


def test_without_arguments(places: Places, made: Files, tmp_path: Path) -> None:
    """Not even a name, which kernels since 5.18 replace by an empty one. Then nothing says which program is meant."""
    place = places.alone.but(binds=((made.folder, "/other"),), writable=((tmp_path, "/work"),))
    for file, status in (("jq.run", 0), ("several-1.run", 2)):
        assert place.run(f"/other/{file}", env={"HOME": "/work"}, how=("no-arguments",)).status == status


# -- first starts under all that may go wrong --


def test_eight_first_starts_at_once(user: User) -> None:
    started = [user.start(user.made.several, "script") for _ in range(6)] + [user.start("jq.run", "-n", "1") for _ in range(2)]
    ended = [(*process.communicate(), process.returncode) for process in started]
    assert [status for _, _, status in ended] == [6] * 6 + [0] * 2
    assert [err for _, err, _ in ended] == [""] * 8
    user.is_whole()


CALLS = (
    "mkdirat",
    "openat",
    "flock",
    "mmap",
    "fork",
    "clone",
    "pwrite64",
    "fchmod",
    "utimensat",
    "renameat",
    "linkat",
    "symlinkat",
    "syncfs",
    "unlinkat",
    "wait4",
    "execve",
)


@pytest.mark.parametrize("call", CALLS)
def test_a_first_start_that_is_killed(places: Places, made: Files, tmp_path: Path, call: str) -> None:
    """At each kind of system call, at the first ones and at later ones: the next start is as if there had been none."""
    place = places.alone.but(binds=((made.folder, "/other"),), writable=((tmp_path, "/work"),))
    killed = 0
    for count in (1, 2, 7, 30):
        words = ("-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={count}")
        done = place.run("strace", *words, "/other/several-1.run", "script", env={"HOME": "/work"})
        if done.status == 6:
            break
        killed += 1
        done = place.run("/other/several-1.run", "script", env={"HOME": "/work"})
        assert (done.status, done.all) == (6, ""), (call, count)
        data = tmp_path / ".local" / "share" / "builder-run"
        compare(data / "artifacts" / made.name, made.tree, sealed=True)
        # Killed at the very end, it leaves an empty folder, which the next unpacking takes away.
        assert not any(path.is_file() for path in (data / "tmp").rglob("*"))
        place.run("/other/several-1.run", "--builder-uninstall", env={"HOME": "/work"}, expect=0)
        assert not data.exists()
    assert killed or call in ("fork", "clone"), call  # one of both is what the CPU has


FAILING = {
    "fchmod": "EPERM",
    "mkdirat": "ENOSPC", "openat": "EMFILE", "pwrite64": "ENOSPC", "renameat": "EIO", "linkat": "EIO", "symlinkat": "EDQUOT",
    "syncfs": "EIO",
}  # fmt: skip


@pytest.mark.parametrize("call", FAILING)
def test_a_call_that_fails(places: Places, made: Files, tmp_path: Path, call: str) -> None:
    """A message, and nothing that is half there; later it works."""
    place = places.alone.but(binds=((made.folder, "/other"),), writable=((tmp_path, "/work"),))
    data = tmp_path / ".local" / "share" / "builder-run"
    failed = 0
    for count in (1, 2, 6, 20):
        words = (
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            f"trace={call}",
            "-e",
            f"inject={call}:error={FAILING[call]}:when={count}",
        )
        done = place.run("strace", *words, "/other/several-1.run", "script", env={"HOME": "/work"})
        if done.status == 121:
            failed += 1
            assert done.err.startswith("several-1.run: "), done.err
            assert done.err.count("several-1.run: ") == 1
            assert not (data / "artifacts" / made.name).exists()
            assert not (data / "tmp").exists() or list((data / "tmp").iterdir()) == []
        else:
            assert done.status == 6, done.all
        assert place.run("/other/several-1.run", "script", env={"HOME": "/work"}).status == 6
        place.run("/other/several-1.run", "--builder-uninstall", env={"HOME": "/work"}, expect=0)
    assert failed, call


def test_without_hard_links(places: Places, made: Files, tmp_path: Path) -> None:
    """Copies, then, and no blobs beside them."""
    place = places.alone.but(binds=((made.folder, "/other"),), writable=((tmp_path, "/work"),))
    words = ("-f", "-qq", "-o", "/dev/null", "-e", "trace=linkat", "-e", "inject=linkat:error=EPERM")
    place.run("strace", *words, "/other/several-1.run", "script", env={"HOME": "/work"}, expect=6)
    data = tmp_path / ".local" / "share" / "builder-run"
    compare(data / "artifacts" / made.name, made.tree, sealed=True)
    assert not any(path.is_file() for path in (data / "blobs").rglob("*"))
    assert place.run("/other/several-1.run", "reexec", env={"HOME": "/work"}).status == 5
    place.run("/other/several-1.run", "--builder-uninstall", env={"HOME": "/work"}, expect=0)
    assert not data.exists()


def test_one_process_is_all_there_may_be(places: Places, made: Files, tmp_path: Path) -> None:
    place = places.alone.but(binds=((made.folder, "/other"),), writable=((tmp_path, "/work"),))
    words = ("-f", "-qq", "-o", "/dev/null", "-e", "trace=fork,clone", "-e", "inject=fork,clone:error=EAGAIN")
    place.run("strace", *words, "/other/several-1.run", "script", env={"HOME": "/work"}, expect=6)
    compare(tmp_path / ".local" / "share" / "builder-run" / "artifacts" / made.name, made.tree, sealed=True)


# In a mount namespace of its own, with a small file system, or one that programs may not be started from.
MOUNTED = """
import ctypes, os, subprocess, sys
from pathlib import Path
from tests.store.test_crashes import mount_small
place, size, flags, *command = sys.argv[1:]
mount_small(Path(place), int(size))
if int(flags):
    assert ctypes.CDLL(None).mount(b"none", os.fsencode(place), b"tmpfs", 32 | int(flags), b"size=" + size.encode()) == 0
done = subprocess.run(command, env={"HOME": place})
print(done.returncode, sorted(str(path.relative_to(place)) for path in Path(place).rglob("*") if not path.is_dir()))
"""


def mounted(made: Files, tmp_path: Path, size: int, flags: int, *words: str) -> tuple[str, str]:
    code = [sys.executable, "-c", MOUNTED, str(tmp_path), str(size), str(flags), str(made.several), *words]
    done = subprocess.run(code, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def test_without_locks(places: Places, made: Files, tmp_path: Path) -> None:
    """Two first starts at once: whoever is faster gives the tree its name, and both start."""
    place = places.alone.but(binds=((made.folder, "/other"),), writable=((tmp_path, "/work"),))
    inject = ("-e", "trace=flock,syncfs", "-e", "inject=flock:error=ENOLCK", "-e", "inject=syncfs:delay_enter=400000")
    words = ("strace", "-f", "-qq", "-o", "/dev/null", *inject, "/other/several-1.run", "script")
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(lambda _: place.run(*words, env={"HOME": "/work"}), range(4)))
    assert [(done.status, done.all) for done in ended] == [(6, "")] * 4
    compare(tmp_path / ".local" / "share" / "builder-run" / "artifacts" / made.name, made.tree, sealed=True)


@pytest.mark.parametrize("size", [1 << 16, 1 << 20, 1 << 24])
def test_a_full_disk(made: Files, tmp_path: Path, size: int) -> None:
    out, err = mounted(made, tmp_path, size, 0, "script")
    assert out == "121 []\n"
    assert err.startswith(f"several-1.run: {tmp_path}/.local/share/builder-run")
    assert err.endswith(": No space left on device\n")


def test_where_programs_may_not_be_started(made: Files, tmp_path: Path) -> None:
    noexec = 8
    out, err = mounted(made, tmp_path, 1 << 28, noexec, "script")
    assert out == "121 []\n"
    data = f"{tmp_path}/.local/share/builder-run"
    said = "programs may not be started from its file system (noexec)\nBUILDER_RUN_DATA names another folder to unpack into.\n"
    assert err == f"several-1.run: {data}: {said}"


def test_a_home_that_may_not_be_written(host: Place, made: Files, tmp_path: Path) -> None:
    tmp_path.joinpath("mine").mkdir()
    place = host.but(binds=((made.folder, "/other"),), writable=((tmp_path, "/work"),), proc=False)
    done = place.run("/other/several-1.run", "script", env={"HOME": "/artifact"}, expect=121)
    assert done.err == "several-1.run: /artifact/.local/share/builder-run: Read-only file system" + HINT
    # As the message says.
    place.run("/other/several-1.run", "script", env={"HOME": "/artifact", "BUILDER_RUN_DATA": "/work/mine"}, expect=6)
    # It is enough that somebody could write once.
    place = host.but(binds=((made.folder, "/other"), (tmp_path, "/work")), proc=False)
    place.run("/other/several-1.run", "script", env={"BUILDER_RUN_DATA": "/work/mine"}, expect=6)


@pytest.mark.parametrize("where", ["record", "end", "middle"])
def test_a_file_that_was_cut_off(user: User, tmp_path: Path, where: str) -> None:
    whole = user.made.several.read_bytes()
    start = whole.rindex(b"builder run 1\n\0\0")
    size = {"record": start + 100, "end": len(whole) - 1, "middle": len(whole) - 2_000_000}[where]
    (cut := tmp_path / "several-1.run").write_bytes(whole[:size])
    cut.chmod(0o755)
    done = user(cut, "script")
    assert done.status == 3
    assert done.err.startswith("several-1.run: ")
    assert "fetch it again" in done.err
    assert not user.tree.exists()
    assert user.several("script").status == 6


def test_a_damaged_file(user: User, tmp_path: Path) -> None:
    """A flipped bit anywhere but in the extractor itself is found before anything has its name."""
    whole = user.made.several.read_bytes()
    start = whole.rindex(b"builder run 1\n\0\0")
    chosen = random.Random(5)
    places = [
        start,
        start + 17,
        start + 30,
        start + 60,
        *(chosen.randrange(start, len(whole)) for _ in range(30)),
        len(whole) - 1,
    ]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chosen.randrange(8)
        (file := tmp_path / "several-1.run").unlink(missing_ok=True)
        file.write_bytes(damaged)
        file.chmod(0o755)
        done = user(file, "--builder-run", "script")
        assert done.status == 3, (place - start, done)
        assert done.err == "several-1.run: this file is damaged: fetch it again\n"
        assert not user.tree.exists()
        assert user(file, "--builder-verify").status == 3


def test_a_damaged_blob_is_not_used(user: User) -> None:
    """Each kind of damage to what another file left: it is replaced, and the new tree is whole."""
    assert user("hello.run").status == 0
    blobs = [path for path in (user.data / "blobs").rglob("*") if path.is_file()]
    for number, blob in enumerate(sorted(blobs)):
        blob.chmod(0o644)
        data = bytearray(blob.read_bytes())
        if number % 4 == 0 and data:
            data[len(data) // 2] ^= 1
            blob.write_bytes(data)
            blob.chmod(0o555 if blob.suffix else 0o444)
        elif number % 4 == 1:
            blob.write_bytes(data[:-1])
            blob.chmod(0o555 if blob.suffix else 0o444)
        elif number % 4 == 2:
            blob.unlink()
            blob.symlink_to("/etc/passwd")
    assert user("jq.run", "-n", "3").out == "3\n"
    assert user("jq.run", "--builder-verify").status == 0
    assert user.several("script").status == 6
    user.is_whole()


def test_a_setuid_copy_does_not_start(user: User, tmp_path: Path) -> None:
    if os.getuid() != 0:
        # Only root can make a file of somebody else; without that there is nothing to refuse.
        assert user.several("script").status == 6
        return
    file = Path(shutil.copy(user.made.several, tmp_path / "several-1.run"))
    os.chown(file, 65534, 65534)
    file.chmod(0o4755)
    done = user(file, "script")
    assert (done.status, done.err) == (121, "several-1.run: it does not start with other rights than its caller's (setuid)\n")


# -- what else it can be told --


def test_help_and_list(user: User) -> None:
    done = user.several("--builder-help")
    assert done.status == 0
    for word in ("run", "install", "uninstall", "extract", "verify", "list"):
        assert f"several-1.run --builder-{word}" in done.out
    assert "several 1, in one file" in done.out
    assert f"artifact: {user.made.tree.digest}\n" in done.out
    lines = []
    for path, node in user.made.tree.entries:
        match node:
            case File(_, size, _):
                lines.append(f"{size} {path.decode()}")
            case Symlink(target):
                lines.append(f"- {path.decode()} -> {target.decode()}")
    assert user.several("--builder-list").out.splitlines() == lines
    assert not user.data.exists()


def test_extract(user: User) -> None:
    for name in ("out", str(user.home / "whole path"), "slash/"):
        assert user.several("--builder-extract", name).out == f"{name}\n"
        compare(user.home / name, user.made.tree, sealed=False)
        assert not any(path.stat().st_nlink > 1 for path in (user.home / name).rglob("*") if path.is_file())
    assert subprocess.run([user.home / "out" / "bin" / "script"], check=False).returncode == 6
    done = user.several("--builder-extract", "out")
    assert (done.status, done.err) == (121, "several-1.run: out is there already, and nothing is replaced\n")
    assert user.several("--builder-extract", "not/there").status == 121
    assert user.several("--builder-extract").status == 2
    assert not user.data.exists()
    assert sorted(path.name for path in user.home.iterdir()) == ["out", "slash", "whole path"]


def test_verify(user: User) -> None:
    assert user.several("--builder-verify").out == "several-1.run: as it was made\n"
    user.several("script")
    assert (
        user.several("--builder-verify").out == f"several-1.run: as it was made\n{user.tree}: what was unpacked is as it was\n"
    )
    (user.tree / "share").chmod(0o755)
    (user.tree / "share" / "nothing").unlink()
    (user.tree / "share" / "same").chmod(0o644)
    done = user.several("--builder-verify")
    assert done.status == 3
    # The same blob has both names.
    said = ["share/nothing: damaged", "share/same-again: damaged", "share/same: damaged"]
    assert sorted(done.err.splitlines()[:3]) == said
    assert f"{user.tree}: 3 damaged" in done.err
    assert user.several("--builder-uninstall").status == 0
    assert user.several("script").status == 6
    user.is_whole()


def test_install(made: Files, tmp_path: Path) -> None:
    # PATH has no way to write a folder with a colon.
    user = User(tmp_path / "home", made)
    user.home.mkdir()
    folder = user.home / ".local" / "bin"
    done = user.several("--builder-install", PATH="/usr/bin:" + str(folder))
    programs = ("alias", "crash", "facts", "reexec", "script", "static")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [str(folder / name) for name in programs]
    assert subprocess.run([folder / "script"], check=False).returncode == 6
    said = subprocess.run([folder / "reexec"], capture_output=True, text=True, check=False).stdout
    assert said.startswith(f"{folder}/reexec {user.tree}/bin/reexec\n")
    # Again, and not on PATH.
    done = user.several("--builder-install")
    assert (done.status, done.err) == (0, f"{folder} is not on PATH: add it, and they start by their names\n")
    assert user.several("--builder-uninstall").all == ""
    assert list(folder.iterdir()) == []
    assert not user.data.exists()


def test_install_replaces_nothing_of_others(user: User) -> None:
    (folder := user.home / "bin").mkdir()
    (folder / "script").write_text("mine")
    done = user.several("--builder-install", str(folder))
    assert done.status == 121
    assert f"{folder}/script is something else's" in done.err
    assert [path.name for path in folder.iterdir()] == ["script"]
    (folder / "script").unlink()
    (folder / "script").symlink_to("/nowhere")
    assert user.several("--builder-install", str(folder)).status == 121
    (folder / "script").unlink()
    assert user.several("--builder-install", str(folder)).status == 0
    # A link that was changed since is somebody's own.
    (folder / "facts").unlink()
    (folder / "facts").symlink_to("/nowhere")
    assert user.several("--builder-uninstall", str(folder)).status == 0
    assert [path.name for path in folder.iterdir()] == ["facts"]


def test_links_of_other_packages_and_other_versions(user: User) -> None:
    (folder := user.home / "bin").mkdir()
    assert user("jq.run", "--builder-install", str(folder) + "/").out == f"{folder}/jq\n"
    target = os.readlink(folder / "jq")
    for name, status in ((f"{'a' * 32}-jq-1.0", 0), (f"{'a' * 32}-jq-tools-1.0", 121), (f"{'a' * 32}-j-1.0", 121)):
        (folder / "jq").unlink()
        (folder / "jq").symlink_to(user.data / "artifacts" / name / "bin" / "jq")
        assert user("jq.run", "--builder-install", str(folder)).status == status, name
    assert "something else's" in user("jq.run", "--builder-install", str(folder)).err
    (folder / "jq").unlink()
    assert user("jq.run", "--builder-install", str(folder)).status == 0
    assert os.readlink(folder / "jq") == target


def test_words_that_are_wrong(user: User) -> None:
    for words in (("list", "x"), ("help", "x"), ("verify", "x"), ("extract", "a", "b"), ("install", "a", "b"), ("extract", "")):
        done = user.several(f"--builder-{words[0]}", *words[1:])
        assert done.status == 2, words
    assert list(user.home.iterdir()) == []
    with open("/dev/full", "w") as full:
        command = [str(user.made.several), "--builder-list"]
        listed = subprocess.run(command, env={}, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (listed.returncode, listed.stderr) == (121, "several-1.run: standard output: No space left on device\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("words", [("--builder-extract", "out"), ("script",)])
def test_a_signal_in_the_middle(places: Places, made: Files, tmp_path: Path, number: int, words: tuple[str, ...]) -> None:
    """It ends by the signal, and nothing half is left."""
    place = places.alone.but(binds=((made.folder, "/other"),), writable=((tmp_path, "/work"),))
    name = signal.Signals(number).name.removeprefix("SIG")
    inject = ("-e", "trace=symlinkat", "-e", f"inject=symlinkat:signal={name}:when=1")
    run = ("strace", "-f", "-qq", "-o", "/dev/null", *inject, "/other/several-1.run", *words)
    assert place.run(*run, env={"HOME": "/work"}, directory="/work").status == 128 + number
    data = tmp_path / ".local" / "share" / "builder-run"
    assert not (tmp_path / "out").exists()
    assert not any((data / name).is_dir() and list((data / name).iterdir()) for name in ("tmp", "artifacts"))
    assert [path.name for path in tmp_path.iterdir()] in ([".local"], [])


def test_what_two_have_in_common_is_there_once(user: User) -> None:
    assert user("jq.run", "-n", "1").out == "1\n"
    before = {path: path.stat().st_ino for path in (user.data / "blobs").rglob("*") if path.is_file()}
    assert user("hello.run").status == 0
    shared = [path for path in before if path.stat().st_nlink == 3]
    assert any(path.stat().st_size > 1_000_000 for path in shared), "libc"
    assert {path: path.stat().st_ino for path in before} == before
    assert user("jq.run", "--builder-uninstall").status == 0
    assert user("hello.run", "--builder-verify").out.count("\n") == 2
    assert all(path.exists() == (path in shared) for path in before)
    assert user("hello.run", "--builder-uninstall").status == 0
    assert not user.data.exists()


def test_strip_takes_nothing_away(places: Places, user: User, made: Files, tmp_path: Path) -> None:
    """There are no sections: so tools refuse it, or leave what they do not know."""
    shutil.copy(made.several, tmp_path / "several-1.run")
    place = places.native.but(writable=((tmp_path, "/work"),))
    for command in ("strip", "patchelf --remove-rpath"):
        place.run("/bin/sh", "-c", f"{command} /work/several-1.run")
        assert user(tmp_path / "several-1.run", "--builder-verify").status == 0, command


def test_the_same_bytes(builder: Builder, made: Files, tmp_path: Path) -> None:
    """From a copy of the artifact in another store, on one core."""
    other = Builder(tmp_path / "store", environment(tmp_path / "store"))
    several, *_ = builder.build(HERE / "several.py")
    builder("push", tmp_path / "remote", several["digest"], "--no-sign")
    other("pull", tmp_path / "remote", several["digest"], "--no-link")
    one = sorted(os.sched_getaffinity(0))[:1]
    command = [sys.executable, "-m", "builder", "export", "several", "-o", str(tmp_path / "again.run")]
    subprocess.run(
        command,
        env=other.environment,
        check=True,
        capture_output=True,
        cwd=tmp_path,
        preexec_fn=lambda: os.sched_setaffinity(0, one),
    )
    assert (tmp_path / "again.run").read_bytes() == made.several.read_bytes()
