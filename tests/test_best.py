"""The best titles, bounds and draws are those of the whole law, though most of it is never computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from scipy.stats import chisquare, kstest

from laborllm.errors import ModelError, PredictionsError
from laborllm.score import TitleScorer
from tests.samples import HARD_TITLES
from tests.test_score import make, oracle

TITLES = (*HARD_TITLES, "Managers, food", "Cooks, short order", "Physicians' aides", "c", "Aides", "Aides, n.e.c.")
LAWS = ("raw", "masked")


@pytest.fixture(scope="module", params=["llama", "mistral, window 8"])
def scored(request):
    scorer, panel = make(family=request.param, titles=TITLES, workers=6)
    raw, masked = oracle(scorer, panel)
    return scorer, panel, {"raw": raw, "masked": masked}


def ranks(law: np.ndarray, k: int) -> list[int]:
    """The definition: sort all titles, of equals the first first."""
    return sorted(range(len(law)), key=lambda title: (-law[title], title))[:k]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("k", [1, 3, len(TITLES)])
def test_the_k_best_titles_are_those_of_the_whole_law(scored, law, k):
    scorer, panel, laws = scored
    found = scorer.topk(panel, k, law=law)
    assert len(found) == len(laws[law])
    for best, truth in zip(found, laws[law], strict=True):
        assert [one.title for one in best] == ranks(truth, k)
        np.testing.assert_allclose([one.log_p for one in best], truth[ranks(truth, k)], rtol=0, atol=1e-10)


@pytest.mark.parametrize("law", LAWS)
def test_the_bounds_of_the_best_titles_hold_and_are_exact_where_they_meet(scored, law):
    scorer, panel, laws = scored
    for k in (2, len(TITLES)):
        for best, truth in zip(scorer.topk(panel, k, law=law), laws[law], strict=True):
            normalized = np.exp(truth) / np.exp(truth).sum()
            for one in best:
                assert one.lower - 1e-12 <= normalized[one.title] <= one.upper + 1e-12
                assert one.exact == (one.lower == one.upper)
            assert all(one.exact for one in best) or k < len(TITLES)


@settings(max_examples=20, deadline=None)
@given(eps=st.floats(1e-6, 0.9))
def test_every_bracket_holds_the_normalized_probability_and_their_gap_is_what_was_asked_for(eps):
    scorer, panel = _small()
    raw, _ = oracle(scorer, panel)
    normalized = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    for one, truth in zip(scorer.bounds(panel, eps=eps), normalized, strict=True):
        assert (one.lower <= truth + 1e-12).all()
        assert (truth <= one.upper + 1e-12).all()
        assert one.lower.sum() >= 1 - eps - 1e-12


_made = []


def _small():
    if not _made:
        _made.append(make(titles=TITLES, workers=2, years=2))
    return _made[0]


@pytest.mark.parametrize("law", LAWS)
def test_titles_can_be_taken_one_by_one_without_saying_how_many(scored, law):
    scorer, panel, laws = scored
    last = np.zeros(panel.num_rows, bool)
    last[-1] = True
    taken = scorer.iter_best(panel.with_targets(last), law=law)
    assert [next(taken).title for _ in range(3)] == ranks(laws[law][-1], 3)
    assert [one.title for one in taken] == ranks(laws[law][-1], len(TITLES))[3:]
    with pytest.raises(PredictionsError, match="one target row"):
        next(scorer.iter_best(panel))


@pytest.mark.parametrize("law", ["normalized", "masked"])
def test_draws_follow_the_law(scored, law):
    scorer, panel, laws = scored
    count = 500
    truth = np.exp(laws["masked" if law == "masked" else "raw"])
    truth /= truth.sum(1, keepdims=True)
    draws = scorer.sample(panel, count, law=law, seed=3)
    fits = [_fit(np.bincount(drawn, minlength=len(TITLES)), p * count) for drawn, p in zip(draws, truth, strict=True)]
    assert min(fits) > 1e-5
    assert kstest(fits, "uniform").pvalue > 1e-3


def _fit(counts: np.ndarray, expected: np.ndarray) -> float:
    """The p-value of counts; titles that are hardly expected are one cell."""
    often = expected > 10
    cells = [np.append(x[often], x[~often].sum() + 1e-9) for x in (counts, expected)]
    return float(chisquare(cells[0], cells[1] * cells[0].sum() / cells[1].sum()).pvalue)


def test_draws_depend_on_the_worker_and_the_year_and_not_on_what_is_drawn_beside(scored):
    scorer, panel, _ = scored
    every = scorer.sample(panel, 50, seed=1)
    last = np.zeros(panel.num_rows, bool)
    last[panel.starts[1:] - 1] = True
    assert (scorer.sample(panel.with_targets(last), 50, seed=1) == every[last]).all()
    assert (scorer.sample(panel, 50, seed=2) != every).any()


def test_titles_of_equal_probability_come_in_the_order_of_the_list():
    scorer, panel = make(titles=("b", "a", "d", "c", "e"), workers=2)
    with torch.no_grad():
        for parameter in scorer.model.parameters():
            parameter.zero_()
    for best in scorer.topk(panel, 3):
        assert [one.title for one in best] == [0, 1, 2]


def test_the_best_titles_cost_fewer_rows_than_the_whole_law(scored):
    scorer, panel, _ = scored
    before = scorer.work.nodes
    scorer.topk(panel, 1)
    searched = scorer.work.nodes - before
    scorer.score(panel, titles="all")
    assert searched < 0.7 * (scorer.work.nodes - before - searched)


@pytest.mark.parametrize("most", [1, 7, 64])
def test_a_small_row_budget_changes_no_best_title_and_no_draw(scored, most):
    scorer, panel, laws = scored
    small = TitleScorer(
        scorer.model, scorer.tokenizer, occupations=scorer.occupations, template=scorer.template, max_rows=most
    )
    for best, truth in zip(small.topk(panel, 4), laws["raw"], strict=True):
        assert [one.title for one in best] == ranks(truth, 4)
    assert (small.sample(panel, 20) == scorer.sample(panel, 20)).all()


@pytest.mark.parametrize("method", ["cache", "naive"])
def test_other_methods_give_the_same_from_the_whole_law(scored, method):
    scorer, panel, laws = scored
    other = TitleScorer(
        scorer.model, scorer.tokenizer, occupations=scorer.occupations, template=scorer.template, method=method
    )
    for best, truth in zip(other.topk(panel, 4), laws["raw"], strict=True):
        assert [one.title for one in best] == ranks(truth, 4)
        assert all(one.exact for one in best)
    assert other.sample(panel, 5).shape == (len(laws["raw"]), 5)
    assert len(other.bounds(panel, eps=0.1)) == len(laws["raw"])


def test_probabilities_too_small_for_a_float_are_no_zeros():
    scorer, panel = make(titles=TITLES, workers=2, years=2)
    with torch.no_grad():
        scorer.model.get_output_embeddings().weight.mul_(3_000)
    raw, _ = oracle(scorer, panel)
    assert (np.exp(raw).sum(1) == 0).any()
    truth = np.exp(raw - np.logaddexp.reduce(raw, axis=1)[:, None])
    found = scorer.score(panel, titles="all", law="normalized", keep_law=True)
    np.testing.assert_allclose(np.exp(found.log_p_all.astype(float)), truth, atol=1e-5)
    for best, law, p in zip(scorer.topk(panel, 2), raw, truth, strict=True):
        assert [one.title for one in best] == ranks(law, 2)
        assert all(one.lower - 1e-9 <= p[one.title] <= one.upper + 1e-9 for one in best)
    for one, p in zip(scorer.bounds(panel, eps=0.01), truth, strict=True):
        assert ((one.lower - 1e-9 <= p) & (p <= one.upper + 1e-9)).all()
    draws = scorer.sample(panel, 200)
    for row, p in zip(draws, truth, strict=True):
        np.testing.assert_allclose(np.bincount(row, minlength=len(p)) / 200, p, atol=0.2)


@pytest.mark.parametrize(
    ("method", "arguments", "options"),
    [
        ("topk", (0,), {}),
        ("topk", (3,), {"law": "normalized"}),
        ("sample", (-1,), {}),
        ("sample", (1,), {"seed": -1}),
        ("sample", (1,), {"law": "raw"}),
        ("bounds", (), {"eps": float("nan")}),
        ("score", (), {"top": 0}),
        ("score", (), {"law": "Raw"}),
        ("score", (), {"titles": "some"}),
    ],
)
def test_what_is_no_law_or_no_number_is_refused(scored, method, arguments, options):
    scorer, panel, _ = scored
    with pytest.raises(PredictionsError, match=r"is none of|is no |are not both"):
        getattr(scorer, method)(panel, *arguments, **options)


def test_a_row_budget_below_one_is_refused(scored):
    scorer, _, _ = scored
    with pytest.raises(ModelError, match="max_rows=0"):
        TitleScorer(
            scorer.model, scorer.tokenizer, occupations=scorer.occupations, template=scorer.template, max_rows=0
        )
