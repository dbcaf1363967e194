"""What programs read at run time besides libraries, taken from the input root: the words of a recipe's ``data``.

    .launch/share/ca-certificates.crt   certificates: the authorities that TLS clients trust
    .launch/share/zoneinfo/             timezones
    .launch/<triplet>/gconv/            iconv: glibc's modules for character sets
    .launch/<triplet>/locale/           locales, as directories
    .launch/<triplet>/lib/              names: the modules by which glibc looks up users and hosts

Locales that the build made, in ``lib/locale``, stay there, and have links to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field

from launcher.interpreter import is_musl
from launcher.names import PREFIX, Namespace, Tree, up
from store.digest import Digest
from store.errors import Error
from store.manifest import DIRECTORY, File, Manifest, Node, Symlink

SHARE = b".launch/share"
# What is for glibc alone. musl converts by itself, has neither locales nor modules for names, and cannot load what was linked
# for glibc, which most hosts have.
GLIBC = ("iconv", "locales", "names", "host_libraries")
_LOCALES = b"lib/locale"
_BUNDLE = b"etc/ssl/certs/ca-certificates.crt"
_CERTIFICATES = b"usr/share/ca-certificates"
_OWN_CERTIFICATES = PREFIX + b"/share/ca-certificates"
# glibc opens them by these names; libidn2 is for names of hosts with other letters than ASCII's.
_MODULE = re.compile(rb"libnss_[^/]+\.so\.\d+|libidn2\.so\.0")
_PACKAGES = {
    "certificates": ("usr/share/ca-certificates", "ca-certificates"),
    "iconv": ("usr/lib/TRIPLET/gconv", "libc6"),
    "locales": ("usr/lib/locale", "libc-bin"),
    "names": ("usr/lib/TRIPLET/libnss_*", "libc6"),
    "timezones": ("usr/share/zoneinfo", "tzdata"),
}


class NoData(Error):
    """What a recipe's ``data`` asks for, and the input root has not."""

    def __init__(self, word: str, triplet: str) -> None:
        place, package = _PACKAGES[word]
        super().__init__(
            f"the recipe bundles {word}, and its input root has no {place.replace('TRIPLET', triplet)}",
            hint=f"In Debian, {package} has it: add it to the system's packages, and see that `exclude` has it not.",
        )
        self.word = word


class NoUse(Error):
    """What a recipe asks for, and no program of its output would notice: a word of its ``data``, or ``host_libraries``."""

    def __init__(self, word: str) -> None:
        kind = "dynamic program for glibc" if word in GLIBC else "dynamic program"
        super().__init__(f"the recipe asks for {word}, and its output has no {kind}")
        self.word = word


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a word brings: entries of the artifact, variables to values from its top, and names of libraries to be opened."""

    entries: Mapping[bytes, Node] = field(default_factory=dict)
    variables: tuple[tuple[str, bytes], ...] = ()
    sonames: tuple[bytes, ...] = ()


def fits(word: str, triplet: str) -> bool:
    """Whether the word means anything to programs of a launch directory."""
    return word not in GLIBC or not is_musl(triplet)


def collect(
    word: str, triplet: str, names: Namespace, read: Callable[[Digest], bytes], add: Callable[[bytes, bool], File]
) -> Bundle:
    """What ``word`` brings to programs of the launch directory ``triplet``. Raises NoData."""
    here = b".launch/" + triplet.encode()
    libraries = (b"usr/lib/" + triplet.encode(), b"usr/lib64", b"usr/lib")
    match word:
        case "certificates":
            path = SHARE + b"/ca-certificates.crt"
            text = _certificates(names, read)
            found = Bundle({path: add(text, False)} if text else {}, (("SSL_CERT_FILE", path),))
        case "iconv":
            path = here + b"/gconv"
            place = next((folder for folder in libraries if names.root.get(folder + b"/gconv")), libraries[0])
            found = Bundle(_folder(names, place + b"/gconv", path), (("GCONV_PATH", path),))
        case "locales":
            path = here + b"/locale"
            own = {path + b"/" + name: Symlink(up(path + b"/") + _LOCALES + b"/" + name) for name in _own_locales(names)}
            entries = _folder(names, PREFIX + b"/" + _LOCALES, path) | own
            found = Bundle(_folder(names, b"usr/lib/locale", path, but=entries) | entries, (("LOCPATH", path),))
        case "timezones":
            path = SHARE + b"/zoneinfo"
            # glibc reads the first, Go and Crystal read the second.
            found = Bundle(_folder(names, b"usr/share/zoneinfo", path), (("TZDIR", path), ("ZONEINFO", path)))
        case _:
            assert word == "names", word
            found = Bundle(sonames=tuple(_modules(names, libraries)))
    if not found.entries and not found.sonames:
        raise NoData(word, triplet)
    return found


def _tree(tree: Tree, path: bytes) -> Manifest:
    """What a directory holds; nothing when it is not there."""
    return tree.below(path) if tree.get(path) == DIRECTORY else Manifest([])


def _folder(names: Namespace, source: bytes, target: bytes, but: Container[bytes] = ()) -> dict[bytes, Node]:
    """All that is in the root's directory ``source``, as ``target``, without what is in ``but`` already."""
    found: dict[bytes, Node] = {}
    for path, node in _tree(names.root, source).entries:
        first = target + b"/" + path.split(b"/", 1)[0]
        if first in but or _is_host_cache(path):
            continue
        if kept := _copied(names, source + b"/" + path, path, node):
            found[target + b"/" + path] = kept
    return found


def _own_locales(names: Namespace) -> set[bytes]:
    return {path.split(b"/", 1)[0] for path in _tree(names.output, _LOCALES)}


def _is_host_cache(path: bytes) -> bool:
    """Whether glibc would only read the file at the place that it was made for."""
    return path in (b"gconv-modules.cache", b"locale-archive")


def _copied(names: Namespace, source: bytes, path: bytes, node: Node) -> Node | None:
    """The entry at ``path`` of a directory as it is elsewhere; links out of it become the file that they lead to."""
    match node:
        case Symlink(target) if target.startswith(b"/") or target.count(b"..") > path.count(b"/"):
            match names.resolve(source):
                case (_, File() as file):
                    return file
                case _:
                    return None
        case _:
            return node


def _certificates(names: Namespace, read: Callable[[Digest], bytes]) -> bytes:
    """All authorities of the root, one after the other. Debian makes the bundle when the package is installed only."""
    bundle = names.file(_BUNDLE)
    files = [bundle[1]] if bundle else _below(names, _CERTIFICATES)
    texts = [read(file.blob).strip() + b"\n" for file in (*files, *_below(names, _OWN_CERTIFICATES))]
    return b"".join(dict.fromkeys(texts))


def _below(names: Namespace, folder: bytes) -> list[File]:
    """The certificates in a directory and those below it, by their names."""
    found = dict(_tree(names.root, folder).files)
    if folder.startswith(PREFIX + b"/"):
        found.update(_tree(names.output, folder.removeprefix(PREFIX + b"/")).files)
    return [node for path, node in sorted(found.items()) if path.endswith(b".crt")]


def _modules(names: Namespace, folders: Iterable[bytes]) -> list[bytes]:
    """The names of glibc's modules in the system's directories of libraries, where the loader will find them."""
    return sorted({name for folder in folders for name in names.root.names(folder) if _MODULE.fullmatch(name)})
