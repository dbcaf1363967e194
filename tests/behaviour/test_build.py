"""What `builder build` promises: work is done once, nothing half-made is seen, and a failure says what to do."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import RECIPES, Builder
from tests.test_docs import documented_json, shape

Write = Callable[..., Path]

HELLO = """
    mkdir -p "$OUT$PREFIX/bin"
    printf 'int puts(const char*); int main(void) { return puts("hi") < 0; }' > bad.c
    gcc -o "$OUT$PREFIX/bin/bad" bad.c
"""
UNRESOLVED = """
    mkdir -p "$OUT$PREFIX/bin" x
    echo "int f(void) { return 0; }" > f.c
    gcc -shared -o x/libnotthere.so f.c
    echo "int f(void); int main(void) { return f(); }" > m.c
    gcc -o "$OUT$PREFIX/bin/m" m.c -Lx -lnotthere
"""


def test_hello_from_its_tarball(builder: Builder, tmp_path: Path) -> None:
    """The README's first recipe: link, folder, program, and a second build that does nothing."""
    done = builder("build", RECIPES / "hello.py", cwd=tmp_path)
    assert (tmp_path / "result").is_symlink()
    assert done.stdout.strip() == os.readlink(tmp_path / "result")
    assert subprocess.run([tmp_path / "result/bin/hello"], capture_output=True, check=True).stdout == b"Hello, world!\n"
    again = builder("build", RECIPES / "hello.py", cwd=tmp_path)
    assert again.stdout == done.stdout
    assert again.stderr == ""


def test_one_package_is_an_input_of_another(builder: Builder) -> None:
    (built,) = builder.build(RECIPES / "jq.py")
    launch = Path(built["path"]) / ".launch" / "x86_64-linux-gnu" / "lib"
    assert (launch / "libonig.so.5").exists()
    done = subprocess.run(
        [Path(built["path"]) / "bin" / "jq", "-n", '"aXb" | test("X")'], capture_output=True, text=True, check=True
    )
    assert done.stdout == "true\n"


def test_equal_bytes_rebuild_nothing_downstream(builder: Builder, write_recipe: Write) -> None:
    """Early cut-off: the input is built again, with another script and the same outcome, and its user is not."""
    first = 'mkdir -p "$OUT$PREFIX/share"; echo data > "$OUT$PREFIX/share/data"'
    user = write_recipe(
        "cut-user", 'mkdir -p "$OUT$PREFIX"; cat "$PREFIX/share/data" > "$OUT$PREFIX/copy"', imports=["cut_base"]
    )
    write_recipe("cut-base", first)
    (before,) = builder.build(user)
    write_recipe("cut-base", first + "\n# a comment that changes the key")
    done = builder("build", user, "--json", "--no-link")
    assert "built cut-base" in done.stderr
    assert "cut-user" not in done.stderr.replace("cut-user.py", "")
    assert json.loads(done.stdout)["artifacts"] == [before]


def test_what_is_no_part_of_the_key(builder: Builder, write_recipe: Write) -> None:
    script = 'mkdir -p "$OUT$PREFIX"; echo > "$OUT$PREFIX/x"; echo "$JOBS jobs"'
    builder.build(write_recipe("keys", script))
    recipe = write_recipe("keys", script, check=f"true # {os.urandom(8).hex()}")
    recipe.write_text(recipe.read_text().replace("about='a test'", "about='another line'"))
    done = builder("build", recipe, "--no-link")
    assert "built" not in done.stderr
    assert "checked keys" in done.stderr


def test_two_processes_build_once(builder: Builder, write_recipe: Write) -> None:
    recipe = write_recipe(f"once-{os.getpid()}", 'mkdir -p "$OUT$PREFIX"; sleep 2; date +%s%N > "$OUT$PREFIX/when"')
    running = [builder.start("build", recipe, "--no-link") for _ in range(3)]
    outs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(set(outs)) == 1


