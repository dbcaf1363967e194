"""The main job: Crystal with its interpreter, from source, on a root that has nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from builder import tools
from builder.execute import ARTIFACT
from builder.known import Known
from builder.recipe import Limits
from builder.sandbox import Bind, Sandbox, run
from launcher import host
from store import files, trees
from store.digest import Digest
from store.manifest import DIRECTORY, Manifest
from store.store import Store
from tests.conftest import RECIPES, ROOT, Builder

pytestmark = [pytest.mark.crystal, pytest.mark.xdist_group("crystal")]

GZIP = """
require "compress/gzip"
io = IO::Memory.new
Compress::Gzip::Writer.open(io, &.print("zip"))
puts Compress::Gzip::Reader.open(io.rewind, &.gets_to_end)
"""
# The server is a plain socket: `http/server` runs a macro that has to be compiled, which needs a linker.
HTTP = """
require "http/client"
server = TCPServer.new("127.0.0.1", 0)
spawn do
  client = server.accept
  path = client.gets.not_nil!.split[1]
  while (line = client.gets) && !line.empty?
  end
  client << "HTTP/1.1 200 OK\\r\\nContent-Length: #{path.size}\\r\\nConnection: close\\r\\n\\r\\n" << path
  client.close
end
puts HTTP::Client.get("http://#{server.local_address}/path").body
"""
PROGRAMS = {
    "json": ('require "json"; puts JSON.parse(%({"a": [1, 2]}))["a"][1]', "2"),
    "yaml": ('require "yaml"; puts YAML.parse("a: {b: c}")["a"]["b"]', "c"),
    "big": ('require "big"; puts BigInt.new(3) ** 50; puts BigFloat.new(2).to_s', "717897987691852588770249\n2.0"),
    "xml": ('require "xml"; puts XML.parse("<a><b>text</b></a>").xpath_string("string(/a/b)")', "text"),
    "openssl": ('require "openssl"; puts OpenSSL::Digest.new("SHA256").update("x").final.hexstring[0, 8]', "2d711642"),
    "gzip": (GZIP, "zip"),
    "regex": ('puts "crystal"[/c(r.*)l/, 1]', "rysta"),
    "fibers": ("channel = Channel(Int32).new; spawn { sleep 10.milliseconds; channel.send 42 }; puts channel.receive", "42"),
    "http": (HTTP, "/path"),
    "tls": ('require "http/client"; puts OpenSSL::SSL::Context::Client.new.verify_mode', "PEER"),
}  # fmt: skip


@pytest.fixture(scope="module")
def crystal(builder: Builder) -> Path:
    (built,) = builder.build(RECIPES / "crystal.py")
    return Path(built["path"])


@pytest.fixture(scope="module")
def copy(crystal: Path) -> Iterator[Path]:
    """The artifact at another path, with spaces and a colon in its name, where nobody but root owns anything."""
    top = Path("/var/tmp") / f"builder crystal: {os.getpid()}"
    top.mkdir(mode=0o755)
    shutil.copytree(crystal, top / "copy", symlinks=True)
    yield top / "copy"
    subprocess.run(["chmod", "-R", "u+w", str(top)], check=False)
    shutil.rmtree(top)


def start(command: list[str | Path], folder: Path, **more: object) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": "/nonexistent", "HOME": str(folder), "LANG": "C.UTF-8"}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("place", ["store", "copy"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_interpreted_programs(crystal: Path, copy: Path, tmp_path: Path, name: str, place: str) -> None:
    """Each loads a C library at run time, which has to come from the artifact: there is no pkg-config, and no other library."""
    program, expected = PROGRAMS[name]
    (tmp_path / "program.cr").write_text(program)
    done = start([(crystal if place == "store" else copy) / "bin" / "crystal", "i", "program.cr"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n").endswith(expected)


def test_conversions(crystal: Path, tmp_path: Path) -> None:
    """By modules of the artifact's. They are not found in a folder with a colon in its name, where GCONV_PATH ends."""
    (tmp_path / "program.cr").write_text('p "\u65e5\u672c".encode("SHIFT_JIS")')
    done = start([crystal / "bin" / "crystal", "i", "program.cr"], tmp_path)
    assert (done.returncode, done.stdout) == (0, "Bytes[147, 250, 150, 123]\n"), done.stderr


