"""The penalised logit of arrays: its objective, its optimum, its contract with scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import approx_fprime
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from laborllm.models.logit import MultinomialLogit, objective
from laborllm.models.logit.objective import Coordinates, Objective

TIGHT = 1e-14
QUICK = settings(deadline=None, max_examples=40)
either = pytest.mark.parametrize("of", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])


@parametrize_with_checks([MultinomialLogit(tol=TIGHT)])
def test_the_array_level_keeps_scikit_learns_contract(estimator, check):
    check(estimator)


def sample(seed, *, rows=60, columns=4, classes=4):
    """Features of unequal scale, rare ones among them, and classes drawn from a logit of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)) * np.array([1.0, 0.1, 3.0, 1.0])[np.arange(columns) % 4]
    x[:, 1::3] = rng.random((rows, len(range(1, columns, 3)))) < 0.2
    z = x @ rng.normal(size=(columns, classes)) + rng.normal(size=classes)
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    y[:classes] = np.arange(classes)
    return x, y


def objective_of(seed, *, intercept=True, l2=0.7, of=np.asarray, **sizes):
    x, y = sample(seed, **sizes)
    weights = np.random.default_rng(seed + 1).integers(1, 4, len(y)).astype(float)
    return Objective(of(x), y, weights, int(y.max()) + 1, l2, intercept)


def twin(given, coefficients, intercepts):
    """The objective as its definition reads: one row at a time, one class at a time."""
    x = given.x.toarray() if sparse.issparse(given.x) else given.x
    total = 0.0
    for row, label, weight in zip(x, given.y, given.weights, strict=True):
        odds = [np.exp(row @ coefficients[:, j] + intercepts[j]) for j in range(given.num_classes)]
        total -= weight * np.log(odds[label] / sum(odds))
    return total + given.l2 / 2 * (coefficients**2).sum()


def a_point(given, seed=5):
    rng = np.random.default_rng(seed)
    intercepts = rng.normal(size=given.num_classes) if given.intercept else np.zeros(given.num_classes)
    return rng.normal(size=(given.x.shape[1], given.num_classes)), intercepts


@either
@pytest.mark.parametrize("intercept", [True, False])
def test_the_objective_in_blocks_equals_its_slow_twin(of, intercept, monkeypatch):
    monkeypatch.setattr(objective, "BLOCK", 7)
    given = objective_of(0, of=of, intercept=intercept)
    point = a_point(given)
    assert given.at(*point)[0] == pytest.approx(twin(given, *point), rel=1e-13)


@either
def test_the_gradient_is_that_of_the_slow_twin_by_finite_differences(of, monkeypatch):
    monkeypatch.setattr(objective, "BLOCK", 11)
    given = objective_of(1, of=of)
    coefficients, intercepts = a_point(given)
    flat = np.concatenate([coefficients.ravel(), intercepts])

    def value(v):
        return twin(given, v[: coefficients.size].reshape(coefficients.shape), v[coefficients.size :])

    _, slopes, levels = given.at(coefficients, intercepts)
    found = np.concatenate([slopes.ravel(), levels])
    assert found == pytest.approx(approx_fprime(flat, value, 1e-6), abs=1e-3, rel=1e-5)


def test_odds_beyond_the_range_of_exp_are_no_trouble():
    given = objective_of(0)
    coefficients, intercepts = a_point(given)
    value, slopes, levels = given.at(coefficients * 1e4, intercepts)
    assert np.isfinite(value)
    assert np.isfinite(slopes).all()
    assert np.isfinite(levels).all()


