"""Several small programs, to be put into one file, with each kind of thing that a tree may have."""

from builder import Local, Recipe
from recipes import toolchain

SOURCES = ("crash.c", "facts.c", "kind.c", "reexec.c", "link_address.h")

recipe = Recipe(
    name="several",
    version="1",
    about="programs that look at how they were started, in one file",
    sources=tuple(Local(f"programs/{name}") for name in SOURCES),
    inputs=(toolchain.recipe,),
    script=r"""
        top="$OUT$PREFIX"; mkdir -p "$top/bin" "$top/share/empty/folder"
        for name in crash facts reexec; do gcc -O1 -w -rdynamic -o "$top/bin/$name" $name.c; done
        gcc -O1 -w -static -o "$top/bin/static" kind.c -lm
        printf '#!/bin/sh\nexit 6\n' > "$top/bin/script"; chmod +x "$top/bin/script"
        ln -s reexec "$top/bin/alias"
        : > "$top/share/nothing"; printf same > "$top/share/same"
        cp "$top/share/same" "$top/share/same-again"; cp "$top/share/same" "$top/share/same-program"
        chmod +x "$top/share/same-program"; ln -s ../bin "$top/share/link"
        # Contents in several frames: zeros, and what cannot be compressed.
        head -c 40000000 /dev/zero > "$top/share/large"
        head -c 3000000 /usr/lib/gcc/x86_64-linux-gnu/12/cc1 | gzip -9 > "$top/share/random"
    """,
)
