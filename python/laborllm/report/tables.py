"""The tables of an evaluation as texts: one home for what the page and the terminal print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laborllm.report import text

if TYPE_CHECKING:
    from laborllm.evaluate import Evaluation

PERPLEXITIES = {
    "perplexity": "All rows",
    "perplexity_history": "With a history",
    "perplexity_first": "First rows",
    "perplexity_stay": "Stays",
    "perplexity_move": "Moves",
}
MOVES = {"move_auc": "AUC", "move_log_loss": "Log loss"}
MASS = {"title_mass": "Title mass"}
COMPARED = {"perplexity": "Perplexity", "perplexity_history": "With a history", "move_auc": "Move AUC"}
MANY = 8
"""Models above which the table of differences holds only pairs with the first one."""

LAWS = {
    "raw": "the model's own probabilities of all text; what it gives to text that is no title counts against it",
    "normalized": "probabilities divided by their sum over the titles",
    "masked": "at every token a softmax over the tokens that can go on to a title",
}


@dataclass(frozen=True)
class Cell:
    """A number as text, with its standard error and interval where they exist; `label` names its column."""

    label: str
    value: str
    error: str | None = None
    interval: str | None = None
    headline: bool = False

    def __str__(self) -> str:
        """The cell on one line: `4.57 ± 0.12 [4.34, 4.81]`."""
        return " ".join(part for part in (self.value, f"± {self.error}" if self.error else None, self.interval) if part)


def cell(numbers: Mapping[str, Any], key: str, label: str, *, headline: bool = False) -> Cell:
    """The number `key` of an evaluation with its standard error; a headline also with its interval."""
    value, se = numbers.get(key), numbers.get(f"{key}_se")
    if key in numbers.get("infinite", ()):
        value = math.inf
    shown, error = text.with_error(value, se)
    decimals = text.decimals_for(value, se)
    limits = text.interval(numbers.get(f"{key}_low"), numbers.get(f"{key}_high"), decimals=decimals)
    return Cell(label, shown, error, limits if headline and error not in {None, "0"} else None, headline)


def model_cells(numbers: Mapping[str, Any]) -> list[Cell]:
    """One row of the table of models."""
    return [cell(numbers, key, label, headline=key == "perplexity") for key, label in _full_names().items()]


def differences(evaluation: Evaluation) -> list[tuple[str, str, list[Cell]]]:
    """Every pair of models, (later, earlier, cells): for each metric the difference and its p-value.

    Names carry their law where there is more than one. With more than `MANY` models only the pairs with the first one.
    """
    draws = evaluation.models[0]["draws"]
    pairs: list[tuple[tuple[str, ...], dict[str, Mapping[str, Any]]]] = []
    for entry in evaluation.differences:
        key = tuple(entry[name] for name in ("model_a", "law_a", "model_b", "law_b"))
        if not pairs or pairs[-1][0] != key or entry["metric"] in pairs[-1][1]:
            pairs.append((key, {}))
        pairs[-1][1][entry["metric"]] = entry
    if len(evaluation.models) > MANY:
        pairs = pairs[: len(evaluation.models) - 1]
    one_law = len({m["law"] for m in evaluation.models}) == 1
    rows = []
    for (later, law, earlier, other_law), found in pairs:
        cells = [
            c for metric, label in COMPARED.items() for c in _difference(found.get(metric, {}), label, draws=draws)
        ]
        laws = ("", "") if one_law else (f" ({law})", f" ({other_law})")
        rows.append((later + laws[0], earlier + laws[1], cells))
    return rows


def saw(covariates: Sequence[str]) -> str:
    """What a model was shown beside the occupations and years."""
    return "saw " + text.listed([name.replace("_", " ") for name in covariates]) if covariates else "saw no covariates"


def model_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of models, for a terminal."""
    rows = [
        [m["model"], m["law"], *map(str, model_cells(m)), ", ".join(m["covariates"]) or text.MISSING]
        for m in evaluation.models
    ]
    return ["Model", "Law", *_full_names().values(), "Covariates"], rows


def difference_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of paired differences, for a terminal; no rows with a single model."""
    names = [name for label in COMPARED.values() for name in (label, "p")]
    rows = [[later, earlier, *map(str, cells)] for later, earlier, cells in differences(evaluation)]
    return ["Model", "Against", *names], rows


def _full_names() -> dict[str, str]:
    """Columns of the table of models with names that stand alone."""
    names = {key: f"Perplexity, {label[0].lower()}{label[1:]}" for key, label in PERPLEXITIES.items()}
    names |= {key: f"Move {label if label.isupper() else label.lower()}" for key, label in MOVES.items()}
    return names | MASS


def _difference(entry: Mapping[str, Any], label: str, *, draws: int) -> tuple[Cell, Cell]:
    numbers = {
        f"d{end}": entry.get(key)
        for end, key in (("", "difference"), ("_se", "se"), ("_low", "low"), ("_high", "high"))
    }
    p = Cell(f"{label}, p", text.p_value(entry.get("p_value"), draws=draws))
    return cell(numbers, "d", label, headline=True), p
