from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.versions import compare, satisfies

# Each is earlier than the next.
ORDER = [
    "~~",
    "~~a",
    "~",
    "0",
    "0+b1",
    "0.0~rc1",
    "0.0",
    "0.9",
    "0.10",
    "1.0~beta1~svn1245",
    "1.0~beta1",
    "1.0",
    "1.0-1~deb12u1",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1.1",
    "1.0-10",
    "1.0a",
    "1.0a7-1",
    "1.0+dfsg",
    "1.0-a-1",
    "1.0.1",
    "2023.10",
    "1:0.1",
    "1:1.2.13.dfsg-1",
    "4:12.2.0-3",
    "10:0",
]
SAME = [("1.0", "1.00"), ("1.0", "0:1.0"), ("1.0-0", "1.0"), ("0", ""), ("1.0-", "1.0"), ("007", "7"), ("1.a", "1.a0")]


def test_the_order_of_versions() -> None:
    for place, one in enumerate(ORDER):
        for other, two in enumerate(ORDER):
            found = compare(one, two)
            assert (found > 0) - (found < 0) == (place > other) - (place < other), (one, two)


@pytest.mark.parametrize(("one", "two"), SAME)
def test_versions_that_are_the_same(one: str, two: str) -> None:
    assert compare(one, two) == compare(two, one) == 0


versions = st.text(alphabet="019aZ.+~-:", max_size=10)


@given(versions, versions, versions)
def test_it_is_an_order(one: str, two: str, three: str) -> None:
    assert compare(one, one) == 0
    assert compare(one, two) == -compare(two, one)
    if compare(one, two) <= 0 and compare(two, three) <= 0:
        assert compare(one, three) <= 0


def test_relations() -> None:
    for relation, low, same, high in (
        ("<<", True, False, False),
        ("<=", True, True, False),
        ("=", False, True, False),
        (">=", False, True, True),
        (">>", False, False, True),
    ):
        assert (satisfies("1~", relation, "1"), satisfies("1", relation, "1"), satisfies("1.1", relation, "1")) == (
            low,
            same,
            high,
        )


@given(st.from_regex(r"([0-9]:)?[0-9][0-9a.+~]{0,6}(-[0-9a.+~]{1,4})?", fullmatch=True), st.data())
def test_dpkg_is_of_the_same_opinion(one: str, data: st.DataObject) -> None:
    # Where there is no dpkg, the order above is what holds.
    dpkg = shutil.which("dpkg")
    two = data.draw(st.from_regex(r"([0-9]:)?[0-9][0-9a.+~]{0,6}(-[0-9a.+~]{1,4})?", fullmatch=True))
    found = compare(one, two)
    relation = "lt" if found < 0 else "gt" if found > 0 else "eq"
    assert dpkg is None or subprocess.run([dpkg, "--compare-versions", one, relation, two], check=False).returncode == 0
