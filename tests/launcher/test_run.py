"""Launchers that run. Their interpreter is one of ours, which prints what it was given."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import config, elf, graft
from launcher.bootstrap import load
from launcher.graft import Wiring
from launcher.layout import BadElf
from tests.launcher.programs import library, probe, program, start, values

FOO = library("libfoo.so.1")
DEFAULTS = (b"NEW=$ORIGIN/../share:$ORIGIN/..", b"OTHER=1", b"THIRD=3")


def make(folder: Path, *, defaults: tuple[bytes, ...] = (), flags: tuple[str, ...] = ()) -> Path:
    """A launcher at ``folder/bin/prog`` with its interpreter."""
    wiring = Wiring(
        b"$ORIGIN/../.launch/x/ld.so", (b"$ORIGIN/../.launch/x/lib/libfoo.so.1",), (b"$ORIGIN/../.launch/x/lib",), defaults
    )
    data = graft.graft(program(*flags, needs=(("libfoo.so.1", FOO),), calls="f();"), wiring, load())
    path = folder / "bin" / "prog"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    path.chmod(0o755)
    interpreter = folder / ".launch/x/ld.so"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_bytes(probe())
    return path


@pytest.mark.parametrize("flags", [(), ("-no-pie",), ("-Wl,-z,norelro", "-s"), ("-Wl,-z,max-page-size=0x200000",)])
def test_the_interpreter_sees_a_program_that_the_kernel_could_have_started(tmp_path: Path, flags: tuple[str, ...]) -> None:
    path = make(tmp_path / "a b:c", flags=flags)
    plain = make(tmp_path / "plain", flags=flags)
    status, lines = start(path, "one", "two words", "", name="zero", env={"A": "1", "B": "2"})
    assert status == 7, lines
    assert values(lines, "argv") == ["zero", "one", "two words", ""]
    assert values(lines, "env") == ["A=1", "B=2"]
    assert values(lines, "aligned") == ["0"]
    assert values(lines, "execfn") == [str(path)]
    assert values(lines, "first") == ["6"]  # PT_PHDR: glibc learns from it where the program is
    assert values(lines, "interp") == [str(tmp_path / "a b:c/bin/../.launch/x/ld.so")]
    original = program(*flags, needs=(("libfoo.so.1", FOO),), calls="f();")
    # bias is the difference between where the second table is and says it is, so this is the program's own entry.
    assert int(values(lines, "entry")[0], 16) == struct.unpack_from("<Q", original, 24)[0]
    assert values(lines, "needed") == ["$ORIGIN/../.launch/x/lib/libfoo.so.1", "libfoo.so.1"]
    assert values(lines, "rpath") == ["$ORIGIN/../.launch/x/lib"]
    assert "dirty" not in lines
    # Where nothing in the directory's name means something to the interpreter, it is told the directory.
    _, lines = start(plain)
    assert values(lines, "needed") == [f"{tmp_path}/plain/bin/../.launch/x/lib/libfoo.so.1", "libfoo.so.1"]
    assert values(lines, "rpath") == [f"{tmp_path}/plain/bin/../.launch/x/lib"]


def test_a_second_graft_gives_the_same_file(tmp_path: Path) -> None:
    data = make(tmp_path).read_bytes()
    wiring = Wiring(b"$ORIGIN/../.launch/x/ld.so", (b"$ORIGIN/../.launch/x/lib/libfoo.so.1",), (b"$ORIGIN/../.launch/x/lib",))
    assert graft.graft(data, wiring, load()) == data


def test_another_graft_replaces_the_first(tmp_path: Path) -> None:
    path = make(tmp_path)
    path.chmod(0o755)
    path.write_bytes(graft.graft(path.read_bytes(), Wiring(b"$ORIGIN/../ld", (), (b"$ORIGIN/other",)), load()))
    shutil.copy(tmp_path / ".launch/x/ld.so", tmp_path / "ld")
    status, lines = start(path)
    assert (status, values(lines, "needed"), values(lines, "rpath")) == (7, ["libfoo.so.1"], [f"{tmp_path}/bin/other"])


def test_defaults_are_set_unless_the_user_did(tmp_path: Path) -> None:
    path = make(tmp_path / "x", defaults=DEFAULTS)
    root = str(tmp_path / "x")
    _, lines = start(path, "a", env={"FIRST": "f", "OTHER": "mine", "NEWER": "", "NE": "W"})
    assert values(lines, "env") == ["FIRST=f", "OTHER=mine", "NEWER=", "NE=W", f"NEW={root}/share:{root}", "THIRD=3"]
    assert values(lines, "argv") == [str(path), "a"]
    assert values(lines, "execfn") == [str(path)]
    assert values(lines, "aligned") == ["0"]
    _, lines = start(path, env={"OTHER": "", "NEW": "", "THIRD": ""})
    assert values(lines, "env") == ["OTHER=", "NEW=", "THIRD="]


def test_ten_thousand_arguments(tmp_path: Path) -> None:
    arguments = [str(n) for n in range(10_000)]
    path = make(tmp_path, defaults=DEFAULTS)
    _, lines = start(path, *arguments, env={f"V{n}": "x" * 100 for n in range(1000)})
    assert values(lines, "argv")[1:] == arguments
    assert len(values(lines, "env")) == 1003


def test_as_the_interpreter_of_a_script(tmp_path: Path) -> None:
    """AT_EXECFN is the script's name then, and another artifact may be beside the script."""
    path = make(tmp_path / "one")
    other = make(tmp_path / "two").parent / "script"
    for argument in ("", " -x"):
        other.write_text(f"#!{path}{argument}\n")
        other.chmod(0o755)
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(other)
        for name in (other, tmp_path / "link"):
            status, lines = start(name, "a")
            assert (status, values(lines, "execfn")) == (7, [str(name)])
            assert values(lines, "argv") == [str(path), *argument.split(), str(name), "a"]
            assert values(lines, "interp") == [str(tmp_path / "one/bin/../.launch/x/ld.so")]


