"""Installed programs: what users' folders have of them, and that a switch is whole."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder import cli, desktop
from builder.generation import BadGeneration, Generation, Package
from builder.profile import Places, Profile
from store import artifacts
from store.digest import Digest
from store.store import Store
from tests.behaviour.test_users import as_nobody
from tests.conftest import RECIPES, Builder
from tests.store.helpers import start, status, tree
from tests.test_docs import documented_json, shape

DESKTOP = b"""[Desktop Entry]
Type=Application
Name=One
Exec=one --name "%u" %F
TryExec=/pkg/bin/one
Icon=one
DBusActivatable=true
[Desktop Action new]
Exec="/pkg/bin/one" --new
[Desktop Action other]
Exec=sh -c one
"""

ONE: dict[str, bytes | str | None] = {
    ".launch/runtime": b"runtime share/info\n",
    "bin/one": b"#!/bin/sh\necho one 1\n",
    "bin/alias": "one",
    "bin/dangling": "nowhere",
    "share/applications/one.desktop": DESKTOP,
    "share/bash-completion/completions/one": b"complete one",
    "share/doc/one/README": b"stays in the artifact",
    "share/fish/vendor_completions.d/one.fish": b"complete -c one",
    "share/icons/hicolor/48x48/apps/two.png": b"PNG",
    "share/icons/hicolor/index.theme": b"is the desktop's own",
    "lib/systemd/user/one.socket": b"[Socket]\nListenStream=%t/one\n",
    "sbin/admin": b"#!/bin/sh\necho admin\n",
    "sbin/one": b"#!/bin/sh\necho the other one\n",
    "share/dbus-1/services/org.example.One.service": b"[D-BUS Service]\nName=org.example.One\nExec=/pkg/bin/one --bus\n",
    "share/fonts/one/one.ttf": b"TTF",
    "share/fonts/one/fonts.dir": b"is of another time",
    "share/info/dir": b"is the user's own",
    "share/info/one.info": b"one",
    "share/mime/packages/one.xml": b"<mime-info/>",
    "share/mime/globs": b"is made by a program",
    "share/systemd/user/one.service": b"[Service]\nExecStart=-/pkg/bin/one --unit\n",
    "share/systemd/user/default.target.wants/one.service": b"[Service]\n",
    "share/man/man1/one.1": b".TH one 1",
    "share/man/de/man1/one.1": b".TH eins 1",
    "share/pixmaps/one.xpm": b"XPM",
    "share/zsh/site-functions/_one": b"#compdef one",
}

LINKS = {
    ".local/bin/one",
    ".local/bin/alias",
    ".local/bin/admin",
    ".local/share/applications/one.desktop",
    ".local/share/dbus-1/services/org.example.One.service",
    ".local/share/fonts/one/one.ttf",
    ".local/share/info/one.info",
    ".local/share/mime/packages/one.xml",
    ".local/share/systemd/user/one.service",
    ".local/share/systemd/user/one.socket",
    ".local/share/bash-completion/completions/one",
    ".local/share/fish/vendor_completions.d/one.fish",
    ".local/share/icons/hicolor/48x48/apps/two.png",
    ".local/share/man/man1/one.1",
    ".local/share/man/de/man1/one.1",
    ".local/share/zsh/site-functions/_one",
}


class User:
    """A user with a home, and the command line on a store."""

    def __init__(self, home: Path, store: Path, environment: dict[str, str]) -> None:
        self.home = home
        variables = {key: value for key, value in environment.items() if not key.startswith("XDG_")}
        self.builder = Builder(store, {**variables, "HOME": str(home), "PATH": f"{home}/.local/bin:/usr/bin:/bin"})

    def __call__(self, *words: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        return self.builder(*words, status=status)

    def json(self, *words: str | Path) -> Any:
        return json.loads(self(*words, "--json").stdout)

    def links(self) -> set[str]:
        """Everything in the home but the store and the profile: links, and directories that are empty."""
        found = set()
        for folder, names, files in os.walk(self.home):
            here = Path(folder).relative_to(self.home)
            names[:] = [name for name in names if (here / name) != Path(".local/state")]
            found |= {str(here / name) for name in files}
            if not names and not files and str(here) not in (".", ".local"):
                found.add(str(here))
        return found

    def started(self, program: str, *words: str) -> str:
        return subprocess.run([self.home / ".local/bin" / program, *words], capture_output=True, text=True, check=True).stdout


def put(store: Store, name: str, content: dict[str, bytes | str | None], version: str = "1") -> str:
    """An artifact in the store. Gives its folder's name."""
    with store.batch() as batch:
        manifest = tree(batch, content)
        batch.add_manifest(manifest)
    return artifacts.check_out(store, manifest, name=name, version=version).name


