"""The regressors of the next occupation: rows of a panel as rows of a sparse matrix.

They are those of the "regression" that CAREER was compared with (Vafa et al., arXiv 2202.08370): states and durations
of a second-order chain beside the traits of the worker, each with coefficients of its own for every next state. Ours
are the interaction of tenure with the current state, without which the chance to leave could not depend on tenure in
the state that is left, the bands of age, and the scale of the current state's columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from laborllm.models.histories import Histories

Integers = NDArray[np.int64]

COVARIATES = ("education", "gender", "race", "region", "birth_year")
"""Columns that are used where the panel has them."""
TRAITS = {"birth_year": "age"}
"""Covariates that are not used as they stand."""
STATE_SCALE = 3.0
"""What stands for one in the columns of the current state: the penalty on their coefficients is a ninth of others'.

States differ more in where they lead than levels of any trait; ours, one value for all panels.
"""
YEARS = 10.0
"""Durations are in decades, so that they vary about as much as a dummy does."""
BAND = 4
"""Years of an age band."""
MISSING = ""
"""The level of a covariate that is not known; an empty text cannot be a value of a panel."""


@dataclass(frozen=True)
class Features:
    """What the columns of X stand for, settled on the rows that were fitted on.

    Attributes:
        num_titles: J.
        levels: Dummies by name, each with its levels in order: `year`, `age` (in bands) where the birth year is known,
            and the covariates; what was unknown is a level of its own where it occurred.
    """

    num_titles: int
    levels: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, histories: Histories, rows: Integers) -> Self:
        """The features of a panel, with the levels that occur in the given rows, [0, N)."""
        names = ["year", *(name for name in COVARIATES if histories.has(name))]
        words = {TRAITS.get(name, name): _words(histories, TRAITS.get(name, name)) for name in names}
        taken = pa.array(rows)
        levels = {name: tuple(sorted(column.take(taken).unique().to_pylist())) for name, column in words.items()}
        return cls(len(histories.panel.occupations), levels)

    @property
    def covariates(self) -> list[str]:
        """Columns of the panel that are read beside worker, year and occupation."""
        return [name for name in COVARIATES if TRAITS.get(name, name) in self.levels]

    @cached_property
    def names(self) -> list[str]:
        """What each of the P columns of X is, such as `previous=17` (a state by its number) or `education=college`."""
        states = [f"{name}={j}" for name in ("previous", "tenure:previous", "before") for j in range(self.num_titles)]
        dummies = [f"{name}={level or 'missing'}" for name, levels in self.levels.items() for level in levels]
        changed = ["education_changed"] if "education" in self.levels else []
        return [*states, "first", "gap", "tenure", "experience", *changed, *dummies]

    @property
    def definition(self) -> dict[str, Any]:
        """What tells these features from others, in JSON values: levels and the constants of this file."""
        levels = [[name, list(values)] for name, values in self.levels.items()]
        return {"levels": levels, "state_scale": STATE_SCALE, "years": YEARS, "band": BAND}

    def matrix(self, histories: Histories) -> Any:
        """X, a sparse array by rows, shape (N, P), float64.

        A level that did not occur where the features were settled has no column: its row holds zeros there.
        """
        previous, first = histories.previous, histories.previous < 0
        tenure, experience = _durations(histories)
        log_tenure = STATE_SCALE * np.log1p(tenure)
        parts = [
            _dummies(previous, self.num_titles, STATE_SCALE),
            _dummies(previous, self.num_titles, log_tenure),
            _dummies(histories.before, self.num_titles, 1.0),
            first,
            histories.gap > 1,
            tenure / YEARS,
            experience / YEARS,
        ]
        if "education" in self.levels:
            parts.append(_education_changed(histories))
        parts += [_dummies(codes, len(self.levels[name]), 1.0) for name, codes in self._codes(histories).items()]
        columns = [part if sparse.issparse(part) else sparse.csr_array(part[:, None].astype(float)) for part in parts]
        return sparse.hstack(columns, format="csr")

    def unseen(self, histories: Histories) -> dict[str, int]:
        """Rows whose year, age band or covariate has no dummy, by name; names without any are left out."""
        counts = {name: int((codes < 0).sum()) for name, codes in self._codes(histories).items()}
        return {name: count for name, count in counts.items() if count}

    def _codes(self, histories: Histories) -> dict[str, Integers]:
        """Number of the level of each row, (N,), -1 where it has none."""
        codes = {}
        for name, levels in self.levels.items():
            places = pc.index_in(_words(histories, name), pa.array(levels, pa.large_string()))
            codes[name] = places.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return codes


def _words(histories: Histories, trait: str) -> pa.Array[Any]:
    """What becomes dummies, as text, one of each row (N,).

    Raises:
        PanelError: The panel has no such column, or a birth year is no number.
    """
    if trait == "year":
        return pa.array(histories.year).cast(pa.large_string())
    words = _age_bands(histories) if trait == "age" else histories.words(trait).cast(pa.large_string())
    return words.fill_null(MISSING)


def _age_bands(histories: Histories) -> pa.Array[Any]:
    """The first year of each row's age band as text, null where it is not known."""
    born = histories.birth_years()
    known = np.isfinite(born)
    bands = (histories.year - np.where(known, born, 0)) // BAND * BAND
    return pa.array(bands.astype(int), mask=~known).cast(pa.large_string())


def _durations(histories: Histories) -> tuple[Integers, Integers]:
    """Years from the begin of the spell to the row before, and from the worker's first row to the row to be predicted.

    Both are zero on first rows.
    """
    years = histories.panel.years().astype(np.int64)
    begin = histories.row - histories.tenure
    latest = np.maximum(histories.row - 1, begin)
    first = histories.panel.starts[histories.worker]
    return years[latest] - years[begin], histories.year - years[first]


def _education_changed(histories: Histories) -> NDArray[np.bool_]:
    """Whether the level in the row to be predicted is another than in the row before; unknown is a level here."""
    now = _words(histories, "education")
    column = histories.panel.column("education").cast(pa.large_string()).fill_null(MISSING)
    earlier = np.where(histories.position > 0, histories.row - 1, histories.row)
    changed: NDArray[np.bool_] = pc.not_equal(now, column.take(pa.array(earlier))).to_numpy(zero_copy_only=False)
    return changed


def _dummies(codes: NDArray[np.integer[Any]], num_columns: int, value: Any) -> Any:
    """One column per code, with `value` (a number, or one of each row) where the row has that code; -1 has none."""
    rows = np.flatnonzero(codes >= 0)
    values = np.broadcast_to(value, codes.shape)[rows]
    present = values != 0
    return sparse.csr_array(
        (values[present].astype(float), (rows[present], codes[rows][present])), shape=(len(codes), num_columns)
    )
