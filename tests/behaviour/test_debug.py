"""Recipes whose debug information is split off: what is in which artifact, what is left as it is, and what is refused."""

from __future__ import annotations

import functools
import http.server
import json
import os
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from builder import steps
from builder.recipe import Recipe
from launcher import debug, sections
from launcher.layout import Header, Section
from store.digest import Digest
from store.manifest import File, Manifest, Symlink
from store.store import Store
from tests.conftest import RECIPES, ROOT, Builder
from tests.launcher.programs import compile_c

Write = Callable[..., Path]

# A library, a program that needs it, and all that strip would harm or could trip over.
MANY = r"""
top="$OUT$PREFIX"; mkdir -p "$top/bin" "$top/lib" "$top/share/-odd"
echo 'int twice(int n) { return 2 * n; }' > twice.c
echo 'int twice(int n); int main(int count, char **words) { return twice(count); }' > main.c
gcc -g -O1 -shared -fPIC -Wl,-soname,libtwice.so.1 -o "$top/lib/libtwice.so.1" twice.c
gcc -g -O1 -o "$top/bin/twice" main.c "$top/lib/libtwice.so.1"
gcc -g -O1 -static -o "$top/bin/static" main.c twice.c
gcc -g -c -o "$top/lib/crt9.o" twice.c
ar rc "$top/lib/libtwice.a" "$top/lib/crt9.o"
chmod 644 "$top/lib/libtwice.so.1"
ln "$top/bin/twice" "$top/bin/hard"
ln -s twice "$top/bin/soft"
cp "$top/bin/twice" "$top/share/twice.data"; chmod 444 "$top/share/twice.data"
cp "$top/bin/static" "$top/bin/setuid"; chmod 4555 "$top/bin/setuid"
cp "$top/bin/static" "$top/bin/@payload"; printf 'what it looks for' >> "$top/bin/@payload"
cp "$top/bin/static" "$top/share/-odd/name'\"\$(false)
-of it"
cp "$top/bin/static" "$top/share/kept"
objcopy --only-keep-debug "$top/bin/static" "$top/share/own.debug"
echo text > "$top/share/text"
"""
SPLIT = "debug=True, keep=('share/kept',)"


def tree(builder: Builder, digest: str) -> Manifest:
    return Store(builder.store).read_manifest(Digest.parse(digest))


def made(builder: Builder, artifact: dict[str, str]) -> dict[str, dict[str, str]]:
    """The steps behind an artifact, by their kind."""
    steps = json.loads(builder("graph", artifact["path"], "--json").stdout)["steps"]
    return {step["kind"]: step for step in reversed(steps)}


def names(builder: Builder, node: File) -> list[bytes]:
    """The names of an ELF file's sections."""
    data = Store(builder.store).read_blob(node.blob)
    found = sections.read(data, Header.read(data, 0))
    return [found.name(section) for section in found.headers]


