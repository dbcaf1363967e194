"""GNU hello, the friendly greeter."""

from builder import Recipe, Source
from recipes import toolchain

version = "2.10"

recipe = Recipe(
    name="hello",
    version=version,
    about="Prints a friendly greeting (GPL-3.0-or-later), https://www.gnu.org/software/hello",
    sources=(
        Source(
            f"https://ftp.gnu.org/gnu/hello/hello-{version}.tar.gz",
            f"mirror://debian/pool/main/h/hello/hello_{version}.orig.tar.gz",
            sha256="31e066137a962676e89f69d1b65382de95a7ef7d914b8cb956f41ea72e0f516b",
        ),
    ),
    inputs=(toolchain.recipe,),
    script="""
        ./configure --prefix="$PREFIX"
        make -j"$JOBS"
        make install DESTDIR="$OUT"
    """,
    check="""
        test "$(hello)" = "Hello, world!"
        test "$(hello --greeting=Hi)" = "Hi"
    """,
)