def test_a_failure_shows_its_last_lines_and_the_way_in(builder: Builder, write_recipe: Write) -> None:
    recipe = write_recipe(
        "fails", 'echo half > made; for i in $(seq 1 100); do echo "line $i"; done; printf "\\033[2Jbad"; exit 7'
    )
    done = builder("build", recipe, "--no-link", "--keep-failed", status=1)
    assert "fails 1 failed: its script ended with status 7:" in done.stderr
    assert "line 100" in done.stderr
    assert "line 50\n" not in done.stderr
    assert "\x1b" not in done.stderr
    assert "builder shell --failed" in done.stderr
    assert "line 50\n" in builder("log", recipe).stdout
    process = subprocess.run(
        [sys.executable, "-m", "builder", "shell", "--failed", str(recipe)],
        input="cat made; exit 5\n",
        capture_output=True,
        text=True,
        env=dict(builder.environment),
        check=False,
    )
    assert "half" in process.stdout
    assert process.returncode == 5


def test_a_failed_check_fails_the_build(builder: Builder, write_recipe: Write) -> None:
    recipe = write_recipe("bad-check", HELLO, check="bad; ls /; false")
    done = builder("build", recipe, "--no-link", status=1)
    assert "the check of bad-check 1 failed" in done.stderr
    assert "    hi\n" in done.stderr
    assert "usr" not in done.stderr.split("hi\n")[1]
    builder("build", write_recipe("bad-check", HELLO, check="test $(bad) = hi"), "--no-link")


@pytest.mark.parametrize(
    ("name", "script", "message"),
    [
        ("nothing", "true", "nothing 1 installed nothing"),
        ("stray", 'mkdir -p "$OUT/usr/bin"; echo > "$OUT/usr/bin/x"', "stray 1 installed /usr, which is outside of /pkg"),
        ("leads-out", 'mkdir -p "$OUT$PREFIX"; ln -s /etc/passwd "$OUT$PREFIX/x"', "x -> /etc/passwd"),
        ("unresolved", UNRESOLVED, "libnotthere.so, needed by"),
    ],
)
def test_outputs_that_are_refused(builder: Builder, write_recipe: Write, name: str, script: str, message: str) -> None:
    assert message in builder("build", write_recipe(name, script), "--no-link", status=1).stderr


def test_a_wrong_hash_shows_both_and_keeps_the_file(builder: Builder, write_recipe: Write, tmp_path: Path) -> None:
    data = os.urandom(1000)
    (tmp_path / "file.bin").write_bytes(data)
    true, wrong = hashlib.sha256(data).hexdigest(), "0" * 63 + "1"
    place = f"file://{tmp_path}/file.bin"
    recipe = write_recipe("hashes", "true", more=f"sources=(Source({place!r}, sha256={wrong!r}, unpack=False),)")
    done = builder("build", recipe, "--no-link", status=1)
    assert true in done.stderr
    assert wrong in done.stderr
    assert (builder.store / "downloads" / true).read_bytes() == data


def test_two_links_and_names_in_the_way(builder: Builder, write_recipe: Write, tmp_path: Path) -> None:
    one = write_recipe("link-one", 'mkdir -p "$OUT$PREFIX"; echo 1 > "$OUT$PREFIX/x"')
    two = write_recipe("link-two", 'mkdir -p "$OUT$PREFIX"; echo 2 > "$OUT$PREFIX/x"')
    builder("build", one, two, cwd=tmp_path)
    assert (tmp_path / "result-link-one" / "x").read_text() == "1\n"
    assert (tmp_path / "result-link-two" / "x").read_text() == "2\n"
    (tmp_path / "mine").mkdir()
    assert "is a directory, and is not replaced" in builder("build", one, "-o", tmp_path / "mine", status=1).stderr
    builder("build", one, "-o", tmp_path / "out")
    builder("build", two, "-o", tmp_path / "out")
    assert (tmp_path / "out" / "x").read_text() == "2\n"


def test_dry_run_does_nothing(builder: Builder, write_recipe: Write) -> None:
    recipe = write_recipe("dry", 'mkdir -p "$OUT$PREFIX"; echo 1 > "$OUT$PREFIX/x"')
    for _ in range(2):
        assert "dry 1: build" in builder("build", recipe, "--dry-run").stdout
    builder.build(recipe)
    assert "dry 1: up to date" in builder("build", recipe, "--dry-run").stdout


