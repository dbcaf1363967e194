"""The tests' own programs as `programs.py` has them, with their debug information split off."""

import dataclasses

from . import programs

recipe = dataclasses.replace(
    programs.recipe,
    name="split",
    script=programs.recipe.script.replace("musl-gcc ", "musl-gcc -Wl,--build-id "),
    debug=True,
)
