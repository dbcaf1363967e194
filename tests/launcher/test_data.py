"""What programs read besides libraries: bundled by a recipe's word, found on an empty root, and never the host's modules.

The programs are those of tests/debian/reads.py, built and packed as any recipe is.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher import libc
from launcher.data import NoData, NoUse
from launcher.settings import DATA, Settings
from store.digest import Digest
from store.manifest import File, Manifest, Symlink
from store.store import Store
from tests.conftest import ROOT, Builder, environment
from tests.launcher.programs import GLIBC, Blobs, compile_c, library, probe, program, start, values
from tests.sources.server import CERTIFICATE, serve

pytestmark = pytest.mark.xdist_group("data")

DEBIAN = ROOT / "tests" / "debian"
LAUNCH = ".launch/x86_64-linux-gnu"
GCONV = "usr/lib/x86_64-linux-gnu/gconv"
PASSWD = "root:x:0:0:root:/root:/bin/sh\n+\n"
NAMES = "127.0.0.1 localhost\n127.0.0.9 xn--bcher-kva.test\n"
JAPANESE = b"\x93\xfa\x96\x7b".decode(errors="surrogateescape")
KOREAN = b"\xc7\xd1".decode(errors="surrogateescape")
EURO = b"\xa4".decode(errors="surrogateescape")

Run = Callable[..., tuple[int, list[str]]]


def empty(top: Path, artifact: Path) -> Path:
    """A root with the artifact at /opt/it, a file for users and one for hosts, and nothing else."""
    shutil.copytree(artifact, top / "opt" / "it", symlinks=True)
    (top / "etc").mkdir()
    (top / "etc/passwd").write_text(PASSWD)
    (top / "etc/hosts").write_text(NAMES)
    # A module that is a file of its own, as the others no longer are.
    (top / "etc/nsswitch.conf").write_text("passwd: compat\nhosts: files\n")
    return top


def built(store: Path, name: str) -> Path:
    (artifact,) = Builder(store, environment(store)).build(DEBIAN / f"{name}.py")
    return Path(artifact["path"])


def writable(top: Path) -> Iterator[Path]:
    yield top
    for folder in [top, *(path for path in top.rglob("*") if path.is_dir() and not path.is_symlink())]:
        folder.chmod(0o755)
    shutil.rmtree(top)


@pytest.fixture(scope="module")
def root(shared_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty root with the programs and all of their data."""
    yield from writable(empty(tmp_path_factory.mktemp("data"), built(shared_store, "reads")))


