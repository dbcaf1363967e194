"""Scripts: what their first line asks for, the program that stands in their place, and where they lie themselves.

A script whose interpreter is in the artifact cannot say so: the kernel takes the name after ``#!`` as it is. So a small
static program takes its place. The script ``bin/foo`` itself lies in ``.launch/script/bin/foo/``, a mirror of the artifact
in which only ``bin/foo`` is the script, and everything else leads back by symlinks. So `basename $0`, `dirname $0`, and
what is beside it or above it are as they were; and a script beside it is that one's launcher, which is why each script has
a mirror of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launcher import config
from launcher.config import Config
from launcher.layout import PF_R, PF_W, PF_X, PT_LOAD, Header, Segment
from launcher.names import base, parent, up
from store.errors import Error
from store.manifest import DIRECTORY, Directory, File, Node, Symlink, show

MIRROR = b".launch/script"
# Where a program is started by its name, so that a script has to be a program.
FOLDERS = (b"bin", b"sbin", b"libexec")
# The kernel reads this many bytes of a file to see how to start it (BINPRM_BUF_SIZE).
_FIRST = 256
# What stands for what behind a backslash in `env -S`.
_ESCAPES = {b'"': b'"', b"#": b"#", b"$": b"$", b"'": b"'", b"\\": b"\\", b"_": b" ",
            b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}  # fmt: skip
_MACHINE = 62
_PAGE = 0x1000
_GNU_STACK = 0x6474E551


class BadFirstLine(Error):
    """A script's first line that cannot be followed: natively neither, or not by a launcher; the message says why."""


@dataclass(frozen=True, slots=True)
class Shebang:
    """A script's first line: the interpreter's path, and what follows it; None: nothing does."""

    interpreter: bytes
    argument: bytes | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a first line asks for: a program by its path, or by a name to be ``searched``, and its arguments."""

    name: bytes
    arguments: tuple[bytes, ...]
    searched: bool = False


def read_shebang(data: bytes) -> Shebang | None:
    """The first line of a script as the kernel reads it (fs/binfmt_script.c), or None where it would not start it."""
    if not data.startswith(b"#!"):
        return None
    head = data[:_FIRST].ljust(_FIRST, b"\0")
    line, end, _ = head[2:].partition(b"\n")
    if not end or b"\0" in line:
        # Without the line's end, a path that is not followed by anything may have been cut, so nothing is started.
        line = head[2:-1]
        if not re.search(rb"[ \t\0]", line.lstrip(b" \t")):
            return None
    found = re.match(rb"([^ \t\0]+)(?:[ \t]+([^\0]*))?", line.strip(b" \t"))
    return Shebang(found[1], found[2]) if found else None


def asked_by(shebang: Shebang) -> Asked:
    """What the line asks for, seen through ``env``. Raises BadFirstLine."""
    asked = Asked(shebang.interpreter, () if shebang.argument is None else (shebang.argument,))
    if shebang.interpreter in (b"/usr/bin/env", b"/bin/env"):
        asked = _through_env(shebang.argument or b"")
    if asked.name.endswith(b"\r"):
        raise BadFirstLine(
            "the first line ends with a carriage return, which would be part of the interpreter's name",
            hint="Write the script with the line ends of Unix.",
        )
    if not asked.name.startswith(b"/") and not (asked.searched and b"/" not in asked.name):
        raise BadFirstLine(
            f"the interpreter {show(asked.name)} is looked for in the folder that one happens to be in",
            hint="Name the interpreter by its whole path.",
        )
    if b"" in asked.arguments:
        raise BadFirstLine("the first line gives the interpreter an empty argument, which a launcher cannot")
    return asked


def _through_env(argument: bytes) -> Asked:
    split = next((argument.removeprefix(word) for word in (b"-S", b"--split-string=") if argument.startswith(word)), None)
    words = [argument] if split is None else split_string(split)
    if words[:1] == [b"--"] and split is not None:
        del words[0]
    if not words or not words[0]:
        raise BadFirstLine("env is given no program")
    name = words[0]
    if name.startswith(b"-") or b"=" in name:
        raise BadFirstLine(
            f"a launcher cannot do what env is asked for with {show(name)}",
            hint="Begin the script with env and a program, or with env -S, a program and its arguments. "
            "The recipe's `environment` sets variables.",
        )
    if split is None and re.search(rb"\s", name.rstrip(b"\r")):
        raise BadFirstLine(
            f"env takes all of {show(name)} as the name of one program", hint="Write env -S where arguments follow the program."
        )
    return Asked(name, tuple(words[1:]), searched=True)


def split_string(text: bytes) -> list[bytes]:
    """The words of the text behind ``env -S``, as coreutils' env reads them. Raises BadFirstLine."""
    words: list[bytes] = []
    word: bytes | None = None  # None: between words
    quote = b""
    place = 0
    while place < len(text):
        char = text[place : place + 1]
        place += 1
        if char in (b"'", b'"') and quote in (b"", char):
            quote = b"" if quote else char
            word = word or b""
            continue
        if not quote and char in b" \t\n\v\f\r":
            words += [] if word is None else [word]
            word = None
            continue
        if char == b"#" and word is None:
            break
        if char == b"$" and quote != b"'":
            raise BadFirstLine("env -S would put a variable into the arguments, which a launcher cannot")
        if char == b"\\":
            following = text[place : place + 1]
            if quote != b"'" or following in (b"\\", b"'"):
                place += 1
                if following == b"c" and not quote:
                    break
                if following == b"_" and not quote:
                    words += [] if word is None else [word]
                    word = None
                    continue
                if following not in _ESCAPES:
                    raise BadFirstLine(f"env -S does not know the sequence {show(char + following)}")
                char = _ESCAPES[following]
        word = (word or b"") + char
    if quote:
        raise BadFirstLine("a quote of env -S is not closed")
    return words if word is None else [*words, word]


