from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laborllm.errors import ModelError
from laborllm.models.tallies import Tally

TYPES = {np.int8: 100, np.int32: 43_001, np.int64: 43_001}


def plain(contexts, outcomes, *, num_outcomes, chosen=None, weights=None):
    """The slow twin: one key for each row, sorted, and the weights of equal keys added in their order."""
    keys = np.zeros(len(outcomes), np.int64)
    for codes, size in contexts:
        keys = keys * size + codes % size  # -1 is the last
    keys = keys * num_outcomes + outcomes
    weights = np.ones(len(keys)) if weights is None else weights
    counts = (weights > 0) & (True if chosen is None else chosen)
    keys, place = np.unique(keys[counts], return_inverse=True)
    return Tally(num_outcomes, keys, np.bincount(place, weights[counts], len(keys)))


def assert_equal(one, other):
    assert (one.keys.dtype, one.values.dtype) == (np.int64, np.float64)
    assert np.array_equal(one.keys, other.keys)
    assert np.array_equal(one.values, other.values)


@st.composite
def columns(draw, rows, *, least):
    kind = draw(st.sampled_from(list(TYPES)))
    size = draw(st.integers(1, TYPES[kind]))
    few = draw(st.lists(st.integers(least, size - 1), min_size=1, max_size=4))  # so that keys repeat
    return draw(rows(st.sampled_from(few), kind)), size


@st.composite
def tables(draw):
    count = draw(st.integers(0, 60))

    def rows(values, kind):
        return st.lists(values, min_size=count, max_size=count).map(lambda values: np.array(values, kind))

    contexts = draw(st.lists(columns(rows, least=-1), max_size=3))
    outcomes, num_outcomes = draw(columns(rows, least=0))
    return {
        "contexts": contexts,
        "outcomes": outcomes,
        "num_outcomes": num_outcomes,
        "chosen": draw(st.none() | rows(st.booleans(), bool)),
        "weights": draw(st.none() | rows(st.sampled_from([0.0, 0.1, 0.7, 1.0, 3.0]), float)),
    }


@settings(deadline=None)
@given(table=tables())
def test_rows_are_counted_as_the_slow_twin_counts_them_to_the_last_bit(table):
    assert_equal(Tally.of(**table), plain(**table))


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [50, 1_300, 43_001])
def test_many_rows_in_small_and_large_key_spaces_are_counted_as_the_slow_twin_counts_them(size, order):
    rng = np.random.default_rng(order)
    drawn = np.minimum(rng.zipf(1.5, (order + 1, 300_000)), size).astype(np.int32) - 1
    contexts = [(np.where(rng.random(300_000) < 0.1, -1, codes).astype(np.int32), size) for codes in drawn[:order]]
    chosen, weights = rng.random(300_000) < 0.6, rng.random(300_000).round(1)
    for more in ({}, {"chosen": chosen}, {"weights": weights}, {"chosen": chosen, "weights": weights}):
        table = {"contexts": contexts, "outcomes": drawn[order], "num_outcomes": size, **more}
        assert_equal(Tally.of(**table), plain(**table))


def test_frequencies_are_the_counts_of_outcomes_whatever_the_context():
    tally = Tally.of([(np.array([0, 2, 2, 1]), 3)], np.array([1, 3, 1, 1]), num_outcomes=5)
    assert tally.frequencies.tolist() == [0, 3, 0, 1, 0]
    assert Tally.of((), np.empty(0, np.int32), num_outcomes=2).frequencies.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("contexts", "outcomes", "options", "words"),
    [
        ([([0, 0, -2], 3)], [0, 0, 0], {}, "row 2 holds the code -2 in column 0, whose codes are -1 to 2"),
        ([([0, 3, 0], 3)], [0, 0, 0], {}, "row 1 holds the code 3 in column 0"),
        ([([0, 0, 0], 3)], [0, -1, 0], {}, "row 1 holds the code -1 in column 1, whose codes are 0 to 3"),
        ([([0, 0, 0], 3)], [0, 0, 4], {"chosen": np.array([True, False, True])}, "row 2 holds the code 4"),
        ([([0, 0], 3)], [0, 0, 0], {}, "3 outcomes but 2 codes"),
        ([([0, 0, 0], 3)], [0, 0, 0], {"weights": np.ones(4)}, "3 outcomes but 4 codes, marks or weights"),
        ([([0, 0, 0], 2**40)] * 2, [0, 0, 0], {}, "make more combinations than int64 numbers; condition on less"),
    ],
)
def test_codes_that_cannot_be_counted_are_refused_in_one_line(contexts, outcomes, options, words):
    columns = [(np.array(codes), size) for codes, size in contexts]
    with pytest.raises(ModelError, match=words) as caught:
        Tally.of(columns, np.array(outcomes), num_outcomes=4, **options)
    assert "\n" not in str(caught.value)


def test_rows_that_do_not_count_may_hold_any_code():
    outcomes, chosen = np.array([7, 1, -5]), np.array([False, True, True])
    tally = Tally.of((), outcomes, num_outcomes=2, chosen=chosen, weights=np.array([1.0, 0.5, 0.0]))
    assert (tally.keys.tolist(), tally.values.tolist()) == ([1], [0.5])
