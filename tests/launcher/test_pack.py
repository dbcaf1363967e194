"""Packing: what gets into the launch directory, what is rewritten, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher import elf
from launcher.describe import describe
from launcher.elf import Kind
from launcher.needs import RECORD, Choice
from launcher.pack import AmbiguousLibrary, BadProgram, LinkLeadsOut, NoInterpreter, NoSuchProgram, UnresolvedLibrary
from launcher.settings import Settings
from store.manifest import DIRECTORY, File, Manifest, Symlink
from tests.launcher.programs import GLIBC, Blobs, compile_c, library, probe, program, start, values

LD = GLIBC.lstrip("/")
HERE = ".launch/x86_64-linux-gnu"
C = library("libc.so.6", name="c")
DEEP = library("libdeep.so.1", needs=(("libc.so.6", C),), calls="c();", name="deep")
FOO = library("libfoo.so.1", needs=(("libdeep.so.1", DEEP), ("libc.so.6", C)), calls="deep(); c();", name="foo")
PROGRAM = program(needs=(("libc.so.6", C), ("libfoo.so.1", FOO)), calls="c(); foo();", interpreter=GLIBC)
SIMPLE = program(needs=(("libc.so.6", C),), calls="c();", interpreter=GLIBC)
LIBS = "usr/lib/x86_64-linux-gnu/"


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()


def root(blobs: Blobs, **more: bytes) -> Manifest:
    """An input root as Debian's: /lib and /lib64 are links, and libc is where ld.so.conf says."""
    entries: dict[str, bytes | Symlink] = {
        "lib": Symlink(b"usr/lib"),
        "lib64": Symlink(b"/usr/lib64"),
        "usr/lib64/ld-linux-x86-64.so.2": Symlink(b"../../lib/x86_64-linux-gnu/ld.so"),
        LIBS + "ld.so": probe(),
        LIBS + "libc.so.6": C,
        "etc/ld.so.conf": b"# first\ninclude /etc/ld.so.conf.d/*.conf\n",
        "etc/ld.so.conf.d/deep.conf": b"/opt/deep/lib\n",
        "opt/deep/lib/libdeep.so.1": Symlink(b"./../../deep/lib/libdeep.so.1.0"),
        "opt/deep/lib/libdeep.so.1.0": DEEP,
    }
    return blobs.tree({**entries, **{name.replace("__", "/"): data for name, data in more.items()}})


def show(manifest: Manifest) -> dict[str, str]:
    """Paths with the targets of links, below .launch."""
    return {
        path.decode(): node.target.decode() if isinstance(node, Symlink) else ""
        for path, node in manifest.entries
        if path.startswith(b".launch/") and node != DIRECTORY
    }


# The launcher leaves $ORIGIN as it is where a directory's name has a colon.
def needed(blobs: Blobs, manifest: Manifest, path: str, tmp_path: Path) -> list[str]:
    blobs.check_out(manifest, tmp_path / "a:b")
    return values(start(tmp_path / "a:b" / path)[1], "needed")


def test_a_program_gets_all_its_libraries(blobs: Blobs, tmp_path: Path) -> None:
    output = blobs.tree({"bin/prog": PROGRAM, "lib/libfoo.so.1": Symlink(b"libfoo.so.1.2"), "lib/libfoo.so.1.2": FOO})
    made = blobs.pack(output, root(blobs, other=b"x" * 100))
    assert show(made) == {f"{HERE}/ld.so": "", f"{HERE}/lib/libc.so.6": "", f"{HERE}/lib/libdeep.so.1": ""}
    # Breadth first, the output's own library at its own place, and then what the program said itself.
    lib = f"$ORIGIN/../{HERE}/lib/"
    assert needed(blobs, made, "bin/prog", tmp_path) == [
        lib + "libc.so.6", "$ORIGIN/../lib/libfoo.so.1", lib + "libdeep.so.1", "libc.so.6", "libfoo.so.1",
    ]  # fmt: skip
    assert made[f"{HERE}/lib/libc.so.6".encode()] == blobs.add(C, True)
    assert made[b"lib/libfoo.so.1.2"] == blobs.add(FOO, True)
    # No payload of a launcher holds a digest or a place: the same again gives the same.
    assert blobs.pack(output, root(blobs)) == made


