"""`laborllm score` with a language model: its columns, shards, parts that survive a kill, adapters that are merged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from laborllm import scoring
from laborllm.errors import ModelError
from laborllm.models import load_model
from laborllm.models.counts import TwoStage
from laborllm.models.language import LanguageModel
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.predictions import Predictions, check_comparable
from laborllm.resume import Template
from laborllm.train import TrainingOptions, make_base
from tests.samples import HARD_TITLES, careers

ALSO = ("Not employed", "Managers, n.e.c.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A panel, a model with adapters, one trained in all weights and a count model, over 24 workers."""
    home = tmp_path_factory.mktemp("scored")
    table = careers(HARD_TITLES, workers=24, years=4)
    panel = Panel.from_arrow(table, occupations=Occupations.from_titles(HARD_TITLES), dataset="TEST")
    pq.write_table(table, home / "panel.parquet")
    TwoStage(stay_backoff=1.0, move_backoff=1.0, first_backoff=1.0).fit(panel, panel).save(home / "two-stage")
    make_base([panel], home / "base", template=Template.load("labor-llm"))
    for name, rank in (("lora", 4), ("full", None)):
        options = TrainingOptions(epochs=1, learning_rate=3e-2, batch_size=4)
        LanguageModel(home / "base", options=options, lora_rank=rank, name=name).fit(panel, panel).save(home / name)
    return home


@pytest.fixture
def score(folder, run, tmp_path):
    """Score, from a model's name and options; gives the predictions and the facts that were printed."""

    def call(model: str, *options: object, output: str = "p.parquet") -> tuple[Predictions, dict]:
        target = tmp_path / output
        arguments = ("--dataset", "TEST", "-o", target, "--overwrite", "--json")
        code, out, err = run("score", folder / model, folder / "panel.parquet", *options, *arguments)
        assert code == 0, err
        return Predictions.read(target), json.loads(out)

    return call


def also(*titles: str) -> list[str]:
    return [word for title in titles for word in ("--also", title)]


@pytest.mark.parametrize("law", ["raw", "masked", "normalized"])
def test_the_columns_that_name_titles_are_read_off_the_whole_law(score, law):
    found, _ = score("full", "--titles", "all", "--law", law, "--keep-law", "--top", 3, *also(*ALSO))
    assert found.named_titles == list(ALSO)
    for title in ALSO:
        column = found.log_p_all[:, HARD_TITLES.index(title)]
        np.testing.assert_allclose(found.log_p_of(title), column, rtol=1e-6)
    top, rows = found.top, np.arange(len(found))[:, None]
    assert (top.titles == np.argsort(-found.log_p_all, axis=1, kind="stable")[:, :3]).all()
    share = found.log_p_all[rows, top.titles]
    if law == "raw":
        np.testing.assert_allclose(top.log_p, share, rtol=1e-6)
        share = share - np.log(found.title_mass)[:, None]
    np.testing.assert_allclose(top.lower, np.exp(share), rtol=1e-5)
    assert (top.lower == top.upper).all()
    assert top.exact.all()


def test_top_of_more_titles_than_there_are_is_the_whole_law_in_order(score):
    found, _ = score("full", "--titles", "all", "--top", 99)
    assert found.top.titles.shape[1] == len(HARD_TITLES)
    np.testing.assert_allclose(found.top.lower.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("law", ["raw", "masked"])
def test_the_best_titles_that_were_searched_for_are_those_of_the_whole_law(score, law):
    searched, _ = score("full", "--law", law, "--top", 3)
    whole, _ = score("full", "--titles", "all", "--law", law, "--top", 3)
    gaps = np.diff(whole.top.log_p, axis=1)
    assert ((searched.top.titles == whole.top.titles)[:, :-1] | (np.abs(gaps) < 1e-5)).all()
    np.testing.assert_allclose(searched.top.log_p, whole.top.log_p, atol=1e-5)
    assert (searched.top.lower <= whole.top.lower * (1 + 1e-5)).all()
    assert (whole.top.upper <= searched.top.upper * (1 + 1e-5)).all()
    np.testing.assert_allclose(searched.log_p, whole.log_p, atol=1e-5)


@pytest.mark.parametrize("law", ["raw", "masked"])
def test_further_titles_behind_the_prompts_get_what_the_whole_law_gives_them(score, law):
    observed, cost = score("full", "--law", law, *also(*ALSO, HARD_TITLES[0]))
    whole, _ = score("full", "--titles", "all", "--law", law, *also(*ALSO, HARD_TITLES[0]))
    without, less = score("full", "--law", law)
    for title in (*ALSO, HARD_TITLES[0]):
        np.testing.assert_allclose(observed.log_p_of(title), whole.log_p_of(title), atol=1e-5)
        happened = observed.observed == HARD_TITLES.index(title)
        assert (observed.log_p_of(title)[happened] == observed.log_p[happened]).all()
    np.testing.assert_allclose(observed.log_p_previous, without.log_p_previous, atol=1e-5)
    assert cost["rows_of_resumes"] == less["rows_of_resumes"]
    assert cost["rows_of_titles"] > less["rows_of_titles"]
    rows = cost["rows_of_resumes"] + cost["rows_of_titles"]
    assert cost["rows_forwarded"] == rows
    assert cost["rows_per_transition"] == round(rows / len(observed), 2)


def test_a_title_that_is_not_on_the_list_is_refused_with_the_nearest(folder, run, tmp_path):
    command = ("score", folder / "full", folder / "panel.parquet", "--dataset", "TEST", "-o", tmp_path / "p.parquet")
    code, _, err = run(*command, "--also", "Physician")
    assert code == 1
    assert "'Physician' is none of the 8 titles; nearest are 'Physicians'" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("model", "same"), [("full", False), ("two-stage", True)])
