"""How often each occupation followed each other one, kept per pair that occurs.

Nothing of size J x J is made: 43,000 titles take as much memory as the pairs that were seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from laborllm.errors import ModelError

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]
COLUMNS = ["previous", "occupation", "count"]


@dataclass(frozen=True)
class PairCounts:
    """How often each of J occupations came first, and how often each followed each other.

    Attributes:
        first: Counts on first rows, shape (J,).
        keys: previous * J + occupation of the K pairs that occur, shape (K,), int64, ascending.
        values: Counts of those pairs, shape (K,), positive; sums of weights where rows are weighted.
    """

    first: Floats
    keys: NDArray[np.int64]
    values: Floats

    @classmethod
    def of(cls, previous: Integers, occupation: Integers, *, num_titles: int, weights: Floats | None = None) -> Self:
        """Count N transitions; `previous` is -1 on first rows. Time N log N, memory N + J."""
        if weights is not None:
            weighty = weights > 0
            previous, occupation, weights = previous[weighty], occupation[weighty], weights[weighty]
        first = previous < 0
        keys = (previous.astype(np.int64) * num_titles + occupation)[~first]
        if weights is None:
            openings = np.bincount(occupation[first], minlength=num_titles)
            keys, values = np.unique(keys, return_counts=True)
        else:
            openings = np.bincount(occupation[first], weights[first], num_titles)
            keys, place = np.unique(keys, return_inverse=True)
            values = np.bincount(place, weights[~first], len(keys))
        return cls(openings.astype(np.float64), keys, values.astype(np.float64))

    @property
    def num_titles(self) -> int:
        """J."""
        return len(self.first)

    @cached_property
    def previous(self) -> NDArray[np.int64]:
        """The earlier state of each pair, shape (K,)."""
        return self.keys // self.num_titles

    @cached_property
    def occupation(self) -> NDArray[np.int64]:
        """The later state of each pair, shape (K,)."""
        return self.keys % self.num_titles

    @cached_property
    def leaving(self) -> Floats:
        """Transitions out of each state, stays included, shape (J,)."""
        return self._sum(self.previous, self.values)

    @cached_property
    def staying(self) -> Floats:
        """Transitions of each state to itself, shape (J,)."""
        return self._sum(self.previous, np.where(self.previous == self.occupation, self.values, 0.0))

    @cached_property
    def marginal(self) -> Floats:
        """Shares of the states among all rows, one half added to each, shape (J,)."""
        return _shares(self.first + self._sum(self.occupation, self.values))

    @cached_property
    def destinations(self) -> Floats:
        """Shares of the states among those moved to, one half added to each, shape (J,)."""
        return _shares(self._sum(self.occupation, np.where(self.previous == self.occupation, 0.0, self.values)))

    @cached_property
    def stay_share(self) -> float:
        """Share of stays among all transitions, one half added to stays and to moves; 1 with a single title."""
        if self.num_titles == 1:
            return 1.0
        return float((self.staying.sum() + 0.5) / (self.leaving.sum() + 1.0))

    def pairs(self, previous: Integers, occupation: Integers) -> Floats:
        """Counts of N pairs, zero where a pair never occurred, shape (N,)."""
        if not len(self.keys):
            return np.zeros(len(occupation))
        wanted = previous.astype(np.int64) * self.num_titles + occupation
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[place] == wanted, self.values[place], 0.0)

    def to_table(self) -> pa.Table:
        """Columns `previous` (null on first rows), `occupation` and `count`; states by their number."""
        firsts = np.flatnonzero(self.first)
        previous = np.concatenate([np.full(len(firsts), -1), self.previous])
        occupation = np.concatenate([firsts, self.occupation])
        columns = [
            pa.array(previous, pa.int32(), mask=previous < 0),
            pa.array(occupation, pa.int32()),
            pa.array(np.concatenate([self.first[firsts], self.values])),
        ]
        return pa.table(columns, names=COLUMNS)

    @classmethod
    def from_table(cls, table: pa.Table, *, num_titles: int) -> Self:
        """The inverse of `to_table`.

        Raises:
            ModelError: Other columns, or a state outside the J titles.
        """
        if table.column_names != COLUMNS:
            raise ModelError(
                f"a table of counts with the columns {', '.join(table.column_names)}, not {', '.join(COLUMNS)}; "
                "fit and save the model anew"
            )
        previous, occupation = table["previous"].fill_null(-1).to_numpy(), table["occupation"].to_numpy()
        for states in (previous, occupation):
            if len(table) and not -1 <= states.min() <= states.max() < num_titles:
                raise ModelError(
                    f"a table of counts names a state outside the {num_titles}; fit and save the model anew"
                )
        return cls.of(previous, occupation, num_titles=num_titles, weights=table["count"].to_numpy())

    def _sum(self, states: NDArray[np.int64], values: Floats) -> Floats:
        return np.bincount(states, values, self.num_titles).astype(np.float64)


def _shares(counts: Floats) -> Floats:
    shares: Floats = (counts + 0.5) / (counts + 0.5).sum()
    return shares
