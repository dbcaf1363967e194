"""The sandbox: a process tree that sees one root, no network, no host files and no other process, through bubblewrap.

What is to be mounted and set is a value (`Sandbox`), and so is what bubblewrap is told (`arguments`).
"""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from builder.recipe import Limits
from builder.steps import USER_ID
from store.errors import Error

_READ = 1 << 16


class SandboxRefused(Error):
    """The kernel, or what guards it, did not let the sandbox begin; ``reason`` is bubblewrap's own word."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the kernel refuses the sandbox: {reason}", hint=_advice())
        self.reason = reason


class Cancelled(Error):
    """The work was told to stop, by Ctrl-C or by the failure of another part."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("stopped")


@dataclass(frozen=True, slots=True)
class Bind:
    """A directory of the host that the sandbox sees at ``inside``."""

    outside: Path
    inside: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One process to be run: its root (read-only), what else it sees, its command, variables and working directory."""

    root: Path
    command: tuple[str, ...]
    variables: Mapping[str, str]
    directory: str
    binds: tuple[Bind, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a sandboxed process ended: its exit status (128 + n for signal n), or why it was stopped ("" if it was not)."""

    status: int
    stopped: str
    seconds: float


def arguments(sandbox: Sandbox, *, status_fd: int | None = None) -> list[str]:
    """What bubblewrap is told (bwrap(1)), without its own name."""
    # The mounts are made in this order. Everything is below the read-only root, whose mount points the tree brings.
    words = ["--unshare-all", "--unshare-user", "--die-with-parent", "--clearenv", "--hostname", "builder"]
    words += ["--disable-userns", "--uid", str(USER_ID), "--gid", str(USER_ID), "--cap-drop", "ALL"]
    words += ["--ro-bind", str(sandbox.root), "/", "--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108
    for bind in sandbox.binds:
        words += ["--bind" if bind.writable else "--ro-bind", str(bind.outside), bind.inside]
    for name in sorted(sandbox.variables):
        words += ["--setenv", name, sandbox.variables[name]]
    words += ["--chdir", sandbox.directory]
    if status_fd is not None:
        # A terminal that is shared with the host's could be typed into (CVE-2017-5226): only a shell keeps it.
        words += ["--new-session", "--json-status-fd", str(status_fd)]
    return [*words, "--", *sandbox.command]


def run(bwrap: Path, sandbox: Sandbox, *, output: Callable[[bytes], None], cancel: Event) -> Outcome:
    """Run the process to its end, and give every piece of its output to ``output``.

    When it overstays one of its limits, or ``cancel`` is set, all of its processes are killed: they live in a namespace
    that ends with its first process. Raises SandboxRefused and Cancelled.
    """
    started = time.monotonic()
    status_read, status_write = os.pipe()
    try:
        process = subprocess.Popen(
            [str(bwrap), *arguments(sandbox, status_fd=status_write)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(status_write,),
            env={},
            cwd="/",
            umask=0o022,
            # Ctrl-C goes to this process alone, which then decides; bubblewrap dies with the thread that started it.
            start_new_session=True,
        )
    finally:
        os.close(status_write)
    assert process.stdout is not None
    tail = bytearray()
    stopped = ""
    try:
        for piece in _watch(process, sandbox.limits, started, cancel):
            if isinstance(piece, str):
                stopped = piece
                break
            output(piece)
            tail = (tail + piece)[-2000:]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        with open(status_read, "rb") as file:
            reports = file.read()
    if cancel.is_set() and process.returncode != 0:
        raise Cancelled
    if b"child-pid" not in reports:
        raise SandboxRefused(tail.decode("utf-8", "replace").strip().removeprefix("bwrap: ") or f"status {process.returncode}")
    status = process.returncode if process.returncode >= 0 else 128 - process.returncode
    return Outcome(status, stopped, time.monotonic() - started)


def _watch(process: subprocess.Popen[bytes], limits: Limits, started: float, cancel: Event) -> Iterator[bytes | str]:
    """The output in pieces until the process ends; a text instead says which limit was overstayed."""
    assert process.stdout is not None
    heard, size, open_ = started, 0, True
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        # A process may close its output and work on.
        while (open_ or process.poll() is None) and not cancel.is_set():
            if not open_:
                time.sleep(0.01)
            elif selector.select(0.1):
                piece = os.read(process.stdout.fileno(), _READ)
                size, heard = size + len(piece), time.monotonic()
                if piece:
                    yield piece
                else:
                    open_ = False
            now = time.monotonic()
            if size > limits.log:
                yield f"it wrote more than {limits.log} bytes of output"
            elif now - started > limits.seconds:
                yield f"it ran for more than {limits.seconds} seconds"
            elif now - heard > limits.silence:
                yield f"it said nothing for {limits.silence} seconds"


def _advice() -> str:
    """What to do where user namespaces are refused: the switches that distributions put there."""
    for path, wrong, advice in (
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
    ):
        try:
            value = Path(path).read_text().strip()
        except OSError:
            continue
        if value == wrong:
            return f"This machine forbids user namespaces. As root: {advice}"
    return (
        "Builds need user namespaces. In a container, start it with them allowed (for example --security-opt"
        " seccomp=unconfined), or build on the host. In a chroot the kernel never gives them: enter it by pivot_root(8)."
    )
