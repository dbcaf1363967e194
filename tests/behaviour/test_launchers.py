"""What a recipe says of its programs, seen on the artifact: at its own place, and as a copy somewhere else."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Builder

Write = Callable[..., Path]

SCRIPT = r"""
mkdir -p "$OUT$PREFIX/bin" "$OUT$PREFIX/lib" "$OUT$PREFIX/share"
echo "data beside it" > "$OUT$PREFIX/share/data"

cat > plugin.c <<'END'
const char *plugin(void) { return "plugged in"; }
END
gcc -shared -fPIC -Wl,-soname,libplugin.so.1 -o "$OUT$PREFIX/lib/libplugin.so.1" plugin.c

cat > main.c <<'END'
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    char self[4096] = "";
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) return 1;
    printf("%s\n%s\n%s\n", argv[0], self, getenv("TOOL_DATA"));
    void *library = dlopen("libplugin.so.1", RTLD_NOW);
    if (!library) return puts(dlerror()), 2;
    puts(((const char *(*)(void))dlsym(library, "plugin"))());
    if (!dlopen("libz.so.1", RTLD_NOW)) return puts(dlerror()), 3;
    return argc > 1 ? atoi(argv[1]) : 0;
}
END
gcc -o "$OUT$PREFIX/bin/tool" main.c

cat > "$OUT$PREFIX/bin/script" <<'END'
#!/bin/sh -e
here="$(cd "$(dirname "$0")" && pwd)"
echo "$(basename "$0"): $* $(cat "$here/../share/data")"
exit 5
END
chmod +x "$OUT$PREFIX/bin/script"
"""
MORE = "environment={'bin/tool': {'TOOL_DATA': '{root}/share/data'}}, dlopen=('libz.so.1',)"


@pytest.fixture
def tool(builder: Builder, write_recipe: Write, tmp_path: Path) -> Iterator[Path]:
    """A copy of the artifact, under a name with everything in it that a loader might split or expand."""
    recipe = write_recipe("tool", SCRIPT, more=MORE)
    (built,) = builder.build(recipe)
    copy = tmp_path / "a b:c;d\n" / "copy"
    shutil.copytree(built["path"], copy, symlinks=True)
    yield copy
    subprocess.run(["chmod", "-R", "u+w", str(copy)], check=True)


def start(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env={"PATH": "/usr/bin:/bin", **variables}, capture_output=True, text=True, check=False)


def test_a_program_knows_itself_its_data_and_its_libraries(tool: Path) -> None:
    program = tool / "bin" / "tool"
    done = start(program, "3")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == f"{program}\n{program}\n{tool}/share/data\nplugged in\n"
    assert f"{program}\nmine\n" in start(program, TOOL_DATA="mine").stdout


def test_a_script_knows_itself_and_what_lies_beside_it(tool: Path) -> None:
    assert (tool / "bin" / "script").read_bytes().startswith(b"\x7fELF")
    done = start(tool / "bin" / "script", "a", "b c")
    assert (done.returncode, done.stdout, done.stderr) == (5, "script: a b c data beside it\n", "")


def test_what_is_dlopened_is_brought_along(tool: Path) -> None:
    assert (tool / ".launch" / "x86_64-linux-gnu" / "lib" / "libz.so.1").exists()


def test_no_file_holds_a_path_of_this_machine(builder: Builder, tool: Path) -> None:
    places = [str(builder.store).encode(), str(tool).encode(), b"/root/", b"/home/"]
    for path in tool.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            assert not [place for place in places if place in data], path
