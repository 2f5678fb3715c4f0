"""What estimators share whose law is known in closed form: predictions, and the whole law in blocks."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from laborllm.errors import ModelError
from laborllm.models.histories import Histories
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.prediction_form import check_whole_law_size
from laborllm.prediction_titles import Top, named
from laborllm.predictions import Predictions

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CELLS = 1 << 20
"""Cells of whole laws worked out at a time."""

SCALE = 10.0
"""Weights whose mean is this many times above or below one are no numbers of rows: a warning."""


class ClosedForm(ABC):
    """An estimator that gives each of the J titles its probability without running a network.

    Attributes:
        occupations: The states of the training panel, None before `fit`.
        datasets: The tags of the surveys in it.
        covariates: Columns of the panel that the model reads beside worker, year and occupation.
        seed: None: nothing is drawn.
    """

    kind: ClassVar[str]
    seed: ClassVar[int | None] = None

    def __init__(self) -> None:
        self.occupations: Occupations | None = None
        self.datasets: list[str] = []
        self.covariates: list[str] = []

    @abstractmethod
    def log_p(self, histories: Histories, outcomes: Integers) -> Floats:
        """Natural-log probabilities of M outcomes of each transition, shape (N, M), for `outcomes` (N, M) in [0, J)."""

    @abstractmethod
    def laws(self, histories: Histories) -> Iterator[Floats]:
        """The whole law as natural logs, in successive blocks of rows, (n, J) each; a row sums to one after exp."""

    @abstractmethod
    def unseen(self, histories: Histories) -> dict[str, int]:
        """Transitions with a value that training never saw, by covariate, where there are any."""

    @property
    @abstractmethod
    def hash(self) -> str:
        """SHA-256 of what was fitted, as hexadecimal text."""

    def law(self, panel: Panel) -> Floats:
        """The whole law of all target rows of a panel, natural logs, shape (N, J)."""
        return np.concatenate([np.empty((0, len(self._fitted()))), *self.laws(Histories(panel))])

    def predict(
        self,
        panel: Panel,
        *,
        titles: str = "observed",
        keep_law: bool | None = None,
        also: Sequence[str | int] = (),
        top: int | None = None,
    ) -> Predictions:
        """Predict the target rows of a panel.

        Args:
            panel: Rows to predict, over the occupations the model was fitted on.
            titles: "observed" for the probability of what happened, "all" for the whole law as well, (N, J).
            keep_law: Store the whole law; by default with titles="all".
            also: Further titles (or their indices) whose probability is wanted in every row.
            top: Name this many of the most probable titles of every row.

        Raises:
            ModelError: The model is not fitted; the panel has other occupations or lacks a covariate; `titles` or `top`
                is none.
            OccupationsError: A title that is not on the list.
        """
        occupations = self._fitted()
        if titles not in ("observed", "all"):
            raise ModelError(f"titles={titles!r} is unknown; choose 'observed' or 'all'")
        if top is not None and top < 1:
            raise ModelError(f"top={top} names no title; give a number from 1 up, or None")
        if panel.occupations.hash != occupations.hash:
            raise ModelError(
                f"the panel's {len(panel.occupations)} occupations are not the {len(occupations)} that the {self.kind} "
                "model was fitted on; read the panel with the model's list"
            )
        histories = Histories(panel)
        self._check_covariates(histories)
        for name, count in self.unseen(histories).items():
            warnings.warn(
                f"{name}: {count} of {len(histories)} rows hold a value that training never saw; the {self.kind} model "
                "predicts them without it",
                stacklevel=2,
            )
        others = named(also, occupations)
        keep = titles == "all" if keep_law is None else keep_law
        columns = [histories.occupation, np.maximum(histories.previous, 0)]
        columns += [np.full(len(histories), title) for title in others]
        outcomes = np.stack(columns, axis=1)
        if keep or top is not None:
            log_p, whole, best = self._of_laws(histories, outcomes, keep=keep, top=top)
        else:
            log_p, whole, best = self.log_p(histories, outcomes), None, None
        return Predictions.from_transitions(
            panel,
            panel.transitions(),
            model=self.kind,
            law="normalized",
            titles=titles,
            log_p=log_p[:, 0],
            log_p_raw=log_p[:, 0],
            log_p_previous=np.where(histories.previous < 0, np.nan, log_p[:, 1]),
            title_mass=np.ones(len(histories)),
            log_p_all=whole,
            log_p_of=dict(zip(others, log_p.T[2:], strict=True)),
            top=best,
            covariates=self.covariates,
            model_hash=self.hash,
            kind=self.kind,
        )

    def _of_laws(
        self, histories: Histories, outcomes: Integers, *, keep: bool, top: int | None
    ) -> tuple[Floats, NDArray[np.float32] | None, Top | None]:
        """What is wanted of the whole law: some outcomes, the law itself, its best titles."""
        num_rows, num_titles = len(histories), len(self._fitted())
        if keep:
            check_whole_law_size(num_rows, num_titles)
        whole = np.empty((num_rows, num_titles), np.float32) if keep else None
        best = None if top is None else Top.of_rows(num_rows, min(top, num_titles))
        log_p = np.empty(outcomes.shape)
        start = 0
        for laws in self.laws(histories):
            rows = np.arange(start, start + len(laws))
            start += len(laws)
            log_p[rows] = np.take_along_axis(laws, outcomes[rows], axis=1)
            if whole is not None:
                whole[rows] = laws
            if best is not None:
                best.put(rows, Top.of_law(laws, 0.0, count=best.titles.shape[1]))
        return log_p, whole, best

    def _check_covariates(self, histories: Histories) -> None:
        missing = [name for name in self.covariates if not histories.has(name)]
        if missing:
            raise ModelError(
                f"the panel has no column {missing[0]!r}, which the {self.kind} model was fitted with; add it, or fit "
                "a model on a panel without it"
            )

    def _fitted(self) -> Occupations:
        if self.occupations is None:
            raise ModelError(f"the {self.kind} model is not fitted; call fit(train, val) first")
        return self.occupations


def histories_to_fit(train: Panel, val: Panel) -> tuple[Histories, Histories]:
    """What an estimator is fitted to and what it chooses on.

    Raises:
        ModelError: The panels have different occupations.
        PanelError: Held-out rows are among those to fit or in their history.
    """
    if train.occupations.hash != val.occupations.hash:
        raise ModelError("train and val have different occupations; read both with one list")
    train.refuse_held_out_rows()
    return Histories(train), Histories(val)


def counting_weights(histories: Histories) -> Floats:
    """The column `weight` of the rows to be fitted on, (N,), where a weight is a number of rows.

    Raises:
        PanelError: No such column, one without numbers, or a weight that is null, infinite or negative.
    """
    weights: Floats = histories.panel.row_weights(histories.row)
    mean = float(weights[weights > 0].mean()) if weights.any() else 1.0
    if not 1 / SCALE < mean < SCALE:
        warnings.warn(
            f"the weights average {mean:,.6g}, and each row counts as so many; divide the column by that, or what is "
            "counted outweighs back-offs, half observations and penalties",
            stacklevel=3,
        )
    return weights
