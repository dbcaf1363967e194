"""The system root that the other recipes build in: a C and C++ toolchain and autotools, from pinned Debian 12 packages."""

from builder import System

# What every build takes for granted, and Debian marks as essential without anything depending on it.
essential = (
    "base-files",
    "bash",
    "bzip2",
    "coreutils",
    "dash",
    "diffutils",
    "file",
    "findutils",
    "gawk",
    "grep",
    "gzip",
    "libc-bin",
    "patch",
    "sed",
    "tar",
    "util-linux",
    "xz-utils",
)

# What a build never uses, and only install scripts ask for.
unused = ("adduser", "debconf", "dpkg", "login", "mount", "passwd", "sensible-utils", "sysvinit-utils", "tzdata")

# What install scripts would have made through update-alternatives and the like.
links = {
    "usr/bin/awk": "gawk",
    "usr/bin/cc": "gcc",
    "usr/bin/c++": "g++",
}

recipe = System(
    name="toolchain",
    version="12.15",
    about="gcc 12, make, autotools and the usual programs, from Debian 12",
    packages=(*essential, "autoconf", "automake", "g++", "gcc", "libc6-dev", "libtool", "make", "pkg-config"),
    exclude=unused,
    links={**links, "usr/bin/aclocal": "aclocal-1.16", "usr/bin/automake": "automake-1.16"},
)