def test_only_what_is_needed_is_read(blobs: Blobs) -> None:
    tree = root(blobs, usr__lib__x86_64__linux__gnu__libother=b"x" * 100, usr__lib__libc=b"y" * 100)
    unread = {blobs.add(b"x" * 100, True).blob, blobs.add(b"y" * 100, True).blob}
    blobs.pack(blobs.tree({"bin/prog": SIMPLE}), tree)
    assert not unread & set(blobs.asked)


def test_a_packed_artifact_can_be_packed_again(blobs: Blobs) -> None:
    made = blobs.pack(blobs.tree({"bin/prog": SIMPLE}), root(blobs))
    again = Manifest((path, node) for path, node in made.entries if not path.startswith(b".launch"))
    assert blobs.pack(again, root(blobs)) == made


def test_every_missing_library_is_named(blobs: Blobs) -> None:
    tree = blobs.tree({LD: probe(), "pkg/lib/libfoo.so.1": FOO})
    output = blobs.tree({"bin/prog": PROGRAM})
    with pytest.raises(UnresolvedLibrary) as caught:
        blobs.pack(output, tree)
    assert caught.value.missing == (
        (b"libc.so.6", b"pkg/bin/prog"), (b"libdeep.so.1", b"pkg/lib/libfoo.so.1"), (b"libc.so.6", b"pkg/lib/libfoo.so.1"),
    )  # fmt: skip
    assert "libdeep.so.1, needed by pkg/lib/libfoo.so.1" in caught.value.message
    made = blobs.pack(output, tree, Settings(missing=("libc.so.6", "libdeep.so.1")))
    assert f"{HERE}/lib/libfoo.so.1" in show(made)


def test_libraries_for_other_machines_are_passed_over(blobs: Blobs) -> None:
    other = compile_c("void c(void) {}", "-shared", "-Wl,-soname,libc.so.6", target="x86-linux-gnu")
    tree = root(blobs, pkg__lib__libx=b"x")
    output = blobs.tree({"bin/prog": SIMPLE, "lib/libc.so.6": other})
    made = blobs.pack(output, tree)
    assert made[f"{HERE}/lib/libc.so.6".encode()] == blobs.add(C, True)


def test_run_paths_of_the_output(blobs: Blobs, tmp_path: Path) -> None:
    """A private library is found by the program's run path, and keeps its place."""
    private = library("libpriv.so", "-Wl,-rpath,/pkg/lib/private:$ORIGIN:/usr/lib", name="p")
    user = program("-Wl,-rpath,/pkg/lib/private:/usr/lib", needs=(("libpriv.so", private),), calls="p();", interpreter=GLIBC)
    made = blobs.pack(blobs.tree({"bin/tools/prog": user, "lib/private/libpriv.so": private}), root(blobs))
    assert show(made)[f"{HERE}/lib/libpriv.so"] == "../../../lib/private/libpriv.so"
    blobs.check_out(made, tmp_path / "a:b")
    lines = start(tmp_path / "a:b/bin/tools/prog")[1]
    assert values(lines, "needed") == ["$ORIGIN/../../lib/private/libpriv.so", "libpriv.so"]
    assert values(lines, "rpath") == [f"$ORIGIN/../../lib/private:$ORIGIN/../../{HERE}/lib"]
    node = made[b"lib/private/libpriv.so"]
    assert isinstance(node, File)
    edited = elf.read(blobs.data[node.blob])
    assert (edited.rpath, edited.runpath) == ((b"$ORIGIN",), ())


