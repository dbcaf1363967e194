"""A program that opens libraries by name, and one that is linked with a library that only the host has.

The artifact has zlib; everything else may come from the host. share/libnew.so.1 is for the host: it needs a glibc that is
newer than any artifact's, since strlcpy came with version 2.38.
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
        echo 'GLIBC_2.38 { strlcpy; };' > newer
        echo 'void strlcpy(void) {}' > libc.c
        gcc -shared -fPIC -nostdlib -fno-builtin -Wl,-soname,libc.so.6,--version-script=newer -o libc.so.6 libc.c
        echo 'void strlcpy(void); const char *new(void) { strlcpy(); return ""; }' > new.c
        mkdir "$OUT$PREFIX/share"
        gcc -shared -fPIC -nostdlib -fno-builtin -Wl,-soname,libnew.so.1 -o "$OUT$PREFIX/share/libnew.so.1" new.c libc.so.6
    """,
    dlopen=("libz.so.1",),
    missing=("libgpu.so.1",),
    keep=("share/libnew.so.1",),
    host_libraries=True,
)
