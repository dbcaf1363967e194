"""Merging trees: laws, conflicts, and who wins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.digest import Digest
from store.manifest import DIRECTORY, BadEntry, File, Manifest, MergeConflict, Node, Symlink, merge
from tests.store.test_formats import manifests


def blob(data: bytes, *, executable: bool = False) -> File:
    return File(Digest.of(data), len(data), executable)


def made(**entries: Node) -> Manifest:
    return Manifest.with_parents((name.replace("__", "/").encode(), node) for name, node in entries.items())


A, B = blob(b"a"), blob(b"b")


@given(manifests())
def test_a_tree_merged_with_itself_or_nothing_is_itself(tree: Manifest) -> None:
    assert merge([("x", tree), ("y", tree)]) == tree
    assert merge([("x", tree), ("y", Manifest([]))]) == merge([("y", Manifest([])), ("x", tree)]) == tree
    assert merge([]) == Manifest([])


@given(st.lists(manifests(), min_size=2, max_size=3), st.randoms())
def test_the_order_of_trees_says_nothing(trees: list[Manifest], random: object) -> None:
    labelled = [(str(number), tree) for number, tree in enumerate(trees)]
    outcomes: list[Manifest | None] = []
    for order in (labelled, labelled[::-1]):
        try:
            outcomes.append(merge(order))
        except MergeConflict as conflict:
            assert conflict.first != conflict.second
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]


@given(manifests(), manifests())
def test_a_merge_has_all_of_both_or_names_a_difference(one: Manifest, two: Manifest) -> None:
    different = [path for path in one.nodes if path in two and one.nodes[path] != two.nodes[path]]
    try:
        both = merge([("one", one), ("two", two)])
    except MergeConflict as conflict:
        assert conflict.path in different
        assert {conflict.first, conflict.second} == {"one", "two"}
    else:
        assert not different
        assert dict(both.nodes) == {**one.nodes, **two.nodes}


@given(manifests(), manifests(), manifests())
def test_three_at_once_are_two_and_one(one: Manifest, two: Manifest, three: Manifest) -> None:
    try:
        first = merge([("one", one), ("two", two)])
        step_by_step = merge([("both", first), ("three", three)])
    except MergeConflict:
        with pytest.raises(MergeConflict):
            merge([("one", one), ("two", two), ("three", three)])
    else:
        assert merge([("one", one), ("two", two), ("three", three)]) == step_by_step


@pytest.mark.parametrize(
    "other",
    [B, blob(b"a", executable=True), Symlink(b"a"), DIRECTORY],
    ids=["content", "executable", "link", "directory"],
)
def test_any_difference_is_a_conflict(other: Node) -> None:
    for trees in ([("x", made(f=A)), ("y", made(f=other))], [("y", made(f=other)), ("x", made(f=A))]):
        with pytest.raises(MergeConflict) as caught:
            merge(trees)
        assert caught.value.path == b"f"
        assert "x" in caught.value.message
        assert "y" in caught.value.message
        assert "wins" in caught.value.hint


def test_who_wins() -> None:
    for trees in ([("x", made(f=A, g=A)), ("y", made(f=B))], [("y", made(f=B)), ("x", made(f=A, g=A))]):
        assert merge(trees, wins={b"f": "x"}) == made(f=A, g=A)
        assert merge(trees, wins={b"f": "y"}) == made(f=B, g=A)
        with pytest.raises(MergeConflict):
            merge(trees, wins={b"f": "z"})
        with pytest.raises(MergeConflict):
            merge(trees, wins={b"g": "x"})


def test_the_winner_of_three() -> None:
    trees = [("x", made(f=A)), ("y", made(f=B)), ("z", made(f=blob(b"c")))]
    for label, tree in trees:
        for order in (trees, trees[::-1], [trees[1], trees[2], trees[0]]):
            assert merge(order, wins={b"f": label}) == tree


def test_a_file_that_wins_over_a_directory_hides_what_is_in_it() -> None:
    folder = made(f__a=A, f__b__c=B, fa=B)
    for trees in ([("x", folder), ("y", made(f=A))], [("y", made(f=A)), ("x", folder)]):
        assert merge(trees, wins={b"f": "y"}) == made(f=A, fa=B)
        assert merge(trees, wins={b"f": "x"}) == folder


def test_a_directory_that_loses_takes_nothing_of_a_third_tree_along() -> None:
    trees = [("x", made(f__a=A)), ("y", made(f=A)), ("z", made(f__a=B))]
    for order in (trees, trees[::-1], [trees[1], trees[0], trees[2]]):
        assert merge(order, wins={b"f": "y", b"f/a": "x"}) == made(f=A)


@given(manifests())
def test_moved_below_and_back(tree: Manifest) -> None:
    assert tree.under(b"some/where").below(b"some/where") == tree


def test_below_what_is_no_directory() -> None:
    with pytest.raises(KeyError):
        made(f=A).below(b"f")
    with pytest.raises(KeyError):
        made(f=A).below(b"g")
    with pytest.raises(BadEntry):
        made(f=A).under(b"../x")
