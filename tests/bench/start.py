"""Starting launchers, against the kernel's own start of the same files: ``python -m tests.bench.start [ROUNDS] [PROGRAM...]``.

Wanted: at most 1.015 of it on ``true`` and 1.01 elsewhere. *kernel* is the same program with the absolute path of the same
interpreter as its PT_INTERP, and of the same directory of libraries as its run path. *again* is a second copy of that, whose
ratio says what the machine's noise is. Beside them the ways of others: a wrapper of C or of shell that sets LD_LIBRARY_PATH,
bubblewrap, and exodus (where its package is installed in this Python).

The programs are Debian's, from ``tests/bench/programs.py``, in the store that BUILDER_STORE names.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from builder import tools
from builder.commands import Context
from launcher import bootstrap, pack
from launcher.names import Namespace
from launcher.settings import Settings
from store import files
from store.digest import Digest
from store.manifest import File, Manifest, Node
from store.store import Store
from store.trees import check_out
from tests.conftest import ROOT, Builder, environment

PROGRAMS = {
    "true": (),
    "ssh": ("-V",),
    "git": ("--version",),
    "gdb": ("--version",),
    "ffmpeg": ("-version",),
}
HELPERS = ("bash", "dash", "patchelf", "strace")
LAUNCH = ".launch/x86_64-linux-gnu"
# Dynamic, as those are that package managers compile; started by the kernel like the programs themselves.
WRAPPER = """
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {{ setenv("LD_LIBRARY_PATH", "{libraries}", 1); execv("{program}", argv); return 127; }}
"""


def compile_hosted(source: str, target: Path, platform: str) -> None:
    """The program that the pinned compiler makes of ``source`` with the C library of ``platform``."""
    command = [sys.executable, "-m", "ziglang", "cc", "-target", platform, "-O2", "-x", "c", "-o", str(target), "-"]
    subprocess.run(command, input=source, text=True, check=True)


def artifact(store: Store, root: Manifest, folder: Path) -> None:
    """Pack the programs, and check the artifact out."""
    names = Namespace(root, Manifest([]))
    with store.batch() as batch:
        entries: list[tuple[bytes, Node]] = []
        for name in (*PROGRAMS, *HELPERS):
            found = names.file(b"usr/bin/" + name.encode())
            assert found is not None, name
            entries.append((b"bin/" + name.encode(), found[1]))

        def add(data: bytes, executable: bool) -> File:
            return batch.add_bytes(data, executable=executable)

        output = Manifest.with_parents(entries)
        made = pack.pack(output, root, Settings(), bootstrap=bootstrap.load(), read=store.read_blob, add=add)
        batch.commit()
    folder.mkdir()
    with files.directory(folder) as fd:
        check_out(store, made, fd, copy=True)
    plain = folder / "plain"
    plain.mkdir()
    with files.directory(plain) as fd:
        check_out(store, output, fd, copy=True)


def started_by_the_kernel(folder: Path, source: Path, target: Path, *, libraries: bool) -> Path:
    """A copy of the program that names the artifact's interpreter, and its libraries, by absolute paths."""
    shutil.copyfile(source, target)
    target.chmod(0o755)
    words = ["--set-interpreter", str(folder / LAUNCH / "ld.so")]
    if libraries:
        words += ["--force-rpath", "--set-rpath", str(folder / LAUNCH / "lib")]
    subprocess.run([folder / "bin" / "patchelf", *words, target], check=True)
    return target


