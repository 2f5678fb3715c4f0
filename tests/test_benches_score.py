"""The scorer's bench runs in a tiny shape, and its variants agree."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

CASES = ("law", "masked", "observed", "batch", "exact", "rows")
BENCHES = Path(__file__).parents[1] / "benches"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHES))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    import bench_score

    yield bench_score
    torch.set_num_threads(threads)


def test_every_variant_of_the_bench_gives_the_same_law(bench, monkeypatch, tmp_path):
    output = tmp_path / "score.json"
    options = ["--shape", "tiny", "--threads", "1", "--rounds", "1", "--share", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["bench_score.py", *options, "--cases", *CASES])
    bench.main()  # exits where outputs differ
    found = json.loads(output.read_text("utf-8"))["cases"]
    assert set(found) == set(CASES)
    for name, case in found.items():
        assert {"machine", "date", "commit", "threads", "shape", "versions", "load", "tables"} <= set(case)
        (table,) = case["tables"]
        assert table["case"] == name
        assert table["wrong"] == []
    (law,) = found["law"]["tables"]
    assert law["largest_difference"].keys() == law["rows"].keys() - {"laborllm"}
    assert all(share == 1 for share in law["requests_checked"].values())
    marks = {name: [mark["passes"] for mark in case["tables"][0]["marks"]] for name, case in found.items()}
    assert all(marks["exact"] + marks["batch"])


def test_the_memory_of_a_run_is_that_of_its_own_rows(bench):
    import score_checks
    import score_worlds

    found = score_checks.memory_of_one(score_worlds.SHAPES["tiny"], "llama-2", "llama-3")
    assert found["rows"] % found["years"] == 0
    assert abs(found["rows"] - score_worlds.SHAPES["tiny"].memory_rows) < found["rows"] / found["years"]
    assert -0.01 < found["gb"] < 1  # the kernel counts pages in batches
