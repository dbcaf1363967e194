"""Signatures that are kept in the store, one file each, by the action that they are about and the key that made them."""

from __future__ import annotations

import contextlib
import os
import re

from store.codec import BadRecord
from store.digest import Digest
from store.signing import Signed
from store.store import Store

NAME = re.compile(r"([0-9a-f]{64})-([a-z2-7]{32})\Z")


def of_action(store: Store, action: Digest) -> list[Signed]:
    """Every signature about the result of an action, by key; one that cannot be read counts as none. None is verified."""
    folder = store.signature_path(action, "x").parent
    found = []
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(folder)):
            match = NAME.match(name)
            if match and match[1] == action.hex:
                with contextlib.suppress(BadRecord, FileNotFoundError):
                    found.append(Signed.decode((folder / name).read_bytes()))
    return found
