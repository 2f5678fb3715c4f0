"""The wheel runs where there is neither Rust nor this source tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from laborllm.occupations import Occupations
from tests.samples import HARD_TITLES, careers

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "maturin", "build", "--release", "--sdist", "--out", str(folder), "--quiet"]
    subprocess.run(command, cwd=ROOT, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_is_abi3_and_carries_templates_page_titles_and_types(wheel):
    assert "cp311-abi3" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "templates/labor-llm.toml",
        "report/page.html.jinja",
        "data/occ1990dd.csv",
        "data/worlds/two-types.toml",
        "py.typed",
        "_core.pyi",
    ):
        assert f"laborllm/{needed}" in names
    assert len(list(wheel.parent.glob("*.tar.gz"))) == 1


def test_in_an_empty_environment_it_renders_resumes_and_fits_a_count_model(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    binaries = tmp_path / "venv" / "bin"
    subprocess.run([binaries / "python", "-m", "pip", "install", "--quiet", wheel], check=True)
    pq.write_table(careers(HARD_TITLES, workers=40), tmp_path / "panel.parquet")
    pq.write_table(Occupations.from_titles(HARD_TITLES).to_table(), tmp_path / "occupations.parquet")

    def run(*arguments: str) -> dict[str, object]:
        options = ["--occupations", "occupations.parquet", "--dataset", "TEST", "--json"]
        alone = {"PATH": str(binaries), "HOME": os.environ.get("HOME", "/")}
        command = [binaries / "laborllm", *arguments, *options]
        done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    assert run("resumes", "panel.parquet", "-o", "resumes.parquet")["workers"] == 40
    run("split", "panel.parquet", "-o", "split.parquet")
    assert run("fit", "markov", "split.parquet", "-o", "markov")["model"] == "markov"
    assert pq.read_table(tmp_path / "resumes.parquet").num_rows == 40