def test_what_is_in_which_artifact(builder: Builder, write_recipe: Write) -> None:
    whole, split = write_recipe("whole", MANY), write_recipe("apart", MANY, more=SPLIT)
    (plain,) = builder.build(whole)
    main, apart = builder.build(split, debug_info=True)
    before = tree(builder, made(builder, plain)["build"]["tree"])
    after, said = tree(builder, made(builder, main)["strip"]["tree"]), tree(builder, apart["digest"])
    assert [path for path, _ in before.entries] == [path for path, _ in after.entries]
    changed = {path for (path, old), (_, new) in zip(before.entries, after.entries, strict=True) if old != new}
    odd = b"share/-odd/name'\"$(false)\n-of it"
    programs = {b"bin/twice", b"bin/hard", b"bin/static", b"bin/setuid"}
    assert changed == {*programs, b"lib/libtwice.so.1", b"share/twice.data", odd}
    assert after[b"bin/hard"] == after[b"bin/twice"]
    for path in changed:
        old, new = before[path], after[path]
        assert isinstance(old, File) and isinstance(new, File)
        assert old.executable == new.executable
        had, has = names(builder, old), names(builder, new)
        assert {name for name in had if not name.startswith(b".debug_")} == {*has} - {b".gnu_debuglink"}
        assert b".debug_info" in had
        assert b".symtab" in has  # names in a backtrace are there without all else
    # One file for each build id, and each is found by its name.
    files = dict(said.files)
    assert len(files) == 3
    for path, node in files.items():
        assert path.startswith(b"lib/debug/.build-id/") and path.endswith(b".debug")
        assert not node.executable
        assert b".debug_info" in names(builder, node)
        digits = path.removeprefix(b"lib/debug/.build-id/").removesuffix(b".debug").replace(b"/", b"")
        assert said[b"buildid/" + digits + b"/debuginfo"] == Symlink(b"../../" + path)
    # The artifact is the same that it was, but for these files.
    ours = tree(builder, main["digest"])
    assert ours[b"bin/soft"] == Symlink(b"twice")
    assert isinstance(ours[b"bin/static"], File) and ours[b"bin/static"] == after[b"bin/static"]


def test_links_and_a_second_build(builder: Builder, write_recipe: Write, tmp_path: Path) -> None:
    recipe = write_recipe("linked", MANY, more=SPLIT)
    done = builder("build", recipe, "--debug-info", cwd=tmp_path)
    assert done.stdout.split() == [os.readlink(tmp_path / name) for name in ("result", "result-debug")]
    assert os.readlink(tmp_path / "result-debug").endswith("-linked-debug-1")
    again = builder("build", recipe, "--debug-info", cwd=tmp_path)
    assert (again.stdout, again.stderr) == (done.stdout, "")
    # The artifact alone is built from the same steps.
    (alone,) = builder.build(recipe)
    assert alone["path"] == os.readlink(tmp_path / "result")
    assert "linked 1: the same again" in builder("build", recipe, "--check").stdout
    kept = {row["digest"] for row in json.loads(builder("root", "list", "--json").stdout)}
    assert kept >= {row["digest"] for row in builder.build(recipe, debug_info=True)}
    both = builder("build", recipe, write_recipe("other", MANY, more=SPLIT), "--debug-info", "-o", "x", cwd=tmp_path)
    assert len(both.stdout.split()) == 4
    assert {path.name for path in tmp_path.glob("x-*")} == {"x-linked", "x-linked-debug", "x-other", "x-other-debug"}


def test_splitting_again_gives_the_same(builder: Builder, write_recipe: Write) -> None:
    recipe = write_recipe("same", MANY + 'echo same > "$top/share/text"', more=SPLIT)
    before = main, apart = builder.build(recipe, debug_info=True)
    for action in (made(builder, main)["strip"]["action"], made(builder, apart)["debug"]["action"]):
        Store(builder.store).result_path(Digest.parse(action)).unlink()
    done = builder("build", recipe, "--debug-info", "--no-link", "--json")
    assert json.loads(done.stdout)["artifacts"] == list(before)
    assert "split same 1" in done.stderr
    assert "built" not in done.stderr


def test_others_are_built_from_what_was_split(builder: Builder, write_recipe: Write) -> None:
    base = write_recipe("base", MANY, more=SPLIT)
    script = """
        mkdir -p "$OUT$PREFIX/bin"
        echo 'int twice(int n); int main(void) { return twice(4); }' > main.c
        gcc -o "$OUT$PREFIX/bin/eight" main.c "$PREFIX/lib/libtwice.so.1"
    """
    user = write_recipe("from-base", script, imports=["base"])
    (main,), (built,) = builder.build(base), builder.build(user)
    lib = b".launch/x86_64-linux-gnu/lib/libtwice.so.1"
    ours, theirs = tree(builder, built["digest"])[lib], tree(builder, main["digest"])[b"lib/libtwice.so.1"]
    assert isinstance(ours, File) and isinstance(theirs, File)
    assert ours.blob == theirs.blob
    assert b".debug_info" not in names(builder, ours)


