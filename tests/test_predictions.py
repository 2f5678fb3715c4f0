from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from careers import Rows, predict, random_law, some_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from laborllm import prediction_form as module
from laborllm.errors import FileError, PredictionsError
from laborllm.files import write_parquet
from laborllm.occupations import Occupations
from laborllm.prediction_titles import Top
from laborllm.predictions import Predictions, check_comparable

LAW = random_law(5, seed=1)


@pytest.fixture
def rows():
    return some_rows()


@pytest.fixture
def predictions(rows):
    return predict(rows, LAW)


def replaced(predictions, name, values):
    table = predictions.table
    values = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values)
    return table.set_column(table.column_names.index(name), name, values)


def rebuilt(predictions, table=None, **metadata):
    table = predictions.table if table is None else table
    return Predictions(table, occupations=predictions.occupations, metadata=predictions.metadata | metadata)


def changed(predictions, name, row, value):
    values = predictions.table[name].to_pylist()
    values[row] = value
    return rebuilt(predictions, replaced(predictions, name, pa.array(values, predictions.table[name].type)))


# What is written is read again


panels = st.builds(some_rows, workers=st.integers(1, 8), years=st.integers(1, 5), seed=st.integers(0, 99))
id_types = st.sampled_from([np.int32, np.int64, np.uint64, str])


@settings(max_examples=20, deadline=None)
@given(base=panels, ids=id_types, tags=st.booleans(), law=st.sampled_from(["normalized", "masked"]))
def test_a_file_gives_back_what_was_written(tmp_path_factory, base, ids, tags, law):
    dataset = np.where(base.worker < 3, "NLSY79", "NLSY97") if tags else None
    rows = Rows(base.worker.astype(ids), base.year, base.occupation, 5, dataset)
    before = predict(rows, LAW, law=law, covariates=("gender", "race"), seed=3, template_hash="ab", kind="markov")
    path = tmp_path_factory.mktemp("files") / "predictions.parquet"
    before.write(path)
    after = Predictions.read(path)
    assert after.table.equals(before.table)
    assert after.table.schema.equals(before.table.schema)
    assert after.metadata == before.metadata
    assert after.occupations == before.occupations
    for name in ("log_p", "log_p_raw", "log_p_previous", "title_mass", "year", "previous", "observed", "log_p_all"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_columns_have_the_types_of_the_contract(predictions):
    states = pa.dictionary(pa.int32(), pa.large_string())
    assert {field.name: field.type for field in predictions.table.schema} == {
        "dataset": states,
        "worker_id": pa.int64(),
        "year": pa.int32(),
        "previous": states,
        "occupation": states,
        "log_p": pa.float64(),
        "log_p_raw": pa.float64(),
        "log_p_previous": pa.float64(),
        "title_mass": pa.float64(),
        "n_rows_dropped": pa.int32(),
        "log_p_all": pa.list_(pa.float32(), 5),
    }
    for name in ("previous", "occupation"):
        assert predictions.table[name].chunk(0).dictionary.to_pylist() == list(predictions.occupations.titles)


def test_codes_titles_and_statuses_come_back_from_the_file_with_titles_nobody_held(tmp_path, rows):
    codes, titles = ("905", "7", "33", "1", "2"), ("Cooks", "Zoo", "Not employed", "</script>", "Ärzte, leitende")
    states = Occupations(codes, titles, ("employed", "employed", "not_employed", "employed", "employed"))
    held = Rows(rows.worker, rows.year, np.full(len(rows), 3), 5)
    table = predict(held, LAW).table
    for name in ("previous", "occupation"):
        place = table.column_names.index(name)
        indices = table[name].chunk(0).indices
        table = table.set_column(place, name, pa.DictionaryArray.from_arrays(indices, states.dictionary))
    metadata = {"model": "m", "law": "normalized", "titles": "all"}
    Predictions(table, occupations=states, metadata=metadata).write(tmp_path / "p.parquet")
    after = Predictions.read(tmp_path / "p.parquet")
    assert (after.occupations, after.occupations.hash) == (states, states.hash)
    assert (after.observed == 3).all()


def test_strings_in_many_chunks_are_brought_to_the_same_table(rows, predictions):
    loose = predictions.table.set_column(0, "dataset", predictions.table["dataset"].cast(pa.string()))
    for name in ("previous", "occupation"):
        loose = loose.set_column(
            loose.column_names.index(name), name, loose[name].cast(pa.string()).dictionary_encode()
        )
    pieces = pa.concat_tables([loose.slice(start, 7) for start in range(0, len(rows), 7)])
    assert rebuilt(predictions, pieces).table.equals(predictions.table)


def test_further_columns_are_kept(tmp_path, predictions):
    more = predictions.table.append_column("wages", pa.array([{"hourly": 1.5}] * len(predictions)))
    rebuilt(predictions, more).write(tmp_path / "p.parquet")
    assert Predictions.read(tmp_path / "p.parquet").table["wages"][0].as_py() == {"hourly": 1.5}


def with_titles(rows, **changed):
    """Predictions with `log_p_of` two titles and `top` three; `changed` are arrays of the latter."""
    whole = LAW.over_titles(rows)
    best = Top.of_law(np.log(whole), 0.0, count=3)
    top = Top(**{name: changed.get(name, getattr(best, name)) for name in Top.__dataclass_fields__})
    return predict(rows, LAW, log_p_of={4: np.log(whole[:, 4]), 0: np.log(whole[:, 0])}, top=top)


def test_columns_that_name_titles_are_written_and_read(tmp_path, rows):
    before = with_titles(rows)
    before.write(tmp_path / "p.parquet")
    after, whole = Predictions.read(tmp_path / "p.parquet"), np.log(LAW.over_titles(rows))
    assert after.table.equals(before.table)
    assert after.table.schema.equals(before.table.schema)
    assert after.named_titles == ["Title 4", "Title 0"]
    np.testing.assert_array_equal(after.log_p_of("Title 4"), whole[:, 4])
    for name in Top.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(after.top, name), getattr(before.top, name))
    first = after.table["top"][0].as_py()[0]
    assert list(first) == ["title", "log_p", "lower", "upper", "exact"]
    assert first["title"] == f"Title {whole[0].argmax()}"
    with pytest.raises(PredictionsError, match=r"no log P of 'Title 1' .*--also"):
        after.log_p_of("Title 1")
    assert predict(rows, LAW).top is None


