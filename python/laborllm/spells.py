"""Spells: successive rows of a worker in one state."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class Spells(NamedTuple):
    """What each of N rows of careers has behind it: the last spell and the state before it, all (N,)."""

    previous: Integers
    """State in the row before; -1 on first rows."""
    tenure: Integers
    """Consecutive rows that it had been held then; 0 on first rows."""
    before: Integers
    """The last other state; -1 where there is none."""

    @classmethod
    def of(cls, states: NDArray[np.integer[Any]], starts: Integers) -> Self:
        """The spells before the rows of workers who begin in the rows `starts[:-1]`."""
        row = np.arange(len(states))
        last = np.maximum(row - 1, 0)
        first = np.zeros(len(states), bool)
        first[starts[:-1]] = True
        began = np.maximum.accumulate(np.where(first | (states != states[last]), row, 0))[last]  # of the spell before
        previous = np.where(first, -1, states[last])
        return cls(
            previous=previous,
            tenure=np.where(first, 0, row - began),
            before=np.where(first | first[began], -1, states[np.maximum(began - 1, 0)]),
        )

    def take(self, rows: Integers) -> Spells:
        """Those of some rows."""
        return Spells(self.previous[rows], self.tenure[rows], self.before[rows])
