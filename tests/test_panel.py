"""The panel: what is refused, in which order rows stand, and what transitions, splits and parts are."""

from __future__ import annotations

import hashlib
import random
from datetime import date

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings

from laborllm.errors import PanelError
from laborllm.panel import Panel
from tests.panels import OCCUPATIONS, TITLES, careers, panel_of, panels, real_panel, rows_of, shuffled

SOME = settings(max_examples=30, deadline=None)


def refusal(table: object, **options: object) -> str:
    with pytest.raises(PanelError) as caught:
        panel_of(table, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- one order, whatever comes in


@SOME
@given(careers(), st.randoms(use_true_random=False))
def test_neither_row_order_nor_chunks_change_the_panel(table: pa.Table, random_: random.Random) -> None:
    panel, other = panel_of(table), panel_of(shuffled(table, random_))
    assert panel.table.equals(other.table)
    assert np.array_equal(panel.starts, other.starts)
    assert panel.report == other.report


@SOME
@given(careers())
def test_rows_in_canonical_order_come_back_as_they_were(table: pa.Table) -> None:
    panel = panel_of(table)
    assert all(panel.table[name].num_chunks == 1 for name in panel.table.column_names)
    for name in ("dataset", "worker_id", "year", "occupation", "wage_class", "hours"):
        assert panel.column(name).to_pylist() == table[name].to_pylist(), name
    assert panel.column("education").to_pylist() == [level or None for level in table["education"].to_pylist()]
    assert panel.column("occupation").dictionary.to_pylist() == list(TITLES)
    keys = list(zip(table["dataset"].to_pylist(), table["worker_id"].to_pylist(), strict=True))
    assert panel.starts[:-1].tolist() == [row for row in range(len(keys)) if row == 0 or keys[row] != keys[row - 1]]
    assert panel.starts[-1] == len(keys) == panel.num_rows


@SOME
@given(careers(), st.sampled_from(["string", "large_string", "view", "dictionary", "polars", "categorical"]))
def test_every_producer_gives_the_same_panel(table: pa.Table, layout: str) -> None:
    texts = [name for name in table.column_names if table[name].type == pa.large_string()]
    layouts = {"string": pa.string(), "large_string": pa.large_string(), "view": pa.string_view()}
    other: object = table
    for name in texts:
        position = table.column_names.index(name)
        if layout in layouts:
            table = table.set_column(position, name, table[name].cast(layouts[layout]))
        elif layout == "dictionary":
            half = table.num_rows // 2
            chunks = [table[name].slice(0, half), table[name].slice(half)]
            coded = [
                chunk.combine_chunks().dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string()))
                for chunk in chunks
            ]
            table = table.set_column(position, name, pa.chunked_array(coded))
        other = table
    if layout in {"polars", "categorical"}:
        frame = pl.from_arrow(table)
        other = frame.with_columns(pl.col(texts).cast(pl.Categorical)) if layout == "categorical" else frame
    assert panel_of(other).table.equals(panel_of(table).table)


def test_a_pandas_frame_gives_the_same_panel() -> None:
    table = rows_of(("b", 1990, "Cooks"), ("a", 1991, "料理人"), gender=["male", None])
    frame = pd.DataFrame({name: table[name].to_pylist() for name in table.column_names})
    assert panel_of(frame).table.equals(panel_of(table).table)
    frame["occupation"] = frame["occupation"].astype("category")
    assert panel_of(frame).table.equals(panel_of(table).table)


@SOME
@given(careers())
def test_a_panel_read_again_is_itself(table: pa.Table) -> None:
    panel = panel_of(table)
    assert panel_of(panel.table).table.equals(panel.table)


def test_ids_are_ordered_by_value_and_text_bytewise() -> None:
    numbers = [(9, 1990, "Cooks"), (-1, 1990, "Cooks"), (10, 1990, "Cooks")]
    assert panel_of(rows_of(*numbers)).column("worker_id").to_pylist() == [-1, 9, 10]
    texts = [(str(one), *rest) for one, *rest in numbers] + [("é", 1990, "Cooks"), ("z", 1990, "Cooks")]
    assert panel_of(rows_of(*texts)).column("worker_id").to_pylist() == ["-1", "10", "9", "z", "é"]
    wide = rows_of((0, 1990, "Cooks"), (0, 1991, "Cooks")).set_column(
        0, "worker_id", pa.array([2**64 - 1, 0], pa.uint64())
    )
    assert panel_of(wide).column("worker_id").to_pylist() == [0, 2**64 - 1]


