"""An artifact as an image of the Open Container Initiative: image-spec 1.1 (https://github.com/opencontainers/image-spec).

The artifact lies at ``/pkg``, the place that it was built for, in every image: so a library is at the same path in all of
them, and the layer that holds it is the same layer. What goes into which layer is decided by the artifact alone, and so is
every byte of the image.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder import programs, tarball
from builder.steps import PREFIX
from launcher import machines
from store.digest import Digest
from store.errors import Error
from store.manifest import DIRECTORY, File, Manifest, Node, show

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
# Not zstd: of the tools that read images, those of Debian 12 cannot unpack it, or make a docker archive of it.
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

# Engines mount each layer, and the kernel takes about 120 of them. A library that is smaller than this is not worth a request.
MOST_OWN, LARGE = 32, 1 << 16

CREATED = "1980-01-01T00:00:00Z"  # store.files.EPOCH
# What an image says of a CPU, by its number in ELF files.
_CPUS: Mapping[int, Mapping[str, str]] = {
    machines.X86_64.number: {"architecture": "amd64"},
    machines.AARCH64.number: {"architecture": "arm64", "variant": "v8"},
}

_TOP = PREFIX[1:].encode()
# What programs expect of any root. Engines mount the rest (proc, dev, sys, etc/hosts, etc/resolv.conf). Without the last
# file, glibc asks the network before etc/hosts.
_BASE_FILES = {
    b"etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    b"etc/group": b"root:x:0:\nnogroup:x:65534:\n",
    b"etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files dns\n",
}
_BASE_FOLDERS = (b"etc", b"root", b"tmp", b"var", b"var/tmp", _TOP)
_BASE_MODES = {b"root": 0o700, b"tmp": 0o1777, b"var/tmp": 0o1777}


class Whiteout(Error):
    """A file whose name means to container engines that another file is to be removed."""

    def __init__(self, path: bytes) -> None:
        super().__init__(
            f"{show(path)}: in an image, names that begin with .wh. remove files",
            hint="Rename it in the recipe's script, or export another format.",
        )
        self.path = path


@dataclass(frozen=True, slots=True)
class Layer:
    """What lies in one layer, at its place in the image; ``about`` is for people. ``modes`` are the unusual ones."""

    about: str
    tree: Manifest
    modes: Mapping[bytes, int]


@dataclass(frozen=True, slots=True)
class Blob:
    """A descriptor: a type, ``sha256:`` and 64 hex digits, and a size in bytes."""

    media: str
    digest: str
    size: int

    def json(self) -> dict[str, object]:
        """As manifests have it."""
        return {"mediaType": self.media, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was written: its manifest, and all that the manifest names, layers first."""

    manifest: Blob
    parts: tuple[Blob, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the image says of the artifact. ``program`` is a name in ``bin``, or None for none."""

    name: str
    version: str
    digest: Digest
    program: str | None
    cpu: Mapping[str, str]
    labels: tuple[tuple[str, str], ...] = ()


def settings(
    artifact: Manifest,
    head: Callable[[File], bytes],
    *,
    name: str,
    version: str,
    entrypoint: str | None = None,
    labels: Iterable[tuple[str, str]] = (),
) -> Settings:
    """What an image of ``artifact`` is to say. ``head`` gives the first bytes of a file, 20 or more.

    Raises NoMachine, NoEntrypoint and Whiteout.
    """
    for path in artifact:
        if path.rpartition(b"/")[2].startswith(b".wh."):
            raise Whiteout(path)
    every = programs.names(artifact)
    program = programs.main(every, name, entrypoint)
    if program is None and every:
        raise programs.NoEntrypoint(None, every)
    cpu = _CPUS[programs.machine(artifact, head).number]
    return Settings(name, version, artifact.digest, program, cpu, tuple(labels))


# -- layers --


def layers(artifact: Manifest) -> list[Layer]:
    """What goes into which layer, the one that most images share first.

    What a root needs; the C library; each large library, shell and data folder of the launch directory; what is left of
    the launch directory; the artifact's own files. All in an order that names give.
    """
    units: dict[bytes, list[tuple[bytes, File]]] = {}
    own: list[tuple[bytes, Node]] = []
    for path, node in artifact.entries:
        unit = _unit(path)
        if unit is None or not isinstance(node, File):
            own.append((path, node))
        else:
            units.setdefault(unit, []).append((path, node))
    sizes = {unit: sum(node.size for _, node in inside) for unit, inside in units.items()}
    largest = sorted((unit for unit in units if sizes[unit] >= LARGE), key=lambda unit: (-sizes[unit], unit))[:MOST_OWN]
    chosen = sorted(largest, key=lambda unit: (not unit.endswith(b"/ld.so"), unit))
    rest = [entry for unit, inside in units.items() if unit not in chosen for entry in inside]
    made = [Layer("what programs expect of any root", _base()[0], _BASE_MODES)]
    made += [_layer(_about(unit), units[unit]) for unit in chosen]
    if rest:
        made.append(_layer(b"smaller libraries", rest))
    made.append(_layer(b"the artifact's own files", own))
    return made


def _unit(path: bytes) -> bytes | None:
    """The part of the launch directory that ``path`` belongs to: what other artifacts may have too. None: it is their own."""
    match path.split(b"/"):
        case [b".launch", b"inputs" | b"script" | b"apart", *_]:
            return None
        case [b".launch", folder, b"ld.so"] | [b".launch", folder, b"lib", b"libc.so.6"]:
            return b".launch/" + folder + b"/ld.so"
        case [b".launch", _, b"lib" | b"bin", _]:
            return path
        case [b".launch", folder, name, *_]:
            return b".launch/" + folder + b"/" + name
    return None


def _about(unit: bytes) -> bytes:
    folder, _, name = unit.removeprefix(b".launch/").partition(b"/")
    return b"the C library of " + folder if name == b"ld.so" else name.rpartition(b"/")[2]


def _layer(about: bytes, entries: Iterable[tuple[bytes, Node]]) -> Layer:
    return Layer(show(about), Manifest.with_parents([(_TOP, DIRECTORY), *((_TOP + b"/" + p, n) for p, n in entries)]), {})


def _base() -> tuple[Manifest, Mapping[Digest, bytes]]:
    blobs = {Digest.of(data): data for data in _BASE_FILES.values()}
    nodes: list[tuple[bytes, Node]] = [(path, DIRECTORY) for path in _BASE_FOLDERS]
    nodes += [(path, File(Digest.of(data), len(data), False)) for path, data in _BASE_FILES.items()]
    return Manifest(nodes), blobs


# -- documents --


def config(about: Settings, made: list[Layer], plain: list[str]) -> bytes:
    """The image's configuration. ``plain`` are the sha256 of the layers' archives, before they were compressed."""
    labels = {
        "builder.artifact": str(about.digest),
        "org.opencontainers.image.title": about.name,
        "org.opencontainers.image.version": about.version,
        **dict(about.labels),
    }
    start: dict[str, object] = {
        "Env": [f"PATH={PREFIX}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "WorkingDir": "/",
        "Labels": labels,
    }
    if about.program is not None:
        start["Entrypoint"] = [f"{PREFIX}/bin/{about.program}"]
    return _json(
        {
            **about.cpu,
            "os": "linux",
            "created": CREATED,
            "config": start,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hexed}" for hexed in plain]},
            "history": [{"created": CREATED, "created_by": layer.about} for layer in made],
        }
    )


def index(about: Settings, manifest: Blob) -> bytes:
    """The index of a layout that has this image alone, called by its name and version."""
    named = {"org.opencontainers.image.ref.name": f"{repository(about.name)}:{tag(about.version)}"}
    row = {**manifest.json(), "annotations": named, "platform": {**about.cpu, "os": "linux"}}
    return _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [row]})


def repository(name: str) -> str:
    """The name of an artifact as one that tools for images take: no ``+``, and one separator at a time."""
    return re.sub(r"[^a-z0-9]{2,}|\+", "-", name).strip("._-")


def tag(version: str) -> str:
    """The tag for a version: registries take letters, digits and ``. _ -`` only, and at most 128 of them."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in version)[:128]


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


# -- writing --


def write(artifact: Manifest, about: Settings, read: tarball.Read, folder: Path) -> Image:
    """Fill the empty ``folder`` with the image layout of ``artifact``. ``read`` gives the bytes of a file of it."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    base = _base()[1]

    def contents(file: File) -> Iterable[bytes]:
        return [base[file.blob]] if file.blob in base else read(file)

    made = layers(artifact)
    parts, plain = [], []
    for layer in made:
        hashed = hashlib.sha256()
        archive = _hashing(tarball.stream(layer.tree, contents, modes=layer.modes), hashed)
        parts.append(_put(blobs, LAYER, tarball.gzip(archive)))
        plain.append(hashed.hexdigest())
    configuration = _put(blobs, CONFIG, [config(about, made, plain)])
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": configuration.json(),
        "layers": [part.json() for part in parts],
    }
    manifest = _put(blobs, MANIFEST, [_json(document)])
    (folder / "index.json").write_bytes(index(about, manifest))
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    return Image(manifest, (*parts, configuration))


def _hashing(pieces: Iterable[bytes], hashed: hashlib._Hash) -> Iterator[bytes]:
    for piece in pieces:
        hashed.update(piece)
        yield piece


def _put(blobs: Path, media: str, pieces: Iterable[bytes]) -> Blob:
    """Write a blob under the name that its bytes give."""
    hashed, size = hashlib.sha256(), 0
    growing = blobs / "growing"
    with open(growing, "wb") as file:
        for piece in pieces:
            hashed.update(piece)
            size += len(piece)
            file.write(piece)
    growing.rename(blobs / hashed.hexdigest())
    return Blob(media, f"sha256:{hashed.hexdigest()}", size)
