from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from laborllm.errors import PanelError
from laborllm.models.histories import Histories
from tests.panels import panel_of, panels, rows_of

LEVELS = ("high school", "collège")


@given(panel=panels(), pick=...)
def test_histories_are_those_of_a_loop_over_each_career(panel, pick: int):
    targets = np.random.default_rng(pick % 2**32).random(panel.num_rows) < 0.7
    histories = Histories(panel.with_targets(targets))
    states, years, place = panel.states().tolist(), panel.years().tolist(), 0
    for start, stop in zip(panel.starts[:-1].tolist(), panel.starts[1:].tolist(), strict=True):
        for row in range(start, stop):
            if not targets[row]:
                continue
            past = states[start:row]
            tenure = next((n for n, state in enumerate(reversed(past)) if state != past[-1]), len(past))
            expected = {
                "row": row,
                "position": len(past),
                "occupation": states[row],
                "previous": past[-1] if past else -1,
                "second": past[-2] if len(past) > 1 else -1,
                "before": past[-1 - tenure] if tenure < len(past) else -1,
                "tenure": tenure,
                "year": years[row],
                "gap": years[row] - years[row - 1] if past else 0,
            }
            found = {name: getattr(histories, name)[place] for name in expected}
            assert found == expected
            place += 1
    assert place == len(histories)


@given(panel=panels())
def test_words_are_the_first_known_trait_the_education_of_the_row_and_anything_else_of_the_first_row(panel):
    table, histories = panel.table.to_pylist(), Histories(panel)
    columns = {name: histories.words(name).to_pylist() for name in ("gender", "birth_year", "education", "region")}
    for start, stop in zip(panel.starts[:-1].tolist(), panel.starts[1:].tolist(), strict=True):
        rows = table[start:stop]
        for place in range(start, stop):
            for name in ("gender", "birth_year"):
                first = next((row[name] for row in rows if row[name] is not None), None)
                assert columns[name][place] == (None if first is None else str(first))
            assert columns["education"][place] == table[place]["education"]
            assert columns["region"][place] == rows[0]["region"]


@given(panel=panels())
def test_codes_are_places_among_the_known_words_then_null_then_anything_else(panel):
    histories = Histories(panel)
    for word, code in zip(histories.words("education").to_pylist(), histories.codes("education", LEVELS), strict=True):
        assert code == (2 if word is None else LEVELS.index(word) if word in LEVELS else 3)


def test_a_trait_that_is_null_at_first_is_known_all_along():
    table = rows_of((1, 1990, "Cooks"), (1, 1991, "Cooks"), (2, 1990, "Cooks"), gender=[None, "female", "male"])
    assert Histories(panel_of(table)).words("gender").to_pylist() == ["female", "female", "male"]


def test_a_number_that_is_none_is_null_and_a_list_is_no_trait():
    rows = ((1, 1990, "Cooks"), (2, 1990, "Cooks"))
    numbers = panel_of(rows_of(*rows, education=[float("nan"), 12.0]))
    assert Histories(numbers).words("education").to_pylist() == [None, "12"]
    with pytest.raises(PanelError, match="'education' holds list"):
        Histories(panel_of(rows_of(*rows, education=[["a"], ["b"]]))).words("education")
