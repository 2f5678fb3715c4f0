"""Alternatives that nobody chose, and the models without variables that fits are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np

from laborllm.models.logit.likelihood import Multinomial
from laborllm.models.logit.newton import maximise
from laborllm.models.logit.sample import Booleans, Sample
from laborllm.models.tallies import Floats


def hopeless_states(x: Floats, sample: Sample) -> Booleans:
    """States of a multinomial logit that nobody chose and whose probability the likelihood drives to zero, shape (J,).

    That is so where some variable, shape (N, K), has one sign in every row that could have chosen the state.
    """
    hopeless = sample.never_chosen()
    for place in np.flatnonzero(hopeless):
        hopeless[place] = _one_sign(x[sample.available[:, place]]).any()
    return hopeless


def hopeless_columns(x: Floats, sample: Sample) -> tuple[Booleans, Booleans]:
    """The same for variables of alternatives, shape (N, J, K): such alternatives, shape (J,), and columns, shape (K,).

    An alternative that nobody chose is hopeless if a variable that is zero for all others has one sign. The columns
    that are its own then have no finite optimum, or no influence once it is ruled out.
    """
    hopeless, lost = sample.never_chosen(), np.zeros(x.shape[2], np.bool_)
    if not hopeless.any():
        return hopeless, lost
    used = np.stack([(x[sample.available[:, j], j] != 0).any(axis=0) for j in range(x.shape[1])])  # (J, K)
    for place in np.flatnonzero(hopeless):
        own = used[place] & (used.sum(axis=0) == 1)
        rows = sample.available[:, place]
        hopeless[place] = not rows.any() or (own & _one_sign(x[rows, place])).any()
        if hopeless[place]:
            lost |= own
    return hopeless, lost


def null_model(sample: Sample, *, constants: bool | None = None, x: Floats | None = None) -> dict[str, Any]:
    """Log-likelihood of the model to beat: a constant per alternative, or equal shares.

    Args:
        sample: Rows, with the alternatives that nobody chose not available.
        constants: Take constants; None looks whether `x` holds them.
        x: Variables, shape (N, J, K).
    """
    if constants or (x is not None and _holds_constants(x, sample)):
        chosen = np.flatnonzero(~sample.never_chosen())
        data = Sample(
            sample.rows, sample.chosen, sample.available & ~sample.never_chosen(), sample.weights, sample.clusters
        )
        likelihood = Multinomial(np.ones((len(sample.rows), 1)), data, free=chosen[1:])
        value = maximise(likelihood, np.zeros(len(chosen) - 1)).value
        return {"llnull": value, "null": "constants", "df_null": len(chosen) - 1}
    value = -float(sample.weights @ np.log(sample.available.sum(axis=1)))
    return {"llnull": value, "null": "equal shares", "df_null": 0}


def _holds_constants(x: Floats, sample: Sample) -> bool:
    """Whether columns that are the same in all rows tell all available alternatives apart, by linear combinations."""
    present = np.flatnonzero(sample.available.any(axis=0))
    ends = [(x[rows, j].min(axis=0), x[rows, j].max(axis=0)) for j in present for rows in [sample.available[:, j]]]
    low, high = (np.array(side) for side in zip(*ends, strict=True))  # (J, K)
    constant = low[:, (low == high).all(axis=0)]
    return bool(np.linalg.matrix_rank(constant) >= len(present) - 1) if constant.size else False


def _one_sign(x: Floats) -> Booleans:
    """Variables that are above zero, or below it, in all rows, shape (K,); all of them if there is no row."""
    return np.asarray((x > 0).all(axis=0) | (x < 0).all(axis=0))
