"""Covariance of maximum-likelihood estimates: classical, robust, clustered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg

from laborllm.models.logit.newton import Likelihood, Optimum, cholesky, scaled
from laborllm.models.logit.sample import CovType
from laborllm.models.tallies import Floats, Integers

FLAT = 1e-12  # curvature along an eigenvector, in units of its variables, that counts as none
SCORE_CELLS = 1 << 22


def covariance(
    likelihood: Likelihood,
    optimum: Optimum,
    names: Sequence[str],
    *,
    cov_type: CovType,
    clusters: Integers | None,
) -> tuple[Floats | None, str | None]:
    """Covariance of the estimates, shape (P, P), or None and the reason.

    With A the negative Hessian and s the weighted scores of rows:

        classical   A⁻¹
        robust      A⁻¹ (Σ_n s_n s_n') A⁻¹, without small-sample correction (HC0 of statsmodels)
        cluster     A⁻¹ (Σ_g s_g s_g') A⁻¹ · G/(G−1) · (N−1)/(N−P), s_g the sum over cluster g (as statsmodels)

    Sources: White (1982) for the second, Liang and Zeger (1986) for the third.
    """
    inverse, why = _inverse(optimum.hessian, names)
    if inverse is None or cov_type == "classical":
        return inverse, why
    size, num_params = likelihood.num_rows, len(optimum.params)
    if clusters is None:
        return inverse @ _meat(likelihood, optimum.params, np.arange(size)) @ inverse, None
    if size <= num_params:
        return None, f"{size} rows are too few for clustered standard errors of {num_params} parameters"
    groups = int(clusters.max()) + 1
    correction = groups / (groups - 1) * (size - 1) / (size - num_params)
    return correction * (inverse @ _meat(likelihood, optimum.params, clusters) @ inverse), None


def _inverse(hessian: Floats, names: Sequence[str]) -> tuple[Floats | None, str | None]:
    """The inverse of the negative Hessian, or None and the direction in which it is flat or rises."""
    matrix, unit = scaled(hessian)
    factor = cholesky(matrix, flat=FLAT)
    if factor is not None:
        inverse = linalg.cho_solve((factor, True), np.eye(len(matrix))) / np.outer(unit, unit)
        return (inverse + inverse.T) / 2, None
    values, vectors = linalg.eigh(matrix, subset_by_index=[0, 0])
    parts = np.flatnonzero(np.abs(vectors[:, 0]) > 0.1 * np.abs(vectors[:, 0]).max())
    among = ", ".join(repr(names[part]) for part in parts[:6])
    return None, (
        f"the Hessian is not negative definite at the estimate (smallest curvature {values[0]:.1e} of the scaled "
        f"variables, along {among}): the data do not tell these coefficients apart"
    )


def _meat(likelihood: Likelihood, params: Floats, clusters: Integers) -> Floats:
    """Σ_g s_g s_g' over clusters numbered without gaps, never holding the scores of all rows at once."""
    order = np.argsort(clusters, kind="stable")
    num_params = len(params)
    size = max(1, SCORE_CELLS // num_params)
    total = np.zeros((num_params, num_params))
    open_cluster, open_sum = -1, np.zeros(num_params)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        groups, first = np.unique(clusters[rows], return_index=True)
        sums = np.add.reduceat(likelihood.scores(params, rows), first, axis=0)
        if groups[0] == open_cluster:
            sums[0] += open_sum
        else:
            total += np.outer(open_sum, open_sum)
        total += sums[:-1].T @ sums[:-1]
        open_cluster, open_sum = groups[-1], sums[-1]
    return total + np.outer(open_sum, open_sum)
