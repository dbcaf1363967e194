"""A program in one file, beside others that make one of it: ``python -m tests.bench.onefile ARTIFACT PEERS [ROUNDS]``.

ARTIFACT is an artifact in the store that BUILDER_STORE names, such as Crystal's, PEERS the artifact of tests/bench/peers.py.
Beside it Debian's git is packed in all ways. exodus and staticx are taken from PATH; what is not there has no row:

    python3 -m venv /tmp/others && /tmp/others/bin/pip install exodus-bundler==2.0.4 staticx==0.14.2 setuptools
    PATH=/tmp/others/bin:$PATH python -m tests.bench.onefile ARTIFACT PEERS

They take programs that run here by themselves, and not launchers: so git with this machine's interpreter, whose C library has
to be the one of Debian 12, and its own libraries. The image of squashfs is mounted with FUSE, as an AppImage mounts itself, and
that needs root here: its start is mount, program, unmount.

Printed are, for each: the size, and how long making it takes (once); a first start, with an empty home and the file in the
page cache, beside what unpacking the archive takes, and how much time of processors each took; and a later start. Wanted:
Crystal's file has at most 55 MB, a later start is at most 1 ms over that of the launcher which the first one unpacked, and a
first start takes what decompression and the disk do, on all cores. Last, what the system says of a git that runs.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.commands import Context
from store import resolve
from store.digest import Digest
from store.store import Store
from tests.bench import start
from tests.bench.timing import compare, seconds
from tests.conftest import ROOT, Builder, environment

STARTS = 50


@dataclass(frozen=True, slots=True)
class Subject:
    """A program to pack: the artifact whose main program it is, and where it runs without being a launcher, if it does."""

    name: str
    artifact: Path
    native: Path | None


@dataclass(frozen=True, slots=True)
class Packed:
    """One program in each way, and a folder to work in."""

    place: Path
    run: Path
    archive: Path
    image: Path
    staticx: Path | None
    exodus: Path | None


def quietly(*words: str | Path, **variables: str) -> None:
    """Run a command."""
    quiet = subprocess.DEVNULL
    subprocess.run(words, env={**os.environ, **variables}, check=True, stdin=quiet, stdout=quiet, stderr=quiet)


def make(subject: Subject, place: Path, builder: Builder, peers: Path) -> Packed:
    """Pack it in each way, and print what that takes and gives."""
    tree, image = place / "tree", place / f"{subject.name}.squashfs"
    run, archive = place / f"{subject.name}.run", place / f"{subject.name}.tar.zst"
    builder("export", subject.artifact, "--format", "dir", "-o", tree)
    ways: dict[str, tuple[Path, Callable[[], object]]] = {
        "one file": (run, lambda: builder("export", subject.artifact, "-o", run)),
        "tar.zst": (archive, lambda: builder("export", subject.artifact, "-o", archive)),
        "squashfs": (image, lambda: quietly(peers / "mksquashfs", tree, image, "-comp", "zstd", "-Xcompression-level", "19")),
    }
    staticx = exodus = None
    if subject.native:
        native, other, tarball = subject.native, place / f"{subject.name}.staticx", place / f"{subject.name}.tgz"
        if found := shutil.which("staticx"):
            staticx, command = other, found
            ways["staticx"] = (other, lambda: quietly(command, native, other))
        if bundler := shutil.which("exodus"):
            exodus = place / "exodus" / "bin" / native.name
            ways["exodus"] = (tarball, lambda: quietly(bundler, "--tarball", "-o", tarball, native))
    for way, (made, work) in ways.items():
        taken = seconds(work)
        print(f"  {way:10} {made.stat().st_size / 1e6:8.2f} MB, made in {taken:6.2f} s")
    if exodus:
        shutil.unpack_archive(tarball, place, "gztar", filter="fully_trusted")
    return Packed(place, run, archive, image, staticx, exodus)


def first_starts(subject: Subject, packed: Packed, peers: Path, rounds: int) -> None:
    """Compare first starts with unpacking the archive, as it is and with a wait for the disk."""
    processors: dict[str, list[float]] = {}
    quoted = f"{peers}/zstd -dc {packed.archive}"

    def timed(way: str, command: Callable[[Path], list[str]]) -> Callable[[], float]:
        def once() -> float:
            with tempfile.TemporaryDirectory(dir=packed.place) as home:
                # What others wrote is not waited for, as far as can be.
                os.sync()
                before = os.times()
                taken = seconds(lambda: quietly(*command(Path(home)), HOME=home, XDG_DATA_HOME=""))
                after = os.times()
                used = after.children_user + after.children_system - before.children_user - before.children_system
                processors.setdefault(way, []).append(used)
                subprocess.run(["chmod", "-R", "u+w", home], check=True)
                return taken

        return once

    def shell(words: str) -> Callable[[Path], list[str]]:
        return lambda home: ["/bin/sh", "-c", words.format(home=home)]

    commands: dict[str, Callable[[Path], list[str]]] = {
        "one file": lambda home: [str(packed.run), "--version"],
        "one file, again": lambda home: [str(packed.run), "--version"],
        "tar.zst: decompressed": shell(quoted + " > /dev/null"),
        "tar.zst: unpacked": shell(f"{quoted} | {peers}/tar -xf - -C {{home}}"),
        "tar.zst: and on the disk": shell(f"{quoted} | {peers}/tar -xf - -C {{home}} && sync -f {{home}}"),
        "squashfs: unpacked": shell(f"{peers}/unsquashfs -q -n -d {{home}}/tree {packed.image}"),
    }
    medians = compare(rounds, {f"  {way}": timed(way, command) for way, command in commands.items()})
    for way in commands:
        used = statistics.median(processors[way])
        taken = medians[f"  {way}"]
        print(f"  {way:24}  {used:10.3f} s of processors, {used / taken:.2f} at a time")


def later_starts(subject: Subject, packed: Packed, peers: Path, driver: Path) -> None:
    """Compare later starts with that of the launcher which was unpacked."""
    home = packed.place / "home"
    home.mkdir()
    variables = {"HOME": str(home), "XDG_DATA_HOME": ""}
    quietly(packed.run, "--version", **variables)
    (launcher,) = (home / ".local/share/builder-run/artifacts").glob(f"*/bin/{subject.name}")
    point = packed.place / "point"
    point.mkdir()
    commands = {
        "launcher": [str(launcher)],
        "again": [str(launcher)],
        "one file": [str(packed.run)],
        "squashfs": [
            "/bin/sh",
            "-c",
            f"{peers}/squashfuse_ll {packed.image} {point} && {point}/bin/{subject.name} --version; umount {point}",
        ],
    }
    commands |= {way: [str(path)] for way, path in (("staticx", packed.staticx), ("exodus", packed.exodus)) if path}
    words = ["\1".join([*command, "--version"]) for command in commands.values()]
    done = subprocess.run(
        [driver, str(STARTS), *words], env={**os.environ, **variables}, check=True, stdout=subprocess.PIPE, text=True
    )
    rows = [list(map(int, line.split())) for line in done.stdout.splitlines()]
    columns = dict(zip(commands, zip(*rows, strict=True), strict=True))
    for way, taken in columns.items():
        more = statistics.median(a - b for a, b in zip(taken, columns["launcher"], strict=True))
        ratio = statistics.median(taken) / statistics.median(columns["launcher"])
        print(f"  {way:10} {statistics.median(taken) / 1e6:9.3f} ms  ratio {ratio:7.2f}, {more / 1e6:+8.3f} ms")


def looked_at(packed: Packed) -> None:
    """Print which file the system says is run, while git waits for its input, and how many processes there are for that."""
    ways: Mapping[str, Path | None] = {"one file": packed.run, "staticx": packed.staticx, "exodus": packed.exodus}
    for way, path in ways.items():
        if path is None:
            print(f"  {way:10} -")
            continue
        command = [str(path), "hash-object", "--stdin"]
        quiet = subprocess.DEVNULL
        variables = {**os.environ, "HOME": str(packed.place / "home"), "XDG_DATA_HOME": ""}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, env=variables) as process:
            time.sleep(2)
            pid, count = process.pid, 1
            while below := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                pid, count = int(below[0]), count + 1
            runs = os.readlink(f"/proc/{pid}/exe")
            process.communicate(b"")
        needs = ", needs a shell" if path.read_bytes()[:2] == b"#!" else ""
        what = "the program" if runs.endswith(("/git", "/program")) else runs
        print(f"  {way:10} {what}, {count} process{'es'[: 2 * (count > 1)]}{needs}")


def main() -> None:
    """Measure and print."""
    peers = Path(sys.argv[2]).resolve() / "bin"
    rounds = int(sys.argv[3]) if sys.argv[3:] else 5
    store_path = Context.of(os.environ, None).store_path
    store = Store(store_path)
    builder = Builder(store_path, environment(store_path))
    named = resolve.resolve(store, str(Path(sys.argv[1]).resolve()))
    (git,) = builder.build(ROOT / "tests/bench/git.py")
    (root,) = builder.build(ROOT / "tests/bench/programs.py")
    with tempfile.TemporaryDirectory(prefix="builder-bench-") as temporary:
        top = Path(temporary)
        driver = top / "start"
        start.compile_hosted((ROOT / "tests/bench/start.c").read_text(), driver, "x86_64-linux-musl")
        start.artifact(store, store.read_manifest(Digest.parse(root["digest"])), top / "native")
        # Not by its name, which exodus makes git-x: git would look for a command x. With this machine's interpreter, for
        # staticx makes nothing that starts of a program with another one.
        folder, native = top / "native", top / "program"
        words = ["--force-rpath", "--set-rpath", str(folder / start.LAUNCH / "lib"), "--output", str(native)]
        quietly(folder / "bin/patchelf", *words, folder / "plain/bin/git")
        for subject in (Subject(named.folder.name, named.path, None), Subject("git", Path(git["path"]), native)):
            place = top / f"{subject.name}.packed"
            place.mkdir()
            print(f"{subject.name}:")
            packed = make(subject, place, builder, peers)
            print(" first start")
            first_starts(subject, packed, peers, rounds)
            print(" later start")
            later_starts(subject, packed, peers, driver)
        print(" what runs")
        looked_at(packed)


if __name__ == "__main__":
    main()