@pytest.fixture
def user(builder: Builder, tmp_path: Path) -> User:
    """A user with a store of small artifacts."""
    (tmp_path / "home").mkdir()
    return User(tmp_path / "home", tmp_path / "store", dict(builder.environment) | {"BUILDER_STORE": str(tmp_path / "store")})


def test_real_programs_are_installed(builder: Builder, tmp_path: Path) -> None:
    """jq, hello and zlib, by recipes and by an artifact, with the tests' shared store."""
    (tmp_path / "home").mkdir()
    user = User(tmp_path / "home", builder.store, dict(builder.environment))
    (zlib,) = builder.build(RECIPES / "zlib.py")
    done = user.json("install", RECIPES / "jq.py", RECIPES / "hello.py", zlib["path"])
    assert done["generation"] == 1
    assert [(row["name"], row["before"], row["after"]) for row in done["changes"]][:2] == [
        ("hello", None, "2.10"),
        ("jq", None, "1.7.1"),
    ]
    assert user.started("hello") == "Hello, world!\n"
    # The program's own file, in the artifact: nothing stands between.
    shape(documented_json("install"), done, "install")
    shape(documented_json("list"), user.json("list"), "list")
    shape(documented_json("history"), user.json("history"), "history")
    rows = {row["name"]: row for row in user.json("list")["packages"]}
    reader, writer = os.pipe()
    process = subprocess.Popen([user.home / ".local/bin/jq", "."], stdin=reader, stdout=subprocess.DEVNULL)
    os.close(reader)
    while os.path.basename(seen := os.readlink(f"/proc/{process.pid}/exe")) != "jq":
        assert process.poll() is None
    os.close(writer)
    assert process.wait() == 0
    assert seen == f"{rows['jq']['path']}/bin/jq"
    assert rows["jq"]["recipe"] == str(RECIPES / "jq.py")
    assert rows["zlib"]["recipe"] is None
    assert (user.home / ".local/share/man/man1/hello.1").is_file()
    assert str(user.home / ".local/share/man/man1/hello.1") in rows["hello"]["links"]
    assert user("upgrade").stdout == "nothing to do\n"
    assert "was installed as an artifact" in user("upgrade", "zlib", status=1).stderr
    user("uninstall", "jq", "hello", "zlib")
    assert user.links() == set()
    user("rollback")
    assert user.started("jq", "-n", "1 + 1") == "2\n"
    user("uninstall", "jq", "hello", "zlib")
    user("history", "--prune", "0")


def test_everything_that_belongs_to_a_program_is_where_it_is_looked_for(user: User) -> None:
    put(Store(user.builder.store), "one", ONE)
    mine = user.home / ".local/share/man/man1/mine.1"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    user("install", "one")
    kept = {".local/share/man/man1/mine.1"}
    assert user.links() == LINKS | kept
    assert all((user.home / link).is_file() for link in LINKS)
    current = user.home / ".local/state/builder/profile/current/packages/one"
    text = (user.home / ".local/share/applications/one.desktop").read_text()
    assert f'\nExec={current}/bin/one --name "%u" %F\nTryExec={current}/bin/one\nIcon={current}/share/pixmaps/one.xpm\n' in text
    assert f"\nExec={current}/bin/one --new\n" in text
    assert "\nExec=sh -c one\n" in text
    assert "\nDBusActivatable=false\n" in text
    service = user.home / ".local/share/dbus-1/services/org.example.One.service"
    assert f"\nExec={current}/bin/one --bus\n" in service.read_text()
    assert f"\nExecStart=-{current}/bin/one --unit\n" in (user.home / ".local/share/systemd/user/one.service").read_text()
    assert user.started("one") == "one 1\n"
    assert user.started("admin") == "admin\n"
    assert (current / "bin" / "one").is_file()
    assert Path(f"{current}/share/pixmaps/one.xpm").read_bytes() == b"XPM"
    assert user("install", "one").stdout == "nothing to do\n"
    # A link that somebody deleted comes back.
    (user.home / ".local/bin/one").unlink()
    user("install", "one")
    assert user.started("one") == "one 1\n"
    user("uninstall", "one")
    assert user.links() == kept
    assert "one is not installed" in user("uninstall", "one", status=1).stderr


