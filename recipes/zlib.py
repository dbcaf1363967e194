"""zlib, the compression library, with its example program minigzip."""

from builder import Recipe, Source
from recipes import toolchain

version = "1.2.13"

recipe = Recipe(
    name="zlib",
    version=version,
    about="The DEFLATE compression library (Zlib), https://zlib.net",
    sources=(
        Source(
            f"mirror://debian/pool/main/z/zlib/zlib_{version}.dfsg.orig.tar.bz2",
            sha256="71feb7947e3c00ef125f83b79a4e529bde31171e5babe48b391f06758d1ab0a1",
        ),
    ),
    inputs=(toolchain.recipe,),
    script="""
        ./configure --prefix="$PREFIX"
        make -j"$JOBS"
        make install DESTDIR="$OUT"
        install -D -m 755 minigzipsh "$OUT$PREFIX/bin/minigzip"
    """,
    check="""
        echo "to and fro" | minigzip | minigzip -d | grep -q "^to and fro$"
    """,
)
