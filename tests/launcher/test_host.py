"""Libraries that only the host has: none without the option, and with it never in the place of the artifact's own.

The host is a root with libraries of its own, and the program that opens them is tests/debian/opens.py.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher import host
from tests.conftest import ROOT, Builder, environment
from tests.launcher.programs import compile_c, start

pytestmark = pytest.mark.xdist_group("host")

DEBIAN = ROOT / "tests" / "debian"
HERE = "usr/lib/x86_64-linux-gnu"
TEXT = 'const char *{name}(void) {{ return "{text}"; }}'
CALLS = "const char *{calls}(void); const char *{name}(void) {{ return {calls}(); }}"


def install(top: Path, path: str, source: str, *flags: str, needs: tuple[tuple[str, bytes], ...] = ()) -> tuple[str, bytes]:
    """A library of the host, to be linked with others."""
    place = top / path
    place.parent.mkdir(parents=True, exist_ok=True)
    data = compile_c(source, "-shared", "-fPIC", f"-Wl,-soname,{place.name}", *flags, libraries=needs)
    place.write_bytes(data)
    return place.name, data


@pytest.fixture(scope="module")
def roots(shared_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A host with the artifact at /opt/it: once one that may open the host's libraries, and once one that may not."""
    top = tmp_path_factory.mktemp("hosts")
    first = top / "opens"
    helper = install(first, f"{HERE}/libhelp.so.1", TEXT.format(name="help", text="help"))
    install(first, f"{HERE}/libhost.so.1", CALLS.format(name="host", calls="help"), needs=(helper,))
    zlib = install(first, f"{HERE}/libz.so.1", TEXT.format(name="zlibVersion", text="the host's"))
    install(first, f"{HERE}/libzip.so.1", CALLS.format(name="zip", calls="zlibVersion"), needs=(zlib,))
    install(first, f"{HERE}/libgpu.so.1", TEXT.format(name="gpu", text="drawn"))
    install(first, "opt/configured/libconf.so.1", TEXT.format(name="conf", text="conf"))
    # A private directory, by a run path of the library's own.
    near = install(first, f"{HERE}/far/libnear.so.1", TEXT.format(name="near", text="near"))
    flags = ("-Wl,--enable-new-dtags", f"-Wl,-rpath,/{HERE}/far")
    install(first, f"{HERE}/libfar.so.1", CALLS.format(name="far", calls="near"), *flags, needs=(near,))
    install(first, f"{HERE}/libboth.so.1", CALLS.format(name="both", calls="help"), *flags, needs=(helper,))
    (first / "etc/ld.so.conf.d").mkdir(parents=True)
    (first / "etc/ld.so.conf").write_text("# comment\ninclude ld.so.conf.d/*.conf\n/lib # and more\n")
    (first / "etc/ld.so.conf.d/a.conf").write_text("/opt/configured\n")
    shutil.copytree(first, top / "opens_own")
    for name in ("opens", "opens_own"):
        (built,) = Builder(shared_store, environment(shared_store)).build(DEBIAN / f"{name}.py")
        shutil.copytree(built["path"], top / name / "opt/it", symlinks=True)
        shutil.copy(top / name / "opt/it/share/libnew.so.1", top / name / HERE)
    return {name: top / name for name in ("opens", "opens_own")}


def opened(root: Path, *libraries: str, **variables: str) -> list[str]:
    status, lines = start(Path("/opt/it/bin/opens"), *libraries, root=root, env=variables)
    assert status == 0, lines
    return lines


def search(root: Path) -> str:
    """What `builder run --host-libraries` would set on that host."""

    def read(path: bytes) -> bytes | None:
        place = root / path.decode().lstrip("/")
        return place.read_bytes() if place.is_file() else None

    def names(pattern: bytes) -> list[bytes]:
        found = root.glob(pattern.decode().lstrip("/"))
        return sorted(b"/" + bytes(path.relative_to(root)) for path in found)

    return b":".join(host.search_path(read, names, "x86_64-linux-gnu")).decode()


def test_none_without_the_option(roots: dict[str, Path]) -> None:
    said = opened(roots["opens_own"], "libhost.so.1:host", "libz.so.1:zlibVersion")
    assert said[0] == "libhost.so.1: cannot open shared object file: No such file or directory"
    assert said[1].startswith("1.2.")
    # Whoever opens a path, as some programs do that look for libraries by themselves, gets the file, and not what it needs.
    assert "libhelp.so.1: cannot open" in opened(roots["opens_own"], f"/{HERE}/libhost.so.1:host")[0]


