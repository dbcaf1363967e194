"""Debian's git as an artifact, without the programs that it starts: what the benchmark of exported files packs in all ways."""

from builder import Recipe
from tests.bench import programs

recipe = Recipe(
    name="bench-git",
    version="12.15",
    about="what the benchmark of exported files packs in several ways",
    inputs=(programs.recipe,),
    script="""
        mkdir -p "$OUT$PREFIX/bin"
        cp /usr/bin/git "$OUT$PREFIX/bin/"
    """,
)
