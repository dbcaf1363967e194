"""The commands of sharing, with two users, a directory between them, and a real artifact."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RECIPES, Builder, environment
from tests.sharing.helpers import files_of
from tests.test_docs import documented_json, shape


class User(Builder):
    """Somebody with a configuration and a store of their own."""


def user(name: str, folder: Path, *, store: Path | None = None) -> User:
    place = store or folder / f"{name}-store"
    (folder / name).mkdir()
    return User(place, {**environment(place), "XDG_CONFIG_HOME": str(folder / name)})


@pytest.fixture
def anna(tmp_path: Path, builder: Builder) -> User:
    """Builds: in the store of all tests."""
    return user("anna", tmp_path, store=builder.store)


@pytest.fixture
def bert(tmp_path: Path) -> User:
    """Has an empty store."""
    return user("bert", tmp_path)


def share(anna: User, shelf: Path, folder: Path, recipe: str = "zlib", *options: str) -> dict[str, Any]:
    """Build a recipe and push what comes of it."""
    link = folder / f"{recipe}-link"
    anna("build", RECIPES / f"{recipe}.py", "-o", link)
    pushed: dict[str, Any] = json.loads(anna("push", shelf, link, "--json", *options).stdout)
    link.unlink()
    return pushed


def test_a_program_travels(anna: User, bert: User, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    line = anna("key", "new", "anna").stdout.strip()
    assert oct((tmp_path / "anna/builder/keys/anna").stat().st_mode & 0o777) == "0o600"
    pushed = share(anna, shelf, tmp_path, "jq")
    shape(documented_json("push"), pushed, "push")
    # Who trusts nobody gets nothing by a name, and everything by a digest.
    refused = bert("pull", shelf, "jq", status=1)
    assert "no trusted key says what jq is (trusted: none)" in refused.stderr
    digest = pushed["artifacts"][0]["digest"]
    (by_digest,) = json.loads(bert("pull", shelf, digest, "--no-link", "--json").stdout)["artifacts"]
    assert by_digest["digest"] == digest
    bert("gc")
    assert not list((bert.store / "artifacts").iterdir())
    assert bert("key", "trust", line).stdout.strip() == line
    bert("remote", "add", "shelf", shelf)
    done = bert("pull", "shelf", "jq", cwd=tmp_path)
    place = Path(done.stdout.strip())
    assert (tmp_path / "result").resolve() == place
    said = subprocess.run([place / "bin/jq", "-n", "1+1"], capture_output=True, text=True, check=True, env={})
    assert said.stdout == "2\n"
    bert("check")
    # What it was made of did not come along, and nothing is made up.
    assert {row["how"] for row in json.loads(bert("tree", place, "--json").stdout)["files"]} == {"unknown"}
    for paper in ("sbom", "provenance"):
        assert "does not know what" in bert(paper, place, status=1).stderr
    # Other ways to say it.
    for name in ("jq-1.7.1", place.name):
        assert bert("pull", "shelf", name, cwd=tmp_path).stdout.strip() == str(place)
    assert "1.6" in bert("pull", "shelf", "jq-1.6", status=1).stderr
    assert "digest" in bert("pull", "shelf", "b3:1234", status=1).stderr


def test_a_build_takes_what_was_signed(anna: User, bert: User, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    line = anna("key", "new", "anna").stdout.strip()
    share(anna, shelf, tmp_path)
    zlib = RECIPES / "zlib.py"
    refused = bert("build", zlib, "--from", shelf, status=1)
    assert "no key is trusted" in refused.stderr
    bert("key", "trust", line)
    # Neither a source nor a compiler is fetched: there is no way to any.
    alone = Builder(bert.store, {**bert.environment, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"})
    built = json.loads(alone("build", zlib, "--from", shelf, "--no-link", "--json").stdout)["artifacts"]
    assert not (bert.store / "downloads").exists() or not list((bert.store / "downloads").iterdir())
    ours = anna.build(zlib)
    assert built[0]["digest"] == ours[0]["digest"]
    # From now on the store knows by itself.
    shutil.rmtree(shelf)
    assert json.loads(alone("build", zlib, "--no-link", "--json").stdout)["artifacts"][0]["digest"] == built[0]["digest"]
    bert("check")


def test_what_others_are_built_from_is_taken_too(anna: User, bert: User, tmp_path: Path) -> None:
    """jq is built from Oniguruma: the raw output of that is on the remote, and so only jq's own step is left to do."""
    shelf = tmp_path / "shelf"
    line = anna("key", "new", "anna").stdout.strip()
    share(anna, shelf, tmp_path, "oniguruma")
    bert("key", "trust", line)
    bert("remote", "add", "shelf", shelf, "--builds")
    plan = json.loads(bert("build", RECIPES / "jq.py", "--dry-run", "--json").stdout)["steps"]
    assert {step["name"]: step["state"] for step in plan}["oniguruma"] == "up to date"


