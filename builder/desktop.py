"""Desktop files: one that an artifact holds, so that it works where it is installed. Pure."""

from __future__ import annotations

from collections.abc import Iterable

_COMMANDS = (b"Exec", b"TryExec")
# In quotes, these have a meaning of their own.
_QUOTED = b'"`$\\'
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@:,=")


def installed(text: bytes, *, programs: Iterable[bytes], pixmaps: Iterable[bytes], prefix: bytes, place: bytes) -> bytes:
    """A desktop file whose programs and pictures are found by whole paths.

    ``programs`` are the names in the artifact's ``bin``, ``pixmaps`` those in ``share/pixmaps``, which desktops look for in
    the machine's own folder only. ``prefix`` is what the artifact was built for, ``place`` the folder that it is found in.
    """
    names = set(programs)
    pictures = {name.rpartition(b".")[0]: name for name in sorted(pixmaps)}
    lines = []
    for line in text.split(b"\n"):
        key, equals, value = line.partition(b"=")
        key = key.strip()
        value = value.strip()
        if equals and key in _COMMANDS:
            word, rest = _first_word(value)
            found = _program(word, names, prefix, place)
            if found is not None:
                # TryExec is a path and no command line.
                line = key + b"=" + (_quote(found) + rest if key == b"Exec" else found)
        elif equals and key == b"Icon":
            line = b"Icon=" + _picture(value, pictures, prefix, place)
        elif equals and key == b"DBusActivatable":
            # Nothing tells the bus of the program, which would be asked for in vain.
            line = b"DBusActivatable=false"
        lines.append(line)
    return b"\n".join(lines)


def _program(word: bytes, names: set[bytes], prefix: bytes, place: bytes) -> bytes | None:
    if word in names:
        return place + b"/bin/" + word
    return place + word.removeprefix(prefix) if word.startswith(prefix + b"/") else None


def _picture(value: bytes, pictures: dict[bytes, bytes], prefix: bytes, place: bytes) -> bytes:
    if value.startswith(prefix + b"/"):
        return place + value.removeprefix(prefix)
    name = pictures.get(value) or (value if value in pictures.values() else None)
    return place + b"/share/pixmaps/" + name if name else value


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


def _quote(path: bytes) -> bytes:
    """The path as a word of Exec: in quotes if need be. Backslashes are doubled once more, as in every text of these files."""
    if _PLAIN.issuperset(path):
        return path
    inner = b"".join((b"\\" if byte in _QUOTED else b"") + bytes([byte]) for byte in path).replace(b"%", b"%%")
    return b'"' + inner.replace(b"\\", b"\\\\") + b'"'