def test_where_it_came_from(builder: Builder, write_recipe: Write, tmp_path: Path) -> None:
    recipe = write_recipe("traced", MANY + 'echo traced > "$top/share/text"', more=SPLIT)
    main, apart = builder.build(recipe, debug_info=True)
    kinds = [step["kind"] for step in json.loads(builder("graph", apart["path"], "--json").stdout)["steps"]]
    assert kinds[:2] == ["debug", "build"]
    (path,) = list(Path(apart["path"]).glob("lib/debug/.build-id/*/*"))[:1]
    (why,) = json.loads(builder("why", apart["path"], path.name, "--json").stdout)
    assert (why["how"], why["source"]) == ("built", "traced 1")
    said = json.loads(builder("info", apart["path"], "--json").stdout)
    assert {piece["kind"] for piece in said["programs"]} == {"debug information"}
    internal = json.loads(builder("provenance", apart["path"]).stdout)["predicate"]["buildDefinition"]["internalParameters"]
    assert set(internal["actions"]) == {"debug", "build"}
    parts = json.loads(builder("sbom", apart["path"]).stdout)["components"]
    assert any(part["name"] == "elfutils" for part in parts)
    (why,) = json.loads(builder("why", main["path"], "bin/twice", "--json").stdout)
    assert [step["kind"] for step in why["steps"]] == ["pack", "strip", "build"]
    builder("export", apart["path"], "-o", tmp_path / "x.tar.zst")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Any server of files will do."""

    def log_message(self, *_: object) -> None:
        pass


def test_it_is_a_debuginfod(builder: Builder, write_recipe: Write, tmp_path: Path) -> None:
    recipe = write_recipe("asked", MANY, more=SPLIT)
    (client,) = builder.build(ROOT / "tests/debian/debuginfod.py")
    _, apart = builder.build(recipe, debug_info=True)
    (path, *_) = sorted(Path(apart["path"]).glob("lib/debug/.build-id/*/*.debug"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=apart["path"])) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            for number, url in enumerate((f"file://{apart['path']}", f"http://127.0.0.1:{server.server_port}")):
                variables = {"DEBUGINFOD_URLS": url, "DEBUGINFOD_CACHE_PATH": str(tmp_path / f"cache-{number}")}
                words = [f"{client['path']}/bin/debuginfod-find", "debuginfo", path.parent.name + path.stem]
                done = subprocess.run(words, env=variables, capture_output=True, text=True, check=True)
                assert Path(done.stdout.strip()).read_bytes() == path.read_bytes()
        finally:
            server.shutdown()


# -- what is refused --


def test_nothing_to_split(builder: Builder, write_recipe: Write) -> None:
    script = 'mkdir -p "$OUT$PREFIX/bin"; echo "int main(void) { return 0; }" > x.c; gcc -o "$OUT$PREFIX/bin/x" x.c'
    done = builder("build", write_recipe("bare", script, more="debug=True"), status=1)
    assert "error: bare 1 has no debug information that could be split off" in done.stderr
    assert "Compile with -g" in done.stderr


def test_no_build_id(builder: Builder, write_recipe: Write) -> None:
    script = """
        mkdir -p "$OUT$PREFIX/bin"; echo "int main(void) { return 0; }" > x.c
        gcc -g -o "$OUT$PREFIX/bin/x" x.c
        gcc -g -static -Wl,--build-id=none -o "$OUT$PREFIX/bin/y" x.c
        gcc -g -static -Wl,--build-id=0x12 -o "$OUT$PREFIX/bin/z" x.c
    """
    done = builder("build", write_recipe("nameless", script, more="debug=True"), status=1)
    assert "files with debug information and without a build id:\n  bin/y\n  bin/z\n" in done.stderr
    recipe = write_recipe("nameless", script, more="debug=True, keep=('bin/y', 'bin/z')")
    _, apart = builder.build(recipe, debug_info=True)
    assert len(list(tree(builder, apart["digest"]).files)) == 1


def test_a_recipe_that_splits_nothing(builder: Builder, write_recipe: Write) -> None:
    recipe = write_recipe("plain", MANY)
    done = builder("build", recipe, "--debug-info", status=1)
    assert "plain splits no debug information off" in done.stderr
    assert "debug=True" in done.stderr
    done = builder("build", RECIPES / "toolchain.py", "--debug-info", status=1)
    assert "toolchain splits no debug information off" in done.stderr
    recipe.write_text(recipe.read_text().replace("check=''", "check='', debug='yes'"))
    assert "debug is True or False, and got 'yes'" in builder("build", recipe, status=1).stderr


SOURCE = "int inner(int n) { return 2 * n; } void _start(void) { inner(3); for (;;); }"


def damaged(data: bytes) -> bytes:
    """A program whose debug information is said to lie where the file has no bytes."""
    header = Header.read(data, 0)
    own = sections.read(data, header)
    number = next(n for n, section in enumerate(own.headers) if own.name(section) == b".debug_info")
    broken = bytearray(data)
    struct.pack_into("<Q", broken, header.shoff + number * Section.FORM.size + 32, 1 << 40)
    return bytes(broken)


def test_a_damaged_file_is_named(builder: Builder, write_recipe: Write) -> None:
    recipe = write_recipe(
        "hostile",
        'install -D hostile "$OUT$PREFIX/bin/in here/hostile"; install -D good "$OUT$PREFIX/bin/good"',
        more="debug=True, sources=(Local('good'), Local('hostile'))",
    )
    good = compile_c(SOURCE, "-g", "-static", "-Wl,--build-id=sha1")
    (recipe.parent / "good").write_bytes(good)
    (recipe.parent / "hostile").write_bytes(damaged(good))
    done = builder("build", recipe, status=1)
    assert "splitting off the debug information of hostile 1 failed" in done.stderr
    assert "eu-strip cannot split bin/in here/hostile" in done.stderr
    assert "keep" in done.stderr


# -- another CPU --


def test_for_aarch64(builder: Builder, write_recipe: Write) -> None:
    more = "debug=True, platform='aarch64-linux', sources=(Local('program'),)"
    recipe = write_recipe("foreign", 'install -D program "$OUT$PREFIX/bin/program"', more=more)
    data = compile_c(SOURCE, "-g", "-static", "-Wl,--build-id=sha1", target="aarch64-freestanding-none")
    (recipe.parent / "program").write_bytes(data)
    main, apart = builder.build(recipe, debug_info=True)
    store = Store(builder.store)
    ((_, node),) = tree(builder, main["digest"]).files
    ((path, part),) = tree(builder, apart["digest"]).files
    assert b".debug_info" not in names(builder, node)
    assert b".debug_info" in names(builder, part)
    assert Header.read(store.read_blob(part.blob), 0).machine == Header.read(data, 0).machine == 183
    found = debug.described(Manifest([(b"x", File(Digest.of(data), len(data), True))]), keep=(), read=lambda _: data)
    assert path == b"lib/debug/.build-id/%s/%s.debug" % (
        found[0].build_id.hex()[:2].encode(),
        found[0].build_id.hex()[2:].encode(),
    )


# -- keys --


def test_the_key_of_a_build_is_the_same() -> None:
    """What a script sees and gives has nothing to do with what is split off from it."""
    root = Digest.of(b"an input root")
    recipes = [Recipe(name="x", version="1", about="a test", script=MANY, debug=debug) for debug in (False, True)]
    first, second = (steps.build_action(recipe, root) for recipe in recipes)
    assert first.digest == second.digest
