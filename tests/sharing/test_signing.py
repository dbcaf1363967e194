"""Keys, statements and signatures."""

from __future__ import annotations

import dataclasses

import pytest

from store.codec import BadRecord
from store.digest import Digest
from store.errors import Error
from store.signing import BadKey, BadSignature, PublicKey, SecretKey, Signed, Statement, Trust
from tests.sharing.helpers import ANNA, BERT, statement

TREE = Digest.of(b"tree")


def trust(*keys: SecretKey, needed: int = 1) -> Trust:
    return Trust({key.public().id: key.public() for key in keys}, needed)


def test_the_bytes_are_pinned() -> None:
    signed = ANNA.sign(statement(TREE))
    assert ANNA.line() == "builder-secret-key anna AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    assert str(ANNA.public()) == "builder-key anna A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
    assert ANNA.public().id == Digest.of(ANNA.public().raw).base32
    # RFC 8032 signatures have no random part.
    assert Digest.of(signed.encode()).hex == "cd7c5639846df59f4c702163e18b04598712bb9654afa8a78a0b313c16a2bc93"


def test_lines_of_keys_are_read_back() -> None:
    key = SecretKey.generate("somebody@example.org")
    assert SecretKey.parse(key.line()) == key
    assert PublicKey.parse(str(key.public()) + "\n") == key.public()
    assert key.line().split()[-1] not in repr(key)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "builder-key anna",
        "builder-key anna A6EHv",
        "builder-key anna !!!!",
        "builder-key an/na A6EHv/POEL4dcN0Y50vAmWfk1jCboQ1fHdyGZBJVMbg=",
        "builder-key  A6EHv/POEL4dcN0Y50vAmWfk1jCboQ1fHdyGZBJVMbg=",
        "builder-secret-key anna A6EHv/POEL4dcN0Y50vAmWfk1jCboQ1fHdyGZBJVMbg=",
        "ssh-ed25519 AAAA anna",
    ],
)
def test_other_lines_are_no_keys(line: str) -> None:
    with pytest.raises(BadKey):
        PublicKey.parse(line)


def test_a_signature_is_of_its_statement_and_key() -> None:
    signed = ANNA.sign(statement(TREE))
    signed.verify()
    assert Signed.decode(signed.encode()) == signed
    forged = [
        dataclasses.replace(signed, statement=statement(Digest.of(b"other"))),
        dataclasses.replace(signed, statement=statement(TREE, name="other")),
        dataclasses.replace(signed, statement=statement(TREE, version="2.11")),
        dataclasses.replace(signed, statement=statement(TREE, size=8)),
        dataclasses.replace(signed, statement=statement(TREE, action="other")),
        dataclasses.replace(signed, key=BERT.public().raw),
        dataclasses.replace(signed, signature=bytes(64)),
    ]
    for one in forged:
        with pytest.raises(BadSignature):
            one.verify()


def test_every_byte_of_a_signed_result_counts() -> None:
    data = ANNA.sign(statement(TREE)).encode()
    believed = trust(ANNA, BERT)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        try:
            other = Signed.decode(bytes(changed))
        except Error:
            continue
        assert believed.believed([other]) == []


@pytest.mark.parametrize("field", [{"name": "../up"}, {"name": "UPPER"}, {"version": "1/2"}, {"version": ""}])
def test_names_that_nothing_has_are_refused(field: dict[str, str]) -> None:
    with pytest.raises(Error):
        statement(TREE, **field)  # type: ignore[arg-type]
    with pytest.raises(BadRecord):
        Statement(statement(TREE).result, "hello", "1", "amiga", 1)


def test_only_trusted_keys_are_believed() -> None:
    said = statement(TREE)
    assert trust().believed([ANNA.sign(said)]) == []
    assert trust(BERT).believed([ANNA.sign(said)]) == []
    assert trust(ANNA).believed([ANNA.sign(said)]) == [[ANNA.sign(said)]]


def test_several_keys_have_to_say_the_same() -> None:
    said, other = statement(TREE), statement(Digest.of(b"other"))
    both = trust(ANNA, BERT, needed=2)
    assert both.believed([ANNA.sign(said)]) == []
    # One key twice is one key.
    assert both.believed([ANNA.sign(said), ANNA.sign(said)]) == []
    assert both.believed([ANNA.sign(said), BERT.sign(other)]) == []
    assert len(both.believed([ANNA.sign(said), BERT.sign(said)])) == 1
    # When it was made, and how long that took, is nobody's quarrel.
    later = dataclasses.replace(said, result=dataclasses.replace(said.result, started=99, by="another builder"))
    assert len(both.believed([ANNA.sign(said), BERT.sign(later)])) == 1


def test_a_signature_by_no_point_of_the_curve_is_bad_and_no_crash() -> None:
    signed = ANNA.sign(statement(TREE))
    with pytest.raises(BadSignature):
        dataclasses.replace(signed, key=b"\xff" * 32).verify()
