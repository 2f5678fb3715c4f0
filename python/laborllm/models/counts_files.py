"""Ladders of counts as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laborllm.errors import ModelError
from laborllm.models.ladder import Exclusion, Ladder, OwnPast, Plan, Rung
from laborllm.models.tallies import Tally

COLUMNS = ("ladder", "rung", "context", "outcome", "count")
BASE = ""
"""Name of the rows that hold the law under the lowest rung, as shares."""


def plans_to_json(plans: Mapping[str, Plan]) -> dict[str, Any]:
    """Plans as JSON values."""
    return {
        name: [
            {"name": rung.name, "by": list(rung.by), "discounted": rung.discounted}
            if isinstance(rung, Rung)
            else type(rung).__name__
            for rung in plan
        ]
        for name, plan in plans.items()
    }


def plans_from_json(values: Mapping[str, Any]) -> dict[str, Plan]:
    """The inverse of `plans_to_json`; raises KeyError or TypeError where it is not."""
    others = {kind.__name__: kind() for kind in (OwnPast, Exclusion)}
    return {
        name: tuple(
            others[rung] if isinstance(rung, str) else Rung(rung["name"], tuple(rung["by"]), rung["discounted"])
            for rung in plan
        )
        for name, plan in values.items()
    }


def ladders_to_table(ladders: Mapping[str, Ladder]) -> pa.Table:
    """All counts in one table; contexts are the integers of `Coding.contexts`."""
    parts = []
    for name, ladder in ladders.items():
        base = Tally(len(ladder.base), np.arange(len(ladder.base)), ladder.base)
        for rung, tally in ((BASE, base), *ladder.tallies.items()):
            context = tally.keys // tally.num_outcomes
            texts = [pa.repeat(pa.scalar(text, pa.large_string()), len(context)) for text in (name, rung)]
            columns = [*texts, pa.array(context), pa.array(tally.outcomes, pa.int32()), pa.array(tally.values)]
            parts.append(pa.table(columns, names=list(COLUMNS)))
    return pa.concat_tables(parts)


def ladders_from_table(table: pa.Table, plans: Mapping[str, Plan], *, num_titles: int) -> dict[str, Ladder]:
    """The inverse of `ladders_to_table`.

    Raises:
        ModelError: Other columns, or an outcome that does not exist.
    """
    if tuple(table.column_names) != COLUMNS:
        raise ModelError(
            f"a table of counts with the columns {', '.join(table.column_names)}, not {', '.join(COLUMNS)}; fit and "
            "save the model anew"
        )
    ladders = {}
    for name, plan in plans.items():
        size = 2 if name == "stay" else num_titles
        part = table.filter(pc.equal(table["ladder"], name))
        tallies = {rung.name: _tally(part, rung.name, size) for rung in plan if isinstance(rung, Rung)}
        ladders[name] = Ladder(plan, _tally(part, BASE, size).values, tallies)
    return ladders


def _tally(part: pa.Table, rung: str, size: int) -> Tally:
    rows = part.filter(pc.equal(part["rung"], rung))
    outcomes = rows["outcome"].to_numpy()
    if len(outcomes) and not 0 <= outcomes.min() <= outcomes.max() < size:
        raise ModelError(f"a table of counts names an outcome outside the {size}; fit and save the model anew")
    return Tally(size, rows["context"].to_numpy().astype(np.int64) * size + outcomes, rows["count"].to_numpy())