def test_equal_titles_come_in_the_order_of_the_list():
    top = Top.of_law(np.log([[0.2, 0.4, 0.2, 0.2]]), 0.0, count=3)
    assert top.titles.tolist() == [[1, 0, 2]]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("log_p", lambda x: np.full_like(x, np.nan), "NaN or above 0"),
        ("log_p", lambda x: x + 9, "NaN or above 0"),
        ("log_p", lambda x: x[:, ::-1], "not the best first"),
        ("titles", np.zeros_like, "one title twice"),
        ("titles", lambda x: x + 5, r"outside \[0, 5\)"),
        ("upper", lambda x: x + 1, "bound outside"),
        ("lower", lambda x: x - 1, "bound outside"),
        ("lower", lambda x: np.full_like(x, np.nan), "bound outside"),
        ("lower", lambda x: (x + 1) / 2, "lower bound above"),
        ("exact", lambda x: x[:, :2], "shapes"),
    ],
)
def test_best_titles_that_cannot_be_are_refused(rows, name, change, message):
    with pytest.raises(PredictionsError, match=message):
        with_titles(rows, **{name: change(getattr(with_titles(rows).top, name))})


def test_titles_that_were_named_need_numbers_and_a_place_on_the_list(rows, predictions):
    for values, message in ((np.full(len(rows), 0.1), "'Title 2' is 0.1"), (np.full(len(rows), np.nan), "is nan")):
        with pytest.raises(PredictionsError, match=message):
            predict(rows, LAW, log_p_of={2: values})
    with pytest.raises(PredictionsError, match=r"has shape \(3,\)"):
        predict(rows, LAW, log_p_of={2: np.zeros(3)})
    for column, message in (
        ([{"Cooks": -1.0}] * len(rows), "names 'Cooks', none of the 5 titles"),
        ([{"Title 1": None}] * len(rows), "holds nulls"),
        ([-1.0] * len(rows), "is double"),
        ([{"Title 1": "a"}] * len(rows), "where it needs float64"),
    ):
        with pytest.raises(PredictionsError, match=message):
            rebuilt(predictions, predictions.table.append_column("log_p_of", pa.array(column)))


