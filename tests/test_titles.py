"""Hostile text in titles and fields: refused with a line that names it, or the same ids in every way of encoding."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("transformers")

from laborllm import encoder as encoder_module
from laborllm.encoder import PanelEncoder
from laborllm.errors import TemplateError, TokenizerError
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
VALUES = (" outer ", *PLAIN[2:])
BREAKS = ("\0", "two\nlines", "two\r\nlines", "x): Cooks\n1991 (x", "\t", "\x1b[1m", "two\N{LINE SEPARATOR}lines")
FIELDS = ("gender", "race", "region", "education", "dataset")


@pytest.fixture(autouse=True)
def _every_panel_goes_the_direct_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "DIRECT_ROWS", 0)
    monkeypatch.setattr("laborllm.fragments.RANDOM_RESUMES", 50)


def assert_equal(found: Tokens, expected: Tokens) -> None:
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), values, err_msg=name)


def careers_with(titles: tuple[str, ...]) -> Panel:
    rows = [(1, 1980 + j, title) for j, title in enumerate(titles)]
    rows += [(2 + j, 1990, title) for j, title in enumerate(titles)]
    table = rows_of(*rows, gender=["f"] * len(rows), race=["w"] * len(rows))
    return Panel.from_arrow(table, occupations=Occupations.from_titles(titles), dataset="TEST")


def own_special(name: str) -> set[str]:
    return {token.content for token in family(name).get_added_tokens_decoder().values()}


@pytest.mark.parametrize("name", FAMILIES)
def test_titles_of_any_script_have_the_same_ids_both_ways(name: str) -> None:
    foreign = [text for text in SPECIAL if text not in own_special(name)]
    panel = careers_with((*PLAIN, *foreign))
    direct, text = both_ways(name, panel)
    assert_equal(direct(), text())
    assert direct().states.tolist() == panel.states().tolist()


def quietly(made: PanelEncoder, panel: Panel) -> Tokens:
    """Whether the direct way is exact for these texts is not what is asked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return made(panel)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_title_with_the_text_of_a_special_token_of_the_tokenizer_is_refused_by_name(name: str) -> None:
    for text in own_special(name) & {*SPECIAL}:
        for title in (text, f"Cooks {text}", f"{text}Cooks"):
            with pytest.raises(TokenizerError, match=f"the title '{title}' holds '{text}'".replace("|", r"\|")):
                title_units(family(name), Occupations.from_titles([title]), PAPER)


# ---- fields


def panel_with(field: str, values: Sequence[str]) -> Panel:
    """A career for each value of one field."""
    rows = [(worker, year, "Cooks") for worker in range(len(values)) for year in (1990, 1991)]
    columns = {name: ["plain"] * len(rows) for name in FIELDS}
    return panel_of(rows_of(*rows, **columns | {field: [value for value in values for _ in range(2)]}))


def both_ways(name: str, panel: Panel) -> Iterator[Callable[[], Tokens]]:
    template = PAPER.bind(panel.table.column_names)
    made = PanelEncoder(family(name), panel.occupations, template)
    yield lambda: quietly(made, panel)
    yield lambda: encode(render(panel, template), made.tokenizer, units=made.units)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("field", FIELDS)
def test_values_of_any_script_have_the_same_ids_both_ways(name: str, field: str) -> None:
    direct, text = both_ways(name, panel_with(field, VALUES))
    assert_equal(direct(), text())


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("content", BREAKS)
def test_a_value_that_would_break_its_line_is_refused_both_ways(field: str, content: str) -> None:
    for way in both_ways("gpt-2", panel_with(field, [content])):
        with pytest.raises(
            TemplateError, match=rf"prints \{{{field}\}}, of which '.*' holds a control character"
        ) as raised:
            way()
        assert str(raised.value).isprintable()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("field", ["race", "dataset"])
def test_a_value_with_the_text_of_a_special_token_is_refused_both_ways(name: str, field: str) -> None:
    for content in own_special(name) & {*SPECIAL}:
        for way in both_ways(name, panel_with(field, [f"a{content}b"])):
            with pytest.raises(TokenizerError, match=r"worker \d holds the text of a special token; reword the value"):
                way()
