"""Predictions in, numbers with their errors out: one object per model, and the paired differences between them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laborllm.errors import PredictionsError
from laborllm.metrics import (
    DRAWS,
    mean,
    mean_draws,
    move_auc,
    move_auc_draws,
    move_log_losses,
    paired_p_value,
    perplexity,
    perplexity_draws,
    spread,
    stay_log_p,
    worker_draws,
)
from laborllm.predictions import Predictions, check_comparable

if TYPE_CHECKING:
    from laborllm.panel import Panel

COMPARED = ("perplexity", "perplexity_history", "move_auc")
MISSING = "(missing)"
"""Name of the group of rows whose column is null."""

TIE_DECIMALS = 12
"""Scores of the AUC equal to so many decimals are ties: dividing by a mass leaves equal P a rounding apart."""

P_MOVE, LOG_P_PREVIOUS = "1 - P(previous)", "-log_p_previous"


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        models: One dict per predictions, in the order given, of JSON values only. A number that does not exist is
            None; one that is infinite is None too and its name stands in `infinite`.
        differences: One dict per pair of models and metric of `COMPARED` that both have: `model_a`, `law_a`,
            `model_b`, `law_b`, `metric`, `difference` (a minus b, so negative means a smaller perplexity of a), `se`,
            `low`, `high`, `p_value`. In a pair, a is the one given later.
    """

    models: list[dict[str, Any]]
    differences: list[dict[str, Any]]

    def to_json(self) -> str:
        """A list with one object per model, as `laborllm evaluate --json` prints it; strict JSON."""
        return json.dumps(self.models, ensure_ascii=False, indent=2, allow_nan=False)


@dataclass(frozen=True)
class _Estimate:
    value: float
    draws: np.ndarray  # (B,)


@dataclass(frozen=True)
class _Frame:
    """What all models share: the workers, their weights and how often each draw holds them."""

    worker: np.ndarray  # (N,)
    counts: np.ndarray  # (B, W)
    weights: np.ndarray | None  # (N,)

    def part(self, rows: np.ndarray) -> dict[str, Any]:
        weights = None if self.weights is None else self.weights[rows]
        return {"worker": self.worker[rows], "counts": self.counts, "weights": weights}


