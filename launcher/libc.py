"""glibc's libc.so.6: a copy that does not know the host's modules, and what it opens by itself.

Its iconv modules are libraries, and the directory of them that is compiled in is the host's: without this, a conversion
would load what another glibc's modules are into a process of this one.
"""

from __future__ import annotations

import re

NAME = b"libc.so.6"
# Opened to unwind a stack: by pthread_exit, pthread_cancel and backtrace. Without it the first two abort.
UNWINDER = b"libgcc_s.so.1"
# The directory of iconv's modules, and the cache of what is in it.
_MODULES = re.compile(rb"(?<![\w./+-])/[\w./+-]*/gconv(/gconv-modules\.cache)?(?=\0)")


def without_host(data: bytes) -> bytes:
    """The library ``data`` with the names of the host's modules made void; everything stays in place.

    The directory becomes one of the same length whose name is control characters, for glibc would take an empty or relative
    one to be in the working directory.
    """
    return _MODULES.sub(lambda found: b"/" + b"\x7f" * (len(found[0]) - 1), data)