@pytest.mark.parametrize("way", ["recipe", "run"])
def test_what_the_artifact_has_not_comes_from_the_host(roots: dict[str, Path], way: str) -> None:
    root = roots["opens" if way == "recipe" else "opens_own"]
    variables = {} if way == "recipe" else {"LD_LIBRARY_PATH": search(root)}
    libraries = ("libhost.so.1:host", f"/{HERE}/libhost.so.1:host", "libfar.so.1:far")
    assert opened(root, *libraries, **variables) == ["help", "help", "near"]
    # zlib is the artifact's, for the host's own library too.
    assert opened(root, "libzip.so.1:zip", **variables)[0].startswith("1.2.")


def test_a_program_that_is_linked_with_one(roots: dict[str, Path]) -> None:
    """What the recipe lists under `missing` is looked for on the host."""
    assert start(Path("/opt/it/bin/draws"), root=roots["opens"]) == (0, ["drawn"])
    status, lines = start(Path("/opt/it/bin/draws"), root=roots["opens_own"])
    assert status == 127
    assert "libgpu.so.1: cannot open shared object file" in lines[0]


def test_directories_that_only_the_host_knows(roots: dict[str, Path]) -> None:
    """The host's configuration is read for a run; an artifact has a fixed list."""
    assert opened(roots["opens_own"], "libconf.so.1:conf", LD_LIBRARY_PATH=search(roots["opens_own"])) == ["conf"]
    assert "cannot open shared object file" in opened(roots["opens"], "libconf.so.1:conf")[0]


def test_a_library_with_a_run_path_of_its_own(roots: dict[str, Path]) -> None:
    """glibc looks for what such a library needs without the program's DT_RPATH, unless the program has loaded it."""
    both = "libboth.so.1:both"
    assert "libhelp.so.1: cannot open" in opened(roots["opens"], both)[0]
    assert opened(roots["opens"], "libhelp.so.1:help", both) == ["help", "help"]
    assert opened(roots["opens"], both, LD_LIBRARY_PATH=search(roots["opens"])) == ["help"]


@pytest.mark.parametrize("way", ["recipe", "run"])
def test_a_library_that_needs_a_newer_glibc(roots: dict[str, Path], way: str) -> None:
    """It is refused with a message, and the program goes on."""
    root = roots["opens" if way == "recipe" else "opens_own"]
    variables = {} if way == "recipe" else {"LD_LIBRARY_PATH": search(root)}
    said = opened(root, "libnew.so.1:new", "libhost.so.1:host", **variables)
    ours = "/opt/it/bin/../.launch/x86_64-linux-gnu/lib/libc.so.6"
    assert said == [f"{ours}: version `GLIBC_2.38' not found (required by /{HERE}/libnew.so.1)", "help"]


def test_the_fixed_list() -> None:
    found = host.directories("x86_64-linux-gnu")
    assert len(set(found)) == len(found)
    for name in ("/run/opengl-driver/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/lib"):
        assert name.encode() in found


def test_configuration_that_includes_itself() -> None:
    files = {b"/etc/ld.so.conf": b"include ld.so.conf\n/a\n"}
    assert set(host.configured(files.get, lambda pattern: [pattern])) == {b"/a"}


def test_run_with_libraries_of_this_machine(builder: Builder, write_recipe: Callable[..., Path]) -> None:
    script = (
        'mkdir -p "$OUT$PREFIX/bin"\n'
        'printf \'#!/bin/sh\\necho "$LD_LIBRARY_PATH"\\n\' > "$OUT$PREFIX/bin/says"\n'
        'chmod +x "$OUT$PREFIX/bin/says"\n'
    )
    recipe = write_recipe("says", script)
    assert builder("run", recipe).stdout == "\n"
    command = Builder(builder.store, {**builder.environment, "LD_LIBRARY_PATH": "/mine:"})
    said = command("run", recipe, "--host-libraries").stdout.strip().split(":")
    assert said[0] == "/mine"
    assert {os.fsdecode(path) for path in host.directories("x86_64-linux-gnu") if os.path.isdir(path)} <= set(said)
    assert all(map(os.path.isdir, said[1:]))


def test_run_of_what_has_no_use_for_them(builder: Builder, write_recipe: Callable[..., Path]) -> None:
    script = (
        'echo \'int main(void) { return 0; }\' > a.c\nmkdir -p "$OUT$PREFIX/bin"\ngcc -static -o "$OUT$PREFIX/bin/alone" a.c\n'
    )
    recipe = write_recipe("alone", script)
    builder("run", recipe)
    done = builder("run", recipe, "--host-libraries", status=1)
    assert "alone has no dynamic program for glibc" in done.stderr
