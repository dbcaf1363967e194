"""Recipes are read into data, and every mistake gets one clear message with file and line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.recipe import BadRecipe, Limits, Recipe, Source, closure
from store.errors import Error

SHA = "a" * 64
GOOD = f"""
from builder import Recipe, Source
recipe = Recipe(name="x", version="1", about="X", script="true", sources=(Source("https://e/x-1.tar.gz", sha256="{SHA}"),))
"""


def message_of(tmp_path: Path, files: Mapping[str, str | bytes], target: str) -> str:
    """What reading a recipe says, in a process of its own: modules are read once in a process."""
    folder = tmp_path / "recipes"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    code = (
        "import sys; from builder.load import load; from store.errors import Error\n"
        "try:\n    print('loaded', load(sys.argv[1]).name)\n"
        "except Error as error:\n    print(error.message, '|', error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder / target)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def test_a_good_recipe(tmp_path: Path) -> None:
    assert message_of(tmp_path, {"x.py": GOOD}, "x.py") == "loaded x\n"


def test_recipes_import_each_other(tmp_path: Path) -> None:
    other = GOOD.replace('name="x"', 'name="y", inputs=(x.recipe,)').replace(
        "from builder", "from recipes import x\nfrom builder", 1
    )
    assert message_of(tmp_path, {"x.py": GOOD, "y.py": other}, "y.py") == "loaded y\n"


def test_shipped_recipes_are_found_from_anywhere(tmp_path: Path) -> None:
    text = GOOD.replace('name="x"', 'name="x", inputs=(toolchain.recipe,)').replace(
        "from builder", "from recipes import toolchain\nfrom builder", 1
    )
    assert message_of(tmp_path, {"x.py": text}, "x.py") == "loaded x\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = (\n", "x.py:1: syntax error"),
        (GOOD.replace("script=", "scirpt="), "x.py:3: Recipe has no field 'scirpt' | Did you mean script?"),
        (GOOD.replace(', about="X"', ""), "x.py:3: Recipe is missing 1"),
        (GOOD.replace(f', sha256="{SHA}"', ""), "x.py:3: the Source https://e/x-1.tar.gz has no sha256"),
        (GOOD.replace(SHA, "abc"), "x.py:3: sha256 is not 64 lowercase hex digits: 'abc'"),
        (GOOD.replace('name="x"', 'name="X y"'), "x.py:3: not a name: 'X y'"),
        (GOOD.replace('version="1"', 'version="1/2"'), "x.py:3: not a version: '1/2'"),
        (GOOD.replace('script="true"', 'script=" "'), "x.py:3: the script of x is empty"),
        (GOOD.replace('script="true"', 'script="true", inputs=("gcc",)'), "x.py:3: inputs takes a tuple of Recipe or System"),
        (GOOD.replace('script="true"', 'script="true", dlopen="libz.so.1"'), "x.py:3: dlopen takes a tuple of texts"),
        (GOOD.replace('script="true"', 'script="true", runtime="include"'), "x.py:3: runtime takes a tuple of texts"),
        (GOOD.replace('script="true"', 'script="true", runtime=("/x",)'), "x.py:3: runtime: '/x' cannot be a pattern: it"),
        (
            GOOD.replace('script="true"', 'script="true", development=("x/**",)'),
            "x.py:3: development: 'x/**' cannot be a pattern: it ends with **",
        ),
        (
            GOOD.replace('script="true"', 'script="true", data=("locales", "fonts")'),
            "x.py:3: there is no data called 'fonts' | Known: certificates, iconv, locales, names, timezones.",
        ),
        (GOOD.replace('script="true"', 'script="true", host_libraries="yes"'), "x.py:3: host_libraries is True or False"),
        (GOOD.replace('script="true"', 'script="true", variables={"A B": "1"}'), "cannot be an environment variable"),
        (GOOD.replace('script="true"', 'script="true", platform="pdp11"'), "x.py:3: unknown platform 'pdp11'"),
        ("import recipes.nothing\n", "x.py:1: ModuleNotFoundError: No module named 'recipes.nothing'"),
        ("1 / 0\n", "x.py:1: ZeroDivisionError"),
        ("x = 1\n", "x.py has no constant `recipe`"),
        ("recipe = 1\n", "x.py has a `recipe` that is a int"),
        (b"\x7fELF\x00\x00\x01", "x.py"),
        ("", "x.py has no constant `recipe`"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert expected in message_of(tmp_path, {"x.py": text}, "x.py")


def test_a_circle(tmp_path: Path) -> None:
    files = {
        "a.py": "from recipes import b\n" + GOOD.replace('name="x"', 'name="a", inputs=(b.recipe,)'),
        "b.py": "from recipes import a\n" + GOOD.replace('name="x"', 'name="b", inputs=(a.recipe,)'),
    }
    text = message_of(tmp_path, files, "a.py")
    assert "recipes import each other in a circle: a.py -> b.py" in text
    assert "b.py:4" in text


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    assert "there is no file" in message_of(tmp_path, {}, "missing.py")
    assert "is not a recipe file" in message_of(tmp_path, {"x.txt": ""}, "x.txt")
    assert "is a folder" in message_of(tmp_path, {}, ".")


def test_two_things_of_one_name() -> None:
    first = Recipe(name="x", version="1", about="x", script="true")
    second = Recipe(name="x", version="2", about="x", script="true")
    with pytest.raises(BadRecipe, match=r"x is the name of two recipes: here, and at .*test_load\.py:\d+"):
        closure((first, second))
    with pytest.raises(BadRecipe, match="two inputs have the name x"):
        Recipe(name="y", version="1", about="y", script="true", inputs=(first, second))
    # Not even what it is built from.
    with pytest.raises(BadRecipe, match="x is the name of two recipes"):
        closure((Recipe(name="x", version="3", about="x", script="true", inputs=(first,)),))


def test_a_closure_is_inputs_first() -> None:
    base = Recipe(name="a", version="1", about="a", script="true")
    middle = Recipe(name="b", version="1", about="b", script="true", inputs=(base,))
    top = Recipe(name="c", version="1", about="c", script="true", inputs=(base, middle))
    assert [item.name for item in closure((top, base))] == ["a", "b", "c"]


def test_scripts_lose_the_indentation_that_their_lines_share() -> None:
    script = """
        cat <<END
          two more
        END

        true"""
    item = Recipe(name="x", version="1", about="x", script=script, check="")
    assert item.script == "cat <<END\n  two more\nEND\n\ntrue\n"
    assert item.check == ""


def test_a_long_chain_prints_short() -> None:
    item = Recipe(name="r0", version="1", about="x", script="true")
    for number in range(1, 60):
        item = Recipe(name=f"r{number}", version="1", about="x", script="true", inputs=(item, item))
    assert len(repr(item)) < 100
    assert len(closure((item,))) == 60


FIELDS = st.sampled_from(["name", "version", "about", "script", "check", "dlopen", "inputs", "sources", "wins", "limits"])
VALUES = st.one_of(st.text(), st.integers(), st.none(), st.tuples(st.text()), st.dictionaries(st.text(), st.text()))


@given(st.dictionaries(FIELDS, VALUES))
@settings(max_examples=300)
def test_any_values_make_a_recipe_or_one_error(values: dict[str, object]) -> None:
    whole = {"name": "x", "version": "1", "about": "x", "script": "true"} | values
    try:
        Recipe(**whole)  # type: ignore[arg-type]
    except Error as error:
        assert error.message.startswith(__file__)


@given(st.text(), st.text(), st.text(), st.integers())
def test_any_source_is_whole_or_an_error(url: str, sha256: str, into: str, strip: int) -> None:
    try:
        source = Source(url, sha256=sha256, into=into, strip=strip)
    except Error:
        return
    assert len(source.sha256) == 64
    assert ".." not in source.into.split("/")


@pytest.mark.parametrize("value", [0, -1, 1.5, "1", True])
def test_limits_are_whole_numbers(value: object) -> None:
    with pytest.raises(BadRecipe):
        Limits(seconds=value)  # type: ignore[arg-type]
