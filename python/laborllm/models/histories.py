"""What a transition can be predicted from: states, durations and traits known before it happened, as integer arrays.

Of the row to be predicted the year and the education are known, as in the paper's prompt; everything else comes from
earlier rows, or does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from laborllm.errors import PanelError
from laborllm.panel import Panel
from laborllm.spells import Spells

Integers = NDArray[np.int64]
States = NDArray[np.int32]
Integer = TypeVar("Integer", bound=np.integer[Any])

TARGET = frozenset({"education"})
"""Columns whose value in the row to be predicted is known; of all others that of the worker's first row counts."""


@dataclass(frozen=True, eq=False)
class Histories:
    """The N transitions into the target rows of a panel, in panel order; arrays have shape (N,).

    States are in [0, J), and -1 where there is none.
    """

    panel: Panel
    _words: dict[str, pa.DictionaryArray[Any]] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        """N, the number of transitions."""
        return int(np.count_nonzero(self.panel.targets))

    @cached_property
    def row(self) -> Integers:
        """Row of the panel."""
        return np.flatnonzero(self.panel.targets)

    @cached_property
    def states(self) -> States:
        """State of every row of the panel, targets or not."""
        return self.panel.states()

    @cached_property
    def worker(self) -> Integers:
        """Worker, in [0, W)."""
        return self._of_targets(self.panel.workers())

    @cached_property
    def position(self) -> Integers:
        """Earlier rows of the worker."""
        position: Integers = self.row - self.panel.starts[self.worker]
        return position

    @cached_property
    def occupation(self) -> States:
        """The state that occurred."""
        return self._of_targets(self.states)

    @cached_property
    def previous(self) -> States:
        """State of the row before."""
        before = np.empty_like(self.states)
        before[1:] = self.states[:-1]
        before[self.panel.starts[:-1]] = -1
        return self._of_targets(before)

    @cached_property
    def first(self) -> NDArray[np.bool_]:
        """Whether there is no row before."""
        return self.previous < 0

    @cached_property
    def stayed(self) -> NDArray[np.bool_]:
        """Whether the state that occurred is that of the row before."""
        stayed: NDArray[np.bool_] = self.previous == self.occupation
        return stayed

    @cached_property
    def second(self) -> States:
        """State two rows before, equal to `previous` or not."""
        return np.where(self.position > 1, self.states[np.maximum(self.row - 2, 0)], -1)

    @cached_property
    def before(self) -> States:
        """The last state that differs from `previous`."""
        return self._of_targets(self._spells.before.astype(np.int32, copy=False))

    @cached_property
    def tenure(self) -> Integers:
        """Successive rows in `previous` so far, 0 on first rows."""
        return self._of_targets(self._spells.tenure)

    @cached_property
    def _spells(self) -> Spells:
        return Spells.of(self.states, self.panel.starts)

    def _of_targets(self, values: NDArray[Integer]) -> NDArray[Integer]:
        return values if len(self) == len(values) else values[self.row]

    @cached_property
    def year(self) -> Integers:
        """Year in which it occurred."""
        return self.panel.years()[self.row].astype(np.int64)

    @cached_property
    def gap(self) -> Integers:
        """Years since the row before, 0 on first rows."""
        before = np.where(self.position > 0, self.row - 1, self.row)
        gap: Integers = self.year - self.panel.years()[before]
        return gap

    def has(self, column: str) -> bool:
        """Whether the panel has a column."""
        return column in self.panel.table.column_names

    def words(self, column: str) -> pa.DictionaryArray[Any]:
        """A covariate as text, null where it is not known, shape (N,).

        Education is that of the row to be predicted, any other column that of the worker's first row (of gender, race
        and birth year the first that is not null, which a panel has in every row): what a resume shows at that place.

        Raises:
            PanelError: The panel has no such column, or one that is no text, number or truth value.
        """
        if column not in self._words:
            self._words[column] = self._read_words(column)
        return self._words[column]

    def _read_words(self, column: str) -> pa.DictionaryArray[Any]:
        values = self.panel.column(column)
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values)
        if pa.types.is_nested(values.type):
            raise PanelError(f"the column {column!r} holds {values.type}; cast it to text or numbers")
        if not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        rows = self.row if column in TARGET else self.panel.starts[self.worker]
        indices = values.indices.take(pa.array(rows))
        return pa.DictionaryArray.from_arrays(indices, values.dictionary.cast(pa.large_string()))

    def birth_years(self) -> NDArray[np.float64]:
        """Years of birth, NaN where they are not known, shape (N,).

        Raises:
            PanelError: The panel has no column `birth_year`, or one that does not hold years.
        """
        words = self.words("birth_year")
        try:
            years = pc.cast(words.dictionary, pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid as error:
            raise PanelError(f"the column 'birth_year' does not hold years ({error}); cast it to integers") from error
        null = len(years)
        born: NDArray[np.float64] = np.append(years, np.nan)[
            words.indices.fill_null(null).to_numpy(zero_copy_only=False)
        ]
        return born

    def codes(self, column: str, known: Sequence[str]) -> Integers:
        """The place of a covariate's text among K known ones, K where it is null, K + 1 where it is none of them."""
        words = self.words(column)
        places = pc.index_in(words.dictionary, pa.array(known, pa.large_string())).fill_null(len(known) + 1)
        table = np.append(places.to_numpy(zero_copy_only=False).astype(np.int64), len(known))
        null = len(table) - 1
        codes: Integers = table[words.indices.fill_null(null).to_numpy(zero_copy_only=False)]
        return codes