def test_a_top_of_another_form_is_refused(predictions):
    whole = [{"title": "Title 1", "log_p": -1.0, "lower": 0.1, "upper": 0.2, "exact": False}]
    rows = len(predictions)
    for column, message in (
        ([whole] * (rows - 1) + [[]], "top holds 0 titles in row 179, 1 in row 0"),
        ([[whole[0] | {"title": "Cooks"}]] * rows, "top names 'Cooks'"),
        ([[{"title": "Title 1"}]] * rows, "it needs title, log_p"),
        (["Title 1"] * rows, "is string"),
    ):
        with pytest.raises(PredictionsError, match=message):
            rebuilt(predictions, predictions.table.append_column("top", pa.array(column)))
    kept = rebuilt(predictions, predictions.table.append_column("top", pa.array([whole] * rows)))
    assert kept.top.titles.tolist() == [[1]] * rows


def test_an_output_that_exists_is_refused_and_left_as_it_was(tmp_path, predictions):
    path = tmp_path / "p.parquet"
    predictions.write(path)
    before = path.read_bytes()
    with pytest.raises(FileError, match="--overwrite"):
        predictions.write(path)
    assert path.read_bytes() == before
    rebuilt(predictions, model="another").write(path, overwrite=True)
    assert Predictions.read(path).model == "another"
    assert [p.name for p in tmp_path.iterdir()] == ["p.parquet"]


