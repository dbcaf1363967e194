"""One module a command: ``arguments`` describes its words, ``run`` does it and gives the exit status."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from store.store import Store

# As typing has it, whose import would take a twentieth of a build that has nothing to do.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.sharing import Sharing

COMMANDS = {
    "build": "build recipes into artifacts",
    "adopt": "make an artifact of programs that are on this machine",
    "run": "build a recipe and run its program",
    "shell": "enter the sandbox of a recipe, or of its failed build",
    "install": "install recipes, artifacts or exported files for this user",
    "uninstall": "take installed packages out again",
    "upgrade": "build installed packages' recipes again, and install what they give",
    "list": "list what is installed",
    "rollback": "go back to what was installed before",
    "history": "list the generations of what was installed, and let go of old ones",
    "lock": "pin the packages of a system root",
    "log": "show the output of a build",
    "info": "say what an artifact is, and what each of its programs is",
    "tree": "list what an artifact holds, and where each piece came from",
    "why": "say why an artifact holds a library or file",
    "who-has": "say which artifacts hold a file or library",
    "origins": "say what an artifact is made up of, with sizes",
    "graph": "show what an artifact was built from",
    "diff": "say how two artifacts differ, and what they share",
    "du": "list all artifacts, and what each takes on the disk",
    "sbom": "print an artifact's bill of materials",
    "provenance": "print how an artifact was built, as SLSA provenance",
    "export": "write an artifact as a folder, an archive or an image",
    "import": "take exported artifacts into the store",
    "push": "push artifacts to a remote",
    "pull": "pull artifacts from a remote",
    "remote": "name the places that artifacts are pushed to and pulled from",
    "key": "make keys, and choose whom to trust",
    "sign": "sign what was built here",
    "root": "keep artifacts alive by name, and list what keeps them alive",
    "gc": "remove what nothing needs any more",
    "check": "look for damage in the store",
    "completion": "print a shell's completion script",
}


@dataclass(frozen=True, slots=True)
class Context:
    """What a command takes from its surroundings: the environment is read here, and nowhere else."""

    environment: Mapping[str, str]
    store_path: Path

    @classmethod
    def of(cls, environment: Mapping[str, str], store: str | None) -> Context:
        """From the environment, and the option --store."""
        home = Path(environment.get("HOME") or "/")
        data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
        return cls(environment, Path(store or environment.get("BUILDER_STORE") or data / "builder"))

    def store(self) -> Store:
        """The store, made if it is not there."""
        return Store(self.store_path)

    @property
    def config_path(self) -> Path:
        """The user's configuration file, which need not be there."""
        home = Path(self.environment.get("HOME") or "/")
        return Path(self.environment.get("XDG_CONFIG_HOME") or home / ".config") / "builder" / "config.toml"

    def sharing(self) -> Sharing:
        """The user's keys and remotes."""
        from builder.sharing import Sharing

        return Sharing(self.config_path.parent, self.environment)


def say(text: str) -> None:
    """A line on standard output: what a command was asked for."""
    sys.stdout.write(text + "\n")


def plain(label: str) -> str:
    """A label of a step, on one line and with no control characters: results from elsewhere may hold anything."""
    from store.manifest import show

    return show(label.encode("utf-8", "backslashreplace"))


def say_json(value: object) -> None:
    """The same, for scripts."""
    import json

    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")
