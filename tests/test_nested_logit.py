from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from laborllm.errors import ModelError
from laborllm.models.logit import conditional_logit, nested_logit, stay_move_nests
from laborllm.models.logit.likelihood import Conditional
from laborllm.models.logit.nests import Nested
from laborllm.models.logit.sample import Sample
from tests.choices import COOLING, HEATING, Choices, climb, curvature, drawn, house_cooling, slopes, slow_nested
from tests.panels import real_panel

QUICK = settings(deadline=None, max_examples=20)
BY_COOLING = {"cooling": COOLING, "other": ["gc", "ec", "er"]}
BY_ROOM = {"central": ["ec", "ecc", "gc", "gcc", "hpc"], "room": ["er", "erc"]}
APART = {"n1": ["gcc", "ecc", "erc"], "n2": ["hpc"], "n3": ["gc", "ec", "er"]}

# Train and Croissant, Exercise 2, as R's mlogit 1.0 prints it: coefficients, then standard errors, which come from the
# outer product of the scores (its BFGS has no Hessian). ich, och, icca, occa, inc.room, inc.cooling, int.cooling, iv.
PRINTED = {
    "cooling": (
        BY_COOLING,
        -178.1247,
        [-0.554878, -0.857886, -0.225079, -1.089458, -0.378971, 0.249575, -6.000415, 0.585922],
        [0.144205, 0.255313, 0.144423, 1.219821, 0.099631, 0.059213, 5.562423, 0.179708],
    ),
    "room": (
        BY_ROOM,
        -180.0231,
        [-1.13818, -1.82532, -0.33746, -2.06328, -0.75722, 0.41689, -13.82487, 1.36201],
        [0.54216, 0.93228, 0.26934, 1.89726, 0.34292, 0.20742, 7.94031, 0.65393],
    ),
    "heat pump apart": (
        APART,
        -180.2633,
        [-0.838394, -1.331598, -0.256131, -1.405656, -0.571352, 0.311355, -10.413384, 0.956544],
        [0.100546, 0.252069, 0.145564, 1.207281, 0.077950, 0.056357, 5.612445, 0.180722],
    ),
}
# torch-choice's tutorial for the first, where it inverts the Hessian (ten thousand steps of Adam in float32).
TORCH_CHOICE = [0.144517, 0.237495, 0.110575, 1.03673, 0.100705, 0.0518545, 4.82945, 0.166625]


def codes(nests, alternatives):
    return np.array([next(m for m, members in enumerate(nests.values()) if a in members) for a in alternatives])


def likelihood_of(data, groups, *, transform, fixed, weights=None):
    size = len(data.chosen)
    weights = np.ones(size) if weights is None else weights
    sample = Sample(np.arange(size), data.chosen, data.available, weights, None)
    return Nested(data.x, sample, groups, transform=np.asarray(transform, float), fixed=np.asarray(fixed, float))


def one_lambda(count):
    return lambda phi: [phi[0]] * count


@pytest.mark.parametrize("name", PRINTED)
@pytest.mark.filterwarnings("ignore:inclusive-value parameters outside")
def test_house_cooling_gives_what_mlogit_prints_and_an_independent_optimum(name):
    nests, log_likelihood, coefficients, errors = PRINTED[name]
    data = house_cooling()
    mine = nested_logit(data.chosen, data.x, nests, shared=True, **data.options)
    assert mine.llf == pytest.approx(log_likelihood, abs=5.1e-5)
    np.testing.assert_allclose(mine.params, coefficients, rtol=3e-4)  # mlogit stops early: g'H⁻¹g of 6e-7 to 7e-6
    groups = np.tile(codes(nests, data.alternatives), (250, 1))
    start = np.append(conditional_logit(data.chosen, data.x).params, 1.0)
    params, value, bse = climb(slow_nested(data.chosen, data.x, groups, one_lambda(len(nests))), start)
    assert mine.llf == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(mine.params, params, rtol=1e-6)
    np.testing.assert_allclose(mine.bse, bse, rtol=1e-6)
    transform = np.ones((len(nests), 1))
    scores = likelihood_of(data, groups, transform=transform, fixed=np.zeros(len(nests))).scores(
        mine.params, np.arange(250)
    )
    np.testing.assert_allclose(np.sqrt(np.diag(np.linalg.inv(scores.T @ scores))), errors, rtol=1e-3)
    if name == "cooling":
        np.testing.assert_allclose(mine.bse, TORCH_CHOICE, rtol=1e-4)