def test_a_flipped_byte_in_a_file_is_noticed(tmp_path, rows):
    path = tmp_path / "p.parquet"
    predict(rows, LAW, log_p_all=None).write(path)
    damaged = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(5)
    damaged[column.data_page_offset + column.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(FileError, match=r"p\.parquet"):
        Predictions.read(path)


# What rows are


def test_previous_is_the_row_before_of_the_same_worker_in_the_same_dataset():
    rows = Rows(
        worker=np.array([7, 7, 7, 7, 7]),
        year=np.array([1990, 1991, 1994, 1990, 1991]),
        occupation=np.array([2, 2, 0, 1, 1]),
        num_titles=3,
        dataset=np.array(["NLSY79", "NLSY79", "NLSY79", "NLSY97", "NLSY97"]),
    )
    p = predict(rows, random_law(3, seed=0))
    assert p.previous.tolist() == [-1, 2, 2, -1, 1]
    assert p.first.tolist() == [True, False, False, True, False]
    assert p.stay.tolist() == [False, True, False, False, True]
    assert p.move.tolist() == [False, False, True, False, False]
    assert p.worker.tolist() == [0, 0, 0, 1, 1]
    assert (p.num_workers, len(p)) == (2, 5)
    assert np.isnan(p.log_p_previous).tolist() == p.first.tolist()


def test_workers_are_numbered_in_order_of_appearance_whatever_their_ids():
    ids = np.array(["b", "b", "a", "10", "9", "9"])
    rows = Rows(ids, np.array([1, 2, 1, 1, 1, 2]), np.zeros(6, int), 2)
    assert predict(rows, random_law(2, seed=0)).worker.tolist() == [0, 0, 1, 2, 3, 3]


def test_the_raw_law_is_its_own_raw_column(rows):
    raw = predict(rows, LAW, law="raw")
    np.testing.assert_array_equal(raw.log_p_raw, raw.log_p)
    assert np.isnan(predict(rows, LAW).log_p_raw).all()


def test_no_transition_at_all_is_an_empty_table(predictions):
    empty = rebuilt(predictions, predictions.table.slice(0, 0))
    assert (len(empty), empty.num_workers, empty.log_p.shape, empty.log_p_all.shape) == (0, 0, (0,), (0, 5))


# What is refused


@pytest.mark.parametrize(
    ("name", "row", "value", "message"),
    [
        ("log_p", 8, 2e-6, "log_p of worker 1 in 1982 is 2e-06"),
        ("log_p", 8, float("nan"), "log_p of worker 1 in 1982 is nan"),
        ("log_p", 8, None, "'log_p' is null in row 8"),
        ("log_p_previous", 8, 0.1, "log_p_previous of worker 1 in 1982"),
        ("log_p_previous", 8, None, r"log_p_previous of worker 1 in 1982 \(row 8\) is null while other rows have it"),
        ("log_p_previous", 6, -1.0, r"worker 1 in 1980 \(row 6\) has no previous title"),
        ("worker_id", 8, None, "'worker_id' is null in row 8"),
        ("year", 8, None, "'year' is null in row 8"),
        ("year", 8, 1981, r"two predictions for worker 1 in 1981 \(rows 7 and 8\)"),
        ("dataset", 8, None, "'dataset' is null in row 8"),
        ("occupation", 8, None, "'occupation' is null in row 8"),
    ],
)
def test_a_bad_cell_is_named_by_worker_and_row(predictions, name, row, value, message):
    with pytest.raises(PredictionsError, match=message) as error:
        changed(predictions, name, row, value)
    assert "\n" not in str(error.value)


def test_the_rounding_of_a_log_softmax_is_no_error_and_probability_zero_is_a_prediction(predictions):
    assert changed(predictions, "log_p", 3, 1e-7).log_p[3] == 1e-7
    assert changed(predictions, "log_p", 3, -np.inf).log_p[3] == -np.inf


@pytest.mark.parametrize(
    ("mass", "fine"), [(0.0, True), (1.00005, True), (1.01, False), (-0.1, False), (np.nan, False)]
)
def test_a_title_mass_is_in_zero_to_one(rows, mass, fine):
    masses = np.full(len(rows), 0.9)
    masses[4] = mass
    if fine:
        assert predict(rows, LAW, law="raw", title_mass=masses).title_mass[4] == mass
    else:
        with pytest.raises(PredictionsError, match=r"title_mass of worker 0 in 1984 is .* in \[0, 1\]"):
            predict(rows, LAW, law="raw", title_mass=masses)


def test_a_whole_law_that_exceeds_one_names_its_first_row(rows):
    whole = LAW.over_titles(rows)
    whole[[9, 20]] *= 1.01
    for law in ("raw", "normalized", "masked"):
        with pytest.raises(PredictionsError, match=rf"the {law} law of worker 1 in 1983 \(row 9\) sums to 1\.01"):
            predict(rows, LAW, law=law, log_p_all=np.log(whole))


def test_only_a_raw_law_may_leave_mass_off_the_list(rows):
    whole = LAW.over_titles(rows)
    whole[9] *= 0.9
    assert predict(rows, LAW, law="raw", log_p_all=np.log(whole)).log_p_all.shape == (len(rows), 5)
    for law in ("normalized", "masked"):
        with pytest.raises(PredictionsError, match=r"\(row 9\) sums to 0\.9"):
            predict(rows, LAW, law=law, log_p_all=np.log(whole))


def test_logits_are_no_law(rows):
    with pytest.raises(PredictionsError, match="not logits"):
        predict(rows, LAW, law="raw", log_p_all=np.zeros((len(rows), 5)))


def test_a_whole_law_over_another_number_of_titles_is_refused(rows, predictions):
    with pytest.raises(PredictionsError, match=r"shape \(180, 4\).*\(180, 5\)"):
        predict(rows, LAW, log_p_all=np.zeros((len(rows), 4)))
    four = pa.array([[np.log(0.25)] * 4] * len(rows), pa.list_(pa.float32(), 4))
    with pytest.raises(PredictionsError, match="holds 4 for 5 titles"):
        rebuilt(predictions, replaced(predictions, "log_p_all", four))


def test_a_whole_law_above_the_stated_size_is_refused_with_the_way_out(rows, monkeypatch):
    with pytest.raises(PredictionsError, match=r"2\.5 GiB, more than 2 GiB.*titles='observed'"):
        module.check_whole_law_size(2_000_000, 333)
    monkeypatch.setattr(module, "WHOLE_LAW_LIMIT", 4 * 180 * 5 - 1)
    with pytest.raises(PredictionsError, match="split the panel"):
        predict(rows, LAW)
    monkeypatch.setattr(module, "WHOLE_LAW_LIMIT", 4 * 180 * 5)
    assert predict(rows, LAW).log_p_all.shape == (180, 5)


def test_an_array_of_another_length_is_refused(rows):
    with pytest.raises(PredictionsError, match=r"log_p has shape \(3,\); give one number for each of 180"):
        predict(rows, LAW, log_p=np.zeros(3))


@pytest.mark.parametrize(("name", "value"), [("law", "plain"), ("law", None), ("titles", "top")])
def test_an_unknown_law_is_refused_with_those_that_exist(rows, name, value):
    with pytest.raises(PredictionsError, match=r"raw, normalized, masked|observed, all"):
        predict(rows, LAW, **{name: value})


def test_a_model_needs_a_name(rows):
    with pytest.raises(PredictionsError, match="name no model"):
        predict(rows, LAW, model="")


def test_a_state_outside_the_list_is_named(predictions):
    titles = predictions.table["occupation"].cast(pa.large_string()).to_pylist()
    titles[8] = "Wizards"
    with pytest.raises(PredictionsError, match=r"occupation 'Wizards' of worker 1 in 1982 \(row 8\) is none of the 5"):
        rebuilt(predictions, replaced(predictions, "occupation", titles))


def test_a_missing_column_is_named_beside_those_present(predictions):
    with pytest.raises(PredictionsError, match=r"without the column 'previous'; present are dataset, worker_id"):
        rebuilt(predictions, predictions.table.drop_columns(["previous"]))


@pytest.mark.parametrize(
    ("name", "values"),
    [("log_p", "x"), ("worker_id", 1.5), ("occupation", 3), ("year", 1990.5), ("log_p_all", -1.0)],
)
def test_a_column_of_another_type_is_refused(predictions, name, values):
    with pytest.raises(PredictionsError, match=name):
        rebuilt(predictions, replaced(predictions, name, [values] * len(predictions)))


def with_metadata(predictions, path, /, **entries):
    schema = {b"laborllm.predictions": json.dumps(predictions.metadata).encode()}
    schema |= {b"laborllm.occupations": predictions.occupations.to_json().encode(), b"laborllm.version": b"1.0"}
    schema |= {f"laborllm.{name}".encode(): value for name, value in entries.items()}
    write_parquet(predictions.table.replace_schema_metadata(schema), path)


@pytest.mark.parametrize("version", [b"2.0", b"10.1", b"later"])
def test_a_newer_major_version_is_refused(tmp_path, predictions, version):
    with_metadata(predictions, tmp_path / "new.parquet", version=version)
    with pytest.raises(PredictionsError, match=r"new\.parquet has version .*install a newer laborllm"):
        Predictions.read(tmp_path / "new.parquet")


def test_a_newer_minor_version_is_read(tmp_path, predictions):
    with_metadata(predictions, tmp_path / "p.parquet", version=b"1.7")
    assert len(Predictions.read(tmp_path / "p.parquet")) == len(predictions)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"predictions": b"{"}, "cannot be read"),
        ({"predictions": b"[1]"}, "no mapping"),
        ({"occupations": b"[]"}, "cannot be read"),
        ({"occupations": b'[["0","A","employed"]]'}, "hash"),
    ],
)
def test_damaged_metadata_is_one_line_with_the_file(tmp_path, predictions, entries, message):
    with_metadata(predictions, tmp_path / "odd.parquet", **entries)
    with pytest.raises(PredictionsError, match=message) as error:
        Predictions.read(tmp_path / "odd.parquet")
    assert "odd.parquet" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_parquet_file_of_something_else_is_refused(tmp_path):
    write_parquet(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(PredictionsError, match=r"a\.parquet holds no predictions"):
        Predictions.read(tmp_path / "a.parquet")


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_text("dataset,worker_id\n")
    with pytest.raises(FileError, match="no readable Parquet"):
        Predictions.read(tmp_path / "a.parquet")


# What may be compared


def test_models_of_the_same_rows_are_comparable_though_their_hashes_differ(rows, predictions):
    other = predict(rows, random_law(5, seed=9), law="raw", template_hash="ff", model_hash="aa", log_p_all=None)
    assert check_comparable(predictions, other) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"worker": 99}, r"row 9 of 'known' is worker 1 in 1983 .* of 'known' worker 99 in 1983"),
        ({"year": 1999}, r"row 9 .*worker 1 in 1983.* worker 1 in 1999"),
        ({"occupation": 1}, "row 9 .*to 'Title 1'"),
        ({"dataset": "PSID"}, r"row 9 .*worker 1 of 'PSID' in 1983"),
    ],
)
def test_the_first_differing_row_is_named(rows, predictions, change, message):
    arrays = {name: getattr(rows, name).copy() for name in ("worker", "year", "occupation")}
    arrays["dataset"] = np.full(len(rows), "", object)
    for name, value in change.items():
        assert arrays[name][9] != value
        arrays[name][9] = value
    with pytest.raises(PredictionsError, match=message):
        check_comparable(predictions, predict(Rows(num_titles=5, **arrays), LAW))