@pytest.mark.parametrize("columns", [4, 90])
@pytest.mark.parametrize("most", [4096, 3])
@pytest.mark.parametrize("intercept", [True, False])
def test_the_gradient_in_new_coordinates_is_the_transpose_of_the_way_back(intercept, most, columns, monkeypatch):
    monkeypatch.setattr(objective, "GRAM_COLUMNS", most)
    given = objective_of(2, intercept=intercept, columns=columns)
    coordinates = Coordinates.of(given)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(len(coordinates.scale) + 1, given.num_classes))
    slopes, levels = rng.normal(size=(columns, given.num_classes)), rng.normal(size=given.num_classes)
    step, shift = coordinates.parameters(z)
    there = np.vdot(step, slopes) + np.vdot(shift, levels)
    assert there == pytest.approx(np.vdot(z, coordinates.gradient(slopes, levels)), rel=1e-12)


def test_at_the_shares_of_the_classes_the_curvature_along_each_new_coordinate_is_nearly_one():
    given = objective_of(3, rows=400, columns=5, l2=0.01)
    coordinates = Coordinates.of(given)
    shares = given.observed[1] / given.weights.sum()
    zero, start = np.zeros((5, given.num_classes)), np.log(shares)
    step = 1e-4
    for place in range(zero.size + given.num_classes):
        z = np.zeros(zero.size + given.num_classes)
        z[place] = step
        moved, shift = coordinates.parameters(z.reshape(6, given.num_classes))
        values = [given.at(sign * moved, start + sign * shift)[0] for sign in (1, -1, 0)]
        assert (values[0] + values[1] - 2 * values[2]) / step**2 == pytest.approx(1, abs=1e-3)


@either
@pytest.mark.parametrize("classes", [3, 5])
def test_the_optimum_is_scikit_learns(of, classes):
    x, y = sample(4, rows=200, classes=classes)
    weights = np.random.default_rng(0).random(len(y)) + 0.5
    for intercept in (True, False):
        ours = MultinomialLogit(l2=0.5, fit_intercept=intercept, tol=TIGHT).fit(of(x), y, weights)
        peer = LogisticRegression(C=2.0, fit_intercept=intercept, solver="newton-cholesky", tol=1e-10).fit(
            x, y, weights
        )
        assert ours.coef_ == pytest.approx(peer.coef_, abs=1e-6)
        assert ours.intercept_ == pytest.approx(peer.intercept_ - peer.intercept_.mean(), abs=1e-6)
        assert ours.predict_proba(of(x)) == pytest.approx(peer.predict_proba(x), abs=1e-6)


def test_two_classes_have_scikit_learns_optimum_at_twice_its_c():
    x, y = sample(5, classes=2)
    ours = MultinomialLogit(l2=0.5, tol=TIGHT).fit(x, y)
    peer = LogisticRegression(C=4.0, solver="newton-cholesky", tol=1e-10).fit(x, y)
    assert ours.coef_.shape == (2, 4)
    assert ours.coef_[1] - ours.coef_[0] == pytest.approx(peer.coef_[0], abs=1e-6)


@QUICK
@given(seed=st.integers(0, 10**6), tol=st.sampled_from([1e-2, 1e-4, 1e-6]), intercept=st.booleans())
def test_the_objective_is_no_further_from_its_minimum_than_the_bound_says(seed, tol, intercept):
    x, y = sample(seed)
    settings = {"l2": 0.3, "fit_intercept": intercept}
    model, best = (MultinomialLogit(**settings, tol=t).fit(x, y) for t in (tol, TIGHT))
    assert model.gap_ <= tol
    assert model.objective_ - best.objective_ <= model.gap_ * model.objective_
    assert model.objective_ >= best.objective_ * (1 - 1e-13)


def test_objective_is_that_of_the_coefficients_given():
    x, y = sample(6)
    for intercept in (True, False):
        model = MultinomialLogit(l2=0.3, fit_intercept=intercept).fit(x, y)
        given = Objective(x, y, np.ones(len(y)), 4, 0.3, intercept)
        assert model.objective_ == pytest.approx(twin(given, model.coef_.T, model.intercept_), rel=1e-12)


def test_columns_and_intercepts_sum_to_zero_over_the_classes():
    model = MultinomialLogit(tol=TIGHT).fit(*sample(7))
    assert model.coef_.sum(axis=0) == pytest.approx(np.zeros(4), abs=1e-7)
    assert model.intercept_.sum() == pytest.approx(0, abs=1e-12)


