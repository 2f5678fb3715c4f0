from __future__ import annotations

import itertools

import numpy as np
import pytest
from careers import predict, random_law, some_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from laborllm import metrics
from laborllm.errors import PredictionsError
from laborllm.metrics import (
    kl_divergence,
    mean,
    mean_draws,
    move_auc,
    move_auc_draws,
    move_log_loss,
    paired_p_value,
    perplexity,
    perplexity_draws,
    spread,
    stay_log_p,
    worker_draws,
)

logs = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(-9, 0))


@st.composite
def scored(draw, *, rows=40):
    """Scores with many ties, what happened, integer weights, workers; both classes have weight."""
    size = draw(st.integers(2, rows))
    score = draw(hnp.arrays(np.int64, size, elements=st.integers(-3, 3))) / 2
    moved = draw(hnp.arrays(np.bool_, size))
    moved[:2] = [True, False]
    weights = draw(hnp.arrays(np.int64, size, elements=st.integers(0, 3)))
    weights[:2] += 1
    worker = np.sort(draw(hnp.arrays(np.int64, size, elements=st.integers(0, 6))))
    return score, moved, weights, worker


# The slow, obvious twins


def auc_of_all_pairs(score, moved, weights):
    won = total = 0.0
    for i, j in itertools.product(np.flatnonzero(moved), np.flatnonzero(~moved)):
        pair = weights[i] * weights[j]
        won += pair * (1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0)
        total += pair
    return won / total if total else np.nan


def resampled_rows(worker, times):
    """Rows of one bootstrap sample: every worker brings all rows as often as drawn."""
    return np.concatenate(
        [np.zeros(0, int)] + [np.flatnonzero(worker == w) for w, n in enumerate(times) for _ in range(n)]
    )


# Perplexity


@pytest.mark.parametrize("titles", [1, 2, 9, 332, 333])
def test_a_uniform_law_has_a_perplexity_of_the_number_of_titles(titles):
    assert perplexity(np.full(1000, -np.log(titles))) == pytest.approx(titles, rel=1e-13)


def test_perplexity_is_one_over_the_geometric_mean_of_the_probabilities():
    assert perplexity(np.log([0.5, 0.125])) == pytest.approx(4.0, rel=1e-15)
    assert perplexity(np.log([0.5, 0.125]), weights=np.array([2, 1])) == pytest.approx(32 ** (1 / 3), rel=1e-15)
    assert perplexity(np.zeros(3)) == 1.0


def test_something_impossible_that_happened_is_infinite_unless_it_weighs_nothing():
    log_p = np.array([-1.0, -np.inf])
    assert perplexity(log_p) == np.inf
    assert perplexity(log_p, weights=np.array([1.0, 0.0])) == pytest.approx(np.e)
    assert np.isnan(perplexity(log_p, weights=np.zeros(2)))
    assert np.isnan(perplexity(np.zeros(0)))


