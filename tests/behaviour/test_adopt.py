"""Programs of a machine as artifacts: adopted from a root of pinned packages, and run where there is nothing else."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.machine import Changed, Machine, NotReadable
from store import files
from store.digest import Digest
from store.manifest import File, Manifest, Symlink
from store.store import Store
from store.trees import check_out
from tests.conftest import ROOT, Builder, environment
from tests.launcher.programs import GLIBC, compile_c, library, probe, program, start

PAGE = (ROOT / "docs" / "adopt.md").read_text()
COMMANDS = {
    words[words.index("--name") + 1]: words
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)
    if (words := shlex.split(block.replace("\\\n", "")))
}
LEAVE = 'void leave(void) { __asm__ volatile("syscall" :: "a"(231), "D"(42)); }'
LOADER = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"


@pytest.fixture(scope="session")
def root(debian_root: tuple[Store, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole Debian root in it: somebody's image."""
    store, manifest = debian_root
    folder = tmp_path_factory.mktemp("image")
    with files.directory(folder) as fd:
        check_out(store, manifest, fd)
    return folder


@pytest.fixture(scope="session")
def adopter(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """The command line, with a store that has nothing but what was adopted."""
    store = tmp_path_factory.mktemp("adopt") / "store"
    return Builder(store, environment(store))


@pytest.fixture
def small(root: Path, tmp_path: Path) -> Path:
    """A root with the interpreter and nothing else, to be filled by a test."""
    folder = tmp_path / "small"
    put(folder, GLIBC, (root / LOADER).read_bytes())
    return folder


def put(root: Path, path: str, data: bytes) -> None:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    place.chmod(0o755)


def adopt(builder: Builder, root: Path, *words: str) -> Path:
    """Where the artifact is that the words make of what is in ``root``."""
    (row,) = json.loads(builder("adopt", "--name", "it", *words, "--root", root, "--no-link", "--json").stdout)["artifacts"]
    return Path(row["path"])


def example(builder: Builder, root: Path, name: str, tmp_path: Path) -> Path:
    """A folder that holds the artifact of an example of the documentation, and no other program."""
    words = COMMANDS[name]
    assert words[:2] == ["builder", "adopt"]
    return alone(Path(builder(*words[1:], "--root", root, "--no-link").stdout.strip()), tmp_path / "bare")


def alone(made: Path, bare: Path) -> Path:
    """The folder ``bare``, which holds an artifact as /opt/it, and no other program."""
    shutil.copytree(made, bare / "opt" / "it", symlinks=True)
    # git and perl do not start without the first, and git makes no object without the second.
    put(bare, "dev/null", b"")
    put(bare, "dev/urandom", os.urandom(64))
    return bare


def named(root: Path, path: Path) -> Iterator[str]:
    """The files of an artifact that name a folder of the machine."""
    for file in path.rglob("*"):
        data = os.readlink(os.fsencode(file)) if file.is_symlink() else file.read_bytes() if file.is_file() else b""
        if os.fsencode(root) in data:
            yield str(file)


# -- programs with their data, in a bare place --


def test_git(adopter: Builder, root: Path, tmp_path: Path) -> None:
    bare = example(adopter, root, "git", tmp_path)
    git, author = (
        Path("/opt/it/bin/git"),
        {"EMAIL": "ann@localhost", "HOME": "/", "GIT_AUTHOR_NAME": "A", "GIT_COMMITTER_NAME": "A"},
    )
    assert start(git, "init", "-q", "/work", root=bare) == (0, [])
    assert (bare / "work/.git/hooks").is_dir()  # from the templates
    (bare / "work" / "file").write_text("text")
    assert start(git, "-C", "/work", "add", "file", env=author, root=bare) == (0, [])
    assert start(git, "-C", "/work", "commit", "-qm", "first", env=author, root=bare) == (0, [])
    assert start(git, "-C", "/work", "log", "--format=%s", root=bare) == (0, ["first"])
    assert start(git, "--exec-path", root=bare) == (0, ["/opt/it/bin/../lib/git-core"])
    # A program of its own, which git starts: it is a launcher too, with libraries that git has not.
    status, lines = start(git, "remote-http", root=bare)
    assert (status, lines[0].split(":")[0]) == (1, "error")
    assert "remote-curl" in lines[0]


def test_python(adopter: Builder, root: Path, tmp_path: Path) -> None:
    bare = example(adopter, root, "python3", tmp_path)
    code = "import ssl, json, ctypes, decimal, sys; print(json.dumps([sys.prefix, ssl.OPENSSL_VERSION.split()[0]]))"
    assert start(Path("/opt/it/bin/python3"), "-c", code, root=bare) == (0, ['["/opt/it", "OpenSSL"]'])


def test_perl(adopter: Builder, root: Path, tmp_path: Path) -> None:
    bare = example(adopter, root, "perl", tmp_path)
    code = 'print sum(1, 2, floor(3.9)), " $INC{q(POSIX.pm)}\n"'
    status, lines = start(Path("/opt/it/bin/perl"), "-MPOSIX", "-MList::Util=sum", "-MStorable", "-e", code, root=bare)
    assert (status, lines) == (0, ["6 /opt/it/bin/../lib/x86_64-linux-gnu/perl/5.36/POSIX.pm"])


def test_gdb(adopter: Builder, root: Path, tmp_path: Path) -> None:
    bare = example(adopter, root, "gdb", tmp_path)
    status, lines = start(Path("/opt/it/bin/gdb"), "--batch", "-ex", "print 6 * 7", "-ex", "show data-directory", root=bare)
    assert status == 0, lines
    assert lines[-2:] == ["$1 = 42", 'GDB\'s data directory is "/opt/it/share/gdb".']


@pytest.fixture(scope="session")
def large_root(shared_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a root that has vim and ffmpeg."""
    (built,) = Builder(shared_store, environment(shared_store)).build(ROOT / "tests" / "debian" / "large.py")
    store = Store(shared_store)
    folder = tmp_path_factory.mktemp("large")
    with files.directory(folder) as fd:
        check_out(store, store.read_manifest(Digest.parse(built["digest"])), fd)
    return folder


@pytest.mark.large
def test_vim(adopter: Builder, large_root: Path, tmp_path: Path) -> None:
    bare = example(adopter, large_root, "vim", tmp_path)
    put(bare, "text.py", b"one = 1\n")
    script = "syntax on | filetype on | edit | %s/one/two/ | call append(1, [&filetype, $VIMRUNTIME]) | wq"
    put(bare, "script.vim", script.encode())
    variables = {"TERM": "linux", "HOME": "/"}
    status, lines = start(Path("/opt/it/bin/vim"), "-es", "-S", "/script.vim", "/text.py", env=variables, root=bare)
    assert status == 0, lines
    text = (bare / "text.py").read_text().split("\n")
    assert text == ["two = 1", "python", "/opt/it/bin/../share/vim/vim90", ""]
    # Out of the silent mode, it needs the description of the terminal.
    for more, missing in (({}, False), ({"TERMINFO": "/nowhere"}, True)):
        status, lines = start(Path("/opt/it/bin/vim"), "-c", "qa!", "/text.py", env=variables | more, root=bare)
        assert status == 0, lines
        assert ("'linux' not known" in "".join(lines)) is missing, lines


@pytest.mark.large
def test_ffmpeg(adopter: Builder, large_root: Path, tmp_path: Path) -> None:
    bare = example(adopter, large_root, "ffmpeg", tmp_path)
    source = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=5:duration=1")
    words = ("-loglevel", "error", *source, "-c:v", "libx264", "/out.mkv")
    assert start(Path("/opt/it/bin/ffmpeg"), *words, root=bare) == (0, [])
    shown = ("-loglevel", "error", "-show_entries", "stream=codec_name,width,height", "-of", "csv", "/out.mkv")
    assert start(Path("/opt/it/bin/ffprobe"), *shown, root=bare) == (0, ["stream,h264,64,48"])
    assert len(os.listdir(bare / "opt/it/.launch/x86_64-linux-gnu/lib")) > 200


def test_scripts(adopter: Builder, root: Path, tmp_path: Path) -> None:
    """One with a shell, which comes along; and one whose interpreter has another name in the artifact."""
    made = adopt(adopter, root, "python3", "pydoc3.11", "which.debianutils", "--file", "/usr/lib/python3.11")
    shutil.copytree(made, tmp_path / "bare" / "it", symlinks=True)
    path = {"PATH": "/it/bin"}
    assert start(Path("/it/bin/which.debianutils"), "python3", env=path, root=tmp_path / "bare") == (0, ["/it/bin/python3"])
    status, lines = start(Path("/it/bin/pydoc3.11"), "json", root=tmp_path / "bare")
    assert status == 0, lines
    assert lines[-1] == "    /it/lib/python3.11/json/__init__.py" or "/it/lib/python3.11/json/__init__.py" in "".join(lines)


# -- what is found, and where --


def test_a_library_beside_its_program(adopter: Builder, small: Path, tmp_path: Path) -> None:
    """$ORIGIN is where the program lay, not where it lies."""
    part = compile_c(LEAVE, "-shared", "-Wl,-soname,libpart.so")
    put(small, "opt/app/lib/libpart.so", part)
    put(
        small,
        "opt/app/bin/app",
        program("-Wl,-rpath,$ORIGIN/../lib", needs=(("libpart.so", part),), calls="leave();", interpreter=GLIBC),
    )
    made = adopt(adopter, small, "/opt/app/bin/app")
    assert start(made / "bin/app") == (42, [])
    assert (made / ".launch/x86_64-linux-gnu/lib/libpart.so").read_bytes() == part
    # Taken along, it is there once.
    made = adopt(adopter, small, "/opt/app/bin/app", "--file", "/opt/app/lib")
    assert start(made / "bin/app") == (42, [])
    assert os.readlink(made / ".launch/x86_64-linux-gnu/lib/libpart.so") == "../../../opt/app/lib/libpart.so"
    assert start(Path("/it/bin/app"), root=shutil.copytree(made, tmp_path / "bare/it", symlinks=True).parent) == (42, [])


def test_directories_that_the_loader_is_configured_for(adopter: Builder, small: Path) -> None:
    part = compile_c(LEAVE, "-shared", "-Wl,-soname,libpart.so")
    put(small, "opt/special/libpart.so", part)
    put(small, "etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n")
    put(small, "etc/ld.so.conf.d/special.conf", b"/opt/special\n")
    put(small, "bin/app", program(needs=(("libpart.so", part),), calls="leave();", interpreter=GLIBC))
    assert start(adopt(adopter, small, "app") / "bin/app") == (42, [])


def test_links_stay_in_the_root(adopter: Builder, small: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    put(small, "opt/real", probe())
    put(small, "opt/data/file", b"text")
    put(small, "etc/outer", b"outer")
    links = {
        "bin/app": "../../../../opt/real",
        "opt/data/own": "file",
        "opt/data/outer": "/etc/outer",
        "opt/data/program": "/opt/real",
        "opt/data/secret": str(tmp_path / "secret"),
        "opt/data/loop": "loop",
        "opt/data/top": "/",
        "opt/data/above": "..",
        "opt/data/here": ".",
    }
    (small / "bin").mkdir()
    for path, target in links.items():
        (small / path).symlink_to(target)
    made = adopt(adopter, small, "app", "--file", "/opt/data")
    data = made / "opt/data"
    assert sorted(os.listdir(data)) == ["file", "here", "outer", "own", "program"]
    assert {name: os.readlink(data / name) for name in ("own", "program", "here")} == {
        "own": "file",
        "program": "../../bin/app",
        "here": ".",
    }
    assert not (data / "outer").is_symlink()
    assert (data / "outer").read_text() == "outer"
    # A static program is what it was.
    assert (made / "bin/app").read_bytes() == probe()


def test_where_files_lie(adopter: Builder, small: Path) -> None:
    put(small, "bin/app", probe())
    put(small, "usr/local/share/a", b"a")
    put(small, "usr/share/b/c", b"c")
    put(small, "etc/d", b"d")
    made = adopt(adopter, small, "/bin/app", "--file", "/usr/local/share/a", "--file", "/usr/share/b", "--file", "/etc/d")
    found = sorted(str(path.relative_to(made)) for path in made.rglob("*") if path.is_file())
    assert found == ["bin/app", "etc/d", "share/a", "share/b/c"]


def test_libraries_by_name(adopter: Builder, root: Path) -> None:
    plain, more = adopt(adopter, root, "cat"), adopt(adopter, root, "cat", "--lib", "libz.so.1")
    assert not (plain / ".launch/x86_64-linux-gnu/lib/libz.so.1").exists()
    assert (more / ".launch/x86_64-linux-gnu/lib/libz.so.1").exists()


def test_data(adopter: Builder, root: Path, small: Path, tmp_path: Path) -> None:
    """git converts a message with the modules of iconv that came along, and cannot without."""
    git, author = Path("/opt/it/bin/git"), {"EMAIL": "ann@localhost", "HOME": "/", "GIT_TEMPLATE_DIR": ""}
    for number, words in enumerate(((), ("--data", "iconv"))):
        bare = alone(adopt(adopter, root, "git", *words), tmp_path / str(number))
        (bare / "text").write_bytes("für".encode("latin1"))
        assert start(git, "init", "-q", "/work", env=author, root=bare) == (0, [])
        old = ("-C", "/work", "-c", "i18n.commitEncoding=ISO-8859-1", "-c", "user.name=ann")
        status, lines = start(git, *old, "commit", "-q", "--allow-empty", "-F", "/text", env=author, root=bare)
        assert status == 0, lines
        assert start(git, "-C", "/work", "log", "--format=%s", root=bare) == (0, ["für" if words else "f\udcfcr"])
    assert "error: --data timezones: there is none" in refused(adopter, root, "cat", "--data", "timezones")
    put(small, "bin/app", probe())
    assert "error: --data iconv: no program has a use" in refused(adopter, small, "app", "--data", "iconv")


def test_variables(adopter: Builder, root: Path) -> None:
    made = adopt(
        adopter, root, "env", "printenv", "true", "--env", "env:A=1", "--env", "B={root}/x=y:z", "--env", "bin/true:C="
    )
    assert sorted(start(made / "bin/env")[1]) == ["A=1", f"B={made}/x=y:z"]
    assert start(made / "bin/printenv") == (0, [f"B={made}/x=y:z"])
    assert start(made / "bin/printenv", env={"B": "mine"}) == (0, ["B=mine"])


# -- what comes of it --


def test_an_artifact_like_any_other(adopter: Builder, root: Path, tmp_path: Path) -> None:
    words = ("adopt", "--name", "pair", "cat", "/usr/bin/ls", "--root", root, "-o", tmp_path / "result")
    (row,) = json.loads(adopter(*words, "--json").stdout)["artifacts"]
    assert set(row) == {"name", "version", "digest", "path", "link"}
    assert (row["name"], row["version"], row["link"]) == ("pair", "adopted", str(tmp_path / "result"))
    assert adopter(*words).stdout == row["path"] + "\n"
    assert os.readlink(tmp_path / "result") == row["path"]
    adopter("gc")
    info = json.loads(adopter("info", "pair", "--json").stdout)
    assert (info["digest"], info["inputs"]) == (row["digest"], [f"the root {root}"])
    tree = json.loads(adopter("tree", "pair", "--json").stdout)
    assert tree
    (why,) = json.loads(adopter("why", "pair", "libselinux", "--json").stdout)
    assert why["how"] == "imported"
    assert [(step["kind"], step["path"]) for step in why["steps"]] == [
        ("pack", ".launch/x86_64-linux-gnu/lib/libselinux.so.1"),
        ("machine", "usr/lib/x86_64-linux-gnu/libselinux.so.1"),
    ]
    (why,) = json.loads(adopter("why", "pair", "bin/cat", "--json").stdout)
    assert (why["how"], why["steps"][-1]["path"]) == ("changed", "usr/bin/cat")
    adopter("check")
    (tmp_path / "result").unlink()
    adopter("gc")
    assert not Path(row["path"]).exists()


def test_the_same_programs_give_the_same_artifact(root: Path, tmp_path: Path) -> None:
    """In another store, from a copy of the root at another place, in another order."""
    copy = tmp_path / "another place"
    shutil.copytree(root, copy, symlinks=True)
    digests = []
    for number, (place, words) in enumerate(((root, ("cat", "perl")), (copy, ("perl", "cat")))):
        store = tmp_path / f"store{number}"
        command = Builder(store, environment(store))
        more = ("--file", "/usr/lib/x86_64-linux-gnu/perl-base", "--json", "--no-link", "--root", place)
        (row,) = json.loads(command("adopt", "--name", "it", *words, *more).stdout)["artifacts"]
        digests.append(row["digest"])
        assert not list(named(place, Path(row["path"])))
    assert digests[0] == digests[1]


def test_programs_of_this_machine(adopter: Builder, small: Path, tmp_path: Path) -> None:
    """Without --root: a name in PATH, and a path from the folder that the command runs in."""
    put(small, "tools/app", probe())
    found = Builder(adopter.store, {**adopter.environment, "PATH": f"/nowhere:{small}/tools"})
    made = Path(found("adopt", "--name", "it", "app", "--no-link").stdout.strip())
    assert (made / "bin/app").read_bytes() == probe()
    again = found("adopt", "--name", "it", "./app", "--no-link", cwd=small / "tools")
    assert again.stdout == f"{made}\n"


# -- what cannot be --


def refused(builder: Builder, root: Path, *words: str, status: int = 1) -> str:
    done = builder("adopt", "--name", "it", *words, "--root", root, "--no-link", status=status)
    assert done.stdout == ""
    return done.stderr


def test_what_is_no_program(adopter: Builder, root: Path) -> None:
    assert "error: there is no program nothing\nhint: Give its path" in refused(adopter, root, "nothing")
    assert "error: there is no program aaa" in refused(adopter, root, "a" * 300)
    assert "there is no program /usr/bin/nothing" in refused(adopter, root, "/usr/bin/nothing")
    assert "/usr/share is a folder, and not a program" in refused(adopter, root, "/usr/share")
    assert "/etc/debian_version is a file that cannot be started" in refused(adopter, root, "/etc/debian_version")
    error = refused(adopter, root, "/usr/lib/x86_64-linux-gnu/libz.so.1")
    assert "libz.so.1 is a library, and not a program" in error
    assert "--lib" in error
    assert "there is no file or folder /nowhere" in refused(adopter, root, "cat", "--file", "/nowhere")
    assert "/ is the whole root" in refused(adopter, root, "cat", "--file", "/")
    assert "No such file" in refused(adopter, root / "nowhere", "cat")


def test_two_things_at_one_place(adopter: Builder, small: Path) -> None:
    put(small, "bin/app", probe())
    put(small, "opt/app", probe("-DOTHER"))
    put(small, "opt/app2", b"#!/bin/sh\n")
    put(small, "usr/bin/app2", b"#!/bin/sh -e\n")
    assert "/usr/bin/app2 and /opt/app2 would both be bin/app2" in refused(adopter, small, "app2", "/opt/app2")


def test_a_library_that_is_not_there(adopter: Builder, small: Path) -> None:
    part = library("libpart.so", name="leave")
    put(small, "bin/app", program(needs=(("libpart.so", part),), calls="leave();", interpreter=GLIBC))
    error = refused(adopter, small, "app")
    assert "libpart.so, needed by bin/app" in error
    assert "--missing" in error
    adopt(adopter, small, "app", "--missing", "libpart.so")


def test_a_program_for_another_cpu(adopter: Builder, small: Path) -> None:
    part = compile_c("void leave(void) {}", "-shared", "-Wl,-soname,libpart.so", target="x86-linux-gnu")
    wired = ("-no-pie", "-Wl,--dynamic-linker=/lib/ld-linux.so.2")
    source = "void leave(void); void _start(void) { leave(); }"
    put(small, "bin/app", compile_c(source, *wired, target="x86-linux-gnu", libraries=(("libpart.so", part),)))
    error = refused(adopter, small, "app")
    assert "a 32-bit program for 386" in error
    assert "recipe" not in error


def test_a_script_without_its_interpreter(adopter: Builder, root: Path) -> None:
    error = refused(adopter, root, "pydoc3.11")
    assert "needs /usr/bin/python3.11" in error
    assert "hint: Adopt the interpreter too" in error


def test_variables_for_nobody(adopter: Builder, root: Path, small: Path) -> None:
    assert "--env gives bin/other a variable" in refused(adopter, root, "cat", "--env", "other:A=1")
    put(small, "bin/app", probe())
    assert "--env gives bin/app a variable" in refused(adopter, small, "app", "--env", "A=1")
    assert "is not NAME=VALUE" in refused(adopter, root, "cat", "--env", "A", status=2)
    for option in ("--env", "--lib", "--missing"):
        assert "is not UTF-8" in refused(adopter, root, "cat", option, "A=\udcff", status=2)


def test_names_that_are_no_text(adopter: Builder, small: Path, tmp_path: Path) -> None:
    put(small, "bin/\udcff", probe())
    put(small, "opt/\udcff", b"text")
    image = small.rename(tmp_path / "\udcff")
    made = adopt(adopter, image, "\udcff", "--file", "/opt/\udcff")
    assert (made / "bin/\udcff").read_bytes() == probe()
    assert (made / "opt/\udcff").read_text() == "text"


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    put(tmp_path / "root", "closed", b"text")
    put(tmp_path / "root", "folder/file", b"text")
    put(tmp_path / "root", "shut/folder/file", b"text")
    (tmp_path / "root/shut").chmod(0o444)
    (tmp_path / "root/closed").chmod(0)
    (tmp_path / "root/folder").chmod(0o111)
    was = os.geteuid()
    with Store(tmp_path / "store").batch() as batch, files.directory(tmp_path / "root") as fd:
        machine = Machine(fd, batch)
        if was == 0:
            os.seteuid(65534)  # root may read everything
        try:
            with pytest.raises(NotReadable, match="/closed may not be read"):
                machine.get(b"closed")
            with pytest.raises(NotReadable, match="/folder may not be read"):
                machine.names(b"folder")
            # A program that looks for a library there finds nothing, and looks on.
            assert machine.get(b"shut/file") is None
            assert machine.get(b"shut/folder/file") is None
            with pytest.raises(NotReadable, match="/shut may not be read"):
                machine.names(b"shut")
        finally:
            os.seteuid(was)
        # It may be gone through.
        assert isinstance(machine.get(b"folder/file"), File)
    (tmp_path / "root/folder").chmod(0o755)
    (tmp_path / "root/shut").chmod(0o755)


def test_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    put(tmp_path / "root", "folder/file", b"text")
    with Store(tmp_path / "store").batch() as batch, files.directory(tmp_path / "root") as fd:
        machine = Machine(fd, batch)
        node = machine.get(b"folder/file")
        assert isinstance(node, File)
        assert machine.read(node.blob) == b"text"
        put(tmp_path / "root", "folder/file", b"next")
        with pytest.raises(Changed):
            machine.read(node.blob)
        (tmp_path / "root/folder/file").unlink()
        with pytest.raises(Changed):
            machine.read(node.blob)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    put(tmp_path / "root", "folder/file", b"text")
    put(tmp_path / "root", "folder/other", b"more")
    (tmp_path / "root/link").symlink_to("folder")
    os.mkfifo(tmp_path / "root/pipe")
    with Store(tmp_path / "store").batch() as batch, files.directory(tmp_path / "root") as fd:
        machine = Machine(fd, batch)
        node = machine.get(b"folder/file")
        assert isinstance(node, File)
        assert machine.names(b"folder") == [b"file", b"other"]
        assert machine.get(b"link") == Symlink(b"folder")
        # As in a manifest: who asks resolves links.
        assert machine.get(b"link/file") is None
        assert machine.names(b"link") == []
        assert machine.get(b"pipe") is None
        assert machine.get(b"pkg") is None
        assert list(machine.seen().nodes) == [b"folder", b"folder/file", b"link"]
        assert list(machine.below(b"folder").nodes) == [b"file", b"other"]
        with pytest.raises(KeyError):
            machine.below(b"link")
