"""What a recipe says about packing."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.needs import NO_CHOICE, Choice
from store import codec

# What packing does with the same input. It is in the key of every packing action: a change repacks, and builds nothing.
VERSION = 5

# What of the input root a recipe can have bundled besides libraries; launcher/data.py says what each word brings.
DATA = ("certificates", "iconv", "locales", "names", "timezones")


@dataclass(frozen=True, slots=True)
class Settings:
    """How an output is packed.

    ``environment`` gives programs, by their path in the artifact, variables that are set when the user has not set them;
    ``{root}`` in a value is the artifact's own directory. ``dlopen`` are sonames that programs open by themselves.
    ``missing`` are sonames that may be missing. ``host_interpreters`` are interpreters of scripts that every host has to
    provide, as they stand after ``#!`` (or after ``env``). ``keep`` are paths, of files or whole directories, in which
    nothing is rewritten. ``data`` are words of DATA. ``host_libraries`` lets programs open libraries of the host that the
    artifact has not. ``needs`` is what the recipe says of what running needs.
    """

    environment: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    dlopen: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    host_interpreters: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    host_libraries: bool = False
    needs: Choice = NO_CHOICE

    def encode(self) -> list[codec.Value]:
        """The settings for an action's key, where order means nothing."""
        environment: list[codec.Value] = [
            [path, [[name, value] for name, value in sorted(variables)]] for path, variables in sorted(self.environment)
        ]
        texts = (self.dlopen, self.missing, self.host_interpreters, self.keep, self.data)
        # Only where there is something to say: other keys are as they were before recipes could say it.
        needs = [list[codec.Value](row) for row in self.needs.rows] if self.needs != NO_CHOICE else []
        return [VERSION, environment, *(list[codec.Value](sorted(set(text))) for text in texts), self.host_libraries, *needs]
