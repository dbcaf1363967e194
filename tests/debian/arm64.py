"""Programs of Debian for another CPU, and the recipe that puts some of them into an artifact on this one."""

from builder import Recipe, System

from . import emulator

system = System(
    name="arm64-programs",
    version="12.15",
    about="what the tests of launchers for aarch64 start",
    packages=("bash", "coreutils", "dash", "git", "perl-base", "python3-minimal", "sed"),
    exclude=emulator.exclude,
    lock="arm64.lock",
    platform="aarch64-linux",
)

PROGRAMS = ("bash", "env", "git", "ls", "perl", "python3.11", "readlink", "sed", "true")

recipe = Recipe(
    name="arm64",
    version="1",
    about="programs of Debian 12 for aarch64, put together on x86-64",
    platform="aarch64-linux",
    inputs=(emulator.recipe, system),
    script=r"""
        mkdir -p "$OUT$PREFIX/bin"
        for name in """
    + " ".join(PROGRAMS)
    + r"""; do cp "/sysroot/usr/bin/$name" "$OUT$PREFIX/bin/$name"; done
        cp -r /sysroot/usr/lib/python3.11 "$OUT$PREFIX/python"
        rm "$OUT$PREFIX/python/sitecustomize.py"
        printf '#!/bin/sh -e\necho "script: $*"\n' > "$OUT$PREFIX/bin/script"
        chmod +x "$OUT$PREFIX/bin/script"
    """,
    environment={"bin/python3.11": {"PYTHONPATH": "{root}/python", "PYTHONDONTWRITEBYTECODE": "1"}},
    check="false  # is not run: nothing on this machine could",
)
