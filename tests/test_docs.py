"""The documentation says what the code does: commands, options, fields, variables, messages, JSON, links and examples."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from builder import mirrors, steps
from builder.cli import parser
from builder.commands import lock as lock_command
from builder.execute import Executor
from builder.lockfile import Lock, LockedPackage
from builder.recipe import Limits, Local, Recipe, Source, System
from launcher import config, host
from launcher.settings import DATA
from store import remote, roots
from store.digest import Digest
from store.manifest import Manifest
from store.store import FOLDERS, Store
from tests.conftest import RECIPES, ROOT, Builder, environment

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
COMMANDS = (ROOT / "docs" / "commands.md").read_text()
WRITING = (ROOT / "docs" / "recipes.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
STORE = (ROOT / "docs" / "store-format.md").read_text()
TROUBLE = (ROOT / "docs" / "troubleshooting.md").read_text()


def section(page: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its level or above."""
    level = heading.index(" ")
    lines = page.split("\n")
    start = lines.index(heading) + 1
    ends = (n for n in range(start, len(lines)) if re.match(rf"#{{1,{level}}} ", lines[n]))
    return "\n".join(lines[start : next(ends, len(lines))])


def first_column(text: str) -> set[str]:
    """All that stands in backticks in the first column of a text's tables."""
    cells = re.findall(r"^\| (`[^|]*?) \|", text, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def blocks(page: str, language: str) -> list[tuple[str, str]]:
    """What follows the language on the first line of each such block, and the block."""
    return re.findall(rf"^```{language} ?([^\n]*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def slug(heading: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# -- commands --


def commands() -> dict[str, argparse.ArgumentParser]:
    (action,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(action.choices)


def options(of: argparse.ArgumentParser) -> set[str]:
    """The options of a command, and of its actions, if it has such."""
    words = {word for action in of._actions for word in action.option_strings} - {"-h", "--help"}
    inner = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    return words.union(*(options(one) for action in inner for one in action.choices.values()))


def documented_options(text: str) -> set[str]:
    return {word.split(" ")[0] for word in first_column(text) if word.startswith("-")}


def test_every_command_is_documented_and_no_other() -> None:
    assert set(re.findall(r"^## builder (\S+)$", COMMANDS, re.MULTILINE)) == set(commands())
    every = parser()
    own = {word for action in every._actions for word in action.option_strings} - {"-h", "--help"}
    assert documented_options(section(COMMANDS, "# Commands").split("\n## ")[0]) == own


@pytest.mark.parametrize("name", commands())
def test_every_option_is_documented_and_no_other(name: str) -> None:
    text = section(COMMANDS, f"## builder {name}")
    assert documented_options(text) == options(commands()[name])
    for action in commands()[name]._actions:
        if not action.option_strings:
            words = action.choices or [action.metavar]
            assert all(str(word) in text for word in words), words


def invocations() -> Iterator[tuple[str, list[str], bool]]:
    """Every command line of the builder on every page, up to what the shell does with it; and whether it is a whole one."""
    for page in PAGES:
        for mark, line in re.findall(r"(^    |/bin/|`)builder ([^`\n]+)", page.read_text(), re.MULTILINE):
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words = list(lexer)
            ends = (n for n, word in enumerate(words) if set(word) <= set("|&;<>"))
            yield f"{page.name}: {line}", words[: next(ends, len(words))], mark != "`"


def test_command_lines_are_ones_that_the_builder_takes() -> None:
    seen = [row for row in invocations() if not row[0].endswith("COMMAND ...")]
    assert len(seen) > 50
    assert sum(whole for _, _, whole in seen) > 20
    for where, words, whole in seen:
        assert words[0] in commands() or words[0] == "--store", where
        try:
            # Within a sentence, what a command cannot do without may be left out.
            parser().parse_args(words if whole else completed(words))
        except SystemExit:
            pytest.fail(where)


def completed(words: list[str]) -> list[str]:
    """A command line with the words that its command, or its action, needs and that are not there."""
    command = commands()[words[0]]
    rest = words[1:]
    for inner in [action for action in command._actions if isinstance(action, argparse._SubParsersAction)]:
        action = rest[0] if rest else "list"
        command, rest = inner.choices[action], rest[1:]
        words = [words[0], action, *rest]
    needed = [a for a in command._actions if not a.option_strings and a.nargs not in ("?", "*")]
    given = [word for word in rest if not word.startswith("-")]
    required = [a.option_strings[0] for a in command._actions if a.required and a.option_strings]
    more = [word for option in required if option not in rest for word in (option, "PATH")]
    return [*words, *["RECIPE", "NAME"][: max(0, len(needed) - len(given))], *more]


# -- JSON --


def shape(documented: Any, real: Any, where: str) -> None:
    """Two JSON values of one shape: the same names, and the same types."""
    if isinstance(documented, dict) and isinstance(real, dict):
        assert set(documented) == set(real), where
        for key, value in documented.items():
            shape(value, real[key], f"{where}.{key}")
    elif isinstance(documented, list) and isinstance(real, list):
        for value in real if documented else []:
            shape(documented[0], value, f"{where}[]")
    elif documented is not None and real is not None:
        assert type(documented) is type(real), where


def documented_json(name: str) -> Any:
    (text,) = (text for label, text in blocks(COMMANDS, "json") if label == name)
    return json.loads(text)


def test_json_of_builds_and_artifacts(builder: Builder, tmp_path: Path) -> None:
    jq = RECIPES / "jq.py"
    built = json.loads(builder("build", jq, "--json", "-o", tmp_path / "result").stdout)
    shape(documented_json("build"), built, "build")
    artifact = built["artifacts"][0]["path"]
    shape(documented_json("info"), json.loads(builder("info", artifact, "--json").stdout), "info")
    shape(documented_json("tree"), json.loads(builder("tree", artifact, "--json").stdout), "tree")
    why = json.loads(builder("why", artifact, "libonig", "--json").stdout)
    shape(documented_json("why"), why, "why")
    for command in ("origins", "graph"):
        shape(documented_json(command), json.loads(builder(command, artifact, "--json").stdout), command)
    shape(documented_json("who-has"), json.loads(builder("who-has", "libonig", "--json").stdout), "who-has")
    shape(documented_json("du"), json.loads(builder("du", "--json").stdout), "du")
    other = builder.build(RECIPES / "zlib.py")[0]["path"]
    difference = json.loads(builder("diff", artifact, other, "--json").stdout)
    assert difference["added"] and difference["removed"] and difference["sources"]
    shape(documented_json("diff") | {"added": []}, difference | {"added": []}, "diff")
    exported = builder("export", artifact, "-o", tmp_path / "jq.oci.tar", "--json").stdout
    shape(documented_json("export"), json.loads(exported), "export")
    # The link of a test is nobody's root.
    (tmp_path / "result").unlink()
    assert [step["kind"] for step in why[0]["steps"]] == [step["kind"] for step in documented_json("why")[0]["steps"]]


def test_json_of_the_store(tmp_path: Path) -> None:
    command = Builder(tmp_path / "store", environment(tmp_path / "store"))
    dry = json.loads(command("build", RECIPES / "hello.py", "--dry-run", "--json").stdout)
    shape(documented_json("dry-run"), dry, "dry-run")
    assert len(dry["steps"]) == 2
    shape(documented_json("gc"), json.loads(command("gc", "--json").stdout), "gc")
    store = Store(tmp_path / "store")
    roots.add_named(store, "release-1", Digest.of(b""))
    shape(documented_json("root"), json.loads(command("root", "list", "--json").stdout), "root")
    command("root", "remove", "release-1")
    with store.batch() as batch:
        node = batch.add_bytes(b"right")
    place = store.blob_path(node.blob, executable=False)
    place.chmod(0o644)
    place.write_bytes(b"wrong")
    findings = json.loads(command("check", "--json", status=3).stdout)
    assert {finding["kind"] for finding in findings["findings"]} == {"corrupt blob", "wrong mode"}
    shape(documented_json("check"), findings, "check")


def test_json_of_locks() -> None:
    (row,) = documented_json("lock")
    package = LockedPackage("gcc", "1", "amd64", "pool/g", 1, "a" * 64)
    lock = Lock("bookworm", ("main",), "amd64", "today", ("gcc",), (), (package,))
    shape(row, lock_command._json(Path("x.lock"), lock, {"gcc": "1"}, {"gcc": "1"}, False), "lock")


def test_every_kind_of_finding_is_documented() -> None:
    from store.check import Kind

    text = " ".join(section(COMMANDS, "## builder check").split())
    assert not [kind for kind in Kind if f"`{kind}`" not in text]


# -- recipes --


@pytest.mark.parametrize("kind", [Recipe, System, Source, Local, Limits])
def test_every_field_is_documented_and_no_other(kind: type) -> None:
    fields = {field.name for field in dataclasses.fields(kind)} - {"position"}
    assert first_column(section(WRITING, f"### {kind.__name__}")) == fields


def test_every_word_for_data_is_documented_and_no_other() -> None:
    assert first_column(section(WRITING, "## Data that programs read")) == set(DATA)


def test_every_directory_of_hosts_is_documented() -> None:
    text = section(WRITING, "## Libraries that only the host has")
    listed = re.findall(r"`(/[\w./-]*lib[\w./-]*)`", text.partition("for one run")[0])
    assert listed == [path.decode() for path in host.directories("x86_64-linux-gnu")]


def test_every_variable_of_a_script_is_documented_and_no_other() -> None:
    inner = Recipe(name="a", version="1", about="a", script="true")
    outer = Recipe(name="b", version="1", about="b", script="true", inputs=(inner,))
    assert first_column(section(WRITING, "## What a script sees")) == {*steps.environment(outer), "JOBS"}
    few = Recipe(name="b", version="1", about="b", script="true")
    plain = section(WRITING, "## What a script sees").partition("With recipes among the inputs")[0]
    assert first_column(plain) == {*steps.environment(few), "JOBS"}


def test_every_variable_of_a_check_is_documented_and_no_other(tmp_path: Path) -> None:
    executor = Executor(Store(tmp_path / "store"), Path("bwrap"), 1, Event())
    box = executor.bare(tmp_path, Manifest([]), Path("artifact"))
    assert first_column(section(WRITING, "## Check the outcome")) == set(box.variables)


LOAD = """
import sys
from builder.load import load
for path in sys.argv[1:]:
    print(load(path).name)
"""


@pytest.mark.parametrize("name", NAMES)
def test_recipes_on_a_page_can_be_read(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    paths = []
    for number, (_, text) in enumerate(blocks((ROOT / name).read_text(), "python")):
        named = re.match(r"# (\w+\.py)\n", text)
        path = folder / (named[1] if named else f"recipe{number}.py")
        path.write_text(text)
        paths.append(path)
    done = subprocess.run([sys.executable, "-c", LOAD, *paths], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(paths)


def test_there_are_recipes_on_pages() -> None:
    assert blocks((ROOT / "README.md").read_text(), "python")
    assert len(blocks(WRITING, "python")) > 4


# -- configuration --


def test_every_key_is_documented_and_no_other() -> None:
    keys = {*(f"mirrors.{kind}" for kind in mirrors.KINDS), "proxies.http", "proxies.https", "trust.sigs-needed"}
    assert first_column(section(CONFIGURATION, "## The configuration file")) == keys


def test_the_example_is_a_configuration(tmp_path: Path) -> None:
    ((_, text),) = blocks(CONFIGURATION, "toml")
    path = tmp_path / "config.toml"
    path.write_text(text)
    table = tomllib.loads(text)
    found = mirrors.find(path, {}, root=tmp_path)
    assert {kind: list(places) for kind, places in found.bases.items()} == table["mirrors"]
    assert found.proxies == table["proxies"]
    assert {f"{name}.{key}" for name, inner in table.items() for key in inner} == first_column(
        section(CONFIGURATION, "## The configuration file")
    )


def test_every_variable_that_is_read_is_documented() -> None:
    text = "".join(path.read_text() for path in (ROOT / "builder").rglob("*.py"))
    read = set(re.findall(r'\b(?:environment|environ|lower)(?:\.get\(|\[)"(\w+)"', text))
    read |= set(re.findall(r'"(\w+)" (?:not )?in (?:os|context)\.environ', text))
    assert {"BUILDER_STORE", "HOME", "NO_COLOR", "PIP_CONFIG_FILE", "TERM"} <= read
    assert read <= first_column(section(CONFIGURATION, "## Environment variables"))


# -- messages --


def texts() -> str:
    """Every text in the code, in Python and in C."""
    found = []
    for package in ("store", "launcher", "builder"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    for path in [*(ROOT / "launcher" / "stub").iterdir(), *(ROOT / "launcher" / "run").iterdir()]:
        found += re.findall(r'"([^"\n]*)"', path.read_text())
    return "\n".join(found)


def test_messages_that_are_explained_are_ones_of_the_code() -> None:
    messages = re.findall(r"^### `(.*)`$", TROUBLE, re.MULTILINE)
    assert len(messages) > 20
    known = texts()
    for message in messages:
        # A number or name stands for "…"; "why" is put behind a colon.
        parts = [part.strip() for part in re.split(r"…|: |, error 2", message)]
        assert not [part for part in parts if part not in known], message


# -- architecture --


@pytest.mark.parametrize("package", ["store", "launcher", "builder"])
def test_every_module_has_its_line(package: str) -> None:
    heading = section(ARCHITECTURE, "## Parts and imports").partition(f"\n`{package}/`")[2]
    listed = first_column(re.split(r"^`\w+/`", heading, flags=re.MULTILINE)[0])
    modules = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__", "__main__"}
    folders = {f"{path.name}/" for path in (ROOT / package).iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert listed - {"stub/", "run/"} == modules | folders


def test_every_kind_of_step_has_its_line() -> None:
    kinds = set()
    for path in (ROOT / "builder").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name("Action"), args=[ast.Constant(str(kind)), *_]):
                    kinds.add(kind)
    assert len(kinds) > 5
    assert first_column(section(ARCHITECTURE, "## The steps of a build")) == kinds


def test_the_configuration_block_is_as_described() -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+) \|", section(ARCHITECTURE, "### The configuration block"), re.MULTILINE)
    form = config._FORM.format.removeprefix("<").replace(" ", "").replace("8s", "s")
    sizes = [{"s": 8, "I": 4, "i": 4}[letter] for letter in form]
    assert [(int(offset), int(size)) for offset, size in rows] == list(zip(accumulate([0, *sizes]), sizes, strict=False))
    assert sum(sizes) == config.SIZE


def test_every_folder_of_the_store_is_listed() -> None:
    listing = section(STORE, "## The store's folder")
    assert set(re.findall(r"^    (\w+)/", listing, re.MULTILINE)) == set(FOLDERS)


def test_every_object_of_remotes_is_listed() -> None:
    listing = section((ROOT / "docs" / "remote-format.md").read_text(), "## Objects")
    prefixes = (remote.PARCELS, remote.INVENTORIES, remote.WAYBILLS, remote.MANIFESTS, remote.RESULTS, remote.NAMES)
    wanted = {*(prefix.rstrip("/") for prefix in prefixes), remote.MARK, remote.CONDEMNED, remote.CLOCK}
    assert set(re.findall(r"^    ([\w-]+)", listing, re.MULTILINE)) == wanted


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    wanted += project["project"]["optional-dependencies"]["test"]
    names = {re.split(r"[\[=<>]", name)[0] for name in wanted} - {"setuptools"}
    assert first_column(section(ARCHITECTURE, "## Dependencies")) == names


# -- pages --


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = page.parent / file if file else page
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", place.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), target


def test_every_page_is_linked_from_the_first() -> None:
    first = (ROOT / "README.md").read_text()
    assert not [name for name in NAMES if name != "README.md" and f"]({name})" not in first]


@pytest.mark.parametrize("name", NAMES)
def test_lines_fit(name: str) -> None:
    # The rows of a table cannot be broken.
    lines = (ROOT / name).read_text().split("\n")
    assert not [line for line in lines if len(line) > 120 and not line.startswith("|")]


# -- the whole project --

# By parts, for this file is looked at too.
_HOSTS = [
    *((name, "debian", "org") for name in ("deb", "ftp", "security", "archive", "snapshot", "httpredir")),
    *((name, "ubuntu", "com") for name in ("archive", "security")),
    *(("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("yarnpkg", "com")),
    *(("crates", "io"), ("rubygems", "org"), ("golang", "org"), ("maven", "org"), ("anaconda", "org"), ("cpan", "org")),
]


def project_files() -> Iterator[Path]:
    for folder, folders, files in os.walk(ROOT):
        top = Path(folder) == ROOT
        folders[:] = [
            name
            for name in folders
            if (name == ".ci" or not name.startswith("."))
            and name not in ("__pycache__", "stubs")
            and not name.endswith(".egg-info")
            and not (top and name in ("build", "dist"))
        ]
        yield from (path for path in (Path(folder, name) for name in files) if path.is_file())


def test_no_file_names_the_host_of_a_package_registry() -> None:
    hosts = [".".join(parts).encode() for parts in _HOSTS]
    found = []
    seen = 0
    for path in project_files():
        seen += 1
        data = path.read_bytes().lower()
        found += [(str(path), host) for host in hosts if host in data]
    assert seen > 100
    assert not found
