"""Programs and libraries compiled for the tests, and a store that is only a dictionary."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from launcher import bootstrap, pack
from launcher.settings import Settings
from store.digest import Digest
from store.manifest import Directory, File, Manifest, Node, Symlink

HERE = os.path.dirname(__file__)
LINUX, BARE = "x86_64-linux-gnu", "x86_64-freestanding-none"
PROGRAM = "void _start(void) {{ {calls} for (;;); }}"


@functools.cache
def compile_c(source: str, *flags: str, target: str = LINUX, libraries: tuple[tuple[str, bytes], ...] = ()) -> bytes:
    """The ELF file that the pinned compiler makes of ``source``. ``libraries`` are (file name, bytes) to link with."""
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, ZIG_GLOBAL_CACHE_DIR=folder, ZIG_LOCAL_CACHE_DIR=folder)
        Path(folder, "source.c").write_text(source)
        for name, data in libraries:
            Path(folder, name).write_bytes(data)
        names = [name for name, _ in libraries]
        plain = ("-nostdlib", "-fno-builtin", "-fno-stack-protector", "-fno-sanitize=all", "-o", "output", "source.c")
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *plain, *flags, *names]
        subprocess.run(command, check=True, cwd=folder, env=environment)
        return Path(folder, "output").read_bytes()


def library(soname: str, *flags: str, needs: tuple[tuple[str, bytes], ...] = (), calls: str = "", name: str = "f") -> bytes:
    """A shared library. It defines the function ``name``, which has the statements ``calls``."""
    declared = "".join(f"void {word}(void);" for word in calls.replace("()", "").split(";") if word.strip())
    source = f"{declared} void {name}(void) {{ {calls} }}"
    own = (f"-Wl,-soname,{soname}",) if soname else ()
    return compile_c(source, "-shared", *own, *flags, libraries=needs)


def program(*flags: str, needs: tuple[tuple[str, bytes], ...] = (), calls: str = "", interpreter: str = "ld.so") -> bytes:
    """A dynamic program that calls functions of libraries. The tests never get as far as running its own code."""
    declared = "".join(f"void {word}(void);" for word in calls.replace("()", "").split(";") if word.strip())
    pie = () if "-no-pie" in flags else ("-fPIE", "-pie")
    wired = f"-Wl,--dynamic-linker={interpreter}"
    return compile_c(declared + PROGRAM.format(calls=calls), *pie, wired, *flags, libraries=needs)


@functools.cache
def probe(*flags: str) -> bytes:
    """A static program, and an interpreter: prints what it was started with, one ``name=value`` a line; ends with 7."""
    return compile_c(Path(HERE, "probe.c").read_text(), "-Os", "-fPIE", "-pie", *flags, target=BARE)


GLIBC = "/lib64/ld-linux-x86-64.so.2"


class Blobs:
    """Bytes by digest, and which of them were asked for."""

    def __init__(self) -> None:
        self.data: dict[Digest, bytes] = {}
        self.asked: list[Digest] = []

    def add(self, data: bytes, executable: bool) -> File:
        digest = Digest.of(data)
        self.data[digest] = data
        return File(digest, len(data), executable)

    def read(self, digest: Digest) -> bytes:
        self.asked.append(digest)
        return self.data[digest]

    def tree(self, entries: dict[str, bytes | Node], *, executable: bool = True) -> Manifest:
        """A manifest of paths to file contents or nodes."""
        pairs: Iterable[tuple[bytes, Node]] = (
            (path.encode(), self.add(value, executable) if isinstance(value, bytes) else value)
            for path, value in entries.items()
        )
        return Manifest.with_parents(pairs)

    def pack(self, output: Manifest, root: Manifest, settings: Settings | None = None) -> Manifest:
        return pack.pack(output, root, settings or Settings(), bootstrap=bootstrap.load(), read=self.read, add=self.add)

    def check_out(self, manifest: Manifest, folder: Path) -> None:
        folder.mkdir(parents=True)
        for path, node in manifest.entries:
            place = folder / os.fsdecode(path)
            match node:
                case Directory():
                    place.mkdir()
                case Symlink(target):
                    place.symlink_to(os.fsdecode(target))
                case File():
                    place.write_bytes(self.data[node.blob])
                    place.chmod(0o555 if node.executable else 0o444)


def start(
    path: Path, *arguments: str, name: str | None = None, env: dict[str, str] | None = None, root: Path | None = None
) -> tuple[int, list[str]]:
    """Run a program: its exit status and the lines that it printed, errors among them. ``root`` is a folder to be its `/`."""

    def enter() -> None:
        if root is not None:
            if os.geteuid() != 0 and ctypes.CDLL(None).unshare(0x10000000) != 0:  # CLONE_NEWUSER
                os._exit(99)
            os.chroot(root)
            os.chdir("/")

    done = subprocess.run(
        [name if name is not None else str(path), *arguments],
        executable=path,
        env=env or {},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="surrogateescape",
        preexec_fn=enter,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def values(lines: list[str], name: str) -> list[str]:
    return [line.partition("=")[2] for line in lines if line.startswith(name + "=")]
