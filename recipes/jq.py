"""jq, the command-line JSON processor, with regular expressions by Oniguruma."""

from builder import Recipe, Source
from recipes import oniguruma, toolchain

version = "1.7.1"

recipe = Recipe(
    name="jq",
    version=version,
    about="A command-line JSON processor (MIT), https://jqlang.org",
    sources=(
        Source(
            f"mirror://debian/pool/main/j/jq/jq_{version}.orig.tar.gz",
            sha256="fc75b1824aba7a954ef0886371d951c3bf4b6e0a921d1aefc553f309702d6ed1",
        ),
    ),
    inputs=(toolchain.recipe, oniguruma.recipe),
    # The version script asks git, and the archive holds no repository.
    script=f"""
        printf '#!/bin/sh\\nprintf %s {version}\\n' > scripts/version
        autoreconf -fi
        ./configure --prefix="$PREFIX" --disable-docs --disable-static --with-oniguruma="$PREFIX"
        make -j"$JOBS"
        make install DESTDIR="$OUT"
        rm "$OUT$PREFIX"/lib/*.la
    """,
    check="""
        test "$(jq --version)" = "jq-1.7.1"
        test "$(echo '{"a": [1, 2, 3]}' | jq -c '.a | map(. * 2)')" = "[2,4,6]"
        test "$(echo '"x86-64"' | jq 'test("[0-9]+-[0-9]+")')" = "true"
    """,
    debug=True,
)
