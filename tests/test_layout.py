"""What each row of a pass sees is its own path: the rows of its prompt, the nodes above it, and itself."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from laborllm.score.attention import Pass
from laborllm.score.layout import (
    NO_STEM,
    NOTHING,
    Branch,
    Place,
    Rows,
    Stem,
    branches,
    chunks,
    forks,
    inner_nodes,
    inside_titles,
    trunks,
)
from laborllm.trie import TitleTrie
from tests.tries import UNITS


class Walk:
    """The trie by its units alone: a node is what has been written of a title."""

    def __init__(self, units: list[list[int]]) -> None:
        self.units = [tuple(unit) for unit in units]
        self.prefixes = sorted({unit[:depth] for unit in self.units for depth in range(len(unit) + 1)})
        self.trie = TitleTrie(units)
        self.node = {prefix: self._number(prefix) for prefix in self.prefixes}

    def _number(self, prefix: tuple[int, ...]) -> int:
        return int(self.trie.walk([list(prefix)])[0])

    def children(self, prefix: tuple[int, ...]) -> set[int]:
        return {one[-1] for one in self.prefixes if one[:-1] == prefix and one}

    def keep(self, prefixes: set[tuple[int, ...]]) -> np.ndarray:
        """These nodes and all above them, as an array over the trie's nodes."""
        closed = {prefix[:depth] for prefix in prefixes for depth in range(len(prefix) + 1)}
        keep = np.zeros(self.trie.num_nodes, bool)
        keep[[self.node[prefix] for prefix in closed]] = True
        return keep

    def in_order(self, keep: np.ndarray) -> list[tuple[int, ...]]:
        """The kept prefixes but the empty one, parents first and siblings by token: plain sorting of tuples."""
        return [prefix for prefix in self.prefixes if prefix and keep[self.node[prefix]]]


@st.composite
def kept(draw: st.DrawFn) -> tuple[Walk, np.ndarray]:
    """A trie, and some of its nodes with all above them."""
    walk = Walk(draw(UNITS))
    return walk, walk.keep(draw(st.sets(st.sampled_from(walk.prefixes))))


@given(kept())
def test_a_branch_is_the_kept_nodes_in_the_order_of_their_tokens(case):
    walk, keep = case
    prefixes = walk.in_order(keep)
    branch = Branch.of(walk.trie, keep)
    assert branch.nodes.tolist() == [walk.node[prefix] for prefix in prefixes]
    assert branch.tokens.tolist() == [prefix[-1] for prefix in prefixes]
    assert branch.depths.tolist() == [len(prefix) for prefix in prefixes]
    for place, (prefix, end) in enumerate(zip(prefixes, branch.ends.tolist(), strict=True)):
        below = [at for at, other in enumerate(prefixes) if other[: len(prefix)] == prefix]
        assert below == list(range(place, end))


@given(UNITS, st.data())
def test_inner_nodes_forks_and_the_nodes_inside_of_titles_are_what_their_names_say(units, data):
    walk = Walk(units)
    titles = data.draw(st.sets(st.integers(0, len(units) - 1)))
    inner = {prefix for prefix in walk.prefixes if walk.children(prefix)}
    several = {prefix for prefix in walk.prefixes if len(walk.children(prefix)) > 1}
    inside = {walk.units[title][:-1] for title in titles}
    assert inner_nodes(walk.trie).tolist() == walk.keep(inner).tolist()
    assert forks(walk.trie)[1:].tolist() == walk.keep(several)[1:].tolist()
    found = inside_titles(walk.trie, np.array(sorted(titles), np.int64))
    assert found[1:].tolist() == walk.keep(inside)[1:].tolist()


Key = tuple
"""What a row is, whatever its number: (text, position) in a trunk, (prompt, what has been written) behind one."""


