"""Hostile text in titles and fields: refused with a line that names it, or the same ids in every way of encoding."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("transformers")

from laborllm import encoder as encoder_module
from laborllm.encoder import PanelEncoder
from laborllm.errors import LaborLLMError, TokenizerError, TrieError
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.resume import Template, render
from laborllm.tokens import Tokens, encode, title_units
from tests.families import FAMILIES, family
from tests.panels import panel_of, rows_of

PAPER = Template.load("labor-llm")
SPECIAL = ("</s>", "<s>", "<|endoftext|>", "<|begin_of_text|>", "<EOD>", "<unk>")
PLAIN = (
    "Cooks",
    "Cooks  and  bakers",
    "Cafe\N{COMBINING ACUTE ACCENT}s",
    "Cafés",
    "\N{COMBINING ACUTE ACCENT}",
    "מנהל כללי",
    "\N{RIGHT-TO-LEFT OVERRIDE}skooC\N{POP DIRECTIONAL FORMATTING}",
    "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET} pilots",
    "\N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E}",
    "a\N{NO-BREAK SPACE}b",
    "<0x0A>",
    "1990: Cooks",
    "<END OF DATA>",
)
VALUES = ("\0", "two\nlines", "two\r\nlines", "1991: Cooks\n", " outer ", "\t", *PLAIN[2:])
FIELDS = ("gender", "race", "region", "education", "dataset")


@pytest.fixture(autouse=True)
def _every_panel_goes_the_direct_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "DIRECT_ROWS", 0)
    monkeypatch.setattr("laborllm.fragments.RANDOM_RESUMES", 50)


def assert_equal(found: Tokens, expected: Tokens) -> None:
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), values, err_msg=name)


def careers_with(titles: tuple[str, ...]) -> Panel:
    rows = rows_of(*((worker, 1990 + worker, title) for worker, title in enumerate(titles)), *((99, 1980 + j, t) for j, t in enumerate(titles)))
    columns = {"gender": ["f"] * rows.num_rows, "race": ["w"] * rows.num_rows}
    for name, values in columns.items():
        rows = rows.append_column(name, [values])
    return Panel.from_arrow(rows, occupations=Occupations.from_titles(titles), dataset="TEST")


def own_special(name: str) -> set[str]:
    return {token.content for token in family(name).get_added_tokens_decoder().values()}


@pytest.mark.parametrize("name", FAMILIES)
def test_titles_of_any_script_have_the_same_ids_both_ways(name: str) -> None:
    titles = (*PLAIN, *(text for text in SPECIAL if text not in own_special(name)))
    titles = tuple(title for title in titles if not refused(name, title))
    assert {"Cooks", "Cafés", "מנהל כללי", "<END OF DATA>"} <= {*titles}
    panel = careers_with(titles)
    template, tokenizer = PAPER.bind(panel.table.column_names), family(name)
    made = PanelEncoder(tokenizer, panel.occupations, template)
    found = quietly(made, panel)
    assert_equal(found, encode(render(panel, template), tokenizer, units=made.units))
    assert found.states.tolist() == panel.states().tolist()


def quietly(made: PanelEncoder, panel: Panel) -> Tokens:
    """Whether the direct way is exact for these texts is not what is asked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return made(panel)


def refused(name: str, title: str) -> bool:
    try:
        title_units(family(name), Occupations.from_titles(["Cooks", title] if title != "Cooks" else ["Cooks"]), PAPER)
    except (TokenizerError, TrieError) as error:
        assert str(error).isprintable()
        return True
    return False


@pytest.mark.parametrize("name", FAMILIES)
def test_a_title_with_the_text_of_a_special_token_of_the_tokenizer_is_refused_by_name(name: str) -> None:
    for text in own_special(name) & {*SPECIAL}:
        for title in (text, f"Cooks {text}", f"{text}Cooks"):
            with pytest.raises(TokenizerError, match=f"the title '{title}' holds '{text}'".replace("|", r"\|")):
                title_units(family(name), Occupations.from_titles([title]), PAPER)


# ---- fields


def panel_with(field: str, value: str) -> Panel:
    rows = [(1, 1990, "Cooks"), (1, 1991, "Physicians"), (2, 1990, "Cooks")]
    columns = {name: ["plain"] * len(rows) for name in FIELDS} | {field: [value] * len(rows)}
    return panel_of(rows_of(*rows, **columns))


def outcome(made: PanelEncoder, panel: Panel, *, direct: bool) -> Tokens | str:
    try:
        if direct:
            return quietly(made, panel)
        return encode(render(panel, made.template), made.tokenizer, units=made.units)
    except LaborLLMError as error:
        return str(error)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("field", FIELDS)
def test_a_hostile_value_is_refused_or_has_the_same_ids_both_ways(name: str, field: str) -> None:
    plain = panel_with(field, "plain")
    for value in (*VALUES, *SPECIAL, f"a{SPECIAL[0]}b"):
        panel = panel_with(field, value)
        made = PanelEncoder(family(name), plain.occupations, PAPER.bind(plain.table.column_names))
        direct, text = (outcome(made, panel, direct=direct) for direct in (True, False))
        if any(content in value for content in own_special(name)):
            assert direct == text == "the resume of worker 1 holds the text of a special token; reword the value in the panel"
        elif isinstance(text, str):
            assert direct == text
            assert text.isprintable()
        else:
            assert_equal(direct, text)
