"""Numbers that say how well predicted careers fit the real ones, and how sure one may be of them.

Arrays only: N transitions, W workers, J titles, B bootstrap draws; `worker` is the index of each transition's worker,
int (N,) in [0, W). Logs are natural. Errors come from resampling workers, never rows: the rows of one worker are
dependent, and a copy of a row is no news. They are conditional on the fitted models: what another training sample or
seed would have given is not in them.

Weights belong to the target row. Zero is allowed and takes the row out; negative, NaN and infinite are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from laborllm.errors import PredictionsError

if TYPE_CHECKING:
    from laborllm.synth import Optimum

DRAWS = 1000
LEVEL = 0.95
"""Coverage of the percentile intervals."""

_CHUNK = 1 << 22
"""Numbers held at a time by one step of the bootstrap (float64: 32 MiB)."""


class Spread(NamedTuple):
    """Standard error and percentile interval of a number over bootstrap draws; NaN where they do not exist."""

    se: float
    low: float
    high: float


class WholeLaws(Protocol):
    """Predictions that may hold the whole law of each row; `Predictions` is one."""

    @property
    def year(self) -> np.ndarray:
        """Year of each row, (N,)."""

    @property
    def observed(self) -> np.ndarray:
        """State that happened, (N,)."""

    @property
    def log_p_all(self) -> np.ndarray | None:
        """Natural-log probabilities over the titles, (N, J), None where they were not kept."""


def mean(values: np.ndarray, *, weights: np.ndarray | None = None) -> float:
    """Weighted mean of `values`, shape (N,); NaN without any weight. A row of weight 0 is left out, even inf.

    Raises:
        PredictionsError: A value or weight is NaN, a weight negative or infinite; the message names the row.
    """
    weights = _checked_weights(weights, like=values)
    _check_known(values)
    counted = weights > 0
    if not counted.any():
        return float("nan")
    return float(np.sum(weights[counted] * values[counted]) / np.sum(weights[counted]))


def perplexity(log_p: np.ndarray, *, weights: np.ndarray | None = None) -> float:
    """Perplexity of what happened, per transition: exp(-sum w log p / sum w).

    Args:
        log_p: Natural log of the probability of what happened, shape (N,).
        weights: Of each transition, shape (N,); equal without.

    Returns:
        1 is certainty, J a uniform guess over J titles, inf says that something of probability 0 happened; NaN
        without any weight.

    Source: the per-transition measure of arXiv 2406.17972; not comparable with perplexity per token.

    >>> perplexity(np.log(np.full(3, 0.25)))
    4.0
    """
    return float(np.exp(-mean(np.asarray(log_p, np.float64), weights=weights)))


def stay_log_p(log_p_previous: np.ndarray, *, title_mass: np.ndarray | None = None) -> np.ndarray:
    """Natural log of the probability of staying, at most 0, shape (N,).

    Args:
        log_p_previous: Log-probability of the previous title under the normalized or masked law; or under the raw one.
        title_mass: Sum of the raw law over the J titles, which then turns the raw law into the normalized one.

    Raises:
        PredictionsError: A title mass of 0 leaves no law to normalise; the message names the row.
    """
    log_p = np.asarray(log_p_previous, np.float64)
    if title_mass is not None:
        empty = np.flatnonzero(~(np.asarray(title_mass) > 0))
        if empty.size:
            raise PredictionsError(
                f"the raw law of row {empty[0]} gives no title any probability ({empty.size} of {len(log_p)} rows): "
                "it cannot be normalized; score under the masked law"
            )
        log_p = log_p - np.log(title_mass)
    return np.minimum(log_p, 0.0)


def move_log_losses(log_p_stay: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Loss of each transition as a forecast of moving: -log P(stay) of a stay, -log(1 - P(stay)) of a move, (N,)."""
    log_p_stay = np.asarray(log_p_stay, np.float64)
    with np.errstate(divide="ignore"):
        return np.where(moved, -np.log(-np.expm1(log_p_stay)), -log_p_stay)


def move_log_loss(log_p_stay: np.ndarray, moved: np.ndarray, *, weights: np.ndarray | None = None) -> float:
    """Mean of `move_log_losses` in nats; inf where a move (or stay) happened that had probability 0."""
    return mean(move_log_losses(log_p_stay, moved), weights=weights)


