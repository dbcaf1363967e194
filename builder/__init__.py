"""Build software from recipes into artifacts that run on any Linux."""

from __future__ import annotations

# As typing has it, whose import would take a twentieth of a build that has nothing to do.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.recipe import Limits, Local, Recipe, Source, System

__all__ = ["VERSION", "Limits", "Local", "Recipe", "Source", "System"]

VERSION = "0.1.0"


def __getattr__(name: str) -> object:
    # What recipes are written with is imported when a recipe asks for it: the command line sets its signal handlers first.
    if name in __all__:
        from builder import recipe

        value: object = getattr(recipe, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
