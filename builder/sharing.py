"""What this user shares with: keys, whom to trust, and remotes. Files of one line each, below the configuration's folder.

``keys/NAME`` holds a secret key, ``trusted/NAME`` a public one, ``remotes/NAME`` an address, and on a second line ``builds`` if
builds are to look there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder import mirrors
from builder.mirrors import BadConfiguration
from builder.remotes import KINDS, open_remote
from store import files
from store.errors import Error
from store.remote import Remote
from store.signing import BadKey, PublicKey, SecretKey, Trust

MAX_FILE = 1 << 16  # bytes
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,99}\Z")


class BadEntryName(Error):
    """A name that no key and no remote can have."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} is no name", hint="A name is at most 100 letters, digits and + . _ -, the first a letter or digit."
        )


class NoSuchEntry(Error):
    """There is no ``what`` of this name."""

    def __init__(self, what: str, name: str, known: Iterable[str], *, hint: str) -> None:
        listed = ", ".join(sorted(known)) or "none"
        super().__init__(f"there is no {what} {name!r} (there are: {listed})", hint=hint)


class Taken(Error):
    """There is a ``what`` of this name already, and another one."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"there is another {what} {name!r} already", hint="Choose another name, or remove that one first.")


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """A remote that has a name: its address, and whether builds look there."""

    name: str
    address: str
    builds: bool


class Sharing:
    """The user's keys and remotes in ``folder``, with the rest of the configuration in ``folder/config.toml``.

    ``environment`` says which proxies there are.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = environment

    # -- keys --

    def new_key(self, name: str) -> PublicKey:
        """Make a key, and trust it. Raises Taken or BadEntryName."""
        if (self.folder / "keys" / _checked(name)).exists() or (self.folder / "trusted" / name).exists():
            raise Taken("key", name)
        key = SecretKey.generate(name)
        self._write("keys", name, key.line(), mode=0o600)
        public = key.public()
        self._write("trusted", name, str(public), mode=0o644)
        return public

    def secret(self, name: str | None) -> SecretKey | None:
        """The secret key ``name``; without a name the only one, or None if there is none. Raises NoSuchEntry, BadKey."""
        names = self._names("keys")
        hint = "`builder key new NAME` makes one; --key NAME chooses one."
        if name is None:
            if len(names) > 1:
                raise Error(f"there are several keys: {', '.join(names)}", hint="Say with --key NAME which one is to sign.")
            if not names:
                return None
            name = names[0]
        if name not in names:
            raise NoSuchEntry("key", name, names, hint=hint)
        return SecretKey.parse(self._read("keys", name))

    def trust(self, line: str, name: str | None = None) -> PublicKey:
        """Believe what a key signs from now on. Raises BadKey or Taken."""
        key = PublicKey.parse(line)
        key = PublicKey(_checked(name or key.name), key.raw)
        if (self.folder / "trusted" / key.name).exists():
            if self.trusted_key(key.name).raw == key.raw:
                return key
            raise Taken("trusted key", key.name)
        self._write("trusted", key.name, str(key), mode=0o644)
        return key

    def distrust(self, name: str) -> None:
        """Believe it no more. A secret key of that name stays. Raises NoSuchEntry."""
        self._remove("trusted", "trusted key", name)

    def trusted_key(self, name: str) -> PublicKey:
        """The trusted key ``name``. Raises NoSuchEntry or BadKey."""
        if name not in self._names("trusted"):
            raise NoSuchEntry("trusted key", name, self._names("trusted"), hint="`builder key list` lists them.")
        try:
            return PublicKey(name, PublicKey.parse(self._read("trusted", name)).raw)
        except BadKey as error:
            raise Error(f"{self.folder / 'trusted' / name}: {error.message}", hint=error.hint) from None

    def trusted(self) -> list[PublicKey]:
        """All keys that are believed, by name."""
        return [self.trusted_key(name) for name in self._names("trusted")]

    def secrets(self) -> list[str]:
        """The names of all secret keys."""
        return self._names("keys")

    def trust_policy(self) -> Trust:
        """Whom to believe: the trusted keys, and ``sigs-needed`` of the configuration. Raises BadConfiguration."""
        path = self.folder / "config.toml"
        section = mirrors.read_table(path).get("trust", {})
        needed = section.get("sigs-needed", 1) if isinstance(section, dict) else 0
        if type(needed) is not int or needed < 1:
            raise BadConfiguration(path, "trust.sigs-needed is not a number above 0")
        return Trust({key.id: key for key in self.trusted()}, needed)

    # -- remotes --

    def add_remote(self, name: str, address: str, *, builds: bool) -> None:
        """Give a remote a name. Raises BadAddress, Taken or BadEntryName."""
        if address.startswith(("./", "../")):
            address = os.path.abspath(address)
        if "\n" in address or not address.isprintable():
            raise BadEntryName(address)
        open_remote(_checked(name), address)
        if (self.folder / "remotes" / name).exists() and self.remote_entry(name).address != address:
            raise Taken("remote", name)
        self._write("remotes", name, address + ("\nbuilds" if builds else ""), mode=0o600)

    def remove_remote(self, name: str) -> None:
        """Forget a remote; nothing there is touched. Raises NoSuchEntry."""
        self._remove("remotes", "remote", name)

    def remote_entry(self, name: str) -> RemoteEntry:
        """The remote ``name``. Raises NoSuchEntry."""
        if name not in self._names("remotes"):
            hint = f"`builder remote add NAME ADDRESS` adds one, or give its address:\n{KINDS}"
            raise NoSuchEntry("remote", name, self._names("remotes"), hint=hint)
        address, *rest = self._read("remotes", name).splitlines() or [""]
        return RemoteEntry(name, address, "builds" in rest)

    def remotes(self) -> list[RemoteEntry]:
        """All remotes that have names."""
        return [self.remote_entry(name) for name in self._names("remotes")]

    def open(self, spec: str) -> Remote:
        """The remote that ``spec`` means: a name, or an address. Raises NoSuchEntry or BadAddress."""
        if "/" in spec:
            return self._open(mirrors.show(spec), spec)
        entry = self.remote_entry(spec)
        return self._open(entry.name, entry.address)

    def _open(self, name: str, address: str) -> Remote:
        if not address.startswith(("http:", "https:")):
            return open_remote(name, address)
        (place,) = mirrors.find(self.folder / "config.toml", self._environment).places(address)
        return open_remote(name, address, proxy=place.proxy)

    # -- files --

    def _names(self, folder: str) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.folder / folder) if _NAME.match(name))
        except FileNotFoundError:
            return []

    def _read(self, folder: str, name: str) -> str:
        with open(self.folder / folder / name, "rb") as file:
            return file.read(MAX_FILE).decode("utf-8", "replace")

    def _write(self, folder: str, name: str, text: str, *, mode: int) -> None:
        place = self.folder / folder
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = place / f".{os.urandom(8).hex()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(fd, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(fd)
        os.rename(temporary, place / name)
        files.sync_directory(place)

    def _remove(self, folder: str, what: str, name: str) -> None:
        if name not in self._names(folder):
            raise NoSuchEntry(what, name, self._names(folder), hint="Its name has to be one of these.")
        os.unlink(self.folder / folder / name)


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise BadEntryName(name)
    return name