def move_auc(score: np.ndarray, moved: np.ndarray, *, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve: the probability that a move scores above a stay, ties counted half.

    Args:
        score: Higher means more likely to move, any monotone scale, infinities allowed, shape (N,).
        moved: What happened, bool (N,). First rows of a career neither stay nor move: leave them out before.
        weights: Of each transition, shape (N,); a pair weighs the product.

    Returns:
        Exact, in [0, 1]; NaN where there are no moves or no stays of positive weight. Cost: one sort.

    Source: the Mann-Whitney form (Hanley and McNeil, Radiology 143(1), 1982).
    """
    worker = np.zeros(len(np.asarray(score)), np.int64)
    return float(move_auc_draws(score, moved, worker=worker, counts=np.ones((1, 1), np.int16), weights=weights)[0])


def kl_divergence(truth: np.ndarray, log_p_all: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of a model's law from the known law, per transition, in nats.

    Args:
        truth: Known probabilities over the titles, shape (N, J), rows summing to 1.
        log_p_all: The model's natural-log probabilities, shape (N, J), as `Predictions.log_p_all`.

    Returns:
        sum_j q_j (log q_j - log p_j), shape (N,); its mean is the log of (perplexity / optimum) in expectation. At
        least 0 up to rounding; inf where the model gives 0 to what can happen. Mass that a raw law leaves off the list
        counts against it.

    Raises:
        PredictionsError: The shapes differ, or a row of `truth` is no law; the message names the first such row.
    """
    if truth.shape != log_p_all.shape:
        raise PredictionsError(f"a truth of shape {truth.shape} and a law of shape {log_p_all.shape}; they must agree")
    result = np.empty(len(truth))
    step = max(1, _CHUNK // max(1, truth.shape[1]))
    for start in range(0, len(truth), step):
        q, log_p = truth[start : start + step].astype(np.float64), log_p_all[start : start + step].astype(np.float64)
        bad = np.flatnonzero(~((np.abs(q.sum(axis=1) - 1) < 1e-6) & (q.min(axis=1) >= 0)))
        if bad.size:
            raise PredictionsError(
                f"row {start + bad[0]} of the truth is no law (sum {q[bad[0]].sum():.6g}); normalise it"
            )
        possible = q > 0
        log_q = np.log(q, where=possible, out=np.zeros_like(q))
        terms = np.multiply(q, log_q - log_p, where=possible, out=np.zeros_like(q))
        result[start : start + step] = terms.sum(axis=1)
    return result


def kl_to_optimum(optimum: Optimum, predictions: WholeLaws) -> np.ndarray:
    """Kullback-Leibler divergence of a model's law from the true law of a simulated panel, per transition, in nats.

    What happened does not enter, so that there is no noise of sampling but that of the histories. The true laws are
    made block by block: nothing of shape (N, J) is in memory but the model's own.

    Args:
        optimum: `world.optimum(panel)`, of the panel that was predicted.
        predictions: Of the same rows, with the whole law (`titles="all"`, `keep_law=True`).

    Returns:
        As `kl_divergence`, shape (N,).

    Raises:
        PredictionsError: The whole law was not kept, or the rows are not those of the optimum.
    """
    log_p_all, rows = predictions.log_p_all, optimum.transitions
    if log_p_all is None:
        raise PredictionsError('the whole law was not kept; predict with titles="all" and keep_law=True')
    if len(log_p_all) != len(rows):
        raise PredictionsError(
            f"{len(log_p_all)} predictions and an optimum of {len(rows)} transitions; take the optimum of that panel"
        )
    other = np.flatnonzero((predictions.year != rows.year) | (predictions.observed != rows.occupation))
    if other.size:
        raise PredictionsError(
            f"row {other[0]} of the predictions has another year or occupation than the optimum's; take the optimum of "
            "the panel that was predicted"
        )
    result = np.empty(len(rows))
    for some, truth in optimum.laws():
        result[some] = kl_divergence(truth, log_p_all[some])
    return result


def worker_draws(num_workers: int, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often each worker is drawn in each bootstrap sample of W workers with replacement, int16 (B, W).

    One matrix serves every model, metric and subgroup: that pairs them. Each row sums to W. A worker cannot be drawn
    more often than W times, and for W beyond int16 the chance of 32,768 draws of one worker is nil.
    """
    generator = np.random.default_rng(seed)
    counts = np.empty((draws, num_workers), np.int16)
    step = max(1, _CHUNK // max(1, num_workers))
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        drawn = generator.integers(num_workers, size=(rows, num_workers)) if num_workers else np.zeros((rows, 0), int)
        drawn += np.arange(rows)[:, None] * num_workers
        flat = np.bincount(drawn.ravel(), minlength=rows * num_workers)
        counts[start : start + rows] = flat.reshape(rows, num_workers)
    return counts


def mean_draws(
    values: np.ndarray, *, worker: np.ndarray, counts: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Compute `mean` in every bootstrap sample, shape (B,), NaN in samples that hold no weight.

    Exact, through the sums of each worker: resampled workers bring all their rows. Infinite values are counted apart,
    so that a sample is infinite only if it holds one.
    """
    weights = _checked_weights(weights, like=values)
    values = np.asarray(values, np.float64)
    _check_known(values)
    infinite = np.isinf(values) & (weights > 0)
    finite = np.where(np.isfinite(values), values, 0.0)
    columns = (weights * finite, weights, infinite * np.sign(np.where(infinite, values, 0.0)))
    sums = np.stack([np.bincount(worker, column, minlength=counts.shape[1]) for column in columns], axis=1)  # (W, 3)
    drawn = np.empty((len(counts), 3))
    step = max(1, _CHUNK // max(1, counts.shape[1]))
    for start in range(0, len(counts), step):
        drawn[start : start + step] = counts[start : start + step].astype(np.float64) @ sums
    total, weight, beyond = drawn.T
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.where(weight > 0, total / weight, np.nan)
    return np.where(beyond != 0, np.copysign(np.inf, beyond), means)


def perplexity_draws(
    log_p: np.ndarray, *, worker: np.ndarray, counts: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Compute `perplexity` in every bootstrap sample, shape (B,)."""
    means = mean_draws(log_p, worker=worker, counts=counts, weights=weights)
    return np.asarray(np.exp(-means))


def move_auc_draws(
    score: np.ndarray, moved: np.ndarray, *, worker: np.ndarray, counts: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Compute `move_auc` in every bootstrap sample, shape (B,), NaN in samples without a move or without a stay.

    Exact. Scores are sorted once; a sample then costs one cumulative sum of the stays' weights, read off below each
    move and up to its ties. O(N log N + B N) time, chunks of draws bound the memory.
    """
    score, moved = np.asarray(score, np.float64), np.asarray(moved, bool)
    _check_known(score)
    weights = _checked_weights(weights, like=score)
    stays = np.flatnonzero(~moved)
    stays = stays[np.argsort(score[stays], kind="stable")]
    moves = np.flatnonzero(moved)
    moves = moves[np.argsort(score[moves], kind="stable")]
    below = np.searchsorted(score[stays], score[moves], side="left")
    up_to = np.searchsorted(score[stays], score[moves], side="right")
    result = np.empty(len(counts))
    step = max(1, min(128, _CHUNK // max(1, len(score))))
    for start in range(0, len(counts), step):
        times = np.ascontiguousarray(counts[start : start + step].T).astype(np.float64)  # (W, b)
        weight_of_moves = times[worker[moves]] * weights[moves, None]
        beaten = np.zeros((len(stays) + 1, times.shape[1]))
        np.cumsum(times[worker[stays]] * weights[stays, None], axis=0, out=beaten[1:])
        won = np.einsum("nb,nb->b", weight_of_moves, beaten[below] + beaten[up_to]) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            result[start : start + step] = won / (weight_of_moves.sum(axis=0) * beaten[-1])
    return result


def spread(draws: np.ndarray) -> Spread:
    """Standard deviation and percentile interval over bootstrap draws, shape (B,).

    Draws in which the number does not exist (no move in the sample, no member of the subgroup) are left out if they
    are at most one in twenty; beyond that, or where draws are infinite, there is no error to give: NaN. That also holds
    for a subgroup of one worker, whom more than a quarter of all samples leave out.
    """
    known = draws[~np.isnan(draws)]
    if len(known) < 2 or len(known) < LEVEL * len(draws) or np.isinf(known).any():
        return Spread(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Spread(float(known.std(ddof=1)), float(low), float(high))


def paired_p_value(differences: np.ndarray) -> float:
    """Two-sided bootstrap p-value of the null hypothesis that a paired difference is 0.

    Args:
        differences: Model a minus model b in the same samples of workers, shape (B,).

    Returns:
        2 (k + 1) / (B + 1), at most 1, where k counts the draws on the rarer side of 0 (0 belongs to both); NaN without
        a draw. Below .05 just when the 95 % percentile interval leaves 0 out, up to one draw; conditional on the fitted
        models.

    Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), §4.2 for the added one.
    """
    known = differences[~np.isnan(differences)]
    if not len(known):
        return float("nan")
    rarer = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(known) + 1))


def _check_known(values: np.ndarray) -> None:
    unknown = np.flatnonzero(np.isnan(values))
    if unknown.size:
        raise PredictionsError(f"row {unknown[0]} of the numbers to be averaged or ranked is NaN; leave such rows out")


def _checked_weights(weights: np.ndarray | None, *, like: np.ndarray) -> np.ndarray:
    if weights is None:
        return np.ones(len(like))
    weights = np.asarray(weights, np.float64)
    if weights.shape != np.shape(like):
        raise PredictionsError(f"{weights.shape} weights for {np.shape(like)} transitions; give one to each")
    bad = np.flatnonzero(~((weights >= 0) & np.isfinite(weights)))
    if bad.size:
        raise PredictionsError(
            f"the weight of row {bad[0]} is {weights[bad[0]]} ({bad.size} of {len(weights)} rows); give 0 or more"
        )
    return weights
