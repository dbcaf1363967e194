"""What asks a debuginfod, as a launcher."""

from builder import Recipe, System

system = System(
    name="debuginfod",
    version="12.15",
    about="the client of debuginfod",
    packages=("bash", "coreutils", "dash", "debuginfod"),
    exclude=("adduser", "debconf", "dpkg", "login", "mount", "passwd", "sensible-utils", "sysvinit-utils", "tzdata"),
)

recipe = Recipe(
    name="debuginfod-find",
    version="0.188",
    about="asks a debuginfod for what belongs to a build id (LGPL-3.0-or-later), https://sourceware.org/elfutils",
    inputs=(system,),
    script='install -D /usr/bin/debuginfod-find "$OUT$PREFIX/bin/debuginfod-find"',
)