def seen(rows: Rows, names: list[Key], known: list[Key], *, width: int) -> dict[Key, set[Key]]:
    """What each row sees, by `chunks` and by their definition of what is visible."""
    every = known + names
    result: dict[Key, set[Key]] = {}
    for chunk in chunks(rows, kept=len(known), width=width):
        assert 0 < chunk.stop - chunk.start <= width
        limits = np.repeat(rows.stops, np.diff(rows.starts))
        for row in range(chunk.start, chunk.stop):
            number = len(known) + row
            visible = [
                key < limits[row] if until < 0 else since <= number < until
                for key, since, until in zip(*(x.tolist() for x in (chunk.keys, chunk.since, chunk.until)), strict=True)
            ]
            assert names[row] not in result  # no row is computed twice
            keys = chunk.keys[np.array(visible, bool)].tolist()
            assert len(set(keys)) == len(keys)
            result[names[row]] = {every[key] for key in keys}
    return result


def masks(rows: Rows, names: list[Key], known: list[Key], positions: np.ndarray) -> dict[Key, set[Key]]:
    """The same by the masks of a pass; its positions are checked on the way."""
    one = Pass(rows, kept={}, kept_positions=positions, keep=None, backend="sdpa", device=torch.device("cpu"))
    every, at = known + names, np.concatenate([positions, rows.positions])
    result: dict[Key, set[Key]] = {}
    for group in one._groups:
        assert (group.row_positions.numpy() == rows.positions[group.rows.numpy()]).all()
        assert (group.key_positions.numpy() == at[group.keys.numpy()]).all()
        for chunk_rows, keys, visible in zip(
            *(x.numpy() for x in (group.rows, group.keys, group.visible)), strict=True
        ):
            for row, sees in zip(chunk_rows.tolist(), visible, strict=True):
                found = [every[key] for key in keys[sees]]
                assert len(set(found)) == len(found)
                assert result.setdefault(names[row], set(found)) == set(found)
    return result


@st.composite
def forests(draw: st.DrawFn) -> tuple[Walk, list[int], list[tuple[int, int]], list[np.ndarray], int]:
    """A trie, the lengths of some texts, prompts in them, the nodes that hang off each, and a width of chunks."""
    walk = Walk(draw(UNITS))
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    texts = sorted(draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=6)))
    prompts = [(text, draw(st.integers(1, lengths[text]))) for text in texts]
    keeps = [walk.keep(draw(st.sets(st.sampled_from(walk.prefixes), max_size=8))) for _ in prompts]
    return walk, lengths, prompts, keeps, draw(st.sampled_from([1, 2, 3, 5, 8, 128]))


def trunk_names(lengths: list[int]) -> list[Key]:
    return [("text", text, position) for text, length in enumerate(lengths) for position in range(length)]


def path(prompts: list[tuple[int, int]], prompt: int, prefix: tuple[int, ...]) -> set[Key]:
    """The rows of the prompt, the nodes above, and the node itself."""
    text, length = prompts[prompt]
    above = {(prompt, prefix[:depth]) for depth in range(1, len(prefix) + 1)}
    return {("text", text, position) for position in range(length)} | above


@given(forests())
def test_a_row_of_a_trunk_sees_its_own_text_up_to_itself(case):
    _, lengths, _, _, width = case
    rows = trunks([np.arange(length) for length in lengths])
    names = trunk_names(lengths)
    expected = {(_, text, at): {("text", text, k) for k in range(at + 1)} for _, text, at in names}
    assert rows.positions.tolist() == [position for _, _, position in names]
    assert seen(rows, names, [], width=width) == expected
    assert masks(rows, names, [], NOTHING) == expected


@given(forests())
def test_a_row_of_a_branch_sees_its_prompt_and_the_nodes_above_it_and_nothing_else(case):
    walk, lengths, prompts, keeps, width = case
    starts = np.cumsum([0, *lengths])
    hanging = [Branch.of(walk.trie, keep) for keep in keeps]
    places = [Place(text, int(starts[text]), length, NO_STEM) for text, length in prompts]
    rows = branches(places, hanging)
    names = [(prompt, prefix) for prompt, keep in enumerate(keeps) for prefix in walk.in_order(keep)]
    expected = {name: path(prompts, *name) for name in names}
    known = trunk_names(lengths)
    positions = np.array([position for _, _, position in known])
    assert rows.ids.tolist() == [prefix[-1] for _, prefix in names]
    assert rows.positions.tolist() == [prompts[prompt][1] + len(prefix) - 1 for prompt, prefix in names]
    assert seen(rows, names, known, width=width) == expected
    assert masks(rows, names, known, positions) == expected


