"""The printed form of the results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from laborllm.models.logit.results import ChoiceResults

WORDS = {
    "classical": "classical (inverse of the negative Hessian)",
    "robust": "robust (HC0)",
    "cluster": "clustered",
}


def text(results: ChoiceResults, *, alpha: float) -> str:
    """Fit, table of coefficients, and notes on what is missing, in plain text."""
    names = max(12, *(len(name) for name in results.names))
    width = names + 66
    head = _head(results, width)
    low, high = f"[{alpha / 2:.3g}", f"{1 - alpha / 2:.3g}]"
    title = f"{'':<{names}}{'coef':>12}{'std err':>11}{'z':>10}{'P>|z|':>9}{low:>12}{high:>12}"
    columns = [results.params, results.bse, results.zvalues, results.pvalues, *results.conf_int(alpha).T]
    rows = [
        f"{name:<{names}}" + _line(cells) for name, cells in zip(results.names, zip(*columns, strict=True), strict=True)
    ]
    lines = [
        results.model.center(width).rstrip(),
        "=" * width,
        *head,
        "=" * width,
        title,
        "-" * width,
        *rows,
        "=" * width,
    ]
    return "\n".join([*lines, *_notes(results)])


def _head(results: ChoiceResults, width: int) -> list[str]:
    """What the model is on the left, how well it fits on the right."""
    errors = WORDS[results.cov_type] + (f", {results.num_clusters:,} clusters" if results.num_clusters else "")
    pairs = [
        ("Observations", f"{results.nobs:,}", "Log-likelihood", f"{results.llf:.4f}"),
        ("Alternatives", f"{len(results.alternatives):,}", f"Null ({results.null})", f"{results.llnull:.4f}"),
        ("Parameters", f"{results.num_params:,}", "McFadden R²", f"{results.prsquared:.4f}"),
        ("Converged", f"{results.converged} ({results.iterations} steps)", "LR p-value", f"{results.llr_pvalue:.3g}"),
        ("Max |gradient|", f"{results.max_gradient:.1e}", "AIC / BIC", f"{results.aic:.2f} / {results.bic:.2f}"),
    ]
    half = width // 2 - 1
    lines = [
        f"{left + ':':<16}{value:>{half - 16}}  {right + ':':<22}{other:>{width - half - 24}}"
        for left, value, right, other in pairs
    ]
    return [*lines, f"{'Standard errors:':<16} {errors}"]


def _line(cells: tuple[float, ...]) -> str:
    coef, error, z, p, lower, upper = cells
    if np.isnan(coef):
        return f"{'no optimum':>12}"
    if np.isnan(error):
        return f"{_number(coef):>12}{'none':>11}"
    return f"{_number(coef):>12}{_number(error):>11}{z:>10.3f}{p:>9.3f}{_number(lower):>12}{_number(upper):>12}"


def _number(value: float) -> str:
    return f"{value:.4f}" if 1e-2 <= abs(value) < 1e6 or value == 0 else f"{value:.3e}"


def _notes(results: ChoiceResults) -> list[str]:
    notes = []
    if results.absent:
        notes.append(
            f"Nobody chose {', '.join(results.absent)}: probability zero, no finite optimum for what is theirs alone."
        )
    if results.why is not None:
        notes.append(f"No standard errors: {results.why}.")
    if not results.converged:
        notes.append("Newton's method did not converge: the estimate is no optimum.")
    return notes
