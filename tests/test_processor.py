"""Masked decoding allows what a plain trie allows, step by step and inside of `generate()`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from transformers import PrefixConstrainedLogitsProcessor

from laborllm.errors import TrieError
from laborllm.generate import DeviceTrie, TitleLogitsProcessor, prefix_allowed_tokens_fn
from laborllm.trie import TitleTrie
from tests.models import random_model
from tests.tries import DictTrie, random_units

STOP, PAD, VOCABULARY = 0, 1, 40
UNITS = [[token + 2 for token in unit] for unit in random_units(300, tokens=30, longest=6)]
WHERE = [TitleTrie, lambda units: DeviceTrie(TitleTrie(units), "cpu")]


def plain_function(prompt_length: int) -> Callable[[int, torch.Tensor], list[int]]:
    plain = DictTrie(UNITS)
    return lambda _batch, ids: plain.allowed(ids[prompt_length:].tolist(), stop=STOP)


def random_steps(steps: int, *, rows: int, beams: int, prompt: int, seed: int) -> Iterator[torch.Tensor]:
    """Ids as decoding makes them: rows go on, finish and are padded, change places among beams, or leave the trie."""
    random = np.random.default_rng(seed)
    plain = DictTrie(UNITS)
    ids = torch.full((rows * beams, prompt), PAD)
    for row in range(rows * beams):
        ids[row, random.integers(prompt + 1) :] = 5  # padded on the left
    begin = ids
    for _ in range(steps):
        yield ids
        if ids.shape[1] == prompt + 8:
            ids = begin
            continue
        groups = np.arange(rows)[:, None] * beams + random.integers(beams, size=(rows, beams))
        ids = ids[torch.from_numpy(groups.reshape(-1))]
        following = [
            int(random.integers(VOCABULARY)) if random.random() < 0.03 else random.choice(plain.allowed(row, stop=STOP))
            for row in ids[:, prompt:].tolist()
        ]
        ids = torch.cat([ids, torch.tensor(following)[:, None]], dim=1)


def compare_with_the_prefix_function(make: Callable, *, steps: int, rows: int, beams: int, seed: int) -> int:
    """Hold every step's scores against those of the prefix function; gives the rows that were compared."""
    prompt = 3
    process = TitleLogitsProcessor(make(UNITS), prompt_length=prompt, stop=STOP)
    expect = PrefixConstrainedLogitsProcessor(plain_function(prompt), num_beams=beams)
    generator = torch.Generator().manual_seed(seed)
    for ids in random_steps(steps, rows=rows, beams=beams, prompt=prompt, seed=seed):
        scores = torch.randn(rows * beams, VOCABULARY, generator=generator)
        assert torch.equal(process(ids, scores), expect(ids, scores))
    return steps * rows * beams


@pytest.mark.parametrize("make", WHERE, ids=["host", "device"])
@pytest.mark.parametrize(("rows", "beams"), [(1, 1), (5, 1), (3, 4)])
def test_every_step_is_that_of_the_prefix_function_over_a_plain_trie(make, rows, beams):
    assert compare_with_the_prefix_function(make, steps=120, rows=rows, beams=beams, seed=rows) >= 120


@pytest.mark.long
@pytest.mark.parametrize("make", WHERE, ids=["host", "device"])
def test_a_hundred_thousand_steps_are_those_of_the_prefix_function(make):
    assert compare_with_the_prefix_function(make, steps=4_200, rows=6, beams=4, seed=1) >= 100_000


@pytest.mark.parametrize("make", WHERE, ids=["host", "device"])
@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 0.0}, {"do_sample": True, "top_k": 0}]
)
def test_generate_gives_the_same_tokens_as_with_a_plain_trie_also_behind_padded_prompts(make, options):
    model = random_model("llama", VOCABULARY, dtype=torch.float32)
    prompts = torch.tensor([[PAD, PAD, PAD, 7, 9], [4, 8, 15, 16, 23], [PAD, 30, 3, 3, 2]])
    inputs = {"input_ids": prompts, "attention_mask": (prompts != PAD).long()}
    common = {**options, "max_new_tokens": 7, "pad_token_id": PAD, "eos_token_id": STOP, "renormalize_logits": True}
    process = TitleLogitsProcessor(make(UNITS), prompt_length=5, stop=STOP)
    torch.manual_seed(0)
    found = model.generate(**inputs, **common, logits_processor=[process])
    for function in (plain_function(5), prefix_allowed_tokens_fn(TitleTrie(UNITS), 5, stop=STOP)):
        torch.manual_seed(0)
        assert torch.equal(found, model.generate(**inputs, **common, prefix_allowed_tokens_fn=function))
    title = TitleTrie(UNITS)
    assert (title.title(title.walk(np.ascontiguousarray(found[:, 5:].numpy()))) >= 0).all()


