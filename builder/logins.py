"""Logins for registries, as other tools keep them: docker's config.json and the auth.json of podman and skopeo.

Both have one form: containers-auth.json(5).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from store.errors import Error

_HELPER = re.compile(r"[A-Za-z0-9_-]+\Z")

# What files of logins call docker's own registry.
_HUB, _HUB_LOGIN = "docker.io", "https://index.docker.io/v1/"


class BadLogins(Error):
    """A file of logins that cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}", hint="It is the file that `docker login` or `skopeo login` writes.")


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password; or, without a user, a token that others are given for."""

    user: str
    password: str


def login_for(host: str, repository: str, files: Iterable[Path]) -> Login | None:
    """The login that the first of ``files`` has for a repository: the most special one. Raises BadLogins."""
    parts = repository.split("/")
    places = ["/".join([host, *parts[:n]]) for n in range(len(parts), -1, -1)]
    if host == _HUB:
        places.append(_HUB_LOGIN)
    places += [f"https://{host}", f"http://{host}", f"https://{host}/v2/"]
    for path in files:
        try:
            table = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            raise BadLogins(path, str(error)) from None
        for place in places:
            if found := _login_in(path, table, place):
                return found
    return None


def _login_in(path: Path, table: object, place: str) -> Login | None:
    match table:
        case {"credHelpers": {**helpers}} if isinstance(helper := helpers.get(place), str):
            return _ask(path, helper, place)
    match table:
        case {"auths": {**auths}} if isinstance(row := auths.get(place), dict):
            if isinstance(token := row.get("identitytoken"), str) and token:
                return Login("", token)
            if isinstance(auth := row.get("auth"), str) and auth:
                try:
                    user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
                except (binascii.Error, UnicodeDecodeError):
                    colon = ""
                if not colon:
                    raise BadLogins(path, f"the login for {place} is damaged")
                return Login(user, password.rstrip("\0"))
            if isinstance(helper := table.get("credsStore") if isinstance(table, dict) else None, str):
                return _ask(path, helper, place)
    return None


def _ask(path: Path, helper: str, place: str) -> Login | None:
    """Ask one of docker's credential helpers: ``docker-credential-NAME get`` reads the place and writes JSON."""
    if not _HELPER.match(helper):
        raise BadLogins(path, f"{helper!r} is no name of a credential helper")
    command = [f"docker-credential-{helper}", "get"]
    try:
        done = subprocess.run(command, input=place.encode(), capture_output=True, timeout=60, check=False)
        answer = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise BadLogins(path, f"{command[0]}: {error}") from None
    match answer:
        case {"Username": str(user), "Secret": str(secret)}:
            return Login("" if user == "<token>" else user, secret)
    return None
