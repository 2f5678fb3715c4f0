"""A language model through every stage by hand, and what its files say about each other."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from laborllm import cli, demo
from laborllm.errors import FileError
from laborllm.occupations import Occupations
from laborllm.predictions import Predictions
from tests.samples import HARD_TITLES, careers


@pytest.fixture
def folder(tmp_path, run):
    pq.write_table(careers(HARD_TITLES, workers=60, years=4), tmp_path / "raw.parquet")
    pq.write_table(Occupations.from_titles(HARD_TITLES).to_table(), tmp_path / "occupations.parquet")
    options = ("--occupations", tmp_path / "occupations.parquet", "--dataset", "TEST")
    assert run("split", tmp_path / "raw.parquet", *options, "-o", tmp_path / "panel.parquet")[0] == 0
    assert run("base", tmp_path / "panel.parquet", *options[:2], "-o", tmp_path / "base")[0] == 0
    return tmp_path


def test_a_base_is_made_trained_scored_evaluated_reported_and_decoded(folder, run):
    options = ("--occupations", folder / "occupations.parquet")
    panel = folder / "panel.parquet"
    tuned = ("--epochs", 1, "--batch-size", 8, "--lora-rank", 4, "-o", folder / "model", "--json")
    code, out, err = run("train", panel, *options, "--base", folder / "base", *tuned)
    assert code == 0, err
    assert len(json.loads(out)["epochs"]) == 2
    assert run("fit", "two-stage", panel, *options, "-o", folder / "two-stage")[0] == 0
    for name, extra in (("two-stage", ()), ("model", ("--titles", "all", "--keep-law"))):
        target = folder / f"{name}.parquet"
        code, _, err = run("score", folder / name, panel, "--split", "test", *extra, "-o", target)
        assert code == 0, err
    files = (folder / "two-stage.parquet", folder / "model.parquet")
    code, out, err = run("evaluate", *files, "--json")
    assert code == 0, err
    counts, language = json.loads(out)
    assert (counts["law"], language["law"]) == ("normalized", "raw")
    assert language["covariates"] == ["gender", "race", "education"]
    assert 0 < language["title_mass"] < 1
    assert language["differences"]
    assert run("report", *files, "-o", folder / "report.html")[0] == 0
    assert "Physicians&#39; assistants" in (folder / "report.html").read_text(encoding="utf-8")
    code, out, err = run("generate", folder / "model", "--history", panel, "--samples", 2)
    assert code == 0, err
    decoded = [json.loads(line) for line in out.splitlines()]
    assert len(decoded) == 2 * 60
    assert {entry["title"] for entry in decoded} <= set(HARD_TITLES)


def test_a_panel_without_a_tag_is_scored_under_the_tag_of_the_training_survey(folder, run):
    options = ("--occupations", folder / "occupations.parquet")
    base = ("--base", folder / "base", "--epochs", 0, "-o", folder / "model")
    assert run("train", folder / "panel.parquet", *options, *base)[0] == 0
    code, _, err = run("score", folder / "model", folder / "raw.parquet", "-o", folder / "p.parquet")
    assert code == 0, err
    predictions = Predictions.read(folder / "p.parquet")
    assert set(predictions.table["dataset"].to_pylist()) == {"TEST"}
    assert predictions.num_workers == 60


def test_tokens_are_those_of_the_base_and_a_base_without_weights_is_named(folder, run):
    options = ("--occupations", folder / "occupations.parquet")
    code, out, err = run(
        "tokens",
        folder / "panel.parquet",
        *options,
        "--tokenizer",
        folder / "base",
        "-o",
        folder / "t.parquet",
        "--json",
    )
    assert code == 0, err
    table = pq.read_table(folder / "t.parquet")
    assert json.loads(out)["tokens"] == sum(len(ids) for ids in table["input_ids"].to_pylist())
    assert b"laborllm.tokenizer" in table.schema.metadata
    (folder / "base" / "model.safetensors").unlink()
    code, _, err = run("train", folder / "panel.parquet", *options, "--base", folder / "base", "-o", folder / "model")
    assert code == 1
    assert "holds no weights" in err
    assert len([line for line in err.splitlines() if "Error" in line]) == 1
    assert not (folder / "model").exists()


def test_the_normalized_law_of_observed_titles_says_which_option_it_needs(folder, run):
    options = ("--occupations", folder / "occupations.parquet")
    base = ("--base", folder / "base", "--epochs", 0, "-o", folder / "model")
    run("train", folder / "panel.parquet", *options, *base)
    code, _, err = run(
        "score", folder / "model", folder / "panel.parquet", "--law", "normalized", "-o", folder / "p.parquet"
    )
    assert code == 1
    assert "--titles all" in err
    assert not (folder / "p.parquet").exists()


def test_a_demo_is_written_into_its_folder_again_and_not_over_a_file(tmp_path, monkeypatch):
    def reached():
        raise InterruptedError

    monkeypatch.setattr(demo, "wage_panel", reached)
    with pytest.raises(InterruptedError):
        demo.run(tmp_path, overwrite=True, bar=cli.bar, say=print)
    with pytest.raises(FileError, match="exists"):
        demo.run(tmp_path, bar=cli.bar, say=print)
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="is no directory"):
        demo.run(tmp_path / "file", overwrite=True, bar=cli.bar, say=print)
