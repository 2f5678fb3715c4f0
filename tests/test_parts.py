"""A run in parts gives what one run gives, whatever cut it off, and takes over nothing that is not its own."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from laborllm.errors import FileError, PredictionsError
from laborllm.models.counts import Markov
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.parts import Parts
from laborllm.predictions import Predictions
from tests.samples import HARD_TITLES, careers

OPTIONS = {"law": "raw", "also": ["Cooks"]}


@pytest.fixture(scope="module")
def panel() -> Panel:
    table = careers(HARD_TITLES, workers=30, years=4)
    return Panel.from_arrow(table, occupations=Occupations.from_titles(HARD_TITLES), dataset="TEST")


@pytest.fixture(scope="module")
def model(panel) -> Markov:
    return Markov(next_backoff=1.0, first_backoff=1.0).fit(panel, panel)


class StoppedError(Exception):
    """What ends a run in the middle."""


def predictor(model: Markov, *, stop_after: int = 99):
    """A predictor that counts its calls in `.calls`, and fails after some."""

    def predict(part: Panel) -> Predictions:
        if len(calls) == stop_after:
            raise StoppedError
        calls.append(part.num_workers)
        return model.predict(part, also=["Cooks"], top=2, keep_law=True)

    calls: list[int] = []
    predict.calls = calls
    return predict


def parts(panel, folder, *, workers: int = 7, **options: object) -> Parts:
    return Parts(panel, folder, workers=workers, options=OPTIONS | options)


def cut_off(panel, folder, model, *, after: int) -> None:
    with pytest.raises(StoppedError):
        parts(panel, folder).predictions(predictor(model, stop_after=after))
    assert len(list(folder.glob("*.parquet"))) == after


def content(predictions, path) -> bytes:
    predictions.write(path, overwrite=True)
    return path.read_bytes()


@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_run_that_was_cut_off_goes_on_and_gives_the_same_bytes(panel, model, tmp_path, after):
    undisturbed = parts(panel, tmp_path / "a").predictions(predictor(model))
    cut_off(panel, tmp_path / "b", model, after=after)
    again, predict = parts(panel, tmp_path / "b"), predictor(model)
    assert again.rows_left == int(panel.starts[-1] - panel.starts[7 * after])
    done = again.predictions(predict)
    assert predict.calls == [7, 7, 7, 7, 2][after:]
    assert content(done, tmp_path / "p.parquet") == content(undisturbed, tmp_path / "q.parquet")
    again.remove()
    assert not (tmp_path / "b").exists()


def test_parts_together_are_the_run_as_one(panel, model, tmp_path):
    whole = predictor(model)(panel)
    cut = parts(panel, tmp_path / "a").predictions(predictor(model))
    assert cut.table.equals(whole.table)
    assert cut.metadata == whole.metadata


def test_one_part_alone_is_not_written(panel, model, tmp_path):
    parts(panel, tmp_path / "a", workers=30).predictions(predictor(model))
    assert not (tmp_path / "a").exists()


def test_a_damaged_part_is_made_anew(panel, model, tmp_path):
    cut_off(panel, tmp_path / "a", model, after=3)
    file = sorted((tmp_path / "a").iterdir())[1]
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    again, predict = parts(panel, tmp_path / "a"), predictor(model)
    assert (again.strange, sorted(again.kept)) == (1, [0, 2])
    again.predictions(predict)
    assert predict.calls == [7, 7, 2]


@pytest.mark.parametrize("what", ["options", "workers", "a row", "targets", "occupations"])
def test_parts_of_other_rows_or_options_are_not_taken_over(panel, model, tmp_path, what):
    cut_off(panel, tmp_path / "a", model, after=3)
    changed = panel
    if what == "a row":
        table = panel.table.set_column(2, "year", pa.array(panel.years() - (np.arange(panel.num_rows) == 0)))
        changed = Panel.from_arrow(table, occupations=panel.occupations)
    elif what == "targets":
        changed = panel.with_targets(np.arange(panel.num_rows) > 0)
    elif what == "occupations":
        table = panel.table.set_column(3, "occupation", panel.table["occupation"].cast(pa.large_string()))
        changed = Panel.from_arrow(table, occupations=Occupations.from_titles((*HARD_TITLES, "Bakers")))
    options = {"law": "masked"} if what == "options" else {}
    again = parts(changed, tmp_path / "a", workers=8 if what == "workers" else 7, **options)
    lost = 1 if what in {"a row", "targets"} else 3
    assert (again.strange, again.others, len(again.kept)) == (0, lost, 3 - lost)
    again.remove()
    assert len(list((tmp_path / "a").iterdir())) == lost  # what belongs to another run is its own


def test_what_a_killed_run_left_half_written_is_removed_and_foreign_files_stay(panel, model, tmp_path):
    cut_off(panel, tmp_path / "a", model, after=2)
    mine = parts(panel, tmp_path / "a")._names[2]
    for name in (f".{mine}.tmp", f"..{mine}.tmp.1f.tmp", "notes.txt"):
        (tmp_path / "a" / name).write_text("x")
    again = parts(panel, tmp_path / "a")
    assert (again.strange, len(again.kept)) == (0, 2)
    again.predictions(predictor(model))
    again.remove()
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["notes.txt"]


def test_a_file_in_the_place_of_the_folder_is_an_error_before_any_work(panel, tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(FileError, match="is no folder"):
        parts(panel, tmp_path / "a")


def test_a_panel_without_workers_is_one_empty_part(panel, model, tmp_path):
    done = parts(panel.slice_workers(0, 0), tmp_path / "a").predictions(predictor(model))
    assert len(done) == 0
    done.write(tmp_path / "p.parquet")
    assert Predictions.read(tmp_path / "p.parquet").table.equals(done.table)


# Folders of shards


@pytest.fixture
def shards(panel, model, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    for i in range(3):
        predictions = predictor(model)(panel.shard(i, 3))
        predictions.metadata["shard"] = [i, 3]
        predictions.write(folder / f"{9 - i}.parquet")
    return folder


def test_a_folder_of_shards_is_the_run_as_one(panel, model, shards):
    (shards / ".hidden.parquet").write_text("no predictions")
    together, whole = Predictions.read(shards), predictor(model)(panel)
    assert together.table.equals(whole.table)
    assert together.metadata == whole.metadata


def test_a_folder_that_lacks_a_shard_names_it(shards):
    (shards / "8.parquet").unlink()
    with pytest.raises(PredictionsError, match=r"lacks 1 of 3 shards \(1/3\)"):
        Predictions.read(shards)


def test_a_worker_and_year_in_two_files_names_both(panel, model, tmp_path):
    for name, part in (("a", panel.slice_workers(0, 20)), ("b", panel.slice_workers(19, 30))):
        predictor(model)(part).write(tmp_path / f"{name}.parquet")
    with pytest.raises(PredictionsError, match=r"two predictions for worker 19 of 'TEST' .*a\.parquet and b\.parquet"):
        Predictions.read(tmp_path)


def test_files_of_different_runs_in_a_folder_are_refused(panel, model, tmp_path):
    model.predict(panel.slice_workers(0, 20)).write(tmp_path / "a.parquet")
    other = Markov(next_backoff=2.0, first_backoff=1.0).fit(panel, panel)
    other.predict(panel.slice_workers(20, 30)).write(tmp_path / "b.parquet")
    with pytest.raises(PredictionsError, match=r"a\.parquet and b\.parquet .* differ \(model_hash"):
        Predictions.read(tmp_path)
    model.predict(panel.slice_workers(20, 30), top=2).write(tmp_path / "b.parquet", overwrite=True)
    with pytest.raises(PredictionsError, match=r"differ \(columns .*top"):
        Predictions.read(tmp_path)
