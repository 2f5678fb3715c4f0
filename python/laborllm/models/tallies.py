"""How often each outcome followed each context, kept per pair that occurs.

Nothing of size contexts x outcomes is made: 43,000 titles take as much memory as the pairs that were seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from laborllm import _core

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]
Coded = tuple[Integers, int]
"""Codes, and how many there may be."""


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts of K pairs (context, outcome) in C contexts.

    Attributes:
        num_outcomes: Outcomes are in [0, num_outcomes).
        keys: context * num_outcomes + outcome, shape (K,), int64, ascending.
        values: Counts of those pairs, shape (K,), positive; sums of weights where rows are weighted.
    """

    num_outcomes: int
    keys: NDArray[np.int64]
    values: Floats

    @classmethod
    def of(
        cls,
        contexts: Sequence[Coded],
        outcomes: Integers,
        *,
        num_outcomes: int,
        chosen: NDArray[np.bool_] | None = None,
        weights: Floats | None = None,
    ) -> Self:
        """Count N rows on all threads; memory N beside the pairs.

        Args:
            contexts: Columns that make up the context, as digits of a number do, the first the highest: codes in
                [0, size), shape (N,), int8, int32 or int64, contiguous as all arrays here, where -1 stands for the
                last code. Without columns there is one context.
            outcomes: In [0, num_outcomes), shape (N,), of these types.
            num_outcomes: How many outcomes there may be.
            chosen: Rows that count, shape (N,); others may hold any code.
            weights: What each row counts, shape (N,), added in their order; rows of weight zero count nowhere.

        Raises:
            ModelError: A code out of its range, columns of different lengths, or more keys than int64 numbers.
        """
        return cls(num_outcomes, *_core.tally(contexts, (outcomes, num_outcomes), chosen, weights))

    @cached_property
    def outcomes(self) -> NDArray[np.int64]:
        """Outcome of each pair, shape (K,)."""
        return self.keys % self.num_outcomes

    @property
    def frequencies(self) -> Floats:
        """Counts of every outcome in all contexts together, shape (num_outcomes,)."""
        return np.bincount(self.outcomes, self.values, self.num_outcomes).astype(np.float64)

    @cached_property
    def contexts(self) -> NDArray[np.int64]:
        """Contexts that occur, shape (C,), ascending."""
        return self.keys[self.starts[:-1]] // self.num_outcomes

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First pair of each context, then K, shape (C + 1,)."""
        context = self.keys // self.num_outcomes
        begins = np.flatnonzero(np.diff(context, prepend=-1))
        return np.append(begins, len(self.keys))

    @cached_property
    def totals(self) -> Floats:
        """Sum of the counts of each context, then 0 for the context that never occurred, shape (C + 1,)."""
        sums = np.add.reduceat(self.values, self.starts[:-1]) if len(self.values) else np.empty(0)
        return np.append(sums, 0.0)

    def removed(self, discount: float) -> Floats:
        """What a discount takes off each context: the sum of min(count, discount), then 0, shape (C + 1,)."""
        if discount == 0 or not len(self.values):
            return np.zeros(len(self.totals))
        return np.append(np.add.reduceat(np.minimum(self.values, discount), self.starts[:-1]), 0.0)

    def places(self, contexts: Integers) -> NDArray[np.int64]:
        """Where N contexts stand among those that occur, C where they do not, shape (N,)."""
        known = self.contexts
        if not len(known):
            return np.zeros(len(contexts), np.int64)
        place = np.minimum(np.searchsorted(known, contexts), len(known) - 1)
        return np.where(known[place] == contexts, place, len(known))

    def at(self, places: Integers, outcomes: Integers) -> Floats:
        """Counts of M outcomes in n contexts, by their places (n,), zero where a pair never occurred, shape (n, M)."""
        if not len(self.keys):
            return np.zeros(outcomes.shape)
        contexts = np.append(self.contexts, -1)[places]
        wanted = contexts[:, None] * self.num_outcomes + outcomes
        pair = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[pair] == wanted, self.values[pair], 0.0)

    def dense(self, places: Integers) -> Floats:
        """Counts of every outcome of n contexts, by their places, shape (n, num_outcomes)."""
        starts = np.append(self.starts, self.starts[-1])
        lengths = starts[places + 1] - starts[places]
        row = np.repeat(np.arange(len(places)), lengths)
        pair = (
            np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + np.repeat(starts[places], lengths)
        )
        counts = np.zeros((len(places), self.num_outcomes))
        counts[row, self.outcomes[pair]] = self.values[pair]
        return counts
