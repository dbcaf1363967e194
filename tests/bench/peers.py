"""What the store, its remotes and exported files are measured beside: other programs that store, pack and send trees."""

from builder import Recipe, System
from recipes import toolchain

root = System(
    name="peers",
    version="12.15",
    about="what the benchmarks of the store compare with",
    packages=(
        *toolchain.essential,
        "bubblewrap",
        "casync",
        "nix-bin",
        "ostree",
        "rclone",
        "restic",
        "squashfs-tools",
        "squashfuse",
        "zstd",
    ),
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
        for program in bwrap casync mksquashfs nix ostree rclone restic squashfuse_ll tar unsquashfs zstd; do
            cp "$(command -v $program)" "$OUT$PREFIX/bin/"
        done
    """,
)