@QUICK
@given(seed=st.integers(0, 10**6), copies=st.lists(st.integers(0, 3), min_size=60, max_size=60))
def test_an_integer_weight_equals_that_many_copies_of_the_row(seed, copies):
    x, y = sample(seed)
    copies = np.array([1, 1, 1, 1, *copies[4:]])
    weighted = MultinomialLogit(tol=TIGHT).fit(x, y, copies)
    copied = MultinomialLogit(tol=TIGHT).fit(np.repeat(x, copies, axis=0), np.repeat(y, copies))
    assert weighted.objective_ == pytest.approx(copied.objective_, rel=1e-12)
    assert weighted.coef_ == pytest.approx(copied.coef_, abs=1e-5)
    point = (weighted.coef_.T, weighted.intercept_)
    values = [
        Objective(x[copies > 0], y[copies > 0], copies[copies > 0].astype(float), 4, 1.0, intercept=True).at(*point),
        Objective(np.repeat(x, copies, axis=0), np.repeat(y, copies), np.ones(copies.sum()), 4, 1.0, intercept=True).at(
            *point
        ),
    ]
    for one, other in zip(*values, strict=True):
        assert one == pytest.approx(other, abs=1e-10)


def test_weights_of_one_change_nothing():
    x, y = sample(8)
    plain, ones = MultinomialLogit().fit(x, y), MultinomialLogit().fit(x, y, np.ones(len(y)))
    assert np.array_equal(plain.coef_, ones.coef_)


@QUICK
@given(seed=st.integers(0, 10**6))
def test_the_order_of_rows_does_not_matter(seed):
    x, y = sample(seed)
    order = np.random.default_rng(seed).permutation(len(y))
    one, other = MultinomialLogit(tol=TIGHT).fit(x, y), MultinomialLogit(tol=TIGHT).fit(x[order], y[order])
    assert one.objective_ == pytest.approx(other.objective_, rel=1e-12)
    assert one.predict_proba(x) == pytest.approx(other.predict_proba(x), abs=1e-6)


def test_more_columns_than_are_decomposed_lead_to_the_same_optimum(monkeypatch):
    x, y = sample(9, columns=7)
    usual = MultinomialLogit(tol=TIGHT).fit(x, y)
    monkeypatch.setattr(objective, "GRAM_COLUMNS", 6)
    assert MultinomialLogit(tol=TIGHT).fit(x, y).coef_ == pytest.approx(usual.coef_, abs=1e-6)


def test_the_new_coordinates_save_most_iterations_where_columns_are_rare_and_overlap(monkeypatch):
    rng = np.random.default_rng(0)
    state = np.minimum(rng.zipf(1.3, size=3000) - 1, 29)
    x = np.hstack([np.eye(30)[state], np.ones((3000, 1)), np.eye(10)[rng.integers(0, 10, 3000)]])
    y = np.where(rng.random(3000) < 0.6, state, np.minimum(rng.zipf(1.3, size=3000) - 1, 29))
    fast = MultinomialLogit(l2=0.1, tol=1e-8).fit(x, y)
    monkeypatch.setattr(objective, "GRAM_COLUMNS", 0)
    slow = MultinomialLogit(l2=0.1, tol=1e-8).fit(x, y)
    assert fast.objective_ == pytest.approx(slow.objective_, rel=2e-8)
    assert fast.n_iter_ < slow.n_iter_ / 2


