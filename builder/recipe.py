"""What a person writes in a recipe file, as plain values that refuse what cannot be right."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher.needs import refused
from launcher.settings import DATA
from store.errors import Error

# With what Debian calls them.
PLATFORMS = {"x86_64-linux": "amd64", "aarch64-linux": "arm64"}
# That of the machines that the builder runs on, and of what it runs itself (builder/tools.lock).
HOST = "x86_64-linux"

_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]*\Z")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.~_-]*\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Position:
    """A line of a file, for messages. It is no part of any key."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class BadRecipe(Error):
    """A mistake in a recipe. ``position`` is where it is, or None when no line can be named."""

    def __init__(self, reason: str, position: Position | None = None, *, hint: str = "") -> None:
        super().__init__(f"{position}: {reason}" if position else reason, hint=hint)
        self.position = position


def _caller() -> Position:
    """The line outside of this module that is making a value: dataclasses make ``__init__`` in a file "<string>"."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename in (__file__, "<string>", dataclasses.__file__):
        frame = frame.f_back
    return Position(frame.f_code.co_filename, frame.f_lineno)


def _require(good: bool, reason: str, hint: str = "") -> None:
    if not good:
        raise BadRecipe(reason, _caller(), hint=hint)


def _is_relative(path: str) -> bool:
    parts = path.split("/")
    return bool(path) and "\0" not in path and not any(part in ("", ".", "..") for part in parts)


def _check_texts(what: str, values: object) -> None:
    good = type(values) is tuple and all(isinstance(value, str) and value for value in values)
    _require(good, f"{what} takes a tuple of texts, and got {values!r}", "A tuple of one ends with a comma: (x,).")


@dataclass(frozen=True, slots=True, init=False)
class Source:
    """A file that is fetched: what it is, is its ``sha256``; ``urls`` are only places to look, tried in order.

    Archives (tar with gzip, bzip2, xz or zstd) are laid into the directory ``into`` of the build folder without their
    first ``strip`` name components; with ``unpack=False`` the file itself is, under the last part of the first URL. The
    script starts in ``src``. ``mirror://debian/...`` is looked up in the user's configuration, and then in the machine's.
    """

    urls: tuple[str, ...]
    sha256: str
    into: str
    strip: int
    unpack: bool

    def __init__(self, *urls: str, sha256: str = "", into: str = "src", strip: int = 1, unpack: bool = True) -> None:
        for name, value in (("urls", urls), ("sha256", sha256), ("into", into), ("strip", strip), ("unpack", unpack)):
            object.__setattr__(self, name, value)
        _require(bool(urls) and all(isinstance(u, str) and "/" in u for u in urls), "a Source needs at least one URL")
        _require(bool(sha256), f"the Source {urls[0]} has no sha256", "Add sha256=...: `sha256sum FILE` prints it.")
        _require(isinstance(sha256, str) and bool(_SHA256.match(sha256)), f"sha256 is not 64 lowercase hex digits: {sha256!r}")
        _require(isinstance(into, str) and _is_relative(into), f"into is not a plain relative path: {into!r}")
        _require(type(strip) is int and 0 <= strip <= 9, f"strip is not a small number: {strip!r}")

    @property
    def name(self) -> str:
        """The file's name, from the first URL."""
        return self.urls[0].rsplit("/", 1)[1]


