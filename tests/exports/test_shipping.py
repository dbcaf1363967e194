"""The page for who ships a program: signatures, and what an ordinary user does with the file."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RECIPES, ROOT, Builder
from tests.store.helpers import NOBODY, ordinary_folder

PAGE = (ROOT / "docs" / "shipping.md").read_text()
FILE = "crystal-1.14.0-x86_64-linux.run"


def lines(beginning: str) -> list[str]:
    """The page's commands that begin so."""
    return re.findall(rf"^    ({re.escape(beginning)}.*)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def ssh(builder: Builder) -> Path:
    (built,) = builder.build(ROOT / "tests" / "sharing" / "launchers.py")
    return Path(built["path"]) / "bin"


@pytest.fixture
def somebody(tmp_path: Path) -> Iterator[Path]:
    """The home of an ordinary user, with the file in it."""
    with ordinary_folder(tmp_path) as home:
        yield home


def run(command: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False, **user)  # type: ignore[call-overload,no-any-return]


def test_signatures(ssh: Path, tmp_path: Path) -> None:
    def keygen(words: str, text: str | None = None) -> int:
        command = [str(ssh / "ssh-keygen"), *shlex.split(words)]
        return subprocess.run(command, cwd=tmp_path, input=text, capture_output=True, text=True, check=False).returncode

    assert keygen("-q -t ed25519 -N '' -f key") == 0
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  {FILE}\n")
    (tmp_path / "signers").write_text(f"you@example.org {(tmp_path / 'key.pub').read_text()}")
    (sign,), (verify,) = lines("ssh-keygen -Y sign"), lines("ssh-keygen -Y verify")
    assert keygen(sign.removeprefix("ssh-keygen ").replace("~/.ssh/id_ed25519", "key")) == 0
    words, _, given = verify.removeprefix("ssh-keygen ").partition(" < ")
    assert keygen(words, (tmp_path / given).read_text()) == 0
    assert keygen(words, f"{'1' * 64}  {FILE}\n") != 0


def test_a_library_is_no_program(builder: Builder, tmp_path: Path) -> None:
    (built,) = builder.build(RECIPES / "oniguruma.py")
    said = builder("export", built["path"], "-o", tmp_path / "onig.run", status=1).stderr
    assert "the artifact has no program in its bin/, and one file is for starting programs" in said
    assert list(tmp_path.iterdir()) == []


def test_a_file_for_an_ordinary_user(builder: Builder, somebody: Path) -> None:
    """Fetched, started, installed and taken away, as the page says."""
    (built,) = builder.build(RECIPES / "jq.py")
    file = somebody / "jq-1.7.1-x86_64-linux.run"
    builder("export", built["path"], "-o", file)
    assert run([str(file), "-n", "6 * 7"], somebody).stdout == "42\n"
    assert run([str(file), "--builder-install"], somebody).stdout == f"{somebody}/.local/bin/jq\n"
    file.rename(somebody / "elsewhere.run")
    done = run([f"{somebody}/.local/bin/jq", "-n", "6 * 7"], somebody)
    assert (done.stdout, done.stderr) == ("42\n", "")
    done = run([str(somebody / "elsewhere.run"), "--builder-uninstall"], somebody)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in somebody.rglob("*") if not path.is_dir()] == ["elsewhere.run"]
