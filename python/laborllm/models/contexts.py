"""What a count is conditioned on: a tuple of features of the history, as one integer per transition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laborllm.models.histories import Histories, States
from laborllm.models.tallies import Coded

Integers = NDArray[np.int64]

STATES = ("previous", "second", "before")
"""Features whose values are states."""
TENURES = 8
"""Tenure is counted up to so many rows; ours."""
GAPS = 3
"""Years since the row before are counted up to so many; ours."""
BAND = 4
"""Years of an age band; ours."""
YOUNGEST = 14
PERIOD = 5
"""Years of a period; ours."""
EPOCH = 1900
BANDS = 32
"""Bands of age and periods that are told apart."""
BINS = {"tenure": TENURES, "gap": GAPS, "band": BAND, "youngest": YOUNGEST, "period": PERIOD, "epoch": EPOCH}
"""What numbers are cut into; counts that were made with others mean other contexts."""


@dataclass(frozen=True)
class Coding:
    """How features become small integers, settled on the training rows.

    Attributes:
        num_titles: J.
        values: The texts that each covariate held in training, in order; others have no code of their own.
    """

    num_titles: int
    values: dict[str, list[str]]

    @classmethod
    def of(cls, histories: Histories, covariates: Sequence[str]) -> Coding:
        """The coding of the training rows; `birth_year` is read as a number and needs none."""
        names = [name for name in covariates if name != "birth_year"]
        values = {name: sorted(set(histories.words(name).unique().to_pylist()) - {None}) for name in names}
        return cls(len(histories.panel.occupations), values)

    def unseen(self, histories: Histories) -> dict[str, int]:
        """Rows whose covariate holds a text that training never saw, by covariate, where there are any."""
        counts = {name: int((histories.codes(name, known) > len(known)).sum()) for name, known in self.values.items()}
        return {name: count for name, count in counts.items() if count}

    def contexts(self, histories: Histories, by: Sequence[str]) -> Integers:
        """One integer per transition, shape (N,), the same only where all features are: a tally's contexts."""
        keys = np.zeros(len(histories), np.int64)
        for codes, size in self.columns(histories, by):
            keys = keys * size + np.where(codes < 0, size - 1, codes)
        return keys

    def columns(self, histories: Histories, by: Sequence[str]) -> list[Coded]:
        """The codes of each feature, shape (N,), and how many there are; -1 for no state, which is the last of them."""
        return [(self._codes(histories, name), self._size(name)) for name in by]

    def _size(self, name: str) -> int:
        if name in STATES:
            return self.num_titles + 1
        if name in self.values:
            return len(self.values[name]) + 2
        return {"tenure": TENURES, "gap": GAPS, "age": BANDS, "period": BANDS}[name] + 1

    def _codes(self, histories: Histories, name: str) -> NDArray[np.integer[Any]]:
        if name in STATES:
            states: States = getattr(histories, name)
            return states
        if name == "tenure":
            return np.minimum(histories.tenure, TENURES)
        if name == "gap":
            return np.minimum(histories.gap, GAPS)
        if name == "period":
            return _band(histories.year, EPOCH, PERIOD)
        if name == "age":
            return _age(histories)
        return histories.codes(name, self.values[name])


def _band(numbers: Any, start: int, width: int) -> Integers:
    bands: Integers = np.clip((numbers - start) // width, 0, BANDS - 1).astype(np.int64)
    return bands


def _age(histories: Histories) -> Integers:
    born = histories.birth_years()
    known = np.isfinite(born)
    return np.where(known, _band(histories.year - np.where(known, born, 0), YOUNGEST, BAND), BANDS)
