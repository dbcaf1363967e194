"""Exports are handed to the tools of others, which come from Debian, are exported as a folder, and run as an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from store import files
from tests.conftest import RECIPES, ROOT, Builder
from tests.store.helpers import NOBODY, ordinary_folder


@dataclass(frozen=True)
class Tools:
    """Programs of image-tools, run as an ordinary user in ``home``, a folder of that user."""

    bin: Path
    home: Path

    def run(self, program: str, *words: str | Path, status: int = 0, **variables: str) -> str:
        """Run one to its end, which has to be ``status``, and give what it printed."""
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
        done = subprocess.run(
            [self.bin / program, *map(str, words)],
            cwd=self.home,
            env={"PATH": str(self.bin), "HOME": str(self.home), **variables},
            capture_output=True,
            text=True,
            check=False,
            **user,  # type: ignore[call-overload]
        )
        assert done.returncode == status, done.stderr
        return str(done.stdout + done.stderr)

    def skopeo(self, *words: str | Path, status: int = 0, **variables: str) -> str:
        """skopeo, which trusts any image here."""
        return self.run("skopeo", "--insecure-policy", *words, status=status, **variables)

    def enter(self, bundle: Path, *arguments: str) -> str:
        """Run an unpacked image as its configuration says, in namespaces of its own."""
        process = json.loads((bundle / "config.json").read_text())["process"]
        words = ["--unshare-all", "--clearenv", "--bind", str(bundle / "rootfs"), "/", "--chdir", process["cwd"]]
        for variable in process["env"]:
            words += ["--setenv", *variable.split("=", 1)]
        return self.run("bwrap", *words, "--", *process["args"], *arguments)


@pytest.fixture(scope="session")
def tools(builder: Builder) -> Iterator[Tools]:
    (built,) = builder.build(ROOT / "tests" / "debian" / "images.py")
    # Not pytest's own folder, which another run of pytest closes to all other users again.
    top = Path(tempfile.mkdtemp(prefix="builder-exports-", dir="/var/tmp"))
    try:
        top.chmod(0o755)
        builder("export", built["path"], "--format", "dir", "-o", top / "tools")
        with ordinary_folder(top) as home:
            yield Tools(top / "tools" / "bin", home)
    finally:
        with files.directory(top.parent) as fd:
            files.remove_tree(top.name, at=fd)


@pytest.fixture(scope="session")
def programs(builder: Builder) -> tuple[dict[str, str], dict[str, str]]:
    """jq, and hello, which have libraries in common."""
    jq, hello = builder.build(RECIPES / "jq.py", RECIPES / "hello.py")
    return jq, hello
