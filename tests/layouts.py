"""Small panels in every layout that a producer may choose, and the plain Python twin of the check and the print.

One generator of choices serves hypothesis (`st.randoms`) and the long run, where a seed stands for a panel.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import pyarrow as pa

from laborllm.resume import Template
from tests.panels import TITLES

INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
TEXTS = (pa.string(), pa.large_string(), pa.string_view())
LAST_YEAR = 127
"""No other row has it, and every type of integer."""
FIXED = ("gender", "race", "birth_year")
TEXT_IDS = ("a", "A", "10", "9", "é", "e\u0301", "料理", "\N{GRINNING FACE}", "مدير", "id with space")
WORDS = ("school", "collège", "e\u0301cole", "مدرسة", "👩\u200d🚀", "{year}", "a\\n]]", "x" * 70)
NULLABLE = ("gender", "race", "birth_year", "region", "education", "hours", "wage_class")
TEMPLATE = Template(
    name="layouts",
    version=1,
    header="{dataset}: {gender} {race}, {region} {birth_year} {worker_id}\n",
    row="{year} ({education}): {title}\n{hours} {wage_class}\n",
    end="– ende –",
    missing={name: f"no {name}" for name in NULLABLE},
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Rows as they came, in the layouts they came in."""

    rows: list[Row]
    batches: list[pa.RecordBatch]
    refusal: str | None
    """What the error must say, None where the rows are a panel."""

    @property
    def table(self) -> pa.Table:
        return pa.Table.from_batches(self.batches)

    @property
    def ascends(self) -> bool:
        """Whether a stream may hand these rows out as they stand."""
        keys = [_worker(row) for row in self.rows]
        return keys == sorted(keys)


def draw_case(choose: random.Random, *, faults: bool = True) -> Case:
    """Rows of a few careers with gaps and nulls, in random order and cuts; one in six breaks the contract."""
    kind = choose.choice([*INTEGERS, pa.string()])
    rows = _careers(choose, kind)
    ordered = choose.random() < 0.4
    if not ordered:
        choose.shuffle(rows)
    refusal = _break(choose, rows) if faults and choose.random() < 1 / 6 else None
    return Case(rows, _lay_out(choose, rows, kind), refusal)


# ---- rows


def _careers(choose: random.Random, kind: pa.DataType) -> list[Row]:
    tags = choose.choice([("PSID",), ("PSID", "Été"), ("NLSY79", "NLSY97")])
    keys = {(choose.choice(tags), one) for one in _ids(choose, kind)}
    rows: list[Row] = []
    for dataset, one in sorted(keys, key=lambda key: (key[0].encode(), _order(key[1]))):
        lived = {"gender": choose.choice(WORDS), "race": choose.choice(WORDS), "birth_year": choose.randint(0, 99)}
        year = choose.choice((0, 70, 100))
        for _ in range(choose.randint(1, 4)):
            row = {"dataset": dataset, "worker_id": one, "year": year, "occupation": choose.choice(TITLES)}
            row |= {name: value if choose.random() < 0.7 else None for name, value in lived.items()}
            for name in ("region", "education", "wage_class"):
                row[name] = choose.choice(WORDS) if choose.random() < 0.8 else None
            row["hours"] = choose.choice((0, 40, 99, None))
            rows.append(row)
            year += choose.choice((1, 1, 2, 7))
    return rows


def _ids(choose: random.Random, kind: pa.DataType) -> list[Any]:
    if kind == pa.string():
        return choose.sample(TEXT_IDS, choose.randint(1, 4))
    low, high = _range(kind)
    some = choose.randint(1, 4)
    return [choose.choice((low, high, choose.randint(low, high), choose.randint(0, 5))) for _ in range(some)]


def _range(kind: pa.DataType) -> tuple[int, int]:
    signed = pa.types.is_signed_integer(kind)
    bits = kind.bit_width - signed
    return (-(1 << bits) if signed else 0), (1 << bits) - 1


def _order(one: Any) -> Any:
    return one.encode() if isinstance(one, str) else one


def _worker(row: Row) -> tuple[bytes, Any]:
    return row["dataset"].encode(), _order(row["worker_id"])


# ---- faults


