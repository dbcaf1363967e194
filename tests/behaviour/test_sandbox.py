"""The sandbox, by builds that try to get out of it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from store.digest import Digest
from store.manifest import File
from store.store import Store
from tests.conftest import RECIPES, Builder

Write = Callable[..., Path]


def test_a_build_sees_its_root_and_nothing_of_the_host(builder: Builder, write_recipe: Write, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    script = f"""
        mkdir -p "$OUT$PREFIX"
        for path in {secret} {tmp_path} {builder.store} {__file__}; do
            if [ -e "$path" ]; then echo "$path is there"; exit 1; fi
        done
        for path in /home /root /tmp; do test -z "$(ls -A $path)"; done
        env | sort > "$OUT$PREFIX/env"
        ls / > "$OUT$PREFIX/top"
        id -u > "$OUT$PREFIX/id"
        uname -n >> "$OUT$PREFIX/id"
        umask >> "$OUT$PREFIX/id"
        ls /proc | grep -c '^[0-9]' > "$OUT$PREFIX/processes"
        cat /proc/self/status | grep Cap > "$OUT$PREFIX/caps"
    """
    (built,) = builder.build(write_recipe("looks-around", script))
    place = Path(built["path"])
    top = set((place / "top").read_text().split())
    assert top >= {"build", "dev", "etc", "out", "pkg", "proc", "tmp", "usr"}
    # What there is beside them comes from Debian's base-files, empty.
    others = "bin boot home lib lib32 lib64 libx32 media mnt opt root run sbin srv sys var"
    assert top <= {*others.split(), "build", "dev", "etc", "out", "pkg", "proc", "tmp", "usr"}
    assert (place / "id").read_text().split() == ["1000", "builder", "0022"]
    assert int((place / "processes").read_text()) < 8
    assert set((place / "caps").read_text().split()[1::2]) == {"0" * 16}
    names = {line.split("=")[0] for line in (place / "env").read_text().splitlines()}
    expected = {"HOME", "JOBS", "LC_ALL", "OUT", "PATH", "PREFIX", "PWD", "SOURCE_DATE_EPOCH", "TERM", "TMPDIR", "TZ", "USER"}
    assert names - {"OLDPWD", "SHLVL", "_"} == expected


def test_no_network(builder: Builder, write_recipe: Write) -> None:
    """A server on the host's loopback is not reached; a server of the build's own is."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    reached = threading.Event()
    threading.Thread(target=lambda: (server.accept(), reached.set()), daemon=True).start()
    script = f"""
        exec 2>&1
        mkdir -p "$OUT$PREFIX"
        if (exec 3<>/dev/tcp/127.0.0.1/{port}) ; then echo "the host was reached"; exit 1; fi
        grep -c : /proc/net/dev > "$OUT$PREFIX/interfaces"
    """
    recipe = write_recipe("calls-out", f"exec bash -euc '{script}'")
    (built,) = builder.build(recipe)
    assert (Path(built["path"]) / "interfaces").read_text() == "1\n"
    assert not reached.is_set()
    server.close()


@pytest.mark.parametrize("path", ["/usr/bin/made", "/made", "/etc/passwd", "/usr/bin/gcc", "/pkg/made"])
def test_the_input_root_cannot_be_written_to(builder: Builder, write_recipe: Write, path: str) -> None:
    recipe = write_recipe("writes-" + path.strip("/").replace("/", "-"), f"echo x > {path}")
    assert "Read-only file system" in builder("build", recipe, "--no-link", status=1).stderr


