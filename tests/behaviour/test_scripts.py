"""Scripts of a recipe whose interpreters come from an input recipe and from the root, on a root with busybox alone."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Builder

RECIPES = r'''
from builder import Recipe
from recipes import toolchain

tool = Recipe(name="tool", version="1", about="a test", inputs=(toolchain.recipe,), script=r"""
mkdir -p "$OUT$PREFIX/bin" "$OUT$PREFIX/share/tool"
echo data > "$OUT$PREFIX/share/tool/data"
cat > tool.c <<'END'
#include <stdio.h>
int main(int c, char **v) { for (int i = 1; i < c; i++) puts(v[i]); return 3; }
END
gcc -o "$OUT$PREFIX/bin/tool" tool.c
""")
recipe = Recipe(name="user", version="1", about="a test", inputs=(toolchain.recipe, tool), script=r"""
mkdir -p "$OUT$PREFIX/bin"
printf '#!/usr/bin/env -S tool "a b"\n' > "$OUT$PREFIX/bin/run"
printf '#!/usr/bin/awk -f\nBEGIN { print "awk", ARGV[1] }\n' > "$OUT$PREFIX/bin/runawk"
chmod +x "$OUT$PREFIX/bin/run" "$OUT$PREFIX/bin/runawk"
""", check=r"""
test "$(/artifact/bin/runawk x)" = "awk x"
/artifact/bin/run "c d" > /tmp/out || test $? = 3
printf 'a b\n%s\nc d\n' /artifact/.launch/script/bin/run/bin/run | cmp - /tmp/out
test -f /artifact/.launch/inputs/share/tool/data
# MARK
""")
'''


def test_interpreters_of_an_input_and_of_the_root(builder: Builder, tmp_path: Path) -> None:
    recipe = tmp_path / "user.py"
    # The store may be an earlier run's: the check has to run.
    recipe.write_text(RECIPES.replace("MARK", tmp_path.as_posix()))
    (built,) = builder.build(recipe)
    listed = builder("tree", built["path"]).stdout
    assert "inputs" in listed