def test_a_bundled_library_is_changed_only_if_it_would_look_elsewhere(blobs: Blobs) -> None:
    away = library("libaway.so", "-Wl,-rpath,/usr/lib/away", name="away")
    here = library("libhere.so", "-Wl,-rpath,$ORIGIN/../lib", name="here")
    user = program(needs=(("libaway.so", away), ("libhere.so", here)), calls="away(); here();", interpreter=GLIBC)
    tree = root(blobs, pkg__lib__libhere=here)
    tree = Manifest(
        [*tree.entries, (b"usr/lib/libaway.so", blobs.add(away, False)), (b"usr/lib/libhere.so", blobs.add(here, False))]
    )
    made = blobs.pack(blobs.tree({"bin/prog": user}), tree)
    node = made[f"{HERE}/lib/libaway.so".encode()]
    assert isinstance(node, File)
    assert elf.read(blobs.data[node.blob]).runpath == ()
    assert made[f"{HERE}/lib/libhere.so".encode()] == blobs.add(here, False)


def test_modules_and_dlopen(blobs: Blobs) -> None:
    """What a program opens by itself: the output's own libraries, what the recipe names, and what notes say."""
    made = blobs.pack(blobs.tree({"bin/prog": SIMPLE, "lib/modules/m.so": FOO}), root(blobs))
    assert f"{HERE}/lib/libdeep.so.1" in show(made)
    made = blobs.pack(blobs.tree({"bin/prog": SIMPLE}), root(blobs), Settings(dlopen=("libdeep.so.1",)))
    assert f"{HERE}/lib/libdeep.so.1" in show(made)
    with pytest.raises(UnresolvedLibrary, match=r"libnone\.so"):
        blobs.pack(blobs.tree({"bin/prog": SIMPLE}), root(blobs), Settings(dlopen=("libnone.so",)))


def test_two_names_of_one_library_are_one_file(blobs: Blobs) -> None:
    user = program(needs=(("libc.so.6", C),), calls="c();", interpreter=GLIBC)
    tree = root(blobs)
    tree = Manifest([*tree.entries, (LIBS.encode() + b"libc.so", Symlink(b"libc.so.6"))])
    made = blobs.pack(blobs.tree({"bin/prog": user}), tree, Settings(dlopen=("libc.so",)))
    assert show(made)[f"{HERE}/lib/libc.so"] == "libc.so.6"


def test_two_libraries_of_one_name(blobs: Blobs) -> None:
    first, second = library("libtwo.so", name="t"), library("libtwo.so", "-s", name="t")
    one = program("-Wl,-rpath,/opt/one", needs=(("libtwo.so", first),), calls="t();", interpreter=GLIBC)
    two = program("-Wl,-rpath,/opt/two", needs=(("libtwo.so", first),), calls="t();", interpreter=GLIBC)
    more = blobs.tree({"opt/one/libtwo.so": first, "opt/two/libtwo.so": second})
    tree = Manifest({**dict(root(blobs).entries), **dict(more.entries)}.items())
    with pytest.raises(AmbiguousLibrary) as caught:
        blobs.pack(blobs.tree({"bin/one": one, "bin/two": two}), tree)
    assert (caught.value.first, caught.value.second) == (b"opt/one/libtwo.so", b"opt/two/libtwo.so")


def test_links(blobs: Blobs) -> None:
    output = blobs.tree({
        "share/a/b": b"text",
        "share/c/one": Symlink(b"/pkg/share/a/b"),
        "share/c/two": Symlink(b"../a"),
        "top": Symlink(b"/pkg"),
        "none": Symlink(b"/pkg/not/there"),
    })  # fmt: skip
    made = blobs.pack(output, root(blobs))
    links = {path: node.target for path, node in made.entries if isinstance(node, Symlink)}
    assert links == {
        b"share/c/one": b"../../share/a/b", b"share/c/two": b"../a", b"top": b".", b"none": b"not/there",
    }  # fmt: skip
    out = blobs.tree({
        "lib/a": Symlink(b"/usr/lib/a"), "b": Symlink(b"../b"), "c/d": Symlink(b"/pkg/../x"), "e": Symlink(b"/pkg/lib/in"),
    })  # fmt: skip
    with pytest.raises(LinkLeadsOut) as caught:
        blobs.pack(out, blobs.tree({"pkg/lib/in": b"an input's"}))
    assert {path for path, _ in caught.value.links} == {b"lib/a", b"b", b"c/d", b"e"}


