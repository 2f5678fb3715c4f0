"""The benches of a GPU run without one, on small cases, and compare their outputs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

GPU = Path(__file__).parents[1] / "benches" / "gpu"


def test_the_bench_of_the_scorer_finds_one_law_by_every_way(tmp_path):
    out = tmp_path / "score.json"
    command = [sys.executable, GPU / "bench_score.py", "--device", "cpu", "--shape", "tiny", "--out", out]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for line in ("whole law, flex", "whole law, sdpa", "masked law", "observed", "strings", "cache, loop"):
        assert f"  {line}: " in ran.stdout
    assert ran.stdout.endswith("outputs agree within the bounds\n")
    assert not out.exists()
