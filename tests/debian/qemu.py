"""qemu as a launcher of this machine, and readelf, which reads launchers of all."""

from builder import Recipe

from . import emulator

recipe = Recipe(
    name="qemu",
    version="7.2",
    about="runs programs for aarch64 (GPL-2.0-or-later), https://www.qemu.org",
    inputs=(emulator.recipe,),
    script="""
        mkdir -p "$OUT$PREFIX/bin"
        cp /usr/bin/qemu-aarch64 /usr/bin/qemu-x86_64 /usr/bin/readelf "$OUT$PREFIX/bin/"
    """,
)
