"""A host with Debian 11: another glibc than the one that the tests' programs are built with."""

from builder import System

recipe = System(
    name="bullseye",
    version="11",
    about="a small root of Debian 11",
    suite="bullseye",
    packages=("bash", "coreutils", "libc-bin", "libc6"),
    exclude=("debconf", "openssl-provider-legacy"),
)
