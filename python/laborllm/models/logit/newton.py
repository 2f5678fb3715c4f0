"""Newton's method for log-likelihoods whose Hessian fits in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import linalg

from laborllm.models.tallies import Floats, Integers

MAX_ITERATIONS = 200
MAX_GRADIENT = 1e-6
STILL = 1e-9  # a step that would move no utility by more than this need not be taken
ROUNDING = 1e-15  # share of the log-likelihood below which float64 cannot tell a gain
FLAT = 1e-14  # curvature, in units of the largest, that is nothing but rounding
NEAR = 1e-3  # where rounding ends the ascent, utilities must be known to this


class Likelihood(Protocol):
    """A weighted log-likelihood of P parameters."""

    @property
    def num_rows(self) -> int:
        """N."""

    def value(self, params: Floats) -> float:
        """The log-likelihood; -inf outside its domain."""

    def derivatives(self, params: Floats) -> tuple[float, Floats, Floats]:
        """The log-likelihood, its gradient, shape (P,), and its Hessian, shape (P, P)."""

    def scores(self, params: Floats, rows: Integers) -> Floats:
        """Weighted gradients of single rows, shape (R, P)."""

    def reach(self, step: Floats) -> float:
        """The most by which a step changes the utility of an alternative beside the chosen one."""


Watch = Callable[[int, Floats, Floats], None]


@dataclass(frozen=True)
class Optimum:
    """Where Newton's method stopped.

    Attributes:
        params: Shape (P,).
        value: Log-likelihood there.
        gradient: Shape (P,).
        hessian: Shape (P, P).
        iterations: Newton steps taken.
        converged: No component of the gradient exceeds 1e-6 and the next step would move no utility by more than 1e-9,
            or rounding keeps Newton's steps from bringing them there (variables in the millions); never where the
            optimum is at infinity.
    """

    params: Floats
    value: float
    gradient: Floats
    hessian: Floats
    iterations: int
    converged: bool


def maximise(likelihood: Likelihood, start: Floats, *, watch: Watch | None = None) -> Optimum:
    """Maximise a log-likelihood by Newton's method with step halving (Nocedal and Wright 2006, chapter 3).

    Where the negative Hessian is not positive definite, its eigenvalues are replaced by their absolute values, so that
    every step goes up, and directions in which it is flat are left alone; on the concave likelihoods of multinomial and
    conditional logit this is never needed.

    Args:
        likelihood: What to maximise.
        start: Where to begin, shape (P,), inside the domain.
        watch: Called with the iteration, the Hessian and the step before each step is taken; it may raise.
    """
    params, before = start, np.inf
    value, gradient, hessian = likelihood.derivatives(params)
    for iteration in range(MAX_ITERATIONS):
        step = _ascent(hessian, gradient)
        if watch is not None:
            watch(iteration, hessian, step)
        gain, slope = float(gradient @ step), float(np.abs(gradient).max())
        reach = likelihood.reach(step)
        if slope < MAX_GRADIENT and reach < STILL:
            return Optimum(params, value, gradient, hessian, iteration, converged=True)
        if gain < ROUNDING * abs(value) and slope > before / 2:
            return Optimum(params, value, gradient, hessian, iteration, converged=reach < NEAR)
        size = _size(likelihood, params, step, value=value, gain=gain)
        if size == 0.0:
            return Optimum(params, value, gradient, hessian, iteration, converged=False)
        params, before = params + size * step, slope
        value, gradient, hessian = likelihood.derivatives(params)
    return Optimum(params, value, gradient, hessian, MAX_ITERATIONS, converged=False)


def scaled(hessian: Floats) -> tuple[Floats, Floats]:
    """The negative Hessian with each variable in units of its own curvature, and those units, shape (P,)."""
    curvature = np.abs(np.diag(hessian))
    unit = np.sqrt(np.where(curvature > 0, curvature, 1.0))
    return -hessian / np.outer(unit, unit), unit


def cholesky(matrix: Floats, *, flat: float) -> Floats | None:
    """The lower Cholesky factor, or None where the reciprocal condition number is not above `flat`."""
    try:
        factor: Floats = linalg.cholesky(matrix, lower=True)
    except linalg.LinAlgError:
        return None
    reciprocal = linalg.lapack.dpocon(factor, np.abs(matrix).sum(axis=0).max(), uplo="L")[0]
    return factor if reciprocal > flat else None


def _ascent(hessian: Floats, gradient: Floats) -> Floats:
    """The Newton step, or one that goes up where the log-likelihood is not concave and stays where it is flat."""
    matrix, unit = scaled(hessian)
    factor = cholesky(matrix, flat=FLAT)
    if factor is not None:
        newton: Floats = linalg.cho_solve((factor, True), gradient / unit) / unit
        return newton
    values, vectors = linalg.eigh(matrix)
    steepness = np.where(np.abs(values) > FLAT * np.abs(values).max(), np.abs(values), np.inf)
    step: Floats = vectors @ ((vectors.T @ (gradient / unit)) / steepness) / unit
    return step


def _size(likelihood: Likelihood, params: Floats, step: Floats, *, value: float, gain: float) -> float:
    """The largest of 1, ½, ¼ … at which the log-likelihood rises enough; 0 if none does."""
    slack = 1e-13 * abs(value)
    for halvings in range(40):
        size = 0.5**halvings
        if likelihood.value(params + size * step) >= value + 1e-4 * size * gain - slack:
            return size
    return 0.0
