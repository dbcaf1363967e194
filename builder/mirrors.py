"""Where ``mirror://debian/…``, ``mirror://pypi/…`` and ``mirror://npm/…`` are: the user's configuration, else the machine's.

Reads files only, below a given root, and environment variables from a given mapping. No address of a registry is known
here: a machine that can install packages knows where from.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from builder.deb822 import BadParagraph, paragraphs
from store.errors import Error

SCHEME = "mirror://"
KINDS = ("debian", "pypi", "npm")
MAX_FILE = 1 << 20  # bytes of a configuration file
MAX_FILES = 200  # in one directory

_EXAMPLES = {
    "debian": "https://mirror.example/debian",
    "pypi": "https://mirror.example/simple",
    "npm": "https://mirror.example/npm",
}
_TOOLS = {"debian": "apt", "pypi": "pip", "npm": "npm"}

# Suites of Debian's own archive. Others have "main" as well, with other packages in it.
_CODENAMES = "buster|bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable|experimental"
_SUITE = re.compile(rf"(?:{_CODENAMES})(-updates|-proposed-updates|-backports|-backports-sloppy|-security|/updates)?/?\Z")


class BadConfiguration(Error):
    """The user's configuration file ``path`` is wrong."""

    def __init__(self, path: Path, reason: str) -> None:
        example = '[mirrors]\ndebian = ["https://mirror.example/debian"]'
        super().__init__(f"{path}: {reason}", hint=f"As an example:\n{example}")
        self.path = path


class NoMirror(Error):
    """Nobody says where ``kind`` is."""

    def __init__(self, kind: str, configuration: Path) -> None:
        super().__init__(
            f"no place is known for {SCHEME}{kind}/",
            hint=f"Neither {configuration} nor this machine's {_TOOLS[kind]} names one. Add to that file:\n"
            f'[mirrors]\n{kind} = ["{_EXAMPLES[kind]}"]',
        )
        self.kind = kind


class BadPlace(Error):
    """An address that cannot be used."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{show(place)}: {reason}", hint="Known are http, https and file addresses, paths, and mirror://.")


@dataclass(frozen=True, slots=True)
class Place:
    """An address to fetch from, and the address of the proxy to go through, or "" for none."""

    url: str
    proxy: str = ""


def show(url: str) -> str:
    """An address for people: without the password that it may hold, and with no control characters."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if "@" in parts.netloc:
            url = urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in url)


@dataclass(frozen=True, slots=True)
class Mirrors:
    """The places of each kind, in the order to try them, without a slash at the end; proxies by kind of address.

    ``apt_proxies`` are those that apt uses, for Debian's places only. ``configuration`` is the user's file, for hints.
    """

    bases: Mapping[str, tuple[str, ...]]
    configuration: Path
    proxies: Mapping[str, str] = field(default_factory=dict)
    apt_proxies: Mapping[str, str] = field(default_factory=dict)
    direct: tuple[str, ...] = ()

    def places(self, address: str) -> tuple[Place, ...]:
        """Where to look for ``address``, in order. Raises NoMirror or BadPlace."""
        if not address.startswith(SCHEME):
            return (Place(address, self._proxy(address, self.proxies)),)
        kind, _, path = address.removeprefix(SCHEME).partition("/")
        if kind not in KINDS:
            raise BadPlace(address, f"{kind!r} is no kind of mirror: there are {', '.join(KINDS)}")
        if not path or any(part in ("", ".", "..") for part in path.split("/")):
            raise BadPlace(address, "what follows is no plain path")
        bases = self.bases.get(kind, ())
        if not bases:
            raise NoMirror(kind, self.configuration)
        proxies = {**self.proxies, **self.apt_proxies} if kind == "debian" else self.proxies
        return tuple(Place(f"{base}/{path}", self._proxy(base, proxies)) for base in bases)

    def _proxy(self, url: str, proxies: Mapping[str, str]) -> str:
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError:
            return ""
        for name in self.direct:
            if name == "*" or host == name.lstrip(".") or host.endswith("." + name.lstrip(".")):
                return ""
        proxy = proxies.get(f"{parts.scheme}::{host}", proxies.get(parts.scheme, ""))
        return "" if proxy == "DIRECT" else proxy