def test_ids_without_small_range_are_sorted_too() -> None:
    table = rows_of((2**63 - 1, 2**31 - 1, "Cooks"), (-(2**63), -(2**31), "Cooks"), (0, 0, "Cooks"))
    assert panel_of(table).column("worker_id").to_pylist() == [-(2**63), 0, 2**63 - 1]


# ---- names, types, occupations


def test_foreign_names_are_mapped() -> None:
    table = pa.table({"person": [1], "year": [1990], "job": ["Cooks"]})
    panel = panel_of(table, columns={"worker_id": "person", "occupation": "job"})
    assert panel.table.column_names == ["dataset", "worker_id", "year", "occupation"]


def test_integers_are_codes_and_text_is_titles() -> None:
    assert panel_of(rows_of((1, 1990, 30), (1, 1991, 0))).states().tolist() == [3, 0]
    assert panel_of(rows_of((1, 1990, "Physicians"))).states().tolist() == [2]
    message = refusal(rows_of((1, 1990, "30")))
    assert "'30' of worker 1 in 1990 (row 0" in message
    assert "cast the column to int64" in message
    message = refusal(rows_of((1, 1990, 31)))
    assert "unknown state '31' of worker 1 in 1990 (row 0" in message
    assert "'30: Physicians' assistants'" in message


def test_an_unknown_state_names_the_nearest_titles() -> None:
    message = refusal(rows_of((7, 1990, "Cooks"), (7, 1991, "Phisician")), dataset="NLSY79")
    assert "unknown state 'Phisician' of worker 7 (NLSY79) in 1991 (row 1, counted from 0)" in message
    assert message.index("'Physicians'") < message.index("'Physicians' assistants'")
    assert sum(f"'{title}'" in message for title in TITLES) == 3


def test_a_missing_column_names_those_present() -> None:
    table = pa.table({"person": [1], "year": [1990], "occupation": ["Cooks"]})
    message = refusal(table)
    assert "no column 'worker_id'; present are 'person', 'year', 'occupation'" in message
    assert "columns=" in message
    assert "maps 'worker_id' to 'id', which the panel lacks; present are 'person'" in refusal(
        table, columns={"worker_id": "id"}
    )


def test_a_column_is_given_once() -> None:
    table = pa.table({"worker_id": [1], "id": [1], "year": [1990], "occupation": ["Cooks"]})
    assert "'worker_id' is given twice" in refusal(table, columns={"worker_id": "id"})
    assert "'id' is given twice" in refusal(table, columns={"family": "id", "household": "id"})
    assert "'id' is given twice" in refusal(table.rename_columns(["worker_id", "id", "year", "id"]))


@pytest.mark.parametrize(
    ("years", "way_out"),
    [
        (pa.array([1990.0]), "cast it to int32"),
        (pa.array([date(1990, 1, 1)]), "year(column)"),
        (pa.array([0], pa.timestamp("s")), "year(column)"),
        (pa.array(["1990"]), "cast it to int32"),
    ],
)
def test_years_are_integers(years: pa.Array, way_out: str) -> None:
    message = refusal(pa.table({"worker_id": [1], "year": years, "occupation": ["Cooks"]}))
    assert "the column 'year' has type" in message
    assert way_out in message


def test_a_year_beyond_32_bits_is_refused_with_its_row() -> None:
    assert "2147483648 of worker 1 in row 1" in refusal(rows_of((1, 1990, "Cooks"), (1, 2**31, "Cooks")))
    years = pa.array([1990, 2**64 - 1], pa.uint64())
    for column in (years, years.dictionary_encode()):
        table = rows_of((1, 1990, "Cooks"), (1, 1991, "Cooks")).set_column(1, "year", column)
        assert "18446744073709551615 of worker 1 in row 1" in refusal(table)