def test_a_link_to_a_library_of_the_input_root_takes_it_along(blobs: Blobs) -> None:
    """`ln -s /usr/lib/.../libfoo.so.1 lib/libfoo.so` says: this, and what it needs, under this name. It is loaded once."""
    output = blobs.tree({"bin/prog": SIMPLE, "lib/x/libdeep.so": Symlink(b"/opt/deep/lib/libdeep.so.1")})
    made = blobs.pack(output, root(blobs))
    assert made[b"lib/x/libdeep.so"] == Symlink(f"../../{HERE}/lib/libdeep.so.1".encode())
    assert made[f"{HERE}/lib/libdeep.so.1".encode()] == blobs.add(DEEP, True)
    # Without a program, nothing says for which interpreter it is.
    with pytest.raises(LinkLeadsOut):
        blobs.pack(blobs.tree({"lib/x/libdeep.so": Symlink(b"/opt/deep/lib/libdeep.so.1")}), root(blobs))


def test_environment(blobs: Blobs, tmp_path: Path) -> None:
    chosen = Settings(environment=(("bin/prog", (("DATA", "{root}/share:x"),)), ("bin/run", (("B", "2"),))))
    output = blobs.tree({"bin/prog": SIMPLE, "bin/show": probe(), "bin/run": b"#!/pkg/bin/show\n"})
    made = blobs.pack(output, root(blobs), chosen)
    blobs.check_out(made, tmp_path / "x")
    assert values(start(tmp_path / "x/bin/prog")[1], "env") == [f"DATA={tmp_path}/x/share:x"]
    assert values(start(tmp_path / "x/bin/run")[1], "env") == ["B=2"]
    with pytest.raises(NoSuchProgram, match="bin/show"):
        blobs.pack(output, root(blobs), Settings(environment=(("bin/show", (("A", "1"),)),)))


def test_what_no_launcher_can_be_made_of(blobs: Blobs) -> None:
    old = compile_c("void c(void) {}", "-shared", "-Wl,-soname,libc.so.6", target="x86-linux-gnu")
    flags = ("-fPIE", "-pie", "-Wl,--dynamic-linker=/lib/ld-linux.so.2")
    source = "void c(void); void _start(void) { c(); }"
    foreign = compile_c(source, *flags, target="x86-linux-gnu", libraries=(("libc.so.6", old),))
    with pytest.raises(BadProgram, match="bin/old: a 32-bit program for 386"):
        blobs.pack(blobs.tree({"bin/old": foreign}), root(blobs))
    made = blobs.pack(blobs.tree({"bin/old": foreign}), root(blobs), Settings(keep=("bin/old",)))
    assert made[b"bin/old"] == blobs.add(foreign, True)
    with pytest.raises(BadProgram, match="bin/cut: a damaged ELF file"):
        blobs.pack(blobs.tree({"bin/cut": SIMPLE[:300]}), root(blobs))
    with pytest.raises(BadProgram, match=r"\.launch is for"):
        blobs.pack(blobs.tree({".launch/x": b"x"}), root(blobs))


def test_musl(blobs: Blobs, tmp_path: Path) -> None:
    musl = library("libc.so", name="c")
    user = program(needs=(("libc.so", musl), ("libfoo.so.1", FOO)), calls="c(); foo();", interpreter="/lib/ld-musl-x86_64.so.1")
    foo = library("libfoo.so.1", name="foo")
    tree = blobs.tree({"lib/ld-musl-x86_64.so.1": probe(), "lib/libfoo.so.1": foo})
    made = blobs.pack(blobs.tree({"bin/prog": user}), tree)
    assert show(made) == {".launch/x86_64-linux-musl/ld.so": "", ".launch/x86_64-linux-musl/lib/libfoo.so.1": ""}
    blobs.check_out(made, tmp_path / "a:b")
    lines = start(tmp_path / "a:b/bin/prog")[1]
    assert values(lines, "needed") == ["libc.so", "libfoo.so.1"]
    assert values(lines, "rpath") == ["$ORIGIN/../.launch/x86_64-linux-musl/lib"]


