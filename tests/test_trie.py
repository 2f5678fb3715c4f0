"""The trie over the tokens of titles."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings

from laborllm.errors import FileError, TrieError
from laborllm.trie import TitleTrie
from tests.tries import END, UNITS, DictTrie, random_units

NOWHERE = TitleTrie.NOWHERE


def rows_of(bounds: np.ndarray, *arrays: np.ndarray) -> list[tuple[list[int], ...]]:
    return [tuple(array[start:stop].tolist() for array in arrays) for start, stop in pairwise(bounds)]


def same(left: TitleTrie, right: TitleTrie) -> bool:
    names = ("first", "labels", "titles", "leaves")
    return all(
        getattr(left, name).dtype == getattr(right, name).dtype
        and np.array_equal(getattr(left, name), getattr(right, name))
        for name in names
    )


@settings(max_examples=100, deadline=None)
@given(UNITS, st.lists(st.lists(st.integers(-1, END), min_size=6, max_size=6), min_size=1, max_size=20))
def test_every_walk_sees_what_a_trie_of_dictionaries_allows(
    units: list[list[int]], random_ids: list[list[int]]
) -> None:
    trie, plain = TitleTrie(units), DictTrie(units)
    ids = random_ids + [(unit + [3] * 6)[:6] for unit in units]
    states = np.zeros(len(ids), np.uint32)
    for depth in range(7):
        np.testing.assert_array_equal(trie.walk([row[:depth] for row in ids]), states)
        bounds, tokens = trie.allowed(states)
        edges = trie.edges(states)
        for row, state, title, (allowed, leads) in zip(
            ids, states, trie.title(states), rows_of(bounds, tokens, edges), strict=True
        ):
            unit = next((unit for unit in units if row[: len(unit)] == unit and len(unit) <= depth), None)
            assert title == (-1 if unit is None else units.index(unit))
            assert allowed == ([] if unit else [token for token in plain.allowed(row[:depth], stop=-1) if token >= 0])
            after = trie.step(np.full(len(allowed), state, np.uint32), allowed)
            np.testing.assert_array_equal(after, trie.advance(np.array(leads, np.uint32)))
            np.testing.assert_array_equal(trie.rollback(after), np.full(len(allowed), state, np.uint32))
        if depth < 6:
            states = trie.step(states, [row[depth] for row in ids])


@settings(max_examples=100, deadline=None)
@given(UNITS)
def test_the_flat_arrays_are_the_trie(units: list[list[int]]) -> None:
    trie = TitleTrie(units)
    assert (trie.first.dtype, trie.labels.dtype) == (np.uint32, np.uint16)
    assert (len(trie.first), len(trie.labels)) == (trie.num_nodes + 1, trie.num_nodes - 1)
    assert trie.num_nodes == len({tuple(unit[:end]) for unit in units for end in range(len(unit) + 1)})
    paths: list[list[int]] = [[]] * trie.num_nodes
    for node in range(trie.num_nodes):
        for edge in range(int(trie.first[node]), int(trie.first[node + 1])):
            paths[edge + 1] = [*paths[node], int(trie.labels[edge])]
    assert [len(path) for path in paths] == sorted(len(path) for path in paths)
    ends = zip(trie.titles.tolist(), trie.leaves.tolist(), strict=True)
    assert {title: paths[node] for title, node in ends} == dict(enumerate(units))


@settings(max_examples=50, deadline=None)
@given(UNITS, st.data())
def test_under_a_subset_only_its_titles_can_be_said(units: list[list[int]], data: st.DataObject) -> None:
    trie = TitleTrie(units)
    sets = data.draw(
        st.lists(st.lists(st.booleans(), min_size=len(units), max_size=len(units)), min_size=1, max_size=3)
    )
    subsets = trie.restrict(sets)
    for chosen, bitmap in zip(sets, subsets, strict=True):
        said, states = set(), np.zeros(1, np.uint32)
        while len(states):
            said |= set(trie.title(states).tolist())
            states = trie.advance(trie.edges(states, subsets=bitmap[None]))
        assert said - {-1} == {title for title, kept in enumerate(chosen) if kept}
    which = np.arange(trie.num_nodes) % len(sets)
    states = np.arange(trie.num_nodes, dtype=np.uint32)
    together = rows_of(
        *trie.allowed(states, subsets=subsets, which=which), trie.edges(states, subsets=subsets, which=which)
    )
    for n, found in enumerate(together):
        one = {"subsets": subsets[[which[n]]]}
        assert [found] == rows_of(*trie.allowed(states[[n]], **one), trie.edges(states[[n]], **one))


@settings(max_examples=50, deadline=None)
@given(UNITS, st.integers(0, 2**32 - 1))
def test_a_bitmask_has_the_bits_of_what_may_follow_and_no_others(units: list[list[int]], seed: int) -> None:
    units = [[token + 60 for token in unit] for unit in units]
    trie, random = TitleTrie(units), np.random.default_rng(seed)
    mask = np.full((7, 4), -1, np.int32)
    previous = None
    for _ in range(3):
        states = random.integers(trie.num_nodes, size=7).astype(np.uint32)
        trie.fill_bitmask(states, mask, previous=previous)
        bits = np.unpackbits(mask.view(np.uint8), axis=1, bitorder="little")
        assert [np.flatnonzero(row).tolist() for row in bits] == [t for (t,) in rows_of(*trie.allowed(states))]
        previous = states


def at(trie: TitleTrie, *prefixes: list[int]) -> np.ndarray:
    return np.concatenate([trie.walk([prefix]) for prefix in prefixes])


def test_forced_tokens_lead_to_the_next_choice_or_to_the_end_of_a_title() -> None:
    trie = TitleTrie([[1, 2, 3, 9], [1, 2, 4, 5, 9]])
    states = at(trie, [], [1], [1, 2], [1, 2, 4], [8])
    bounds, tokens, ends = trie.forced(states)
    assert rows_of(bounds, tokens) == [([1, 2],), ([2],), ([],), ([5, 9],), ([],)]
    np.testing.assert_array_equal(ends, at(trie, [1, 2], [1, 2], [1, 2], [1, 2, 4, 5, 9], [8]))
    assert states[-1] == NOWHERE


def test_beams_are_reordered_by_indexing_and_rolled_back_by_ancestors() -> None:
    units = random_units(200, tokens=12, longest=7)
    trie = TitleTrie(units)
    states = at(trie, *(unit[:5] for unit in units))
    order = np.random.default_rng(0).permutation(len(units))
    np.testing.assert_array_equal(states[order], at(trie, *(units[row][:5] for row in order)))
    for steps in range(8):
        back = [unit[: max(0, min(5, len(unit)) - steps)] for unit in units]
        np.testing.assert_array_equal(trie.rollback(states, steps=steps), at(trie, *back))


@pytest.mark.parametrize("ids", [[[1], [1, 2]], [[0.5]], [1, 2], [["a"]]])
def test_ids_that_are_no_rows_of_tokens_are_refused(ids: object) -> None:
    with pytest.raises(TrieError, match=r"^ids "):
        TitleTrie([[1, 2]]).walk(ids)


@pytest.mark.parametrize("greatest", [65_535, 65_536, 2**31 - 2])
def test_labels_are_as_narrow_as_the_tokens_allow(greatest: int) -> None:
    trie = TitleTrie([[greatest, 1], [2, greatest]])
    assert trie.labels.dtype == (np.uint16 if greatest < 65_536 else np.uint32)
    assert trie.vocabulary == greatest + 1
    assert trie.labels.tolist() == [2, greatest, greatest, 1]
    assert trie.title(trie.walk([[2, greatest], [greatest, 1]])).tolist() == [1, 0]


def test_memory_is_what_the_documentation_says() -> None:
    for low, each in [(0, 6.2), (70_000, 8.2)]:
        units = [[token + low for token in unit] for unit in random_units(20_000, tokens=40, longest=8)]
        trie = TitleTrie(units)
        assert trie.nbytes <= each * trie.num_nodes + 4 * trie.num_titles + trie.vocabulary / 8 + 100


def test_units_may_come_in_any_layout_of_lists() -> None:
    units = random_units(50, tokens=20, longest=5)
    expected = TitleTrie(units)
    widths = [pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64()]
    layouts = [pa.array(units, kind(width)) for width in widths for kind in (pa.list_, pa.large_list)]
    layouts.append(pa.array([[7, 7], *units, [8]], pa.list_(pa.int32())).slice(1, len(units)))
    layouts.append(pa.chunked_array([pa.array(units[:9]), pa.array(units[9:])]))
    layouts.append(pl.Series(units))
    for units_in_layout in layouts:
        assert same(TitleTrie(units_in_layout), expected)
    pairs = [[token, 9] for token in range(5)]
    assert same(TitleTrie(pa.array(pairs, pa.list_(pa.int32(), 2))), TitleTrie(pairs))


def test_the_arrays_are_views_that_cannot_be_written() -> None:
    trie = TitleTrie([[1, 2]])
    assert trie.labels is trie.labels
    assert not trie.labels.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        trie.labels[0] = 7


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ([], "needs at least one title"),
        ([[1], []], "the unit in row 1 is empty"),
        ([[1], [], [2], []], "the units in rows 1, 3 are empty"),
        ([[7] * 513], "the unit in row 0 has more than 512 tokens"),
        ([[5, 6], [1], [5, 6]], "the unit in row 0 equals the unit in row 2"),
        ([[5, 6, 7], [1], [5, 6]], "the unit in row 2 begins the unit in row 0; add the terminator"),
        ([[1], [-1]], "the unit in row 1 holds -1"),
        ([[1], [2, None]], "the unit in row 1 holds a null"),
        ([[1], None], "the unit in row 1 is empty"),
        ([[1 << 31]], "the unit in row 0 holds 2147483648"),
        ([[1 << 70]], "units are lists of token ids"),
        ("text", "units are lists of token ids"),
        (pa.array(["text"]), "units are lists of token ids, not"),
        (pa.array([[0.5]]), "units are lists of token ids, not"),
        ([[1.5, 2.0]], "units are lists of token ids, not"),
        ([b"ab"], "units are lists of token ids, not"),
        (pa.array([[5], [2**63 + 1]], pa.list_(pa.uint64())), "the unit in row 1 holds no number that 63 bits hold"),
        ([[None]], "the unit in row 0 holds no number"),
    ],
)
def test_units_that_make_no_trie_are_refused_by_row(units: object, message: str) -> None:
    with pytest.raises(TrieError, match=message):
        TitleTrie(units)


def test_what_the_trie_never_gave_is_refused() -> None:
    trie = TitleTrie([[1, 2], [40]])
    unknown = np.array([0, 4], np.uint32)
    for call in (trie.allowed, trie.title, trie.forced, trie.rollback, lambda states: trie.step(states, [1, 1])):
        with pytest.raises(TrieError, match=r"row 1 is in state 4, .* its states are 0 \(the root\) to 3"):
            call(unknown)
    with pytest.raises(TrieError, match="row 1 takes edge 4"):
        trie.advance(unknown)
    root = np.zeros(1, np.uint32)
    with pytest.raises(TrieError, match="row 0 asks for subset 1 of 1"):
        trie.allowed(root, subsets=trie.restrict([True, False]), which=np.array([1]))
    with pytest.raises(TrieError, match="a subset of 2 words is not one of this trie, whose subsets have 1"):
        trie.allowed(root, subsets=np.zeros((1, 2), np.uint64))
    for sets in ([True], [], [[True, False], [True]], np.zeros((0, 2), bool), [1, 0], ["no", ""]):
        with pytest.raises(TrieError, match=r"one for each of the 2 titles|make no array"):
            trie.restrict(sets)
    two = trie.restrict(np.eye(2, dtype=bool))
    for call in (trie.allowed, trie.edges):
        with pytest.raises(TrieError, match="there are 1 states but 2 subsets"):
            call(root, subsets=two)
        with pytest.raises(TrieError, match="there are 1 states but 3 entries of which"):
            call(root, subsets=two, which=np.zeros(3, np.int64))
        with pytest.raises(TrieError, match="subsets must be a contiguous"):
            call(np.zeros(2, np.uint32), subsets=np.asfortranarray(np.tile(two, (1, 2))))
        with pytest.raises(TrieError, match="which= names sets, but there are none"):
            call(root, which=np.zeros(1, np.int64))
    with pytest.raises(TrieError, match="steps=-1"):
        trie.rollback(root, steps=-1)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((1, 1), np.int32), "the bitmask has 1 words a row, the titles need 2"),
        (np.zeros((2, 2), np.int32), "there are 1 states but 2 rows of the bitmask"),
        (
            np.zeros((1, 2), np.int64),
            r"bitmask must be .* int32 numpy array of 2 dimensions, not int64",
        ),
        (np.zeros((1, 4), np.int32)[:, ::2], "bitmask must be a contiguous"),
        (np.zeros((2, 2), np.int32, order="F"), "bitmask must be a contiguous"),
        ([np.zeros(2, np.int32)], "the bitmask is a list, not memory to write to"),
        (np.broadcast_to(np.int32(0), (1, 2)), "bitmask must be a contiguous"),
    ],
)
def test_bitmasks_of_another_kind_are_refused(mask: object, message: str) -> None:
    with pytest.raises(TrieError, match=message):
        TitleTrie([[1, 2], [40]]).fill_bitmask(np.zeros(1, np.uint32), mask)


@pytest.mark.parametrize("states", [[0], np.zeros(1), np.zeros(1, np.int64), np.zeros((1, 1), np.uint32), None])
def test_states_of_another_kind_are_refused(states: object) -> None:
    with pytest.raises(TrieError, match=r"states must be a contiguous \(C order\) uint32 numpy array of 1 dimension"):
        TitleTrie([[1, 2]]).allowed(states)


def test_a_trie_survives_a_file_and_another_process(tmp_path: Path) -> None:
    for low in (0, 70_000):
        trie = TitleTrie([[token + low for token in unit] for unit in random_units(300, tokens=30, longest=6)])
        path = tmp_path / f"{low}.arrow"
        trie.save(path)
        for other in (TitleTrie.load(path), pickle.loads(pickle.dumps(trie))):  # noqa: S301  our own bytes
            assert same(other, trie)
            assert (other.nbytes, other.vocabulary) == (trie.nbytes, trie.vocabulary)
        with pytest.raises(FileError, match="exists"):
            trie.save(path)
        assert len(pickle.dumps(trie)) < 1.2 * trie.nbytes + 2_000


def test_threads_that_save_under_one_name_do_not_meet(tmp_path: Path) -> None:
    trie, path = TitleTrie(random_units(300, tokens=30, longest=6)), tmp_path / "titles.arrow"

    def save_and_load(_: int) -> bool:
        trie.save(path, overwrite=True)
        return same(TitleTrie.load(path), trie)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(save_and_load, range(80)))
    assert [file.name for file in tmp_path.iterdir()] == ["titles.arrow"]


def test_the_longest_unit_is_known() -> None:
    units = random_units(300, tokens=30, longest=6)
    assert TitleTrie(units).longest == max(map(len, units))


def test_a_loaded_trie_outlives_its_name(tmp_path: Path) -> None:
    trie, path = TitleTrie(random_units(300, tokens=30, longest=6)), tmp_path / "titles.arrow"
    trie.save(path)
    loaded = TitleTrie.load(path)
    path.unlink()
    assert same(loaded, trie)


def test_a_damaged_file_is_an_error_or_the_same_trie(tmp_path: Path) -> None:
    trie, path = TitleTrie(random_units(40, tokens=9, longest=5)), tmp_path / "titles.arrow"
    trie.save(path)
    content = path.read_bytes()
    damaged = tmp_path / "damaged.arrow"
    changes = [
        content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :] for at in range(len(content)) for bit in (1, 128)
    ]
    refused = 0
    for change in [*changes, *(content[:end] for end in range(0, len(content), 7))]:
        damaged.write_bytes(change)
        try:
            assert same(TitleTrie.load(damaged), trie)
        except FileError:
            refused += 1
    arrays = trie.first.nbytes + trie.labels.nbytes + trie.titles.nbytes
    assert refused > 2 * arrays


def test_files_that_are_no_trie_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.arrow"
    with pytest.raises(FileError, match="is no file"):
        TitleTrie.load(path)
    table = pa.table({"first": [[1]]})
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)
    with pytest.raises(FileError, match="this is no title-trie 1"):
        TitleTrie.load(path)


def test_one_trie_in_64_threads_gives_the_same_as_in_one() -> None:
    units = random_units(3_000, tokens=50, longest=6)
    trie = TitleTrie(units)
    random = np.random.default_rng(0)
    batches = [random.integers(trie.num_nodes, size=500).astype(np.uint32) for _ in range(256)]

    def answers(states: np.ndarray) -> list[bytes]:
        mask = np.zeros((len(states), 2), np.int32)
        trie.fill_bitmask(states, mask)
        found = [
            *trie.allowed(states),
            trie.edges(states),
            *trie.forced(states),
            trie.title(states),
            trie.rollback(states),
            mask,
        ]
        return [array.tobytes() for array in found]

    with ThreadPoolExecutor(64) as threads:
        together = list(threads.map(answers, batches))
    assert together == [answers(states) for states in batches]
