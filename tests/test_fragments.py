"""Token ids straight from the panel: the same as the tokenizer's on the whole text, or encoded from the text."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("transformers")

from tokenizers import AddedToken, Tokenizer

from laborllm import encoder as encoder_module
from laborllm.encoder import PanelEncoder
from laborllm.errors import TokenizerError
from laborllm.fragments import spelling_gap
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.resume import Template, render
from laborllm.tokens import Tokens, encode
from tests.families import FAMILIES, family
from tests.panels import panel_of, real_panel, rows_of
from tests.samples import HARD_TITLES, careers

PAPER = Template.load("labor-llm")
YEARLY = Template(
    name="yearly",
    version=1,
    header="{dataset}[[ é {gender}/{race}]]:\n\n{birth_year}\n",
    row="{year}[[ ({education})]] ¶ {title}\n[[paid {wage}, ]]{education}\n",
    end="– ende –",
    missing={name: f"no {name}" for name in ("gender", "race", "birth_year", "education", "wage")},
)


@pytest.fixture(autouse=True)
def _every_panel_goes_the_direct_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "DIRECT_ROWS", 0)
    monkeypatch.setattr("laborllm.fragments.RANDOM_RESUMES", 300)


def hard_panel(titles: tuple[str, ...], **options: int) -> tuple[Panel, Template]:
    panel = Panel.from_arrow(careers(titles, **options), occupations=Occupations.from_titles(titles), dataset="TEST")
    return panel, PAPER.bind(panel.table.column_names)


def through_text(panel: Panel, template: Template, made: PanelEncoder, windows: object = None) -> Tokens:
    return encode(render(panel, template, windows=windows), made.tokenizer, units=made.units)


def assert_equal(found: Tokens, expected: Tokens) -> None:
    for name in ("ids", "offsets", "rows", "starts", "stops", "states"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("template", [PAPER, Template(**{**vars(PAPER), "education": "previous"})])
def test_direct_ids_are_those_of_the_text(name: str, template: Template) -> None:
    panel, _ = hard_panel(HARD_TITLES, workers=60)
    made = PanelEncoder(family(name), panel.occupations, template.bind(panel.table.column_names))
    assert_equal(made(panel), through_text(panel, template, made))
    rows = np.arange(panel.num_rows)
    windows = (np.maximum(rows - 2, panel.starts[panel.workers()]), rows + 1)
    assert_equal(made(panel, windows), through_text(panel, template, made, windows))
    part = panel.slice_workers(3, 9)
    assert_equal(made(part), through_text(part, template, made))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("survey", ["nlsy97", "nlsy79"])
def test_real_careers_have_the_same_ids_both_ways(name: str, survey: str) -> None:
    panel = real_panel(survey)
    some = panel.slice_workers(0, 1_500)
    made = PanelEncoder(family(name), panel.occupations, PAPER.bind(panel.table.column_names))
    assert_equal(made(some), through_text(some, PAPER, made))


@pytest.mark.parametrize("name", FAMILIES)
def test_both_ways_write_the_same_token_table(name: str) -> None:
    panel, template = hard_panel(HARD_TITLES, workers=20)
    made = PanelEncoder(family(name), panel.occupations, template)
    direct = made.table(panel).read_all()
    made._fragments = None
    assert direct.schema.equals(made.table(panel).schema, check_metadata=True)
    assert made.table(panel).read_all().equals(direct)
    assert direct.schema.metadata[b"laborllm.tokenizer"]


def test_a_template_whose_cuts_are_not_exact_goes_through_the_text_and_says_so_once() -> None:
    rows = rows_of((1, 1990, "Cooks"), (1, 1991, "Physicians"), gender=["f"] * 2, race=["w"] * 2, birth_year=[1960] * 2)
    panel = panel_of(rows.append_column("wage", [[1, 2]]).append_column("education", [["a", "b"]]), dataset="X")
    made = PanelEncoder(family("llama-3"), panel.occupations, YEARLY.bind(panel.table.column_names))
    with pytest.warns(UserWarning, match="encoding whole texts, which is slow: the tokens of .* change when"):
        found = made(panel)
    assert_equal(found, through_text(panel, YEARLY, made))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equal(made(panel), found)


def test_a_template_without_a_header_goes_through_the_text() -> None:
    panel = panel_of(rows_of((1, 1990, "Cooks"), (1, 1991, "Physicians")))
    bare = Template(name="bare", version=1, header="", row="{year}: {title}\n", end="")
    made = PanelEncoder(family("llama-2"), panel.occupations, bare)
    with pytest.warns(UserWarning, match="no header"):
        assert_equal(made(panel), through_text(panel, bare, made))


def test_titles_that_a_unigram_model_spells_by_rounding_go_through_the_text() -> None:
    scores = {"▁": -1.0, "a": -2.0, "n": -2.0, "an": -3.0, "na": -3.0}
    assert spelling_gap(" ana", scores) == pytest.approx(0)
    assert spelling_gap(" aan", scores) == pytest.approx(1)
    assert spelling_gap("?", scores) == float("inf")
    tokenizer = family("unigram")
    assert spelling_gap(" Cooks\n", dict(map(tuple, _model(tokenizer)["vocab"]))) > 1e-3


def _model(tokenizer: Tokenizer) -> dict[str, list[tuple[str, float]]]:
    import json

    return json.loads(tokenizer.to_str())["model"]


def test_a_value_with_the_text_of_a_special_token_is_refused_as_on_the_text_path() -> None:
    panel, template = hard_panel(("Cooks",))
    table = panel.table.drop_columns(["race"]).append_column("race", [["<s>"] * panel.num_rows])
    hostile = Panel.from_arrow(table, occupations=panel.occupations)
    made = PanelEncoder(family("llama-2"), panel.occupations, template)
    with (
        pytest.warns(UserWarning, match="stands '<s>', which the tokenizer reads as one token"),
        pytest.raises(TokenizerError, match="worker 0 holds the text of a special token"),
    ):
        made(hostile)


def test_added_tokens_that_reach_across_a_cut_are_found() -> None:
    panel, template = hard_panel(("Cooks",))
    tokenizer = family("gpt-2")
    tokenizer.add_tokens([AddedToken("\n<END", normalized=False)])
    with pytest.raises(TokenizerError, match="newline after 'Cooks' merges"):
        PanelEncoder(tokenizer, panel.occupations, template)
    tokenizer = family("gpt-2")
    tokenizer.add_tokens([AddedToken("dataset>\nThe", normalized=False)])
    made = PanelEncoder(tokenizer, panel.occupations, template)
    with pytest.warns(UserWarning, match="change when"):
        found = made(panel)
    assert_equal(found, encode(render(panel, template), tokenizer, units=made.units))