def test_shards_together_are_the_run_as_one(score, run, tmp_path, model, same):
    whole, _ = score(model, "--top", 2, "--titles", "all", *also(*ALSO), output="whole.parquet")
    (tmp_path / "shards").mkdir()
    sizes = [
        len(
            score(
                model, "--top", 2, "--titles", "all", *also(*ALSO), "--shard", f"{i}/3", output=f"shards/{i}.parquet"
            )[0]
        )
        for i in range(3)
    ]
    assert min(sizes) > 0
    together = Predictions.read(tmp_path / "shards")
    assert together.metadata == whole.metadata
    for name in ("dataset", "worker_id", "year", "previous", "occupation"):
        assert together.table[name].equals(whole.table[name])
    np.testing.assert_allclose(together.log_p, whole.log_p, atol=0 if same else 1e-5)
    np.testing.assert_allclose(together.log_p_of(ALSO[0]), whole.log_p_of(ALSO[0]), atol=0 if same else 1e-5)
    code, out, err = run("evaluate", tmp_path / "shards", tmp_path / "whole.parquet", "--json")
    assert code == 0, err
    one, other = json.loads(out)
    assert one["perplexity"] == pytest.approx(other["perplexity"], rel=1e-6)


def test_a_shard_without_workers_is_a_whole_file(score):
    sizes = [len(score("full", "--shard", f"{i}/64")[0]) for i in range(3)]
    assert min(sizes) == 0


def test_merged_adapters_give_the_law_of_the_model_with_adapters(folder, score, tmp_path):
    found, facts = score("lora", "--titles", "all")
    model = load_model(folder / "lora")
    panel = Panel.read(folder / "panel.parquet", occupations=model.occupations, dataset="TEST")
    unmerged = model.predict(panel, titles="all")
    gap = np.abs(found.log_p_raw - unmerged.log_p_raw).max()
    assert 0 < facts["merge_gap"] <= 1e-3
    assert gap <= 1e-3
    off_the_shelf = LanguageModel(folder / "base", options=TrainingOptions(epochs=0)).fit(panel, panel)
    assert np.abs(off_the_shelf.predict(panel).log_p_raw - found.log_p_raw).max() > 0.1
    model.save(tmp_path / "again")
    model.for_scoring()
    with pytest.raises(ModelError, match="merged and cast for scoring"):
        model.save(tmp_path / "merged")
    with pytest.raises(ModelError, match="merged and cast for scoring"):
        model.export(tmp_path / "merged")


@pytest.mark.parametrize("model", ["lora", "full"])
def test_the_weights_are_cast_once_and_the_file_says_to_what(score, model):
    wide, facts = score(model)
    assert (wide.metadata["dtype"], facts["dtype"]) == ("float32", "float32")
    assert (facts["merge_gap"] is None) == (model == "full")
    narrow, facts = score(model, "--dtype", "bfloat16", "--max-rows", 128)
    assert narrow.metadata["dtype"] == "bfloat16"
    assert 1e-5 < np.abs(narrow.log_p - wide.log_p).max() < 1


def test_merging_in_float32_is_nearer_than_merging_in_bfloat16():
    import torch
    from peft import LoraConfig, get_peft_model

    from laborllm.models.language import merged
    from tests.models import random_model

    def adapted(dtype: torch.dtype):
        torch.manual_seed(1)
        config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
        return get_peft_model(random_model("llama", 50, dtype=dtype), config)

    wide, narrow = adapted(torch.float32), adapted(torch.float32)
    expected = dict(wide.merge_and_unload().named_parameters())
    for name, weight in merged(narrow, torch.bfloat16).to(torch.bfloat16).named_parameters():
        assert torch.equal(weight, expected[name].to(torch.bfloat16)), name


