"""Programs of many kinds, from Debian, for tests of launchers; and the tools that tests look with."""

from builder import System

recipe = System(
    name="programs",
    version="12.15",
    about="what the tests of launchers take apart and start",
    packages=(
        *("bash", "coreutils", "dash", "findutils", "grep", "sed"),
        *("binutils", "gdb-minimal", "git", "openssh-client", "perl", "python3", "strace"),
    ),
    exclude=("adduser", "debconf", "dpkg", "login", "mount", "passwd", "sensible-utils", "sysvinit-utils", "tzdata"),
)
