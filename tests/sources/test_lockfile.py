from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.lockfile import BadLock, Lock, LockedPackage, parse, render

name = st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,12}", fullmatch=True)
word = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,9}", fullmatch=True)
package = st.builds(
    LockedPackage,
    name,
    st.from_regex(r"[0-9A-Za-z.+:~-]{1,12}", fullmatch=True),
    st.sampled_from(["amd64", "all"]),
    st.from_regex(r"pool/main(/[A-Za-z0-9_+~%:-]{1,8}){1,3}\.deb", fullmatch=True),
    st.integers(0, 10**12),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
)
locks = st.builds(
    Lock,
    word,
    st.lists(word, min_size=1, max_size=2, unique=True).map(tuple),
    name,
    st.just("Sat, 11 Jul 2026 10:16:37 UTC"),
    st.lists(name, min_size=1, max_size=5, unique=True).map(tuple),
    st.lists(name, max_size=3, unique=True).map(tuple),
    st.lists(package, max_size=6, unique_by=lambda p: p.name).map(tuple),
)

SHA256 = "0123456789abcdef" * 4
GOOD = f"""builder-lock 1
suite bookworm
component main
architecture amd64
date Sat, 11 Jul 2026 10:16:37 UTC
want gcc
exclude debconf
package gcc 4:12.2.0-3 amd64 pool/main/g/gcc-defaults/gcc_12.2.0-3_amd64.deb 5216 {SHA256}
"""


@given(locks)
def test_what_is_written_is_read(lock: Lock) -> None:
    assert parse(render(lock), "x.lock") == lock


def test_the_format_does_not_change_unnoticed() -> None:
    lock = parse(GOOD, "x.lock")
    assert lock.packages == (
        LockedPackage("gcc", "4:12.2.0-3", "amd64", "pool/main/g/gcc-defaults/gcc_12.2.0-3_amd64.deb", 5216, SHA256),
    )
    assert (lock.suite, lock.components, lock.names, lock.excluded, lock.size) == (
        "bookworm",
        ("main",),
        ("gcc",),
        ("debconf",),
        5216,
    )
    assert render(lock) == GOOD


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("builder-lock 1", "builder-lock 2", 1, "first line"),
        ("suite bookworm\n", "", 7, "no line 'suite'"),
        ("suite bookworm", "suite bookworm\nsuite sid", 3, "twice"),
        ("want gcc", "want gcc\nwant gcc", 7, "twice"),
        ("want gcc", "want ../gcc", 6, "no value that can be right"),
        ("want gcc", "wants gcc", 6, "not a line of a lock file"),
        ("pool/main/g", "pool/../g", 8, "not a path"),
        ("pool/main/g", "/etc", 8, "not a path"),
        ("pool/main/g", "pool/main//g", 8, "not a path"),
        (" 5216 ", " -5216 ", 8, "not a line"),
        (" 5216 ", " 05216 ", 8, "not a line"),
        (" 5216 ", " 99999999999999 ", 8, "not a line"),
        (SHA256, SHA256.upper(), 8, "not a line"),
        (SHA256, SHA256[1:], 8, "not a line"),
        (SHA256 + "\n", SHA256, 8, "cut off"),
        ("exclude debconf\n", "\n", 7, "not a line"),
        ("component main\narchitecture amd64\n", "architecture amd64\ncomponent main\n", 3, "usual order"),
        (SHA256 + "\n", SHA256 + "\nwant more\n", 9, "not a line"),
    ],
)
def test_mistakes_have_a_line(old: str, new: str, line: int, message: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(BadLock, match=message) as caught:
        parse(GOOD.replace(old, new), "x.lock")
    assert (caught.value.path, caught.value.line) == ("x.lock", line)
    assert str(caught.value).startswith(f"x.lock:{line}: ")


def test_a_package_twice() -> None:
    last = GOOD.splitlines()[-1]
    with pytest.raises(BadLock, match="gcc is there twice"):
        parse(f"{GOOD}{last}\n", "x.lock")


@given(st.text(alphabet=st.sampled_from("\n abpool/package want suite1"), max_size=200))
def test_any_text_is_a_lock_or_a_mistake(text: str) -> None:
    for attempt in (text, "builder-lock 1\n" + text, GOOD + text, GOOD.replace("gcc", text)):
        try:
            lock = parse(attempt, "x.lock")
        except BadLock:
            continue
        assert render(lock) == attempt


def test_reading_a_lock_needs_no_heavy_module() -> None:
    heavy = {"json", "urllib3", "pysequoia", "sqlite3", "ctypes", "tarfile"}
    code = f"import sys, builder.lockfile; print(*(set(sys.modules) & {heavy!r}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
