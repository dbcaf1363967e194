"""From recipes to actions: what the key of every step is made of. Pure: digests in, actions out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from builder.lockfile import Lock
from builder.recipe import HOST, Local, Recipe, Source, System
from launcher import machines, needs
from launcher.machines import Machine
from launcher.settings import Settings
from store.action import Action
from store.codec import Value
from store.digest import Digest
from store.files import EPOCH
from store.manifest import DIRECTORY, File, Manifest, Node, Symlink

PREFIX = "/pkg"
BUILD = "/build"
SYSROOT = "/sysroot"
OUT = "/out"
START = f"{BUILD}/src"

# Raised when a step begins to mean something else, so that no older result is taken for it.
SYSTEM_VERSION, MERGE_VERSION, BUILD_VERSION, CHECK_VERSION, ADOPT_VERSION, SPLIT_VERSION, RUNTIME_VERSION = 1, 1, 1, 1, 1, 1, 1

USER, USER_ID = "builder", 1000

_SKELETON_FILES = {
    b"etc/passwd": f"root:x:0:0:root:/:/bin/sh\n{USER}:x:{USER_ID}:{USER_ID}:{USER}:{BUILD}:/bin/sh\n".encode(),
    b"etc/group": f"root:x:0:\n{USER}:x:{USER_ID}:\n".encode(),
    b"etc/hosts": b"127.0.0.1 localhost\n::1 localhost\n",
    b"etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files\n",
}
_SKELETON_FOLDERS = (
    b"proc",
    b"dev",
    b"tmp",
    b"etc",
    PREFIX[1:].encode(),
    BUILD[1:].encode(),
    OUT[1:].encode(),
    START[1:].encode(),
)

_MERGED_USR = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True, slots=True)
class Part:
    """A tree that is laid at ``at`` ("" is the top) in an input root, under a label for people."""

    label: str
    digest: Digest
    at: str = ""


def heading(item: Recipe | System) -> str:
    """Name and version, as messages and labels have them."""
    return f"{item.name} {item.version}"


def skeleton() -> tuple[Manifest, Mapping[Digest, bytes]]:
    """What every input root has: mount points, a user and its names. The tree, and its blobs by digest."""
    nodes: list[tuple[bytes, Node]] = [(path, DIRECTORY) for path in _SKELETON_FOLDERS]
    blobs = {}
    for path, data in _SKELETON_FILES.items():
        digest = Digest.of(data)
        blobs[digest] = data
        nodes.append((path, File(digest, len(data), False)))
    return Manifest(nodes), blobs


def _pairs(values: Mapping[str, str]) -> list[Value]:
    return [[key, values[key]] for key in sorted(values)]


def system_action(system: System, lock: Lock) -> Action:
    """The key of a whole system root: what the lock pins, and what is made of it. It reads no tree, so it is known at once."""
    packages: list[Value] = [[p.name, p.version, p.architecture, bytes.fromhex(p.sha256)] for p in lock.packages]
    return Action("system", (), (SYSTEM_VERSION, packages, _pairs(system.links), _pairs(system.wins)))


def root_action(system: System, parts: Iterable[tuple[str, Digest]]) -> Action:
    """The same root as a function of its packages' trees: this is where its origins are read from."""
    return Action("root", tuple(parts), (SYSTEM_VERSION, _pairs(system.links), _pairs(system.wins)))


def system_links(system: System) -> Manifest:
    """What no package of a system brings: the merged-/usr links, and the recipe's own."""
    nodes: dict[bytes, Node] = {name.encode(): Symlink(f"usr/{name}".encode()) for name in _MERGED_USR}
    nodes |= {f"usr/{name}".encode(): DIRECTORY for name in _MERGED_USR}
    for path, target in system.links.items():
        nodes[path.encode()] = Symlink(target.encode())
    return Manifest.with_parents(nodes.items())


def merge_action(parts: Iterable[Part], wins: Mapping[str, str]) -> Action:
    """The key of an input root."""
    parts = tuple(parts)
    inputs = tuple((part.label, part.digest) for part in parts)
    return Action("merge", inputs, (MERGE_VERSION, [part.at for part in parts], _pairs(wins)))


def runs_on(recipe: Recipe) -> str:
    """The platform of the machine that builds ``recipe``: the builder's own, if the recipe has a system for that."""
    return HOST if any(isinstance(item, System) and item.platform == HOST for item in recipe.inputs) else recipe.platform


def place(recipe: Recipe, item: Recipe | System) -> str:
    """Where an input lies in the input root: a system that the build does not run on is what it builds for."""
    if isinstance(item, Recipe):
        return PREFIX[1:]
    return "" if item.platform == runs_on(recipe) else SYSROOT[1:]


