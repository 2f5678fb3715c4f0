"""The set of states is closed, ordered, named, and the same wherever it travels."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laborllm.errors import OccupationsError
from laborllm.occupations import STATUSES, Occupations

TITLE = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=12)


@given(st.lists(st.tuples(TITLE, st.sampled_from(STATUSES)), min_size=1, max_size=8, unique_by=lambda row: row[0]))
def test_a_set_survives_json_and_arrow_with_its_order_and_hash(rows):
    codes = tuple(str(7 * j) for j in range(len(rows)))
    states = Occupations(codes, tuple(title for title, _ in rows), tuple(status for _, status in rows))
    assert Occupations.from_json(states.to_json()) == states
    assert Occupations.from_arrow(states.to_table()).hash == states.hash
    assert [states.index(title) for title in states.titles] == list(range(len(rows)))


def test_order_titles_codes_and_statuses_all_enter_the_hash():
    states = Occupations(("1", "2"), ("Cooks", "Idle"), ("employed", "not_employed"))
    others = [
        Occupations(("2", "1"), ("Idle", "Cooks"), ("not_employed", "employed")),
        Occupations(("1", "3"), ("Cooks", "Idle"), ("employed", "not_employed")),
        Occupations(("1", "2"), ("Cooks", "Idler"), ("employed", "not_employed")),
        Occupations(("1", "2"), ("Cooks", "Idle"), ("employed", "unemployed")),
    ]
    assert len({states.hash, *(other.hash for other in others)}) == 5


def test_the_packaged_list_holds_330_occupations_and_three_other_states():
    states = Occupations.occ1990dd()
    assert len(states) == 333
    assert states.statuses.count("employed") == 330
    assert states.titles[-3:] == ("Unemployed", "Not in labor force", "In education")
    assert states.prefixes() == [("Physicians", "Physicians' assistants")]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"code": [1, 2], "title": ["Cooks", "Cooks"]}, "'Cooks' stands in rows 0 and 1"),
        ({"code": [1, 1], "title": ["Cooks", "Clerks"]}, "code '1' stands in rows 0 and 1"),
        ({"code": [1], "title": ["two\nlines"]}, "spans lines"),
        ({"code": [1], "title": [" Cooks"]}, "outer space"),
        ({"code": [1], "title": [""]}, "empty"),
        ({"code": [1], "title": [None]}, "holds nulls"),
        ({"code": [1], "name": ["Cooks"]}, "no column 'title'; present are code, name"),
        ({"code": pa.array([], pa.int64()), "title": pa.array([], pa.string())}, "empty"),
        ({"code": [1], "title": ["Cooks"], "status": ["retired"]}, "unknown status 'retired' in row 0"),
    ],
)
def test_a_list_that_is_no_closed_set_is_refused_with_the_row(rows, words):
    with pytest.raises(OccupationsError, match=words):
        Occupations.from_arrow(pa.table(rows))


@pytest.mark.parametrize("character", [*"\0\t\n\v\r\x1b\x7f\x85\u2028\u2029\ud800"])
@pytest.mark.parametrize("column", ["code", "title"])
def test_control_characters_and_line_breaks_are_refused_with_the_row(character, column):
    columns = {"codes": ["1", "2"], "titles": ["Cooks", "Clerks"], "statuses": ["employed"] * 2}
    columns[f"{column}s"][1] = f"a{character}b"
    with pytest.raises(OccupationsError, match=rf"the {column} .* in row 1 is empty, .* or holds control") as error:
        Occupations(**{name: tuple(values) for name, values in columns.items()})
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "title",
    [
        "Cafe\u0301s",
        "\u0301",
        "مدير عام",
        "\u202eskooC\u202c",
        "👩\u200d🚀 pilots",
        "🇩🇪",
        "a\xa0b",
        "</s>",
        "x" * 10_000,
    ],
)
def test_marks_directions_emoji_and_words_of_tokenizers_are_text(title):
    states = Occupations.from_titles(["Cooks", title])
    assert Occupations.from_json(states.to_json()) == states
    assert states.index(title) == 1


@pytest.mark.parametrize("space", [" ", "\xa0", "\u3000", "\u2009"])
def test_outer_space_of_any_kind_is_refused(space):
    for title in (f"Cooks{space}", f"{space}Cooks"):
        with pytest.raises(OccupationsError, match="outer space"):
            Occupations.from_titles([title])


def test_a_title_outside_the_set_names_the_nearest():
    with pytest.raises(OccupationsError, match="nearest are 'Cooks'"):
        Occupations.from_titles(["Cooks", "Clerks"]).index("Cook")


def test_a_union_keeps_the_first_order_and_refuses_one_code_with_two_titles():
    first = Occupations(("1", "2"), ("Cooks", "Clerks"), ("employed", "employed"))
    second = Occupations(("3", "1"), ("Idle", "Cooks"), ("not_employed", "employed"))
    assert Occupations.union(first, second).titles == ("Cooks", "Clerks", "Idle")
    clash = Occupations(("2",), ("Bakers",), ("employed",))
    with pytest.raises(OccupationsError, match="'2' names 'Clerks' in one list and 'Bakers'"):
        Occupations.union(first, clash)
