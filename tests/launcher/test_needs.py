"""What of an artifact running needs: a pure function of its tree."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import needs
from launcher.needs import BadChoice, Choice, is_idle, needed, refused
from store.digest import Digest
from store.manifest import DIRECTORY, BadEntry, File, Manifest, Node, Symlink, way


def tree(*paths: str) -> Manifest:
    """Files by their paths; a path that ends with a slash is a directory, one with an arrow a symlink."""
    entries: list[tuple[bytes, Node]] = []
    for path in paths:
        name, arrow, target = path.partition(" -> ")
        if arrow:
            entries.append((name.encode(), Symlink(target.encode())))
        elif path.endswith("/"):
            entries.append((path[:-1].encode(), DIRECTORY))
        else:
            entries.append((path.encode(), File(Digest.of(path.encode()), len(path), path.startswith("bin/"))))
    return Manifest.with_parents(entries)


def left(artifact: Manifest, *, development: tuple[str, ...] = (), runtime: tuple[str, ...] = ()) -> set[str]:
    """The paths of what running needs, without directories that are not empty."""
    found = needed(artifact, Choice(development, runtime))
    full = {path.rpartition(b"/")[0] for path in found}
    return {path.decode() for path, node in found.entries if node != DIRECTORY or path not in full}


def same(artifact: Manifest, **fields: tuple[str, ...]) -> bool:
    return needed(artifact, Choice(**fields)) == artifact


# -- what goes --


@pytest.mark.parametrize(
    "path",
    [
        "include/zlib.h",
        "include/c++/12/vector",
        "lib/libz.a",
        "lib/x86_64-linux-gnu/libz.a",
        "lib/gcc/x86_64-linux-gnu/12/libgcc.a",
        "lib64/libz.a",
        "lib/libz.la",
        "lib/pkgconfig/zlib.pc",
        "lib/x86_64-linux-gnu/pkgconfig/zlib.pc",
        "lib/cmake/zlib/zlib.cmake",
        "share/pkgconfig/x.pc",
        "share/cmake/x.cmake",
        "share/eigen3/cmake/x.cmake",
        "share/aclocal/x.m4",
        "share/gir-1.0/x.gir",
        "share/vala/vapi/x.vapi",
        "share/doc/x/README",
        "share/info/x.info",
        "share/gtk-doc/html/x/index.html",
        "share/man/man3/zlib.3",
        "share/man/man3pm/X.3pm",
        "share/man/de/man2/open.2",
        "share/man/man9/x.9",
        ".launch/inputs/include/x.h",
        ".launch/inputs/lib/libx.a",
    ],
)
def test_what_is_left_out(path: str) -> None:
    assert left(tree("bin/x", path)) == {"bin/x"}


@pytest.mark.parametrize(
    "path",
    [
        "bin/curl-config",  # there is nothing to compile against, so it is no script for that
        "lib/libz.so",
        "lib/libz.so.1",
        "lib/ImageMagick-6/modules/coders/png.la",
        "lib/python3/site-packages/pkgconfig/__init__.py",
        "lib/python3/site-packages/cmake/__init__.py",
        "lib/girepository-1.0/x.typelib",
        "lib/x/include/x.h",
        "share/crystal/src/lib_c/include/x.cr",
        "share/include/x",
        "share/man/man1/x.1",
        "share/man/man5/x.5",
        "share/man/man7/x.7",
        "share/man/de/man1/x.1",
        "share/aclocal-1.16/x.m4",
        "share/licenses/x/LICENSE",
        ".launch/x86_64-linux-gnu/lib/libx.a",
    ],
)
def test_what_stays(path: str) -> None:
    assert same(tree("bin/x", path))


def test_scripts_that_answer_compilers_go_with_what_they_speak_of() -> None:
    mirror = ".launch/script/bin/x-config/"
    made = tree(
        *(
            "bin/x",
            "bin/x-config",
            "share/man/man1/x-config.1",
            "include/x.h",
            ".launch/apart/bin/x",
            ".launch/apart/bin/x-config",
        ),
        *(f"{mirror}bin/x-config", f"{mirror}bin/x -> ../../../../../bin/x", f"{mirror}include -> ../../../../include"),
    )
    assert left(made) == {"bin/x", ".launch/apart/bin/x"}


def test_a_mirror_of_a_script_loses_what_leads_nowhere() -> None:
    top = ".launch/script/bin/x/"
    made = tree(
        *("bin/x", "bin/y", "bin/x-config", "include/x.h", "share/data"),
        *(f"{top}bin/x", f"{top}bin/y -> ../../../../../bin/y", f"{top}bin/x-config -> ../../../../../bin/x-config"),
        *(f"{top}include -> ../../../../include", f"{top}share -> ../../../../share"),
    )
    assert left(made) == {"bin/x", "bin/y", "share/data", f"{top}bin/x", f"{top}bin/y", f"{top}share"}


@pytest.mark.parametrize(
    "name",
    ["COPYING", "copyright", "LICENSE.md", "Licence", "NOTICE", "NOTICES.txt", "COPYING.LESSER", "LICENSE-MIT", "UNLICENSE"],
)
def test_licences_stay(name: str) -> None:
    assert left(tree("bin/x", "include/x.h", f"share/doc/x/{name}", "share/doc/x/README")) == {"bin/x", f"share/doc/x/{name}"}


def test_more_about_licences() -> None:
    made = tree("bin/x", "share/doc/x/licenses/MIT.txt", "include/x/licence.h", "share/doc/x/copyright -> ../y", "share/doc/y")
    assert left(made) == {"bin/x", "share/doc/x/licenses/MIT.txt", "share/doc/x/copyright", "share/doc/y"}


def test_empty_folders() -> None:
    assert left(tree("bin/x", "share/doc/x/y", "share/empty/", "include/empty/")) == {"bin/x", "share/empty"}


# -- links --


def test_a_file_that_a_link_needs_stays() -> None:
    made = tree(
        *("share/man/man1/x.1 -> ../man3/x.3", "share/man/man3/x.3", "share/man/man3/y.3"),
        *("lib/x -> ../include/b/x", "include/b -> c", "include/c/x -> y", "include/c/y", "include/c/z"),
    )
    assert left(made) == {
        *("share/man/man1/x.1", "share/man/man3/x.3", "lib/x", "include/b", "include/c/x", "include/c/y"),
    }  # fmt: skip


def test_links_to_folders_that_went_go() -> None:
    made = tree(
        "bin/x", "share/x/doc -> ../doc/x", "share/x/again -> doc", "share/doc/x/a", "share/nowhere -> doc/y", "top -> ."
    )
    assert left(made) == {"bin/x", "share/nowhere", "top"}
    # Of this folder a licence is left.
    made = tree("bin/x", "share/x/doc -> ../doc/x", "share/doc/x/a", "share/doc/x/COPYING")
    assert left(made) == {"bin/x", "share/x/doc", "share/doc/x/COPYING"}


def test_links_that_lead_through_something() -> None:
    # A folder, which stays for that; and a file, through which nothing leads.
    assert left(tree("bin/x -> ../include/../y", "y", "include/x.h")) == {"bin/x", "include", "y"}
    assert left(tree("bin/x -> ../include/x.h/../../y", "y", "include/x.h")) == {"bin/x", "y"}


def test_links_to_each_other_stay_where_nothing_went() -> None:
    made = tree("a/b -> ../c", "c/d -> ../a", "include/x.h")
    assert left(made) == {"a/b", "c/d"}


# -- what recipes say --


def test_a_recipe_says_more() -> None:
    made = tree("bin/x", "bin/tests/x", "share/x/examples/a", "share/y/examples/b", "share/examples", "src/a/b.c", "src/b.c")
    assert left(made, development=("share/*/examples", "src/**/b.c", "bin/te??s")) == {"bin/x", "share/examples"}


def test_a_recipe_says_less() -> None:
    compiler = tree("bin/cc", "include/a.h", "lib/gcc/12/libgcc.a", "lib/libother.a", "share/doc/x/page", "share/doc/y")
    assert left(compiler, runtime=("include", "lib/gcc")) == {"bin/cc", "include/a.h", "lib/gcc/12/libgcc.a"}
    assert same(compiler, runtime=("include", "lib", "share"))
    # What is needed wins over both.
    assert same(tree("bin/x", "share/x"), development=("share",), runtime=("share/x",))


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "/include",
        "a/**/**/b",
        "include/",
        "a//b",
        "../a",
        "./a",
        "a/../b",
        "a**/b",
        "a/**",
        "**",
        ".launch/x",
        "a\nb",
        "a\0b",
    ],
)
def test_no_patterns(pattern: str) -> None:
    assert refused(pattern)
    for data in f"runtime {pattern}\n".encode(), f"development {pattern}\n".encode():
        with pytest.raises(BadChoice):
            Choice.decode(data)


patterns = st.lists(
    st.lists(st.sampled_from(["include", "*", "a?", "[!b]*", "**", "ü"]), min_size=1, max_size=4).map("/".join), max_size=4
).map(lambda found: tuple(one for one in found if not refused(one)))
choices = st.builds(Choice, patterns, patterns)


@given(choices)
def test_a_choice_is_read_as_it_was_written(choice: Choice) -> None:
    again = Choice.decode(choice.encode())
    assert again.rows == choice.rows
    assert again.encode() == choice.encode()


def test_a_choice_of_another_builder() -> None:
    assert Choice.decode(b"") == needs.NO_CHOICE
    with pytest.raises(BadChoice, match="sometimes include"):
        Choice.decode(b"runtime a\nsometimes include\n")
    for data in b"runtime a", b"runtime b\nruntime a\n", b"runtime a\n\n", b"runtime \xff\n", b"\n":
        with pytest.raises(BadChoice):
            Choice.decode(data)
    with pytest.raises(BadChoice, match="9000000 bytes"):
        needs.choice_of(Manifest.with_parents([(needs.RECORD, File(Digest.of(b""), 9_000_000, False))]), lambda _: b"")
    found = File(Digest.of(b"runtime include\n"), 16, False)
    made = Manifest.with_parents([(needs.RECORD, found), (b"include/x", found)])
    assert needs.choice_of(made, lambda digest: b"runtime include\n" if digest == found.blob else b"") == Choice(
        (), ("include",)
    )
    assert needs.choice_of(tree("bin/x"), lambda _: b"") == needs.NO_CHOICE


def test_what_is_idle() -> None:
    assert is_idle(tree(".launch/x/ld.so", "share/doc/x/COPYING", "share/man/man7/x.7", "empty/"))
    assert not is_idle(tree("share/doc/x/COPYING", "lib/libx.so -> libx.so.1"))
    assert not is_idle(tree("share/data"))


# -- any tree --

names = st.sampled_from(
    [
        "a",
        "bin",
        "include",
        "lib",
        "share",
        "doc",
        "man",
        "man3",
        ".launch",
        "script",
        "inputs",
        "x.a",
        "x-config",
        "COPYING",
        "b",
    ]
)
paths = st.lists(names, min_size=1, max_size=5).map("/".join)
targets = st.lists(st.sampled_from(["..", "."]) | names, min_size=1, max_size=6).map("/".join)
nodes = st.just("") | st.just("/") | targets.map(lambda target: f" -> {target}")


def trees(entries: Iterable[tuple[str, str]]) -> Manifest:
    made = Manifest([])
    for path, node in entries:
        try:
            made = Manifest.with_parents([*made.entries, *tree(path + node).entries])
        except BadEntry:
            try:  # all of it but the folders that are there
                more = [entry for entry in tree(path + node).entries if entry[0] not in made]
                made = Manifest.with_parents([*made.entries, *more])
            except BadEntry:
                continue  # below a file
    return made


@given(st.lists(st.tuples(paths, nodes), max_size=25).map(trees), choices)
def test_any_tree(artifact: Manifest, choice: Choice) -> None:
    small = needed(artifact, choice)
    # A part of it, and a tree: the manifest's constructor has seen to the folders.
    assert small.nodes.items() <= artifact.nodes.items()
    assert needed(small, choice) == small
    for path, node in artifact.entries:
        if isinstance(node, Symlink) and path in small and way(artifact, path) is not None:
            assert way(small, path) == way(artifact, path)
        if isinstance(node, File) and path.endswith(b"/COPYING") and b".launch" not in path:
            assert path in small
    # Folders are there because something is in them, or a link leads through them, or they always were empty.
    full, was_full = ({path.rpartition(b"/")[0] for path in one} for one in (small, artifact))
    full |= {place for path, node in small.entries if isinstance(node, Symlink) for place in (way(small, path) or ([], b""))[0]}
    assert all(path in full or path not in was_full for path, node in small.entries if node == DIRECTORY)
    everything = Choice((), tuple({path.decode().split("/")[0] for path in artifact} - {".launch"}))
    assert all(path in needed(artifact, everything) for path in artifact if not path.startswith(b".launch"))
