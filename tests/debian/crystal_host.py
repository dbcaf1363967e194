"""Crystal, whose interpreted programs may load libraries that only the host has."""

import dataclasses

from recipes import crystal

recipe = dataclasses.replace(crystal.recipe, host_libraries=True, check="")