def test_generations_are_gone_back_and_forth(user: User) -> None:
    store = Store(user.builder.store)
    first = put(store, "one", {"bin/one": b"#!/bin/sh\necho one 1\n", "bin/old": b"#!/bin/sh\n"})
    second = put(store, "one", {"bin/one": b"#!/bin/sh\necho one 2\n", "bin/new": b"#!/bin/sh\n"}, "2")
    user("install", first)
    assert user("install", second).stdout == "changed one 1 to 2\n"
    assert user.started("one") == "one 2\n"
    assert user.links() == {".local/bin/one", ".local/bin/new"}
    assert user("rollback").stdout == "changed one 2 to 1\n"
    assert user.started("one") == "one 1\n"
    assert user.links() == {".local/bin/one", ".local/bin/old"}
    assert "no generation before this one" in user("rollback", status=1).stderr
    assert "there is no generation 7" in user("rollback", "--to", "7", status=1).stderr
    user("rollback", "--to", "2")
    rows = user.json("history")
    assert [(row["number"], row["before"], row["current"], row["packages"]) for row in rows] == [
        (1, 0, False, ["one 1"]),
        (2, 1, True, ["one 2"]),
    ]
    assert user("history").stdout.splitlines()[1].startswith("* 2  ")
    # Both are kept, until the first generation is let go of.
    assert user.json("gc")["artifacts"] == []
    assert [row["counts"] for row in user.json("root", "list")] == [True, True]
    user("history", "--prune", "1")
    assert user.json("gc")["artifacts"] == [first]
    assert user.started("one") == "one 2\n"
    user("check")


def test_two_packages_with_the_same_file(user: User) -> None:
    store = Store(user.builder.store)
    put(store, "one", {"bin/one": b"#!/bin/sh\necho one\n"})
    put(store, "two", {"bin/one": b"#!/bin/sh\necho two\n", "bin/two": b"#!/bin/sh\n"})
    user("install", "one")
    said = user("install", "two", status=1).stderr
    assert "one and two both have bin/one" in said
    assert "--prefer one or --prefer two" in said
    assert user.started("one") == "one\n"
    assert user.links() == {".local/bin/one"}
    user("install", "two", "--prefer", "two")
    assert user.started("one") == "two\n"
    user("install", "one", "--prefer", "one")
    assert user.started("one") == "one\n"
    user("uninstall", "one")
    assert user.started("one") == "two\n"
    assert "three is not installed" in user("install", "two", "--prefer", "three", status=1).stderr


def test_what_is_there_is_never_replaced(user: User) -> None:
    put(Store(user.builder.store), "one", ONE)
    mine = user.home / ".local/bin/one"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    said = user("install", "one", status=1).stderr
    assert f"{mine} is there already, and one wants to be there" in said
    assert mine.read_text() == "mine"
    assert user.links() == {".local/bin/one"}
    assert user.json("history") == []
    # The same for a link that leads elsewhere, and for what replaced ours later.
    mine.unlink()
    mine.symlink_to("/usr/bin/true")
    assert "is there already" in user("install", "one", status=1).stderr
    mine.unlink()
    user("install", "one")
    mine.unlink()
    mine.write_text("mine again")
    user("uninstall", "one")
    assert mine.read_text() == "mine again"
    assert user.links() == {".local/bin/one"}


# Python's names of what changes a file system; and "open", for writing.
CHANGES = ("os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate", "os.utime")


