"""The worker's own earlier states, as counts that fade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from laborllm.models.histories import Histories

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Past:
    """Earlier rows of n transitions whose state is not the previous one, E of them in all.

    Attributes:
        size: n.
        row: Transition of each entry, in [0, n), shape (E,).
        state: State in that earlier row, shape (E,).
        ago: Rows from there to the row before the one that is predicted, 1 at least, shape (E,).
    """

    size: int
    row: Integers
    state: Integers
    ago: Integers

    @classmethod
    def of(cls, histories: Histories, rows: Integers) -> Self:
        """The past of some transitions. Time and memory grow with the earlier rows of all of them."""
        earlier = histories.position[rows]
        row = np.repeat(np.arange(len(rows)), earlier)
        ago = np.arange(len(row)) - np.repeat(np.cumsum(earlier) - earlier, earlier)
        state = histories.states[histories.row[rows][row] - 1 - ago]
        other = state != histories.previous[rows][row]
        return cls(len(rows), row[other], state[other], ago[other])

    def totals(self, retention: float) -> Floats:
        """What all entries of each transition count, shape (n, 1)."""
        totals: Floats = np.bincount(self.row, retention**self.ago, self.size).astype(np.float64)
        return totals[:, None]

    def counts(self, retention: float, outcomes: Integers) -> Floats:
        """What the entries in M states of each transition count, shape (n, M), for states (n, M)."""
        counts = np.empty(outcomes.shape)
        for column, wanted in enumerate(outcomes.T):
            hit = self.state == wanted[self.row]
            counts[:, column] = np.bincount(self.row[hit], retention ** self.ago[hit], self.size)
        return counts

    def dense(self, retention: float, num_titles: int) -> Floats:
        """What the entries in every state count, shape (n, J)."""
        cells = np.bincount(self.row * num_titles + self.state, retention**self.ago, self.size * num_titles)
        return cells.reshape(self.size, num_titles).astype(np.float64)
