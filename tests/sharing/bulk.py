"""An artifact of three parcels and 48 files, whose bytes nothing can compress: for transfers that break off half-way."""

from builder import Recipe
from recipes import toolchain

PARTS, SIZE = 48, 1 << 20

recipe = Recipe(
    name="bulk",
    version="1",
    about="data for the tests of remotes",
    inputs=(toolchain.recipe,),
    script=f"""
        cat >bulk.c <<'END'
        #include <stdint.h>
        #include <stdio.h>
        int main(void) {{
            uint64_t x = 88172645463325252u;
            char name[16];
            for (int part = 0; part < {PARTS}; part++) {{
                sprintf(name, "part-%d", part);
                FILE *file = fopen(name, "w");
                for (long left = {SIZE} / 8; left; left--) {{
                    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
                    fwrite(&x, 8, 1, file);
                }}
                if (fclose(file)) return 1;
            }}
        }}
END
        gcc -O2 bulk.c -o bulk
        ./bulk
        mkdir -p "$OUT$PREFIX/share"
        cp part-* "$OUT$PREFIX/share"
    """,
)