def killed(user: User, number: int, *words: str) -> bool:
    """Start a command that is killed before its change of that number. False: there were not so many, and it went well."""

    def work() -> None:
        left = number

        def die(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if event in CHANGES or writes:
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

        os.environ.clear()
        os.environ.update(user.builder.environment)
        # Other tests of this process may have read other recipes.
        for name in [name for name in sys.modules if name.partition(".")[0] == "recipes"]:
            del sys.modules[name]
        for fd in 1, 2:
            os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
        sys.addaudithook(die)
        cli.main(words)

    code = status(start(work))
    assert code in (0, -signal.SIGKILL)
    return code != 0


def killed_at_every_change(user: User, command: list[str], reset: list[str]) -> None:
    """Whenever the command is killed, all is as before or as after, and whole. ``reset`` goes on from there."""
    profile = Profile(Places(user.home / ".local/state/builder/profile", user.home / ".local/bin", user.home / ".local/share"))

    def state() -> tuple[str, ...]:
        current = profile.current()
        assert current is not None
        for path in current.links:
            assert profile.places.of(path).is_file(), path
        return tuple(f"{one.name} {one.digest}" for one in current.packages)

    before, links = state(), user.links()
    seen = []
    number = 1
    while killed(user, number, *command):
        seen.append(state())
        user(*reset)
        assert (state(), user.links()) == (before, links)
        number += 1
    after = state()
    assert after != before
    assert set(seen) == {before, after}
    user(*reset)


def test_a_killed_command_leaves_all_as_before_or_as_after(user: User) -> None:
    store = Store(user.builder.store)
    first = put(store, "one", {"bin/one": b"#!/bin/sh\necho one 1\n", "bin/old": b"#!/bin/sh\n"})
    second = put(store, "one", {"bin/one": b"#!/bin/sh\necho one 2\n", "share/man/man1/one.1": b"x"}, "2")
    put(store, "two", {"bin/two": b"#!/bin/sh\n", "share/applications/two.desktop": b"Exec=two\n"})
    user("install", second)
    user("install", first, "two")
    user("history", "--prune", "2")
    killed_at_every_change(user, ["install", second], ["rollback", "--to", "2"])
    killed_at_every_change(user, ["uninstall", "two"], ["rollback", "--to", "2"])
    killed_at_every_change(user, ["rollback"], ["rollback", "--to", "2"])
    killed_at_every_change(user, ["rollback", "--to", "1"], ["install", first, "two"])


def test_a_killed_upgrade_leaves_all_as_before_or_as_after(
    builder: Builder, tmp_path: Path, write_recipe: Callable[..., Path]
) -> None:
    (tmp_path / "home").mkdir()
    user = User(tmp_path / "home", builder.store, dict(builder.environment))
    script = 'mkdir -p "$OUT$PREFIX/bin"; printf "#!/bin/sh\\n" > "$OUT$PREFIX/bin/{}"; chmod +x "$OUT$PREFIX/bin/{}"'
    recipe = write_recipe("up", script.format("old", "old"))
    user("install", recipe)
    write_recipe("up", script.format("new", "new"))
    builder.build(recipe)
    killed_at_every_change(user, ["upgrade"], ["rollback", "--to", "1"])
    user("uninstall", "up")
    user("history", "--prune", "0")


def test_who_has_no_such_path_is_told_once(user: User) -> None:
    put(Store(user.builder.store), "one", ONE)
    put(Store(user.builder.store), "two", {"bin/two": b"#!/bin/sh\n"})
    user.builder = replace(user.builder, environment={**user.builder.environment, "PATH": "/usr/bin:/bin"})
    assert f"{user.home}/.local/bin is not on PATH" in user("install", "one").stderr
    assert user("install", "two").stderr == ""


def test_installs_at_once_all_count(user: User) -> None:
    names = [f"p{number}" for number in range(4)]
    for name in names:
        put(Store(user.builder.store), name, {f"bin/{name}": b"#!/bin/sh\n"})
    for process in [user.builder.start("install", name) for name in names]:
        _, said = process.communicate()
        assert process.returncode == 0, said
    assert [row["name"] for row in user.json("list")["packages"]] == names
    assert user.links() == {f".local/bin/{name}" for name in names}


def test_another_store_is_told(user: User, tmp_path: Path) -> None:
    put(Store(user.builder.store), "one", ONE)
    put(Store(tmp_path / "other"), "two", {"bin/two": b"#!/bin/sh\n"})
    user("install", "one")
    said = user("--store", tmp_path / "other", "install", "two", status=1).stderr
    assert f"what is installed is in the store {user.builder.store}" in said


def test_upgrade_installs_what_the_recipe_gives_now(
    builder: Builder, tmp_path: Path, write_recipe: Callable[..., Path]
) -> None:
    (tmp_path / "home").mkdir()
    user = User(tmp_path / "home", builder.store, dict(builder.environment))
    script = 'mkdir -p "$OUT$PREFIX/bin"; printf "#!/bin/sh\\necho {}\\n" > "$OUT$PREFIX/bin/up"; chmod +x "$OUT$PREFIX/bin/up"'
    recipe = write_recipe("up", script.format("old"))
    user("install", recipe)
    assert user.started("up") == "old\n"
    write_recipe("up", script.format("new"))
    assert user("upgrade").stdout == "changed up 1 to 1\n"
    assert user.started("up") == "new\n"
    user("rollback")
    assert user.started("up") == "old\n"
    assert "nothing is not installed" in user("upgrade", "nothing", status=1).stderr


def test_an_ordinary_user_installs(builder: Builder) -> None:
    place = Path("/var/tmp") / f"builder-install-{os.getpid()}"
    place.mkdir(mode=0o755)
    try:
        put(Store(place / "store"), "one", {"bin/one": b"#!/bin/sh\nid -u\n"})
        done = as_nobody(place, ["install", "one"])
        assert done.returncode == 0, done.stderr
        assert done.stdout == "installed one 1\n"
        link = place / ".local/bin/one"
        assert link.lstat().st_uid == (pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else os.getuid())
        assert as_nobody(place, ["uninstall", "one"]).returncode == 0
        assert not os.path.lexists(link)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.parent.chmod(0o555)
        done = as_nobody(place, ["install", "one"])
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {link}: Permission denied\n")
        assert len(json.loads(as_nobody(place, ["history", "--json"]).stdout)) == 2
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(place)], check=False)
        shutil.rmtree(place, ignore_errors=True)


