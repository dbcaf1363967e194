"""Debian's control files: paragraphs of ``Field: value`` lines (deb822(5))."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from store.errors import Error

MAX_PARAGRAPH = 1 << 20  # bytes


class BadParagraph(Error):
    """A control file that breaks the rules; ``reason`` says how."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"a damaged control file: {reason}")
        self.reason = reason


def paragraphs(pieces: Iterable[bytes], *, only: Collection[str] | None = None) -> Iterator[dict[str, str]]:
    """Every paragraph of a control file that comes in pieces: field names, as they are written there, to values.

    The lines of a value are joined by newlines, without the space in front. With ``only``, other fields are left out, which
    is much faster for an index of 60,000 packages. Raises BadParagraph.
    """
    for text in _texts(pieces):
        yield _paragraph(text, only)


def _texts(pieces: Iterable[bytes]) -> Iterator[str]:
    left = b""
    for piece in pieces:
        *whole, left = (left + piece).split(b"\n\n")
        if len(left) > MAX_PARAGRAPH:
            raise BadParagraph(f"a paragraph of more than {MAX_PARAGRAPH} bytes")
        for part in whole:
            yield from _decoded(part)
    yield from _decoded(left)


def _decoded(part: bytes) -> Iterator[str]:
    part = part.strip(b"\n")
    if not part:
        return
    try:
        yield part.decode()
    except UnicodeDecodeError:
        raise BadParagraph("it is not UTF-8") from None


def _paragraph(text: str, only: Collection[str] | None) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in text.split("\n"):
        if line[:1] in (" ", "\t"):
            if not name:
                raise BadParagraph(f"it starts with a continuation: {line[:60]!r}")
            if name in fields:
                fields[name] += "\n" + line[1:]
            continue
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            if line.startswith("#"):
                continue
            raise BadParagraph(f"not a field: {line[:60]!r}")
        if only is not None and name not in only:
            continue
        if name in fields:
            raise BadParagraph(f"the field {name} is there twice")
        fields[name] = value.strip()
    return fields
