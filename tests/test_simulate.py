"""`laborllm simulate`: a world becomes a panel that the next commands take."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.synth import World, careers

FILE = """
titles = ["Cooks", "Clerks", "Führungskräfte, Büro"]
initial = [0.5, 0.5, 0.0]
transition = [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]
"""


@pytest.fixture
def simulated(run, tmp_path):
    """A panel of the world of two types."""
    code, out, err = run("simulate", "two-types", "-n", 300, "--years", 6, "-o", tmp_path / "panel.parquet", "--json")
    assert code == 0, err
    return json.loads(out)


def test_a_simulated_panel_is_fitted_scored_and_evaluated_without_another_word(simulated, run, tmp_path):
    assert (simulated["workers"], simulated["rows"]) == (300, 1800)
    assert simulated["occupations"] == str(tmp_path / "panel.occupations.csv")
    options = ("--occupations", simulated["occupations"])
    assert run("fit", "markov", simulated["output"], *options, "-o", tmp_path / "m")[0] == 0
    scored = tmp_path / "p.parquet"
    assert run("score", tmp_path / "m", simulated["output"], "--split", "test", "-o", scored)[0] == 0
    code, out, err = run("evaluate", scored, "--json", "--draws", 50)
    assert code == 0, err
    assert 1 < json.loads(out)[0]["perplexity_history"] < 20
    assert run("resumes", simulated["output"], *options, "-o", tmp_path / "r.parquet")[0] == 0
    assert (
        pq.read_table(tmp_path / "r.parquet")["resume"][0].as_py().startswith("<A worker from the two-types dataset>")
    )


def test_the_file_holds_the_careers_of_the_world_and_the_split_of_the_project(simulated, monkeypatch, run, tmp_path):
    world = World.named("two-types")
    occupations = Occupations.read(simulated["occupations"])
    assert occupations == world.occupations
    found = Panel.read(simulated["output"], occupations=occupations)
    expected = Panel.from_arrow(world.simulate(300, 6), occupations=occupations, dataset="two-types")
    expected = expected.with_split({"train": 0.7, "val": 0.1, "test": 0.2})
    assert found.table.column_names == expected.table.column_names
    for name in expected.table.column_names:
        assert found.column(name).to_pylist() == expected.column(name).to_pylist(), name
    monkeypatch.setattr(careers, "BATCH_ROWS", 1)
    again = ("-n", 300, "--years", 6, "--threads", 3, "-o", tmp_path / "again.parquet")
    assert run("simulate", "two-types", *again)[0] == 0
    assert pq.read_table(tmp_path / "again.parquet").equals(pq.read_table(simulated["output"]))


def test_a_world_of_ones_own_is_a_file_and_the_list_goes_where_it_is_told(run, tmp_path):
    (tmp_path / "own.toml").write_text(FILE, encoding="utf-8")
    output = ("-o", tmp_path / "panel.parquet", "--occupations-out", tmp_path / "list.csv", "--seed", 3)
    code, _, err = run("simulate", tmp_path / "own.toml", "-n", 40, "--dataset", "OWN", *output)
    assert code == 0, err
    panel = Panel.read(tmp_path / "panel.parquet", occupations=Occupations.read(tmp_path / "list.csv"))
    assert panel.datasets == ["OWN"]
    world = World.read(tmp_path / "own.toml")
    assert panel.states().reshape(40, 16).tolist() == world.simulate_states(40, 16, seed=3).tolist()
    assert panel.occupations.titles[2] == "Führungskräfte, Büro"


def test_what_cannot_be_simulated_is_one_line_and_leaves_no_file(run, tmp_path):
    (tmp_path / "bad.toml").write_text(FILE.replace("[0.0, 0.5, 0.5]", "[0.0, 0.5, 0.6]"), encoding="utf-8")
    (tmp_path / "taken.csv").write_text("mine")
    output = ("-o", tmp_path / "panel.parquet")
    for arguments, words in (
        (("nowhere",), "named worlds are markov-50"),
        ((tmp_path / "bad.toml",), "bad.toml: the law after 'Clerks'"),
        (("two-types", "--occupations-out", tmp_path / "taken.csv"), "taken.csv exists"),
    ):
        code, out, err = run("simulate", *arguments, "-n", 4, *output)
        assert (code, out) == (1, "")
        assert words in err
        assert len(err.strip().splitlines()) == 1
    assert run("simulate", "two-types", "-n", 0, *output)[0] == 2
    assert run("simulate", "two-types", "-n", 4, "-o", tmp_path / "panel.csv")[0] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.toml", "taken.csv"]