def find(configuration: Path, environment: Mapping[str, str], *, root: Path = Path("/")) -> Mirrors:
    """The mirrors of the user's file ``configuration``, and of the machine where it is silent. Raises BadConfiguration.

    ``environment`` gives HOME, http_proxy, https_proxy, no_proxy and the variables of pip and npm; ``root`` is where the
    machine's files are.
    """
    chosen, proxies = _user(configuration)
    machine: dict[str, Callable[[], Iterator[str]]] = {
        "debian": lambda: _apt(root),
        "pypi": lambda: _pip(environment, root),
        "npm": lambda: _npm(environment, root),
    }
    bases = {kind: _unique(chosen[kind]) if kind in chosen else _unique(machine[kind]()) for kind in KINDS}
    lower = {name.lower(): value for name, value in environment.items()}
    for scheme in ("http", "https"):
        if value := lower.get(f"{scheme}_proxy"):
            proxies.setdefault(scheme, value)
    direct = tuple(name.strip() for name in lower.get("no_proxy", "").split(",") if name.strip())
    return Mirrors(bases, configuration, proxies, {} if "debian" in chosen else _apt_proxies(root), direct)


def _unique(bases: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(base.rstrip("/") for base in bases))


def _read(path: Path) -> str:
    """A configuration file, or nothing: what another program's configuration has wrong is not our matter."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_FILE).decode("utf-8", "replace")
    except OSError:
        return ""


def _folder(path: Path, ending: str) -> list[Path]:
    try:
        names = sorted(name for name in os.listdir(path) if name.endswith(ending))
    except OSError:
        return []
    return [path / name for name in names[:MAX_FILES]]


# -- the user's file --


def read_table(path: Path) -> dict[str, Any]:
    """The user's configuration file, empty if it is not there. Raises BadConfiguration."""
    try:
        with open(path, "rb") as file:
            return tomllib.loads(file.read(MAX_FILE).decode())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadConfiguration(path, str(error)) from None


