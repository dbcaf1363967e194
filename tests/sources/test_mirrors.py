from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import mirrors
from builder.mirrors import BadConfiguration, BadPlace, Mirrors, NoMirror, Place, find, show


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def found(root: Path, files: dict[str, str], environment: dict[str, str] | None = None, user: str = "") -> Mirrors:
    machine(root, files)
    if user:
        (root / "config.toml").write_text(user)
    return find(root / "config.toml", {"HOME": str(root / "home"), **(environment or {})}, root=root)


def debian(root: Path, files: dict[str, str]) -> tuple[str, ...]:
    return found(root, files).bases["debian"]


def test_the_old_form_of_apt(tmp_path: Path) -> None:
    text = """
        # deb http://commented.example/debian bookworm main
        deb http://updates.example/debian bookworm-updates main
        deb [ arch=amd64 signed-by=/usr/share/x.gpg ] http://one.example/debian/ bookworm main contrib # why
        deb-src https://two.example/debian bookworm main
        deb http://security.example/debian-security bookworm-security main
        deb http://other.example/apt cloud-tools-bookworm main
        deb http://other.example/apt bookworm stable
        deb http://flat.example/x ./
        deb cdrom:[Debian 12]/ bookworm main
        deb ftp://old.example/debian bookworm main
        nonsense
    """
    assert debian(tmp_path, {"etc/apt/sources.list": text}) == (
        "http://one.example/debian",
        "https://two.example/debian",
        "http://updates.example/debian",
        "http://security.example/debian-security",
    )


def test_the_new_form_of_apt(tmp_path: Path) -> None:
    text = """# comment
Types: deb deb-src
URIs: http://one.example/debian
 https://two.example/debian
Suites: bookworm bookworm-updates
# another
Components: main
Signed-By: /usr/share/keyrings/x.gpg
  \t
Enabled: no
URIs: http://disabled.example/debian
Suites: bookworm
Components: main

URIs: http://node.example/
Suites: nodistro
Components: main
"""
    files = {
        "etc/apt/sources.list.d/debian.sources": text,
        "etc/apt/sources.list.d/x.sources": "broken",
        "etc/apt/sources.list.d/x.txt": text,
    }
    assert debian(tmp_path, files) == ("http://one.example/debian", "https://two.example/debian")


def test_the_users_file_goes_first(tmp_path: Path) -> None:
    files = {
        "etc/apt/sources.list": "deb http://apt.example/debian bookworm main",
        "etc/pip.conf": "[global]\nindex-url = http://pip.example/simple",
    }
    user = '[mirrors]\ndebian = ["https://a.example/debian/", "file:///srv/debian"]\n[proxies]\nhttps = "http://proxy.example:3128"\n'
    places = found(tmp_path, files, user=user)
    assert places.places("mirror://debian/pool/x.deb") == (
        Place("https://a.example/debian/pool/x.deb", "http://proxy.example:3128"),
        Place("file:///srv/debian/pool/x.deb"),
    )
    assert places.bases["pypi"] == ("http://pip.example", "http://pip.example/simple")


def test_nothing_known_says_what_to_write(tmp_path: Path) -> None:
    places = found(tmp_path, {})
    for kind in mirrors.KINDS:
        with pytest.raises(NoMirror) as caught:
            places.places(f"mirror://{kind}/x")
        assert f"mirror://{kind}/" in str(caught.value)
        assert str(tmp_path / "config.toml") in caught.value.hint
        # What the hint says works.
        written = "[mirrors]" + caught.value.hint.partition("[mirrors]")[2]
        assert found(tmp_path, {}, user=written).places(f"mirror://{kind}/x")[0].url.startswith("https://mirror.example/")
        (tmp_path / "config.toml").unlink()


