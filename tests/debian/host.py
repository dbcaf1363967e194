"""A host with a C library that no artifact has: libgcrypt, with libgpg-error, and the files to link with it."""

from builder import System

recipe = System(
    name="host",
    version="12.15",
    about="a machine on which interpreted programs look for a C library",
    packages=("base-files", "dash", "libc-bin", "libgcrypt20-dev"),
    exclude=("debconf", "dpkg"),
)