def _user(path: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    table = read_table(path)
    mirrors, proxies = table.get("mirrors", {}), table.get("proxies", {})
    if not isinstance(mirrors, dict) or not isinstance(proxies, dict):
        raise BadConfiguration(path, "mirrors and proxies are tables")
    chosen: dict[str, tuple[str, ...]] = {}
    for kind, value in mirrors.items():
        if kind not in KINDS:
            raise BadConfiguration(path, f"{kind!r} is no kind of mirror: there are {', '.join(KINDS)}")
        bases = [value] if isinstance(value, str) else value
        if not isinstance(bases, list) or not bases or not all(isinstance(base, str) and _is_base(base) for base in bases):
            raise BadConfiguration(path, f"mirrors.{kind} is not a list of http, https or file addresses")
        chosen[kind] = tuple(bases)
    for scheme, value in proxies.items():
        if scheme not in ("http", "https") or not isinstance(value, str):
            raise BadConfiguration(path, "proxies maps http and https to an address")
    return chosen, dict(proxies)


def _is_base(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return (parts.scheme in ("http", "https") and bool(parts.netloc)) or (parts.scheme == "file" and not parts.netloc)


# -- apt: sources.list(5), apt.conf(5) --


def _apt(root: Path) -> Iterator[str]:
    found: list[tuple[int, str]] = []
    lists = [root / "etc/apt/sources.list", *_folder(root / "etc/apt/sources.list.d", ".list")]
    for path in lists:
        found += (pair for line in _read(path).splitlines() for pair in _apt_line(line))
    for path in _folder(root / "etc/apt/sources.list.d", ".sources"):
        found += _apt_stanzas(_read(path))
    # The suite itself before its updates: the same address mostly, but security fixes have their own.
    yield from (base for _, base in sorted(found, key=lambda pair: pair[0]))


def _apt_line(line: str) -> Iterator[tuple[int, str]]:
    match = re.match(r"deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]*)", line.strip())
    if match:
        base, suite, components = match.groups()
        yield from _apt_entry([base], [suite], components.split())


def _apt_stanzas(text: str) -> Iterator[tuple[int, str]]:
    # Comments may stand between the lines of a value.
    kept = "".join(f"{line}\n" for line in text.splitlines() if not line.startswith("#"))
    try:
        for stanza in paragraphs([re.sub(r"\n[ \t]*\n", "\n\n", kept).encode()]):
            fields = {name.lower(): value for name, value in stanza.items()}
            if fields.get("enabled", "yes").lower() in ("no", "false", "0", "off", "without", "disable"):
                continue
            yield from _apt_entry(*(fields.get(name, "").split() for name in ("uris", "suites", "components")))
    except BadParagraph:
        return


def _apt_entry(bases: Iterable[str], suites: Iterable[str], components: Iterable[str]) -> Iterator[tuple[int, str]]:
    if "main" not in components:
        return
    ranks = [bool(match[1]) + ("security" in suite) for suite in suites if (match := _SUITE.match(suite))]
    if ranks:
        yield from ((min(ranks), base) for base in bases if _is_base(base))


_CONFIGURATION = re.compile(
    r"""//[^\n]*|/\*.*?\*/|\#[^\n]*|(?P<open>\{)|(?P<close>\})|(?P<end>;)|"(?P<text>[^"\n]*)"|(?P<word>[^\s{};"]+)""", re.DOTALL
)


def _apt_proxies(root: Path) -> dict[str, str]:
    proxies: dict[str, str] = {}
    for path in [root / "etc/apt/apt.conf", *_folder(root / "etc/apt/apt.conf.d", "")]:
        for name, value in _apt_settings(_read(path)):
            parts = name.lower().split("::")
            if parts[0] == "acquire" and len(parts) in (3, 4) and parts[2] == "proxy" and parts[1] in ("http", "https"):
                proxies["::".join([parts[1], *parts[3:]])] = value
    return proxies


def _apt_settings(text: str) -> Iterator[tuple[str, str]]:
    """Every ``name "value";`` of an apt.conf(5), with the names of the blocks around it in front."""
    blocks: list[str] = []
    words: list[str] = []
    for match in _CONFIGURATION.finditer(text):
        match match.lastgroup:
            case "open":
                blocks.append(words[0] if words else "")
                words = []
            case "close":
                blocks = blocks[:-1]
                words = []
            case "end":
                if len(words) == 2:
                    yield "::".join([*blocks, words[0]]), words[1]
                words = []
            case "text" | "word" as kind:
                words.append(match[kind])


# -- pip and npm --


def _pip(environment: Mapping[str, str], root: Path) -> Iterator[str]:
    named = []
    if file := environment.get("PIP_CONFIG_FILE"):
        named.append(Path(file))
    if home := environment.get("HOME"):
        settings = Path(environment.get("XDG_CONFIG_HOME") or Path(home, ".config"))
        named += [settings / "pip/pip.conf", Path(home, ".pip/pip.conf")]
    named += [root / "etc/pip.conf", root / "etc/xdg/pip/pip.conf"]
    found = [environment.get("PIP_INDEX_URL", ""), *environment.get("PIP_EXTRA_INDEX_URL", "").split()]
    for path in named:
        parser = configparser.RawConfigParser(strict=False)
        with contextlib.suppress(configparser.Error):
            parser.read_string(_read(path))
            for key in ("index-url", "extra-index-url"):
                found += parser.get("global", key, fallback="").split()
    # Files lie beside the index, or below it.
    for index in found:
        base = index.rstrip("/")
        if _is_base(base):
            if base.endswith("/simple"):
                yield base.removesuffix("/simple")
            yield base


def _npm(environment: Mapping[str, str], root: Path) -> Iterator[str]:
    home = environment.get("HOME")
    lower = {name.lower(): value for name, value in environment.items()}
    found = [lower.get("npm_config_registry", "")]
    for path in [*([Path(home, ".npmrc")] if home else []), root / "etc/npmrc", root / "usr/etc/npmrc"]:
        found += re.findall(r"^\s*registry\s*=\s*(\S+)\s*$", _read(path), re.MULTILINE)
    yield from (base for base in found if _is_base(base))
