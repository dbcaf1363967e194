"""qemu for programs of another CPU, and what a build needs to copy files."""

from builder import System

exclude = ("adduser", "debconf", "dpkg", "login", "mount", "passwd", "sensible-utils", "sysvinit-utils", "tzdata")

recipe = System(
    name="emulator",
    version="12.15",
    about="qemu-user, and the usual programs",
    packages=("bash", "binutils", "coreutils", "dash", "qemu-user"),
    exclude=exclude,
)