def evaluate(
    predictions: Sequence[Predictions],
    *,
    by: str | None = None,
    panel: Panel | None = None,
    weight: str | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Evaluation:
    """Judge predictions of the same transitions beside each other.

    Args:
        predictions: One or more, about the same rows in the same order.
        by: A column of `panel`: every model gets the same numbers for each of its values, in `groups`.
        panel: Where `by` and `weight` are looked up by (dataset, worker_id, year); every prediction must be found.
        weight: A column of `panel` with the weight of each target row; all rows count equally without.
        draws: Bootstrap samples of workers, one set for all models, metrics and groups.
        seed: Of the bootstrap.

    Returns:
        Per model: `model`, `law`, `covariates`, `transitions`, `workers`, then `perplexity` (all rows, first ones
        included), `perplexity_history` (without them), `perplexity_first`, `perplexity_stay`, `perplexity_move`,
        `move_auc`, `move_log_loss` and `title_mass`, each with `_se`, `_low`, `_high` (95 % percentile interval).
        `move_score` says what the AUC ranks: "1 - P(previous)" under the normalized or masked law, or a raw law that
        its `title_mass` normalises; "-log_p_previous" for a raw law without it, which has no log loss. `by` adds
        `groups`; with several models each later one has its `differences` from the first, all pairs stand in
        `Evaluation.differences`. Errors are conditional on the fitted models.

    Raises:
        PredictionsError: Nothing to evaluate, models that predicted different rows, a row that the panel lacks, a
            weight that is negative or null, an unknown column.
    """
    if not predictions or not len(predictions[0]):
        raise PredictionsError("no predictions to evaluate; give at least one, of at least one transition")
    reference = predictions[0]
    for other in predictions[1:]:
        check_comparable(reference, other)
    if panel is None and (by is not None or weight is not None):
        raise PredictionsError(f"the column {by or weight!r} is looked up in the panel; pass panel=")
    rows = None if panel is None or (by is None and weight is None) else _panel_rows(reference, panel)
    weights = None if weight is None else _weights(reference, _column(panel, weight, rows), name=weight)
    workers = reference.num_workers
    counts = worker_draws(workers, draws=draws if workers > 1 else 0, seed=seed)  # one worker has no spread
    frame = _Frame(worker=reference.worker, counts=counts, weights=weights)
    everyone = np.ones(len(reference), bool)
    estimates = [_estimates(one, everyone, frame=frame) for one in predictions]
    differences = list(_differences(predictions, estimates))
    groups = [] if by is None else list(_groups(_column(panel, by, rows), name=by))
    models = []
    for position, (one, found) in enumerate(zip(predictions, estimates, strict=True)):
        numbers = _described(one) | _numbers(one, everyone, found, frame=frame)
        numbers |= {"weight": weight, "draws": draws, "seed": seed}
        if by is not None:
            numbers["by"] = by
            numbers["groups"] = [
                {"group": name} | _numbers(one, part, _estimates(one, part, frame=frame), frame=frame)
                for name, part in groups
            ]
        if position:
            numbers["differences"] = [shown for pair, shown in differences if pair == (position, 0)]
        models.append(numbers)
    return Evaluation(models=models, differences=[shown for _, shown in differences])


def _described(predictions: Predictions) -> dict[str, Any]:
    names = ("model", "law", "covariates", "titles", "template_hash", "model_hash")
    return {name: predictions.metadata[name] for name in names}


def _estimates(predictions: Predictions, rows: np.ndarray, *, frame: _Frame) -> dict[str, _Estimate]:
    """Every metric that exists over the transitions in `rows`, bool (N,)."""
    history = rows & ~predictions.first
    subsets = {
        "perplexity": rows,
        "perplexity_history": history,
        "perplexity_first": rows & predictions.first,
        "perplexity_stay": rows & predictions.stay,
        "perplexity_move": rows & predictions.move,
    }
    found = {}
    for name, part in subsets.items():
        sample = frame.part(part)
        value = perplexity(predictions.log_p[part], weights=sample["weights"])
        found[name] = _Estimate(value, perplexity_draws(predictions.log_p[part], **sample))
    sample, moved = frame.part(history), predictions.move[history]
    stay, comparable = _stay(predictions)
    if stay is not None:
        score = np.round(-stay[history], TIE_DECIMALS)
        auc = move_auc(score, moved, weights=sample["weights"])
        found["move_auc"] = _Estimate(auc, move_auc_draws(score, moved, **sample))
    if stay is not None and comparable:
        losses = move_log_losses(stay[history], moved)
        value = mean(losses, weights=sample["weights"])
        found["move_log_loss"] = _Estimate(value, mean_draws(losses, **sample))
    if not np.isnan(predictions.title_mass).any():
        sample, mass = frame.part(rows), predictions.title_mass[rows]
        value = mean(mass, weights=sample["weights"])
        found["title_mass"] = _Estimate(value, mean_draws(mass, **sample))
    return found


def _stay(predictions: Predictions) -> tuple[np.ndarray | None, bool]:
    """Log-probability of staying (N,), NaN on first rows, and whether it belongs to a law over the titles alone."""
    log_p = predictions.log_p_previous
    if np.isnan(log_p[~predictions.first]).any():
        return None, False
    if predictions.law != "raw":
        return stay_log_p(log_p), True
    if np.isnan(predictions.title_mass).any():
        return log_p, False
    return stay_log_p(log_p, title_mass=np.where(predictions.first, 1.0, predictions.title_mass)), True


def _numbers(
    predictions: Predictions, rows: np.ndarray, found: dict[str, _Estimate], *, frame: _Frame
) -> dict[str, Any]:
    """Counts and estimates over `rows` as JSON values."""
    kinds = {"first": predictions.first, "stay": predictions.stay, "move": predictions.move}
    stay, comparable = _stay(predictions)
    shown: dict[str, Any] = {"transitions": int(rows.sum()), "workers": len(np.unique(predictions.worker[rows]))}
    names = ("perplexity", "perplexity_history", "perplexity_first", "perplexity_stay", "perplexity_move")
    for name in (*names, "move_auc", "move_log_loss", "title_mass"):
        shown |= _shown(name, found.get(name))
    shown |= {f"transitions_{kind}": int((rows & chosen).sum()) for kind, chosen in kinds.items()}
    shown["zero_weights"] = 0 if frame.weights is None else int((frame.weights[rows] == 0).sum())
    shown["move_score"] = None if stay is None else P_MOVE if comparable else LOG_P_PREVIOUS
    shown["infinite"] = [name for name, estimate in found.items() if math.isinf(estimate.value)]
    return shown


def _shown(name: str, estimate: _Estimate | None) -> dict[str, float | None]:
    keys = (name, f"{name}_se", f"{name}_low", f"{name}_high")
    if estimate is None:
        return dict.fromkeys(keys)
    values = (estimate.value, *spread(estimate.draws))
    return {key: value if math.isfinite(value) else None for key, value in zip(keys, values, strict=True)}


def _differences(
    predictions: Sequence[Predictions], estimates: Sequence[dict[str, _Estimate]]
) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """Positions (a, b) and what they differ by, draw by draw: the same workers in both."""
    for b, a in combinations(range(len(predictions)), 2):
        for metric in COMPARED:
            if metric not in estimates[a] or metric not in estimates[b]:
                continue
            first, second = estimates[a][metric], estimates[b][metric]
            shown: dict[str, Any] = {"model_a": predictions[a].model, "law_a": predictions[a].law}
            shown |= {"model_b": predictions[b].model, "law_b": predictions[b].law, "metric": metric}
            with np.errstate(invalid="ignore"):
                difference, draws = first.value - second.value, first.draws - second.draws
            numbers = _shown("difference", _Estimate(difference, draws))
            known = numbers["difference_se"] is not None
            shown |= {name.removeprefix("difference_"): value for name, value in numbers.items()}
            shown["p_value"] = paired_p_value(draws) if known else None
            yield (a, b), shown


def _panel_rows(predictions: Predictions, panel: Panel) -> np.ndarray:
    """Row of the panel that each prediction is about, int64 (N,)."""
    table, mine = panel.table, predictions.table
    ids, wanted = table["worker_id"], mine["worker_id"]
    if ids.type != wanted.type:
        if pa.types.is_integer(ids.type) != pa.types.is_integer(wanted.type):
            raise PredictionsError(
                f"worker_id is {wanted.type} in {predictions.model!r} and {ids.type} in the panel; score that panel"
            )
        ids, wanted = ids.cast(pa.large_string()), wanted.cast(pa.large_string())
    tags, wanted_tags = (one["dataset"].cast(pa.large_string()) for one in (table, mine))
    years, wanted_years = table["year"].to_numpy().astype(np.int64), predictions.year.astype(np.int64)
    low, span = (int(years.min()), int(np.ptp(years)) + 1) if len(years) else (0, 0)
    known_ids, known_tags = pc.unique(ids), pc.unique(tags)

    def keys(tag: pa.ChunkedArray[Any], worker: pa.ChunkedArray[Any], year: np.ndarray) -> np.ndarray:
        parts = [_place(tag, known_tags), _place(worker, known_ids), year - low]
        outside = (parts[0] < 0) | (parts[1] < 0) | (parts[2] < 0) | (parts[2] >= span)
        return np.where(outside, -1, (parts[0] * len(known_ids) + parts[1]) * span + parts[2])

    have, want = keys(tags, ids, years), keys(wanted_tags, wanted, wanted_years)
    order = np.argsort(have, kind="stable")
    place = np.minimum(np.searchsorted(have[order], want), max(len(have) - 1, 0))
    lost = np.flatnonzero(have[order][place] != want) if len(have) else np.arange(len(want))
    if lost.size:
        datasets = ", ".join(repr(tag) for tag in known_tags.to_pylist())
        raise PredictionsError(
            f"the panel has no row for {predictions.where(int(lost[0]))} ({lost.size} of {len(want)} predictions; its "
            f"datasets are {datasets}); give the panel that was scored"
        )
    return np.asarray(order[place])


def _place(values: Any, known: Any) -> np.ndarray:
    return np.asarray(pc.index_in(values, value_set=known).fill_null(-1).to_numpy()).astype(np.int64)


def _column(panel: Panel | None, name: str, rows: np.ndarray | None) -> pa.Array[Any]:
    if panel is None or rows is None or name not in panel.table.column_names:
        present = ", ".join(panel.table.column_names) if panel is not None else "none"
        raise PredictionsError(f"the panel has no column {name!r}; present are {present}")
    column: Any = panel.table[name].combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values: pa.Array[Any] = column.take(pa.array(rows))
    return values


def _weights(predictions: Predictions, column: pa.Array[Any], *, name: str) -> np.ndarray:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise PredictionsError(f"the weight {name!r} is {column.type}; give a column of numbers")
    weights = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    bad = np.flatnonzero(~((weights >= 0) & np.isfinite(weights)))
    if bad.size:
        value = column[int(bad[0])].as_py()
        raise PredictionsError(
            f"the weight {name!r} of {predictions.where(int(bad[0]))} is {value} ({bad.size} of {len(weights)} "
            "rows); weights are 0 or more and never null"
        )
    if not (weights > 0).any():
        raise PredictionsError(f"the weight {name!r} is 0 in all {len(weights)} rows; choose another column")
    return weights


def _groups(column: pa.Array[Any], *, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """Name and rows, bool (N,), of each value in its own order, nulls last."""
    if pa.types.is_nested(column.type) or pa.types.is_null(column.type):
        raise PredictionsError(f"the column {name!r} is {column.type}; group by strings, numbers or booleans")
    encoded: Any = column.dictionary_encode()
    codes = np.asarray(encoded.indices.fill_null(-1))
    for code in pc.sort_indices(encoded.dictionary).to_pylist():
        yield str(encoded.dictionary[code].as_py()), codes == code
    if encoded.null_count:
        yield MISSING, codes < 0