def test_directions_that_the_data_do_not_bend_are_left_out_and_a_warm_start_forgets_them():
    x, y = sample(15, columns=4)
    wide = np.hstack([x, x @ np.ones((4, 2)), np.zeros((60, 3)), np.ones((60, 1))])
    assert Coordinates.of(Objective(wide, y, np.ones(60), 4, 1.0, intercept=True)).axes.shape == (10, 4)
    peer = LogisticRegression(solver="newton-cholesky", tol=1e-10).fit(wide, y)
    model = MultinomialLogit(tol=TIGHT, warm_start=True).fit(wide, y)
    assert model.coef_ == pytest.approx(peer.coef_, abs=1e-6)
    model.coef_ = model.coef_ + np.random.default_rng(0).normal(size=model.coef_.shape)
    assert model.fit(wide, y).coef_ == pytest.approx(peer.coef_, abs=1e-6)


def test_perfect_separation_has_a_finite_optimum():
    x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    model = MultinomialLogit(l2=1e-3, tol=TIGHT).fit(x, [0, 0, 1, 1])
    assert np.isfinite(model.coef_).all()
    assert model.predict(x).tolist() == [0, 0, 1, 1]


def test_a_warm_start_begins_at_the_last_solution_and_ends_at_the_same_one():
    x, y = sample(10, rows=300)
    cold = MultinomialLogit(l2=0.9, tol=TIGHT).fit(x, y)
    warm = MultinomialLogit(l2=1.0, tol=TIGHT, warm_start=True).fit(x, y)
    first = warm.n_iter_
    warm.set_params(l2=0.9).fit(x, y)
    assert warm.coef_ == pytest.approx(cold.coef_, abs=1e-6)
    assert warm.fit(x, y).n_iter_ < first / 2
    other = (y + 1) % 3
    assert warm.fit(x, other).coef_ == pytest.approx(MultinomialLogit(l2=0.9, tol=TIGHT).fit(x, other).coef_, abs=1e-6)
    without = warm.set_params(fit_intercept=False).fit(x, y)
    assert (without.intercept_ == 0).all()
    alone = MultinomialLogit(l2=0.9, tol=TIGHT, fit_intercept=False).fit(x, y)
    assert without.coef_ == pytest.approx(alone.coef_, abs=1e-6)


def test_a_fit_that_did_not_converge_says_how_far_it_came():
    message = r"after 2 iterations.*of the minimum; the gradient's norm is \d.*max_iter"
    with pytest.warns(ConvergenceWarning, match=message):
        model = MultinomialLogit(max_iter=2).fit(*sample(11))
    assert model.n_iter_ == 2
    assert model.gap_ > model.tol


def test_a_fit_at_the_limit_of_float64_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MultinomialLogit(tol=1e-30).fit(*sample(12))


@pytest.mark.parametrize(
    ("options", "changed", "message"),
    [
        ({"l2": 0}, {}, "l2 is 0; give a positive number"),
        ({"l2": np.inf}, {}, "l2 is inf"),
        ({"tol": 0.0}, {}, "tol is 0.0"),
        ({"max_iter": 0}, {}, "max_iter 0"),
        ({}, {"y": np.zeros(60, int)}, r"1 class \(np.int64\(0\)\); a logit needs two"),
        ({}, {"sample_weight": np.r_[np.ones(59), -1]}, r"weight of row 59 is -1.0 \(1 such rows\)"),
        ({}, {"sample_weight": np.r_[np.nan, np.ones(59)]}, "weight of row 0 is nan"),
        ({}, {"sample_weight": np.ones(3)}, r"shape \(3,\); give one number for each of 60 rows"),
        ({}, {"sample_weight": np.zeros(60)}, "weight of every row is zero"),
        ({}, {"X": np.full((60, 4), np.nan)}, "NaN"),
        ({}, {"y": np.arange(59)}, "inconsistent numbers of samples"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_a_reason(options, changed, message):
    x, y = sample(13)
    with pytest.raises(ValueError, match=message):
        MultinomialLogit(**options).fit(**({"X": x, "y": y} | changed))


def test_rows_of_weight_zero_leave_no_class_behind():
    x, y = sample(14)
    model = MultinomialLogit().fit(x, y, np.where(y == 2, 0, 1))
    assert model.classes_.tolist() == [0, 1, 3]
