"""Files that say how a program is started, so that they work where they are installed: by whole paths. Pure.

They are desktop files, services of the session's bus, and systemd's units for users. Who reads them looks for programs in the
machine's folders only, if at all, and what stands in them may be a path of the place that the artifact was built for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@:,=")
# What systemd lets stand before a command.
_MARKS = re.compile(rb"[@:+!|-]*")
_UNIT_COMMANDS = re.compile(rb"Exec(?:Start|StartPre|StartPost|Condition|Reload|Stop|StopPre|StopPost)\Z")


@dataclass(frozen=True, slots=True)
class Where:
    """Where an artifact's own things are.

    ``programs`` are the paths in the artifact of what a bare name may mean. ``pixmaps`` are the names in ``share/pixmaps``,
    which desktops look for in the machine's own folder only; ``services`` those in ``share/dbus-1/services``. ``prefix`` is
    what the artifact was built for, ``place`` the folder that it is found in.
    """

    programs: Mapping[bytes, bytes]
    pixmaps: Sequence[bytes]
    services: Sequence[bytes]
    prefix: bytes
    place: bytes

    def program(self, word: bytes) -> bytes | None:
        """The whole path of a program of the artifact; None: it is not one of them."""
        if word in self.programs:
            return self.place + b"/" + self.programs[word]
        return self.place + word.removeprefix(self.prefix) if word.startswith(self.prefix + b"/") else None

    def picture(self, value: bytes) -> bytes:
        """What an icon is called, or its whole path if desktops would not find it by that."""
        if value.startswith(self.prefix + b"/"):
            return self.place + value.removeprefix(self.prefix)
        names = {name.rpartition(b".")[0]: name for name in sorted(self.pixmaps)}
        name = names.get(value) or (value if value in self.pixmaps else None)
        return self.place + b"/share/pixmaps/" + name if name else value


def installed(path: bytes, text: bytes, where: Where) -> bytes:
    """The text of a file that ``is_edited``, as it is to be where it is installed."""
    line = _EDITS[_folder(path)]
    name = path.rpartition(b"/")[2]
    lines = []
    for whole in text.split(b"\n"):
        key, equals, value = whole.partition(b"=")
        edited = line(name, key.strip(), value.strip(), where) if equals else None
        lines.append(whole if edited is None else key.strip() + b"=" + edited)
    return b"\n".join(lines)


def is_edited(path: bytes) -> bool:
    """Whether a file at this place is one of those."""
    return _folder(path) in _EDITS


def _folder(path: bytes) -> bytes:
    return next((folder for folder in _EDITS if path.startswith(folder)), b"")


# -- a line: the new value of a key, or None where it stays --


def _desktop_file(name: bytes, key: bytes, value: bytes, where: Where) -> bytes | None:
    """https://specifications.freedesktop.org/desktop-entry-spec/."""
    match key:
        case b"Exec":
            # Backslashes are doubled once more, as in every text of these files.
            return _command(value, where, lambda path: _quote(path, b'"`$\\').replace(b"%", b"%%").replace(b"\\", b"\\\\"))
        case b"TryExec":  # a path and no command line
            return where.program(_first_word(value)[0])
        case b"Icon":
            return where.picture(value)
        case b"DBusActivatable" if name.removesuffix(b".desktop") + b".service" not in where.services:
            # Nothing tells the bus of the program, which would be asked for in vain.
            return b"false"
    return None


def _bus_service(_: bytes, key: bytes, value: bytes, where: Where) -> bytes | None:
    """https://dbus.freedesktop.org/doc/dbus-specification.html, "Message Bus Starting Services"."""
    if key != b"Exec":
        return None
    return _command(value, where, lambda path: _quote(path, b'"`$\\').replace(b"\\", b"\\\\"))


def _unit(_: bytes, key: bytes, value: bytes, where: Where) -> bytes | None:
    """systemd.service(5), "Command lines"."""
    if not _UNIT_COMMANDS.match(key):
        return None
    marks = _MARKS.match(value)
    start = marks[0] if marks else b""
    edited = _command(value.removeprefix(start), where, lambda path: _quote(path, b'"\\').replace(b"%", b"%%"))
    return None if edited is None else start + edited


_EDITS: Mapping[bytes, Callable[[bytes, bytes, bytes, Where], bytes | None]] = {
    b"share/applications/": _desktop_file,
    b"share/dbus-1/services/": _bus_service,
    b"share/systemd/user/": _unit,
}


# -- command lines --


def _command(value: bytes, where: Where, quote: Callable[[bytes], bytes]) -> bytes | None:
    word, rest = _first_word(value)
    found = where.program(word)
    return None if found is None else quote(found) + rest


def _first_word(value: bytes) -> tuple[bytes, bytes]:
    """The program of a command line, without its quotes, and the rest, from the space on."""
    if not value.startswith(b'"'):
        first, space, rest = value.partition(b" ")
        return first, space + rest
    word = bytearray()
    escaped = False
    for index, byte in enumerate(value[1:], start=2):
        if not escaped and byte == ord('"'):
            return bytes(word), value[index:]
        escaped = not escaped and byte == ord("\\")
        if not escaped:
            word.append(byte)
    return value, b""


def _quote(path: bytes, special: bytes) -> bytes:
    """The path as a word of a command line: in quotes if need be, with a backslash before each ``special`` byte."""
    if _PLAIN.issuperset(path):
        return path
    return b'"' + b"".join((b"\\" if byte in special else b"") + bytes([byte]) for byte in path) + b'"'