def test_blobs_survive_a_build_that_changes_what_it_reads(builder: Builder, write_recipe: Write) -> None:
    """Files of the build folder are copies; the root's are links to blobs, on a read-only mount that cannot be remounted."""
    script = """
        gcc=/usr/bin/x86_64-linux-gnu-gcc-12
        if chmod u+w $gcc; then exit 1; fi
        if mount -o remount,rw /; then exit 1; fi
        if rm $gcc; then exit 1; fi
        echo changed >> given
        mkdir -p "$OUT$PREFIX"
        cp given "$OUT$PREFIX/"
    """
    recipe = write_recipe("changes-inputs", script, more="sources=(Local('given'),)")
    (recipe.parent / "given").write_text("given\n")
    (built,) = builder.build(recipe)
    assert (Path(built["path"]) / "given").read_text() == "given\nchanged\n"
    assert (recipe.parent / "given").read_text() == "given\n"
    store = Store(builder.store)
    (toolchain,) = builder.build(RECIPES / "toolchain.py")
    gcc = store.read_manifest(Digest.parse(toolchain["digest"]))[b"usr/bin/x86_64-linux-gnu-gcc-12"]
    assert isinstance(gcc, File)
    store.read_blob(gcc.blob)  # raises Damaged


def test_a_setuid_file_does_not_leave(builder: Builder, write_recipe: Write) -> None:
    script = """
        mkdir -p "$OUT$PREFIX/bin"
        cp /usr/bin/true "$OUT$PREFIX/bin/setuid"
        chmod 6755 "$OUT$PREFIX/bin/setuid"
        mkdir sticky; chmod 7777 sticky
        cp /usr/bin/true . ; chmod 6777 true
    """
    (built,) = builder.build(write_recipe("leaves-setuid", script))
    assert (Path(built["path"]) / "bin" / "setuid").stat().st_mode & 0o7777 == 0o555
    # A failed build's folders are kept where nobody else can look, and with no such file in them.
    builder("build", write_recipe("fails-setuid", script + "exit 1"), "--keep-failed", status=1)
    kept = builder.store / "tmp" / "kept-fails-setuid"
    assert kept.stat().st_mode & 0o777 == 0o700
    modes = [(Path(top) / name).stat().st_mode for top, folders, names in os.walk(kept) for name in [*folders, *names]]
    assert modes
    assert not any(mode & 0o7000 for mode in modes)


def test_no_process_stays(builder: Builder, write_recipe: Write) -> None:
    mark = f"3{os.getpid() % 100000:05d}"
    script = f"""
        mkdir -p "$OUT$PREFIX"; echo > "$OUT$PREFIX/file"
        setsid sleep {mark} > /dev/null 2>&1 < /dev/null &
        (trap '' TERM HUP INT; sleep {mark}) &
    """
    builder.build(write_recipe(f"stays-{mark}", script))
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if mark in _read(p).split("\0")]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("name", "script", "limits", "message"),
    [
        ("fills-the-log", "yes", "log=100_000", "it wrote more than 100000 bytes of output"),
        ("runs-on", "while :; do echo; sleep 0.1; done", "seconds=2", "it ran for more than 2 seconds"),
        ("is-silent", "sleep 1000", "silence=1", "it said nothing for 1 seconds"),
        ("hides", "exec > /dev/null 2>&1; sleep 1000", "silence=1", "it said nothing for 1 seconds"),
    ],
)
def test_limits(builder: Builder, write_recipe: Write, name: str, script: str, limits: str, message: str) -> None:
    recipe = write_recipe(name, script, more=f"limits=Limits({limits})")
    assert message in builder("build", recipe, "--no-link", status=1).stderr
    assert len(builder("log", recipe).stdout) < 200_000


def test_nested_namespaces_are_refused(builder: Builder, write_recipe: Write) -> None:
    """A build that could make namespaces could remount what it sees."""
    recipe = write_recipe("nests", 'mkdir -p "$OUT$PREFIX"; if unshare -Ur true; then exit 1; fi; echo > "$OUT$PREFIX/x"')
    builder.build(recipe)


def test_devices_and_pipes_are_no_output(builder: Builder, write_recipe: Write) -> None:
    recipe = write_recipe("makes-a-pipe", 'mkdir -p "$OUT$PREFIX"; mkfifo "$OUT$PREFIX/pipe"')
    assert "pkg/pipe is neither a file, a directory nor a symlink" in builder("build", recipe, "--no-link", status=1).stderr
