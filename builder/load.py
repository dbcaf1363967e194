"""Reads recipe files. A recipe file is a Python module, and reading it runs it: recipes are code, trust them as such."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType, TracebackType

from builder.recipe import BadRecipe, Buildable, Position, Recipe, System
from store.errors import Error

SHIPPED = Path(__file__).parent.parent / "recipes"


def load(path: str) -> Buildable:
    """The recipe of the file ``path``. Raises BadRecipe with the file and, where there is one, the line.

    The file is imported as a module of its folder, so that ``from recipes import toolchain`` finds what lies beside it,
    and after that what the builder brings.
    """
    file = Path(os.path.abspath(path))
    if file.is_dir():
        raise BadRecipe(
            f"{path} is a folder, not a recipe file", hint=f"Name a file in it, such as {path.rstrip('/')}/hello.py."
        )
    if not file.exists():
        raise BadRecipe(f"there is no file {path}")
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise BadRecipe(
            f"{path} is not a recipe file", hint="A recipe is a Python module: letters, digits and _, ending in .py."
        )
    package = _package(file.parent)
    module = _import(f"{package}.{file.stem}", path)
    value = getattr(module, "recipe", None)
    if not isinstance(value, Recipe | System):
        found = "has no constant `recipe`" if value is None else f"has a `recipe` that is a {type(value).__name__}"
        raise BadRecipe(f"{path} {found}", hint="A recipe file says: recipe = Recipe(name=..., ...).")
    return value


def _package(folder: Path) -> str:
    """Make ``folder`` importable as a package, without putting what lies beside it on the module path."""
    name = folder.name if folder.name.isidentifier() else "recipes"
    _declare("recipes", [str(SHIPPED)])
    known = sys.modules.get(name)
    if name == "recipes":
        assert known is not None
        if known.__path__ == [str(SHIPPED)] and folder != SHIPPED:
            known.__path__.insert(0, str(folder))
    elif known is None:
        _declare(name, [str(folder)])
        return name
    if str(folder) != next(iter(getattr(sys.modules[name], "__path__", [])), None):
        raise BadRecipe(f"recipes of {folder} cannot be read together with another folder or module named {name}")
    return name


def _declare(name: str, places: list[str]) -> None:
    if name not in sys.modules or not hasattr(sys.modules[name], "__path__"):
        module = ModuleType(name)
        module.__path__ = places
        sys.modules[name] = module
    elif type(sys.modules[name].__path__) is not list:
        sys.modules[name].__path__ = list(sys.modules[name].__path__)


def _import(name: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Error:
        raise
    except SyntaxError as error:
        where = Position(error.filename or path, error.lineno or 0)
        text = f"\n    {error.text.strip()}" if error.text else ""
        raise BadRecipe(f"syntax error: {error.msg}{text}", where) from None
    except Exception as error:
        position, files = _trace(error.__traceback__, path)
        if "partially initialized module" in str(error):
            # The frames are those of the modules that import each other, and the last imports the first again.
            raise BadRecipe(f"recipes import each other in a circle: {' -> '.join(files)} -> ...", position) from None
        raise BadRecipe(_reason(error), position, hint=_hint(error)) from None


def _trace(trace: TracebackType | None, path: str) -> tuple[Position, list[str]]:
    """The innermost line of a recipe in a traceback, and the files of all recipes in it, outermost first."""
    position, names = Position(path, 0), []
    own = str(Path(__file__).parent)
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if os.path.isabs(file) and not file.startswith((own, sys.base_prefix, sys.prefix)) and "importlib" not in file:
            position = Position(file, trace.tb_lineno)
            if os.path.basename(file) not in names:
                names.append(os.path.basename(file))
        trace = trace.tb_next
    return position, names


def _reason(error: Exception) -> str:
    if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
        kind, _, rest = str(error).partition(".__init__() ")
        return f"{kind} {rest.replace('got an unexpected keyword argument', 'has no field')}"
    if isinstance(error, TypeError) and "missing" in str(error):
        kind, _, rest = str(error).partition(".__init__() ")
        return f"{kind} is {rest.replace('required positional argument', 'field')}"
    if isinstance(error, ValueError) and "null bytes" in str(error):
        return "this is a binary file"
    return f"{type(error).__name__}: {error}"


def _hint(error: Exception) -> str:
    if not isinstance(error, TypeError) or "unexpected keyword argument" not in str(error):
        return ""
    import dataclasses
    import difflib

    word = str(error).rsplit("'", 2)[1]
    fields = sorted({f.name for kind in (Recipe, System) for f in dataclasses.fields(kind) if f.init})
    close = difflib.get_close_matches(word, fields, n=1)
    return f"Did you mean {close[0]}?" if close else f"Fields: {', '.join(fields)}."