def test_a_parameter_for_each_nest_gives_the_likelihood_ratio_that_train_reports():
    data = house_cooling()
    shared = nested_logit(data.chosen, data.x, BY_COOLING, shared=True, **data.options)
    apart = nested_logit(data.chosen, data.x, BY_COOLING, **data.options)
    assert 2 * (apart.llf - shared.llf) == pytest.approx(0.6299, abs=5e-5)
    np.testing.assert_allclose(apart.lambdas, [0.60, 0.45], atol=5e-3)  # "around 1-0.60 and 1-0.45"
    assert apart.names[-2:] == ("lambda:cooling", "lambda:other")
    groups = np.tile(codes(BY_COOLING, data.alternatives), (250, 1))
    start = np.append(conditional_logit(data.chosen, data.x).params, [1.0, 1.0])
    params, value, bse = climb(slow_nested(data.chosen, data.x, groups, lambda phi: phi), start)
    assert apart.llf == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(apart.params, params, rtol=1e-6)
    np.testing.assert_allclose(apart.bse, bse, rtol=1e-6)


def test_the_test_of_no_nests_is_that_of_the_vignette():
    data = house_cooling()
    flat = conditional_logit(data.chosen, data.x, **data.options)
    nested = nested_logit(data.chosen, data.x, BY_COOLING, shared=True, **data.options)
    ratio = 2 * (nested.llf - flat.llf)
    assert ratio == pytest.approx(4.3234, abs=5e-4)
    assert stats.chi2.sf(ratio, 1) == pytest.approx(0.03759, abs=1e-4)


def worlds(seed, *, masked, by_row):
    """Choices, nests of each row, and inclusive-value parameters somewhere near ½."""
    rng = np.random.default_rng(seed)
    data = drawn(60, 6, 3, seed=seed, masked=masked)
    groups = rng.integers(0, 3, (60, 6)) if by_row else np.tile([0, 0, 1, 1, 1, 2], (60, 1))
    return data, groups, np.append(rng.normal(size=3) / 2, rng.uniform(0.3, 1.4, 3))


