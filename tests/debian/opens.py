"""A program that opens libraries by name, and one that is linked with a library that only the host has.

The artifact has zlib; everything else may come from the host.
"""

from builder import Local, Recipe
from recipes import toolchain

recipe = Recipe(
    name="opens",
    version="1",
    about="opens libraries by name",
    sources=(Local("opens.c"),),
    inputs=(toolchain.recipe,),
    script="""
        gcc -O2 -Wall -o opens opens.c
        install -D opens "$OUT$PREFIX/bin/opens"
        echo 'const char *gpu(void) { return ""; }' > gpu.c
        gcc -shared -fPIC -Wl,-soname,libgpu.so.1 -o libgpu.so.1 gpu.c
        printf '#include <stdio.h>\nconst char *gpu(void);\nint main(void) { puts(gpu()); }\n' > draws.c
        gcc -o "$OUT$PREFIX/bin/draws" draws.c libgpu.so.1
    """,
    dlopen=("libz.so.1",),
    missing=("libgpu.so.1",),
    host_libraries=True,
)
