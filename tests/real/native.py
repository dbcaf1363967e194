"""The programs of `programs.py` as the linker left them: the same build, packed without a change to any file."""

from dataclasses import replace

from . import programs

recipe = replace(programs.recipe, name="native", keep=("bin", "lib"))
