"""Scripts: the same as the kernel and as coreutils' env make of their first lines, and interpreters from all places."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from launcher.names import Namespace
from launcher.pack import BadProgram, NoInterpreter
from launcher.scripts import BadFirstLine, asked_by, read_shebang, split_string
from store.digest import Digest
from store.manifest import Manifest, Node, Symlink
from store.store import Store
from tests.launcher.programs import Blobs, probe, program, start, values
from tests.launcher.test_pack import FOO, HERE, SIMPLE, C, root

Entries = dict[str, bytes | Node]
LINES = (
    b"%s\n", b" \t %s \t \n", b"%s -x  y\t\n", b"%s -x", b"%s -x  ", b"%s", b"%s -x\0y \n", b"%s\0 -x\n",
    b"%s " + b"a" * 400, b"%s " + b"a" * 400 + b"\nbody", b"%s " + b"b " * 200 + b"\nbody",
)  # fmt: skip
SPLIT = (
    r"show a b", r"  show   'a b' c", r"""show "a 'b' \"c\"" 'd "e"'""", r"show a\_b \_ c", r'show "a\_b"', r"show a\tb.",
    r"show a # rest", r"show a#b", r"show a\#b \# c", r"show a\c b", r"show 'a\tb\\c\'d'", r"show \$HOME '$HOME'",
    r"show a'b'\"c\"" + '"d e"f', "show\ta\vb\fc\r", r"-- show -x", r"show -- -i A=1",
)  # fmt: skip
DIE = b'#!/bin/sh -u\nread -r line\necho "got $line, $#: $1"\n[ "$1" ] && exit 3\nkill -TERM $$\n'
WRONG = (r"show 'a", r'show "a', r"show \q", "show a\\", r'show "a\c"', r"show $A", r"show ${A}")


@pytest.mark.parametrize("line", LINES)
def test_first_lines_are_read_as_the_kernel_does(tmp_path: Path, line: bytes) -> None:
    interpreter = tmp_path / "i"
    interpreter.write_bytes(probe())
    interpreter.chmod(0o755)
    text = b"#!" + line.replace(b"%s", os.fsencode(interpreter))
    script = tmp_path / "script"
    script.write_bytes(text)
    script.chmod(0o755)
    status, lines = start(script, "one", "two words", "")
    assert status == 7, lines
    found = read_shebang(text)
    assert found is not None
    arguments = [] if found.argument is None else [os.fsdecode(found.argument)]
    assert values(lines, "argv") == [os.fsdecode(found.interpreter), *arguments, str(script), "one", "two words", ""]


@pytest.mark.parametrize(
    "text", [b"#!", b"#!\n", b"#! \t\n", b"#!/" + b"x" * 300, b"#!\0/bin/sh\n", b" #!/bin/sh\n", b"# !/bin/sh"]
)
def test_what_the_kernel_does_not_start(tmp_path: Path, text: bytes) -> None:
    assert read_shebang(text) is None
    script = tmp_path / "script"
    script.write_bytes(text)
    script.chmod(0o755)
    with pytest.raises(OSError):
        subprocess.run([script], check=False)


@pytest.fixture(scope="session")
def env(debian_root: tuple[Store, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with coreutils' env, as a launcher, and our interpreter."""
    store, tree = debian_root
    blobs = Blobs()
    found = Namespace(tree, Manifest([])).file(b"usr/bin/env")
    assert found is not None
    more = blobs.tree({"bin/show": probe(), "bin/run": b"#!/pkg/bin/show -x y\n", "bin/die": DIE, "bin/also": Symlink(b"run")})
    output = Manifest.with_parents([(b"bin/env", found[1]), *more.entries])

    class Both(Blobs):
        def read(self, digest: Digest) -> bytes:
            if digest not in self.data:
                self.data[digest] = store.read_blob(digest)
            return self.data[digest]

    both = Both()
    both.data = blobs.data
    made = both.pack(output, tree)
    for _, node in made.files:
        both.read(node.blob)
    folder = tmp_path_factory.mktemp("env") / "x"
    both.check_out(made, folder)
    return folder / "bin"


