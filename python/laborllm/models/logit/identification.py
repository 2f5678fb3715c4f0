"""Why a coefficient has no finite optimum, told in the names of the variables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg

from laborllm.errors import ModelError
from laborllm.models.logit.likelihood import ChoiceLikelihood
from laborllm.models.logit.newton import Watch, scaled
from laborllm.models.tallies import Floats

DEPENDENT = 1e-12  # one minus the R² at which a column counts as a combination of the others
PART = 1e-4  # share of the largest part below which a variable is no part of a combination
BACKWARD = 1e-6  # share of the largest gain that no row may lose along a separating direction
NAMED = 6


def guard(likelihood: ChoiceLikelihood, names: Sequence[str]) -> Watch:
    """Watch Newton's method from zero: collinear columns at the first step, separation at every step."""
    unit = np.ones(len(names))

    def watch(iteration: int, hessian: Floats, step: Floats) -> None:
        if iteration == 0:
            refuse_collinear(hessian, names)
            unit[:] = scaled(hessian)[1]
        refuse_separation(likelihood, step, names, unit=unit)

    return watch


def refuse_collinear(hessian: Floats, names: Sequence[str]) -> None:
    """Refuse columns that are combinations of others, told from the Hessian at zero, shape (P, P).

    There every available alternative is equally likely, so that the negative Hessian holds the products of what the
    columns add to differences between alternatives.

    Raises:
        ModelError: A combination of columns changes no difference; the message names its parts.
    """
    idle = np.flatnonzero(np.diag(hessian) >= 0)
    if idle.size:
        raise ModelError(
            f"{_listed(names, idle)} changes no difference between available alternatives in any row; leave it out, or "
            "interact it with the alternatives (choice_design does)"
        )
    matrix, _ = scaled(hessian)
    triangle, order = linalg.qr(matrix, mode="r", pivoting=True)
    size = np.abs(np.diag(triangle))
    rank = int((size > DEPENDENT * size[0]).sum())
    if rank < len(size):
        weights = linalg.solve_triangular(triangle[:rank, :rank], triangle[:rank, rank])
        parts = np.sort([order[rank], *order[:rank][np.abs(weights) > PART * np.abs(weights).max()]])
        more = f" ({len(size) - rank} such combinations)" if len(size) - rank > 1 else ""
        raise ModelError(f"the columns {_listed(names, parts)} are collinear{more}; leave one of them out")


def refuse_separation(likelihood: ChoiceLikelihood, step: Floats, names: Sequence[str], *, unit: Floats) -> None:
    """Refuse a direction that favours what was chosen somewhere, and what was not chosen nowhere.

    Along it the log-likelihood rises for ever (Albert and Anderson 1984). Under complete or quasi-complete separation
    Newton's steps turn into such a direction, so that looking at the steps finds it, and finding it is the proof.

    Raises:
        ModelError: `step` is such a direction; the message names the variables in it, constants apart.
    """
    least, most = likelihood.margins(step)
    if most <= 0 or least < -BACKWARD * most:
        return
    varying = likelihood.varying()
    size = np.abs(step) * unit * (varying if step[varying].any() else 1.0)
    parts = np.flatnonzero(size > 1e-2 * size.max())
    raise ModelError(
        f"the choices are separated by {_listed(names, parts[np.argsort(-size[parts], kind='stable')])}: moving "
        "these coefficients together makes no choice less likely and some more, for ever, so there is no finite "
        "optimum; leave the variable out, merge states, or use the penalised logit, MultinomialLogit"
    )


def _listed(names: Sequence[str], places: Sequence[int] | np.ndarray) -> str:
    shown = [repr(names[place]) for place in places[:NAMED]]
    return ", ".join(shown) + (f" and {len(places) - NAMED} more" if len(places) > NAMED else "")
