"""Titles stand in tokens where they stand in text, under every tokenizer accepted, and the others are refused."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers

from laborllm.errors import TokenizerError, TrieError
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.resume import Template, render
from laborllm.tokens import Tokens, encode, from_arrow, prompts, title_units, to_arrow
from tests.models import FAMILIES, byte_level
from tests.samples import HARD_TITLES, careers

STRANGE_TITLES = (*HARD_TITLES, "Köche und Köchinnen", "職業なし", "9 to 5 clerks", "Clerks (all)", "Sales.")


def panel_of(titles: tuple[str, ...], **options: int) -> tuple[Panel, Template]:
    panel = Panel.from_arrow(careers(titles, **options), occupations=Occupations.from_titles(titles), dataset="TEST")
    return panel, Template.load("labor-llm").bind(panel.table.column_names)


def texts_of(panel: Panel, template: Template) -> list[str]:
    return [text for batch in render(panel, template) for text in batch["resume"].to_pylist()]


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_the_whole_text_and_every_span_is_its_title_and_the_newline(family):
    panel, template = panel_of(STRANGE_TITLES, workers=20)
    texts = texts_of(panel, template)
    tokenizer = FAMILIES[family](texts)
    tokens = encode(render(panel, template), tokenizer, units=title_units(tokenizer, panel.occupations, template))
    assert len(tokens) == panel.num_workers
    assert tokens.states.tolist() == panel.states().tolist()
    for index, text in enumerate(texts):
        encoding = tokenizer.encode(text)
        assert tokens.text(index).tolist() == encoding.ids
        for row in range(tokens.rows[index], tokens.rows[index + 1]):
            title = panel.occupations.titles[tokens.states[row]]
            first, last = encoding.offsets[tokens.starts[row]][0], encoding.offsets[tokens.stops[row] - 1][1]
            assert text[first:last].lstrip() == f"{title}\n"
            assert text[: encoding.offsets[tokens.starts[row] - 1][1]].endswith(":")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_is_a_token_prefix_of_its_resume(family):
    panel, template = panel_of(HARD_TITLES)
    texts = texts_of(panel, template)
    tokenizer = FAMILIES[family](texts)
    tokens = encode(render(panel, template), tokenizer, units=title_units(tokenizer, panel.occupations, template))
    for index, text in enumerate(texts):
        lines = text.split("\n")
        for row in range(tokens.rows[index], tokens.rows[index + 1]):
            title = panel.occupations.titles[tokens.states[row]]
            at = len(lines) - 1 - (tokens.rows[index + 1] - row)
            prompt = "\n".join([*lines[:at], lines[at].removesuffix(f" {title}")])
            assert tokens.text(index)[: tokens.starts[row]].tolist() == tokenizer.encode(prompt).ids


def test_a_tokenizer_that_merges_across_the_end_of_the_prompt_is_refused():
    panel, template = panel_of(("Cooks", "Clerks"), workers=30)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.train_from_iterator(texts_of(panel, template), trainers.BpeTrainer(vocab_size=2_000, show_progress=False))
    with pytest.raises(TokenizerError, match="no token prefix"):
        title_units(tokenizer, panel.occupations, template)


def test_a_tokenizer_that_merges_the_newline_with_the_next_line_is_refused():
    panel, template = panel_of(("Cooks", "Clerks"), workers=30)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=2_000, show_progress=False)
    tokenizer.train_from_iterator([text.replace("Cooks", "Clerks") for text in texts_of(panel, template)], trainer)
    with pytest.raises(TokenizerError, match=r"newline after .* merges with the next line"):
        title_units(tokenizer, panel.occupations, template)


def test_a_tokenizer_without_the_letters_of_a_title_is_refused():
    panel, template = panel_of(("Cooks", "職業なし"))
    tokenizer = FAMILIES["unigram"]([text.replace("職業なし", "Cooks") for text in texts_of(panel, template)])
    with pytest.raises(TokenizerError, match="cannot spell '職業なし'"):
        title_units(tokenizer, panel.occupations, template)


def test_two_titles_with_the_same_tokens_are_refused():
    panel, template = panel_of(("Cooks", "cooks"))
    tokenizer = byte_level(texts_of(panel, template))
    from tokenizers import normalizers

    tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(TrieError):
        title_units(tokenizer, panel.occupations, template)


def test_a_title_that_holds_the_text_of_a_special_token_is_refused():
    panel, template = panel_of(("Cooks", "Clerks </s>"))
    tokenizer = byte_level(texts_of(panel, template))
    with pytest.raises(TokenizerError, match="'Clerks </s>' holds '</s>'"):
        title_units(tokenizer, panel.occupations, template)


def test_a_value_that_holds_the_text_of_a_special_token_is_refused_with_the_worker():
    panel, template = panel_of(("Cooks",))
    table = panel.table.drop_columns(["race"]).append_column("race", [["</s>"] * panel.num_rows])
    hostile = Panel.from_arrow(table, occupations=panel.occupations)
    tokenizer = byte_level(texts_of(panel, template))
    units = title_units(tokenizer, panel.occupations, template)
    with pytest.raises(TokenizerError, match="worker 0 holds the text of a special token"):
        encode(render(hostile, template), tokenizer, units=units)


def test_special_tokens_in_the_words_of_the_template_are_no_fault_of_the_panel():
    panel, template = panel_of(HARD_TITLES)
    tokenizer = byte_level(texts_of(panel, template))
    tokenizer.add_special_tokens(["<END OF DATA>"])
    tokenizer.add_tokens([AddedToken("\n", normalized=False), AddedToken("White", normalized=False)])
    units = title_units(tokenizer, panel.occupations, template)
    resumes = render(panel, template).read_all()
    tokens = encode(resumes, tokenizer, units=units, template=template)
    whole = tokenizer.encode_batch(resumes["resume"].to_pylist())
    assert [tokens.text(text).tolist() for text in range(len(tokens))] == [one.ids for one in whole]


def test_an_end_token_that_the_tokenizer_adds_is_left_out_and_bos_stands_once():
    panel, template = panel_of(HARD_TITLES)
    texts = texts_of(panel, template)
    plain, ending = byte_level(texts), byte_level(texts)
    ids = [(token, ending.token_to_id(token)) for token in ("<s>", "</s>")]
    ending.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ids)
    expected, found = (
        encode(render(panel, template), tokenizer, units=title_units(tokenizer, panel.occupations, template))
        for tokenizer in (plain, ending)
    )
    np.testing.assert_array_equal(expected.ids, found.ids)
    np.testing.assert_array_equal(expected.starts, found.starts)
    assert (found.ids == ids[0][1]).sum() == panel.num_workers


def test_the_newline_is_a_token_of_its_own_or_the_unit_says_that_it_is_not():
    panel, template = panel_of(("Cooks", "Clerks (all)"))
    texts = texts_of(panel, template)
    own = title_units(byte_level(texts), panel.occupations, template)
    assert own.bare == (True, True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", behavior="merged_with_previous"),
            pre_tokenizers.Split(" ", behavior="merged_with_next"),
        ]
    )
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=2_000, show_progress=False))
    merged = title_units(tokenizer, panel.occupations, template)
    assert merged.bare == (False, False)


def own_starts(tokens: Tokens, text: int) -> list[int]:
    return tokens.starts[tokens.rows[text] : tokens.rows[text + 1]].tolist()


def test_the_token_table_holds_the_contract_columns():
    panel, template = panel_of(HARD_TITLES)
    resumes = render(panel, template).read_all()
    tokenizer = byte_level(resumes["resume"].to_pylist())
    tokens = encode(resumes, tokenizer, units=title_units(tokenizer, panel.occupations, template))
    table = to_arrow(resumes.combine_chunks().to_batches()[0], tokens)
    assert table.schema.names == ["dataset", "worker_id", "year", "occupation", "spans", "input_ids"]
    assert table["input_ids"][1].as_py() == tokens.text(1).tolist()
    assert [span["start"] for span in table["spans"][0].as_py()] == tokens.starts[: tokens.rows[1]].tolist()
    assert table.schema.metadata == resumes.schema.metadata
    shown = [tokens.text(i)[:start].tolist() for i in range(len(tokens)) for start in own_starts(tokens, i)]
    for some in (table, table.slice(2, 3)):
        done = tokens.rows[2] if some is not table else 0
        assert prompts(some).to_pylist() == shown[done : done + len(prompts(some))]
    assert prompts(table).values.buffers()[1].address == table["input_ids"].values.buffers()[1].address
    found = from_arrow(table)
    for name, values in vars(tokens).items():
        np.testing.assert_array_equal(getattr(found, name), values)
