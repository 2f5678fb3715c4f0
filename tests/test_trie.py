"""The trie over the tokens of titles."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from laborllm.errors import TrieError
from laborllm.trie import TitleTrie

END = 99
UNITS = st.lists(
    st.lists(st.integers(0, 3), max_size=4).map(lambda body: [*body, END]), min_size=1, max_size=25, unique_by=tuple
)


@settings(max_examples=100, deadline=None)
@given(UNITS)
def test_a_walk_along_a_unit_ends_in_its_title_and_sees_what_others_allow(units: list[list[int]]) -> None:
    trie = TitleTrie(units)
    prefixes = {tuple(unit[:end]) for unit in units for end in range(len(unit) + 1)}
    assert trie.num_nodes == len(prefixes)
    for title, unit in enumerate(units):
        for depth in range(len(unit)):
            state = trie.walk(unit[:depth])
            assert state is not None
            assert trie.title(state) is None
            assert trie.allowed(state) == sorted({other[depth] for other in units if other[:depth] == unit[:depth]})
            assert trie.advance(state, unit[depth]) == trie.walk(unit[: depth + 1])
            assert trie.advance(state, 50) is None
        end = trie.walk(unit)
        assert end is not None
        assert (trie.title(end), trie.allowed(end)) == (title, [])
        assert trie.walk([*unit, END]) is None


@settings(max_examples=100, deadline=None)
@given(UNITS)
def test_the_flat_arrays_are_the_trie(units: list[list[int]]) -> None:
    trie = TitleTrie(units)
    assert (trie.first.dtype, trie.labels.dtype, trie.title_of.dtype) == (np.uint32, np.uint32, np.int32)
    assert (len(trie.first), len(trie.labels), len(trie.title_of)) == (
        trie.num_nodes + 1,
        trie.num_nodes - 1,
        trie.num_nodes,
    )
    assert trie.first[0] == 0
    assert trie.first[-1] == len(trie.labels)
    paths: list[list[int]] = [[]] * trie.num_nodes
    for node in range(trie.num_nodes):
        edges = range(int(trie.first[node]), int(trie.first[node + 1]))
        assert trie.labels[edges.start : edges.stop].tolist() == trie.allowed(node)
        for edge in edges:
            paths[edge + 1] = [*paths[node], int(trie.labels[edge])]
    assert [len(path) for path in paths] == sorted(len(path) for path in paths)
    assert {int(title): path for title, path in zip(trie.title_of, paths, strict=True) if title >= 0} == dict(
        enumerate(units)
    )


def test_the_arrays_are_views_that_cannot_be_written() -> None:
    trie = TitleTrie([[1, 2]])
    assert trie.labels is trie.labels
    assert not trie.labels.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        trie.labels[0] = 7


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ([[1], []], "the unit in row 1 is empty"),
        ([[5, 6], [1], [5, 6]], "rows 0 and 2 are the same"),
        ([[5, 6, 7], [1], [5, 6]], "the unit in row 2 begins the unit in row 0; add the terminator"),
        ([[1], [-1]], "the unit in row 1 holds a token id outside"),
        ([[1 << 32]], "the unit in row 0 holds a token id outside"),
    ],
)
def test_units_that_cannot_be_told_apart_are_refused_by_row(units: list[list[int]], message: str) -> None:
    with pytest.raises(TrieError, match=message):
        TitleTrie(units)


def test_unknown_states_are_refused() -> None:
    trie = TitleTrie([[1, 2]])
    for call in (trie.allowed, trie.title, lambda state: trie.advance(state, 1)):
        with pytest.raises(TrieError, match=r"no state 3; states are 0 \(the root\) to 2"):
            call(3)
    assert trie.advance(0, -1) is None
    assert repr(trie) == "TitleTrie(num_nodes=3)"