def test_files_that_start_programs_in_a_folder_of_odd_names() -> None:
    where = desktop.Where({b"a": b"sbin/a"}, [], [], b"/pkg", b"/h o/$x%")
    text = desktop.installed(b"share/applications/a.desktop", b"Exec=a %u\nTryExec=a", where)
    assert text == b'Exec="/h o/\\\\$x%%/sbin/a" %u\nTryExec=/h o/$x%/sbin/a'
    text = desktop.installed(b"share/dbus-1/services/a.service", b"[D-BUS Service]\nExec=/pkg/libexec/a -x\nName=a", where)
    assert text == b'[D-BUS Service]\nExec="/h o/\\\\$x%/libexec/a" -x\nName=a'
    text = desktop.installed(b"share/systemd/user/a.service", b"ExecStart=-@a b\nExecStop=/bin/true\nExecStopPost=\nX=a", where)
    assert text == b'ExecStart=-@"/h o/$x%%/sbin/a" b\nExecStop=/bin/true\nExecStopPost=\nX=a'


def test_a_record_is_read_as_it_was_written() -> None:
    package = Package("one", "1", Digest.of(b"x"), "f", None)
    one = Generation(2, 1, 7, "install one", "/s", (package,), ("one",), {b"bin/\xe4": "one"})
    assert Generation.decode(one.encode(), "x") == one
    for damaged in (
        b"",
        b"[]",
        b"{}",
        one.encode().replace(b"b3:", b"b4:"),
        one.encode().replace(b'"format": 1', b'"format": 9'),
    ):
        with pytest.raises(BadGeneration):
            Generation.decode(damaged, "x")


def test_a_damaged_record_does_not_shut_the_others(user: User) -> None:
    for name in ("one", "two"):
        put(Store(user.builder.store), name, {f"bin/{name}": b"#!/bin/sh\n"})
        user("install", name)
    generations = user.home / ".local/state/builder/profile/generations"
    record = generations / "2" / "generation.json"
    good = record.read_bytes()
    record.write_text("junk")
    for command in (["list"], ["install", "one"], ["rollback"]):
        assert "no generation's record" in user(*command, status=1).stderr
    history = user("history")
    assert "warning: " in history.stderr
    assert [line.split()[0] for line in history.stdout.splitlines()] == ["1"]
    assert user("rollback", "--to", "1").returncode == 0
    assert user("list").stdout.startswith("one ")
    assert user("install", "two").returncode == 0
    assert {path.name for path in generations.iterdir()} == {"1", "2", "3"}
    record.write_bytes(good)
    assert user("history").stderr == ""


def test_a_recipe_that_is_gone(builder: Builder, tmp_path: Path, write_recipe: Callable[..., Path]) -> None:
    (tmp_path / "home").mkdir()
    user = User(tmp_path / "home", builder.store, dict(builder.environment))
    recipe = write_recipe("gone", 'mkdir -p "$OUT$PREFIX/bin"; printf "#!/bin/sh\\n" > "$OUT$PREFIX/bin/gone"')
    user("install", recipe)
    recipe.unlink()
    done = user("upgrade", status=1)
    assert f"error: the recipe of gone is gone: {recipe}\nhint: Install it from where its recipe is now" in done.stderr
    # And of another store nothing is taken.
    other = tmp_path / "other"
    said = user("--store", other, "install", recipe.with_suffix(".run"), status=1).stderr
    assert f"what is installed is in the store {builder.store}" in said