def ways(folder: Path, name: str, words: tuple[str, ...], store: Store) -> dict[str, list[str]]:
    """The commands that start one program, the kernel's own way first."""
    place = folder / "ways" / name
    place.mkdir(parents=True)
    plain, libraries = folder / "plain" / "bin" / name, folder / LAUNCH / "lib"
    kernel = started_by_the_kernel(folder, plain, place / "kernel", libraries=True)
    again = started_by_the_kernel(folder, plain, place / "again", libraries=True)
    bare = started_by_the_kernel(folder, plain, place / "bare", libraries=False)
    shutil.copyfile(folder / "bin" / name, folder / "bin" / f"{name}.launcher")
    (folder / "bin" / f"{name}.launcher").chmod(0o755)
    compiled = place / "compiled"
    source = WRAPPER.format(libraries=libraries, program=bare)
    compile_hosted(source, place / "wrapper", "x86_64-linux-gnu.2.36")
    started_by_the_kernel(folder, place / "wrapper", compiled, libraries=True)
    dash = started_by_the_kernel(folder, folder / "plain" / "bin" / "dash", place / "dash", libraries=True)
    shell = place / "shell"
    shell.write_text(f'#!{dash}\nLD_LIBRARY_PATH={libraries} exec {bare} "$@"\n')
    shell.chmod(0o755)
    bwrap = next((store.root / "artifacts").glob(f"*-bubblewrap-{tools.SYSTEM.version}"))
    found = {
        "kernel": [str(kernel)],
        "again": [str(again)],
        "launcher": [str(folder / "bin" / f"{name}.launcher")],
        "wrapper in C": [str(compiled)],
        "wrapper in shell": [str(shell)],
        "bubblewrap": [str(bwrap / "bin" / "bwrap"), "--dev-bind", "/", "/", str(kernel)],
    }
    if importlib.util.find_spec("exodus_bundler"):
        found["exodus"] = [str(exodus(folder, kernel, place))]
    return {way: [*command, *words] for way, command in found.items()}


def exodus(folder: Path, program: Path, place: Path) -> Path:
    """The program as exodus bundles it."""
    bundle = place / "bundle.tgz"
    command = [
        sys.executable,
        "-c",
        "from exodus_bundler.cli import main; main()",
        "--tarball",
        "-o",
        str(bundle),
        str(program),
    ]
    subprocess.run(command, check=True, capture_output=True)
    shutil.unpack_archive(bundle, place, "gztar", filter="fully_trusted")
    return place / "exodus" / "bin" / program.name


def calls(folder: Path, command: list[str]) -> tuple[int, int, int]:
    """How many system calls a start makes; how many of them open a file; and how many libraries are opened."""
    trace = folder / "trace"
    subprocess.run([folder / "bin" / "strace", "-o", trace, *command], check=True, capture_output=True)
    lines = [line for line in trace.read_text(errors="replace").splitlines() if re.match(r"\w+\(", line)]
    opened = [line for line in lines if line.startswith("openat(")]
    return len(lines), len(opened), sum(".so" in line for line in opened)


def main() -> None:
    """Measure and print."""
    words = sys.argv[1:]
    rounds = int(words.pop(0)) if words and words[0].isdigit() else 500
    store_path = Context.of(os.environ, None).store_path
    command = Builder(store_path, environment(store_path))
    (built,) = command.build(ROOT / "tests" / "bench" / "programs.py")
    store = Store(store_path)
    tree = store.read_manifest(Digest.parse(built["digest"]))
    with tempfile.TemporaryDirectory(prefix="builder-bench-") as temporary:
        folder = Path(temporary) / "artifact"
        artifact(store, tree, folder)
        driver = Path(temporary) / "start"
        compile_hosted((ROOT / "tests" / "bench" / "start.c").read_text(), driver, "x86_64-linux-musl")
        for name in words or PROGRAMS:
            commands = ways(folder, name, PROGRAMS[name], store)
            done = subprocess.run(
                [driver, str(rounds), *("\1".join(way) for way in commands.values())],
                check=True,
                capture_output=True,
                text=True,
            )
            rows = [list(map(int, line.split())) for line in done.stdout.splitlines()]
            columns = dict(zip(commands, zip(*rows, strict=True), strict=True))
            size = len((folder / "bin" / name).read_bytes()) - len((folder / "plain" / "bin" / name).read_bytes())
            print(f"{name}: {size} bytes added")
            for way, taken in columns.items():
                pairs = statistics.median(a / b for a, b in zip(taken, columns["kernel"], strict=True))
                medians = statistics.median(taken) / statistics.median(columns["kernel"])
                row = f"  {way:17} {statistics.median(taken) / 1000:9.1f} us"
                row += f"  ratio of medians {medians:6.3f}, of pairs {pairs:6.3f}"
                if way in ("kernel", "launcher"):
                    made, opened, libraries = calls(folder, commands[way])
                    row += f"  {made} system calls, {opened} opens, {libraries} of libraries"
                print(row)


if __name__ == "__main__":
    main()
