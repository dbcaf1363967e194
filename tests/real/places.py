"""Where the tests' programs run: a root, on which an artifact is seen at /artifact, in namespaces of its own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ARTIFACT = "/artifact"
WITH = f"{ARTIFACT}/bin/with"


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended: its status (128 + n for signal n), and what it printed."""

    status: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


@dataclass(frozen=True, slots=True)
class Place:
    """A root with an artifact. ``at`` is the path under which it is seen, ``proc`` whether there are /proc, /dev and /tmp."""

    bwrap: Path
    root: Path
    artifact: Path
    at: str = ARTIFACT
    proc: bool = True
    binds: tuple[tuple[Path, str], ...] = ()
    writable: tuple[tuple[Path, str], ...] = ()

    def but(self, **changes: object) -> Place:
        """The same place, changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def run(
        self,
        program: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        how: Sequence[str] = (),
        directory: str = "/",
        expect: int | None = None,
    ) -> Done:
        """Run a program to its end. ``program`` is a path, or a name in the artifact's ``bin``; ``how`` are words for `with`.

        The environment is ``env`` alone. ``expect`` is the status that it has to end with.
        """
        path = program if "/" in program or "search" in how else f"{self.at}/bin/{program}"
        words = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--ro-bind", str(self.root), "/"]
        if self.proc:
            words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        words += ["--ro-bind", str(self.artifact), ARTIFACT]
        for outside, inside in self.binds:
            words += ["--ro-bind", str(outside), inside]
        for outside, inside in self.writable:
            words += ["--bind", str(outside), inside]
        variables = [f"set={name}={value}" for name, value in (env or {}).items()]
        words += ["--chdir", directory, "--", WITH, *variables, *how, "--"]
        done = subprocess.run(
            [self.bwrap, *words, path, *arguments],
            env={},
            cwd="/",
            capture_output=True,
            text=True,
            errors="surrogateescape",
            stdin=subprocess.DEVNULL,
            check=False,
        )
        outcome = Done(done.returncode, done.stdout, done.stderr)
        if expect is not None:
            assert outcome.status == expect, f"{program}: status {outcome.status}\n{outcome.all}"
        return outcome


def plain(text: str) -> str:
    """The text without what differs from run to run and from root to root: addresses, numbers of processes, directories."""
    text = re.sub(r"0x[0-9a-f]+|==[0-9]+==|\bt?id[= ][0-9]+|(?m:^ +[0-9]+:\t)|\bpid=[0-9]+", "#", text)
    return re.sub(r"(?<![\w.])/\S*/(?=[^\s/])", "", text)
