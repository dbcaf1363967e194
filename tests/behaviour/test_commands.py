"""The other commands, on what was really built."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder import lockfile
from builder.commands import COMMANDS
from tests.conftest import RECIPES, Builder, environment

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def own(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """A store of this module's own, that may be collected and damaged, with zlib and jq in it and links to them."""
    # On the shared store's file system, so that the downloads are links.
    place = builder.store.parent / f"own-{os.getpid()}"
    store = place / "store"
    store.mkdir(parents=True)
    shutil.copytree(builder.store / "downloads", store / "downloads", copy_function=os.link)
    command = Builder(store, environment(store))
    command("build", RECIPES / "zlib.py", RECIPES / "jq.py", cwd=place)
    yield command
    subprocess.run(["chmod", "-R", "u+w", str(place)], check=False)
    shutil.rmtree(place)


def test_info_tells_what_every_program_is(own: Builder) -> None:
    told = json.loads(own("info", "jq", "--json").stdout)
    assert told["name"] == "jq"
    assert "oniguruma 6.9.8" in told["inputs"]
    by_path = {piece["path"]: piece for piece in told["programs"]}
    assert by_path["bin/jq"]["kind"] == "launcher"
    points = {one["path"]: one["digest"] for one in by_path["bin/jq"]["points_to"]}
    assert points[".launch/x86_64-linux-gnu/ld.so"] == by_path[".launch/x86_64-linux-gnu/ld.so"]["digest"]
    assert {piece["kind"] for piece in told["programs"]} == {"launcher", "interpreter", "library"}
    for spec in (told["digest"], told["digest"][:12], told["path"], "result-jq", "jq-1.7.1"):
        assert told["digest"] in own("info", spec, cwd=own.store.parent).stdout


def test_tree_tells_where_each_piece_came_from(own: Builder) -> None:
    told = json.loads(own("tree", "jq", "--json").stdout)
    sources = {row["path"]: (row["how"], row["source"]) for row in told["files"]}
    assert sources[".launch/x86_64-linux-gnu/lib/libc.so.6"][1].startswith("libc6 2.36")
    assert sources[".launch/x86_64-linux-gnu/lib/libonig.so.5"] == ("built", "oniguruma 6.9.8")
    assert sources["include/jq.h"] == ("imported", "jq_1.7.1.orig.tar.gz")
    assert sources["bin/jq"][0] == "built"
    assert "lib/libjq.so.1 -> libjq.so.1.0.4" in own("tree", "jq").stdout


def test_why_names_the_way(own: Builder) -> None:
    (told,) = json.loads(own("why", "jq", "libonig", "--json").stdout)
    assert told["loaded_by"] == ["bin/jq"]
    assert [step["kind"] for step in told["steps"]] == ["pack", "merge", "strip", "build"]
    assert "nothing in" in own("why", "jq", "libnothing", status=1).stderr
    assert "no artifact is called 'nothing'" in own("why", "nothing", "x", status=1).stderr


def test_run_becomes_the_program(own: Builder) -> None:
    assert own("run", RECIPES / "jq.py", "--", "-n", "1 + 1").stdout == "2\n"
    assert own("run", RECIPES / "jq.py", "--", "-n", '"x" | halt_error(7)', status=7).stderr.endswith("x")
    assert own("run", RECIPES / "jq.py", "--program", "jq", "--", "-n", "1 + 2", "--tab").stdout == "3\n"
    assert "zlib has no program nope" in own("run", RECIPES / "zlib.py", "--program", "nope", status=1).stderr


def test_the_index_can_be_deleted_at_any_time(own: Builder) -> None:
    before = own("tree", "jq").stdout
    for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
        (own.store / name).unlink(missing_ok=True)
    assert own("tree", "jq").stdout == before
    (own.store / "index.sqlite").write_bytes(b"not a database" * 1000)
    assert own("tree", "jq").stdout == before


def test_damage_is_found_named_and_repaired(own: Builder, builder: Builder) -> None:
    assert "0 damaged" in own("check").stdout
    (path,) = (own.store / "artifacts").glob("*-jq-1.7.1/bin/jq")
    data = path.read_bytes()
    path.chmod(0o755)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = own("check", "--json", status=3)
    kinds = {finding["kind"] for finding in json.loads(done.stdout)["findings"]}
    assert "corrupt blob" in kinds
    # Every copy was a link to it: another store is asked.
    left = json.loads(own("check", "--repair", "--json", status=3).stdout)
    assert "missing blob" in {finding["kind"] for finding in left["findings"]}
    assert not path.exists()
    told = json.loads(own("check", "--repair", "--from", builder.store, "--json").stdout)
    assert (told["findings"], bool(told["repaired"])) == ([], True)
    own("build", RECIPES / "jq.py", "-o", "result-jq", cwd=own.store.parent)
    assert path.read_bytes() == data
    assert "0 damaged" in own("check").stdout
    assert (own.store / "lost+found").is_dir()
    assert "--from is for --repair" in own("check", "--from", builder.store, status=2).stderr
    assert "cannot use the store" in own("check", "--repair", "--from", "/nowhere", status=1).stderr


