"""The command line without torch: each stage by hand, and every bad input is one line, exit code 1, no file."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import laborllm
from laborllm.occupations import Occupations
from tests.samples import HARD_TITLES, careers, survey


@pytest.fixture
def files(tmp_path):
    """A panel without a split column and its list of occupations."""
    pq.write_table(careers(HARD_TITLES, workers=60, years=6), tmp_path / "panel.parquet")
    pq.write_table(Occupations.from_titles(HARD_TITLES).to_table(), tmp_path / "occupations.parquet")
    return tmp_path


@pytest.fixture
def divided(files, run):
    options = ("--occupations", files / "occupations.parquet", "--dataset", "TEST")
    code, _, err = run("split", files / "panel.parquet", *options, "-o", files / "split.parquet")
    assert code == 0, err
    return files / "split.parquet"


def test_split_fit_score_evaluate_and_report_are_one_chain(files, divided, run):
    occupations = ("--occupations", files / "occupations.parquet")
    names = ("uniform", "marginal", "laplace", "markov", "two-stage")
    for name in names:
        assert run("fit", name, divided, *occupations, "-o", files / name)[0] == 0
        code, out, err = run(
            "score", files / name, divided, "--split", "test", "-o", files / f"{name}.parquet", "--json"
        )
        assert code == 0, err
        assert json.loads(out)["model"]
    predictions = [files / f"{name}.parquet" for name in names]
    code, out, err = run("evaluate", *predictions, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert len(found) == 5
    assert found[0]["perplexity"] == pytest.approx(len(HARD_TITLES))
    assert all(model["perplexity_se"] >= 0 and model["transitions"] == found[0]["transitions"] for model in found)
    assert run("evaluate", *predictions)[0] == 0
    assert run("report", *predictions, "-o", files / "report.html")[0] == 0
    assert "two-stage" in (files / "report.html").read_text(encoding="utf-8")


def test_groups_are_those_of_a_column_of_the_panel(files, divided, run):
    occupations = ("--occupations", files / "occupations.parquet")
    run("fit", "markov", divided, *occupations, "-o", files / "m")
    run("score", files / "m", divided, "--split", "test", "-o", files / "p.parquet")
    code, out, err = run("evaluate", files / "p.parquet", "--by", "gender", "--panel", divided, "--json")
    assert code == 0, err
    groups = json.loads(out)[0]["groups"]
    assert [group["group"] for group in groups] == ["female", "male"]
    assert sum(group["transitions"] for group in groups) == json.loads(out)[0]["transitions"]


def test_resumes_are_written_with_their_spans_and_shards_make_the_whole(files, run):
    options = ("--occupations", files / "occupations.parquet", "--dataset", "TEST")
    assert run("resumes", files / "panel.parquet", *options, "-o", files / "all.parquet")[0] == 0
    whole = pq.read_table(files / "all.parquet")
    for text, starts, ends, titles in zip(
        *(whole[name].to_pylist() for name in ("resume", "title_start", "title_end", "occupation")), strict=True
    ):
        assert [text.encode()[a:b].decode() for a, b in zip(starts, ends, strict=True)] == titles
    parts = []
    for i in range(3):
        part = ("--shard", f"{i}/3", "-o", files / f"{i}.parquet")
        assert run("resumes", files / "panel.parquet", *options, *part)[0] == 0
        parts.append(pq.read_table(files / f"{i}.parquet"))
    together = pa.concat_tables([part.cast(whole.schema) for part in parts]).sort_by("worker_id")
    assert together["resume"].to_pylist() == whole["resume"].to_pylist()


def test_foreign_column_names_are_mapped_and_csv_is_read(files, run):
    table = pq.read_table(files / "panel.parquet").rename_columns({"worker_id": "person_id", "year": "wave"})
    pa.csv.write_csv(table, files / "panel.csv")
    code, _, err = run(
        "resumes", files / "panel.csv", "--occupations", files / "occupations.parquet", "--dataset", "TEST",
        "--column", "worker_id=person_id", "--column", "year=wave", "-o", files / "r.parquet",
    )  # fmt: skip
    assert code == 0, err
    assert pq.read_table(files / "r.parquet").num_rows == 60


def write(files, **changes: object):
    """The panel with some of its columns replaced (a function of the old values) or left out (None)."""
    table = pq.read_table(files / "panel.parquet")
    for name, change in changes.items():
        position = table.column_names.index(name)
        if change is None:
            table = table.drop_columns([name])
        else:
            table = table.set_column(position, name, pa.array(change(table[name].to_pylist())))
    pq.write_table(table, files / "bad.parquet")
    return files / "bad.parquet"


def put(row: int, value: object):
    return lambda values: [value if i == row else old for i, old in enumerate(values)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"worker_id": put(7, None)}, ["worker_id", "row 7"]),
        ({"year": put(7, None)}, ["year", "row 7"]),
        ({"occupation": put(7, None)}, ["row 7"]),
        ({"occupation": put(7, "Physicans")}, ["'Physicans'", "row 7", "Physicians"]),
        ({"occupation": put(7, "4711")}, ["4711", "cast"]),
        ({"year": lambda values: [1980] * len(values)}, ["1980", "rows 0 and 1"]),
        ({"year": None}, ["'year'", "'occupation', 'gender', 'race', 'education'"]),
        ({"gender": None}, ["{gender}"]),
        ({"gender": lambda values: ["female", "male"] * (len(values) // 2)}, ["gender", "female", "male"]),
    ],
)
def test_a_panel_that_breaks_its_contract_is_one_line_that_says_where(files, run, changes, words):
    bad = write(files, **changes)
    code, out, err = run(
        "resumes", bad, "--occupations", files / "occupations.parquet", "--dataset", "TEST", "-o", files / "out.parquet"
    )
    assert (code, out) == (1, "")
    assert len(err.strip().splitlines()) == 1
    for word in words:
        assert word in err
    assert not (files / "out.parquet").exists()
    assert not list(files.glob(".*"))


def test_rows_without_an_occupation_are_dropped_on_request_and_counted(files, run):
    bad = write(files, occupation=put(7, None))
    code, _, err = run(
        "resumes", bad, "--occupations", files / "occupations.parquet", "--dataset", "TEST",
        "--drop-null-occupations", "-o", files / "out.parquet",
    )  # fmt: skip
    assert code == 0
    assert "1" in err


def test_a_missing_tag_a_missing_split_and_an_empty_split_say_what_to_do(files, divided, run):
    occupations = ("--occupations", files / "occupations.parquet")
    code, _, err = run("resumes", files / "panel.parquet", *occupations, "-o", files / "r.parquet")
    assert code == 1
    assert "--dataset" in err
    code, _, err = run("fit", "markov", files / "panel.parquet", *occupations, "-o", files / "m")
    assert code == 1
    assert "laborllm split" in err
    run("fit", "markov", divided, *occupations, "-o", files / "m")
    code, _, err = run("score", files / "m", divided, "--split", "holdout", "-o", files / "p.parquet")
    assert code == 1
    assert "holdout" in err
    assert "train" in err
    assert not (files / "p.parquet").exists()


def test_an_output_that_exists_is_refused_and_a_file_that_is_no_parquet_is_named(files, divided, run):
    occupations = ("--occupations", files / "occupations.parquet")
    code, _, err = run("split", files / "panel.parquet", *occupations, "-o", divided)
    assert code == 1
    assert "exists" in err
    assert "--overwrite" in err
    (files / "text.parquet").write_text("worker_id,year\n")
    code, _, err = run("split", files / "text.parquet", *occupations, "-o", files / "x.parquet")
    assert code == 1
    assert "text.parquet is no readable Parquet file" in err


def test_a_csv_row_with_the_wrong_number_of_fields_is_named(files, run):
    (files / "bad.csv").write_text("worker_id,year,occupation\n1,1980,Cooks\n1,1981\n")
    occupations = ("--occupations", files / "occupations.parquet")
    code, _, err = run("split", files / "bad.csv", *occupations, "-o", files / "x.parquet")
    assert code == 1
    assert "bad.csv" in err
    assert "#3" in err


def test_a_model_directory_that_is_none_is_named(files, divided, run):
    code, _, err = run("score", files / "nowhere", divided, "-o", files / "p.parquet")
    assert code == 1
    assert "nowhere" in err
    assert len(err.strip().splitlines()) == 1


def test_predictions_over_other_rows_are_not_compared(files, divided, run):
    run("fit", "markov", divided, "--occupations", files / "occupations.parquet", "-o", files / "m")
    for name in ("val", "test"):
        run("score", files / "m", divided, "--split", name, "-o", files / f"{name}.parquet")
    code, out, err = run("evaluate", files / "val.parquet", files / "test.parquet", "--json")
    assert (code, out) == (1, "")
    assert len(err.strip().splitlines()) == 1


def test_usage_errors_exit_with_two_and_debug_shows_the_traceback(files, run):
    assert run("fit", "oracle", files / "panel.parquet")[0] == 2
    options = ("--occupations", files / "occupations.parquet", "--dataset", "T", "-o", files / "x.parquet")
    assert run("resumes", files / "panel.parquet", *options, "--shard", "3/2")[0] == 2
    from laborllm.errors import FileError

    with pytest.raises(FileError):
        run(
            "--debug",
            "split",
            files / "absent.parquet",
            "--occupations",
            files / "occupations.parquet",
            "-o",
            "x.parquet",
        )


@pytest.mark.parametrize(
    "expected",
    [("nlsy97", (7.62, 7.82), 10.3, 42, 333), ("nlsy79", (21.5, 22.1), 27.1, 57, 332)],
)
def test_the_chain_reaches_the_reference_numbers_on_real_careers(expected, run, tmp_path):
    name, two_stage, laplace, first, states = expected
    folder = survey(name)
    occupations = ("--occupations", folder / "occupations.csv", "--dataset", name.upper())
    files = []
    for model in ("uniform", "laplace", "two-stage"):
        assert run("fit", model, folder / "careers.parquet", *occupations, "-o", tmp_path / model)[0] == 0
        files.append(tmp_path / f"{model}.parquet")
        assert run("score", tmp_path / model, folder / "careers.parquet", "--split", "test", "-o", files[-1])[0] == 0
    code, out, err = run("evaluate", *files, "--json", "--draws", 200)
    assert code == 0, err
    uniform, add_one, tuned = json.loads(out)
    assert uniform["perplexity"] == pytest.approx(states, rel=1e-12)
    assert add_one["perplexity_history"] == pytest.approx(laplace, abs=0.1)
    assert two_stage[0] <= tuned["perplexity_history"] <= two_stage[1]
    assert tuned["perplexity_first"] <= first
    assert np.isfinite(tuned["perplexity_se"])


def test_an_output_that_is_written_as_parquet_says_so_in_its_name(run, tmp_path):
    code, _, err = run("resumes", tmp_path / "p.csv", "--occupations", tmp_path / "o.csv", "-o", tmp_path / "r.csv")
    assert code == 2
    assert "written as Parquet" in err


@pytest.mark.parametrize("shard", ["²/4", "0/99999999999999999999999", "4/4", "1", "a/b"])
def test_a_shard_that_does_not_exist_is_a_usage_error(run, tmp_path, shard):
    (tmp_path / "o.csv").write_text("code,title,status\n1,Cooks,employed\n")
    (tmp_path / "p.csv").write_text("worker_id,year,occupation\n1,1990,Cooks\n")
    code, _, err = run(
        "resumes",
        tmp_path / "p.csv",
        "--occupations",
        tmp_path / "o.csv",
        "-o",
        tmp_path / "r.parquet",
        "--shard",
        shard,
    )
    assert code == 2
    assert "is not i/n" in err


def test_the_version_is_printed_and_the_package_is_a_program(run):
    code, out, _ = run("--version")
    assert (code, out.strip()) == (0, laborllm.__version__)
    done = subprocess.run([sys.executable, "-m", "laborllm", "--version"], capture_output=True, text=True, check=False)
    assert done.stdout == out