def write_launcher(settings: Config, stub: bytes) -> bytes:
    """A static program that starts another, or a script, as ``settings`` say. ``stub`` is the machine code."""
    headers = Header.FORM.size + 3 * Segment.FORM.size
    start = (headers + 15) & -16
    size = config.size_of(settings, stub)
    end = start + size
    memory = (end + _PAGE - 1) & -_PAGE
    code = config.write(settings, stub, address=start, memory=memory)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    entry = start + config.SIZE
    # ET_DYN, so that the kernel chooses where it goes.
    header = Header(ident, 3, _MACHINE, 1, entry, Header.FORM.size, 0, 0, Header.FORM.size, Segment.FORM.size, 3, 64, 0, 0)
    segments = (
        Segment(PT_LOAD, PF_R | PF_X, 0, 0, 0, end, end, _PAGE),
        Segment(PT_LOAD, PF_R | PF_W, 0, memory, memory, 0, settings.memory_size, _PAGE),
        Segment(_GNU_STACK, PF_R | PF_W, 0, 0, 0, 0, 0, 16),
    )
    top = header.pack() + b"".join(segment.pack() for segment in segments)
    return top.ljust(start, b"\0") + code


def place_of(script: bytes) -> bytes:
    """Where the script of this path lies in the artifact."""
    return MIRROR + b"/" + script + b"/" + script


def mirror(nodes: Mapping[bytes, Node], script: bytes, node: File) -> Iterator[tuple[bytes, Node]]:
    """The entries of the mirror of the tree ``nodes`` for its script ``script``, whose own text is ``node``."""
    folders = {b""}
    path = script
    while path := parent(path):
        folders.add(path)
    top = MIRROR + b"/" + script + b"/"
    for path, other in nodes.items():
        if parent(path) not in folders or path == b".launch":
            continue
        match other:
            case Directory() if path in folders:
                yield top + path, DIRECTORY
            case File() if path == script:
                yield top + path, node
            case Symlink(target) if b"/" not in target and parent(path) == parent(script) and target == base(script):
                yield top + path, other
            case _:
                yield top + path, Symlink(up(top + path) + path)
