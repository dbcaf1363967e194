"""Libraries that only the host has: where a program may look for them, behind its artifact's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from launcher.names import parent

# The libraries of graphics drivers where they come from beside the system (NixOS, WSL, containers), and then what loaders
# have compiled in or configured on the usual distributions.
_DRIVERS = (b"/run/opengl-driver/lib", b"/usr/lib/wsl/lib", b"/usr/local/nvidia/lib64")
_USUAL = (b"/usr/local/lib", b"/usr/lib/%s", b"/lib/%s", b"/usr/lib64", b"/lib64", b"/usr/lib", b"/lib")
MAX_CONF = 256


def directories(triplet: str) -> tuple[bytes, ...]:
    """The directories in which hosts have libraries for programs of a launch directory, such as ``x86_64-linux-gnu``."""
    return (*_DRIVERS, *(path.replace(b"%s", triplet.encode()) for path in _USUAL))


def search_path(
    read: Callable[[bytes], bytes | None], names: Callable[[bytes], list[bytes]], triplet: str
) -> tuple[bytes, ...]:
    """All the directories in which one host has libraries: those that it is configured for first."""
    return tuple(dict.fromkeys((*configured(read, names), *directories(triplet))))


def configured(
    read: Callable[[bytes], bytes | None],
    names: Callable[[bytes], list[bytes]],
    path: bytes = b"/etc/ld.so.conf",
    depth: int = 0,
) -> Iterator[bytes]:
    """The directories that the loader's configuration (ldconfig(8)) names, in its order.

    ``read`` gives the text of a file, or None where there is none; ``names`` the paths that a pattern matches, sorted.
    """
    text = read(path)
    if text is None or depth > 8:
        return
    for line in text.splitlines()[:MAX_CONF]:
        match line.partition(b"#")[0].split():
            case [b"include", *patterns]:
                for pattern in patterns:
                    whole = pattern if pattern.startswith(b"/") else parent(path) + b"/" + pattern
                    for name in names(whole):
                        yield from configured(read, names, name, depth + 1)
            case [directory, *_] if directory.startswith(b"/"):
                yield directory
