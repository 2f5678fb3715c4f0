"""The large cases: a model trained on a world of known law, a million rows against the slow twin."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.long]

from benches.bench_markov_world import compare
from benches.bench_resumes import make_rows
from laborllm.encoder import PanelEncoder
from laborllm.fragments import without_tail
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.resume import Template, render, render_plain
from laborllm.synth import World
from laborllm.tokens import encode
from tests.families import FAMILIES, family
from tests.panels import real_panel
from tests.samples import survey


@pytest.mark.filterwarnings("ignore:encoding whole texts:UserWarning")  # the world's template has no header
def test_tuned_counts_and_a_tiny_model_from_scratch_come_near_the_optimum_of_a_markov_world():
    ratios = compare(workers=20_000, epochs=3)["ratio_to_optimum"]
    assert ratios["markov"] <= 1.01
    assert ratios["tiny language model, raw"] <= 1.10
    assert min(ratios.values()) > 0.99


def test_a_million_shuffled_rows_are_rendered_as_the_slow_twin_renders_them():
    world = World.named("markov-50")
    shares = {"gender": {"female": 0.5, "male": 0.5}, "race": {"black": 0.3, "white": 0.7}}
    table = world.simulate(62_500, 16, covariates=shares)
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    panel = Panel.from_arrow(shuffled, occupations=world.occupations, dataset="WORLD")
    template = Template.load("labor-llm")
    fast = [text for batch in render(panel, template) for text in batch["resume"].to_pylist()]
    assert fast == render_plain(panel, template)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_million_resumes_have_the_ids_that_the_tokenizer_gives_for_their_whole_text(name):
    rows, occupations = make_rows(1_000_000, shuffle=False)
    panel = Panel.from_arrow(rows, occupations=occupations, dataset="PSID")
    tokenizer = family(name, full=True)
    encoder = PanelEncoder(tokenizer, occupations, Template.load("labor-llm").bind(panel.table.column_names))
    for start in range(0, panel.num_workers, 50_000):
        part = panel.slice_workers(start, start + 50_000)
        found = encoder(part)
        texts = (text for batch in render(part, encoder.template) for text in batch["resume"].to_pylist())
        for index, ids in enumerate(without_tail(tokenizer, list(texts))):
            assert found.text(index).tolist() == ids


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("survey", ["nlsy97", "nlsy79"])
def test_every_real_career_has_the_same_ids_both_ways(name, survey):
    panel = real_panel(survey)
    template = Template.load("labor-llm")
    encoder = PanelEncoder(family(name, full=True), panel.occupations, template.bind(panel.table.column_names))
    expected = encode(render(panel, template), encoder.tokenizer, units=encoder.units)
    found = encoder(panel)
    for field, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, field), values)


def test_a_model_of_real_careers_writes_titles_and_nothing_else(tmp_path, run):
    folder = survey("nlsy97")
    rows = pq.read_table(folder / "careers.parquet")
    workers = pc.unique(rows["worker_id"]).slice(0, 400)
    pq.write_table(rows.filter(pc.is_in(rows["worker_id"], workers)), tmp_path / "panel.parquet")
    pq.write_table(rows.filter(pc.is_in(rows["worker_id"], workers.slice(0, 60))), tmp_path / "few.parquet")
    common = ("--occupations", folder / "occupations.csv", "--dataset", "NLSY97")
    assert run("base", tmp_path / "panel.parquet", *common, "-o", tmp_path / "base")[0] == 0
    options = ("--base", tmp_path / "base", "--epochs", 1, "-o", tmp_path / "model")
    assert run("train", tmp_path / "panel.parquet", *common, *options)[0] == 0
    titles = set(Occupations.read(folder / "occupations.csv").titles)
    for way, each in (((), 1), (("--beams", 4), 1), (("--samples", 5), 5)):
        code, out, err = run("generate", tmp_path / "model", "--history", tmp_path / "few.parquet", *way)
        assert code == 0, err
        decoded = [json.loads(line) for line in out.splitlines()]
        assert len(decoded) == 60 * each
        assert {line["title"] for line in decoded} <= titles
