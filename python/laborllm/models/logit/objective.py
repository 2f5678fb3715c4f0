"""The penalised likelihood of a multinomial logit and the coordinates in which it is quickly minimised.

With weights w, features x of P columns and classes y in [0, J), the objective is

    f(W, b) = - sum_i w_i log p(y_i | x_i) + l2/2 ||W||^2,    p(j | x) ∝ exp(x W_j + b_j).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BLOCK = 1024
"""Rows worked on at a time: probabilities of so many rows and hundreds of classes stay in a core's cache."""
FLAT = 1e-10
"""Directions whose eigenvalue is below this share of l2 are left out: they lower the objective by that share of the sum
of weights at most, as the gradient along them is at most the root of twice their eigenvalue times that sum."""
GRAM_COLUMNS = 4096
"""Columns up to which the Gram matrix of X is decomposed; the time of that grows with their cube."""


@dataclass(frozen=True, eq=False)
class Objective:
    """The penalised negative log-likelihood of N weighted rows.

    Attributes:
        x: Features, shape (N, P), a dense array or a sparse one by rows.
        y: Classes, shape (N,), integers in [0, J).
        weights: Positive, shape (N,).
        num_classes: J.
        l2: Weight of half the sum of squared coefficients; positive.
        intercept: Whether there are intercepts b, which are not penalised.
    """

    x: Any
    y: Integers
    weights: Floats
    num_classes: int
    l2: float
    intercept: bool

    @cached_property
    def observed(self) -> tuple[Floats, Floats]:
        """What the gradient subtracts: weighted sums of x by class, (P, J), and weights by class, (J,)."""
        rows = np.arange(len(self.y))
        members = sparse.csr_array((self.weights, (rows, self.y)), shape=(len(rows), self.num_classes))
        sums = (members.T @ self.x).T
        return sums.toarray() if sparse.issparse(sums) else np.ascontiguousarray(sums), members.sum(axis=0)

    def at(self, coefficients: Floats, intercepts: Floats) -> tuple[float, Floats, Floats]:
        """Value and gradient at W (P, J) and b (J,), in one pass over blocks of rows.

        Each block's (rows, J) array is filled, exponentiated and read while it is in cache. Time N J times the
        non-zero columns of a row, memory `BLOCK` J beside the gradient.
        """
        sums, totals = self.observed
        value = self.l2 / 2 * np.vdot(coefficients, coefficients)
        slopes, levels = self.l2 * coefficients - sums, -totals
        for start in range(0, len(self.y), BLOCK):
            rows = slice(start, start + BLOCK)
            block, y, weights = self.x[rows], self.y[rows], self.weights[rows]
            p = block @ coefficients  # (rows, J)
            if self.intercept:
                p += intercepts
            p -= p.max(axis=1, keepdims=True)
            value -= weights @ p[np.arange(len(y)), y]
            np.exp(p, out=p)
            mass = p.sum(axis=1)
            value += weights @ np.log(mass)
            p *= (weights / mass)[:, None]
            slopes += block.T @ p
            if self.intercept:
                levels += p.sum(axis=0)
        return float(value), slopes, levels if self.intercept else np.zeros(self.num_classes)


@dataclass(frozen=True, eq=False)
class Coordinates:
    """New coordinates of W and b in which the objective is nearly round, so that few steps lead to its minimum.

    At the shares m of the classes, the curvature of f along q' W_j is about lambda_q m_j (1 - m_j) + l2, where q is an
    eigenvector of the weighted Gram matrix of the centred columns of X and lambda_q its eigenvalue, and along b_j about
    m_j (1 - m_j) times the sum of weights. Dividing by the roots of those curvatures takes away what makes such
    likelihoods slow: columns that nearly sum to one another, and classes a thousand times rarer than others. The
    directions that the data do not bend at all keep the curvature l2 of the penalty, which diagonal scaling would
    stretch; they are left out, as the optimum has no part in them.

    Attributes:
        axes: Q eigenvectors as columns, shape (P, Q), or None where the columns are too many: then W keeps its axes.
        scale: Inverse roots of the curvatures, shape (Q, J).
        centre: Weighted means of the columns, shape (P,), zero without intercepts.
        intercept_scale: Inverse roots of the curvatures of the intercepts, shape (J,), zero without them.
    """

    axes: Floats | None
    scale: Floats
    centre: Floats
    intercept_scale: Floats

    @classmethod
    def of(cls, objective: Objective) -> Self:
        """The coordinates that suit an objective. Time P^3 for P up to `GRAM_COLUMNS` columns."""
        x, weights, num_columns = objective.x, objective.weights, objective.x.shape[1]
        total = weights.sum()
        shares = objective.observed[1] / total
        bend = shares * (1 - shares)
        centre, intercept_scale = np.zeros(num_columns), np.zeros(len(bend))
        if objective.intercept:
            centre = np.asarray(x.T @ weights).ravel() / total
            intercept_scale = (total * bend) ** -0.5
        if num_columns > GRAM_COLUMNS:
            scale = np.full((num_columns, len(bend)), objective.l2**-0.5)
            return cls(None, scale, centre, intercept_scale)
        weighted = x.multiply(weights[:, None]).tocsr() if sparse.issparse(x) else x * weights[:, None]
        gram: Any = x.T @ weighted
        gram = gram.toarray() if sparse.issparse(gram) else gram
        stretch, axes = np.linalg.eigh(gram - total * np.outer(centre, centre))
        kept = stretch > FLAT * objective.l2
        scale = (stretch[kept, None] * bend + objective.l2) ** -0.5
        return cls(np.ascontiguousarray(axes[:, kept]), scale, centre, intercept_scale)

    def without_flat(self, coefficients: Floats) -> Floats:
        """The part of W, (P, J), that these coordinates reach."""
        return coefficients if self.axes is None else self.axes @ (self.axes.T @ coefficients)

    def parameters(self, z: Floats) -> tuple[Floats, Floats]:
        """W (P, J) and b (J,) at coordinates z, (Q + 1, J); linear."""
        coefficients = self.scale * z[:-1]
        if self.axes is not None:
            coefficients = self.axes @ coefficients
        return coefficients, self.intercept_scale * z[-1] - self.centre @ coefficients

    def gradient(self, slopes: Floats, levels: Floats) -> Floats:
        """The gradient in these coordinates, (Q + 1, J): the transpose of `parameters`."""
        slopes = slopes - np.outer(self.centre, levels)
        if self.axes is not None:
            slopes = self.axes.T @ slopes
        return np.vstack([self.scale * slopes, self.intercept_scale * levels])

    def gap(self, slopes: Floats, levels: Floats, *, l2: float) -> float:
        """How far above its minimum the objective is at most, from its gradient.

        f(W) - min f <= ||df/dW||^2 / (2 l2), as f bends by l2 at least in every direction of W (Nesterov, Lectures on
        Convex Optimization, 2018, theorem 2.1.10). What intercepts still bring is estimated by their curvature.
        """
        intercepts = self.intercept_scale * levels
        return float(np.vdot(slopes, slopes) / l2 + intercepts @ intercepts) / 2