def test_what_needs_a_model_that_runs_is_refused_for_counts(folder, run, tmp_path):
    command = ("score", folder / "two-stage", folder / "panel.parquet", "-o", tmp_path / "p.parquet")
    for option in (("--dtype", "float32"), ("--max-rows", 128)):
        code, _, err = run(*command, *option)
        assert code == 1
        assert f"leave out {option[0]}" in err
    assert run(*command, "--titles", "all", "--top", 2)[0] == 0
    found = Predictions.read(tmp_path / "p.parquet")
    assert found.log_p_all is None
    assert found.top.titles.shape == (len(found), 2)


# Runs that are cut off

CHILD = """
import sys
from laborllm import scoring
scoring.PART_WORKERS = {"observed": 3, "all": 3}
from laborllm.cli import main
main()
"""


def test_a_killed_run_goes_on_where_it_was_and_writes_the_same_predictions(folder, score, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "PART_WORKERS", {"observed": 3, "all": 3})
    options = ("--titles", "all", "--top", 2, *also(ALSO[0]))
    expected, _ = score("full", *options, output="undisturbed.parquet")
    output = tmp_path / "killed.parquet"
    arguments = ["score", folder / "full", folder / "panel.parquet", *options, "--dataset", "TEST", "-o", output]
    parts = tmp_path / f".{output.name}.parts"
    for wanted in (1, 4):
        child = subprocess.Popen([sys.executable, "-c", CHILD, *map(str, arguments)], stderr=subprocess.DEVNULL)
        while child.poll() is None and len(list(parts.glob("*.parquet"))) < wanted:
            time.sleep(0.002)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert len(list(parts.glob("*.parquet"))) >= wanted
        assert not output.exists()
    kept = [Predictions.read(part) for part in sorted(parts.glob("*.parquet"))]
    found, facts = score("full", *options, output=output.name)
    assert 4 <= facts["parts_kept"] < 8
    assert not parts.exists()
    check_comparable(found, expected)
    assert found.metadata == expected.metadata
    np.testing.assert_allclose(found.log_p, expected.log_p, rtol=0, atol=1e-5)  # processes may round otherwise
    log_p = np.concatenate([part.log_p for part in kept])
    assert found.log_p[: len(log_p)].tobytes() == log_p.tobytes()


def test_finished_parts_that_are_damaged_are_made_anew_with_one_note(folder, run, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "PART_WORKERS", {"observed": 6, "all": 6})
    output = tmp_path / "p.parquet"
    command = ("score", folder / "full", folder / "panel.parquet", "--dataset", "TEST", "-o", output, "--json")
    whole = LanguageModel.predict
    calls = []

    def breaks(self, part, **options):
        calls.append(part)
        if len(calls) == 4:
            raise ModelError("the device is gone; call it back")
        return whole(self, part, **options)

    monkeypatch.setattr(LanguageModel, "predict", breaks)
    code, _, err = run(*command)
    assert code == 1
    assert "3 of 4 parts are finished and kept" in err
    parts = sorted((tmp_path / ".p.parquet.parts").iterdir())
    assert len(parts) == 3
    parts[0].write_bytes(parts[0].read_bytes()[:-1])
    code, out, err = run(*command)
    assert code == 0, err
    assert json.loads(out)["parts_kept"] == 2
    assert err.count("are damaged; they are made anew") == 1
    assert "Error" not in err
    assert [file.name for file in tmp_path.iterdir()] == ["p.parquet"]


def test_the_whole_law_of_a_whole_run_is_refused_before_it_is_computed(folder, run, tmp_path, monkeypatch):
    monkeypatch.setattr("laborllm.prediction_form.WHOLE_LAW_LIMIT", 1_000)
    output = tmp_path / "p.parquet"
    options = ("--titles", "all", "--keep-law", "--dataset", "TEST", "-o", output)
    code, _, err = run("score", folder / "full", folder / "panel.parquet", *options)
    assert code == 1
    assert "split the panel" in err


def test_casting_for_scoring_leaves_rotary_frequencies_as_they_are(folder):
    model = load_model(folder / "full")
    before = {name: buffer.clone() for name, buffer in model.scorer.model.named_buffers()}
    model.for_scoring(dtype="bfloat16")
    assert {weights.dtype for weights in model.scorer.model.parameters()} == {torch.bfloat16}
    for name, buffer in model.scorer.model.named_buffers():
        assert buffer.dtype == before[name].dtype
        assert torch.equal(buffer, before[name])