def test_ids_and_occupations_of_other_types_are_refused() -> None:
    assert "'worker_id' has type Float64; cast it" in refusal(rows_of((1.0, 1990, "Cooks")))
    assert "'occupation' has type Float64; give titles" in refusal(rows_of((1, 1990, 1.0)))
    table = rows_of((1, 1990, "Cooks")).append_column("dataset", pa.array([1]))
    assert "'dataset' has type Int64; cast it to text" in refusal(table)


def test_columns_of_other_types_pass_through_in_order() -> None:
    rows = [(2, 1990, "Cooks"), (1, 1991, "Cooks"), (1, 1990, "Cooks")]
    table = rows_of(
        *rows, wage=[2.5, None, 1.5], tags=[["a"], [], None], when=[date(1990, 1, day) for day in (1, 2, 3)]
    )
    panel = panel_of(table)
    assert panel.table.schema.field("tags").type == table.schema.field("tags").type
    assert panel.column("wage").to_pylist() == [1.5, None, 2.5]
    assert panel.column("tags").to_pylist() == [None, [], ["a"]]
    assert panel.column("when").to_pylist() == [date(1990, 1, 3), date(1990, 1, 2), date(1990, 1, 1)]


def test_what_is_no_arrow_data_is_refused() -> None:
    assert "cannot be read from list" in refusal([1, 2])
    assert "collect it first" in refusal(pl.LazyFrame({"year": [1]}))
    mixed = pd.DataFrame({"worker_id": [1, "a"], "year": [1, 2], "occupation": ["Cooks", "Cooks"]}, dtype=object)
    assert "cannot be read as Arrow" in refusal(mixed)


# ---- the dataset tag


def test_the_tag_comes_from_the_column_or_the_argument() -> None:
    table = rows_of((1, 1990, "Cooks"))
    assert panel_of(table).datasets == [""]
    assert panel_of(table, dataset="PSID").datasets == ["PSID"]
    tagged = table.append_column("dataset", pa.array(["PSID"]))
    assert panel_of(tagged).datasets == panel_of(tagged, dataset="PSID").datasets == ["PSID"]
    assert "dataset='NLSY79' was given but the column 'dataset' holds 'PSID' in row 0" in refusal(
        tagged, dataset="NLSY79"
    )


def test_a_worker_is_a_dataset_and_an_id() -> None:
    rows = [(1, 1990, "Cooks"), (1, 1990, "Physicians"), (1, 1991, "Cooks")]
    panel = panel_of(rows_of(*rows, dataset=["B", "A", "A"], gender=["male", "female", None]))
    assert panel.num_workers == 2
    assert panel.column("gender").to_pylist() == ["female", "female", "male"]
    assert panel.transitions().previous.tolist() == [-1, 2, -1]
    assert "two rows for worker 1 (A) in 1991 (rows 0 and 1" in refusal(
        rows_of((1, 1991, "Cooks"), (1, 1991, "Cooks"), dataset=["A", "A"])
    )
    assert "null dataset in row 1" in refusal(rows_of((1, 1, "Cooks"), (2, 1, "Cooks"), dataset=["A", ""]))


# ---- rows that are refused


def test_null_ids_and_years_are_refused_with_their_row() -> None:
    assert "null worker_id in row 1 (counted from 0)" in refusal(rows_of((1, 1990, "Cooks"), (None, 1991, "Cooks")))
    assert "null worker_id in row 1" in refusal(rows_of(("a", 1990, "Cooks"), ("", 1991, "Cooks")))
    assert "null year in row 1 (counted from 0) of worker 5" in refusal(rows_of((1, 1990, "Cooks"), (5, None, "Cooks")))


@pytest.mark.parametrize("empty", [None, ""])
def test_a_null_occupation_is_refused_or_dropped_and_counted(empty: str | None) -> None:
    table = rows_of((2, 1991, "Cooks"), (1, 1990, "Cooks"), (1, 1992, empty), (3, 1990, empty))
    message = refusal(table)
    assert "null occupation of worker 1 in 1992 (row 2, counted from 0)" in message
    assert "drop_null_occupations=True" in message
    panel = panel_of(table, drop_null_occupations=True)
    assert panel.column("worker_id").to_pylist() == [1, 2]
    assert panel.report.dropped == {"null occupation": 2}
    assert panel.report.rows_in == 4 == panel.report.rows_out + 2
    assert "2 rows dropped (null occupation)" in str(panel.report.sentence())
    assert "(2 came in, 2 were dropped" in refusal(table.slice(2), drop_null_occupations=True)


