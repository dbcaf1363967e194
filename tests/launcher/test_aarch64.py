"""Launchers for aarch64: Debian's arm64 programs, put together on this machine, and run by qemu."""

from __future__ import annotations

import itertools
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Builder, environment
from tests.launcher.programs import start

DEBIAN = ROOT / "tests" / "debian"


@pytest.fixture(scope="module")
def built(shared_store: Path) -> tuple[Path, Path]:
    """The artifact for aarch64, and the one with qemu."""
    command = Builder(shared_store, environment(shared_store))
    arm64, qemu = command.build(DEBIAN / "arm64.py", DEBIAN / "qemu.py")
    return Path(arm64["path"]), Path(qemu["path"])


@pytest.fixture(scope="module", params=["plain", "a b:c"])
def arm64(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A copy of the artifact in a folder of this name. With a colon in it, the interpreter asks /proc for the folder."""
    folder = tmp_path_factory.mktemp("arm64") / request.param
    shutil.copytree(built[0], folder, symlinks=True)
    yield folder
    subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)


def run(built: tuple[Path, Path], program: Path, *words: str, **variables: str) -> tuple[int, str, str]:
    command: list[str | Path] = [built[1] / "bin" / "qemu-aarch64", "-0", "its-name", program, *words]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_programs_run(built: tuple[Path, Path], arm64: Path) -> None:
    programs = arm64 / "bin"
    assert run(built, programs / "true") == (0, "", "")
    assert run(built, programs / "ls", str(arm64)) == (0, "bin\npython\n", "")
    assert run(built, programs / "bash", "-c", 'echo "$0 $1"; exit 5', "zero", "one two") == (5, "zero one two\n", "")
    assert run(built, programs / "bash", "-c", "echo $BASH_VERSION $HOSTTYPE")[1].endswith("aarch64\n")
    assert run(built, programs / "env", B="2", A="1") == (0, "A=1\nB=2\n", "")  # qemu sorts them
    assert run(built, programs / "readlink", "/proc/self/exe") == (0, f"{programs}/readlink\n", "")
    assert run(built, programs / "git", "--version")[1].startswith("git version 2.39")
    assert run(built, programs / "perl", "-e", "print 6 * 7, qq(\\n)") == (0, "42\n", "")
    assert run(built, programs / "sed", "--version")[1].startswith("its-name (GNU sed)")


def test_variables_that_the_user_has_not_set(built: tuple[Path, Path], arm64: Path) -> None:
    program = "import os; print(os.environ['PYTHONPATH'], os.uname().machine)"
    found = run(built, arm64 / "bin" / "python3.11", "-c", program)
    assert found == (0, f"{arm64}/python aarch64\n", "")


def test_nothing_of_this_machine_is_opened(built: tuple[Path, Path], arm64: Path) -> None:
    command: list[str | Path] = [built[1] / "bin" / "qemu-aarch64", "-strace", arm64 / "bin" / "true"]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=True)
    opened = [line.split('"')[1] for line in done.stderr.splitlines() if " openat(" in line]
    assert len(opened) == 2  # the interpreter and libc: one open each
    assert all(Path(path).resolve().is_relative_to(arm64) for path in opened), opened


def test_a_script(built: tuple[Path, Path], arm64: Path) -> None:
    """This machine's kernel starts no program for another, so what the launcher asks it for is looked at."""
    command: list[str | Path] = [built[1] / "bin" / "qemu-aarch64", "-strace", arm64 / "bin" / "script", "one", "two words"]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 121
    shell, script = f"{arm64}/.launch/aarch64-linux-gnu/bin/sh", f"{arm64}/.launch/script/bin/script/bin/script"
    (line,) = [line for line in done.stderr.splitlines() if " execve(" in line]
    assert f'execve("{shell}",' in line
    assert f'{{"{shell}","-e","{script}","one","two words"' in line.replace(", ", ",").replace("NULL", "")
    assert run(built, arm64 / "bin" / "script")[2] == f"launcher: {shell}: cannot be started, error 8\n"
    assert run(built, Path(shell), "-e", script, "one", "two words") == (0, "script: one two words\n", "")


def test_pages_of_64_kilobytes(built: tuple[Path, Path]) -> None:
    """Whatever page size a kernel has, the parts of a launcher do not share one that differ in protection."""
    for name in ("true", "git", "python3.11", "script"):
        data = (built[0] / "bin" / name).read_bytes()
        offset, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
        segments = [struct.unpack_from("<IIQQQQQQ", data, offset + 56 * n) for n in range(count)]
        loads = [segment for segment in segments if segment[0] == 1]
        for _, _, place, address, _, _, _, align in loads:
            assert align == 0x10000 and (address - place) % 0x10000 == 0, name
        for one, other in itertools.pairwise(loads):
            assert other[3] // 0x10000 > (one[3] + one[6] - 1) // 0x10000, name


def test_readelf(built: tuple[Path, Path]) -> None:
    for name in ("true", "git", "python3.11"):
        done = subprocess.run(
            [built[1] / "bin" / "readelf", "-W", "-h", "-l", "-S", "-d", "-s", built[0] / "bin" / name],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "AArch64" in done.stdout
        assert done.stderr == ""


def test_qemu_runs_launchers_of_this_machine_too(built: tuple[Path, Path]) -> None:
    """As another kernel would: qemu-x86_64 is a launcher itself."""
    qemu = built[1] / "bin" / "qemu-x86_64"
    status, lines = start(qemu, str(built[1] / "bin" / "readelf"), "--version")
    assert (status, lines[0][:11]) == (0, "GNU readelf")


def test_without_proc(built: tuple[Path, Path], tmp_path: Path) -> None:
    """On a root that has nothing but the two artifacts."""
    for source, name in zip(built, ("arm64", "qemu"), strict=True):
        shutil.copytree(source, tmp_path / name, symlinks=True)
    status, lines = start(Path("/qemu/bin/qemu-aarch64"), "/arm64/bin/ls", "/", root=tmp_path)
    assert (status, lines) == (0, ["arm64", "qemu"])


def test_a_program_for_another_machine_is_refused(shared_store: Path, tmp_path: Path) -> None:
    """Each is named, with what can be done: one of this machine in an artifact for aarch64, and the other way round."""
    command = Builder(shared_store, environment(shared_store))
    for platform, source, told in (
        ("aarch64-linux", "/bin/true", "bin/it: a 64-bit program for X86_64 with the interpreter /lib64/ld-linux-x86-64.so.2"),
        (
            "x86_64-linux",
            "/sysroot/bin/true",
            "bin/it: a 64-bit program for AARCH64 with the interpreter /lib/ld-linux-aarch64.so.1",
        ),
    ):
        name = f"foreign_{platform.partition('-')[0]}"
        recipe = tmp_path / f"{name}.py"
        recipe.write_text(
            "from builder import Recipe\nfrom tests.debian import arm64, emulator\n"
            f"recipe = Recipe(name={name!r}, version='1', about='a test', platform={platform!r}, "
            f"inputs=(emulator.recipe, arm64.system), script='mkdir -p $OUT$PREFIX/bin; cp {source} $OUT$PREFIX/bin/it')\n"
        )
        failed = command("build", "--no-link", recipe, status=1)
        assert told in failed.stderr
        assert "hint: An artifact holds 64-bit programs for the CPU of its recipe's platform" in failed.stderr


def test_nothing_here_builds_for_another_machine_by_itself(shared_store: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "lonely.py"
    recipe.write_text(
        "from builder import Recipe\nfrom tests.debian import arm64\n"
        "recipe = Recipe(name='lonely', version='1', about='a test', platform='aarch64-linux', "
        "inputs=(arm64.system,), script='true')\n"
    )
    failed = Builder(shared_store, environment(shared_store))("build", "--no-link", recipe, status=1)
    assert "lonely has to be built on aarch64-linux" in failed.stderr
    assert "hint: Give it a System for x86_64-linux as well" in failed.stderr


def test_one_file(built: tuple[Path, Path], shared_store: Path, tmp_path: Path) -> None:
    """It unpacks itself, in several processes. What it would become then, the kernel of this machine refuses to start."""
    command = Builder(shared_store, environment(shared_store))
    command("export", built[0], "-o", tmp_path / "arm64.run")
    home = tmp_path / "home"
    home.mkdir()
    done = run(built, tmp_path / "arm64.run", "--builder-install", str(home / "bin"), HOME=str(home))
    assert done[0] == 0, done
    assert done[1].split() == [str(home / "bin" / name) for name in sorted(path.name for path in (built[0] / "bin").iterdir())]
    assert run(built, home / "bin" / "bash", "-c", "echo $HOSTTYPE") == (0, "aarch64\n", "")
    status, out, err = run(built, tmp_path / "arm64.run", "--builder-verify", HOME=str(home))
    assert (status, out.count("as it was"), err) == (0, 2, "")
    header = (tmp_path / "arm64.run").read_bytes()[:64]
    assert header[18:20] == b"\xb7\0"
    assert run(built, tmp_path / "arm64.run", "--builder-uninstall", str(home / "bin"), HOME=str(home)) == (0, "", "")
    assert [path.name for path in home.rglob("*") if not path.is_dir()] == []
