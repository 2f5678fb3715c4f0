"""Panels in every layout are the panel of the plain Python twin, or are refused with worker and row."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings

from laborllm.errors import PanelError
from laborllm.resume import Template, render
from tests.layouts import TEMPLATE, Case, draw_case, twin
from tests.panels import OCCUPATIONS, panel_of, rows_of

MILLION = 1_000_000


def texts(panel: object, **options: object) -> list[str]:
    return [text for batch in render(panel, TEMPLATE, **options) for text in batch["resume"].to_pylist()]


def check(case: Case) -> None:
    """In memory, and as a stream where the rows ascend."""
    check_one(case, lambda: texts(panel_of(case.table)), either="")
    if case.refusal or case.ascends:
        check_one(case, lambda: texts(_reader(case), occupations=OCCUPATIONS), either=" comes after worker ")


def check_one(case: Case, source: Callable[[], list[str]], *, either: str) -> None:
    """The twin's texts, or the twin's refusal (a stream's fall may come first)."""
    if case.refusal is None:
        assert source() == twin(case.rows)
        return
    with pytest.raises(PanelError) as error:
        source()
    message = str(error.value)
    assert case.refusal in message or (either and either in message), message
    assert "\n" not in message


def _reader(case: Case) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(case.batches[0].schema, case.batches)


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_panel_in_any_layout_is_that_of_the_twin(choose: random.Random) -> None:
    check(draw_case(choose))


def tagged(tags: list[str | None], workers: list[int]) -> pa.RecordBatchReader:
    """A stream of rows, one a year."""
    rows = [(worker, 1990 + row, "Cooks") for row, worker in enumerate(workers)]
    return rows_of(*rows, dataset=tags).to_reader()


def careers_of(reader: pa.RecordBatchReader) -> list[str]:
    plain = Template("plain", 1, "worker {worker_id}\n", "{year}: {title}\n", "")
    return [text for batch in render(reader, plain, occupations=OCCUPATIONS) for text in batch["resume"].to_pylist()]


def test_a_dataset_that_is_null_in_one_piece_of_a_stream_and_known_in_another_is_refused(monkeypatch) -> None:
    monkeypatch.setattr("laborllm.stream.PIECE_ROWS", 1)
    with pytest.raises(PanelError, match=r"null dataset in row 0 \(counted from 0\)"):
        careers_of(tagged([None, None, "A", "A"], [1, 1, 2, 2]))


def test_null_and_empty_datasets_are_one_worker_wherever_a_stream_is_cut(monkeypatch) -> None:
    monkeypatch.setattr("laborllm.stream.PIECE_ROWS", 1)
    assert careers_of(tagged([None, "", None, ""], [1, 1, 2, 2])) == [
        "worker 1\n1990: Cooks\n1991: Cooks\n",
        "worker 2\n1992: Cooks\n1993: Cooks\n",
    ]


def check_seeds(first: int, stop: int) -> int:
    for seed in range(first, stop):
        try:
            check(draw_case(random.Random(seed)))  # noqa: S311
        except Exception as error:
            raise AssertionError(f"draw_case(random.Random({seed})): {error}") from error
    return stop - first


def test_a_thousand_seeded_panels_in_any_layout_are_those_of_the_twin() -> None:
    assert check_seeds(MILLION, MILLION + 1_000) == 1_000


@pytest.mark.long
def test_a_million_panels_in_any_layout_are_those_of_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cost: 2 ms of one core for each."""
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    step = 5_000
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as processes:
        firsts = range(0, MILLION, step)
        assert sum(processes.map(check_seeds, firsts, [first + step for first in firsts])) == MILLION