def test_debug_information_travels(anna: User, bert: User, tmp_path: Path) -> None:
    shelf, link = tmp_path / "shelf", tmp_path / "link"
    line = anna("key", "new", "anna").stdout.strip()
    ours = json.loads(anna("build", RECIPES / "jq.py", "--debug-info", "-o", link, "--json").stdout)["artifacts"]
    assert [row["name"] for row in ours] == ["jq", "jq-debug"]
    anna("push", shelf, link, f"{link}-debug")
    bert("key", "trust", line)
    # By its own name, and as what comes of the recipe: then nothing is fetched to make it.
    (pulled,) = json.loads(bert("pull", shelf, "jq-debug", "--no-link", "--json").stdout)["artifacts"]
    assert pulled["digest"] == ours[1]["digest"]
    bert("gc")
    alone = Builder(bert.store, {**bert.environment, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"})
    words = ("build", RECIPES / "jq.py", "--debug-info", "--no-link", "--json")
    theirs = json.loads(alone(*words, "--from", shelf).stdout)["artifacts"]
    assert [row["digest"] for row in theirs] == [row["digest"] for row in ours]
    assert not (bert.store / "downloads").exists() or not list((bert.store / "downloads").iterdir())
    # A collection may take what was split off, although the artifact has to stay; then it is brought again.
    alone("build", RECIPES / "jq.py", "-o", tmp_path / "kept")
    bert("gc")
    assert not Path(theirs[1]["path"]).exists()
    assert json.loads(alone(*words, "--from", shelf).stdout)["artifacts"] == theirs
    bert("check")


def test_a_changed_recipe_is_not_taken(anna: User, bert: User, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    line = anna("key", "new", "anna").stdout.strip()
    share(anna, shelf, tmp_path)
    bert("key", "trust", line)
    changed = tmp_path / "recipes" / "zlib.py"
    changed.parent.mkdir()
    changed.write_text((RECIPES / "zlib.py").read_text().replace('script="""', 'script="""\n        true\n'))
    plan = json.loads(bert("build", changed, "--dry-run", "--json", "--from", shelf).stdout)["steps"]
    assert {step["name"]: step["state"] for step in plan}["zlib"].startswith("build")


def test_two_signatures_may_be_needed(anna: User, bert: User, builder: Builder, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    carl = user("carl", tmp_path, store=builder.store)
    lines = [anna("key", "new", "anna").stdout.strip(), carl("key", "new", "carl").stdout.strip()]
    share(anna, shelf, tmp_path)
    for line in lines:
        bert("key", "trust", line)
    (tmp_path / "bert/builder/config.toml").write_text("[trust]\nsigs-needed = 2\n")
    refused = bert("pull", shelf, "zlib", status=1)
    assert "2 have to say the same" in refused.stderr
    share(carl, shelf, tmp_path)
    bert("pull", shelf, "zlib", "--no-link")
    (tmp_path / "bert/builder/config.toml").write_text("[trust]\nsigs-needed = 0\n")
    assert "trust.sigs-needed is not a number above 0" in bert("pull", shelf, "zlib", status=1).stderr


def test_signatures_of_the_store_go_along(anna: User, bert: User, builder: Builder, tmp_path: Path) -> None:
    """Carl signs what he has built, and Anna's push brings both signatures."""
    shelf = tmp_path / "shelf"
    carl = user("carl", tmp_path, store=builder.store)
    anna("key", "new", "anna")
    line = carl("key", "new", "carl").stdout.strip()
    link = tmp_path / "link"
    carl("build", RECIPES / "zlib.py", "-o", link)
    signed = json.loads(carl("sign", link, "--json").stdout)
    shape(documented_json("sign"), signed, "sign")
    anna("push", shelf, link)
    link.unlink()
    bert("key", "trust", line)
    bert("pull", shelf, "zlib", "--no-link")


def test_a_distrusted_key_is_not_believed(anna: User, bert: User, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    line = anna("key", "new", "anna").stdout.strip()
    share(anna, shelf, tmp_path)
    bert("key", "trust", line, "--as", "her")
    keys = json.loads(bert("key", "list", "--json").stdout)
    shape(documented_json("key-list"), keys, "key-list")
    assert [(key["name"], key["own"], key["trusted"]) for key in keys["keys"]] == [("her", False, True)]
    bert("pull", shelf, "zlib", "--no-link")
    bert("key", "distrust", "her")
    bert("pull", shelf, "zlib", "--no-link", status=1)
    assert bert("key", "distrust", "her", status=1).stderr.startswith("error: there is no trusted key 'her'")


def test_a_bad_remote_costs_a_warning(anna: User, bert: User, tmp_path: Path) -> None:
    """One that is not there, one that lies in every object, and a good one: the build takes the good one's."""
    shelf, liar = tmp_path / "shelf", tmp_path / "liar"
    line = anna("key", "new", "anna").stdout.strip()
    share(anna, shelf, tmp_path)
    shutil.copytree(shelf, liar)
    for file in files_of(liar):
        os.chmod(file, 0o644)
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    bert("key", "trust", line)
    done = bert(
        "build", RECIPES / "zlib.py", "--no-link",
        "--from", "http://127.0.0.1:9/none", "--from", liar, "--from", shelf,
    )  # fmt: skip
    assert "warning: remote http://127.0.0.1:9/none" in done.stderr
    assert f"warning: remote {liar}" in done.stderr
    bert("check")


def test_remotes_have_names(anna: User, tmp_path: Path) -> None:
    anna("remote", "add", "ours", "https://example.org/artifacts", "--builds")
    anna("remote", "add", "shelf", "./shelf", cwd=tmp_path)
    listed = json.loads(anna("remote", "list", "--json").stdout)
    shape(documented_json("remote-list"), listed, "remote-list")
    assert listed["remotes"][1]["address"] == str(tmp_path / "shelf")
    assert "ours  https://example.org/artifacts  for builds" in anna("remote", "list").stdout
    assert "there is another remote 'ours' already" in anna("remote", "add", "ours", "/elsewhere", status=1).stderr
    for address in ("gopher://example.org/", "s3://bucket/?colour=red", "ssh://", "nothing", "https://"):
        assert "addresses of remotes are" in anna("remote", "add", "bad", address, status=1).stderr
    anna("remote", "remove", "ours")
    assert "there is no remote 'ours' (there are: shelf)" in anna("pull", "ours", "zlib", status=1).stderr
    # A password is not for everybody to read, nor to be seen on a terminal.
    anna("remote", "add", "secret", "https://me:letmein@example.org/")
    assert "letmein" not in anna("remote", "list").stdout
    assert (tmp_path / "anna/builder/remotes/secret").stat().st_mode & 0o077 == 0


def test_a_push_needs_a_key_or_has_to_say_so(anna: User, tmp_path: Path) -> None:
    link = tmp_path / "link"
    anna("build", RECIPES / "zlib.py", "-o", link)
    assert "there is no key to sign with" in anna("push", tmp_path / "shelf", link, status=1).stderr
    anna("push", tmp_path / "shelf", link, "--no-sign")
    link.unlink()


def test_a_remote_is_cleaned_up(anna: User, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    anna("key", "new", "anna")
    share(anna, shelf, tmp_path)
    gone = json.loads(anna("remote", "gc", shelf, "--keep-newest", "5", "--json").stdout)
    shape(documented_json("remote-gc"), gone, "remote-gc")
    assert gone["artifacts"] == []
    assert "removed 0 artifacts" in anna("remote", "gc", shelf).stdout
    assert "there is no remote yet" in anna("remote", "gc", tmp_path / "none", status=1).stderr
