from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.deb822 import BadParagraph, paragraphs
from builder.resolve import FIELDS, BadIndex, Index, UnknownPackage, Unsatisfied, parse_relations, resolve
from tests.sources.helpers import stanza


def index(*stanzas: dict[str, str]) -> Index:
    return Index(stanzas)


def names(found: Index, *wanted: str, exclude: tuple[str, ...] = ()) -> list[str]:
    return [package.name for package in resolve(found, wanted, exclude)]


def test_what_is_needed_comes_along() -> None:
    found = index(
        stanza("a", Depends="b (>= 1), c:any", **{"Pre-Depends": "d"}),
        stanza("b", version="1.2", Depends="a"),
        stanza("c"),
        stanza("d", Recommends="e"),
        stanza("e"),
    )
    assert names(found, "a") == ["a", "b", "c", "d"]
    assert names(found, "d") == ["d"]


def test_alternatives() -> None:
    found = index(
        stanza("a", Depends="x | y"),
        stanza("b", Depends="none | y"),
        stanza("c", Depends="x (>= 2) | y"),
        stanza("d", Depends="y"),
        stanza("x"),
        stanza("y"),
    )
    assert names(found, "a") == ["a", "x"]
    assert names(found, "b") == ["b", "y"]
    assert names(found, "c") == ["c", "y"]
    # What is needed anyway is preferred, wherever it is asked for.
    assert names(found, "a", "d") == ["a", "d", "y"]
    assert names(found, "a", "y") == ["a", "y"]


def test_virtual_packages() -> None:
    found = index(
        stanza("a", Depends="mail"),
        stanza("versioned", Depends="mail (>= 2)"),
        stanza("zmail", Provides="mail", Priority="important"),
        stanza("bmail", Provides="mail"),
        stanza("amail", Provides="other, mail (= 2.1)", Priority="extra"),
    )
    assert names(found, "a") == ["a", "zmail"]
    assert names(found, "a", "bmail") == ["a", "bmail"]
    assert names(found, "versioned") == ["amail", "versioned"]
    assert names(found, "mail") == ["zmail"]


def test_a_real_package_goes_before_those_that_provide_its_name() -> None:
    found = index(stanza("a", Depends="mail"), stanza("mail"), stanza("amail", Provides="mail", Priority="required"))
    assert names(found, "a") == ["a", "mail"]


def test_the_newest_version_is_taken() -> None:
    found = index(
        stanza("a", version="1.9"), stanza("a", version="1.10"), stanza("a", version="1.2"), stanza("b", Depends="a (<< 1.5)")
    )
    assert [package.version for package in resolve(found, ["a"])] == ["1.10"]
    assert [package.version for package in resolve(found, ["b"])] == ["1.2", "1"]
    with pytest.raises(Unsatisfied):
        resolve(found, ["a", "b"])


def test_what_is_excluded_counts_as_there() -> None:
    found = index(
        stanza("a", Depends="debconf (>= 0.5) | debconf-2.0, gone, b"),
        stanza("b", Depends="debconf-2.0"),
        stanza("debconf", Provides="debconf-2.0"),
        stanza("cdebconf", Provides="debconf-2.0"),
    )
    assert names(found, "a", exclude=("debconf", "gone")) == ["a", "b"]


def test_what_cannot_be_had() -> None:
    found = index(stanza("a", Depends="b"), stanza("b", Depends="c (>= 2) | d"), stanza("c", version="1"), stanza("libfoo-dev"))
    with pytest.raises(Unsatisfied, match=r"'c \(>= 2\) \| d', which a -> b needs") as caught:
        resolve(found, ["a"])
    assert caught.value.chain == ("a", "b")
    with pytest.raises(UnknownPackage) as unknown:
        resolve(found, ["libfoo1-dev"])
    assert "libfoo-dev" in unknown.value.hint


def test_essential_packages() -> None:
    assert index(stanza("b", Essential="yes"), stanza("a", Essential="yes"), stanza("c")).essential == ["a", "b"]


alternatives = st.sampled_from(["a", "b (>= 2)", "c (<< 2)", "d", "e (= 1)", "v", "v (>= 1)", "none"])
groups = st.lists(alternatives, min_size=1, max_size=3).map(" | ".join)
packages = st.lists(
    st.builds(
        stanza,
        st.sampled_from("abcdefgh"),
        version=st.sampled_from(["1", "2", "2~"]),
        Depends=st.lists(groups, max_size=3).map(", ".join),
        Provides=st.sampled_from(["", "v", "v (= 2)", "a, v"]),
    ),
    max_size=12,
)


@given(packages, st.lists(st.sampled_from("abcdefgh"), max_size=3), st.randoms(use_true_random=False))
def test_an_answer_is_closed_and_the_same(stanzas: list[dict[str, str]], wanted: list[str], mix: random.Random) -> None:
    stanzas = list({(fields["Package"], fields["Version"]): fields for fields in stanzas}.values())
    try:
        chosen = resolve(Index(stanzas), wanted)
    except (Unsatisfied, UnknownPackage):
        return
    # With nothing else there, the same is found: so every dependency is fulfilled from within.
    have = {(package.name, package.version) for package in chosen}
    kept = [fields for fields in stanzas if (fields["Package"], fields["Version"]) in have]
    assert resolve(Index(kept), [package.name for package in chosen]) == chosen
    mix.shuffle(stanzas)
    assert resolve(Index(stanzas), reversed(wanted)) == chosen


def test_a_damaged_index() -> None:
    good = stanza("a")
    for fields in ({**good, "Size": "-1"}, {**good, "Size": "9" * 40}, {**good, "SHA256": ""}, {**good, "Filename": ""}):
        with pytest.raises(BadIndex):
            Index([fields])
    with pytest.raises(BadIndex, match="not a relation"):
        resolve(index(stanza("a", Depends="b (>> 1")), ["a"])


def test_relations_are_read_in_all_their_forms() -> None:
    groups = parse_relations("a, b (>=1)|c:any ( << 2:3~x-1 ) [amd64],\n d:amd64", "x")
    assert [" | ".join(map(str, group)) for group in groups] == ["a", "b (>= 1) | c (<< 2:3~x-1)", "d"]
    assert parse_relations("", "x") == []


TEXT = b"Package: a\nDescription: x\n long\n .\n text\nSize: 1\n\n\nPackage: b\nTag: c::d,\n e\n"


@given(st.lists(st.integers(0, len(TEXT))))
def test_paragraphs_may_come_in_any_pieces(cuts: list[int]) -> None:
    marks = [0, *sorted(cuts), len(TEXT)]
    pieces = [TEXT[a:b] for a, b in itertools.pairwise(marks)]
    assert list(paragraphs(pieces)) == [
        {"Package": "a", "Description": "x\nlong\n.\ntext", "Size": "1"},
        {"Package": "b", "Tag": "c::d,\ne"},
    ]
    assert list(paragraphs(pieces, only=FIELDS)) == [{"Package": "a", "Size": "1"}, {"Package": "b"}]


@pytest.mark.parametrize("text", [b" continued", b"no field", b"A: 1\nA: 2", b"\xff: 1", b": x", b"A : 1", b"x" * (2 << 20)])
def test_what_is_no_paragraph(text: bytes) -> None:
    with pytest.raises(BadParagraph):
        list(paragraphs([text[:1000], text[1000:]]))


@given(st.binary(max_size=300))
def test_noise_is_no_paragraph(noise: bytes) -> None:
    try:
        found = list(paragraphs([noise]))
    except BadParagraph:
        return
    assert all(name and "\n" not in name for fields in found for name in fields)