def test_started_by_a_descriptor(tmp_path: Path) -> None:
    path = make(tmp_path)
    fd = os.open(path, os.O_RDONLY)
    folder = os.open(tmp_path, os.O_RDONLY)
    interpreter = [f"{tmp_path}/bin/../.launch/x/ld.so"]
    for name in (f"/proc/self/fd/{fd}", f"/dev/fd/{fd}", f"/dev/fd/{folder}/bin/prog"):
        done = subprocess.run([name], pass_fds=(fd, folder), check=False, capture_output=True, text=True)
        assert (done.returncode, values(done.stdout.splitlines(), "interp")) == (7, interpreter), done.stdout


def test_it_is_found_through_symlinks_and_path(tmp_path: Path) -> None:
    path = make(tmp_path / "real")
    (tmp_path / "one").symlink_to(path)
    (tmp_path / "two").symlink_to("one")
    (tmp_path / "folder").symlink_to("real/bin")
    for way in (tmp_path / "two", tmp_path / "folder/prog", Path(os.path.relpath(path))):
        assert start(way)[0] == 7
    done = subprocess.run(["prog"], env={"PATH": str(path.parent)}, check=False, capture_output=True)
    assert done.returncode == 7


def test_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["n" * 200] * 15)
    assert start(make(folder), "x")[0] == 7


def test_without_proc(tmp_path: Path) -> None:
    """The interpreter could not expand $ORIGIN, so it is given the directory itself."""
    make(tmp_path / "top/a b", defaults=DEFAULTS)
    (tmp_path / "link").symlink_to("/top/a b/bin/prog")
    for path in ("/top/a b/bin/prog", "/link"):
        status, lines = start(Path(path), "x", root=tmp_path)
        assert status == 7, lines
        assert values(lines, "needed") == ["/top/a b/bin/../.launch/x/lib/libfoo.so.1", "libfoo.so.1"]
        assert values(lines, "rpath") == ["/top/a b/bin/../.launch/x/lib"]
        assert values(lines, "interp") == ["/top/a b/bin/../.launch/x/ld.so"]
        assert values(lines, "env") == ["NEW=/top/a b/bin/../share:/top/a b/bin/..", "OTHER=1", "THIRD=3"]
        assert values(lines, "argv") == [path, "x"]
    _, lines = start(Path("top/a b/bin/prog"), root=tmp_path)
    assert values(lines, "needed")[0] == "//top/a b/bin/../.launch/x/lib/libfoo.so.1"


def test_without_proc_and_a_name_that_the_interpreter_would_take_apart(tmp_path: Path) -> None:
    for name in ("a:b", "$LIB"):
        make(tmp_path / name)
        status, lines = start(Path("/", name, "bin/prog"), root=tmp_path)
        assert (status, len(lines)) == (121, 1)
        assert f"launcher: /{name}/bin: needs /proc for its $ or :" in lines[0]


def test_no_interpreter(tmp_path: Path) -> None:
    path = make(tmp_path)
    place = tmp_path / "bin/../.launch/x/ld.so"
    (tmp_path / ".launch/x/ld.so").unlink()
    assert start(path) == (121, [f"launcher: {place}: cannot be opened, error 2"])
    (tmp_path / ".launch/x/ld.so").mkdir()
    assert start(path) == (121, [f"launcher: {place}: is no ELF file for this CPU"])


@given(st.data())
def test_a_damaged_interpreter_is_refused_or_started(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = make(folder)
    broken = bytearray(probe())
    length = 64 + 56 * struct.unpack_from("<H", broken, 56)[0]
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, length - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(broken), len(broken), 0, 63, 64, 200, length]))
    (folder / ".launch/x/ld.so").write_bytes(broken[:cut])
    status, lines = start(path)
    shutil.rmtree(folder)
    # What its headers allow is done as the kernel would do it, and may then crash in its own code.
    if status == 121:
        assert lines[-1].startswith("launcher: ")
    else:
        assert status == 7 or status < 0


@given(st.data())
def test_a_damaged_configuration_is_told_or_crashes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Nothing is loaded from anywhere else, and nothing goes on forever."""
    folder = tmp_path_factory.mktemp("damaged")
    path = make(folder, defaults=data.draw(st.sampled_from([(), DEFAULTS])))
    broken = bytearray(path.read_bytes())
    block = broken.index(config.MAGIC)
    for _ in range(data.draw(st.integers(1, 3))):
        broken[block + data.draw(st.integers(0, config.SIZE - 1))] = data.draw(st.integers(0, 255))
    path.chmod(0o755)
    path.write_bytes(broken)
    with contextlib.suppress(BadElf):
        elf.read(bytes(broken))
    done = subprocess.run([path], env={"A": "1"}, capture_output=True, check=False, timeout=60)
    shutil.rmtree(folder)
    assert done.returncode in (7, 121) or done.returncode < 0


@pytest.mark.parametrize(
    "offset, value", [(18, b"\x03\x00"), (4, b"\x01"), (16, b"\x02\x00"), (56, b"\xff\xff"), (0, b"\0"), (32, b"\xff" * 8)]
)
def test_what_is_no_interpreter(tmp_path: Path, offset: int, value: bytes) -> None:
    path = make(tmp_path)
    place = tmp_path / "bin/../.launch/x/ld.so"
    broken = bytearray(probe())
    broken[offset : offset + len(value)] = value
    place.write_bytes(broken)
    assert start(path) == (121, [f"launcher: {place}: is no ELF file for this CPU"])
