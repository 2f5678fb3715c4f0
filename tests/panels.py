"""Panels to test with: hypothesis strategies, and the real ones where this machine has them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest

from laborllm.occupations import Occupations
from laborllm.panel import Panel

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

TITLES = (
    "Cooks",
    "Cooks, short order",
    "Physicians",
    "Physicians' assistants",
    "Führungskräfte (Büro)",
    "料理人",
    "Ingénieurs – études",
    "Not in labor force",
)
OCCUPATIONS = Occupations(
    tuple(str(10 * j) for j in range(len(TITLES))), TITLES, ("employed",) * (len(TITLES) - 1) + ("not_employed",)
)
LEVELS = ("high school", "collège", "{year}", "")
IDS = {
    "int64": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 30),
    "int8": st.integers(-128, 127),
    "uint64": st.integers(2**63 - 3, 2**64 - 1),
    "string": st.text("aA1é\N{GRINNING FACE}", min_size=1, max_size=3),
}
ID_TYPES = {"int64": pa.int64(), "int8": pa.int8(), "uint64": pa.uint64(), "string": pa.large_string()}


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Give a value or None."""
    return st.none() | values


@st.composite
def careers(draw: st.DrawFn, *, max_workers: int = 5) -> pa.Table:
    """Rows of random careers in canonical order: several datasets, any id type, nulls, text of several scripts."""
    kind = draw(st.sampled_from(sorted(IDS)))
    pairs = st.tuples(st.sampled_from(["PSID", "NLSY79", "Été"]), IDS[kind])
    keys = draw(st.lists(pairs, min_size=1, max_size=max_workers, unique=True))
    keys.sort(key=lambda key: (key[0].encode(), key[1].encode() if kind == "string" else key[1]))
    rows: list[dict[str, Any]] = []
    for dataset, one in keys:
        fixed = {
            "gender": draw(maybe(st.sampled_from(["female", "male"]))),
            "race": draw(maybe(st.sampled_from(["white", "Bläck"]))),
            "birth_year": draw(maybe(st.integers(1950, 1960))),
        }
        years = sorted(draw(st.sets(st.integers(1975, 1990), min_size=1, max_size=5)))
        rows += [
            {
                "dataset": dataset,
                "worker_id": one,
                "year": year,
                "occupation": draw(st.sampled_from(TITLES)),
                **fixed,
                "region": draw(maybe(st.sampled_from(["north", "süd"]))),
                "education": draw(maybe(st.sampled_from(LEVELS))),
                "wage_class": draw(maybe(st.sampled_from(["low", "high", "{title}"]))),
                "hours": draw(maybe(st.integers(0, 60))),
            }
            for year in years
        ]
    text = pa.large_string()
    schema = pa.schema(
        {
            "dataset": text,
            "worker_id": ID_TYPES[kind],
            "year": pa.int32(),
            "occupation": text,
            "gender": text,
            "race": text,
            "birth_year": pa.int16(),
            "region": text,
            "education": text,
            "wage_class": text,
            "hours": pa.uint8(),
        }
    )
    return pa.Table.from_pylist(rows, schema=schema)


def panels(*, max_workers: int = 5) -> st.SearchStrategy[Panel]:
    """Checked panels of random careers."""
    return careers(max_workers=max_workers).map(panel_of)


def panel_of(table: Any, **options: Any) -> Panel:
    """Check rows against the titles of this file."""
    return Panel.from_arrow(table, occupations=OCCUPATIONS, **options)


def rows_of(*rows: tuple[Any, ...], **columns: list[Any]) -> pa.Table:
    """Rows (worker_id, year, occupation) and further columns."""
    workers, years, occupations = (list(column) for column in zip(*rows, strict=True))
    return pa.table({"worker_id": workers, "year": years, "occupation": occupations, **columns})


def shuffled(table: pa.Table, random_: random.Random) -> pa.Table:
    """The same rows in another order, cut into chunks at random."""
    order = list(range(table.num_rows))
    random_.shuffle(order)
    cut = random_.randint(0, table.num_rows)
    table = table.take(pa.array(order, pa.int64()))
    return pa.concat_tables([table.slice(0, cut), table.slice(cut)])


def real_panel(name: str) -> Panel:
    """A real panel of this machine (`nlsy97`, `nlsy79`); skips where it is absent."""
    folder = DATA / name
    if not (folder / "careers.parquet").is_file():
        pytest.skip(f"{folder}/careers.parquet is absent: the real panels are not part of the repository")
    occupations = Occupations.read(folder / "occupations.csv")
    return Panel.read(folder / "careers.parquet", occupations=occupations, dataset=name.upper())