@dataclass(frozen=True, slots=True)
class Local:
    """A file that lies beside the recipe, such as a patch: laid into the directory ``into`` of the build folder."""

    path: str
    into: str = "src"
    position: Position = field(default_factory=_caller, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """What messages and ``wins`` call it: its path."""
        return self.path

    def __post_init__(self) -> None:
        _require(isinstance(self.path, str) and _is_relative(self.path), f"not a plain relative path: {self.path!r}")
        _require(isinstance(self.into, str) and _is_relative(self.into), f"into is not a plain relative path: {self.into!r}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a build may take: seconds in all, seconds without a line of output, and bytes of log."""

    seconds: int = 4 * 3600
    silence: int = 3600
    log: int = 64 << 20

    def __post_init__(self) -> None:
        for value in (self.seconds, self.silence, self.log):
            _require(type(value) is int and value > 0, f"a limit is a whole number above 0, and got {value!r}")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class System:
    """A system root, laid at ``/``: pinned packages of a Debian suite, and links that their install scripts would make.

    ``packages`` are names that ``builder lock`` resolves, with all that they need but ``exclude``, into the lock file
    ``lock`` beside the recipe. ``links`` maps paths such as ``usr/bin/cc`` to the text of a symlink,
    ``wins`` a path that several packages hold to the name of the package that is right.
    """

    name: str
    version: str
    about: str
    packages: tuple[str, ...]
    lock: str = ""
    suite: str = "bookworm"
    exclude: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    wins: Mapping[str, str] = field(default_factory=dict)
    platform: str = "x86_64-linux"
    position: Position = field(default_factory=_caller, init=False)

    def __post_init__(self) -> None:
        _check_heading(self.name, self.version, self.about, self.platform)
        _check_texts("packages", self.packages)
        _check_texts("exclude", self.exclude)
        _require(self.lock == "" or _is_relative(self.lock), f"lock is not a plain relative path: {self.lock!r}")
        _check_mapping("links", self.links)
        _check_mapping("wins", self.wins)
        _require(all(_is_relative(path) for path in self.links), "links maps paths without a leading slash to targets")
        if not self.lock:
            object.__setattr__(self, "lock", f"{self.name}.lock")

    def __repr__(self) -> str:
        return f"<System {self.name} {self.version}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Recipe:
    """How one artifact is made from its sources.

    ``script`` is run by the input root's ``/bin/sh -eu`` in ``src``, and installs into ``$OUT$PREFIX`` (``make install
    DESTDIR="$OUT"``). ``inputs`` are systems, laid at ``/``, and recipes, whose outputs are laid at ``$PREFIX`` together with
    those of their own inputs. ``check`` is run by busybox's ``sh`` on a root that holds nothing but busybox and the artifact.
    Both lose the indentation that all of their lines share.

    ``variables`` are set for the script. ``environment`` maps a program's path to variables that its launcher sets where
    the user has not; ``{root}`` in a value is the artifact's own directory. ``dlopen`` names libraries that programs open by
    themselves, ``missing`` those that may stay unresolved, ``host_interpreters`` what ``#!`` lines may take from the
    host, ``keep`` files and directories in which packing rewrites nothing. ``data`` are words for what programs read at run
    time, taken from the input root (launcher/settings.py has the list); ``host_libraries`` lets programs open libraries that
    only the host has. ``debug`` splits debug information off, into an artifact of its own. ``development`` are patterns of
    paths that only building against the artifact needs, and that exports and installs leave out with what is left out of all
    (launcher/needs.py has the list); ``runtime`` are patterns of what running needs although they would be left out. ``wins``
    maps a path that several inputs hold to the name of the input or source that is right.

    Neither ``about``, ``check``, ``limits`` nor the URLs of sources have a part in what is built.
    """

    name: str
    version: str
    about: str
    script: str
    sources: tuple[Source | Local, ...] = ()
    inputs: tuple[Recipe | System, ...] = ()
    check: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    dlopen: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    host_interpreters: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    host_libraries: bool = False
    debug: bool = False
    development: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()
    wins: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    platform: str = "x86_64-linux"
    position: Position = field(default_factory=_caller, init=False)

    def __post_init__(self) -> None:
        _check_heading(self.name, self.version, self.about, self.platform)
        _require(isinstance(self.script, str) and bool(self.script.strip()), f"the script of {self.name} is empty or no text")
        _require(isinstance(self.check, str), "check is not a text")
        _check_values("sources", self.sources, (Source, Local))
        _check_values("inputs", self.inputs, (Recipe, System))
        _require(isinstance(self.limits, Limits), "limits takes Limits(...)")
        for what in ("dlopen", "missing", "host_interpreters", "keep", "data", "development", "runtime"):
            _check_texts(what, getattr(self, what))
        for what in ("development", "runtime"):
            for pattern in getattr(self, what):
                reason = refused(pattern)
                _require(not reason, f"{what}: {pattern!r} cannot be a pattern: {reason}", "As in share/doc/*/examples.")
        for word in self.data:
            _require(word in DATA, f"there is no data called {word!r}", f"Known: {', '.join(DATA)}.")
        for what in ("host_libraries", "debug"):
            value = getattr(self, what)
            _require(type(value) is bool, f"{what} is True or False, and got {value!r}")
        _check_mapping("wins", self.wins)
        _check_variables("variables", self.variables)
        _require(isinstance(self.environment, Mapping), "environment maps a program's path to its variables")
        for program, variables in self.environment.items():
            _require(isinstance(program, str) and _is_relative(program), f"environment: not a relative path: {program!r}")
            _check_variables(f"environment of {program}", variables)
        other = next((item for item in self.inputs if isinstance(item, Recipe) and item.platform != self.platform), None)
        _require(
            other is None, f"{self.name} is for {self.platform}, and its input {other and other.name} for another platform"
        )
        object.__setattr__(self, "script", unindented(self.script))
        object.__setattr__(self, "check", unindented(self.check))
        seen: dict[str, Recipe | System] = {}
        for item in self.inputs:
            known = seen.setdefault(item.name, item)
            _require(known is item, f"two inputs have the name {item.name}: {known.position} and {item.position}")

    def __repr__(self) -> str:
        return f"<Recipe {self.name} {self.version}>"


def unindented(script: str) -> str:
    """The script without the indentation that all of its lines share, so that the end of a here-document is found."""
    lines = [line if line.strip() else "" for line in script.split("\n")]
    margin = min((len(line) - len(line.lstrip(" ")) for line in lines if line), default=0)
    return "\n".join(line[margin:] for line in lines).strip("\n") + "\n" * bool(script.strip())


Buildable = Recipe | System


def _check_heading(name: object, version: object, about: object, platform: object) -> None:
    _require(
        isinstance(name, str) and bool(_NAME.match(name)),
        f"not a name: {name!r}",
        "A name is made of lowercase letters, digits and + . _ -, and starts with a letter or digit.",
    )
    _require(
        isinstance(version, str) and bool(_VERSION.match(version)), f"not a version: {version!r}", 'As in version="1.2.3".'
    )
    _require(isinstance(about, str) and bool(about), f"{name} has no about", "Say in a line what it is, its licence and home.")
    _require(platform in PLATFORMS, f"unknown platform {platform!r}", f"Known: {', '.join(PLATFORMS)}.")


def _check_values(what: str, values: object, kinds: tuple[type, ...]) -> None:
    names = " or ".join(kind.__name__ for kind in kinds)
    hint = "A tuple of one ends with a comma: (x,). An input is a module's recipe: toolchain.recipe, not toolchain."
    good = type(values) is tuple and all(isinstance(value, kinds) for value in values)
    _require(good, f"{what} takes a tuple of {names}, and got {values!r}", hint)


def _check_mapping(what: str, values: object) -> None:
    good = isinstance(values, Mapping) and all(isinstance(k, str) and isinstance(v, str) for k, v in values.items())
    _require(good, f"{what} maps texts to texts, and got {values!r}")


def _check_variables(what: str, values: Mapping[str, str]) -> None:
    _check_mapping(what, values)
    for name, value in values.items():
        _require(bool(_VARIABLE.match(name)) and "\0" not in value, f"{what}: {name!r} cannot be an environment variable")


def closure(top: tuple[Buildable, ...]) -> list[Buildable]:
    """Everything that ``top`` is built from, each once, inputs first. Raises BadRecipe for two things of one name."""
    found: dict[str, Buildable] = {}

    def visit(item: Buildable) -> None:
        if found.get(item.name) is item:
            return
        if isinstance(item, Recipe):
            for inner in item.inputs:
                visit(inner)
        # One of its own inputs may have its name.
        known = found.setdefault(item.name, item)
        if known is not item:
            raise BadRecipe(f"{item.name} is the name of two recipes: here, and at {known.position}", item.position)

    for item in top:
        visit(item)
    return list(found.values())