def test_another_dataset_alone_makes_a_row_differ(rows):
    tagged = [predict(Rows(rows.worker, rows.year, rows.occupation, 5, np.full(180, tag)), LAW) for tag in ("a", "b")]
    with pytest.raises(PredictionsError, match=r"row 0 .* worker 0 of 'a' .* worker 0 of 'b'"):
        check_comparable(*tagged)


def test_another_previous_title_alone_makes_a_row_differ(predictions):
    titles = predictions.table["previous"].cast(pa.large_string()).to_pylist()
    titles[9] = next(t for t in predictions.occupations.titles if t != titles[9])
    with pytest.raises(PredictionsError, match=r"row 9 .* from 'Title \d' .* from 'Title \d'"):
        check_comparable(predictions, rebuilt(predictions, replaced(predictions, "previous", titles)))


def test_a_missing_row_is_named(rows, predictions):
    shorter = predict(rows.take(np.arange(len(rows) - 1)), LAW, model="short")
    for pair in ((predictions, shorter), (shorter, predictions)):
        with pytest.raises(PredictionsError, match=r"'known' has 180 .*'short' 179: worker 29 in 1985 \(row 179\)"):
            check_comparable(*pair)


def test_another_order_of_workers_is_refused(rows, predictions):
    order = np.concatenate([np.arange(6, 12), np.arange(6), np.arange(12, len(rows))])
    with pytest.raises(PredictionsError, match="row 0"):
        check_comparable(predictions, predict(rows.take(order), LAW))


def test_another_list_of_occupations_is_refused(rows):
    with pytest.raises(PredictionsError, match="different lists of occupations"):
        check_comparable(
            predict(rows, LAW), predict(Rows(rows.worker, rows.year, rows.occupation, 6), random_law(6, seed=1))
        )


def test_ids_compare_by_value_between_integer_types_but_not_with_strings(rows, predictions):
    unsigned = predict(Rows(rows.worker.astype(np.uint64), rows.year, rows.occupation, 5), LAW)
    assert check_comparable(predictions, unsigned) is None
    strings = predict(Rows(rows.worker.astype(str), rows.year, rows.occupation, 5), LAW)
    with pytest.raises(PredictionsError, match=r"worker 0 .*worker '0'"):
        check_comparable(predictions, strings)