def test_rebuild_says_when_a_build_is_not_reproducible(builder: Builder, write_recipe: Write) -> None:
    same = write_recipe("same-again", 'mkdir -p "$OUT$PREFIX"; echo 1 > "$OUT$PREFIX/x"')
    builder.build(same)
    assert "not reproducible" not in builder("build", same, "--rebuild", "--no-link").stderr
    other = write_recipe("never-same", 'mkdir -p "$OUT$PREFIX"; date +%N > "$OUT$PREFIX/x"')
    builder.build(other)
    assert "never-same 1 is not reproducible" in builder("build", other, "--rebuild", "--no-link").stderr


@pytest.mark.parametrize("delay", [0.2, 0.6, 1.4])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_at_any_moment(builder: Builder, write_recipe: Write, delay: float, number: signal.Signals) -> None:
    """Whatever moment it is, no process stays, nothing half-made is seen, and the next run works."""
    mark = f"{int(delay * 100)}{int(number)}{os.getpid() % 1000}"
    script = f'mkdir -p "$OUT$PREFIX/bin"; echo {mark} > "$OUT$PREFIX/x"; sleep 1.{mark}; cp "$OUT$PREFIX/x" "$OUT$PREFIX/y"'
    recipe = write_recipe(f"stopped-{mark}", script)
    process = builder.start("build", recipe, "--no-link")
    time.sleep(delay)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert "Traceback" not in err, err
    if number != signal.SIGKILL and process.returncode != 0:
        # Before Python has installed its handlers, a signal ends it as it ends any program.
        assert process.returncode in (130, -number), (out, err)
    deadline = time.monotonic() + 10
    while any(f"sleep\x001.{mark}" in _read(path) for path in Path("/proc").glob("[0-9]*/cmdline")):
        assert time.monotonic() < deadline, "the build's process is still there"
        time.sleep(0.05)
    (built,) = builder.build(recipe)
    assert sorted(entry.name for entry in Path(built["path"]).iterdir()) == ["bin", "x", "y"]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_building_again_compares_and_replaces_nothing(builder: Builder, write_recipe: Write, tmp_path: Path) -> None:
    same = write_recipe("again-same", 'mkdir -p "$OUT$PREFIX"; echo text > "$OUT$PREFIX/x"')
    script = 'mkdir -p "$OUT$PREFIX/d"; head -c 8 /dev/urandom > "$OUT$PREFIX/d/random"; ln -s d "$OUT$PREFIX/l"'
    random = write_recipe("again-random", script)
    assert "nothing to compare with" in builder("build", "--check", random, status=1).stderr
    before = builder.build(same, random)
    told = json.loads(builder("build", "--check", same, "--json").stdout)
    assert (told["builds"][0]["same"], told["builds"][0]["differences"]) == (True, [])
    assert "again-same 1: the same again" in builder("build", "--check", same).stdout
    # What stands in for diffoscope says how it was called.
    tool = tmp_path / "bin" / "diffoscope"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$2"; exit 1\n')
    tool.chmod(0o755)
    path = f"{tool.parent}:{builder.environment['PATH']}"
    command = Builder(builder.store, {**builder.environment, "PATH": path})
    (row,) = json.loads(command("build", "--check", random, "--json", status=4).stdout)["builds"]
    shape(documented_json("rebuild")["builds"][0], row, "rebuild")
    (difference,) = row["differences"]
    assert (difference["path"], difference["what"]) == ("d/random", "content")
    assert difference["stored"].startswith("8 bytes (")
    stored, again = Path(row["stored"]["path"]), Path(row["again"]["path"])
    assert (stored / "d/random").read_bytes() != (again / "d/random").read_bytes()
    assert os.readlink(again / "l") == "d"
    assert Path(row["diffoscope"]).read_text().split() == ["--text", row["diffoscope"], str(stored), str(again)]
    assert builder.build(same, random) == before
    text = builder("build", "--check", same, random, status=4).stdout
    assert "  content  d/random: 8 bytes (" in text
    assert "is a system root" in builder("build", "--check", RECIPES / "toolchain.py", status=1).stderr
