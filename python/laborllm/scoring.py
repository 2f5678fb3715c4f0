"""One run of a fitted model over a panel: what `laborllm score` does, without its printing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from laborllm.errors import ModelError, PredictionsError
from laborllm.models.closed import ClosedForm
from laborllm.panel import Panel
from laborllm.parts import Parts
from laborllm.prediction_form import check_whole_law_size
from laborllm.prediction_titles import named
from laborllm.predictions import Predictions

if TYPE_CHECKING:
    from laborllm.models.language import LanguageModel

PART_WORKERS = {"observed": 512, "all": 64}
"""Workers of a part that is kept when it is done: at most minutes of work, and many forward passes."""
SAMPLE_WORKERS = 8
"""Workers on whose rows merged adapters are compared with unmerged ones."""
Bar = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked of a run; see `TitleScorer.score`."""

    titles: Literal["observed", "all"] = "observed"
    law: Literal["raw", "normalized", "masked"] | None = None
    keep_law: bool = False
    also: tuple[str, ...] = ()
    top: int | None = None
    dtype: str | None = None
    max_rows: int | None = None
    shard: tuple[int, int] | None = None


def score(
    model: ClosedForm | LanguageModel,
    panel: Panel,
    output: Path,
    options: Options,
    *,
    overwrite: bool,
    bar: Bar,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Score a panel, write the predictions, and give what there is to tell about the run.

    Args:
        model: A fitted model; a language model is made ready for scoring, in place.
        panel: Rows in the model's occupations.
        output: Parquet; beside it a folder holds finished parts until it is written.
        options: What is asked.
        overwrite: Replace a file that exists.
        bar: Shows progress over a number of rows.
        say: Tells a note.
    """
    others = [panel.occupations.titles[title] for title in named(options.also, panel.occupations)]
    options = replace(options, also=tuple(others))
    panel = panel if options.shard is None else panel.shard(*options.shard)
    if options.keep_law:
        check_whole_law_size(int(panel.targets.sum()), len(panel.occupations))
    facts: dict[str, Any] = {}
    if isinstance(model, ClosedForm):
        predictions = _with_shard(_closed(model, panel, options, bar), options)
        predictions.write(output, overwrite=overwrite)
    else:
        run = _Run(model, panel, options, folder=output.with_name(f".{output.name}.parts"))
        predictions, facts = run.predictions(bar=bar, say=say)
        predictions = _with_shard(predictions, options)
        predictions.write(output, overwrite=overwrite)
        run.parts.remove()
    about = {"output": str(output), "model": predictions.model, "law": predictions.law}
    return {**about, "transitions": len(predictions), "workers": predictions.num_workers, **facts}


def _with_shard(predictions: Predictions, options: Options) -> Predictions:
    if options.shard is not None:
        predictions.metadata["shard"] = list(options.shard)
    return predictions


def _closed(model: ClosedForm, panel: Panel, options: Options, bar: Bar) -> Predictions:
    if options.law not in {None, "normalized"}:
        raise ModelError(f"a {model.kind} model has the normalized law alone; leave out --law {options.law}")
    for name in ("dtype", "max_rows"):
        if getattr(options, name) is not None:
            raise ModelError(f"a {model.kind} model runs nothing; leave out --{name.replace('_', '-')}")
    with bar("scoring rows", int(panel.targets.sum())) as step:
        predictions = model.predict(
            panel, titles=options.titles, keep_law=options.keep_law, also=options.also, top=options.top
        )
        step(len(predictions))
    return predictions


class _Run:
    """A language model over a panel, in parts."""

    def __init__(self, model: LanguageModel, panel: Panel, options: Options, *, folder: Path) -> None:
        self.model, self.panel, self.options = model, panel, options
        self.law = options.law or "raw"
        if options.titles == "observed" and (self.law == "normalized" or options.keep_law):
            raise PredictionsError("normalized and the whole law need every title; pass --titles all")
        self.merge_gap = model.for_scoring(dtype=options.dtype, max_rows=options.max_rows, sample=_sample(panel))
        self.parts = Parts(panel, folder, workers=PART_WORKERS[options.titles], options=self._all_that_matters())

    def predictions(self, *, bar: Bar, say: Callable[[str], None]) -> tuple[Predictions, dict[str, Any]]:
        """Score what is left to score; gives the whole and the facts about this run."""
        parts, scorer = self.parts, self.model.scorer
        if self.merge_gap is not None:
            say(f"adapters merged: log P of what happened moves by at most {self.merge_gap:.1e} in a sample")
        if parts.strange:
            say(f"{parts.strange} parts in {parts.folder} are damaged; they are made anew")
        if parts.others:
            say(f"{parts.folder} holds {parts.others} parts of other runs; remove it if they are not wanted")
        if parts.kept:
            say(f"{len(parts.kept)} of {parts.total} parts were finished by an earlier run and are kept")
        kept, before = len(parts.kept), replace(scorer.work)
        try:
            with bar("scoring rows", parts.rows_left) as step:
                predictions = parts.predictions(lambda part: self._predict(part, step))
        except BaseException:
            if parts.kept:
                say(f"{len(parts.kept)} of {parts.total} parts are finished and kept; the same command goes on")
            raise
        facts: dict[str, Any] = {"dtype": predictions.metadata["dtype"], "method": scorer.method}
        facts |= {"merge_gap": self.merge_gap, "parts_kept": kept}
        if scorer.method == "tree":
            done = {name: count - getattr(before, name) for name, count in asdict(scorer.work).items()}
            rows = done["trunk"] + done["nodes"]
            facts |= {"rows_forwarded": rows, "rows_per_transition": round(rows / max(1, parts.rows_left), 2)}
            facts |= {"rows_of_resumes": done["trunk"], "rows_of_titles": done["nodes"], "passes": done["passes"]}
        return predictions, facts

    def _predict(self, part: Panel, step: Callable[[int], None]) -> Predictions:
        options = self.options
        return self.model.predict(
            part,
            titles=options.titles,
            law=self.law,
            keep_law=options.keep_law,
            also=options.also,
            top=options.top,
            progress=step,
        )

    def _all_that_matters(self) -> dict[str, Any]:
        """Beside the rows, what the numbers depend on."""
        scorer = self.model.scorer
        about = {"law": self.law, "dtype": str(scorer.model.dtype), "method": scorer.method, "model": self.model.name}
        about |= {
            "model_hash": self.model.hash,
            "base": self.model.fingerprint,
            "template_hash": scorer.template.hash,
            "version": version("laborllm"),
        }
        about |= {"torch": version("torch"), "device": scorer.model.device.type}
        asked = asdict(self.options)
        del asked["max_rows"]  # it changes no number
        return asked | about


def _sample(panel: Panel) -> Panel:
    middle = panel.num_workers // 2
    return panel.slice_workers(middle, middle + SAMPLE_WORKERS)
