"""What the store and its remotes are measured beside: other programs that store and send trees."""

from builder import Recipe, System
from recipes import toolchain

root = System(
    name="peers",
    version="12.15",
    about="what the benchmarks of the store compare with",
    packages=(*toolchain.essential, "bubblewrap", "casync", "nix-bin", "ostree", "rclone", "restic"),
    exclude=toolchain.unused,
    links=toolchain.links,
)

recipe = Recipe(
    name="bench-peers",
    version="12.15",
    about="what the benchmarks of the store compare with",
    inputs=(root,),
    script="""
        mkdir -p "$OUT$PREFIX/bin"
        for program in bwrap casync nix ostree rclone restic; do
            cp "$(command -v $program)" "$OUT$PREFIX/bin/"
        done
    """,
)
