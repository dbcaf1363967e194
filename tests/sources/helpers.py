"""Small archives, written byte by byte where the standard library refuses to write them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path

import zstandard

from builder.archives import Deb, read_deb, read_tar
from builder.streams import Bounds
from store.manifest import Manifest
from store.store import Store

COMPRESSIONS = {
    "plain": lambda data: data,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}

CONTROL = (
    "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: Nobody <nobody@example>\nDescription: x\n"
)


def member(
    name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, target, len(data)
    return info, data


def folder(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.DIRTYPE, mode=0o755)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.SYMTYPE, target=target)


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def ar(*parts: tuple[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, data in parts:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


def deb(
    *members: tuple[tarfile.TarInfo, bytes],
    name: str = "thing",
    version: str = "1.0-1",
    architecture: str = "amd64",
    compression: str = "xz",
) -> bytes:
    ending = "" if compression == "plain" else "." + compression
    pack = COMPRESSIONS[compression]
    control = tar(
        folder("./"), member("./control", CONTROL.format(name=name, version=version, architecture=architecture).encode())
    )
    return ar(("debian-binary", b"2.0\n"), (f"control.tar{ending}", pack(control)), (f"data.tar{ending}", pack(tar(*members))))


def taken(data: bytes, path: Path, *, strip: int = 0, bounds: Bounds | None = None) -> Manifest:
    """The tree of a tar archive, whose blobs are in the store at ``path`` afterwards."""
    with Store(path, durable=False).batch() as batch:
        return read_tar(io.BytesIO(data), batch, "some.tar", strip=strip, bounds=bounds or Bounds())


def taken_deb(data: bytes, path: Path, *, bounds: Bounds | None = None) -> Deb:
    with Store(path, durable=False).batch() as batch:
        return read_deb(io.BytesIO(data), batch, "some.deb", bounds=bounds or Bounds())


def contents(tree: Manifest, path: Path) -> dict[str, object]:
    """What a tree holds, in words that a test can spell out: bytes, ("x", bytes), "-> target", or None for a directory."""
    store = Store(path, durable=False)
    found: dict[str, object] = {name.decode(): None for name in tree}
    for name, node in tree.entries:
        if hasattr(node, "target"):
            found[name.decode()] = "-> " + node.target.decode()
    for name, file in tree.files:
        data = store.read_blob(file.blob)
        assert store.has_blob(file)
        assert len(data) == file.size
        found[name.decode()] = ("x", data) if file.executable else data
    return found


def stanza(name: str, version: str = "1", **fields: str) -> dict[str, str]:
    """A paragraph of a Packages file."""
    path = f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb"
    base = {"Package": name, "Version": version, "Architecture": "amd64", "Filename": path, "Size": "1", "SHA256": "0" * 64}
    return {**base, **fields}