def test_describe(blobs: Blobs) -> None:
    output = blobs.tree({"bin/prog": SIMPLE, "bin/show": probe(), "lib/libfoo.so.1": FOO, "bin/run": b"#!/pkg/bin/show\n"})
    made = blobs.pack(output, root(blobs), Settings(environment=(("bin/prog", (("A", "{root}"),)),)))
    found = {one.path.decode(): one for one in describe(made, blobs.read)}
    assert {path: one.kind for path, one in found.items()} == {
        "bin/prog": "launcher", "bin/show": Kind.STATIC.value, "bin/run": "script launcher", "lib/libfoo.so.1": "library",
        ".launch/script/bin/run/bin/run": "script", f"{HERE}/ld.so": "interpreter", f"{HERE}/lib/libc.so.6": "library",
        f"{HERE}/lib/libdeep.so.1": "library",
    }  # fmt: skip
    launcher = found["bin/prog"]
    assert [(one.what, one.path.decode(), one.blob) for one in launcher.references] == [
        ("interpreter", f"{HERE}/ld.so", found[f"{HERE}/ld.so"].file.blob),
        ("library", f"{HERE}/lib/libc.so.6", blobs.add(C, True).blob),
    ]
    assert launcher.defaults == (b"A={root}",)
    assert [(one.what, one.path) for one in found["bin/run"].references] == [
        ("interpreter", b"bin/show"), ("script", b".launch/script/bin/run/bin/run"),
    ]  # fmt: skip


def test_scripts(blobs: Blobs, tmp_path: Path) -> None:
    output = blobs.tree({
        "bin/show": probe(), "bin/run": b"#! /pkg/bin/show  -x y \nbody", "bin/also": Symlink(b"run"),
        "bin/env": b"#!/usr/bin/env show\n", "bin/split": b"#!/usr/bin/env -S show -a -b\n",
        "libexec/deep/er": b"#!/pkg/bin/show\n", "share/run": b"#!/nowhere\n", "share/data": b"data",
    })  # fmt: skip
    made = blobs.pack(output, root(blobs))
    top = tmp_path / "x"
    blobs.check_out(made, top)

    def argv(path: str) -> list[str]:
        status, lines = start(top / path, "one", "", name="anything", env={"A": "1"})
        assert (status, values(lines, "env")) == (7, ["A=1"])
        return [word.replace(str(top), "TOP") for word in values(lines, "argv")]

    assert argv("bin/run") == ["TOP/bin/show", "-x y", "TOP/.launch/script/bin/run/bin/run", "one", ""]
    assert argv("bin/also") == ["TOP/bin/show", "-x y", "TOP/.launch/script/bin/run/bin/also", "one", ""]
    assert argv("bin/env") == ["TOP/bin/show", "TOP/.launch/script/bin/env/bin/env", "one", ""]
    assert argv("bin/split") == ["TOP/bin/show", "-a", "-b", "TOP/.launch/script/bin/split/bin/split", "one", ""]
    assert argv("libexec/deep/er") == ["TOP/bin/show", "TOP/.launch/script/libexec/deep/er/libexec/deep/er", "one", ""]
    (top / "other").symlink_to("bin/run")
    assert argv("other")[2] == "TOP/.launch/script/bin/run/bin/run"
    assert (top / ".launch/script/bin/run/bin/run").read_bytes() == b"#! /pkg/bin/show  -x y \nbody"
    # Another script is that script's launcher, even from there.
    assert (top / ".launch/script/bin/run/bin/env").read_bytes().startswith(b"\x7fELF")
    # From where the script lies, everything is where it would be.
    for path in ("bin/show", "share/data", "libexec/../share/data", "bin/also"):
        assert (top / ".launch/script/bin/run" / path).exists()
    assert (top / ".launch/script/bin/run/share/data").read_bytes() == b"data"
    assert (top / "share/run").read_bytes() == b"#!/nowhere\n"


