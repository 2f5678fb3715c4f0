"""Nested logit by maximum likelihood, for inference."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from laborllm.errors import ModelError
from laborllm.models.logit.absent import null_model
from laborllm.models.logit.choice import choices, estimable, estimates, fitted
from laborllm.models.logit.likelihood import Conditional
from laborllm.models.logit.nests import Nested, Nests, nest_positions
from laborllm.models.logit.newton import maximise
from laborllm.models.logit.results import NestedResults
from laborllm.models.logit.sample import Booleans, CovType, Sample, refuse_many, settled_cov_type, table
from laborllm.models.tallies import Floats, Integers


def nested_logit(
    chosen: ArrayLike,
    X: Any,  # noqa: N803
    nests: Nests,
    *,
    shared: bool = False,
    available: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    alternatives: Sequence[Any] | None = None,
    weights: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    cov_type: CovType | None = None,
) -> NestedResults:
    """Nested logit: a conditional logit whose alternatives are closer substitutes within nests.

        P(y_n = j) = exp(V_nj / λ_m) / Σ_k∈B_m exp(V_nk / λ_m) · exp(λ_m I_nm) / Σ_l exp(λ_l I_nl),
        V_nj = x_nj'β,  I_nm = log Σ_k∈B_m exp(V_nk / λ_m),  j in nest B_m

    To be used where unobserved tastes are shared by some alternatives, so that a worker who loses one of them turns to
    the others of its nest first: one nest for staying and one for all moves (`stay_move_nests`), or groups of
    occupations. 1 − λ_m measures how alike the alternatives of nest m are; λ = 1 throughout is the conditional logit,
    which a likelihood ratio test of the two fits compares. The model agrees with utility maximisation at all values of
    the variables where 0 < λ ≤ 1; other estimates are kept, with a warning.

    The log-likelihood is not concave: Newton's method starts at the conditional logit (λ = 1) and climbs to an optimum,
    which another start might not reach. A nest that never holds two available alternatives has no parameter (λ = 1).

    Args:
        chosen: Position (or, with `alternatives`, name) of what each row chose, shape (N,).
        X: Variables, shape (N, J, K).
        nests: The alternatives of each nest by its name, {"cooling": ["gcc", "ecc"], …}, or the number of the nest of
            each alternative, shape (J,), or of each row's alternatives, shape (N, J).
        shared: One λ for all nests, rather than one for each.
        available: As for `conditional_logit`.
        names: As for `conditional_logit`.
        alternatives: As for `conditional_logit`.
        weights: As for `conditional_logit`.
        clusters: As for `conditional_logit`.
        cov_type: As for `conditional_logit`.

    Returns:
        Estimates: the K coefficients, then "lambda" if shared, "lambda:cooling" … if not. Their z-values and p-values
        are about zero, also those of λ, whose value of interest is one.

    Raises:
        ModelError: As for `conditional_logit`; also alternatives in no nest or in two, and nests that leave no λ to
            estimate: one alternative each, or all alternatives of every row in one.

    Source: McFadden (1978), Modelling the choice of residential location; Train (2009), chapter 4; the scaling is that
    of the R package mlogit (Croissant 2020).
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
    groups, nest_names = nest_positions(nests, states, len(given))
    by_row = groups[data.rows]
    values, data, absent, lost = estimable(given, variables, data, states)
    transform, labels = _parameters(by_row, data, nest_names, shared=shared)
    refuse_many(len(variables) + len(labels))
    kept = np.concatenate([~lost, np.ones(len(labels), np.bool_)])
    start = fitted(Conditional(values, data), variables, ~lost)
    likelihood = Nested(values, data, by_row, transform=transform, fixed=1.0 - transform.sum(axis=1))
    optimum = maximise(likelihood, np.concatenate([start.params, np.ones(len(labels))]))
    lambdas = likelihood.lambdas(optimum.params)
    _warn_outside(lambdas, nest_names)
    return NestedResults(
        **estimates(likelihood, optimum, (*variables, *labels), kept, cov_type=cov_type),
        **null_model(data, x=values),
        model="Nested logit",
        variables=variables,
        alternatives=states,
        absent=tuple(np.array(states)[absent]),
        nests=np.asarray(groups[0] if (groups == groups[0]).all() else groups),
        nest_names=nest_names,
        lambdas=lambdas,
        data=(given, available),
    )


def stay_move_nests(previous: ArrayLike, num_alternatives: int) -> NDArray[np.int8]:
    """Nests of staying and moving: the previous state alone (nest 0), and all others (nest 1).

    Args:
        previous: Position of each row's previous state, shape (N,), such as `panel.transitions().previous`.
        num_alternatives: J.

    Returns:
        Number of the nest of each alternative in each row, shape (N, J), for `nested_logit`.

    Raises:
        ModelError: A previous state outside the J; first rows, marked -1, have none and are to be left out.

    >>> stay_move_nests([2, 0], 3).tolist()
    [[1, 1, 0], [0, 1, 1]]
    """
    states = np.asarray(previous)
    if states.ndim != 1 or states.dtype.kind not in "iu":
        raise ModelError(f"previous has shape {states.shape} and type {states.dtype}; give positions, shape (N,)")
    strange = np.flatnonzero((states < 0) | (states >= num_alternatives))
    if strange.size:
        raise ModelError(
            f"row {strange[0]} has the previous state {states[strange[0]]}, which is none of the {num_alternatives} "
            f"({strange.size} such rows); leave first rows out"
        )
    moved: Booleans = states[:, None] != np.arange(num_alternatives)
    return moved.astype(np.int8)


def _parameters(
    groups: Integers, data: Sample, nest_names: tuple[str, ...], *, shared: bool
) -> tuple[Floats, tuple[str, ...]]:
    """Which parameters move the λ of which nest, shape (M, number of parameters), and the names of the parameters."""
    sizes = np.stack(
        [(data.available & (groups == nest)).sum(axis=1) for nest in range(len(nest_names))], axis=1
    )  # (N, M)
    free = np.flatnonzero((sizes > 1).any(axis=0))
    if not free.size:
        raise ModelError("no nest ever holds two available alternatives; this is the conditional logit")
    if ((sizes > 0).sum(axis=1) == 1).all():
        raise ModelError(
            "all available alternatives of every row are in one nest, whose parameter is only a scale; make two nests"
        )
    transform = np.zeros((len(nest_names), 1 if shared else len(free)))
    transform[free, 0 if shared else np.arange(len(free))] = 1.0
    return transform, ("lambda",) if shared else tuple(f"lambda:{nest_names[nest]}" for nest in free)


def _warn_outside(lambdas: Floats, nest_names: tuple[str, ...]) -> None:
    outside = np.flatnonzero(lambdas > 1)
    if outside.size:
        told = ", ".join(f"{nest_names[nest]} {lambdas[nest]:.4g}" for nest in outside)
        warnings.warn(
            f"inclusive-value parameters outside (0, 1]: {told}; alternatives there are closer substitutes across "
            "nests than within, and the model agrees with utility maximisation for some values of the variables only",
            stacklevel=3,
        )