@given(forests(), st.lists(st.integers(1, 9), min_size=30, max_size=30))
@settings(max_examples=50)
def test_a_branch_in_pieces_sees_what_it_sees_in_one(case, sizes):
    walk, lengths, prompts, keeps, width = case
    starts = np.cumsum([0, *lengths])
    prompt, (text, length) = 0, prompts[0]
    branch = Branch.of(walk.trie, keeps[0])
    prefixes = walk.in_order(keeps[0])
    known = trunk_names(lengths)
    positions = np.array([position for _, _, position in known])
    found: dict[Key, set[Key]] = {}
    stem, ends = NOTHING, NOTHING
    begin = 0
    for size in sizes:
        stop = min(begin + size, len(branch))
        if begin == stop:
            break
        place = Place(text, int(starts[text]), length, Stem(stem, ends - begin))
        rows = branches([place], [branch.piece(begin, stop)])
        names = [(prompt, prefix) for prefix in prefixes[begin:stop]]
        one = seen(rows, names, known, width=width)
        assert masks(rows, names, known, positions) == one
        found |= one
        keep = np.flatnonzero(branch.ends[begin:stop] > stop)
        stem = np.append(stem, len(known) + np.arange(len(keep)))
        ends = np.append(ends, branch.ends[begin:stop][keep])
        known = known + [names[at] for at in keep]
        positions = np.append(positions, rows.positions[keep])
        stem, ends = stem[ends > stop], ends[ends > stop]
        begin = stop
    assert found == {(prompt, prefix): path(prompts, prompt, prefix) for prefix in prefixes[:begin]}


@given(forests(), st.data())
@settings(max_examples=50)
def test_branches_that_hang_from_kept_nodes_see_these_and_not_those_of_others(case, data):
    walk, lengths, prompts, keeps, width = case
    starts = np.cumsum([0, *lengths])
    first = [(prompt, prefix) for prompt, keep in enumerate(keeps) for prefix in walk.in_order(keep)]
    known = trunk_names(lengths) + first
    places = branches(
        [Place(text, int(starts[text]), length, NO_STEM) for text, length in prompts],
        [Branch.of(walk.trie, keep) for keep in keeps],
    )
    positions = np.concatenate([[position for _, _, position in trunk_names(lengths)], places.positions])
    open_ones = [
        (prompt, prefix)
        for prompt, keep in enumerate(keeps)
        for prefix in walk.prefixes
        if prefix and not keep[walk.node[prefix]] and (len(prefix) == 1 or keep[walk.node[prefix[:-1]]])
    ]
    if not open_ones:
        return
    hung = sorted(data.draw(st.sets(st.sampled_from(open_ones), min_size=1)))
    at, hanging = [], []
    for prompt, prefix in hung:
        above = [known.index((prompt, prefix[:depth])) for depth in range(1, len(prefix))]
        text, length = prompts[prompt]
        at.append(
            Place(text, int(starts[text]), length, Stem(np.array(above, np.int64), np.ones(len(above), np.int64)))
        )
        hanging.append(Branch.chain(np.array(prefix[-1:]), np.array([walk.node[prefix]]), depth=len(prefix)))
    rows = branches(at, hanging)
    expected = {name: path(prompts, *name) for name in hung}
    assert seen(rows, hung, known, width=width) == expected
    assert masks(rows, hung, known, positions) == expected


@given(UNITS)
def test_a_chain_of_nodes_sees_all_of_itself_that_stands_before(units):
    unit = np.array(max(units, key=len))
    nodes = np.array([Walk(units).node[tuple(unit[: depth + 1])] for depth in range(len(unit))])
    chain = Branch.chain(unit, nodes, depth=1)
    assert chain.depths.tolist() == list(range(1, len(unit) + 1))
    rows = branches([Place(0, 0, 3, NO_STEM)], [chain])
    names = [("node", depth) for depth in range(len(unit))]
    known = trunk_names([3])
    sees = seen(rows, names, known, width=4)
    assert sees == {("node", d): set(known) | {("node", k) for k in range(d + 1)} for d in range(len(unit))}
