"""The same program, which opens what its artifact has."""

import dataclasses

from tests.debian import opens

recipe = dataclasses.replace(opens.recipe, host_libraries=False)
