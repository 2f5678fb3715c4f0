"""The nested logit's law and its log-likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from laborllm.errors import ModelError
from laborllm.models.logit.likelihood import ChoiceLikelihood
from laborllm.models.logit.sample import Booleans, Sample
from laborllm.models.tallies import Floats, Integers

Nests = Mapping[str, Sequence[str | int]] | ArrayLike


@dataclass(frozen=True)
class _Law:
    """R rows: which alternatives each of M nests holds and how likely each nest, and each alternative in it, is."""

    member: Booleans  # (R, M, J), available alternatives only
    utility: Floats  # (R, J), zero where unavailable
    inclusive: Floats  # (R, M), the log of the sum of exp(utility / lambda); zero for empty nests
    log_nest: Floats  # (R, M), log-probability of the nest; -inf for empty nests
    log_within: Floats  # (R, J), log-probability within the nest; -inf where unavailable

    def log_law(self, groups: Integers) -> Floats:
        """Log-probabilities of the alternatives, shape (R, J)."""
        return self.log_within + np.take_along_axis(self.log_nest, groups, axis=1)


class Nested(ChoiceLikelihood):
    """Nested logit: variables of rows and alternatives, shape (N, J, K), and the nest of each alternative, (N, J).

    With V the utilities x'β and I_m the log of the sum of exp(V_j / λ_m) over the available alternatives of nest m,

        log P_j = V_j / λ_m + (λ_m − 1) I_m − log Σ_l exp(λ_l I_l)    for j in nest m.

    Parameters are the K coefficients β, then free ones φ; λ = fixed + transform φ, so that nests share a parameter,
    have one each, or have none. Outside λ > 0 the log-likelihood is taken to be -inf.
    """

    def __init__(self, x: Floats, sample: Sample, groups: Integers, *, transform: Floats, fixed: Floats) -> None:
        """`transform` has shape (M, number of free parameters), `fixed` (M,)."""
        num_params = x.shape[2] + transform.shape[1]
        super().__init__(x, sample, num_params=num_params, width=x.shape[1] * (x.shape[2] + len(fixed)))
        self.groups, self.transform, self.fixed = groups, transform, fixed
        self._num_variables = x.shape[2]

    def lambdas(self, params: Floats) -> Floats:
        """Inclusive-value parameter of each nest, shape (M,)."""
        lambdas: Floats = self.fixed + self.transform @ params[self._num_variables :]
        return lambdas

    def utilities(self, params: Floats, rows: Integers) -> Floats:
        """See `ChoiceLikelihood`; the inclusive-value parameters have no part in it."""
        utilities: Floats = self.x[rows] @ params[: self._num_variables]
        return utilities

    def varying(self) -> Booleans:
        """See `ChoiceLikelihood`; so are the inclusive-value parameters."""
        varying = (np.ptp(self.x, axis=0) > 0).any(axis=0)
        return np.concatenate([varying, np.ones(self.transform.shape[1], np.bool_)])

    def reach(self, step: Floats) -> float:
        """The most by which a step changes a utility beside the chosen one, or an inclusive-value parameter."""
        shift = np.abs(self.transform @ step[self._num_variables :]).max(initial=0.0)
        return max(super().reach(step), float(shift))

    def value(self, params: Floats) -> float:
        """The log-likelihood; -inf where an inclusive-value parameter is not positive."""
        return super().value(params) if (self.lambdas(params) > 0).all() else -np.inf

    def log_law(self, params: Floats, rows: Integers) -> Floats:
        """See `ChoiceLikelihood`."""
        return self._law(params, rows).log_law(self.groups[rows])

    def derivatives(self, params: Floats) -> tuple[float, Floats, Floats]:
        """See `ChoiceLikelihood`."""
        num_variables, num_nests = self._num_variables, len(self.fixed)
        size = num_variables + num_nests
        value, gradient, hessian = 0.0, np.zeros(size), np.zeros((size, size))
        for rows in self.blocks:
            law = self._law(params, rows)
            moments = _Moments(self, law, params, rows)
            weights = self.sample.weights[rows]
            value += float(weights @ law.log_law(self.groups[rows])[np.arange(len(rows)), self.sample.chosen[rows]])
            gradient += weights @ moments.gradient()
            hessian[:num_variables, :num_variables] += moments.of_coefficients(weights)
            cross = moments.crossed(weights)
            hessian[:num_variables, num_variables:] += cross
            hessian[num_variables:, :num_variables] += cross.T
            hessian[num_variables:, num_variables:] += moments.of_lambdas(weights)
        chain = self._chain()
        return value, chain.T @ gradient, chain.T @ hessian @ chain

    def scores(self, params: Floats, rows: Integers) -> Floats:
        """See `ChoiceLikelihood`."""
        moments = _Moments(self, self._law(params, rows), params, rows)
        scores: Floats = self.sample.weights[rows, None] * (moments.gradient() @ self._chain())
        return scores

    def _chain(self) -> Floats:
        """Derivatives of coefficients and lambdas by the parameters, shape (K + M, P)."""
        chain = np.zeros((self._num_variables + len(self.fixed), self.num_params))
        chain[: self._num_variables, : self._num_variables] = np.eye(self._num_variables)
        chain[self._num_variables :, self._num_variables :] = self.transform
        return chain

    def _law(self, params: Floats, rows: Integers) -> _Law:
        groups, available, lambdas = self.groups[rows], self.sample.available[rows], self.lambdas(params)
        member = (groups[:, None, :] == np.arange(len(lambdas))[:, None]) & available[:, None, :]
        utility = np.where(available, self.utilities(params, rows), 0.0)
        scaled = utility / lambdas[groups]
        inclusive, empty = _log_sum(scaled[:, None, :], member)
        log_nest = np.where(empty, -np.inf, lambdas * inclusive)
        log_nest -= _log_sum(log_nest, ~empty)[0][:, None]
        within = np.where(available, scaled - np.take_along_axis(inclusive, groups, axis=1), -np.inf)
        return _Law(member, utility, inclusive, log_nest, within)


class _Moments:
    """Means, entropies and covariances of R rows, from which derivatives are put together.

    Shapes use R rows, M nests, J alternatives, K variables. With e_l the entropy within nest l, x̄_l the mean of the
    variables in it, and L = log Σ_l exp(λ_l I_l): ∂(λ_l I_l)/∂β = x̄_l and ∂(λ_l I_l)/∂λ_l = e_l; the rest follows.
    """

    def __init__(self, model: Nested, law: _Law, params: Floats, rows: Integers) -> None:
        everyone = np.arange(len(rows))
        groups, chosen = model.groups[rows], model.sample.chosen[rows]
        self.lambdas = model.lambdas(params)
        self.nest = groups[everyone, chosen]  # of the chosen alternative, (R,)
        self.own = self.lambdas[self.nest]  # its inclusive-value parameter, (R,)
        self.everyone = everyone
        self.p_nest = np.exp(law.log_nest)  # (R, M)
        x, within = model.x[rows], np.exp(law.log_within)
        share = np.where(law.member, within[:, None, :], 0.0)  # (R, M, J)
        self.mean_x = share @ x  # (R, M, K)
        mean_v = (share @ law.utility[:, :, None])[:, :, 0]
        self.entropy = law.inclusive - mean_v / self.lambdas  # (R, M)
        deviation_v = law.utility - np.take_along_axis(mean_v, groups, axis=1)
        self.variance = (share @ (deviation_v**2)[:, :, None])[:, :, 0]  # of the utility within nests, (R, M)
        self.covariance = (share * deviation_v[:, None, :]) @ x  # of the variables with it, (R, M, K)
        self.deviation_x = x - self.mean_x[everyone[:, None], groups]  # (R, J, K)
        self.ahead_x = self.deviation_x[everyone, chosen]  # of the chosen alternative, (R, K)
        self.ahead_v = deviation_v[everyone, chosen]  # (R,)
        self.from_all = self.mean_x - (self.p_nest[:, None, :] @ self.mean_x)  # (R, M, K)
        chosen_nest = groups == self.nest[:, None]
        lambda_of = self.lambdas[groups]
        p_nest_of = np.take_along_axis(self.p_nest, groups, axis=1)
        self.curving = within * (
            np.where(chosen_nest, 1 / lambda_of - 1 / lambda_of**2, 0.0) - p_nest_of / lambda_of
        )  # weight of each alternative's deviation in the Hessian, (R, J)

    def gradient(self) -> Floats:
        """Of the log-likelihood of each row, by coefficients, then lambdas, shape (R, K + M)."""
        by_x = self.ahead_x / self.own[:, None] + self.from_all[self.everyone, self.nest]
        by_lambda = -self.p_nest * self.entropy
        own_entropy = self.entropy[self.everyone, self.nest]
        by_lambda[self.everyone, self.nest] += own_entropy - self.ahead_v / self.own**2
        return np.hstack([by_x, by_lambda])

    def of_coefficients(self, weights: Floats) -> Floats:
        """Weighted sum of second derivatives by the coefficients, shape (K, K)."""
        flat = self.deviation_x.reshape(-1, self.deviation_x.shape[2])
        between = (np.sqrt(weights[:, None] * self.p_nest)[:, :, None] * self.from_all).reshape(-1, flat.shape[1])
        within: Floats = flat.T @ ((weights[:, None] * self.curving).reshape(-1, 1) * flat)
        return within - between.T @ between

    def crossed(self, weights: Floats) -> Floats:
        """Weighted sum of second derivatives by coefficients and lambdas, shape (K, M)."""
        cross = self.p_nest[:, :, None] * (
            self.covariance / self.lambdas[:, None] ** 2 - self.entropy[:, :, None] * self.from_all
        )
        own = self.own[:, None]
        own_covariance = self.covariance[self.everyone, self.nest]
        cross[self.everyone, self.nest] += own_covariance * (1 / own**3 - 1 / own**2) - self.ahead_x / own**2
        total: Floats = np.tensordot(weights, cross, axes=1).T
        return total

    def of_lambdas(self, weights: Floats) -> Floats:
        """Weighted sum of second derivatives by the lambdas, shape (M, M)."""
        diagonal = -self.p_nest * (self.variance / self.lambdas**3 + self.entropy**2)
        own_variance = self.variance[self.everyone, self.nest]
        diagonal[self.everyone, self.nest] += 2 * self.ahead_v / self.own**3 + own_variance * (
            1 / self.own**3 - 1 / self.own**4
        )
        shared = np.sqrt(weights)[:, None] * self.p_nest * self.entropy
        total: Floats = np.diag(weights @ diagonal) + shared.T @ shared
        return total


def nest_positions(nests: Nests, alternatives: tuple[str, ...], num_rows: int) -> tuple[Integers, tuple[str, ...]]:
    """Nests as numbers.

    Args:
        nests: Alternatives (names or positions) by the name of their nest, or the number of the nest of each
            alternative, shape (J,), or of each row's, shape (N, J).
        alternatives: Names of the J alternatives.
        num_rows: N.

    Returns:
        The nest of each alternative in each row, shape (N, J), and the names of the M nests.

    Raises:
        ModelError: An alternative in no nest or in two, one that is unknown, or another shape.
    """
    size = len(alternatives)
    if isinstance(nests, Mapping):
        codes = np.full(size, -1)
        for number, (nest, members) in enumerate(nests.items()):
            for member in members:
                place = alternatives.index(str(member)) if str(member) in alternatives else member
                if not isinstance(place, int) or not 0 <= place < size:
                    raise ModelError(f"nest {nest!r} holds {member!r}, which is no alternative; name one of them")
                if codes[place] >= 0:
                    raise ModelError(f"alternative {alternatives[place]!r} is in two nests; leave it in one of them")
                codes[place] = number
        if (codes < 0).any():
            raise ModelError(f"alternative {alternatives[int(codes.argmin())]!r} is in no nest; put it into one")
        return np.broadcast_to(codes, (num_rows, size)), tuple(nests)
    numbers: NDArray[np.int64] = np.asarray(nests)
    if numbers.shape not in ((size,), (num_rows, size)) or numbers.dtype.kind not in "iu" or numbers.min() < 0:
        raise ModelError(
            f"nests of shape {numbers.shape} and type {numbers.dtype}; give numbers from zero up, shape ({size},) or "
            f"({num_rows}, {size}), or the alternatives of each nest by its name"
        )
    return np.broadcast_to(numbers, (num_rows, size)), tuple(str(nest) for nest in range(int(numbers.max()) + 1))


def _log_sum(values: Floats, member: Booleans) -> tuple[Floats, Booleans]:
    """Log of the sum of exp over the members along the last axis, zero where there are none; and where that is."""
    masked = np.where(member, values, -np.inf)
    empty: Booleans = np.asarray(~member.any(axis=-1))
    peak = np.where(empty, 0.0, masked.max(axis=-1))
    total = np.exp(masked - peak[..., None]).sum(axis=-1)
    return peak + np.log(np.where(empty, 1.0, total)), empty