@QUICK
@given(seed=st.integers(0, 10**6), masked=st.booleans(), by_row=st.booleans())
def test_derivatives_are_those_of_the_slow_log_likelihood(seed, masked, by_row):
    data, groups, at = worlds(seed, masked=masked, by_row=by_row)
    slow = slow_nested(data.chosen, data.x, groups, lambda phi: phi, data.available)
    fast = likelihood_of(data, groups, transform=np.eye(3), fixed=np.zeros(3))
    value, gradient, hessian = fast.derivatives(at)
    assert value == pytest.approx(slow(at).real, rel=1e-12)
    assert value == pytest.approx(fast.value(at), rel=1e-13)
    np.testing.assert_allclose(gradient, slopes(slow, at), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(hessian, curvature(slow, at), rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(fast.scores(at, np.arange(60)).sum(axis=0), gradient, atol=1e-9)
    np.testing.assert_allclose(fast.probabilities(at).sum(axis=1), 1.0, rtol=1e-12)


@QUICK
@given(seed=st.integers(0, 10**6), masked=st.booleans())
def test_shared_and_fixed_parameters_are_restrictions_of_free_ones(seed, masked):
    data, groups, at = worlds(seed, masked=masked, by_row=True)
    weights = np.random.default_rng(seed).uniform(0.5, 2, 60)
    free = likelihood_of(data, groups, transform=np.eye(3), fixed=np.zeros(3), weights=weights)
    transform, fixed = np.array([[1.0], [1.0], [0.0]]), np.array([0.0, 0.0, 1.0])
    tied = likelihood_of(data, groups, transform=transform, fixed=fixed, weights=weights)
    one = at[:4]
    whole = np.concatenate([one[:3], fixed + transform @ one[3:]])
    chain = np.zeros((6, 4))
    chain[:3, :3], chain[3:, 3:] = np.eye(3), transform
    value, gradient, hessian = free.derivatives(whole)
    for mine, expected in zip(
        tied.derivatives(one), (value, chain.T @ gradient, chain.T @ hessian @ chain), strict=True
    ):
        np.testing.assert_allclose(mine, expected, rtol=1e-11, atol=1e-11)


@QUICK
@given(seed=st.integers(0, 10**6), masked=st.booleans(), by_row=st.booleans())
def test_with_parameters_of_one_the_law_is_that_of_the_conditional_logit(seed, masked, by_row):
    data, groups, at = worlds(seed, masked=masked, by_row=by_row)
    nested = likelihood_of(data, groups, transform=np.zeros((3, 0)), fixed=np.ones(3))
    flat = Conditional(data.x, nested.sample)
    np.testing.assert_allclose(nested.probabilities(at[:3]), flat.probabilities(at[:3]), rtol=1e-11, atol=1e-14)
    for mine, theirs in zip(nested.derivatives(at[:3]), flat.derivatives(at[:3]), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)


def test_a_parameter_that_is_not_positive_is_outside_the_domain():
    data, groups, at = worlds(1, masked=False, by_row=False)
    fast = likelihood_of(data, groups, transform=np.eye(3), fixed=np.zeros(3))
    for outside in (0.0, -0.5):
        assert fast.value(np.append(at[:5], outside)) == -np.inf


def test_blocks_of_rows_change_nothing(monkeypatch):
    data, groups, at = worlds(1, masked=True, by_row=True)
    options = {"transform": np.eye(3), "fixed": np.zeros(3)}
    whole = likelihood_of(data, groups, **options).derivatives(at)
    monkeypatch.setattr("laborllm.models.logit.likelihood.BLOCK_CELLS", 200)
    parts = likelihood_of(data, groups, **options)
    assert len(parts.blocks) > 5
    for mine, expected in zip(parts.derivatives(at), whole, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-11, atol=1e-11)


def nested_choices(num_rows, *, seed, lambdas=(0.4, 0.8)):
    """Six alternatives in two nests, drawn from the law itself; coefficients 1 and -½."""
    data = drawn(num_rows, 6, 2, seed=seed)
    groups = np.tile([0, 0, 0, 1, 1, 1], (num_rows, 1))
    law = likelihood_of(data, groups, transform=np.zeros((2, 0)), fixed=lambdas).probabilities(np.array([1.0, -0.5]))
    draws = np.random.default_rng(seed + 10**7).random(num_rows)[:, None]
    chosen = np.minimum((law.cumsum(axis=1) < draws).sum(axis=1), 5)
    return Choices(chosen, data.x, data.names, data.alternatives, data.available), groups


@pytest.mark.filterwarnings("ignore:inclusive-value parameters outside")
def test_intervals_hold_the_truth_as_often_as_they_say():
    truth = np.array([1.0, -0.5, 0.4, 0.8])
    inside, draws = np.zeros(4), 200
    for seed in range(draws):
        data, groups = nested_choices(600, seed=seed)
        results = nested_logit(data.chosen, data.x, groups[0], cov_type="robust" if seed % 2 else "classical")
        assert results.converged
        low, high = results.conf_int().T
        inside += (low <= truth) & (truth <= high)
    error = np.sqrt(0.95 * 0.05 / draws)
    assert (np.abs(inside / draws - 0.95) < 4 * error).all()


def test_row_order_weights_and_names_of_nests_do_not_matter():
    data, groups = nested_choices(500, seed=1)
    weights = np.random.default_rng(0).integers(0, 3, 500)
    order = np.random.default_rng(1).permutation(np.repeat(np.arange(500), weights))
    one = nested_logit(data.chosen, data.x, groups, weights=weights, **data.options)
    nests = {"rest": data.alternatives[3:], "first": data.alternatives[:3]}
    other = nested_logit(data.chosen[order], data.x[order], nests, **data.options)
    assert one.llf == pytest.approx(other.llf, rel=1e-10)
    swap = [0, 1, 3, 2]
    np.testing.assert_allclose(one.params, other.params[swap], rtol=1e-9)
    np.testing.assert_allclose(one.cov_params(), other.cov_params()[np.ix_(swap, swap)], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(one.predict(data.x), other.predict(data.x), rtol=1e-9)


def test_clusters_of_one_row_are_robust_errors_but_for_the_stated_correction():
    data, groups = nested_choices(300, seed=2, lambdas=(0.3, 0.5))
    robust = nested_logit(data.chosen, data.x, groups, cov_type="robust")
    clustered = nested_logit(data.chosen, data.x, groups, clusters=np.arange(300))
    np.testing.assert_allclose(clustered.cov_params(), robust.cov_params() * 300 / 299 * 299 / 296, rtol=1e-10)


@pytest.mark.filterwarnings("ignore:inclusive-value parameters outside")
def test_a_nest_with_one_available_alternative_has_no_parameter():
    data = house_cooling()
    apart = nested_logit(data.chosen, data.x, APART, **data.options)
    assert apart.names[-2:] == ("lambda:n1", "lambda:n3")
    assert apart.lambdas[1] == 1.0
    np.testing.assert_allclose(apart.predict().sum(axis=1), 1.0)


def test_an_unavailable_alternative_might_as_well_not_exist():
    data, groups = nested_choices(600, seed=3)
    keep = data.chosen != 5
    mask = np.tile(np.arange(6) < 5, (keep.sum(), 1))
    one = nested_logit(data.chosen[keep], data.x[keep], groups[0], available=mask)
    other = nested_logit(data.chosen[keep], data.x[keep][:, :5], groups[0, :5])
    np.testing.assert_allclose(one.params, other.params, rtol=1e-10)
    np.testing.assert_allclose(one.bse, other.bse, rtol=1e-9)


def stayers(num_rows, *, seed):
    """Workers who stay or move among five states, where moves share a taste (λ = ½) and prices differ."""
    rng = np.random.default_rng(seed)
    previous = rng.integers(0, 5, num_rows)
    stay = (previous[:, None] == np.arange(5)).astype(float)
    data = drawn(num_rows, 5, 1, seed=seed)
    x = np.concatenate([stay[:, :, None], data.x], axis=2)
    groups = stay_move_nests(previous, 5)
    law = likelihood_of(
        Choices(data.chosen, x, (), (), data.available), groups, transform=np.zeros((2, 0)), fixed=[1.0, 0.5]
    ).probabilities(np.array([2.0, 1.0]))
    chosen = np.minimum((law.cumsum(axis=1) < rng.random((num_rows, 1))).sum(axis=1), 4)
    return previous, chosen, x, groups


def test_a_prediction_takes_nests_by_their_names_or_in_the_order_of_the_fit_and_no_others():
    data = drawn(100, 4, 2)
    with pytest.warns(UserWarning, match="outside"):
        results = nested_logit(data.chosen, data.x, {"near": [0, 1], "far": [2, 3]})
    law = results.predict(data.x)
    np.testing.assert_array_equal(results.predict(data.x, nests={"far": [2, 3], "near": [0, 1]}), law)
    np.testing.assert_array_equal(results.predict(data.x, nests=[0, 0, 1, 1]), law)
    assert np.abs(results.predict(data.x, nests=[1, 1, 0, 0]) - law).max() > 1e-3
    for nests, words in (({"near": [0, 1], "away": [2, 3]}, "no nest 'away'"), ([0, 1, 2, 2], "no nest '2'")):
        with pytest.raises(ModelError, match=f"{words}; its nests are near, far"):
            results.predict(data.x, nests=nests)


def test_stay_and_move_nests_differ_between_rows_and_recover_how_alike_moves_are():
    previous, chosen, x, groups = stayers(6000, seed=0)
    results = nested_logit(chosen, x, groups, names=["stay", "price"])
    assert results.names == ("stay", "price", "lambda:1")
    assert (np.abs(results.params - [2.0, 1.0, 0.5]) < 4 * results.bse).all()
    np.testing.assert_array_equal(results.predict(x[:7], nests=groups[:7]), results.predict()[:7])
    law = results.predict()
    assert law[np.arange(6000), previous].mean() == pytest.approx((chosen == previous).mean(), abs=1e-9)
    with pytest.raises(ModelError, match="nests of this model differ between rows"):
        results.predict(x[:7])


def test_real_careers_take_stay_and_move_nests():
    panel = real_panel("nlsy97")
    rows = panel.transitions()
    keep = np.flatnonzero(~rows.first)[:4000]
    popular = np.argsort(-np.bincount(rows.occupation), kind="stable")[:6]
    place = {state: number for number, state in enumerate(popular)}
    kept = [n for n in keep if rows.previous[n] in place and rows.occupation[n] in place]
    previous = np.array([place[rows.previous[n]] for n in kept])
    chosen = np.array([place[rows.occupation[n]] for n in kept])
    stay = previous[:, None] == np.arange(6)
    constants = np.tile(np.eye(6)[1:].T, (len(kept), 1, 1))
    x = np.concatenate([stay[:, :, None], constants], axis=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where λ comes to lie is for the data to say
        results = nested_logit(chosen, x, stay_move_nests(previous, 6), clusters=rows.worker[kept])
    assert results.llf >= conditional_logit(chosen, x).llf
    np.testing.assert_allclose(results.predict().sum(axis=1), 1.0)


def test_a_parameter_above_one_is_kept_with_a_warning():
    data = house_cooling()
    with pytest.warns(UserWarning, match=r"outside \(0, 1\]: central 1.362, room 1.362"):
        results = nested_logit(data.chosen, data.x, BY_ROOM, shared=True, **data.options)
    assert results.lambdas[0] > 1


@pytest.mark.parametrize("seed", range(6))
def test_a_hessian_that_is_flat_gives_no_standard_errors_and_says_why(seed):
    """Within nests nothing differs, so that λ only adds to what the constant of the nest does."""
    rng = np.random.default_rng(seed)
    first = (np.arange(5) < 2).astype(float)
    price = rng.normal(size=(400, 2)) @ np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1.0]])
    x = np.stack([np.tile(first, (400, 1)), price], axis=2)
    chosen = (x @ [0.5, 1.0] + rng.gumbel(size=(400, 5))).argmax(axis=1)
    with pytest.warns(UserWarning, match="no standard errors: the Hessian is not negative definite"):
        results = nested_logit(chosen, x, [0, 0, 1, 1, 1], names=["first", "price"], shared=True)
    assert "'lambda'" in results.why
    assert "'first'" in results.why
    assert np.isnan(results.bse).all()
    assert np.isfinite(results.params).all()
    assert results.why in results.summary()


def test_a_state_nobody_chose_stays_without_a_finite_optimum():
    data, _ = nested_choices(500, seed=4)
    wide = np.concatenate([data.x, np.zeros((500, 1, 2))], axis=1)
    wide = np.concatenate([wide, np.zeros((500, 7, 1))], axis=2)
    wide[:, 6, 2] = 1.0
    results = nested_logit(data.chosen, wide, [0, 0, 0, 1, 1, 1, 1], names=["a", "b", "6:(constant)"])
    plain = nested_logit(data.chosen, data.x, [0, 0, 0, 1, 1, 1])
    assert results.absent == ("6",)
    assert results.no_optimum == ("6:(constant)",)
    np.testing.assert_allclose(np.delete(results.params, 2), plain.params, rtol=1e-10)
    np.testing.assert_allclose(results.predict()[:, :6], plain.predict(), rtol=1e-9)


@pytest.mark.parametrize(
    ("nests", "words"),
    [
        ({"a": [0, 1, 2]}, "alternative '3' is in no nest"),
        ({"a": [0, 1, 2], "b": [2, 3]}, "alternative '2' is in two nests"),
        ({"a": [0, 1], "b": [2, 9]}, "nest 'b' holds 9, which is no alternative"),
        ({"a": [0, 1], "b": [2, "x"]}, "nest 'b' holds 'x'"),
        ({"a": [0, 1, 2, 3]}, "in one nest, whose parameter is only a scale"),
        ([0, 1, 2, 3], "no nest ever holds two available alternatives"),
        ([0, 1, 2], r"nests of shape \(3,\)"),
        ([0, 0, -1, -1], "numbers from zero up"),
        ([0.0, 0.0, 1.0, 1.0], "type float64"),
    ],
)
def test_nests_that_are_none_are_refused_in_one_line(nests, words):
    data = drawn(100, 4, 2)
    with pytest.raises(ModelError, match=words) as caught:
        nested_logit(data.chosen, data.x, nests)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("previous", "words"),
    [([0, -1, 2], "row 1 has the previous state -1.*leave first rows out"), ([0, 3], "row 1"), ([[0]], "shape")],
)
def test_a_previous_state_that_is_none_is_refused(previous, words):
    with pytest.raises(ModelError, match=words):
        stay_move_nests(previous, 3)


def test_house_cooling_has_the_systems_of_the_vignette():
    data = house_cooling()
    shares = np.bincount(data.chosen) / 250
    assert data.alternatives == tuple(HEATING)
    np.testing.assert_allclose(shares, [0.004, 0.016, 0.032, 0.004, 0.096, 0.744, 0.104])
