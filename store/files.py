"""The few file-system calls that the standard library does not give, or gives without what a store needs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator

from store.errors import Error

# 1980-01-01, the oldest date that a zip file can hold: every file of a store has it, so that time never tells two
# builds apart, and `make` sees no file as newer than another.
EPOCH = 315_532_800


# What to do about a system call that failed, where the system's own words do not say it.
_HINTS = {
    errno.EACCES: "It belongs to another user, or its mode forbids it. Its owner can do this.",
    errno.EPERM: "It belongs to another user, or its file system forbids it. Its owner can do this.",
    errno.EROFS: "It is on a disk that nothing can be written to. --store or BUILDER_STORE names a store elsewhere.",
    errno.EIO: "The disk cannot be read or written: the kernel's log says more. `builder check` finds what was damaged.",
    errno.EMFILE: "This process may open too few files: `ulimit -n` says how many, and may allow more.",
    errno.ENFILE: "All programs of this machine together have too many files open.",
    errno.EFBIG: "Files may not be so large here: `ulimit -f` says how large, and may allow more.",
}


class NoSpace(Error):
    """The disk that holds the store is full."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"no space left on the disk that holds {path}",
            hint="Free some space, with `builder gc` for example, and run the same command again: nothing was damaged.",
        )


def is_full(error: OSError) -> bool:
    """Whether a system call failed because the disk, or the user's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def explain(error: OSError, what: str) -> Error:
    """The error to show a person for a system call that failed on ``what``, a path; "" if nobody knows on what."""
    if is_full(error) and what:
        return NoSpace(what)
    what = what or "the system refused a call"
    return Error(f"{what}: {os.strerror(error.errno or 0)}", hint=_HINTS.get(error.errno or 0, ""))


def sync_file_system(fd: int) -> None:
    """Put everything that was written to the file system of ``fd`` on its disk: syncfs(2)."""
    import ctypes  # 10 ms to import, and a run that has nothing to do never syncs

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def sync_directory(path: str | bytes | os.PathLike[str]) -> None:
    """Put the names in a directory on its disk: fsync(2). For a few names, where ``sync_file_system`` would be too much."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_directory(path: str | bytes | os.PathLike[str], *, at: int | None = None) -> int:
    """A descriptor of the directory ``path``, which may not itself be a symlink."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)


@contextlib.contextmanager
def directory(path: str | bytes | os.PathLike[str], *, at: int | None = None) -> Iterator[int]:
    """The same, closed at the end of a with block."""
    fd = open_directory(path, at=at)
    try:
        yield fd
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte: write(2) may take fewer than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def remove_tree(name: str | bytes, *, at: int) -> None:
    """Remove the tree ``name`` in the directory ``at``, read-only directories and all. No symlink is followed."""
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=at)
            return
    except FileNotFoundError:
        return
    with contextlib.suppress(FileNotFoundError):
        _empty(name, at)
        os.rmdir(name, dir_fd=at)


def _empty(name: str | bytes, at: int) -> None:
    try:
        fd = open_directory(name, at=at)
    except PermissionError:
        # A build may leave a directory that its own owner cannot list.
        os.chmod(name, 0o700, dir_fd=at)
        fd = open_directory(name, at=at)
    try:
        mode = os.fstat(fd).st_mode
        if mode & 0o700 != 0o700:
            os.fchmod(fd, 0o700)
        for child in os.listdir(fd):
            try:
                os.unlink(child, dir_fd=fd)
            except (IsADirectoryError, PermissionError):
                _empty(child, fd)
                os.rmdir(child, dir_fd=fd)
    finally:
        os.close(fd)


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Take flock(2) on ``fd`` without waiting. False: somebody else holds it."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_link_limit(error: OSError) -> bool:
    """Whether a hard link could not be made for a reason that a copy gets around."""
    return error.errno in (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.ENOTSUP)