def test_a_panel_without_rows_is_refused() -> None:
    assert "no rows" in refusal(rows_of((1, 1990, "Cooks")).slice(1))


@given(st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_two_rows_for_one_worker_and_year_are_both_named(random_: random.Random) -> None:
    rows = [(1, 1990, "Cooks"), (1042, 1994, "Cooks"), (1042, 1994, "Physicians"), (1042, 1995, "Cooks")]
    random_.shuffle(rows)
    first, second = (row for row, (_, year, _) in enumerate(rows) if year == 1994)
    assert f"two rows for worker 1042 in 1994 (rows {first} and {second}, counted from 0)" in refusal(rows_of(*rows))


@pytest.mark.parametrize(
    ("column", "values"), [("gender", ["male", "female"]), ("race", ["a", "b"]), ("birth_year", [1960, 1961])]
)
def test_fixed_fields_do_not_change(column: str, values: list[object]) -> None:
    rows = [(4, 1992, "Cooks"), (4, 1990, "Cooks"), (4, 1991, "Cooks")]
    table = rows_of(*rows, **{column: [values[1], values[0], None]})
    message = refusal(table)
    assert (
        f"the {column} of worker 4 changes from '{values[0]}' in 1990 to '{values[1]}' in 1992 (rows 1 and 0" in message
    )


@SOME
@given(careers(), st.randoms(use_true_random=False))
def test_fixed_fields_are_filled_within_the_worker_only(table: pa.Table, random_: random.Random) -> None:
    whole = panel_of(table)
    for name in ("gender", "race", "birth_year"):
        values = whole.column(name).to_pylist()
        known = {
            int(random_.randrange(*pair))
            for pair in zip(whole.starts[:-1].tolist(), whole.starts[1:].tolist(), strict=True)
        }
        holes = pa.array([value if row in known else None for row, value in enumerate(values)], table[name].type)
        table = table.set_column(table.column_names.index(name), name, holes)
    holed = panel_of(shuffled(table, random_))
    for name in ("gender", "race", "birth_year"):
        assert holed.column(name).to_pylist() == whole.column(name).to_pylist()


def test_changes_and_returns_are_counted() -> None:
    rows = [(1, year, "Cooks") for year in range(1990, 1995)] + [(2, 1990, "Cooks"), (2, 1991, "Cooks")]
    panel = panel_of(
        rows_of(
            *rows,
            region=["n", None, "n", "s", "n", "n", "n"],
            education=["school", "college", None, "school", "college", "college", "school"],
            split=["a", "b", "a", "b", "a", "a", "b"],
            marital=["x", "x", "x", "x", "x", "x", None],
        )
    )
    assert panel.report.changed == {"region": 1}
    assert panel.report.education_falls == 2
    sentence = str(panel.report.sentence())
    assert "region changes within 1 workers" in sentence
    assert "2 rows" in sentence
    assert panel_of(rows_of(*rows)).report.sentence() is None


def test_empty_text_is_null() -> None:
    panel = panel_of(rows_of((1, 1990, "Cooks"), (1, 1991, "Cooks"), region=["", "north"]))
    assert panel.column("region").to_pylist() == [None, "north"]


# ---- transitions


@SOME
@given(panels())
def test_transitions_are_the_rows_with_what_came_before(panel: Panel) -> None:
    found, position = panel.transitions(), 0
    last: tuple[object, int, int] | None = None
    rows = panel.table.select(["dataset", "worker_id", "year", "occupation"]).to_pylist()
    worker = -1
    assert len(found) == len(rows)
    for n, row in enumerate(rows):
        key, year, state = (row["dataset"], row["worker_id"]), row["year"], OCCUPATIONS.index(row["occupation"])
        first = last is None or last[0] != key
        position, worker = (0, worker + 1) if first else (position + 1, worker)
        expected = (n, worker, -1 if first else last[1], state, year, 0 if first else year - last[2], position)
        arrays = (found.row, found.worker, found.previous, found.occupation, found.year, found.gap, found.position)
        assert tuple(int(array[n]) for array in arrays) == expected
        assert bool(found.first[n]) is first
        last = (key, state, year)


def test_transition_arrays_have_the_stated_types() -> None:
    found = panel_of(rows_of((1, 1990, "Cooks"), (1, 1993, "Physicians"))).transitions()
    kinds = {
        name: getattr(found, name).dtype.name
        for name in ("row", "worker", "previous", "occupation", "year", "gap", "position")
    }
    assert kinds == dict.fromkeys(kinds, "int32") | {"row": "int64", "worker": "int64"}
    assert found.gap.tolist() == [0, 3]


# ---- parts, splits, shards


@SOME
@given(panels(), st.data())
def test_a_part_keeps_the_history_of_its_rows_and_nothing_else(panel: Panel, data: st.DataObject) -> None:
    rows = panel.num_rows
    marks = data.draw(st.lists(st.sampled_from(["train", "test", None]), min_size=rows, max_size=rows))
    marks[data.draw(st.integers(0, rows - 1))] = "test"
    table = panel.table.append_column("split", pa.array(marks, pa.string()))
    part = panel_of(table).part("test")
    pairs = list(zip(panel.starts[:-1].tolist(), panel.starts[1:].tolist(), strict=True))
    kept = [row for first, stop in pairs for row in range(first, stop) if "test" in marks[row:stop]]
    assert (
        part.table.select(["worker_id", "year"]).to_pylist()
        == panel.table.select(["worker_id", "year"]).take(kept).to_pylist()
    )
    assert part.targets.tolist() == [marks[row] == "test" for row in kept]
    assert part.complete.tolist() == [marks[stop - 1] == "test" for first, stop in pairs if "test" in marks[first:stop]]
    whole, transitions = panel_of(table).transitions(), part.transitions()
    chosen = np.array([mark == "test" for mark in marks])
    for name in ("previous", "occupation", "year", "gap", "position"):
        assert getattr(transitions, name).tolist() == getattr(whole, name)[chosen].tolist(), name
    assert all(part.table[name].num_chunks == 1 for name in part.table.column_names)


def test_a_part_of_a_part_predicts_only_rows_of_both() -> None:
    panel = panel_of(rows_of((1, 1990, "Cooks"), (1, 1991, "Cooks"), split=["train", "test"])).part("test")
    with pytest.raises(PanelError, match="'train' has no row to be predicted"):
        panel.part("train")


def test_an_empty_part_names_the_splits_there_are() -> None:
    panel = panel_of(
        rows_of((1, 1990, "Cooks"), (2, 1990, "Cooks"), (2, 1991, "Cooks"), split=["val", "train", "train"])
    )
    with pytest.raises(
        PanelError, match=r"'test' has no row.*'val' \(1 rows\), 'train' \(2 rows\)|'train' \(2 rows\), 'val'"
    ):
        panel.part("test")
    with pytest.raises(PanelError, match=r"no column 'split'; make one with laborllm split"):
        panel_of(rows_of((1, 1990, "Cooks"))).part("test")


def test_split_values_stand() -> None:
    names = ["train", "val", "test"]
    fractions = dict(zip(names, (0.4, 0.3, 0.3), strict=True))
    panel = panel_of(rows_of(*((one, 1990, "Cooks") for one in range(12))), dataset="NLSY79")
    text = "".join(name[1] for name in panel.with_split(fractions, seed=7).column("split").to_pylist())
    by_hand = ""
    for one in range(12):
        digest = hashlib.blake2b(f"split:7:NLSY79:{one}".encode(), digest_size=8).digest()
        share = int.from_bytes(digest, "big") / 2**64
        by_hand += "r" if share < 0.4 else "a" if share < 0.7 else "e"
    assert text == by_hand
    assert text == "reraaaararea"
    shards = [panel.shard(index, 3).column("worker_id").to_pylist() for index in range(3)]
    assert sorted(one for shard in shards for one in shard) == list(range(12))
    assert shards == [[0, 2, 3, 4, 5, 8, 11], [9], [1, 6, 7, 10]]


@SOME
@given(careers(), st.randoms(use_true_random=False))
def test_splits_depend_on_ids_alone(table: pa.Table, random_: random.Random) -> None:
    fractions = {"train": 0.5, "test": 0.5}
    panel = panel_of(table).with_split(fractions)
    assert panel.table.equals(panel_of(shuffled(table, random_)).with_split(fractions).table)
    as_text = table.set_column(table.column_names.index("worker_id"), "worker_id", table["worker_id"].cast(pa.string()))
    keys = ["dataset", "worker_id", "split"]
    texts = panel_of(as_text).with_split(fractions).table.select(keys).to_pylist()
    split = {(row["dataset"], row["worker_id"]): row["split"] for row in texts}
    for row in panel.table.select(keys).to_pylist():
        assert split[row["dataset"], str(row["worker_id"])] == row["split"]
    alone = panel.slice_workers(panel.num_workers - 1, panel.num_workers)
    assert alone.with_split(fractions).table.equals(alone.table)


def test_splits_have_the_shares_asked_for_and_another_seed_is_another_draw() -> None:
    panel = panel_of(rows_of(*((one, 1990, "Cooks") for one in range(4000))))
    draws = [
        panel.with_split({"train": 0.7, "val": 0.0, "test": 0.3}, seed=seed).column("split").to_pylist()
        for seed in (0, 1)
    ]
    assert abs(draws[0].count("train") / 4000 - 0.7) < 0.03
    assert draws[0].count("val") == 0
    both = sum(a == b == "train" for a, b in zip(*draws, strict=True)) / 4000
    assert abs(both - 0.49) < 0.04
    shard = panel.with_split({"train": 0.7, "test": 0.3}).shard(0, 2)
    assert abs(shard.column("split").to_pylist().count("train") / shard.num_rows - 0.7) < 0.05


def test_families_stay_together() -> None:
    rows = rows_of(
        *((one, year, "Cooks") for one in range(60) for year in (1990, 1991)),
        family=[one // 3 for one in range(60) for _ in (0, 1)],
    )
    split = panel_of(rows).with_split({"a": 0.5, "b": 0.5}, unit="family").column("split").to_pylist()
    by_family = [set(split[6 * family : 6 * family + 6]) for family in range(20)]
    assert all(len(found) == 1 for found in by_family)
    assert set.union(*by_family) == {"a", "b"}
    with pytest.raises(PanelError, match="the unit 'region' is null or changes in worker 1"):
        panel_of(rows_of((1, 1990, "Cooks"), (1, 1991, "Cooks"), region=["n", "s"])).with_split(
            {"a": 1.0}, unit="region"
        )
    with pytest.raises(PanelError, match="no column 'household'"):
        panel_of(rows).with_split({"a": 1.0}, unit="household")


@pytest.mark.parametrize("fractions", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}])
def test_shares_sum_to_one(fractions: dict[str, float]) -> None:
    with pytest.raises(PanelError, match="do not sum to 1"):
        panel_of(rows_of((1, 1990, "Cooks"))).with_split(fractions)


