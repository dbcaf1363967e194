"""What the builder itself runs: bubblewrap for builds, busybox for checks, and elfutils, all from pinned packages."""

from __future__ import annotations

from builder.recipe import System
from builder.steps import skeleton
from store.action import Action
from store.digest import Digest
from store.manifest import DIRECTORY, File, Manifest, Node, Symlink

SYSTEM = System(
    name="tools",
    version="12",
    about="bubblewrap and busybox, which the builder runs itself",
    packages=("bubblewrap", "busybox-static"),
    exclude=("debconf",),
)

# Only fetched for a recipe with ``debug``. eu-strip knows every CPU, and needs a fifth of what binutils for two would.
DEBUG = System(
    name="debug-tools",
    version="12",
    about="elfutils' strip, which splits debug information off, and a shell that calls it",
    packages=("busybox-static", "elfutils"),
    lock="debug.lock",
    exclude=("debconf", "libasm1", "libstdc++6"),
    links={"usr/bin/sh": "busybox"},
)

_BWRAP = b"usr/bin/bwrap"
_BUSYBOX = b"usr/bin/busybox"
_BARE_VERSION, _SELECT_VERSION = 1, 1

# The applets that a shell script takes for granted.
_APPLETS = (
    "[ ash awk base64 basename cat chmod cmp comm cp cut date dd df diff dirname du echo env expr false find fold "
    "grep gunzip gzip head hostname id install kill ln ls md5sum mkdir mkfifo mktemp mv nl od paste printenv printf "
    "ps pwd readlink realpath rm rmdir sed seq sh sha256sum sleep sort split stat sync tac tail tar tee test "
    "timeout touch tr true tty uname uniq unxz unzip wc wget which xargs xxd xz xzcat yes zcat "
)


def bare_action(tools: Digest) -> Action:
    """The key of the root that checks run on."""
    return Action("bare-root", (("tools", tools),), (_BARE_VERSION,))


def bare_root(tools: Manifest) -> Manifest:
    """A root with busybox and nothing else: its applets, the mount points, and the names of users."""
    busybox = _file(tools, _BUSYBOX)
    nodes: dict[bytes, Node] = dict(skeleton()[0].entries)
    # What a build's root has, a check's has not.
    for path in (b"build", b"build/src", b"out", b"pkg"):
        del nodes[path]
    nodes |= {b"bin": DIRECTORY, b"bin/busybox": busybox, b"artifact": DIRECTORY, b"home": DIRECTORY}
    nodes |= {b"bin/" + name.encode(): Symlink(b"busybox") for name in _APPLETS.split()}
    return Manifest(nodes.items())


def select_action(tools: Digest) -> Action:
    """The key of the tree that holds bubblewrap alone, as a build would have left it."""
    return Action("select", (("tools", tools),), (_SELECT_VERSION, _BWRAP))


def bwrap_output(tools: Manifest) -> Manifest:
    """That tree: what is then packed."""
    return Manifest([(b"bin", DIRECTORY), (b"bin/bwrap", _file(tools, _BWRAP))])


def _file(tools: Manifest, path: bytes) -> File:
    node = tools.get(path)
    assert isinstance(node, File), path
    return node