@given(logs, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(log_p, random):
    order = random.sample(range(len(log_p)), len(log_p))
    assert perplexity(log_p[order]) == pytest.approx(perplexity(log_p), rel=1e-12)


@given(logs)
def test_weights_of_one_are_no_weights(log_p):
    assert perplexity(log_p, weights=np.ones(len(log_p))) == perplexity(log_p)


@given(scored())
def test_integer_weights_are_copies_of_rows(case):
    score, moved, weights, worker = case
    copies = np.repeat(np.arange(len(score)), weights)
    log_p = -np.abs(score) - 0.1
    assert perplexity(log_p, weights=weights) == pytest.approx(perplexity(log_p[copies]), abs=1e-10)
    assert move_log_loss(log_p, moved, weights=weights) == pytest.approx(
        move_log_loss(log_p[copies], moved[copies]), abs=1e-10
    )
    assert move_auc(score, moved, weights=weights) == pytest.approx(move_auc(score[copies], moved[copies]), abs=1e-10)
    counts = worker_draws(7, draws=50)
    for draws, values in ((mean_draws, (log_p,)), (move_auc_draws, (score, moved))):
        weighted = draws(*values, worker=worker, counts=counts, weights=weights)
        copied = draws(*(v[copies] for v in values), worker=worker[copies], counts=counts)
        np.testing.assert_allclose(weighted, copied, atol=1e-10)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_a_weight_that_is_no_weight_is_refused_with_its_row(bad):
    weights = np.array([1.0, 1.0, bad])
    for refused in (
        lambda: perplexity(np.zeros(3), weights=weights),
        lambda: move_auc(np.zeros(3), np.array([True, False, True]), weights=weights),
        lambda: mean_draws(np.zeros(3), worker=np.arange(3), counts=worker_draws(3), weights=weights),
    ):
        with pytest.raises(PredictionsError, match="weight of row 2"):
            refused()
    with pytest.raises(PredictionsError, match="weights for"):
        perplexity(np.zeros(3), weights=np.ones(2))


def test_a_number_that_is_not_known_is_never_averaged_away():
    values, draws = np.array([0.0, np.nan]), worker_draws(2)
    for refused in (
        lambda: mean(values),
        lambda: mean_draws(values, worker=np.arange(2), counts=draws),
        lambda: move_auc(values, np.array([True, False])),
    ):
        with pytest.raises(PredictionsError, match=r"row 1 .* NaN"):
            refused()


# The move task


@settings(deadline=None)
@given(scored())
def test_the_auc_is_the_share_of_pairs_in_order_with_ties_counted_half(case):
    score, moved, weights, _ = case
    assert move_auc(score, moved) == pytest.approx(auc_of_all_pairs(score, moved, np.ones(len(score))), abs=1e-12)
    assert move_auc(score, moved, weights=weights) == pytest.approx(auc_of_all_pairs(score, moved, weights), abs=1e-12)


@given(scored())
def test_the_auc_sees_the_order_of_scores_only_and_turns_over_with_it(case):
    score, moved, _, _ = case
    assert move_auc(np.exp(score) * 7, moved) == move_auc(score, moved)
    assert move_auc(-score, moved) == pytest.approx(1 - move_auc(score, moved), abs=1e-12)


def test_an_auc_needs_a_move_and_a_stay_that_weigh_something():
    score = np.array([0.0, 1.0, 2.0])
    assert np.isnan(move_auc(score, np.ones(3, bool)))
    assert np.isnan(move_auc(score, np.zeros(3, bool)))
    assert np.isnan(move_auc(score, np.array([True, False, False]), weights=np.array([0, 1, 1])))
    assert np.isnan(move_auc(np.zeros(0), np.zeros(0, bool)))


def test_a_state_of_probability_zero_scores_above_all_others():
    assert move_auc(np.array([np.inf, 3.0, np.inf]), np.array([True, False, False])) == 0.75


def test_the_log_loss_is_that_of_the_forecast_of_moving():
    stay = np.log([0.75, 0.4, 0.9])
    expected = -(np.log(0.75) + np.log(0.6) + np.log(0.9)) / 3
    assert move_log_loss(stay, np.array([False, True, False])) == pytest.approx(expected, rel=1e-14)
    assert move_log_loss(np.array([0.0]), np.array([True])) == np.inf
    assert move_log_loss(np.array([-np.inf]), np.array([False])) == np.inf
    assert move_log_loss(np.array([-1e-18]), np.array([True])) == pytest.approx(-np.log(1e-18))


def test_the_title_mass_turns_the_raw_law_into_the_normalized_one():
    previous, mass = np.array([0.3, 0.2, 0.5]), np.array([0.6, 0.8, 0.5 - 1e-9])
    np.testing.assert_allclose(np.exp(stay_log_p(np.log(previous), title_mass=mass)), [0.5, 0.25, 1.0])
    np.testing.assert_array_equal(stay_log_p(np.array([-1.0, 1e-7])), [-1.0, 0.0])
    with pytest.raises(PredictionsError, match=r"row 1 .*masked law"):
        stay_log_p(np.zeros(2), title_mass=np.array([1.0, 0.0]))


# The bootstrap


@pytest.mark.parametrize(("workers", "draws"), [(1, 3), (2, 50), (40, 200)])
def test_every_draw_holds_as_many_workers_as_there_are(workers, draws):
    counts = worker_draws(workers, draws=draws)
    assert counts.shape == (draws, workers)
    assert (counts.sum(axis=1) == workers).all()
    assert counts.min() >= 0


def test_workers_are_drawn_with_equal_chance_and_replacement():
    counts = worker_draws(50, draws=20_000, seed=5)
    np.testing.assert_allclose(counts.mean(axis=0), 1.0, atol=0.04)
    np.testing.assert_allclose(counts.var(axis=0), 1 - 1 / 50, atol=0.06)
    assert np.corrcoef(counts[:, 0], counts[:, 1])[0, 1] == pytest.approx(-1 / 49, abs=0.03)


def test_a_seed_fixes_the_draws_however_they_are_chunked(monkeypatch):
    whole = worker_draws(13, draws=40, seed=3)
    assert not np.array_equal(whole, worker_draws(13, draws=40, seed=4))
    monkeypatch.setattr(metrics, "_CHUNK", 50)
    np.testing.assert_array_equal(worker_draws(13, draws=40, seed=3), whole)


@pytest.mark.parametrize("chunk", [1, 100, 1 << 22])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_bootstrap_is_the_metric_of_the_resampled_rows(monkeypatch, chunk, weighted):
    monkeypatch.setattr(metrics, "_CHUNK", chunk)
    generator = np.random.default_rng(7)
    worker = np.sort(generator.integers(0, 25, size=160))
    score, moved = generator.integers(0, 12, size=160) / 4, generator.random(160) < 0.3
    log_p = -generator.gamma(2, size=160)
    weights = generator.integers(0, 4, size=160) if weighted else None
    counts = worker_draws(25, draws=60, seed=1)
    fast = perplexity_draws(log_p, worker=worker, counts=counts, weights=weights)
    fast_auc = move_auc_draws(score, moved, worker=worker, counts=counts, weights=weights)
    for draw, times in enumerate(counts):
        rows = resampled_rows(worker, times)
        own = np.ones(160)[rows] if weights is None else weights[rows]
        assert fast[draw] == pytest.approx(perplexity(log_p[rows], weights=own), rel=1e-12)
        assert fast_auc[draw] == pytest.approx(auc_of_all_pairs(score[rows], moved[rows], own), rel=1e-12)


def test_a_draw_is_infinite_only_if_it_holds_what_is_infinite_and_unknown_if_it_holds_nothing():
    counts = np.array([[2, 0], [1, 1], [0, 2]])
    one = np.array([0, 0])
    np.testing.assert_array_equal(mean_draws(np.array([1.0, 3.0]), worker=one, counts=counts), [2.0, 2.0, np.nan])
    values, worker = np.array([-1.0, -np.inf]), np.array([0, 1])
    np.testing.assert_allclose(perplexity_draws(values, worker=worker, counts=counts), [np.e, np.inf, np.inf])
    weights = np.array([1.0, 0.0])
    draws = perplexity_draws(values, worker=worker, counts=counts, weights=weights)
    np.testing.assert_allclose(draws, [np.e, np.e, np.nan])


@given(scored(), st.integers(2, 4))
def test_copying_every_row_of_every_worker_leaves_the_error_unchanged(case, copies):
    score, moved, _, worker = case
    counts = worker_draws(7, draws=80)
    again = np.repeat(np.arange(len(score)), copies)
    for draws, values in ((perplexity_draws, (-np.abs(score),)), (move_auc_draws, (score, moved))):
        once = draws(*values, worker=worker, counts=counts)
        many = draws(*(v[again] for v in values), worker=worker[again], counts=counts)
        np.testing.assert_allclose(spread(many), spread(once), atol=1e-12)


def test_the_standard_error_of_workers_of_equal_length_is_that_of_their_means():
    generator = np.random.default_rng(0)
    values = np.repeat(generator.normal(size=400), 5)
    draws = mean_draws(values, worker=np.repeat(np.arange(400), 5), counts=worker_draws(400, draws=4000))
    assert spread(draws).se == pytest.approx(values[::5].std() / 20, rel=0.04)


def test_a_spread_is_the_standard_deviation_and_the_middle_ninety_five_percent():
    draws = np.arange(1001.0)
    assert spread(draws) == pytest.approx((draws.std(ddof=1), 25.0, 975.0))


@pytest.mark.parametrize(
    "draws", [np.full(9, np.nan), np.array([1.0]), np.array([1, 2, np.inf]), np.r_[np.ones(90), np.full(10, np.nan)]]
)
def test_a_number_that_few_draws_have_has_no_error(draws):
    assert np.isnan(spread(draws)).all()


def test_a_draw_without_a_number_is_left_out_if_it_is_rare():
    assert spread(np.r_[np.arange(99.0), np.nan]) == spread(np.arange(99.0))


def test_a_p_value_counts_the_draws_on_the_rarer_side_of_zero():
    assert paired_p_value(np.arange(1.0, 1000.0)) == pytest.approx(2 / 1000)
    assert paired_p_value(-np.arange(1.0, 1000.0)) == pytest.approx(2 / 1000)
    assert paired_p_value(np.r_[np.full(30, -1.0), np.full(969, 1.0)]) == pytest.approx(62 / 1000)
    assert paired_p_value(np.zeros(999)) == 1.0
    assert paired_p_value(np.r_[-1.0, 1.0, np.nan]) == 1.0
    assert np.isnan(paired_p_value(np.full(5, np.nan)))


@given(hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-3, 3)))
def test_a_p_value_is_the_same_for_both_directions_and_a_probability(differences):
    assert paired_p_value(differences) == paired_p_value(-differences)
    assert 0 < paired_p_value(differences) <= 1


