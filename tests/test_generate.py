"""Decoded titles are always on the list, and draws follow the law that the docstring names."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from laborllm.errors import ModelError, PanelError
from laborllm.generate import decode, next_rows
from tests.samples import HARD_TITLES
from tests.test_score import make


def test_the_next_row_is_the_year_after_the_last_and_the_only_target():
    _, panel = make(workers=6)
    ahead = next_rows(panel)
    assert ahead.targets.sum() == panel.num_workers
    assert (ahead.years()[ahead.targets] == panel.years()[panel.starts[1:] - 1] + 1).all()
    assert ahead.num_rows == panel.num_rows + panel.num_workers
    later = next_rows(panel, year=2030, education="graduate school")
    assert set(later.years()[later.targets].tolist()) == {2030}
    shown = later.column("education").take(np.flatnonzero(later.targets)).to_pylist()
    assert set(shown) == {"graduate school"}


def test_a_year_that_is_not_ahead_is_refused_with_the_worker():
    _, panel = make(workers=3)
    with pytest.raises(PanelError, match="worker 0 has a row in 1980 or later"):
        next_rows(panel, year=1980)


@pytest.mark.parametrize("encoder", ["byte-level", "sentencepiece"])
@pytest.mark.parametrize("options", [{}, {"beams": 3}, {"samples": 5}])
def test_every_decoded_title_is_on_the_list_with_its_log_probabilities(encoder, options):
    scorer, panel = make(encoder=encoder, workers=4, dtype=torch.float32)
    found = list(decode(scorer, next_rows(panel), **options))
    assert len(found) == 4 * max(1, options.get("samples", 0))
    ahead = next_rows(panel)
    law = scorer.score(ahead, titles="all", keep_law=True)
    for decoded in found:
        worker = panel.column("worker_id").take(panel.starts[:-1]).to_pylist().index(decoded.worker_id)
        title = HARD_TITLES.index(decoded.title)
        assert decoded.log_p == pytest.approx(float(law.log_p_all[worker, title]), abs=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral, window 8"])
@pytest.mark.parametrize("options", [{}, {"beams": 3}])
def test_prompts_decoded_together_give_the_titles_of_each_alone(family, options):
    scorer, panel = make(family=family, workers=9)
    ahead = next_rows(panel)
    together, apart = (list(decode(scorer, ahead, **options, max_tokens=most)) for most in (2**15, 1))
    lengths = {len(tokens) for tokens in panel_prompts(scorer, ahead)}
    assert len(lengths) > 3
    assert [(d.worker_id, d.year, d.title) for d in together] == [(d.worker_id, d.year, d.title) for d in apart]
    assert [d.worker_id for d in together] == panel.column("worker_id").take(panel.starts[:-1]).to_pylist()
    for law in ("log_p", "log_p_masked"):
        np.testing.assert_allclose([getattr(d, law) for d in together], [getattr(d, law) for d in apart], atol=1e-9)


def panel_prompts(scorer, ahead):
    _, tokens = scorer.texts(ahead)
    return [tokens.text(text)[: tokens.starts[tokens.rows[text + 1] - 1]] for text in range(len(tokens))]


def test_draws_keep_the_order_of_histories():
    scorer, panel = make(workers=5, dtype=torch.float32)
    ahead = next_rows(panel)
    workers = panel.column("worker_id").take(panel.starts[:-1]).to_pylist()
    law = scorer.score(ahead, titles="all", law="masked", keep_law=True).log_p_all
    found = list(decode(scorer, ahead, samples=7))
    assert [decoded.worker_id for decoded in found] == [worker for worker in workers for _ in range(7)]
    for at, decoded in enumerate(found):
        expected = float(law[at // 7, HARD_TITLES.index(decoded.title)])
        assert decoded.log_p_masked == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("law", ["normalized", "masked"])
def test_samples_follow_the_law_that_is_named(law):
    scorer, panel = make(workers=1, dtype=torch.float32)
    ahead = next_rows(panel)
    draws = 1_500
    counts = Counter(decoded.title for decoded in decode(scorer, ahead, samples=draws, law=law, seed=3))
    whole = np.exp(scorer.score(ahead, titles="all", law=law, keep_law=True).log_p_all[0].astype(float))
    for title, p in zip(HARD_TITLES, whole, strict=True):
        assert abs(counts[title] / draws - p) < 4 * np.sqrt(p * (1 - p) / draws) + 1e-3


def test_a_beam_as_wide_as_there_are_titles_finds_the_most_probable_one_of_the_masked_law():
    scorer, panel = make(workers=6, dtype=torch.float32)
    ahead = next_rows(panel)
    found = [decoded.title for decoded in decode(scorer, ahead, beams=2 * len(HARD_TITLES))]
    law = scorer.score(ahead, titles="all", law="masked", keep_law=True).log_p_all
    assert found == [HARD_TITLES[best] for best in law.argmax(axis=1)]


def test_penalties_in_the_configuration_of_a_base_change_nothing():
    scorer, panel = make(workers=2, dtype=torch.float32)
    ahead = next_rows(panel)
    plain = [list(decode(scorer, ahead, **options)) for options in ({}, {"samples": 20})]
    scorer.model.generation_config.repetition_penalty = 20.0
    assert [list(decode(scorer, ahead, **options)) for options in ({}, {"samples": 20})] == plain


def test_an_end_of_text_that_titles_hold_ends_none_of_them():
    scorer, panel = make(workers=3, dtype=torch.float32)
    ahead = next_rows(panel)
    expected = [decoded.title for decoded in decode(scorer, ahead)]
    scorer.model.config.eos_token_id = scorer.units.ids[0][0]
    assert [decoded.title for decoded in decode(scorer, ahead)] == expected


@pytest.mark.parametrize("options", [{"beams": 0}, {"samples": -1}])
def test_numbers_of_sequences_that_are_none_are_refused(options):
    scorer, panel = make(workers=1)
    with pytest.raises(ModelError, match="are no numbers of sequences"):
        list(decode(scorer, next_rows(panel), **options))
