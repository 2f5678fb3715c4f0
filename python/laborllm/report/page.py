"""From predictions and their evaluation to the text of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined

from laborllm.evaluate import LOG_P_PREVIOUS
from laborllm.report import charts, tables, text
from laborllm.report.worked import WorkedCareer

if TYPE_CHECKING:
    from laborllm.evaluate import Evaluation
    from laborllm.predictions import Predictions

_LIGHT = {"paper": "#fcfbf8", **charts.PALETTE}
_DARK = {
    "paper": "#15171a", "ink": "#e9e6df", "muted": "#a19e96", "rule": "#363a3f", "first": "#7fb4e6",
    "second": "#f0975f", "soft": "#4d6580",
}  # fmt: skip

_MEASURE = (
    "Perplexity is the exponential of the mean negative log-probability that a model gave to the occupation that "
    "happened, per transition: 1 is certainty, {titles} a uniform guess over the {titles} titles, and lower is better. "
    "Stays are transitions into the occupation of the row before, moves into another; first rows have no history and "
    "are neither."
)
_TABLE = (
    "Each number with ± its standard error, and the perplexity over all rows with its 95 % interval, from {draws} "
    "draws of workers that all models share. AUC and log loss (in nats) are those of the forecast that the worker "
    "moves. Title mass is the mean probability that falls on any of the titles. An en dash stands where a number does "
    "not exist."
)
_LONG = 12
"""Rows of history above which the worked career shows spells."""

_STANDING_NOTES = (
    "The errors are conditional on the fitted models. They say how the numbers would vary with other test workers, not "
    "with another training sample, another seed or another choice of settings.",
    "Raw, normalized and masked are three different laws over titles; a number under one of them is not comparable "
    "with a number under another. A model that knows nothing but titles has one law, the same under all three names.",
    "Perplexity is per transition, not per token: it cannot be compared with the perplexities of language modelling.",
    "The p-values are not adjusted for the number of comparisons.",
)


def render(
    predictions: Sequence[Predictions],
    evaluation: Evaluation,
    *,
    title: str,
    notes: Sequence[str],
    worked: WorkedCareer | None,
    date: str | None,
) -> str:
    """The whole page as HTML. Every text passes jinja2's escaping; only the rebuilt SVG does not."""
    environment = Environment(
        loader=PackageLoader("laborllm.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_clean,
    )
    num_titles = len(predictions[0].occupations)
    return environment.get_template("page.html.jinja").render(
        version=version("laborllm"),
        title=title,
        light=_LIGHT,
        dark=_DARK,
        palette=charts.PALETTE,
        lead=_lead(predictions),
        measure=_MEASURE.format(titles=num_titles),
        table=_model_table(evaluation),
        figures=_figures(evaluation),
        differences=_differences(evaluation),
        groups=_groups(evaluation),
        worked=None if worked is None else _worked(worked),
        notes=[*notes, *_STANDING_NOTES],
        provenance=_provenance(predictions, evaluation, date=date),
    )


def _clean(value: object) -> object:
    """What a template prints: text without control characters; markup as it was built."""
    return text.plain(value) if type(value) is str else value


def _lead(predictions: Sequence[Predictions]) -> str:
    one = predictions[0]
    datasets = [name for name in one.table["dataset"].cast(pa.large_string()).unique().to_pylist() if name]
    source = f" of {text.listed(sorted(datasets))}" if datasets else ""
    years = f"{one.year.min()}" if one.year.min() == one.year.max() else f"{one.year.min()}–{one.year.max()}"
    laws = list(dict.fromkeys(p.law for p in predictions))
    kinds = [
        (int(rows.sum()), noun) for rows, noun in ((one.stay, "stay"), (one.move, "move"), (one.first, "first row"))
    ]
    parts = text.listed([text.count(*kind) for kind in kinds])
    return (
        f"{text.spelled(len(predictions), 'model')} gave a probability to the occupation that each of "
        f"{text.count(one.num_workers, 'worker')}{source} held next, at {text.count(len(one), 'transition')} in "
        f"{years} over {text.count(len(one.occupations), 'title')}: {parts}. "
        f"The probabilities are those of the {text.listed(laws)} {'law' if len(laws) == 1 else 'laws'} over titles."
    )


def _model_table(evaluation: Evaluation) -> dict[str, Any]:
    """Rows in one body per law: no number stands under another law's heading."""
    models = evaluation.models
    laws = list(dict.fromkeys(m["law"] for m in models))
    bodies = [
        {
            "law": law if len(laws) > 1 else None,
            "meaning": tables.LAWS[law],
            "rows": [_model_row(m) for m in models if m["law"] == law],
        }
        for law in laws
    ]
    caption = _TABLE.format(draws=f"{models[0]['draws']:,}")
    if len(laws) == 1:
        caption += f" All under the {laws[0]} law: {tables.LAWS[laws[0]]}."
    if any(m["move_score"] == LOG_P_PREVIOUS for m in models):
        caption += " * AUC of −log P(previous occupation), where no law over the titles was computed."
    if models[0]["weight"] is not None:
        caption += f" Transitions are weighted by {models[0]['weight']}."
    parts = (
        ("Perplexity, per transition", tables.PERPLEXITIES),
        ("Does the worker move?", tables.MOVES),
        ("On titles", tables.MASS),
    )
    spans = [{"title": title, "names": list(names.values())} for title, names in parts]
    return {"caption": caption, "spans": spans, "bodies": bodies, "width": 1 + sum(len(s["names"]) for s in spans)}


def _model_row(numbers: Mapping[str, Any]) -> dict[str, Any]:
    cells = tables.model_cells(numbers)
    if numbers["move_score"] == LOG_P_PREVIOUS:
        auc = list(tables.PERPLEXITIES | tables.MOVES).index("move_auc")
        cells[auc] = replace(cells[auc], value=f"{cells[auc].value}*")
    return {"model": numbers["model"], "saw": tables.saw(numbers["covariates"]), "cells": cells}


def _names(evaluation: Evaluation) -> list[str]:
    """Names for charts: with the law where one name stands for several models."""
    names = [m["model"] for m in evaluation.models]
    return [f"{m['model']} ({m['law']})" if names.count(m["model"]) > 1 else m["model"] for m in evaluation.models]


def _figures(evaluation: Evaluation) -> list[dict[str, Any]]:
    overall, apart = [], []
    for name, m in zip(_names(evaluation), evaluation.models, strict=True):
        overall.append(charts.Dots(name, _points(m, "perplexity"), str(tables.cell(m, "perplexity", name))))
        stay, move = (text.with_error(m[f"perplexity_{kind}"], None)[0] for kind in ("stay", "move"))
        points = [*_points(m, "perplexity_stay"), *_points(m, "perplexity_move", series=1)]
        apart.append(charts.Dots(name, points, f"{stay} · {move}"))
    described = ["; ".join(f"{line.label} {line.text}" for line in lines) for lines in (overall, apart)]
    return [
        {
            "caption": "Perplexity over all rows with its 95 % interval; further left is better.",
            "key": [],
            "svg": charts.dot_chart(overall, axis="Perplexity", alt_text=f"Perplexity of each model: {described[0]}"),
        },
        {
            "caption": "Perplexity of stays and of moves with 95 % intervals: what a model gains on one by expecting "
            "it too often, it loses on the other.",
            "key": [("●", "first", "stays"), ("◆", "second", "moves")],
            "svg": charts.dot_chart(
                apart, axis="Perplexity", alt_text=f"Perplexity of each model over stays · over moves: {described[1]}"
            ),
        },
    ]


def _points(numbers: Mapping[str, Any], key: str, *, series: int = 0) -> list[charts.Point]:
    if numbers[key] is None:
        return []
    return [charts.Point(numbers[key], numbers[f"{key}_low"], numbers[f"{key}_high"], series)]


def _differences(evaluation: Evaluation) -> dict[str, Any] | None:
    pairs = tables.differences(evaluation)
    if not pairs:
        return None
    earlier = list(dict.fromkeys(against for _, against, _ in pairs))
    bodies = [
        {"against": name, "rows": [{"model": a, "cells": cells} for a, b, cells in pairs if b == name]}
        for name in earlier
    ]
    only = f" With {len(evaluation.models)} models, only pairs with the first are shown."
    return {
        "text": "Each draw of workers is the same for both models of a pair, so that what makes a worker hard for both "
        "drops out. A negative difference in perplexity, or a positive one in AUC, speaks for the model of the row."
        + (only if len(evaluation.models) > tables.MANY else ""),
        "caption": "Number of the row's model minus that of the model named above it, ± standard error, 95 % interval "
        f"and two-sided p-value from {evaluation.models[0]['draws']:,} paired draws.",
        "names": [name for label in tables.COMPARED.values() for name in (label, "p")],
        "bodies": bodies,
    }


def _groups(evaluation: Evaluation) -> dict[str, Any] | None:
    if "groups" not in evaluation.models[0]:
        return None
    first = evaluation.models[0]["groups"]
    rows = [
        {"model": name, "cells": [tables.cell(g, "perplexity", g["group"], headline=True) for g in m["groups"]]}
        for name, m in zip(_names(evaluation), evaluation.models, strict=True)
    ]
    sizes = "; ".join(
        f"{g['group']}: {text.count(g['transitions'], 'transition')} of {text.count(g['workers'], 'worker')}"
        for g in first
    )
    return {
        "column": evaluation.models[0]["by"].replace("_", " "),
        "caption": f"Perplexity over all rows of each group, ± standard error and 95 % interval. {sizes}.",
        "names": [g["group"] for g in first],
        "rows": rows,
    }


def _worked(career: WorkedCareer) -> dict[str, Any]:
    bars = [
        charts.Bar(
            title,
            p,
            text.probability(p) + (" · happened" if title == career.happened else ""),
            marked=title == career.happened,
        )
        for title, p in career.predicted
    ]
    given = dict(career.predicted).get(career.happened)
    known = f", given {text.probability(given)}," if given is not None else ""
    shown = text.probability(math.fsum(p for _, p in career.predicted))
    described = "; ".join(f"{bar.label} {bar.text}" for bar in bars)
    return {
        "text": f"What the model “{career.model}” expected of one worker in {career.year}, given this history.",
        "facts": [(name.replace("_", " "), value) for name, value in career.facts.items()],
        "history": _spells(career.history),
        "year": career.year,
        "happened": career.happened,
        "caption": f"Probabilities of the occupation in {career.year} under the {career.law} law; the "
        f"{text.count(len(bars), 'title')} shown hold {shown} together. {career.happened}{known} is what happened.",
        "svg": charts.bar_chart(bars, alt_text=f"Predicted occupations in {career.year}: {described}"),
    }


def _spells(history: Sequence[tuple[int | None, str]]) -> list[tuple[str, str]]:
    """Lines of a history, (when, title); a long one has one line for rows of the same title that follow each other."""
    if len(history) <= _LONG:
        return [("before" if year is None else str(year), title) for year, title in history]
    lines = []
    for title, rows in groupby(history, key=itemgetter(1)):
        years = [year for year, _ in rows if year is not None]
        when = "before" if not years else str(years[0]) if len(years) == 1 else f"{years[0]}–{years[-1] % 100:02d}"
        lines.append((when, title))
    return lines


def _provenance(predictions: Sequence[Predictions], evaluation: Evaluation, *, date: str | None) -> dict[str, Any]:
    first = evaluation.models[0]
    drawn = f"{text.count(first['draws'], 'draw')} of {text.count(first['workers'], 'worker')}, seed {first['seed']}"
    facts = [
        ("Package", f"laborllm {version('laborllm')}", False),
        ("Errors", drawn, False),
        ("Occupations", predictions[0].occupations.hash, True),
    ]
    if date is not None:
        facts.insert(0, ("Date", date, False))
    rows = []
    for p in predictions:
        seed = p.metadata["seed"]
        cells = [
            ("Kind", p.metadata["kind"] or text.MISSING, False),
            ("Law", f"{p.law}, {p.metadata['titles']} titles", False),
            ("Seed", text.MISSING if seed is None else str(seed), False),
            ("Template hash", p.metadata["template_hash"] or text.MISSING, True),
            ("Model hash", p.metadata["model_hash"] or text.MISSING, True),
        ]
        rows.append({"model": p.model, "cells": cells})
    return {"facts": facts, "names": [name for name, _, _ in rows[0]["cells"]], "rows": rows}
