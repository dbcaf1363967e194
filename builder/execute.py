"""Runs one action in the sandbox: lays its input root out, starts it, and takes its output in."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import cast

from builder import sandbox
from builder.recipe import Limits
from builder.record import record
from builder.sandbox import Bind, Outcome, Sandbox
from builder.steps import BUILD, OUT, PREFIX, START, USER, command
from launcher.debug import Described, for_launcher, laid_out
from store import files, trees
from store.action import Action
from store.digest import Digest
from store.errors import Error
from store.manifest import DIRECTORY, Directory, File, Manifest, show
from store.store import Store

TAIL = 20
_FILES = b"files/"
# Names are words here, and never a part of the script.
_SPLIT = """
find . -type f -exec sh -eu -c '
  for file; do
    mkdir -p "/out/main/${file%/*}" "/out/debug/${file%/*}"
    if ! eu-strip -g -f "/out/debug/$file" -F "${file##*/}.debug" -o "/out/main/$file" "$file"; then
      printf "eu-strip cannot split %s\\n" "${file#./}"
      exit 1
    fi
    chmod 644 "/out/debug/$file"
  done
' sh {} +
"""
_LEAVE_WHOLE = "List the file under `keep` of the recipe to leave it whole, or leave `debug` out."
ARTIFACT = "/artifact"
HOME = "/home"


class BuildFailed(Error):
    """A script that ended with another status than 0, or was stopped. ``log`` is the file with all that it said."""

    def __init__(self, label: str, outcome: Outcome, log: Path, hint: str) -> None:
        why = outcome.stopped or f"its script ended with status {outcome.status}"
        lines = log.read_text("utf-8", "replace").splitlines()[-TAIL:] if log.exists() else []
        shown = "".join(f"\n    {_printable(line)}" for line in lines)
        super().__init__(f"{label} failed: {why}{':' if shown else ''}{shown}", hint=hint)
        self.label = label
        self.outcome = outcome
        self.log = log


class StrayOutput(Error):
    """A script put something into $OUT that is no part of an artifact."""

    def __init__(self, label: str, path: bytes) -> None:
        super().__init__(
            f"{label} installed {show(b'/' + path)}, which is outside of {PREFIX}",
            hint='Configure with --prefix="$PREFIX", and install with DESTDIR="$OUT".',
        )


class NoOutput(Error):
    """A script that installed nothing."""

    def __init__(self, label: str) -> None:
        super().__init__(f"{label} installed nothing", hint='The script has to fill "$OUT$PREFIX".')


class NotSplit(Error):
    """A file of which eu-strip left nothing, although it ended well."""

    def __init__(self, path: bytes) -> None:
        super().__init__(f"eu-strip left nothing of {show(path)}", hint=_LEAVE_WHOLE)
        self.path = path


def _printable(line: str) -> str:
    """A line of a log with nothing in it that could steer a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line)


