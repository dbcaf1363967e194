"""Oniguruma, a regular expression library."""

from builder import Recipe, Source
from recipes import toolchain

version = "6.9.8"

recipe = Recipe(
    name="oniguruma",
    version=version,
    about="A regular expression library (BSD-2-Clause), https://github.com/kkos/oniguruma",
    sources=(
        Source(
            f"mirror://debian/pool/main/libo/libonig/libonig_{version}.orig.tar.gz",
            sha256="26372720bab6733c869a9eb69377f73971138dc5e3eff4a81f5ba8aea5435fb2",
        ),
    ),
    inputs=(toolchain.recipe,),
    script="""
        autoreconf -fi
        ./configure --prefix="$PREFIX" --disable-static
        make -j"$JOBS"
        make install DESTDIR="$OUT"
        rm "$OUT$PREFIX"/lib/*.la
    """,
    debug=True,
)
