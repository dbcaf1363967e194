"""A host with Debian 13: another glibc than the one that the tests' programs are built with."""

from builder import System

recipe = System(
    name="trixie",
    version="13",
    about="a small root of Debian 13",
    suite="trixie",
    packages=("bash", "coreutils", "libc-bin", "libc6"),
    exclude=("debconf", "openssl-provider-legacy"),
)