@dataclass(frozen=True, slots=True)
class Executor:
    """What running needs: the store, bubblewrap, how many jobs a script may run, and the event that stops it all."""

    store: Store
    bwrap: Path
    jobs: int
    cancel: Event

    def build(
        self,
        action: Action,
        label: str,
        input_root: Manifest,
        *,
        limits: Limits,
        say: Callable[[str], None],
        keep_as: str = "",
        hint: str = "",
        again: bool = False,
    ) -> Digest:
        """Run a build action and record its result. Gives the digest of its output, the tree at $OUT$PREFIX.

        With ``keep_as``, a failed build's folders are kept under that name. With ``again`` the stored result and log stay as
        they are: there is a second log, and the output is added and nothing more. Raises BuildFailed, StrayOutput, NoOutput,
        SandboxRefused, Cancelled.
        """
        started = time.time()
        log = self.store.log_path(action.digest)
        log = log.with_name(f"{log.name}.again") if again else log
        with self.store.workspace() as folder:
            box = self._lay_out(folder, action, input_root)
            outcome = self._run(replace(box, limits=limits), log, say)
            if outcome.status or outcome.stopped:
                if keep_as:
                    self._keep(folder, keep_as)
                raise BuildFailed(label, outcome, log, hint)
            with self.store.batch() as batch:
                with files.directory(folder / "out") as fd:
                    output = _below_prefix(label, trees.take_in(batch, fd, move=True))
                batch.add_manifest(output)
                if not again:
                    batch.add_result(record(action, label, output.digest, started, log=Digest.of(log.read_bytes())))
        return output.digest

    def check(
        self,
        action: Action,
        label: str,
        bare_root: Manifest,
        artifact: tuple[Digest, Path],
        *,
        limits: Limits,
        say: Callable[[str], None],
        hint: str = "",
    ) -> None:
        """Run a recipe's check on a root that holds nothing but busybox and the artifact. Raises BuildFailed."""
        started = time.time()
        log = self.store.log_path(action.digest)
        digest, place = artifact
        with self.store.workspace() as folder:
            words = cast("list[str]", action.settings[2])
            box = replace(self.bare(folder, bare_root, place), command=tuple(words), limits=limits)
            outcome = self._run(box, log, say)
            if outcome.status or outcome.stopped:
                raise BuildFailed(f"the check of {label}", outcome, log, hint)
        with self.store.batch() as batch:
            batch.add_result(record(action, label, digest, started, log=Digest.of(log.read_bytes())))

    def split(
        self,
        actions: tuple[Action, Action],
        label: str,
        tools: Manifest,
        output: Manifest,
        found: Sequence[Described],
        *,
        limits: Limits,
        say: Callable[[str], None],
    ) -> Digest:
        """Split the debug information of the files ``found`` off from ``output``, and record both results.

        Gives the digest of the output without it. Raises BuildFailed.
        """
        started = time.time()
        log = self.store.log_path(actions[0].digest)
        with self.store.workspace() as folder:
            mounts = [(path.encode(), DIRECTORY) for path in ("proc", "dev", "tmp", "out")]
            files_in = [(_FILES + one.paths[0], one.file) for one in found]
            _fill(self.store, folder / "root", Manifest.with_parents([*tools.entries, *mounts, *files_in]))
            (folder / "out").mkdir()
            box = Sandbox(
                root=folder / "root",
                command=tuple(command(_SPLIT)),
                variables={"PATH": "/usr/bin", "LC_ALL": "C.UTF-8"},
                directory=f"/{_FILES.decode()}",
                binds=(Bind(folder / "out", OUT, writable=True),),
                limits=limits,
            )
            outcome = self._run(box, log, say)
            if outcome.status or outcome.stopped:
                raise BuildFailed(f"splitting off the debug information of {label}", outcome, log, _LEAVE_WHOLE)
            with self.store.batch() as batch:
                with files.directory(folder / "out") as fd:
                    made = trees.take_in(batch, fd, move=True)
                batch.commit()
                nodes = dict(output.entries)
                parts: list[tuple[bytes, File]] = []
                for one in found:
                    stripped, part = (made.get(top + one.paths[0]) for top in (b"main/", b"debug/"))
                    if type(stripped) is not File or type(part) is not File:
                        raise NotSplit(one.paths[0])  # nothing but a file that has taken eu-strip over could do that
                    nodes.update(dict.fromkeys(one.paths, stripped))
                    parts.append((one.build_id, batch.add_bytes(for_launcher(self.store.read_blob(part.blob)))))
                left, apart = Manifest(nodes.items()), laid_out(parts)
                said = Digest.of(log.read_bytes())
                for action, tree in zip(actions, (left, apart), strict=True):
                    batch.add_manifest(tree)
                    batch.add_result(record(action, label, tree.digest, started, log=said))
        return left.digest

    def bare(self, folder: Path, bare_root: Manifest, artifact: Path) -> Sandbox:
        """The sandbox of a check, laid out below ``folder``: the artifact is at another place than it was built for."""
        _fill(self.store, folder / "root", bare_root)
        home = folder / "home"
        home.mkdir()
        variables = {
            "PATH": f"{ARTIFACT}/bin:{ARTIFACT}/sbin:/bin",
            "ARTIFACT": ARTIFACT,
            "HOME": HOME,
            "USER": USER,
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        binds = (Bind(artifact, ARTIFACT), Bind(home, HOME, writable=True))
        return Sandbox(root=folder / "root", command=("/bin/sh",), variables=variables, directory=HOME, binds=binds)

    def _lay_out(self, folder: Path, action: Action, input_root: Manifest, *, kept: Path | None = None) -> Sandbox:
        """The sandbox of a build, laid out below ``folder``, with the trees of a failed build when ``kept`` names them."""
        build = BUILD[1:].encode()
        _fill(self.store, folder / "root", Manifest(e for e in input_root.entries if not e[0].startswith(build + b"/")))
        if kept is None:
            _fill(self.store, folder / "build", input_root.below(build), copy=True)
            (folder / "out").mkdir()
        writable = kept or folder
        words, variables = _command(action)
        return Sandbox(
            root=folder / "root",
            command=words,
            variables={**variables, "JOBS": str(self.jobs)},
            directory=START,
            binds=(Bind(writable / "build", BUILD, writable=True), Bind(writable / "out", OUT, writable=True)),
        )

    def shell(self, action: Action, input_root: Manifest, *, kept: Path | None) -> int:
        """An interactive shell in a build's sandbox, or in that of a failed one. Gives the shell's exit status."""
        with self.store.workspace() as folder:
            box = self._lay_out(folder, action, input_root, kept=kept)
            shell = ("/usr/bin/bash", "--norc") if b"usr/bin/bash" in input_root else ("/bin/sh",)
            extra = {"TERM": os.environ.get("TERM", "dumb"), "PS1": "[builder \\w]$ "}
            box = replace(box, command=shell, variables={**box.variables, **extra})
            return subprocess.run([str(self.bwrap), *sandbox.arguments(box)], env={}, cwd="/", check=False).returncode

    def _run(self, box: Sandbox, log: Path, say: Callable[[str], None]) -> Outcome:
        self.store.use("logs", log.name)
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        lines = _Lines(say)
        try:
            outcome = sandbox.run(self.bwrap, box, output=lambda data: lines.feed(fd, data), cancel=self.cancel)
        finally:
            os.close(fd)
        lines.end()
        return outcome

    def _keep(self, folder: Path, name: str) -> None:
        place = self.store.root / "tmp" / name
        self.store.use("tmp", name)
        with files.directory(place.parent) as fd:
            files.remove_tree(name, at=fd)
        place.mkdir(mode=0o700)
        for part in ("build", "out"):
            _drop_special_modes(folder / part)
            (folder / part).rename(place / part)


class _Lines:
    """Cuts output into lines for people, while the log takes the bytes as they are."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rest = b""

    def feed(self, fd: int, data: bytes) -> None:
        files.write_all(fd, data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-4096:]
        for line in lines:
            self._say(_printable(line.decode("utf-8", "replace")))

    def end(self) -> None:
        if self._rest:
            self._say(_printable(self._rest.decode("utf-8", "replace")))


def _command(action: Action) -> tuple[tuple[str, ...], Mapping[str, str]]:
    words = cast("list[str]", action.settings[2])
    pairs = cast("list[list[str]]", action.settings[3])
    return tuple(words), {pair[0]: pair[1] for pair in pairs}


def _fill(store: Store, place: Path, manifest: Manifest, *, copy: bool = False) -> None:
    place.mkdir(mode=0o755)
    with files.directory(place) as fd:
        trees.check_out(store, manifest, fd, copy=copy)


def _below_prefix(label: str, tree: Manifest) -> Manifest:
    prefix = PREFIX[1:].encode()
    for path, node in tree.entries:
        if not (path == prefix or path.startswith(prefix + b"/")):
            raise StrayOutput(label, path)
        if path == prefix and node != DIRECTORY:
            raise StrayOutput(label, path)
    if prefix not in tree or not any(type(node) is not Directory for _, node in tree.entries):
        raise NoOutput(label)
    return tree.below(prefix)


def _drop_special_modes(top: Path) -> None:
    """Take setuid, setgid and sticky bits off a tree that a build left."""
    for folder, _, names in os.walk(top):
        with files.directory(folder) as fd:
            for name in [".", *names]:
                mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
                if mode & 0o7000 and not stat.S_ISLNK(mode):
                    os.chmod(name, mode & 0o777, dir_fd=fd)