def _break(choose: random.Random, rows: list[Row]) -> str:
    """Put one fault into the rows; gives words of the error."""
    at = choose.randrange(len(rows))
    row = rows[at]
    who, year = f"worker {row['worker_id']} ({row['dataset']})", row["year"]
    values = {
        "worker_id": (None, f"null worker_id in row {at} (counted from 0)"),
        "year": (None, f"null year in row {at} (counted from 0) of {who}"),
        "year beyond": (2**31, f"the year 2147483648 of {who} in row {at} (counted from 0)"),
        "occupation": (None, f"null occupation of {who} in {year} (row {at}, counted from 0)"),
        "occupation unknown": ("Cook", f"' of {who} in {year} (row {at}, counted from 0); nearest are"),
    }
    fault = choose.choice([*values, "repeated", "changing"])
    if fault in values:
        row[fault.split()[0]], words = values[fault]
        return words
    if fault == "repeated":
        rows.insert(at + 1, dict(row))
        return f"two rows for {who} in {year} (rows {at} and {at + 1}, counted from 0)"
    for other in rows:
        if _worker(other) == _worker(row):
            other["gender"] = None
    rows[at] = row | {"gender": "one"}
    rows.insert(at + 1, row | {"year": LAST_YEAR, "gender": "other"})
    return f"the gender of {who} changes from 'one' in {year} to 'other' in {LAST_YEAR} (rows {at} and {at + 1},"


# ---- layouts


def _lay_out(choose: random.Random, rows: Sequence[Row], ids: pa.DataType) -> list[pa.RecordBatch]:
    years = [row["year"] for row in rows if row["year"] is not None]
    fits = [kind for kind in INTEGERS if max(years, default=0) <= _range(kind)[1]]
    hours = choose.choice(INTEGERS)
    integers = {"year": choose.choice(fits), "birth_year": choose.choice(INTEGERS), "hours": hours}
    if ids != pa.string():
        integers["worker_id"] = ids
    codes = choose.random() < 0.25
    if codes:
        integers["occupation"] = choose.choice(INTEGERS)
    schema = pa.schema([(name, integers.get(name) or _text_kind(choose)) for name in rows[0]])
    cuts = sorted({0, len(rows), *(choose.randint(0, len(rows)) for _ in range(choose.randint(0, 3)))})
    batches = []
    for first, stop in pairwise(cuts):
        before = choose.randint(0, min(first, 2))
        part = rows[first - before : stop]
        columns = [_column(choose, [row[name] for row in part], schema.field(name).type, name) for name in schema.names]
        batches.append(pa.RecordBatch.from_arrays(columns, schema=schema).slice(before))
    return batches


def _text_kind(choose: random.Random) -> pa.DataType:
    if choose.random() < 0.5:
        return choose.choice(TEXTS)
    return pa.dictionary(choose.choice(INTEGERS), choose.choice(TEXTS), ordered=choose.random() < 0.5)


def _column(choose: random.Random, values: list[Any], kind: pa.DataType, name: str) -> pa.Array:
    if pa.types.is_integer(kind):
        if name == "occupation":
            values = [None if title is None else _code(title) for title in values]
        return pa.array(values, kind)
    if choose.random() < 0.3:
        values = ["" if value is None else value for value in values]
    if not pa.types.is_dictionary(kind):
        return pa.array(values, kind)
    entries = [*dict.fromkeys(values), "unused", None]
    choose.shuffle(entries)
    keys = [entries.index(value) if value is not None or choose.random() < 0.5 else None for value in values]
    dictionary = pa.array(entries, kind.value_type)
    return pa.DictionaryArray.from_arrays(pa.array(keys, kind.index_type), dictionary, ordered=kind.ordered)


def _code(title: str) -> int:
    return 10 * TITLES.index(title) if title in TITLES else 77


# ---- the twin


def twin(rows: Sequence[Row]) -> list[str]:
    """The texts of `TEMPLATE`, from nothing but the rows."""
    ordered = sorted(rows, key=lambda row: (*_worker(row), row["year"]))
    texts = []
    for _, group in groupby(ordered, key=_worker):
        career = list(group)
        for name in FIXED:
            known = [row[name] for row in career if row[name] is not None]
            career = [row | {name: known[0] if known else None} for row in career]
        text = _filled(TEMPLATE.header, career[0])
        texts.append(text + "".join(_filled(TEMPLATE.row, row) for row in career) + TEMPLATE.end)
    return texts


def _filled(text: str, row: Row) -> str:
    shown = {name: TEMPLATE.missing[name] if value is None else str(value) for name, value in row.items()}
    return text.format(**shown, title=row["occupation"])
