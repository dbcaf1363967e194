"""What is installed is found by those who look for it: the session's bus, systemd, fontconfig, info, the lists of types."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from store.store import Store
from tests.behaviour.test_install import User, put
from tests.conftest import ROOT, Builder

INFO = b"""This is one.info.

\x1f
File: one.info,  Node: Top,  Up: (dir)

The page of one.
"""

TYPES = b"""<?xml version="1.0" encoding="UTF-8"?>
<mime-info xmlns="http://www.freedesktop.org/standards/shared-mime-info">
<mime-type type="application/x-one"><glob pattern="*.one"/></mime-type>
</mime-info>
"""

DESKTOP = b"""[Desktop Entry]
Type=Application
Name=One
Exec=one %u
TryExec=one
DBusActivatable=true
MimeType=application/x-one;
"""

BUS_SERVICE = b"[D-BUS Service]\nName=org.example.One\nExec=/pkg/bin/one --bus\n"

# Its own folders' files are the only ones, and the bus speaks to whom started it.
BUS = """<busconfig><type>session</type><listen>unix:dir={place}</listen><auth>EXTERNAL</auth><standard_session_servicedirs/>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
"""
FONTS = '<fontconfig><dir prefix="xdg">fonts</dir><cachedir>{place}/cache</cachedir></fontconfig>'


class Readers:
    """The programs of others, in the home of a user."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.environment = {
            "HOME": str(home),
            "PATH": f"{home}/.local/bin:/usr/bin:/bin",
            "XDG_DATA_HOME": str(home / ".local/share"),
            "XDG_DATA_DIRS": str(home / "nowhere"),
            "XDG_RUNTIME_DIR": str(home),
            "FONTCONFIG_FILE": str(home / "fonts.conf"),
        }

    def start(self, program: str, *words: str | Path, **more: str) -> subprocess.Popen[str]:
        environment = {**self.environment, **more}
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [self.folder / "bin" / program, *map(str, words)], env=environment, stdout=pipe, stderr=pipe, text=True
        )

    def __call__(self, program: str, *words: str | Path, status: int = 0, **more: str) -> str:
        process = self.start(program, *words, **more)
        out, err = process.communicate()
        assert process.returncode == status, err
        return out + err


@pytest.fixture
def readers(builder: Builder, tmp_path: Path) -> Readers:
    (built,) = builder.build(ROOT / "tests" / "debian" / "desktops.py")
    return Readers(Path(built["path"]), tmp_path / "home")


def test_everyone_finds_what_is_installed(builder: Builder, readers: Readers, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    user = User(home, tmp_path / "store", {**builder.environment, "BUILDER_STORE": str(tmp_path / "store")})
    started = home / "started"
    put(
        Store(user.builder.store),
        "one",
        {
            # Where installs take only what running needs, this says that the info pages are part of it.
            ".launch/runtime": b"runtime share/info\n",
            "bin/one": f'#!/bin/sh\necho "$0 $@" > {started}\n'.encode(),
            "lib/systemd/user/one.service": b"[Service]\nExecStart=/pkg/bin/one --unit\n",
            "lib/systemd/user/one.socket": b"[Socket]\nListenStream=%t/one\n",
            "share/applications/org.example.One.desktop": DESKTOP,
            "share/dbus-1/services/org.example.One.service": BUS_SERVICE,
            "share/fonts/truetype/one.ttf": (readers.folder / "fonts" / "DejaVuSansMono.ttf").read_bytes(),
            "share/info/one.info": INFO,
            "share/mime/packages/one.xml": TYPES,
        },
    )
    user("install", "one")
    current = home / ".local/state/builder/profile/current/packages/one"

    assert readers("info", "-w", "one").strip() == str(home / ".local/share/info/one.info")
    (home / "fonts.conf").write_text(FONTS.format(place=home))
    assert readers("fc-list") == f"{home}/.local/share/fonts/truetype/one.ttf: DejaVu Sans Mono:style=Book\n"
    readers("update-mime-database", home / ".local/share/mime")
    assert "application/x-one:*.one" in (home / ".local/share/mime/globs2").read_text()
    entry = home / ".local/share/applications/org.example.One.desktop"
    assert readers("desktop-file-validate", entry) == ""
    # The bus knows the program, so it may be asked for it.
    assert "DBusActivatable=true" in entry.read_text()
    assert readers("systemd-analyze", "--user", "verify", "one.service", "one.socket") == ""

    (home / "session.conf").write_text(BUS.format(place=home))
    bus = readers.start("dbus-daemon", f"--config-file={home}/session.conf", "--print-address", "--nofork", "--nopidfile")
    try:
        assert bus.stdout
        address = bus.stdout.readline().strip()
        # It starts the program, which takes no name and says nothing.
        words = ("--session", "--print-reply", "--dest=org.example.One", "/", "org.example.One.Hello")
        readers("dbus-send", *words, status=1, DBUS_SESSION_BUS_ADDRESS=address)
    finally:
        bus.terminate()
        bus.communicate()
    assert started.read_text() == f"{current}/bin/one --bus\n"

    user("uninstall", "one")
    assert not [name for name in os.listdir(home / ".local/share") if name != "mime"]