# Against a known law


@given(st.integers(1, 6), st.integers(0, 99))
def test_the_divergence_from_the_truth_is_never_negative_and_zero_for_the_truth(titles, seed):
    generator = np.random.default_rng(seed)
    truth, model = generator.dirichlet(np.ones(titles), size=(2, 8))
    assert (kl_divergence(truth, np.log(model)) >= -1e-12).all()
    np.testing.assert_allclose(kl_divergence(truth, np.log(truth)), 0.0, atol=1e-12)


def test_the_divergence_is_in_nats_and_counts_mass_off_the_list(monkeypatch):
    truth = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    with np.errstate(divide="ignore"):
        model = np.log(np.array([[0.25, 0.75, 0.0], [0.5, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    expected = [0.5 * np.log(2) + 0.5 * np.log(2 / 3), np.log(2), np.inf]
    np.testing.assert_allclose(kl_divergence(truth, model), expected)
    monkeypatch.setattr(metrics, "_CHUNK", 1)
    np.testing.assert_allclose(kl_divergence(truth, model), expected)


def test_the_mean_divergence_of_predictions_is_the_log_of_perplexity_over_the_optimum():
    rows, truth, model = some_rows(workers=4000, seed=3), random_law(5, seed=3), random_law(5, seed=4)
    known, guess = predict(rows, truth), predict(rows, model)
    divergence = kl_divergence(truth.over_titles(rows), guess.log_p_all).mean()
    assert divergence == pytest.approx(np.log(perplexity(guess.log_p) / perplexity(known.log_p)), abs=0.03)
    assert divergence > 0.3


def test_a_truth_that_is_no_law_is_refused_with_its_row():
    truth = np.full((3, 2), 0.5)
    truth[1] = [0.5, 0.6]
    with pytest.raises(PredictionsError, match=r"row 1 of the truth is no law \(sum 1\.1\)"):
        kl_divergence(truth, np.zeros((3, 2)))
    with pytest.raises(PredictionsError, match=r"shape \(3, 2\)"):
        kl_divergence(truth, np.zeros((3, 3)))
