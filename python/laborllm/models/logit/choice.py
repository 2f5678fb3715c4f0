"""Multinomial and conditional logit by maximum likelihood, for inference."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from laborllm.errors import ModelError
from laborllm.models.logit.absent import hopeless_columns, hopeless_states, null_model
from laborllm.models.logit.covariance import covariance
from laborllm.models.logit.identification import guard
from laborllm.models.logit.likelihood import ChoiceLikelihood, Conditional, Multinomial
from laborllm.models.logit.newton import Optimum, maximise
from laborllm.models.logit.results import ConditionalResults, MultinomialResults
from laborllm.models.logit.sample import (
    Booleans,
    CovType,
    Sample,
    positions,
    refuse_many,
    refuse_unknown,
    same_length,
    sample,
    settled_cov_type,
    table,
)
from laborllm.models.tallies import Floats


def multinomial_logit(
    y: ArrayLike,
    X: Any,  # noqa: N803
    *,
    names: Sequence[str] | None = None,
    alternatives: Sequence[Any] | None = None,
    base: Any = None,
    available: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    cov_type: CovType | None = None,
) -> MultinomialResults:
    """Multinomial logit: which of J states, told from variables of the row.

        P(y_n = j) = exp(x_n'β_j) / Σ_k∈A_n exp(x_n'β_k),    β_base = 0

    To be used where everything known is known of the worker and not of the states, and where coefficients and their
    errors are wanted; with more than 3,000 coefficients, or to predict, use the penalised logit, MultinomialLogit.
    The log-likelihood Σ_n w_n log P(y_n) is concave; Newton's method starts at zero and ends
    with max |gradient| < 1e-6.

    A state that is named in `alternatives` but that nobody chose, or could choose, has no finite optimum: the
    likelihood rises to that of the model without it as its constant falls for ever. It stays in the result with
    probability zero, NaN for its coefficients, and is named in `absent`; everything else is the model without it. (If
    no variable keeps one sign, that is so only if the choices are separated, which is refused as below.)

    Args:
        y: The state of each row, shape (N,): names, or integers that are positions among the `alternatives` given
            (names again where those are integers).
        X: Variables, shape (N, K), or a data frame; no constant is added.
        names: Names of the variables; in a data frame, the columns to take.
        alternatives: The J states in order; None takes the distinct values of y, sorted.
        base: Name of the state without coefficients; None takes the first one that was chosen.
        available: Which states each row could be in, shape (N, J); None for all.
        weights: Sampling weights, from zero up, shape (N,). They multiply the log-likelihood: an integer weight gives
            the estimates, the log-likelihood and the classical errors of as many equal rows. Classical errors take
            weights for such counts; with weights of a survey use robust or clustered ones.
        clusters: The cluster (worker) of each row, shape (N,).
        cov_type: "classical", "robust" or "cluster" (see `docs/logit.md`); None for "cluster" where clusters are given.

    Returns:
        Estimates, by alternative, then by variable.

    Raises:
        ModelError: Input that does not fit together, or that has no unique finite optimum: one state only, collinear
            columns, choices that a variable separates. The message names the row or the variables.

    Source: McFadden (1974), Conditional logit analysis of qualitative choice behavior; Train (2009), Discrete Choice
    Methods with Simulation, chapter 3.

    >>> results = multinomial_logit(["out", "in", "in", "out", "in"], [[1, 0], [1, 1], [1, 2], [1, 3], [1, 4]])
    >>> results.names
    ('out:x0', 'out:x1')
    """
    cov_type = settled_cov_type(cov_type, clusters)
    values, variables = table(X, names, ndim=2)
    codes, states = positions(y, alternatives)
    same_length(len(codes), X=len(values))
    refuse_one_state(codes, states)
    data = sample(
        codes, alternatives=states, available=available, weights=weights, clusters=clusters, cov_type=cov_type
    )
    refuse_one_state(data.chosen, states)
    given, values = values, of_rows(values, data)
    refuse_unknown(values, variables, rows=data.rows)
    reference = _base(base, states, data)
    absent = hopeless_states(values, data)
    data = without(data, absent)
    coded = np.flatnonzero(np.arange(len(states)) != reference)
    refuse_many(len(coded) * len(variables))
    labels = tuple(f"{states[place]}:{variable}" for place in coded for variable in variables)
    kept = np.repeat(~absent[coded], len(variables))
    likelihood = Multinomial(values, data, free=coded[~absent[coded]])
    optimum = fitted(likelihood, labels, kept)
    null = null_model(data, constants=True)
    return MultinomialResults(
        **estimates(likelihood, optimum, labels, kept, cov_type=cov_type),
        **null,
        model="Multinomial logit",
        variables=variables,
        alternatives=states,
        absent=tuple(np.array(states)[absent]),
        base=states[reference],
        data=(given, available),
    )


def conditional_logit(
    chosen: ArrayLike,
    X: Any,  # noqa: N803
    *,
    available: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    alternatives: Sequence[Any] | None = None,
    weights: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    cov_type: CovType | None = None,
) -> ConditionalResults:
    """Conditional logit: which of J alternatives, told from variables of each alternative.

        P(y_n = j) = exp(x_nj'β) / Σ_k∈A_n exp(x_nk'β)

    To be used where alternatives differ in what is known of them (prices, distances between occupations); variables of
    the row enter through interactions, which `choice_design` and `long_design` lay out. Many rows with alternatives
    and interactions fill memory, N * J * K numbers: what is known of rows alone is better told to `multinomial_logit`.

    An alternative that nobody chose, and that has a constant (or any variable of one sign) to itself, has no finite
    optimum: it stays in the result with probability zero, NaN for the variables that are its own, and is named in
    `absent`.

    Args:
        chosen: Position (or, with `alternatives`, name) of what each row chose, shape (N,); integers are names only
            where the alternatives are integers.
        X: Variables, shape (N, J, K); where an alternative is not available they are not read.
        available: Which alternatives each row could choose, shape (N, J); None for all.
        names: Names of the K variables.
        alternatives: Names of the J alternatives; None for "0" to J - 1.
        weights: As for `multinomial_logit`.
        clusters: As for `multinomial_logit`.
        cov_type: As for `multinomial_logit`.

    Raises:
        ModelError: As for `multinomial_logit`; also a variable that differs between no alternatives of any row.

    Source: McFadden (1974); Train (2009), chapter 3.
    """
    cov_type = settled_cov_type(cov_type, clusters)
    given, variables = table(X, names, ndim=3)
    data, states = choices(
        chosen,
        given,
        alternatives=alternatives,
        available=available,
        weights=weights,
        clusters=clusters,
        cov_type=cov_type,
    )
    refuse_many(len(variables))
    values, data, absent, lost = estimable(given, variables, data, states)
    likelihood = Conditional(values, data)
    optimum = fitted(likelihood, variables, ~lost)
    return ConditionalResults(
        **estimates(likelihood, optimum, variables, ~lost, cov_type=cov_type),
        **null_model(data, x=values),
        model="Conditional logit",
        variables=variables,
        alternatives=states,
        absent=tuple(np.array(states)[absent]),
        data=(given, available),
    )


def choices(
    chosen: ArrayLike,
    x: Floats,
    *,
    alternatives: Sequence[Any] | None,
    available: ArrayLike | None,
    weights: ArrayLike | None,
    clusters: ArrayLike | None,
    cov_type: CovType,
) -> tuple[Sample, tuple[str, ...]]:
    """The checked sample of a model whose variables have shape (N, J, K), and the names of its alternatives."""
    size = x.shape[1]
    codes, states = positions(chosen, range(size) if alternatives is None else alternatives)
    same_length(len(codes), X=len(x))
    if len(states) != size:
        raise ModelError(f"{len(states)} alternatives are named, X holds {size}; name each of them")
    data = sample(
        codes, alternatives=states, available=available, weights=weights, clusters=clusters, cov_type=cov_type
    )
    return data, states


def estimable(
    given: Floats, variables: Sequence[str], data: Sample, states: Sequence[str]
) -> tuple[Floats, Sample, Booleans, Booleans]:
    """What of variables (N, J, K) and of a sample can be told from choices.

    Returns:
        Variables of the rows that count without those that have no finite optimum; the sample without alternatives
        that are ruled out; which alternatives these are, (J,); which variables those are, (K,).
    """
    values = of_rows(given, data)
    refuse_unknown(values, variables, rows=data.rows, available=data.available)
    absent, lost = hopeless_columns(values, data)
    data = without(data, absent)
    refuse_no_alternative(data, states)
    values = readable(values, data)
    return values[:, :, ~lost] if lost.any() else values, data, absent, lost


def fitted(likelihood: ChoiceLikelihood, names: Sequence[str], kept: Booleans) -> Optimum:
    """The optimum from zero, or the reason why there is none; `names` and `kept` have shape (P,)."""
    if not kept.any():
        raise ModelError("no alternative that somebody chose has a variable of its own; nothing is left to estimate")
    inside = [name for name, keep in zip(names, kept, strict=True) if keep]
    return maximise(likelihood, np.zeros(likelihood.num_params), watch=guard(likelihood, inside))


def estimates(
    likelihood: ChoiceLikelihood, optimum: Optimum, names: Sequence[str], kept: Booleans, *, cov_type: CovType
) -> dict[str, Any]:
    """The part of the results that is the same for every model; NaN where a coefficient has no optimum."""
    if not optimum.converged:
        warnings.warn(
            f"Newton's method stopped after {optimum.iterations} steps with a gradient of "
            f"{np.abs(optimum.gradient).max():.1e}: the estimate is no optimum, its standard errors mean little",
            stacklevel=3,
        )
    inside = [name for name, keep in zip(names, kept, strict=True) if keep]
    clusters = likelihood.sample.clusters
    found, why = covariance(likelihood, optimum, inside, cov_type=cov_type, clusters=clusters)
    if why is not None:
        warnings.warn(f"no standard errors: {why}", stacklevel=3)
    params = np.full(len(names), np.nan)
    params[kept] = optimum.params
    matrix = np.full((len(names), len(names)), np.nan)
    if found is not None:
        matrix[np.ix_(kept, kept)] = found
    return {
        "names": tuple(names),
        "params": params,
        "covariance": matrix,
        "cov_type": cov_type,
        "llf": optimum.value,
        "nobs": likelihood.num_rows,
        "num_clusters": None if clusters is None else int(clusters.max()) + 1,
        "converged": optimum.converged,
        "iterations": optimum.iterations,
        "max_gradient": float(np.abs(optimum.gradient).max()),
        "why": why,
    }


def refuse_one_state(codes: np.ndarray, states: Sequence[str]) -> None:
    """Refuse rows that are all in one state.

    Raises:
        ModelError: They are.
    """
    if len(codes) and (codes == codes[0]).all():
        raise ModelError(f"every row is in the state {states[codes[0]]!r}; a logit needs two states that occur")


def refuse_no_alternative(data: Sample, states: Sequence[str]) -> None:
    """Refuse rows that are all left with what they chose once alternatives that nobody chose are ruled out.

    Raises:
        ModelError: They are.
    """
    if (data.available.sum(axis=1) == 1).all():
        chosen = [str(state) for state in np.array(states)[~data.never_chosen()]]
        raise ModelError(
            f"no row could have chosen anything but what it chose ({', '.join(chosen[:8])}): alternatives that nobody "
            "chose and that have a constant are ruled out; give rows with other choices, or a wider `available`"
        )


def of_rows(values: Floats, data: Sample) -> Floats:
    """Variables of the rows that count, without a copy where all do."""
    return values if len(values) == len(data.rows) else values[data.rows]


def readable(values: Floats, data: Sample) -> Floats:
    """Variables of shape (N, J, K), with zeros for what unavailable alternatives hold if that is no number."""
    if np.isfinite(values).all():
        return values
    return np.where(data.available[:, :, None], values, 0.0)


def without(data: Sample, absent: Booleans) -> Sample:
    """The sample in which alternatives nobody chose are not available."""
    return Sample(data.rows, data.chosen, data.available & ~absent, data.weights, data.clusters)


def _base(base: Any, states: tuple[str, ...], data: Sample) -> int:
    """Position of the state without coefficients."""
    never = data.never_chosen()
    if base is None:
        return int(never.argmin())
    if str(base) not in states:
        raise ModelError(f"base={base!r} is none of the states; they are {', '.join(states[:8])}")
    place = states.index(str(base))
    if never[place]:
        raise ModelError(
            f"nobody chose the base {states[place]!r}, so that nothing can be measured from it; choose another base"
        )
    return place
