"""The page people read: one HTML file with tables, charts and their errors, that opens offline.

Needs the extra `report` (jinja2, altair, vl-convert-python); it is loaded when a page is written, not on import.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from laborllm.errors import MissingDependencyError, PredictionsError
from laborllm.evaluate import evaluate
from laborllm.files import write_text
from laborllm.report.worked import WorkedCareer

if TYPE_CHECKING:
    from laborllm.evaluate import Evaluation
    from laborllm.panel import Panel
    from laborllm.predictions import Predictions

__all__ = ["WorkedCareer", "write_report"]

_EXTRA = ("jinja2", "altair", "vl_convert")


def write_report(
    predictions: Sequence[Predictions],
    path: str | Path,
    *,
    title: str = "Predicting the next occupation",
    notes: Sequence[str] = (),
    worked: WorkedCareer | None = None,
    evaluation: Evaluation | None = None,
    by: str | None = None,
    panel: Panel | None = None,
    draws: int = 1000,
    seed: int = 0,
    date: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write one self-contained HTML page about models that predicted the same transitions.

    The page holds no script and asks for nothing outside itself. The same arguments give the same bytes.

    Args:
        predictions: One per model, in the order of the tables.
        path: The HTML file to write.
        title: The heading.
        notes: Sentences about the data for the section "What these numbers are not", before the standing ones.
        worked: The career to show; by default the last row of the first worker with most rows, by the model with the
            highest mean log-probability among those that kept a whole law (none: no such section).
        evaluation: What `evaluate` gave for these predictions; computed here if absent.
        by: A column of `panel` whose groups are told apart.
        panel: The panel the predictions are about, for `by` and for the traits beside the worked career.
        draws: Draws of the bootstrap over workers.
        seed: Of the bootstrap.
        date: A date for the foot of the page; none by default, so that a run can be repeated to the byte.
        overwrite: Replace a file of that name.

    Raises:
        MissingDependencyError: The extra `report` is not installed.
        FileError: The file exists and `overwrite` is false.
        PredictionsError: No predictions, or predictions that are not about the same transitions.
    """
    _check_extra()
    if not predictions:
        raise PredictionsError(
            "a report needs the predictions of at least one model; pass the files of `laborllm score`"
        )
    if evaluation is None:
        evaluation = evaluate(predictions, by=by, panel=panel, draws=draws, seed=seed)
    if worked is None:
        worked = WorkedCareer.longest(predictions, panel=panel)
    page = import_module("laborllm.report.page")
    text = page.render(predictions, evaluation, title=title, notes=notes, worked=worked, date=date)
    write_text(text, path, overwrite=overwrite)


def _check_extra() -> None:
    for module in _EXTRA:
        try:
            import_module(module)
        except ImportError as error:
            raise MissingDependencyError(
                f'a report needs {module}, which cannot be imported ({error}); pip install "laborllm[report]"'
            ) from error
