"""The trained tokenizers have the properties of the released ones that the fragments of resumes rest on."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.resume import Template, render
from laborllm.tokens import encode, title_units
from tests.families import FAMILIES, SPACE, family, family_path
from tests.samples import HARD_TITLES, careers

ENDS = {"llama-2": (["<s>"], []), "llama-3": (["<|begin_of_text|>"], []), "gpt-2": ([], []), "unigram": ([], ["<EOD>"])}
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=SPACE))


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=50, deadline=None)
@given(text=ANY_TEXT)
def test_every_text_can_be_spelled_and_read_back(name, text):
    tokenizer = family(name)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize("name", FAMILIES)
def test_the_tokens_in_front_and_behind_are_those_of_the_released_tokenizer(name):
    tokenizer = family(name)
    bare = tokenizer.encode("Cooks", add_special_tokens=False).tokens
    first, last = ENDS[name]
    assert tokenizer.encode("Cooks").tokens == [*first, *bare, *last]


@pytest.mark.parametrize("name", ["llama-2", "unigram"])
def test_no_piece_holds_a_newline_beside_others_or_a_space_behind_others(name):
    vocabulary = family(name).get_vocab()
    assert [piece for piece in vocabulary if "\n" in piece and piece != "\n"] == []
    assert [piece for piece in vocabulary if SPACE in piece.lstrip(SPACE)] == []


def test_llama_2_merges_every_pair_that_makes_a_piece_in_the_order_of_the_pieces():
    model = json.loads(family("llama-2").to_str())["model"]
    pieces = set(model["vocab"])
    made = [model["vocab"]["".join(pair)] for pair in model["merges"]]
    assert made == sorted(made)
    possible = {(p[:at], p[at:]) for p in pieces for at in range(1, len(p)) if {p[:at], p[at:]} <= pieces}
    assert {tuple(pair) for pair in model["merges"]} == possible


@pytest.mark.parametrize("name", FAMILIES)
def test_resumes_are_encoded_with_every_title_in_its_place(name):
    titles = (*HARD_TITLES, "Köche und Köchinnen", "職業なし", "9 to 5 clerks", "Clerks (all)", "Sales.")
    panel = Panel.from_arrow(careers(titles, workers=20), occupations=Occupations.from_titles(titles), dataset="TEST")
    template, tokenizer = Template.load("labor-llm").bind(panel.table.column_names), family(name)
    tokens = encode(render(panel, template), tokenizer, units=title_units(tokenizer, panel.occupations, template))
    assert tokens.states.tolist() == panel.states().tolist()


def test_a_tokenizer_is_trained_once(tmp_path):
    first = family_path("gpt-2", folder=tmp_path)
    written = first.stat().st_mtime_ns
    assert family_path("gpt-2", folder=tmp_path) == first
    assert first.stat().st_mtime_ns == written
    assert list(tmp_path.iterdir()) == [first]
