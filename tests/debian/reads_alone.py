"""The same program, without any data."""

import dataclasses

from tests.debian import reads

recipe = dataclasses.replace(reads.recipe, data=())