@pytest.fixture(scope="module")
def alone(shared_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same without data."""
    yield from writable(empty(tmp_path_factory.mktemp("alone"), built(shared_store, "reads_alone")))


def ask(root: Path, *question: str, program: str = "reads", **variables: str) -> tuple[int, str]:
    status, lines = start(Path("/opt/it/bin", program), *question, root=root, env=variables)
    return status, "\n".join(lines)


QUESTIONS = [
    (("locale", "de_DE.UTF-8"), {}, "Mittwoch, 01. März 1.234.567,50 2"),
    (("locale", "C.UTF-8"), {}, "Wednesday, 01. March 1234567.50 2"),
    (("convert", "SHIFT_JIS", JAPANESE), {}, "日本"),
    (("convert", "ISO-8859-15", EURO), {}, "€"),
    # Its module needs a library that lies beside it.
    (("convert", "EUC-KR", KOREAN), {}, "한"),
    (("user", "root"), {}, "0 /root"),
    (("host", "bücher.test"), {"LC_ALL": "de_DE.UTF-8"}, "127.0.0.9"),
    (("when",), {"TZ": "Europe/Berlin"}, "14 CEST"),
]  # fmt: skip
WITHOUT: list[tuple[tuple[str, ...], dict[str, str], str]] = [
    (("host", "localhost"), {}, "127.0.0.1"),
    (("host", "127.0.0.3"), {}, "127.0.0.3"),
    (("when",), {}, "12 UTC"),
    # These need a library that is nobody's option.
    (("unwind",), {}, "left\ncancelled\nframes"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "variables", "answer"), [*QUESTIONS, *WITHOUT])
def test_the_c_library_on_an_empty_root(root: Path, question: tuple[str, ...], variables: dict[str, str], answer: str) -> None:
    assert ask(root, *question, **variables) == (0, answer)


@pytest.mark.parametrize(("question", "variables", "answer"), QUESTIONS)
def test_what_there_is_without_data(alone: Path, question: tuple[str, ...], variables: dict[str, str], answer: str) -> None:
    assert answer not in ask(alone, *question, **variables)[1]


@pytest.mark.parametrize(("question", "variables", "answer"), WITHOUT)
def test_what_needs_no_data(alone: Path, question: tuple[str, ...], variables: dict[str, str], answer: str) -> None:
    assert ask(alone, *question, **variables) == (0, answer)


def test_another_locale_has_its_own_character_set(root: Path) -> None:
    status, said = ask(root, "locale", "de_DE.ISO-8859-15@euro")
    assert (status, said.split()[2]) == (0, b"M\xe4rz".decode(errors="surrogateescape"))


def test_the_users_own_variable_is_the_one_that_counts(root: Path) -> None:
    assert ask(root, "when", TZ="Europe/Berlin", TZDIR="/nowhere")[1] != "14 CEST"
    assert ask(root, "locale", "de_DE.UTF-8", LOCPATH="")[0] == 1


# -- certificates --


@pytest.fixture(scope="module")
def strangers(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server's key, and a certificate that nobody has heard of."""
    folder = tmp_path_factory.mktemp("strangers")
    (folder / "config").write_text("[req]\ndistinguished_name = it\n[it]\n")
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=stranger", "-addext", "subjectAltName=IP:127.0.0.1", "-config", str(folder / "config")]
    status, said = start(root / "opt/it/bin/openssl", *words, "-keyout", str(folder / "key"), "-out", str(folder / "made"))
    assert status == 0, said
    (folder / "both.pem").write_text((folder / "key").read_text() + (folder / "made").read_text())
    return folder / "both.pem"


CLIENT = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())"
CLIENTS = {
    "curl": (("-sS",), "SSL certificate problem"),
    "python3": (("-c", CLIENT), "CERTIFICATE_VERIFY_FAILED"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLIENTS)
def test_https(root: Path, alone: Path, strangers: Path, name: str) -> None:
    words, refusal = CLIENTS[name]
    with serve(safe=True) as server, serve(safe=True, certificate=strangers) as other:
        server.files["/x"] = other.files["/x"] = b"some text"
        assert ask(root, *words, server.base + "/x", program=name) == (0, "some text")
        for where, address in ((root, other.base), (alone, server.base)):
            status, said = ask(where, *words, address + "/x", program=name)
            assert status != 0
            assert refusal in said or "error setting certificate" in said
        assert other.log == []


def test_openssl_finds_the_authorities(root: Path, strangers: Path) -> None:
    with serve(safe=True) as server, serve(safe=True, certificate=strangers) as other:
        for address, said in ((server.base, "Verify return code: 0 (ok)"), (other.base, "verify error:num=18")):
            connect = ("s_client", "-connect", address.removeprefix("https://"), "-verify_return_error")
            assert said in ask(root, *connect, program="openssl")[1]


def test_the_authorities_are_the_roots_and_the_builds(root: Path) -> None:
    text = (root / "opt/it/.launch/share/ca-certificates.crt").read_text()
    assert text.count("-----BEGIN CERTIFICATE-----") > 100
    own = CERTIFICATE.read_text()
    assert text.endswith(own[own.index("-----BEGIN CERTIFICATE") :])


# -- nothing of the host's --

TRAP = """
static long call(long number, const void *a, long b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}
__attribute__((constructor)) static void trap(void) { call(2, "/trapped", 0101, 0644); }
int gconv_init(void *step) { return 1; }
int gconv(void) { return 1; }
"""


def test_no_module_of_the_host_is_loaded(shared_store: Path, alone: Path) -> None:
    """With modules where glibc was built to look for them. The unchanged libc shows that the trap is one."""
    store = Store(shared_store)
    (lent,) = Builder(shared_store, environment(shared_store)).build(DEBIAN / "data.py")
    tree = store.read_manifest(Digest.parse(lent["digest"]))
    for path, file in tree.files:
        if path.startswith(GCONV.encode()) and not path.endswith(b".so"):
            place = alone / path.decode()
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(store.read_blob(file.blob))
    here = alone / GCONV
    (here / "SJIS.so").write_bytes(compile_c(TRAP, "-shared", "-fPIC"))
    question = ("convert", "SHIFT_JIS", JAPANESE)
    ours = alone / "opt/it" / LAUNCH / "lib/libc.so.6"
    changed = ours.read_bytes()
    node = tree[b"usr/lib/x86_64-linux-gnu/libc.so.6"]
    assert isinstance(node, File)
    original = store.read_blob(node.blob)
    assert libc.without_host(original) == changed
    ours.parent.chmod(0o755)
    ours.chmod(0o755)
    # glibc takes the cache when it is there, and else the text.
    for cached in (True, False):
        assert ask(alone, *question) == (1, "no SHIFT_JIS: Invalid argument")
        assert not (alone / "trapped").exists()
        ours.write_bytes(original)
        ask(alone, *question)
        assert (alone / "trapped").exists(), cached
        (alone / "trapped").unlink()
        ours.write_bytes(changed)
        (here / "gconv-modules.cache").unlink(missing_ok=True)


def test_what_is_changed_in_the_c_library() -> None:
    data = b"\0/usr/lib/x/gconv\0gconv\0/usr/lib/x/gconv/gconv-modules.cache\0/etc/passwd\0/a/gconv-other\0"
    made = libc.without_host(data)
    assert len(made) == len(data)
    texts = made.split(b"\0")
    assert texts[2:] == [b"gconv", texts[3], b"/etc/passwd", b"/a/gconv-other", b""]
    assert all(re.fullmatch(rb"/\x7f+", texts[n]) for n in (1, 3))
    assert libc.without_host(made) == made


# -- which words, for whom --

C = library("libc.so.6", name="c")
SIMPLE = program(needs=(("libc.so.6", C),), calls="c();", interpreter=GLIBC)
LIBS = "usr/lib/x86_64-linux-gnu/"


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()


def system(blobs: Blobs, **more: bytes) -> Manifest:
    """A root with a C library and an interpreter."""
    entries: dict[str, bytes] = {"lib64/ld-linux-x86-64.so.2": probe(), LIBS + "libc.so.6": C}
    return blobs.tree({**entries, **{name.replace("__", "/"): data for name, data in more.items()}})


@pytest.mark.parametrize("word", DATA)
def test_what_the_root_has_not(blobs: Blobs, word: str) -> None:
    with pytest.raises(NoData, match=f"the recipe bundles {word}, and its input root has no usr/") as caught:
        blobs.pack(blobs.tree({"bin/prog": SIMPLE}), system(blobs), Settings(data=(word,)))
    assert "add it to the system" in caught.value.hint


@pytest.mark.parametrize("word", DATA)
def test_what_nobody_would_read(blobs: Blobs, word: str) -> None:
    with pytest.raises(NoUse, match=f"the recipe asks for {word}, and its output has no dynamic program"):
        blobs.pack(blobs.tree({"share/text": b"x"}), system(blobs), Settings(data=(word,)))


def test_programs_for_musl(blobs: Blobs, tmp_path: Path) -> None:
    """What is glibc's alone is refused; the rest is for programs of both kinds."""
    musl = library("libc.so", name="c")
    user = program(needs=(("libc.so", musl),), calls="c();", interpreter="/lib/ld-musl-x86_64.so.1")
    tree = system(blobs, **{"usr__share__ca-certificates__a.crt": b"A", "usr__share__zoneinfo__UTC": b"U"})
    tree = Manifest([*tree.entries, *blobs.tree({"lib/ld-musl-x86_64.so.1": probe()}).entries])
    output = blobs.tree({"bin/prog": user})
    for useless in (Settings(data=("iconv",)), Settings(host_libraries=True)):
        with pytest.raises(NoUse, match="no dynamic program for glibc"):
            blobs.pack(output, tree, useless)
    blobs.check_out(blobs.pack(output, tree, Settings(data=("certificates", "timezones"))), tmp_path / "x")
    share = f"{tmp_path}/x/.launch/share"
    assert values(start(tmp_path / "x/bin/prog")[1], "env") == [
        f"SSL_CERT_FILE={share}/ca-certificates.crt", f"TZDIR={share}/zoneinfo", f"ZONEINFO={share}/zoneinfo",
    ]  # fmt: skip
    assert (tmp_path / "x/.launch/share/zoneinfo/UTC").read_bytes() == b"U"


def test_a_programs_own_environment_wins(blobs: Blobs, tmp_path: Path) -> None:
    tree = system(blobs, **{"usr__share__ca-certificates__a.crt": b"A"})
    output = blobs.tree({"bin/prog": SIMPLE, "bin/other": SIMPLE})
    mine = (("bin/prog", (("SSL_CERT_FILE", "{root}/mine"),)),)
    blobs.check_out(blobs.pack(output, tree, Settings(data=("certificates",), environment=mine)), tmp_path / "x")
    assert values(start(tmp_path / "x/bin/prog")[1], "env") == [f"SSL_CERT_FILE={tmp_path}/x/mine"]
    assert values(start(tmp_path / "x/bin/other")[1], "env") == [
        f"SSL_CERT_FILE={tmp_path}/x/.launch/share/ca-certificates.crt"
    ]  # fmt: skip


def test_which_files_are_taken(blobs: Blobs) -> None:
    """Links stay links inside; those that lead out become what they lead to, or go. The build's own stay where they are."""
    tree = system(
        blobs,
        usr__share__zoneinfo__Europe__Berlin=b"B",
        usr__lib__locale__C=b"the root's",
        usr__lib__locale__de__LC_TIME=b"the root's",
        **{"usr__lib__locale__locale-archive": b"archive", "usr__lib__x86_64-linux-gnu__gconv__gconv-modules.cache": b"cache"},
        **{"usr__lib__x86_64-linux-gnu__gconv__gconv-modules": b"modules", "etc__zone": b"zone", "etc__ssl__certs__x": b"x"},
        **{"etc__ssl__certs__ca-certificates.crt": b"bundle\n", "usr__share__ca-certificates__a.crt": b"in the bundle"},
        **{"pkg__share__ca-certificates__in__put.crt": b"input's", "pkg__lib__locale__fr__LC_TIME": b"input's"},
        **{f"usr__lib__x86_64-linux-gnu__{name}": library(name, name="f") for name in ("libnss_x.so.2", "libidn2.so.0")},
    )
    links = {"Berlin": b"Europe/Berlin", "Europe/Up": b"../Berlin", "zone": b"/etc/zone", "none": b"../../none"}
    tree = Manifest(
        [*tree.entries, *((b"usr/share/zoneinfo/" + name.encode(), Symlink(target)) for name, target in links.items())]
    )
    output = blobs.tree({"bin/prog": SIMPLE, "lib/locale/de/LC_TIME": b"own", "share/ca-certificates/own.crt": b"own"})
    made = blobs.pack(output, tree, Settings(data=DATA))
    found: dict[str, str] = {}
    for path, node in made.entries:
        match node:
            case Symlink(target):
                found[path.decode()] = "-> " + target.decode()
            case File() if not path.endswith((b".so.0", b".so.2", b".so.6", b"ld.so", b"bin/prog")):
                found[path.decode()] = blobs.data[node.blob].decode()
    here = "../../../"
    assert found == {
        ".launch/share/ca-certificates.crt": "bundle\ninput's\nown\n",
        ".launch/share/zoneinfo/Europe/Berlin": "B",
        ".launch/share/zoneinfo/Berlin": "-> Europe/Berlin",
        ".launch/share/zoneinfo/Europe/Up": "-> ../Berlin",
        ".launch/share/zoneinfo/zone": "zone",
        f"{LAUNCH}/gconv/gconv-modules": "modules",
        f"{LAUNCH}/locale/C": "the root's",
        f"{LAUNCH}/locale/fr/LC_TIME": "input's",
        f"{LAUNCH}/locale/de": f"-> {here}lib/locale/de",
        "lib/locale/de/LC_TIME": "own",
        "share/ca-certificates/own.crt": "own",
    }
    assert {f"{LAUNCH}/lib/{name}".encode() for name in ("libnss_x.so.2", "libidn2.so.0", "libc.so.6")} <= set(made)


def test_the_unwinder_comes_along(blobs: Blobs) -> None:
    gcc = library("libgcc_s.so.1", name="g")
    made = blobs.pack(blobs.tree({"bin/prog": SIMPLE}), system(blobs, **{"usr__lib__libgcc_s.so.1": gcc}))
    assert made[f"{LAUNCH}/lib/libgcc_s.so.1".encode()] == blobs.add(gcc, True)
