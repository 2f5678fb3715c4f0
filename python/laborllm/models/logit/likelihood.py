"""Log-likelihoods of multinomial and conditional logit, worked out a block of rows at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from laborllm.models.logit.sample import Booleans, Sample
from laborllm.models.tallies import Floats, Integers

BLOCK_CELLS = 1 << 22  # numbers in the widest array of a block of rows


class ChoiceLikelihood(ABC):
    """What the likelihoods share: weighted rows, each with a law over its available alternatives.

    Attributes:
        x: Variables, rows first.
        sample: What the rows chose, could choose, and weigh.
        num_params: P.
    """

    def __init__(self, x: Floats, sample: Sample, *, num_params: int, width: int) -> None:
        """`width` counts the numbers that one row takes in the widest array."""
        self.x, self.sample, self.num_params = x, sample, num_params
        self._width = width

    @abstractmethod
    def utilities(self, params: Floats, rows: Integers) -> Floats:
        """Utilities of the alternatives, linear in `params`, shape (R, J)."""

    @abstractmethod
    def derivatives(self, params: Floats) -> tuple[float, Floats, Floats]:
        """The log-likelihood, its gradient, shape (P,), and its Hessian, shape (P, P)."""

    @abstractmethod
    def scores(self, params: Floats, rows: Integers) -> Floats:
        """Weighted gradients of single rows, shape (R, P)."""

    @abstractmethod
    def varying(self) -> Booleans:
        """Coefficients whose variable is not the same in all rows, shape (P,)."""

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.x)

    def log_law(self, params: Floats, rows: Integers) -> Floats:
        """Log-probabilities of the alternatives, shape (R, J); -inf where unavailable."""
        return log_softmax(self.utilities(params, rows), self.sample.available[rows])

    def value(self, params: Floats) -> float:
        """The log-likelihood."""
        return sum(float(self.sample.weights[rows] @ own) for rows, own, _ in self.laws(params))

    def probabilities(self, params: Floats) -> Floats:
        """The law of each row, shape (N, J)."""
        return np.vstack([law for _, _, law in self.laws(params)])

    def laws(self, params: Floats) -> Iterator[tuple[Integers, Floats, Floats]]:
        """By block: its rows, the log-probability of what each chose, shape (R,), and its law, shape (R, J)."""
        for rows in self.blocks:
            log_law = self.log_law(params, rows)
            yield rows, log_law[np.arange(len(rows)), self.sample.chosen[rows]], np.exp(log_law)

    def margins(self, step: Floats) -> tuple[float, float]:
        """The least and the most by which a step favours the chosen alternative over another available one."""
        low, high = 0.0, 0.0
        for rows in self.blocks:
            utilities = self.utilities(step, rows)
            own = utilities[np.arange(len(rows)), self.sample.chosen[rows], None]
            ahead = np.where(self.sample.available[rows], own - utilities, 0.0)
            low, high = min(low, float(ahead.min())), max(high, float(ahead.max()))
        return low, high

    def reach(self, step: Floats) -> float:
        """The most by which a step changes the utility of an alternative beside the chosen one."""
        low, high = self.margins(step)
        return max(-low, high)

    @cached_property
    def blocks(self) -> list[Integers]:
        """Row numbers in runs whose arrays stay small."""
        size = max(1, BLOCK_CELLS // self._width)
        return [np.arange(start, min(start + size, self.num_rows)) for start in range(0, self.num_rows, size)]


class Multinomial(ChoiceLikelihood):
    """Multinomial logit: variables of rows, shape (N, K), one coefficient per variable and free alternative.

    Parameters run by alternative, then by variable: P = F * K. Alternatives that are not free have utility zero: the
    base, and those that are nowhere available.
    """

    def __init__(self, x: Floats, sample: Sample, *, free: Integers) -> None:
        """`free` holds the positions of the F alternatives with coefficients."""
        num_params = len(free) * x.shape[1]
        super().__init__(x, sample, num_params=num_params, width=max(num_params, sample.available.shape[1]))
        self.free = free

    def utilities(self, params: Floats, rows: Integers) -> Floats:
        """See `ChoiceLikelihood`."""
        utilities = np.zeros((len(rows), self.sample.available.shape[1]))
        utilities[:, self.free] = self.x[rows] @ params.reshape(len(self.free), -1).T
        return utilities

    def varying(self) -> Booleans:
        """See `ChoiceLikelihood`."""
        return np.tile(np.ptp(self.x, axis=0) > 0, len(self.free))

    def derivatives(self, params: Floats) -> tuple[float, Floats, Floats]:
        """Value, gradient and Hessian; the latter is a product of (R, P) arrays less F blocks of (K, K)."""
        num_free, num_variables = len(self.free), self.x.shape[1]
        value, gradient = 0.0, np.zeros((num_free, num_variables))
        hessian = np.zeros((self.num_params, self.num_params))
        parts = hessian.reshape(num_free, num_variables, num_free, num_variables)
        for rows, own, law in self.laws(params):
            x, weights, p = self.x[rows], self.sample.weights[rows], law[:, self.free]
            value += float(weights @ own)
            gradient += self._residual(rows, p).T @ x
            spread = ((np.sqrt(weights)[:, None] * p)[:, :, None] * x[:, None, :]).reshape(len(x), -1)
            hessian += spread.T @ spread
            for place in range(num_free):
                parts[place, :, place] -= (x * (weights * p[:, place])[:, None]).T @ x
        return value, gradient.ravel(), hessian

    def scores(self, params: Floats, rows: Integers) -> Floats:
        """See `ChoiceLikelihood`."""
        residual = self._residual(rows, np.exp(self.log_law(params, rows))[:, self.free])
        return (residual[:, :, None] * self.x[rows][:, None, :]).reshape(len(rows), -1)

    def _residual(self, rows: Integers, p: Floats) -> Floats:
        """Weighted: one for the chosen alternative, less the probability, over the free ones, shape (R, F)."""
        residual: Floats = self.sample.weights[rows, None] * ((self.sample.chosen[rows, None] == self.free) - p)
        return residual


class Conditional(ChoiceLikelihood):
    """Conditional logit: variables of rows and alternatives, shape (N, J, K), one coefficient per variable."""

    def __init__(self, x: Floats, sample: Sample) -> None:
        super().__init__(x, sample, num_params=x.shape[2], width=x.shape[1] * x.shape[2])

    def utilities(self, params: Floats, rows: Integers) -> Floats:
        """See `ChoiceLikelihood`."""
        utilities: Floats = self.x[rows] @ params
        return utilities

    def varying(self) -> Booleans:
        """See `ChoiceLikelihood`."""
        varying: Booleans = (np.ptp(self.x, axis=0) > 0).any(axis=0)
        return varying

    def derivatives(self, params: Floats) -> tuple[float, Floats, Floats]:
        """Value, gradient and Hessian; the latter is a product of deviations from the mean of each row."""
        value, gradient, hessian = 0.0, np.zeros(self.num_params), np.zeros((self.num_params, self.num_params))
        for rows, own, law in self.laws(params):
            weights, behind = self.sample.weights[rows], self._behind(rows)
            mean = law[:, None, :] @ behind  # (R, 1, K)
            value += float(weights @ own)
            gradient -= weights @ mean[:, 0]
            deviation = (behind - mean) * np.sqrt(weights[:, None] * law)[:, :, None]
            flat = deviation.reshape(-1, self.num_params)
            hessian -= flat.T @ flat
        return value, gradient, hessian

    def scores(self, params: Floats, rows: Integers) -> Floats:
        """See `ChoiceLikelihood`."""
        law = np.exp(self.log_law(params, rows))
        scores: Floats = -self.sample.weights[rows, None] * (law[:, None, :] @ self._behind(rows))[:, 0]
        return scores

    def _behind(self, rows: Integers) -> Floats:
        """Variables less those of the chosen alternative, shape (R, J, K): exactly zero where nothing differs."""
        behind: Floats = self.x[rows] - self.x[rows, self.sample.chosen[rows]][:, None, :]
        return behind


def log_softmax(utilities: Floats, available: Booleans) -> Floats:
    """Log-probabilities over the available alternatives, shape (R, J); -inf for the others."""
    masked = np.where(available, utilities, -np.inf)
    masked -= masked.max(axis=1, keepdims=True)
    law: Floats = masked - np.log(np.exp(masked).sum(axis=1, keepdims=True))
    return law
