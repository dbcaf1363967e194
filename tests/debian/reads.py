"""A program that asks the C library for everything that it reads at run time, and HTTPS clients; with all data bundled."""

from pathlib import Path

from builder import Local, Recipe
from tests.debian import data

server = (Path(__file__).parent.parent / "sources" / "server.pem").read_text()
authority = server[server.index("-----BEGIN CERTIFICATE") :]

recipe = Recipe(
    name="reads",
    version="1",
    about="asks the C library for what it reads at run time",
    sources=(Local("reads.c"),),
    inputs=(data.recipe,),
    script="""
        out="$OUT$PREFIX"
        mkdir -p "$out/bin" "$out/lib/locale" "$out/share/ca-certificates"
        gcc -O2 -Wall -Werror -o "$out/bin/reads" reads.c
        cp /usr/bin/curl /usr/bin/openssl "$out/bin"
        cp /usr/bin/python3.11 "$out/bin/python3"
        cp -r /usr/lib/python3.11 "$out/lib"
        rm -f "$out"/lib/python3.11/*.py.link "$out/lib/python3.11/sitecustomize.py"
        localedef -i de_DE -f UTF-8 "$out/lib/locale/de_DE.utf8"
        localedef -i de_DE@euro -f ISO-8859-15 "$out/lib/locale/de_DE.iso885915@euro"
        printf '%s' "$AUTHORITY" > "$out/share/ca-certificates/test.crt"
    """,
    variables={"AUTHORITY": authority},
    data=("certificates", "iconv", "locales", "names", "timezones"),
)