def test_what_the_interpreter_is_given(env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a native start of the same script: all is the same but the two names, which are in the artifact."""
    native = tmp_path / "native"
    native.mkdir()
    (native / "run").write_text(f"#!{env}/show -x y\n")
    (native / "run").chmod(0o755)
    (native / "also").symlink_to("run")
    (tmp_path / "to-native").symlink_to(native / "run")
    (tmp_path / "to-launcher").symlink_to(env / "run")
    mirror = env.parent / ".launch/script/bin/run/bin"
    variables = {"B": "", "A": "a b"}

    def both(first: Path, second: Path, name: str | None = None) -> tuple[str, str]:
        starts = [start(path, "", "two words", "*", name=name, env=variables) for path in (first, second)]
        (status, lines), (other, more) = starts
        assert (status, values(lines, "env")) == (other, values(more, "env")) == (7, ["B=", "A=a b"])
        argv, argw = values(lines, "argv"), values(more, "argv")
        assert argv[0] == argw[0] == str(env / "show")
        assert [argv[1], *argv[3:]] == [argw[1], *argw[3:]] == ["-x y", "", "two words", "*"]
        return argv[2], argw[2]

    assert both(native / "run", env / "run") == (str(native / "run"), str(mirror / "run"))
    assert both(native / "run", env / "run", name="-other") == (str(native / "run"), str(mirror / "run"))
    assert both(native / "also", env / "also") == (str(native / "also"), str(mirror / "also"))
    # Through a link elsewhere, a launcher gives the script's own name.
    assert both(tmp_path / "to-native", tmp_path / "to-launcher") == (str(tmp_path / "to-native"), str(mirror / "run"))
    monkeypatch.chdir(env)
    assert start(Path("../bin/run"))[1] == start(env / "run")[1]
    assert values(start(env / "env", "run", env={"PATH": str(env)})[1], "argv")[2] == str(mirror / "run")


def test_input_status_and_signals_of_scripts(env: Path, tmp_path: Path) -> None:
    launch = env.parent / ".launch"
    for command in ([env / "die"], [launch / "x86_64-linux-gnu/bin/sh", "-u", launch / "script/bin/die/bin/die"]):
        done = subprocess.run([*command, "", "b"], input=b"one\n", capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, b"got one, 2: \n", b"")
        done = subprocess.run([*command, "a b"], input=b"a  b\\\n", capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (3, b"got a  b\\, 1: a b\n", b"")


@pytest.mark.parametrize("text", SPLIT)
def test_env_splits_as_coreutils_does(env: Path, text: str) -> None:
    status, lines = start(env / "env", "-S" + text, "script", "", env={"PATH": str(env), "HOME": "/home"})
    assert status == 7, lines
    found = read_shebang(b"#!/usr/bin/env -S" + text.encode() + b"\n")
    assert found is not None
    asked = asked_by(found)
    # A probe prints a line end in an argument as it is.
    printed = "\n".join(lines).split("argv=")[1:]
    assert [one.rstrip("\n") for one in printed[1 : 1 + len(asked.arguments)]] == [one.decode() for one in asked.arguments]
    assert (asked.name, asked.searched) == (b"show", True)
    assert len(values(lines, "argv")) == 1 + len(asked.arguments) + 2


@pytest.mark.parametrize("text", WRONG)
def test_what_env_refuses_or_a_launcher_cannot(env: Path, text: str) -> None:
    status, lines = start(env / "env", "-S" + text, env={"PATH": str(env), "A": "1"})
    assert status == (7 if "${" in text else 125), lines
    with pytest.raises(BadFirstLine):
        split_string(text.encode())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/pkg/bin/show\r", "carriage return"), ("/usr/bin/env show\r", "carriage return"), ("bin/show", "the folder that one"),
        ("/usr/bin/env bin/show", "the folder that one"), ("/usr/bin/env", "no program"), ("/usr/bin/env -S", "no program"),
        ("/usr/bin/env show -x", "all of show -x as the name"), ("/usr/bin/env -i show", "asked for with -i show"),
        ("/usr/bin/env A=1 show", "asked for with A=1 show"), ("/usr/bin/env -S A=1 show", "asked for with A=1"),
        ("/usr/bin/env -S -i show", "asked for with -i"), ("/usr/bin/env -S show ''", "an empty argument"),
    ],
)  # fmt: skip
def test_first_lines_that_a_launcher_cannot_follow(line: str, message: str) -> None:
    blobs = Blobs()
    output = blobs.tree({"bin/show": probe(), "bin/run": f"#!{line}\n".encode()})
    with pytest.raises(BadProgram, match=message) as caught:
        blobs.pack(output, root(blobs))
    assert caught.value.path == b"bin/run"


def test_an_interpreter_of_another_input_comes_along_with_what_it_needs(tmp_path: Path) -> None:
    blobs = Blobs()
    tool = program(
        needs=(("libfoo.so.1", FOO), ("libc.so.6", C)), calls="foo(); c();", interpreter="/lib64/ld-linux-x86-64.so.2"
    )
    more = blobs.tree({
        "pkg/bin/tool": tool, "pkg/lib/libfoo.so.1": FOO, "pkg/share/tool/data": b"data",
        "pkg/bin/wrap": b"#!/pkg/bin/tool -w\n",
        "pkg/bin/alias": Symlink(b"/pkg/bin/tool"), "pkg/bin/lost": b"#!/usr/bin/perl\n",
    })  # fmt: skip
    tree = Manifest({**dict(root(blobs).entries), **dict(more.entries)}.items())
    output: Entries = {
        "bin/run": b"#!/pkg/bin/tool -x\n",
        "bin/env": b"#!/usr/bin/env tool\n",
        "bin/deep": b"#!/pkg/bin/wrap\n",
    }
    made = blobs.pack(blobs.tree({**output, "bin/prog": SIMPLE}), tree)
    top = tmp_path / "x"
    blobs.check_out(made, top)

    def argv(path: str) -> list[str]:
        status, lines = start(top / path, "one", "")
        assert status == 7, lines
        assert values(lines, "needed")[0].startswith(f"{top}/.launch/inputs/bin/../../../"), lines
        return [word.replace(f"{top}/", "") for word in values(lines, "argv")]

    inputs, script = ".launch/inputs", ".launch/script"
    assert argv("bin/run") == [f"{inputs}/bin/tool", "-x", f"{script}/bin/run/bin/run", "one", ""]
    assert argv("bin/env") == [f"{inputs}/bin/tool", f"{script}/bin/env/bin/env", "one", ""]
    wrap = f"{script}/{inputs}/bin/wrap/{inputs}/bin/wrap"
    assert argv("bin/deep") == [f"{inputs}/bin/tool", "-w", wrap, f"{script}/bin/deep/bin/deep", "one", ""]
    assert (top / inputs / "share/tool/data").read_bytes() == b"data"
    assert (top / script / inputs / "bin/wrap" / inputs / "share/tool/data").read_bytes() == b"data"
    assert (top / inputs / "bin/alias").resolve() == top / inputs / "bin/tool"
    assert (top / HERE / "lib/libfoo.so.1").resolve() == top / inputs / "lib/libfoo.so.1"
    assert (top / inputs / "bin/lost").read_bytes() == b"#!/usr/bin/perl\n"
    # Where no script asks for it, nothing of the inputs comes along.
    assert not [
        path for path, _ in blobs.pack(blobs.tree({"bin/prog": SIMPLE}), tree).entries if path.startswith(b".launch/inputs")
    ]
    with pytest.raises(NoInterpreter, match=r"inputs/bin/lost needs"):
        blobs.pack(blobs.tree({"bin/run": b"#!/pkg/bin/lost\n"}), tree)


def test_an_interpreter_of_the_root_that_is_whole_in_one_file(tmp_path: Path) -> None:
    blobs = Blobs()
    more = blobs.tree({"usr/bin/mawk": SIMPLE, "usr/bin/awk": Symlink(b"mawk"), "usr/bin/perl": SIMPLE})
    tree = Manifest({**dict(root(blobs).entries), **dict(more.entries)}.items())
    blobs.check_out(blobs.pack(blobs.tree({"bin/run": b"#!/usr/bin/awk -f\n"}), tree), tmp_path / "x")
    lines = start(tmp_path / "x/bin/run")[1]
    assert values(lines, "argv")[:2] == [f"{tmp_path}/x/{HERE}/bin/awk", "-f"]
    with pytest.raises(NoInterpreter) as caught:
        blobs.pack(blobs.tree({"bin/run": b"#!/usr/bin/perl\n"}), tree)
    assert "sh, dash, bash, awk" in caught.value.hint


def test_interpreters_that_are_scripts(tmp_path: Path) -> None:
    """Wherever they lie; and as deep as the kernel goes, which a circle is not."""
    blobs = Blobs()
    output: Entries = {
        "share/inner": b"#!/pkg/bin/show -i\n",
        "bin/run": b"#!/pkg/share/inner -o\n",
        "bin/show": probe(),
    }
    top = tmp_path / "x"
    blobs.check_out(blobs.pack(blobs.tree(output), root(blobs)), top)
    script = f"{top}/.launch/script"
    status, lines = start(top / "bin/run", "one")
    assert (status, values(lines, "argv")) == (
        7, [f"{top}/bin/show", "-i", f"{script}/share/inner/share/inner", "-o", f"{script}/bin/run/bin/run", "one"],
    )  # fmt: skip
    chain: Entries = {"bin/0": probe()}
    chain.update((f"bin/{i}", f"#!/pkg/bin/{i - 1}\n".encode()) for i in range(1, 6))
    blobs.check_out(blobs.pack(blobs.tree(chain), root(blobs)), tmp_path / "chain")
    assert start(tmp_path / "chain/bin/5")[0] == 7
    circle: Entries = {"bin/a": b"#!/pkg/bin/b\n", "bin/b": b"#!/pkg/bin/a\n"}
    for wrong in ({**chain, "bin/6": b"#!/pkg/bin/5\n"}, circle):
        with pytest.raises(BadProgram, match="more than 5 scripts"):
            blobs.pack(blobs.tree(wrong), root(blobs))


def test_the_kernel_goes_as_deep(tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(probe())
    for i in range(1, 7):
        (tmp_path / str(i)).write_text(f"#!{tmp_path}/{i - 1}\n")
    for i in range(7):
        (tmp_path / str(i)).chmod(0o755)
    assert start(tmp_path / "5")[0] == 7
    with pytest.raises(OSError, match="symbolic links"):
        start(tmp_path / "6")
