"""The keys of imports: which archive becomes which tree. Kept apart from the importing, which needs the whole machinery."""

from __future__ import annotations

from builder.lockfile import LockedPackage
from builder.recipe import Source
from store.action import Action

# Raised when the same archive begins to give another tree.
VERSION = 1


def package_action(package: LockedPackage) -> Action:
    """The key of a Debian package's tree."""
    return Action("import", (), (VERSION, "deb", bytes.fromhex(package.sha256)))


def import_action(source: Source) -> Action:
    """The key of a source's tree: an unpacked archive, or the file alone."""
    sha256 = bytes.fromhex(source.sha256)
    if source.unpack:
        return Action("import", (), (VERSION, "tar", sha256, source.strip))
    return Action("import", (), (VERSION, "file", sha256, source.name))
