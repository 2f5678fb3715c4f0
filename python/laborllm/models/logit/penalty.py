"""The penalty that predicts rows best which were not fitted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from laborllm.errors import ModelError
from laborllm.models.histories import Histories
from laborllm.models.logit.features import Features
from laborllm.models.logit.law import TitleLaw

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]

PENALTIES: tuple[float, ...] = tuple((10.0 ** (np.arange(6, -7, -1) / 2)).tolist())
"""What is tried for l2, from strong to weak, two per factor of ten."""


@dataclass(frozen=True, eq=False)
class Rows:
    """N rows with features.

    Attributes:
        x: Features, shape (N, P).
        outcomes: States that occurred, shape (N,).
        weights: Numbers of rows that each stands for, shape (N,).
        first: Whether a row is a worker's first, shape (N,).
    """

    x: Any
    outcomes: Integers
    weights: Floats
    first: NDArray[np.bool_]

    @classmethod
    def of(cls, histories: Histories, features: Features, weights: Floats) -> Self:
        """The target rows of a panel."""
        return cls(features.matrix(histories), histories.occupation, weights, histories.previous < 0)

    def perplexity(self, law: TitleLaw) -> dict[str, float | None]:
        """Of rows with `history`, of `first` ones and of `all`; None where their weights sum to zero."""
        log_p = law.log_p(self.x, self.outcomes[:, None])[:, 0]
        rows = {"history": ~self.first, "first": self.first, "all": np.ones(len(log_p), bool)}
        return {name: _perplexity(log_p[of], self.weights[of]) for name, of in rows.items()}


def follow(law: TitleLaw, train: Rows, val: Rows) -> dict[float, float]:
    """Fit under one penalty after another, from strong to weak, until the perplexity of `val` rises.

    Each fit begins at the last; the best one is left in the law's logit.

    Args:
        law: Its logit is fitted; it must be one that starts warm.
        train: Rows to fit.
        val: Rows to choose on.

    Returns:
        Perplexity of `val` by penalty, in the order in which they were tried.

    Raises:
        ModelError: No row of `val` has a positive weight.
    """
    logit, path = law.logit, dict[float, float]()
    for l2 in PENALTIES:
        logit.set_params(l2=l2).fit(train.x, train.outcomes, train.weights)
        found = val.perplexity(law)["all"]
        if found is None:
            raise ModelError("val has no row of positive weight to choose the penalty on; give rows there, or l2")
        path[l2] = found
        if found > min(path.values()):
            break
        best = logit.coef_, logit.intercept_
    chosen = min(path, key=lambda tried: path[tried])
    if chosen in (PENALTIES[0], PENALTIES[-1]):
        warnings.warn(
            f"the penalty chosen on val, l2={chosen:g}, is the {'strongest' if chosen == PENALTIES[0] else 'weakest'} "
            "that was tried; check the scale of the weights and the rows of val, or give l2",
            stacklevel=3,
        )
    logit.coef_, logit.intercept_ = best
    return path


def _perplexity(log_p: Floats, weights: Floats) -> float | None:
    total = float(weights.sum())
    return float(np.exp(-(weights @ log_p) / total)) if total > 0 else None
