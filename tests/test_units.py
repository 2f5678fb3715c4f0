"""Titles as tokens behind a prompt: the same units as in resumes, no title lost to one that it begins."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.torch

from tokenizers import Tokenizer, models, normalizers

from laborllm.errors import TokenizerError, TrieError
from laborllm.occupations import Occupations
from laborllm.resume import Template
from laborllm.tokens import title_units
from laborllm.trie import TitleTrie
from laborllm.units import encode_titles
from tests.families import FAMILIES, family
from tests.samples import HARD_TITLES, SURVEYS

PROMPT = "1994 (college):"


def titles_of(name: str) -> list[str]:
    path = SURVEYS / "titles" / name
    if not path.exists():
        pytest.skip(f"{name} is not on this machine")
    with path.open(encoding="utf-8", newline="") as file:
        return sorted({row["title"].strip() for row in csv.DictReader(file)})


@pytest.mark.parametrize("name", FAMILIES)
def test_units_behind_a_prompt_are_those_of_resumes(name: str) -> None:
    titles = [*Occupations.occ1990dd().titles, *HARD_TITLES[1:]]
    titles = list(dict.fromkeys(titles))
    occupations = Occupations.from_arrow(
        pa.table({"code": list(map(str, range(len(titles)))), "title": titles, "status": ["employed"] * len(titles)})
    )
    expected = title_units(family(name), occupations, Template.load("labor-llm"))
    found = encode_titles(titles, family(name), prompt=PROMPT, terminator="\n")
    assert [tuple(unit) for unit in found.to_pylist()] == list(expected.ids)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("titles", ["esco_occupations.csv", "onet27_alternate_titles.csv"])
def test_titles_that_begin_others_can_be_said_to_their_end(name: str, titles: str) -> None:
    texts = titles_of(titles)[:6_000]
    trie = TitleTrie.from_titles(texts, family(name), prompt=PROMPT)
    units = encode_titles(texts, family(name), prompt=PROMPT, terminator="\n")
    longest = max(map(len, units.to_pylist()))
    ids = np.array([(unit + [0] * longest)[:longest] for unit in units.to_pylist()])
    np.testing.assert_array_equal(trie.title(trie.walk(ids)), np.arange(len(texts)))
    begun = sum(after.startswith(before) for before, after in pairwise(texts))
    assert begun > 20
    bare = encode_titles(texts, family(name), prompt=PROMPT, terminator="")
    with pytest.raises(TrieError, match="begins the unit in row"):
        TitleTrie(bare)


def test_a_cached_trie_is_read_instead_of_encoding_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, titles = family("llama-3"), list(HARD_TITLES)
    folder = tmp_path / "a" / "cache"
    trie = TitleTrie.from_titles(titles, tokenizer, prompt=PROMPT, cache=folder)
    (file,) = folder.iterdir()
    monkeypatch.setattr("laborllm.trie.encode_titles", lambda *_, **__: pytest.fail("encoded again"))
    again = TitleTrie.from_titles(titles, tokenizer, prompt=PROMPT, cache=folder)
    np.testing.assert_array_equal(again.labels, trie.labels)
    monkeypatch.undo()
    whole = file.read_bytes()
    file.write_bytes(whole[:-200])
    again = TitleTrie.from_titles(titles, tokenizer, prompt=PROMPT, cache=folder)
    np.testing.assert_array_equal(again.labels, trie.labels)
    assert file.read_bytes() == whole
    others = [
        {"titles": titles[::-1], "tokenizer": tokenizer, "prompt": PROMPT},
        {"titles": titles, "tokenizer": family("llama-2"), "prompt": PROMPT},
        {"titles": titles, "tokenizer": tokenizer, "prompt": "1995:"},
        {"titles": titles, "tokenizer": tokenizer, "prompt": PROMPT, "terminator": "\n\n"},
    ]
    for other in others:
        TitleTrie.from_titles(**other, cache=folder)
    assert len(list(folder.iterdir())) == 1 + len(others)


@pytest.mark.parametrize(
    ("titles", "message"),
    [
        (["Cooks", "two\nlines"], r"'two\\nlines' \(row 1\) .* holds the terminator"),
        (["Cooks", None], r"None \(row 1\) is no text"),
        (["Cooks", " "], r"' ' \(row 1\) is no text, is blank"),
        (["Cooks", 7], "titles are a list of text"),
        (["Cooks <|end_of_text|>"], "reads as a special token"),
    ],
)
def test_titles_that_cannot_be_said_are_refused_by_name(titles: list, message: str, tmp_path: Path) -> None:
    for options in ({}, {"cache": tmp_path}):
        with pytest.raises(TokenizerError, match=message):
            TitleTrie.from_titles(titles, family("llama-3"), prompt=PROMPT, **options)
    with pytest.raises(TrieError, match="row 0 equals the unit in row 1"):
        TitleTrie.from_titles(["Cooks", "Cooks"], family("llama-3"), prompt=PROMPT)


@pytest.mark.parametrize("direction", ["left", "right"])
def test_padding_and_truncation_left_on_by_an_earlier_call_change_nothing(direction: str) -> None:
    expected = encode_titles(HARD_TITLES, family("llama-3"), prompt=PROMPT, terminator="\n")
    tokenizer = family("llama-3")
    tokenizer.enable_padding(length=40, pad_id=3, direction=direction)
    tokenizer.enable_truncation(6)
    assert encode_titles(HARD_TITLES, tokenizer, prompt=PROMPT, terminator="\n").equals(expected)
    assert tokenizer.truncation["max_length"] == 6


def test_letters_and_terminators_that_the_tokenizer_drops_are_noticed() -> None:
    tokenizer = Tokenizer(models.BPE({letter: at for at, letter in enumerate(" 1994:Coksurne\n")}, []))
    assert encode_titles(["Cooks"], tokenizer, prompt="1994:", terminator="\n").to_pylist() == [[0, 6, 7, 7, 8, 9, 14]]
    with pytest.raises(TokenizerError, match="cannot spell 'Co☃ks': it drops '☃'"):
        encode_titles(["Cooks", "Co☃ks"], tokenizer, prompt="1994:", terminator="\n")
    tokenizer.normalizer = normalizers.Strip()
    with pytest.raises(TokenizerError, match="drops the terminator"):
        encode_titles(["Cooks"], tokenizer, prompt="1994:", terminator="\n")