def target_root(recipe: Recipe, root: Manifest) -> Manifest:
    """What of the input root the programs of ``recipe`` are for: their interpreter and libraries are looked for there."""
    if runs_on(recipe) == recipe.platform:
        return root
    sysroot, prefix = SYSROOT[1:].encode(), PREFIX[1:].encode()
    nodes = dict(root.below(sysroot).entries) if sysroot in root else {}
    nodes |= {path: node for path, node in root.entries if path == prefix or path.startswith(prefix + b"/")}
    return Manifest.with_parents(nodes.items())


def machine(recipe: Recipe) -> Machine:
    """The kind of CPU that the programs of ``recipe`` are for."""
    found = machines.named(recipe.platform.partition("-")[0])
    assert found is not None, recipe.platform
    return found


def source_place(source: Source | Local) -> str:
    """Where a source lies in the input root."""
    return f"{BUILD[1:]}/{source.into}"


def environment(recipe: Recipe) -> dict[str, str]:
    """The variables of a build, all of them but JOBS, which has no part in the key."""
    variables = {
        "PATH": f"{PREFIX}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "PREFIX": PREFIX,
        "OUT": OUT,
        "HOME": BUILD,
        "USER": USER,
        "TMPDIR": "/tmp",  # noqa: S108
        "TERM": "dumb",
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": str(EPOCH),
    }
    if any(isinstance(item, Recipe) for item in recipe.inputs):
        variables |= {
            "LD_LIBRARY_PATH": f"{PREFIX}/lib",
            "LIBRARY_PATH": f"{PREFIX}/lib",
            "CPATH": f"{PREFIX}/include",
            "PKG_CONFIG_PATH": f"{PREFIX}/lib/pkgconfig:{PREFIX}/share/pkgconfig",
            "CMAKE_PREFIX_PATH": PREFIX,
            "ACLOCAL_PATH": f"{PREFIX}/share/aclocal",
        }
    return variables | dict(recipe.variables)


def command(script: str) -> list[str]:
    """How a script is started."""
    return ["/bin/sh", "-eu", "-c", script]


def build_action(recipe: Recipe, input_root: Digest) -> Action:
    """The key of a build: everything that it can see."""
    settings: tuple[Value, ...] = (
        BUILD_VERSION,
        runs_on(recipe),
        list[Value](command(recipe.script)),
        _pairs(environment(recipe)),
        [f"{OUT}{PREFIX}"],
    )
    return Action("build", (("input root", input_root),), settings)


def split_actions(recipe: Recipe, output: Digest, tools: Digest) -> tuple[Action, Action]:
    """The keys of an output without its debug information, and of that information. Both come of one run."""
    inputs = (("output", output), ("tools", tools))
    settings: tuple[Value, ...] = (SPLIT_VERSION, recipe.platform, list[Value](sorted(set(recipe.keep))))
    return Action("strip", inputs, settings), Action("debug", inputs, settings)


def debug_name(item: Recipe | System) -> str:
    """What the artifact with the debug information of ``item`` is called."""
    return f"{item.name}-debug"


def pack_action(
    output: Digest, input_root: Digest, settings: Settings, bootstrap: Digest, came: Mapping[bytes, bytes] | None = None
) -> Action:
    """The key of an artifact: a changed bootstrap packs again, and builds nothing again.

    ``came`` says of what was adopted where in the input root it lay.
    """
    more: tuple[Value, ...] = (_rows(came),) if came else ()
    return Action("pack", (("output", output), ("input root", input_root)), (settings.encode(), bootstrap.raw, *more))


def machine_action(seen: Digest) -> Action:
    """The key of what adopting saw of a machine, which is that tree itself."""
    return Action("machine", (), (ADOPT_VERSION, seen.raw))


def adopt_action(label: str, seen: Digest, came: Mapping[bytes, bytes], links: Mapping[bytes, bytes]) -> Action:
    """The key of what was adopted of a machine: which of its files lie where, and the links among them."""
    return Action("adopt", ((label, seen),), (ADOPT_VERSION, _rows(came), _rows(links)))


def _rows(values: Mapping[bytes, bytes]) -> list[Value]:
    return [[key, values[key]] for key in sorted(values)]


def runtime_action(artifact: Digest) -> Action:
    """The key of what running needs of an artifact. What its recipe says of that is in the artifact itself.

    ``store.graph`` knows this kind of step by its name.
    """
    patterns = (*needs.COMPILING, *needs.READING, *needs.ANSWERING)
    return Action("runtime", (("artifact", artifact),), (RUNTIME_VERSION, list[Value](patterns)))


def check_action(recipe: Recipe, artifact: Digest, bare_root: Digest) -> Action:
    """The key of a check: which artifact stood which test on which root."""
    inputs = (("artifact", artifact), ("bare root", bare_root))
    return Action("check", inputs, (CHECK_VERSION, recipe.platform, list[Value](command(recipe.check))))