def test_a_script_without_its_interpreter(blobs: Blobs, tmp_path: Path) -> None:
    path = tmp_path / "x"
    made = blobs.pack(blobs.tree({"bin/show": probe(), "bin/run": b"#!/pkg/bin/show"}), root(blobs))
    blobs.check_out(made, path)
    (path / "bin/show").unlink()
    assert start(path / "bin/run") == (121, [f"launcher: {path}/bin/show: cannot be started, error 2"])


@pytest.mark.parametrize("line", ["/usr/bin/perl -w", "/usr/bin/env perl", "/usr/bin/env -S perl -w"])
def test_a_script_for_an_interpreter_that_is_not_there(blobs: Blobs, line: str) -> None:
    output = blobs.tree({"bin/show": probe(), "bin/run": f"#!{line}\n".encode()})
    tree = root(blobs, usr__bin__perl=SIMPLE)
    with pytest.raises(NoInterpreter, match="bin/run needs"):
        blobs.pack(output, tree)


def test_a_script_for_an_interpreter_of_the_host(blobs: Blobs) -> None:
    script = b"#!/usr/bin/perl -w\n"
    made = blobs.pack(blobs.tree({"bin/run": script}), root(blobs), Settings(host_interpreters=("/usr/bin/perl",)))
    assert made == blobs.tree({"bin/run": script})


def test_a_shell_of_the_input_root_is_bundled(blobs: Blobs, tmp_path: Path) -> None:
    tree = root(blobs, usr__bin__dash=SIMPLE)
    tree = Manifest([*tree.entries, (b"bin", Symlink(b"usr/bin")), (b"usr/bin/sh", Symlink(b"dash"))])
    made = blobs.pack(blobs.tree({"bin/run": b"#!/bin/sh -e\n"}), tree)
    assert set(show(made)) == {
        f"{HERE}/ld.so", f"{HERE}/bin/sh", f"{HERE}/lib/libc.so.6", ".launch/script/bin/run/bin/run",
    }  # fmt: skip
    blobs.check_out(made, tmp_path / "a:b")
    lines = start(tmp_path / "a:b/bin/run")[1]
    here = f"{tmp_path}/a:b"
    assert values(lines, "argv") == [f"{here}/{HERE}/bin/sh", "-e", f"{here}/.launch/script/bin/run/bin/run"]
    assert values(lines, "needed")[0] == f"$ORIGIN/../../../{HERE}/lib/libc.so.6"


def test_the_interpreter_is_found_by_its_name(blobs: Blobs) -> None:
    """Where libraries are loaded a second time (dlmopen, LD_AUDIT), their DT_NEEDED asks for it."""
    there = root(blobs, **{LIBS + "ld.so": library("ld-linux-x86-64.so.2")})
    made = blobs.pack(blobs.tree({"bin/prog": PROGRAM, "lib/libfoo.so.1": FOO}), there)
    assert show(made)[f"{HERE}/lib/ld-linux-x86-64.so.2"] == "../ld.so"


def test_settings_have_one_encoding() -> None:
    a = Settings(dlopen=("b", "a"), environment=(("x", (("B", "1"), ("A", "2"))),))
    b = Settings(dlopen=("a", "b", "a"), environment=(("x", (("A", "2"), ("B", "1"))),))
    assert a.encode() == b.encode() == [5, [["x", [["A", "2"], ["B", "1"]]]], ["a", "b"], [], [], [], [], False]
    assert a.encode() != Settings(missing=("a", "b")).encode()
    assert Settings(needs=Choice(("b", "a"), ("c",))).encode() == [*Settings().encode(), ["a", "b"], ["c"]]


def test_an_artifact_says_what_its_recipe_says_of_what_running_needs(blobs: Blobs) -> None:
    output = blobs.tree({"bin/prog": SIMPLE, "include/x.h": b"int x;"})
    made = blobs.pack(output, root(blobs), Settings(needs=Choice(("share/tests",), ("include",))))
    node = made[RECORD]
    assert isinstance(node, File)
    assert blobs.data[node.blob] == b"development share/tests\nruntime include\n"
    plain = blobs.pack(output, root(blobs))
    assert made.nodes.items() - plain.nodes.items() == {(RECORD, node)}
