"""How often each outcome followed each context, kept per pair that occurs.

Nothing of size contexts x outcomes is made: 43,000 titles take as much memory as the pairs that were seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]

DENSE = 1 << 16
"""Keys below this, or below the number of rows, are counted in an array of all of them."""


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
    def of(cls, contexts: Integers, outcomes: Integers, *, num_outcomes: int, weights: Floats | None = None) -> Self:
        """Count N rows; rows of weight zero count nowhere. Time N log N, and N where keys are dense; memory N."""
        keys = contexts.astype(np.int64) * num_outcomes + outcomes
        if weights is not None:
            keys, weights = keys[weights > 0], weights[weights > 0]
        if keys.max(initial=0) < max(DENSE, len(keys)):
            counts = np.bincount(keys, weights)
            keys = np.flatnonzero(counts)
            values = counts[keys]
        elif weights is None:
            keys, values = np.unique(keys, return_counts=True)
        else:
            keys, place = np.unique(keys, return_inverse=True)
            values = np.bincount(place, weights, len(keys))
        return cls(num_outcomes, keys, values.astype(np.float64))

    @cached_property
    def outcomes(self) -> NDArray[np.int64]:
        """Outcome of each pair, shape (K,)."""
        return self.keys % self.num_outcomes

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