@pytest.mark.parametrize(
    "text",
    [
        "[mirrors",
        "[mirrors]\ndebian = 1",
        "[mirrors]\ndebian = []",
        '[mirrors]\ndebian = ["ftp://x/y"]',
        '[mirrors]\ndebian = ["/srv"]',
        '[mirrors]\nredhat = ["http://x/y"]',
        "mirrors = 1",
        '[proxies]\nftp = "x"',
        "[proxies]\nhttp = 1",
    ],
)
def test_mistakes_in_the_users_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        found(tmp_path, {}, user=text)
    assert str(tmp_path / "config.toml") in str(caught.value)


def test_proxies_of_apt(tmp_path: Path) -> None:
    files = {
        "etc/apt/sources.list": "deb http://a.example/debian bookworm main\ndeb http://direct.example/debian bookworm main",
        "etc/apt/apt.conf.d/01proxy": """
            // Acquire::http::Proxy "http://commented.example";
            /* Acquire::http::Proxy "http://commented.example"; */
            Acquire { http { Proxy "http://proxy.example:3142"; Proxy::direct.example "DIRECT"; Timeout "3"; }; };
            APT::Post { "rm // x"; };
        """,
        "etc/apt/apt.conf.d/02": 'acquire::HTTPS::proxy "http://other.example";',
    }
    places = found(tmp_path, files)
    assert places.places("mirror://debian/x") == (
        Place("http://a.example/debian/x", "http://proxy.example:3142"),
        Place("http://direct.example/debian/x"),
    )
    assert places.apt_proxies["https"] == "http://other.example"
    # They are for Debian's packages only.
    assert places.places("http://a.example/x") == (Place("http://a.example/x"),)


def test_proxies_of_the_environment(tmp_path: Path) -> None:
    environment = {
        "http_proxy": "http://p.example",
        "HTTPS_PROXY": "http://q.example",
        "no_proxy": "local.example, .inner.example",
    }
    places = found(tmp_path, {}, environment)
    for url, proxy in (
        ("http://a.example/x", "http://p.example"),
        ("https://a.example/x", "http://q.example"),
        ("https://local.example/x", ""),
        ("https://a.inner.example/x", ""),
        ("https://notlocal.example/x", "http://q.example"),
        ("/srv/x", ""),
    ):
        assert places.places(url) == (Place(url, proxy),)


def test_pip_and_npm(tmp_path: Path) -> None:
    files = {
        "etc/pip.conf": "[global]\nindex-url = https://c.example/root/simple/\nextra-index-url =\n  https://d.example/x\n",
        "home/.config/pip/pip.conf": "[global]\nindex-url=https://b.example/simple",
        "home/.pip/pip.conf": "not a configuration",
        "home/.npmrc": "fund=false\nregistry = https://n.example/npm/\n@scope:registry=https://s.example\n",
    }
    places = found(tmp_path, files, {"PIP_INDEX_URL": "https://a.example/simple"})
    assert places.bases["pypi"] == (
        "https://a.example",
        "https://a.example/simple",
        "https://b.example",
        "https://b.example/simple",
        "https://c.example/root",
        "https://c.example/root/simple",
        "https://d.example/x",
    )
    assert places.bases["npm"] == ("https://n.example/npm",)


def test_addresses_that_cannot_be(tmp_path: Path) -> None:
    places = Mirrors({"debian": ("http://a.example",)}, tmp_path)
    for address in ("mirror://redhat/x", "mirror://debian/", "mirror://debian", "mirror://debian/a/../b", "mirror://debian//b"):
        with pytest.raises(BadPlace):
            places.places(address)


def test_what_people_are_shown() -> None:
    assert show("https://me:secret@a.example/x") == "https://***@a.example/x"
    assert show("http://a/\x1b[2J\n") == "http://a/\\x1b[2J\\n"


@given(st.text(max_size=300))
def test_any_text_is_no_trouble(text: str) -> None:
    list(mirrors._apt_line(text))
    list(mirrors._apt_stanzas(text))
    list(mirrors._apt_settings(text))
    show(text)
    Mirrors({}, Path("c"), {"http": "http://p"}).places("x" + text)