def test_libraries_come_from_the_artifact(copy: Path, tmp_path: Path) -> None:
    """The process's own map of memory, read by the interpreted program."""
    requires = "; ".join(f'require "{name}"' for name in ("yaml", "big", "xml", "openssl", "compress/gzip", "http/client"))
    (tmp_path / "maps.cr").write_text(
        f'{requires}; YAML.parse("a"); BigInt.new(1); XML.parse("<a/>"); OpenSSL::Digest.new("MD5"); "a" =~ /a/\n'
        'puts File.read_lines("/proc/self/maps").compact_map(&.split(limit: 6)[5]?).uniq!.select(&.includes?(".so"))'
    )
    done = start([copy / "bin" / "crystal", "i", "maps.cr"], tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = [line.strip(' ",[]') for line in done.stdout.replace('", "', "\n").splitlines()]
    for name in ("libyaml", "libgmp", "libxml2", "libssl", "libcrypto", "libpcre2", "libLLVM", "libevent", "libc.so"):
        assert any(name in path for path in loaded), (name, loaded)
    assert all(path.startswith(str(copy)) for path in loaded if ".so" in path), loaded


def test_an_exception_has_its_file_and_line(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "fail.cr").write_text('def deep\n  raise ArgumentError.new "oh no"\nend\n\ndeep\n')
    done = start([copy / "bin" / "crystal", "i", "fail.cr"], tmp_path)
    assert done.returncode == 1
    assert "oh no (ArgumentError)" in done.stderr
    assert "fail.cr:2" in done.stderr
    assert "fail.cr:5" in done.stderr


def test_the_formatter_and_the_version(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "format.cr").write_text("puts   1\n")
    assert start([copy / "bin" / "crystal", "tool", "format", "format.cr"], tmp_path).returncode == 0
    assert (tmp_path / "format.cr").read_text() == "puts 1\n"
    assert start([copy / "bin" / "crystal", "--version"], tmp_path).stdout.startswith("Crystal 1.14.0")


def test_a_user_who_owns_nothing(copy: Path, tmp_path: Path) -> None:
    home = copy.parent / "home"
    home.mkdir(mode=0o777)
    home.chmod(0o777)
    (home / "program.cr").write_text(PROGRAMS["yaml"][0])
    # Where the tests do not run as root, they run as an ordinary user all along.
    somebody = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    done = start([copy / "bin" / "crystal", "i", "program.cr"], home, **somebody)
    assert (done.returncode, done.stdout) == (0, "c\n"), done.stderr


def test_a_root_that_holds_busybox_and_the_copy(builder: Builder, copy: Path, tmp_path: Path) -> None:
    store = Store(builder.store)
    bare = Known(store).bare_root()
    assert bare is not None
    (root := tmp_path / "root").mkdir()
    with files.directory(root) as fd:
        trees.check_out(store, store.read_manifest(bare), fd)
    (home := tmp_path / "home").mkdir()
    for name, (program, _) in PROGRAMS.items():
        (home / f"{name}.cr").write_text(program)
    names = " ".join(PROGRAMS)
    script = f'for name in {names}; do echo "== $name"; "{ARTIFACT}/bin/crystal" i $name.cr || exit 1; done; ls /'
    box = Sandbox(
        root=root,
        command=("/bin/sh", "-c", script),
        variables={"PATH": "/bin", "HOME": "/home"},
        directory="/home",
        binds=(Bind(copy, ARTIFACT), Bind(home, "/home", writable=True)),
        limits=Limits(),
    )
    bwrap = next((builder.store / "artifacts").glob(f"*-bubblewrap-{tools.SYSTEM.version}")) / "bin" / "bwrap"
    said: list[bytes] = []
    outcome = run(bwrap, box, output=said.append, cancel=Event())
    text = b"".join(said).decode()
    assert outcome.status == 0, text
    for name, (_, expected) in PROGRAMS.items():
        assert expected in text.split(f"== {name}\n")[1].split("== ")[0]
    assert not {"usr", "lib", "lib64"} & set(text.splitlines())


def test_one_file(builder: Builder, crystal: Path, tmp_path: Path) -> None:
    """On a root that has the file alone; and, for programs, on one with busybox: Crystal asks its shell for things."""
    builder("export", crystal, "-o", tmp_path / "crystal.run")
    assert (tmp_path / "crystal.run").stat().st_size <= 55_000_000
    store = Store(builder.store)
    busybox = Known(store).bare_root()
    assert busybox is not None
    for name, tree in (("nothing", Manifest([])), ("busybox", store.read_manifest(busybox))):
        (tmp_path / name).mkdir()
        with files.directory(tmp_path / name) as fd:
            trees.check_out(store, tree, fd)
        for folder in ("home", "proc", "dev"):
            (tmp_path / name / folder).mkdir(exist_ok=True)
    (home := tmp_path / "home").mkdir()
    (tmp_path / "crystal.run").rename(home / "crystal.run")
    for name, (program, _) in PROGRAMS.items():
        (home / f"{name}.cr").write_text(program)
    bwrap = next((builder.store / "artifacts").glob(f"*-bubblewrap-{tools.SYSTEM.version}")) / "bin" / "bwrap"

    def on(root: str, *words: str) -> str:
        box: list[str | Path] = [
            "--unshare-all",
            "--clearenv",
            "--setenv",
            "HOME",
            "/home",
            "--ro-bind",
            tmp_path / root,
            "/",
            "--proc",
            "/proc",
        ]
        box += ["--dev", "/dev", "--bind", home, "/home", "--chdir", "/home", "--", "/home/crystal.run", *words]
        return subprocess.check_output([bwrap, *box], env={}, text=True)

    assert on("nothing", "--version").startswith("Crystal 1.14.0")
    for name in ("json", "yaml", "big", "openssl", "regex"):
        assert on("busybox", "i", f"{name}.cr").rstrip("\n").endswith(PROGRAMS[name][1]), name


# A library of Debian's that no artifact has, and that needs another one.
GCRYPT = """
@[Link("gcrypt")]
lib LibGcrypt
  fun version = gcry_check_version(wanted : UInt8*) : UInt8*
end
puts String.new(LibGcrypt.version(nil))
puts File.read_lines("/proc/self/maps").compact_map(&.split(limit: 6)[5]?).uniq!.select(&.includes?(".so")).join(" ")
"""


@pytest.mark.parametrize("way", ["none", "recipe", "run"])
def test_a_library_that_only_the_host_has(builder: Builder, crystal: Path, tmp_path: Path, way: str) -> None:
    artifact = crystal
    if way == "recipe":
        (built,) = builder.build(ROOT / "tests" / "debian" / "crystal_host.py")
        artifact = Path(built["path"])
    (debian,) = builder.build(ROOT / "tests" / "debian" / "host.py")
    store = Store(builder.store)
    tree = store.read_manifest(Digest.parse(debian["digest"]))
    mounts = ((name, DIRECTORY) for name in (b"proc", b"dev", b"tmp", b"home", ARTIFACT[1:].encode()))
    (root := tmp_path / "root").mkdir()
    with files.directory(root) as fd:
        trees.check_out(store, Manifest({**dict(tree.entries), **dict(mounts)}.items()), fd)
    (home := tmp_path / "home").mkdir()
    (home / "program.cr").write_text(GCRYPT)
    variables = {"PATH": "/bin", "HOME": "/home"}
    if way == "run":
        # What `builder run --host-libraries` sets on a machine without more configuration.
        variables["LD_LIBRARY_PATH"] = b":".join(host.directories("x86_64-linux-gnu")).decode()
    box = Sandbox(
        root=root,
        command=("/bin/sh", "-c", f"{ARTIFACT}/bin/crystal i program.cr"),
        variables=variables,
        directory="/home",
        binds=(Bind(artifact, ARTIFACT), Bind(home, "/home", writable=True)),
        limits=Limits(),
    )
    bwrap = next((builder.store / "artifacts").glob(f"*-bubblewrap-{tools.SYSTEM.version}")) / "bin" / "bwrap"
    said: list[bytes] = []
    outcome = run(bwrap, box, output=said.append, cancel=Event())
    text = b"".join(said).decode()
    if way == "none":
        assert outcome.status == 1
        assert "cannot find -lgcrypt" in text
        return
    assert outcome.status == 0, text
    # The first line is a shell's, which misses pkg-config.
    version, loaded = text.splitlines()[-2:]
    assert version.startswith("1.10.")
    from_host = {path.rpartition("/")[2] for path in loaded.split() if not path.startswith(ARTIFACT)}
    # Debian's root has a C library and a zlib too, which are not loaded.
    assert {name.partition(".so")[0] for name in from_host} == {"libgcrypt", "libgpg-error"}


def test_every_elf_file_is_told(builder: Builder, crystal: Path) -> None:
    text = builder("info", crystal).stdout
    assert "launcher         bin/crystal" in text
    assert "damaged" not in text
    assert "libLLVM-15.so.1" in text
    why = builder("why", crystal, "libLLVM-15.so.1").stdout
    assert "import    libllvm15" in why
    assert "loaded by bin/crystal" in why


def test_what_is_shared_is_stored_once(builder: Builder, crystal: Path) -> None:
    (hello,) = builder.build(RECIPES / "hello.py")
    name = ".launch/x86_64-linux-gnu/lib/libc.so.6"
    assert (crystal / name).stat().st_ino == (Path(hello["path"]) / name).stat().st_ino