def test_a_shard_outside_of_its_count_is_refused() -> None:
    with pytest.raises(PanelError, match="no shard 2 of 2; shards are 0 to 1"):
        panel_of(rows_of((1, 1990, "Cooks"))).shard(2, 2)


@SOME
@given(panels(), st.data())
def test_slices_of_workers_are_their_rows(panel: Panel, data: st.DataObject) -> None:
    start, stop = data.draw(st.integers(0, panel.num_workers)), data.draw(st.integers(0, panel.num_workers))
    part = panel.slice_workers(start, stop)
    rows = np.flatnonzero((panel.workers() >= start) & (panel.workers() < stop))
    assert part.table.to_pylist() == panel.table.take(rows).to_pylist()
    assert part.starts.tolist() == (panel.starts[start : max(start, stop) + 1] - panel.starts[start]).tolist()
    assert part.states().tolist() == panel.states()[rows].tolist()


# ---- the real panels


@pytest.mark.parametrize(("name", "rows", "workers"), [("nlsy97", 143_267, 7_076), ("nlsy79", 127_409, 10_003)])
def test_the_real_panels_are_read_as_they_are(name: str, rows: int, workers: int) -> None:
    panel = real_panel(name)
    assert (panel.num_rows, panel.num_workers, panel.report.dropped) == (rows, workers, {})
    parts = [panel.part(split) for split in ("train", "val", "test")]
    assert sum(part.num_rows for part in parts) == rows
    assert all(part.targets.all() and part.complete.all() for part in parts)
