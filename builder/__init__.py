"""Build software from recipes into artifacts that run on any Linux."""

from builder.recipe import Limits, Local, Recipe, Source, System

__all__ = ["VERSION", "Limits", "Local", "Recipe", "Source", "System"]

VERSION = "0.1.0"