def test_lock_is_deterministic(own: Builder, tmp_path: Path) -> None:
    shutil.copy(RECIPES / "toolchain.py", tmp_path / "toolchain.py")
    assert "there is no such lock file" in own("build", tmp_path / "toolchain.py", status=1).stderr
    assert "would change" in own("lock", tmp_path / "toolchain.py", "--check", status=1).stdout
    own("lock", tmp_path / "toolchain.py")
    first = (tmp_path / "toolchain.lock").read_text()
    assert "unchanged" in own("lock", tmp_path / "toolchain.py", "--check").stdout
    (tmp_path / "toolchain.lock").unlink()
    own("lock", tmp_path / "toolchain.py")
    assert (tmp_path / "toolchain.lock").read_text() == first
    lock = lockfile.parse(first, "x")
    shipped = lockfile.parse((RECIPES / "toolchain.lock").read_text(), "y")
    assert {p.name for p in lock.packages} == {p.name for p in shipped.packages}
    other = (tmp_path / "toolchain.py").read_text().replace('"libtool"', '"libtool", "flex"')
    (tmp_path / "toolchain.py").write_text(other)
    assert "made for other packages" in own("build", tmp_path / "toolchain.py", status=1).stderr
    (tmp_path / "toolchain.py").write_text(other.replace('"flex"', '"no-such-package"'))
    assert "no-such-package" in own("lock", tmp_path / "toolchain.py", status=1).stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completions(builder: Builder, shell: str) -> None:
    script = builder("completion", shell).stdout
    assert "keep-failed" in script
    assert "why" in script


def test_bash_completes(builder: Builder, tmp_path: Path) -> None:
    (tmp_path / "builder.sh").write_text(builder("completion", "bash").stdout)
    code = (
        'source builder.sh; COMP_WORDS=(builder b); COMP_CWORD=1; COMP_LINE="builder b"; _shtab_builder; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["build"], done.stderr


def test_help_teaches(builder: Builder) -> None:
    text = builder("--help").stdout
    assert "Recipes are Python modules: building one runs its code" in text
    for name in COMMANDS:
        assert name in text
        assert "example" in builder(name, "--help").stdout
    assert "invalid choice: 'biuld'" in builder("biuld", status=2).stderr


def test_a_store_that_cannot_be_made(builder: Builder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = builder("--store", tmp_path / "file" / "store", "gc", status=1)
    assert "cannot use the store" in done.stderr


def test_named_roots_and_why_they_count(own: Builder) -> None:
    place = own.store.parent
    own("root", "add", "release", "jq")
    rows = {row["name"]: row for row in json.loads(own("root", "list", "--json").stdout)}
    assert rows["release"]["path"].endswith("-jq-1.7.1")
    assert rows["release"]["digest"] == rows[str(place / "result-jq")]["digest"]
    (place / "result-jq").rename(place / "aside")
    text = own("root", "list").stdout
    assert "does not count: the link was moved or deleted" in text
    assert all("-jq-" not in name for name in json.loads(own("gc", "--dry-run", "--json").stdout)["artifacts"])
    (place / "aside").rename(place / "result-jq")
    own("root", "remove", "release")
    assert "there is no root 'release'" in own("root", "remove", "release", status=1).stderr
    assert "builder root add NAME ARTIFACT" in own("root", "add", "release", status=2).stderr
    assert "a size is needed" in own("gc", "--free", "much", status=2).stderr
    assert "a time is needed" in own("gc", "--keep-younger", "30", status=2).stderr
    told = json.loads(own("gc", "--dry-run", "--json", "--free", "0", "--keep-newest", "2").stdout)
    assert (told["bytes"], told["artifacts"], told["blobs"]) == (told["bytes"], [], 0)


def test_zz_collection_keeps_what_links_lead_to(own: Builder) -> None:
    """Last in this module: it leaves the store empty."""
    place = own.store.parent
    before = json.loads(own("gc", "--dry-run", "--json").stdout)
    assert before["bytes"] > 0
    assert all("jq" not in name and "zlib" not in name for name in before["artifacts"])
    own("gc")
    assert (place / "result-jq" / "bin" / "jq").exists()
    # Known, although its toolchain is gone: nothing to do.
    assert own("build", RECIPES / "jq.py", RECIPES / "zlib.py", cwd=place).stderr == ""
    assert "0 damaged" in own("check").stdout
    (place / "result-jq").unlink()
    assert any("-jq-" in name for name in json.loads(own("gc", "--json").stdout)["artifacts"])
    subprocess.run(
        [place / "result-zlib" / "bin" / "minigzip", "-h"],
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    (place / "result-zlib").rename(place / "moved")
    own("gc")
    left = [
        path
        for kind in ("blobs", "manifests", "results", "artifacts", "logs", "downloads")
        for path in (own.store / kind).rglob("*")
        if path.is_file()
    ]
    assert left == []


def test_a_machine_that_refuses_is_told_in_words(builder: Builder, write_recipe: Write) -> None:
    """A full disk behind standard output, and no descriptors left in the middle of a build."""
    recipe = write_recipe("no-descriptors", 'mkdir -p "$OUT$PREFIX"; echo > "$OUT$PREFIX/x"')
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "builder", "build", str(recipe), "--dry-run"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, env=dict(builder.environment), check=False)
    assert (done.returncode, "No space left on device" in done.stderr, "Traceback" in done.stderr) == (1, True, False), done
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))"
    code = f"{few}; from builder.cli import main; main(['build', {str(recipe)!r}, '--no-link'])"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, env=dict(builder.environment), check=False)
    assert (done.returncode, "Too many open files" in done.stderr, "Traceback" in done.stderr) == (1, True, False), done
    builder("build", recipe, "--no-link")
