"""One career as a report shows it: what was known, what was predicted, what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laborllm.errors import PredictionsError

if TYPE_CHECKING:
    from laborllm.panel import Panel
    from laborllm.predictions import Predictions

FACTS = ("gender", "race", "birth_year", "region", "education")


@dataclass(frozen=True)
class WorkedCareer:
    """One transition with its history and the titles that a model thought most likely.

    Attributes:
        model: Name of the model that predicted.
        law: Which law over titles the probabilities belong to: raw, normalized or masked.
        year: The predicted year.
        happened: The title that was observed in that year.
        predicted: (title, probability), most likely first; a title that happened but was not among them stands last.
        history: (year, title) of the rows before, oldest first; the year is None where only the title is known.
        facts: What the page says about the worker, name to text. No worker id is shown.
    """

    model: str
    law: str
    year: int
    happened: str
    predicted: Sequence[tuple[str, float]]
    history: Sequence[tuple[int | None, str]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_predictions(
        cls,
        predictions: Predictions,
        *,
        dataset: str,
        worker_id: int | str,
        year: int,
        facts: Mapping[str, str] | None = None,
        top: int = 9,
    ) -> Self:
        """Take the transition of one worker into one year, with the `top` most likely titles.

        The history is what the predictions hold of the worker's earlier rows; of rows that were not predicted only the
        last title is known.

        Raises:
            PredictionsError: No whole law was kept, or the worker has no prediction for that year.
        """
        law = predictions.log_p_all
        if law is None:
            raise PredictionsError(
                f"the predictions of {predictions.model!r} hold no whole law; score titles='all' and keep log_p_all"
            )
        rows = _rows(predictions, dataset=dataset, worker_id=worker_id)
        years = predictions.year[rows]
        if year not in years:
            known = ", ".join(str(y) for y in years) or "none"
            raise PredictionsError(
                f"{predictions.model!r} predicts no row of worker {worker_id!r} of {dataset!r} in {year}; "
                f"predicted years: {known}"
            )
        row = int(rows[years == year][0])
        titles = predictions.occupations.titles
        observed = int(predictions.observed[row])
        order = np.argsort(-law[row], kind="stable")[: max(top, 1)].tolist()
        shown = order if observed in order else [*order, observed]
        return cls(
            model=predictions.model,
            law=predictions.law,
            year=year,
            happened=titles[observed],
            predicted=tuple((titles[j], float(np.exp(law[row, j]))) for j in shown),
            history=_history(predictions, rows[years < year], row),
            facts=dict(facts or {}),
        )

    @classmethod
    def longest(cls, predictions: Sequence[Predictions], *, panel: Panel | None = None) -> Self | None:
        """The last row of the first worker with most rows, by the best model that kept a whole law; None without one.

        The best is the one with the highest mean log-probability of what happened, the earlier one on a tie. With a
        panel, the worker's traits stand beside the career.
        """
        whole = [p for p in predictions if p.log_p_all is not None and len(p)]
        if not whole:
            return None
        best = max(whole, key=lambda p: float(p.log_p.mean()))
        worker = int(np.bincount(best.worker).argmax())
        rows = np.flatnonzero(best.worker == worker)
        row = int(rows[best.year[rows].argmax()])
        key = {name: best.table[name][row].as_py() for name in ("dataset", "worker_id", "year")}
        return cls.from_predictions(best, **key, facts=_facts(panel, key) if panel is not None else None)


def _rows(predictions: Predictions, *, dataset: str, worker_id: int | str) -> np.ndarray:
    """Rows of one worker by year, shape (n,)."""
    ids = predictions.table["worker_id"]
    if isinstance(worker_id, str) != pa.types.is_large_string(ids.type):
        raise PredictionsError(f"worker ids are {ids.type} here, {worker_id!r} is none; give it as they stand")
    same = pc.and_(
        pc.equal(ids, pa.scalar(worker_id, ids.type)),
        pc.equal(predictions.table["dataset"].cast(pa.large_string()), pa.scalar(dataset, pa.large_string())),
    )
    rows = np.flatnonzero(same.to_numpy())
    return rows[np.argsort(predictions.year[rows], kind="stable")]


def _history(predictions: Predictions, earlier: np.ndarray, row: int) -> tuple[tuple[int | None, str], ...]:
    titles = predictions.occupations.titles
    seen = [(int(predictions.year[i]), titles[predictions.observed[i]]) for i in earlier]
    before = int(predictions.previous[earlier[0] if len(earlier) else row])
    return tuple([(None, titles[before]), *seen] if before >= 0 else seen)


def _facts(panel: Panel, key: Mapping[str, object]) -> dict[str, str]:
    table = panel.table
    same = pc.and_(
        pc.equal(table["worker_id"], pa.scalar(key["worker_id"], table["worker_id"].type)),
        pc.and_(
            pc.equal(table["dataset"].cast(pa.large_string()), pa.scalar(key["dataset"], pa.large_string())),
            pc.equal(table["year"], pa.scalar(key["year"], table["year"].type)),
        ),
    )
    row = table.filter(same).slice(0, 1).to_pylist()
    return {name: str(row[0][name]) for name in FACTS if row and row[0].get(name) is not None}