def chi_square(counts: np.ndarray, law: np.ndarray) -> float:
    """Pearson's statistic, as standard deviations above its mean under the law."""
    expected = law * counts.sum()
    freedom = len(law) - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("make", WHERE, ids=["host", "device"])
def test_draws_follow_the_masked_law_and_not_the_law_over_titles(make):
    units = [[2, 9], [2, 3, 9], [2, 3, 4, 9], [5, 9], [5, 6, 9], [7, 7, 9], [8, 9]]
    trie, draws = TitleTrie(units), 20_000
    process = TitleLogitsProcessor(make(units), prompt_length=0, stop=STOP)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(10, 10, generator=generator)  # of the next token, by the last one
    last = lambda ids: ids[:, -1] if ids.shape[1] else torch.full((len(ids),), STOP)  # noqa: E731

    def laws() -> Iterator[tuple[float, float]]:
        for unit in units:
            raw = masked = 1.0
            for position, token in enumerate(unit):
                prefix = torch.tensor([unit[:position]], dtype=torch.int64)
                weights = logits[last(prefix)][0].exp()
                allowed = DictTrie(units).allowed(unit[:position], stop=STOP)
                raw *= float(weights[token] / weights.sum())
                masked *= float(weights[token] / weights[allowed].sum())
            yield raw, masked

    raw, masked = np.array(list(laws())).T
    ids = torch.empty((draws, 0), dtype=torch.int64)
    for _ in range(5):
        p = process(ids, logits[last(ids)]).softmax(-1)
        ids = torch.cat([ids, torch.multinomial(p, 1, generator=generator)], dim=1)
    counts = np.bincount(trie.title(trie.walk(ids.numpy())), minlength=len(units))
    assert masked.sum() == pytest.approx(1)
    assert abs(chi_square(counts, masked)) < 3
    assert chi_square(counts, raw / raw.sum()) > 30


@pytest.mark.parametrize("make", WHERE, ids=["host", "device"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_scores_of_any_type_and_layout_are_masked_and_none_is_changed(make, dtype):
    process = TitleLogitsProcessor(make([[2, 3], [4, 3]]), prompt_length=1, stop=STOP)
    scores = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)).to(dtype).T  # (3, 9), wider than the trie
    before = scores.clone()
    masked = process(torch.tensor([[7, 2, 3], [7, 4, 4], [7, 2, 7]]), scores)
    assert masked.isfinite().nonzero().tolist() == [[0, STOP], [1, STOP], [2, STOP]]
    masked = process(torch.tensor([[7], [8], [9]]), scores)
    assert masked.dtype == dtype
    assert torch.equal(masked[:, [2, 4]], before[:, [2, 4]])
    assert torch.equal(scores, before)


@pytest.mark.parametrize("make", WHERE, ids=["host", "device"])
def test_in_place_the_scores_given_are_those_that_come_back(make):
    ids, scores = torch.tensor([[5], [6]]), torch.randn(2, VOCABULARY)
    expected = TitleLogitsProcessor(make(UNITS), prompt_length=1, stop=STOP)(ids, scores)
    masked = TitleLogitsProcessor(make(UNITS), prompt_length=1, stop=STOP, in_place=True)(ids, scores)
    assert masked is scores
    assert torch.equal(masked, expected)


@pytest.mark.parametrize("make", WHERE, ids=["host", "device"])
def test_logits_that_do_not_hold_the_titles_are_refused(make):
    process = TitleLogitsProcessor(make([[2, 30], [4, 3]]), prompt_length=1, stop=STOP)
    with pytest.raises(TrieError, match="30 wide and the trie holds token 30; build the trie with the tokenizer"):
        process(torch.tensor([[1]]), torch.zeros(1, 30))
    with pytest.raises(TrieError, match="0 columns of ids and a prompt_length of 1"):
        process(torch.empty((1, 0), dtype=torch.int64), torch.zeros(1, 31))
    for stop in (31, -1):
        process = TitleLogitsProcessor(make([[2, 30], [4, 3]]), prompt_length=1, stop=stop)
        with pytest.raises(TrieError, match=f"31 wide and have no token {stop} to stop with"):
            process(torch.tensor([[1]]), torch.zeros(1, 31))
