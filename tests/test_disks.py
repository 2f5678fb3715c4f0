"""Disks that fill: one line that names the output, exit 1, and no file under any name."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from laborllm.errors import FileError
from tests.panels import OCCUPATIONS
from tests.test_stream import some_careers, stream_of

LIMIT = 1 << 17


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process grows beyond `LIMIT`: the write fails as on a full disk (Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a quarter of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    pq.write_table(some_careers(20_000), folder / "panel.parquet")
    pq.write_table(some_careers(20_000).sort_by([("worker_id", "descending")]), folder / "falling.parquet")
    pq.write_table(OCCUPATIONS.to_table(), folder / "occupations.parquet")
    return folder


def arguments(command: str, inputs: Path) -> list[object]:
    given = [command, inputs / "panel.parquet", "--occupations", inputs / "occupations.parquet", "--dataset", "T"]
    return given if command == "resumes" else [*given, "--tokenizer", _tokenizer(inputs / "tokenizer")]


def _tokenizer(folder: Path) -> Path:
    if not folder.exists():
        from transformers import PreTrainedTokenizerFast

        from tests.families import family

        PreTrainedTokenizerFast(tokenizer_object=family("gpt-2")).save_pretrained(folder)
    return folder


COMMANDS = pytest.mark.parametrize("command", ["resumes", pytest.param("tokens", marks=pytest.mark.torch)])


def assert_one_line_and_no_file(result: tuple[int, str, str], folder: Path) -> None:
    code, out, err = result
    lines = [line for line in err.splitlines() if line.strip()]
    assert (code, out, len(lines)) == (1, "", 1), err
    assert "out.parquet could not be written (" in lines[0]
    assert lines[0].endswith("is unchanged")
    assert list(folder.iterdir()) == []


@COMMANDS
def test_an_output_that_outgrows_the_limit_of_the_process_leaves_nothing(run, command, inputs, tmp_path, request):
    given = arguments(command, inputs)
    request.getfixturevalue("small_files")
    assert_one_line_and_no_file(run(*given, "-o", tmp_path / "out.parquet"), tmp_path)


@COMMANDS
def test_an_output_on_a_disk_that_fills_leaves_nothing(run, command, inputs, disk):
    assert_one_line_and_no_file(run(*arguments(command, inputs), "-o", disk / "out.parquet"), disk)


@COMMANDS
def test_the_same_output_fits_elsewhere(run, command, inputs, tmp_path):
    code, out, err = run(*arguments(command, inputs), "--json", "-o", tmp_path / "out.parquet")
    assert code == 0, err
    assert json.loads(out)["workers"] == 20_000
    assert (tmp_path / "out.parquet").stat().st_size > 2 * LIMIT


def test_rows_that_cannot_be_sorted_on_a_full_disk_say_where(inputs, disk, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    with pytest.raises(FileError, match=r"could not be sorted on disk in .* set TMPDIR to a folder with room") as error:
        list(stream_of(inputs / "falling.parquet", dataset="T", memory=1 << 20).panels())
    assert str(error.value).isprintable()
    assert list(disk.iterdir()) == []
