from __future__ import annotations

import doctest
import tracemalloc
from importlib import import_module

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laborllm.errors import ModelError
from laborllm.models.logit import choice_design, conditional_logit, multinomial_logit
from laborllm.models.logit.likelihood import Conditional, Multinomial
from laborllm.models.logit.newton import maximise
from laborllm.models.logit.sample import Sample
from tests.choices import (
    bank_wages,
    careers,
    climb,
    curvature,
    drawn,
    fishing,
    fishing_income,
    mode_canada,
    slopes,
    slow_conditional,
)

QUICK = settings(deadline=None, max_examples=25)


@pytest.fixture(scope="module")
def sm():
    """The peer that prints every digit."""
    return pytest.importorskip("statsmodels.api", reason="statsmodels is not installed")


@pytest.fixture(scope="module")
def anes96(sm):
    """Party identification and the variables of statsmodels' own example."""
    data = sm.datasets.anes96.load_pandas()
    x = data.exog.copy()
    x["const"] = 1.0
    return data.endog.to_numpy(), x


def peer(sm, y, x, **options):
    model = sm.MNLogit(y, np.asarray(x, float))
    return model.fit(method="newton", maxiter=100, tol=1e-9, disp=0, **options)


def agrees(results, params, bse):
    np.testing.assert_allclose(results.params, params, rtol=1e-6)
    np.testing.assert_allclose(results.bse, bse, rtol=1e-6)


def by_state(array):
    """statsmodels' (K, J - 1) as one row after the other of (J - 1, K)."""
    return np.asarray(array).T.ravel()


def tables():
    men, x = bank_wages()
    mode, income = fishing_income()
    return {"BankWages": (men, x, -118.74, 2), "Fishing on income": (mode, income, -1477.150569, 6)}


@pytest.mark.parametrize("name", ["BankWages", "Fishing on income"])
def test_multinomial_logit_finds_what_statsmodels_finds(sm, name):
    y, x, published, digits = tables()[name]
    mine, theirs = multinomial_logit(y, x), peer(sm, np.unique(y, return_inverse=True)[1], x)
    assert mine.llf == pytest.approx(theirs.llf, rel=1e-10)
    assert mine.llf == pytest.approx(published, abs=0.5 * 10.0**-digits)
    agrees(mine, by_state(theirs.params), by_state(theirs.bse))
    assert mine.converged
    assert mine.max_gradient < 1e-6


def test_multinomial_logit_agrees_with_statsmodels_in_everything_it_prints(sm, anes96):
    y, x = anes96
    mine, theirs = multinomial_logit(y, x), peer(sm, y, x)
    assert mine.llf == pytest.approx(-1461.922747, abs=5e-7)
    np.testing.assert_allclose(
        mine.params[:6], [-0.011536, 0.297714, -0.024945, 0.082491, 0.005197, -0.373402], atol=5e-7
    )
    for name in ("llf", "llnull", "prsquared", "llr", "aic", "bic", "nobs", "df_resid"):
        assert getattr(mine, name) == pytest.approx(getattr(theirs, name), rel=1e-8), name  # their null is a fit
    counts = np.unique(y, return_counts=True)[1]
    assert mine.llnull == pytest.approx((counts * np.log(counts / 944)).sum(), rel=1e-13)
    for name in ("params", "bse", "tvalues", "pvalues"):
        np.testing.assert_allclose(getattr(mine, name), by_state(getattr(theirs, name)), rtol=1e-6, atol=1e-300)
    np.testing.assert_allclose(mine.cov_params(), theirs.cov_params(), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(mine.conf_int(0.1), theirs.conf_int(0.1).reshape(-1, 2), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(mine.predict(), theirs.predict(), rtol=1e-7)
    assert mine.llr_pvalue == pytest.approx(theirs.llr_pvalue, rel=1e-5)
    assert mine.names[0] == "1:logpopul"


@pytest.mark.parametrize("kind", ["HC0", "cluster"])
def test_robust_and_clustered_errors_are_those_of_statsmodels(sm, anes96, kind):
    y, x = anes96
    groups = np.asarray(x["age"], int)
    if kind == "cluster":
        mine = multinomial_logit(y, x, clusters=groups)
        theirs = peer(sm, y, x, cov_type="cluster", cov_kwds={"groups": groups})
    else:
        mine, theirs = multinomial_logit(y, x, cov_type="robust"), peer(sm, y, x, cov_type="HC0")
    agrees(mine, by_state(theirs.params), by_state(theirs.bse))
    np.testing.assert_allclose(mine.pvalues, by_state(theirs.pvalues), rtol=1e-5, atol=1e-300)
    assert np.abs(mine.bse / multinomial_logit(y, x).bse - 1).max() > 0.05


def test_occupations_of_young_men_have_the_reference_log_likelihood(sm):
    pytest.importorskip("linearmodels")
    from linearmodels.datasets import wage_panel

    panel = wage_panel.load()
    x = panel.assign(const=1.0)[["const", "educ", "exper", "black", "hisp"]].astype(float)
    y = panel["occupation"].to_numpy().astype(int)
    mine, theirs = multinomial_logit(y, x, clusters=panel["nr"]), peer(sm, y - 1, x)
    assert mine.llf == pytest.approx(-8404.996933, abs=5e-7)
    np.testing.assert_allclose(mine.params, by_state(theirs.params), rtol=1e-6)
    clustered = peer(sm, y - 1, x, cov_type="cluster", cov_kwds={"groups": panel["nr"].to_numpy()})
    np.testing.assert_allclose(mine.bse, by_state(clustered.bse), rtol=1e-6)
    assert mine.num_clusters == 545


# Printed by R's mlogit (coefficients and standard errors), as torch-choice's tutorial and mlogit's tests show them.
MODE_CANADA = {
    "cost": (-0.0333389, 0.0070955),
    "freq": (0.0925297, 0.0050976),
    "ovt": (-0.0430036, 0.0032247),
    "bus:income": (-0.0890869, None),
    "car:income": (-0.0279930, None),
    "train:income": (-0.0381466, None),
    "air:ivt": (0.0595097, None),
    "bus:ivt": (-0.0067837, None),
    "car:ivt": (-0.0064603, None),
    "train:ivt": (-0.0014504, None),
    "bus:(constant)": (0.6983738, None),
    "car:(constant)": (1.8441133, None),
    "train:(constant)": (3.2741955, None),
}
CONDITIONAL = {
    "ModeCanada": (mode_canada, -1874.342743, MODE_CANADA),
    "Fishing": (
        lambda: fishing(constants=False),
        -1311.97961711,
        {"price": (-0.0204765, 0.0012231), "catch": (0.9530985, 0.0894134)},
    ),
    "Fishing with constants": (
        lambda: fishing(constants=True),
        -1230.783830,
        {
            "price": (-0.0247896, None),
            "catch": (0.3771689, None),
            "pier:(constant)": (0.3070552, None),
            "boat:(constant)": (0.8713749, None),
            "charter:(constant)": (1.4988884, None),
        },
    ),
}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_conditional_logit_gives_the_published_numbers_and_an_independent_optimum(name):
    make, log_likelihood, printed = CONDITIONAL[name]
    data = make()
    mine = conditional_logit(data.chosen, data.x, **data.options)
    assert mine.llf == pytest.approx(log_likelihood, rel=1e-8)
    for variable, (coefficient, error) in printed.items():
        place = mine.names.index(variable)
        assert mine.params[place] == pytest.approx(coefficient, abs=5.1e-8), variable
        assert error is None or mine.bse[place] == pytest.approx(error, abs=5.1e-8), variable
    params, value, bse = climb(slow_conditional(data.chosen, data.x), np.zeros(data.x.shape[2]))
    assert mine.llf == pytest.approx(value, rel=1e-12)
    agrees(mine, params, bse)


def test_men_in_a_bank_have_the_coefficients_that_mlogit_prints():
    y, x = bank_wages()
    mine = multinomial_logit(y, x, names=["(intercept)", "education", "minorityyes"], base="custodial")
    printed = [-4.760722, 0.553399, -0.426952, -30.774826, 2.186770, -2.536041]
    errors = [1.172774, 0.099041, 0.502708, 4.478608, 0.294835, 0.934207]
    np.testing.assert_allclose(mine.params, printed, rtol=1e-5)  # mlogit stopped at its sixth digit
    np.testing.assert_allclose(mine.bse, errors, rtol=1e-5)
    assert mine.prsquared == pytest.approx(0.48676, abs=5e-6)
    assert mine.llr == pytest.approx(225.22, abs=5e-3)


def likelihoods(seed=0):
    """Both likelihoods on drawn choices with some alternatives missing, and the slow twin of each."""
    data = drawn(60, 4, 3, seed=seed, masked=True)
    weights = np.random.default_rng(seed).uniform(0.5, 2, 60)
    sample = Sample(np.arange(60), data.chosen, data.available, weights, None)
    x = data.x[:, 0]
    design = choice_design(
        data.alternatives, individual=dict(zip(data.names, x.T, strict=True)), constants=False, available=data.available
    )
    order = np.argsort([name.split(":")[0] for name in design.names], kind="stable")
    free = np.arange(1, 4)
    return [
        (Conditional(data.x, sample), slow_conditional(data.chosen, data.x, data.available, weights), 3),
        (
            Multinomial(x, sample, free=free),
            slow_conditional(data.chosen, design.X[:, :, order], data.available, weights),
            9,
        ),
    ]


@QUICK
@given(seed=st.integers(0, 10**6))
def test_derivatives_are_those_of_the_slow_log_likelihood(seed):
    for fast, slow, size in likelihoods(seed):
        at = np.random.default_rng(seed).normal(size=size)
        value, gradient, hessian = fast.derivatives(at)
        assert value == pytest.approx(slow(at), rel=1e-12)
        assert value == pytest.approx(fast.value(at), rel=1e-14)
        np.testing.assert_allclose(gradient, slopes(slow, at), rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(hessian, curvature(slow, at), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(fast.scores(at, np.arange(60)).sum(axis=0), gradient, atol=1e-10)


def test_blocks_of_rows_change_nothing(monkeypatch):
    at = np.linspace(-1, 1, 9)
    whole = [fast.derivatives(at[:size]) for fast, _, size in likelihoods()]
    monkeypatch.setattr("laborllm.models.logit.likelihood.BLOCK_CELLS", 100)
    for (fast, _, size), expected in zip(likelihoods(), whole, strict=True):
        assert len(fast.blocks) > 5
        for mine, theirs in zip(fast.derivatives(at[:size]), expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)


def test_clustered_errors_do_not_depend_on_the_blocks_scores_come_in(monkeypatch):
    y, x = careers(300)
    clusters = np.random.default_rng(0).integers(0, 12, 300)
    clusters[100:200] = 5
    whole = multinomial_logit(y, x, clusters=clusters).bse
    monkeypatch.setattr("laborllm.models.logit.covariance.SCORE_CELLS", 42)
    np.testing.assert_allclose(multinomial_logit(y, x, clusters=clusters).bse, whole, rtol=1e-12)


def interacted(x, num_states):
    """The multinomial logit's variables as those of a conditional logit, by state, then by variable."""
    names = [f"x{k}" for k in range(x.shape[1])]
    states = [str(j) for j in range(num_states)]
    design = choice_design(states, individual=dict(zip(names, x.T, strict=True)), constants=False)
    order = np.argsort([int(name.split(":")[0]) for name in design.names], kind="stable")
    return design.X[:, :, order], [design.names[place] for place in order]


@QUICK
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["classical", "robust", "cluster"]), masked=st.booleans())
def test_multinomial_logit_is_conditional_logit_on_interactions(seed, kind, masked):
    y, x = careers(seed=seed)
    rng = np.random.default_rng(seed)
    options = {"clusters": rng.integers(0, 40, len(y))} if kind == "cluster" else {"cov_type": kind}
    options["weights"] = rng.uniform(0.1, 3, len(y))
    if masked:
        options["available"] = (rng.random((len(y), 3)) < 0.8) | (np.arange(3) == y[:, None])
    wide, names = interacted(x, 3)
    one, other = multinomial_logit(y, x, **options), conditional_logit(y, wide, names=names, **options)
    assert one.names == other.names
    assert one.llf == pytest.approx(other.llf, rel=1e-12)
    assert one.llnull == pytest.approx(other.llnull, rel=1e-12)
    np.testing.assert_allclose(one.params, other.params, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(one.cov_params(), other.cov_params(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(one.predict(), other.predict(), atol=1e-12)


@QUICK
@given(seed=st.integers(0, 10**6))
def test_the_order_of_rows_does_not_matter(seed):
    y, x = careers(seed=seed)
    order = np.random.default_rng(seed).permutation(len(y))
    clusters = np.arange(len(y)) // 7
    one = multinomial_logit(y, x, clusters=clusters)
    other = multinomial_logit(y[order], x[order], clusters=clusters[order])
    np.testing.assert_allclose(one.params, other.params, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(one.bse, other.bse, rtol=1e-10)


@QUICK
@given(seed=st.integers(0, 10**6))
def test_another_base_tells_the_same_story(seed):
    y, x = careers(seed=seed)
    one, other = multinomial_logit(y, x, base=0), multinomial_logit(y, x, base=2)
    assert one.llf == pytest.approx(other.llf, rel=1e-12)
    np.testing.assert_allclose(one.predict(), other.predict(), atol=1e-10)
    first, last = one.params.reshape(2, 3), other.params.reshape(2, 3)  # 1 and 2 against 0; 0 and 1 against 2
    np.testing.assert_allclose(first[1], -last[0], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(first[0] - first[1], last[1], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(one.bse[3:], other.bse[:3], rtol=1e-8)


def test_units_of_a_variable_scale_its_coefficient_and_nothing_else():
    y, x = careers()
    one, other = multinomial_logit(y, x), multinomial_logit(y, x * [1, 1e6, 1e-6])
    np.testing.assert_allclose(other.params * np.tile([1, 1e6, 1e-6], 2), one.params, rtol=1e-8)
    np.testing.assert_allclose(other.zvalues, one.zvalues, rtol=1e-8)
    assert one.llf == pytest.approx(other.llf, rel=1e-12)


def test_variables_in_the_billions_end_where_rounding_ends_them():
    y, x = careers()
    one, other = multinomial_logit(y, x), multinomial_logit(y, x * [1, 1e12, 1])
    assert other.converged
    assert other.max_gradient > 1e-6
    np.testing.assert_allclose(other.zvalues, one.zvalues, rtol=1e-8)


@pytest.mark.parametrize("kind", ["classical", "robust", "cluster"])
def test_weights_of_one_change_nothing(kind):
    y, x = careers()
    options = {"clusters": np.arange(400) // 5} if kind == "cluster" else {"cov_type": kind}
    one, other = multinomial_logit(y, x, **options), multinomial_logit(y, x, weights=np.ones(400), **options)
    assert (one.params == other.params).all()
    assert (one.bse == other.bse).all()
    assert (one.llf, one.llnull, one.nobs) == (other.llf, other.llnull, other.nobs)


def models(x, num_states=3):
    """The two models on the same variables of rows."""
    wide, names = interacted(x, num_states)
    return [
        (lambda y, rows, **options: multinomial_logit(y, x[rows], **options)),
        (lambda y, rows, **options: conditional_logit(y, wide[rows], names=names, **options)),
    ]


@QUICK
@given(seed=st.integers(0, 10**6))
def test_an_integer_weight_is_that_many_rows(seed):
    y, x = careers(seed=seed)
    weights = np.random.default_rng(seed).integers(0, 4, len(y))
    copies = np.repeat(np.arange(len(y)), weights)
    everyone = np.arange(len(y))
    for model in models(x):
        one, other = model(y, everyone, weights=weights), model(y[copies], copies)
        assert one.llf == pytest.approx(other.llf, rel=1e-10)
        assert one.llnull == pytest.approx(other.llnull, rel=1e-10)
        np.testing.assert_allclose(one.params, other.params, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(one.cov_params(), other.cov_params(), rtol=1e-10, atol=1e-13)
        robust = model(y, everyone, weights=weights, cov_type="robust")
        of_rows = model(y[copies], copies, clusters=copies)  # copies of a row are one worker, not several
        groups, size = (weights > 0).sum(), len(copies)
        correction = groups / (groups - 1) * (size - 1) / (size - len(one.names))
        np.testing.assert_allclose(of_rows.cov_params() / correction, robust.cov_params(), rtol=1e-9, atol=1e-12)


def test_a_weight_of_zero_leaves_the_row_out():
    y, x = careers()
    keep = np.arange(400) % 3 > 0
    clusters = np.arange(400) // 2 * 100
    one = multinomial_logit(y, x, weights=keep, clusters=clusters)
    other = multinomial_logit(y[keep], x[keep], clusters=clusters[keep])
    np.testing.assert_allclose(one.params, other.params, rtol=1e-13)
    np.testing.assert_allclose(one.bse, other.bse, rtol=1e-12)
    assert (one.nobs, one.num_clusters, one.bic) == (other.nobs, other.num_clusters, other.bic)
    assert one.predict().shape == (400, 3)


def test_robust_and_clustered_errors_do_not_depend_on_the_scale_of_weights():
    y, x = careers()
    weights = np.random.default_rng(0).uniform(0.1, 2, 400)
    for options in ({"cov_type": "robust"}, {"clusters": np.arange(400) // 4}):
        one = multinomial_logit(y, x, weights=weights, **options)
        other = multinomial_logit(y, x, weights=30_000 * weights, **options)
        np.testing.assert_allclose(one.bse, other.bse, rtol=1e-9)


@QUICK
@given(seed=st.integers(0, 10**6))
def test_clusters_of_one_row_are_robust_errors_but_for_the_stated_correction(seed):
    y, x = careers(seed=seed)
    robust = multinomial_logit(y, x, cov_type="robust")
    clustered = multinomial_logit(y, x, clusters=np.random.default_rng(seed).permutation(len(y)))
    size, num_params = len(y), len(robust.names)
    correction = size / (size - 1) * (size - 1) / (size - num_params)
    np.testing.assert_allclose(clustered.cov_params(), correction * robust.cov_params(), rtol=1e-10, atol=1e-14)


def test_an_unavailable_alternative_might_as_well_not_exist():
    data = drawn(500, 4, 3, seed=3)
    keep = data.chosen != 3
    mask = np.ones((keep.sum(), 4), bool)
    mask[:, 3] = False
    nonsense = data.x[keep].copy()
    nonsense[:, 3] = np.nan
    one = conditional_logit(data.chosen[keep], nonsense, available=mask)
    other = conditional_logit(data.chosen[keep], data.x[keep][:, :3])
    np.testing.assert_allclose(one.params, other.params, rtol=1e-12)
    np.testing.assert_allclose(one.bse, other.bse, rtol=1e-12)
    assert one.llnull == pytest.approx(other.llnull)
    np.testing.assert_allclose(one.predict(), np.column_stack([other.predict(), np.zeros(keep.sum())]), atol=1e-13)


def test_choice_sets_that_differ_between_rows_give_the_slow_twins_optimum():
    data = drawn(300, 5, 3, seed=4, masked=True)
    mine = conditional_logit(data.chosen, data.x, available=data.available)
    params, value, bse = climb(slow_conditional(data.chosen, data.x, data.available), np.zeros(3))
    assert mine.llf == pytest.approx(value, rel=1e-12)
    agrees(mine, params, bse)
    assert (mine.predict()[~data.available] == 0).all()
    assert mine.llnull == pytest.approx(-np.log(data.available.sum(axis=1)).sum())


def test_a_model_with_constants_is_compared_with_shares_and_one_without_with_equal_shares():
    with_constants, without = (fishing(constants=constants) for constants in (True, False))
    one = conditional_logit(with_constants.chosen, with_constants.x)
    other = conditional_logit(without.chosen, without.x)
    counts = np.bincount(with_constants.chosen)
    assert (one.null, other.null) == ("constants", "equal shares")
    assert one.llnull == pytest.approx((counts * np.log(counts / 1182)).sum(), rel=1e-12)
    assert other.llnull == pytest.approx(-1182 * np.log(4))
    assert (one.df_null, other.df_null) == (3, 0)


def test_intervals_hold_the_truth_as_often_as_they_say():
    truth = np.array([1.0, -0.5, 1 / 3])
    inside, draws = np.zeros(3), 400
    for seed in range(draws):
        data = drawn(250, 3, 3, seed=seed)
        low, high = conditional_logit(data.chosen, data.x).conf_int().T
        inside += (low <= truth) & (truth <= high)
    error = np.sqrt(0.95 * 0.05 / draws)
    assert (np.abs(inside / draws - 0.95) < 4 * error).all()


def test_only_clustered_intervals_hold_the_truth_where_workers_repeat_themselves():
    """Every worker is seen five times in the same situation, with one draw of tastes."""
    inside, draws = {"classical": 0, "cluster": 0}, 200
    for seed in range(draws):
        data = drawn(120, 3, 1, seed=seed)
        rows = np.repeat(np.arange(120), 5)
        for kind in inside:
            clusters = {"clusters": rows} if kind == "cluster" else {}
            low, high = conditional_logit(data.chosen[rows], data.x[rows], **clusters).conf_int()[0]
            inside[kind] += low <= 1.0 <= high
    assert inside["cluster"] / draws > 0.88
    assert inside["classical"] / draws < 0.75


def test_data_frames_bring_their_names_and_predict_by_name():
    y, x = careers()
    columns = dict(zip(["const", "skill", "union"], x.T, strict=True))
    frames = [pd.DataFrame(columns, index=np.arange(400)[::-1]), pl.DataFrame(columns)]
    plain = multinomial_logit(y, x)
    for frame in frames:
        results = multinomial_logit(pd.Series(y), frame)
        assert results.names[:3] == ("1:const", "1:skill", "1:union")
        np.testing.assert_array_equal(results.params, plain.params)
        shuffled = frame[["union", "const", "skill"]]
        np.testing.assert_array_equal(results.predict(shuffled), plain.predict())
    assert multinomial_logit(y, frames[0], names=["const", "union"]).names == (
        "1:const", "1:union", "2:const", "2:union",
    )  # fmt: skip


def test_states_may_be_words_numbers_or_positions():
    y, x = careers()
    words = np.array(["cook", "driver", "teacher"])
    plain = multinomial_logit(y, x)
    for labels, options in [
        (words[y], {}),
        (words[y].astype(object), {}),
        (words[y], {"alternatives": words}),
        (y, {"alternatives": list(words)}),
        (y * 10.0, {}),
    ]:
        np.testing.assert_array_equal(multinomial_logit(labels, x, **options).params, plain.params)
    assert multinomial_logit(words[y], x).names[0] == "driver:x0"
    assert multinomial_logit(words[y], x, base="teacher").base == "teacher"


def test_integer_codes_are_names_where_the_alternatives_are_integer_codes():
    y, x = careers()
    plain = multinomial_logit(y, x)
    for codes in ([1, 2, 3], [10, 20, 30], [2, 0, 1]):
        coded = multinomial_logit(np.array(codes)[y], x, alternatives=codes, base=codes[0])
        np.testing.assert_array_equal(coded.params, plain.params)
        assert coded.alternatives == tuple(map(str, codes))
    with pytest.raises(ModelError, match="row 0 chose"):
        multinomial_logit(y + 5, x, alternatives=[1, 2, 3])


def test_cluster_labels_beyond_the_integers_of_float64_are_told_apart():
    y, x = careers()
    worker = np.arange(len(y)) % 40
    plain = multinomial_logit(y, x, clusters=worker)
    huge = multinomial_logit(y, x, clusters=(worker + 1) * 1e19)
    assert huge.num_clusters == 40
    np.testing.assert_allclose(huge.bse, plain.bse, rtol=1e-12)


def test_the_rows_of_the_fit_are_predicted_under_another_choice_set_if_one_is_given():
    y, x = careers()
    results = multinomial_logit(y, x)
    closed = np.ones((len(y), 3), bool)
    closed[:, 1] = False
    law = results.predict(available=closed)
    np.testing.assert_array_equal(law, results.predict(x, available=closed))
    whole = results.predict()
    np.testing.assert_allclose(law[:, [0, 2]], whole[:, [0, 2]] / (1 - whole[:, [1]]))


def test_a_state_nobody_chose_stays_without_a_finite_optimum_and_disturbs_nothing():
    y, x = careers()
    states = ["cook", "ghost", "driver", "teacher"]
    labels = np.array(["cook", "driver", "teacher"])[y]
    results, plain = multinomial_logit(labels, x, alternatives=states), multinomial_logit(y, x)
    assert results.absent == ("ghost",)
    assert results.no_optimum == ("ghost:x0", "ghost:x1", "ghost:x2")
    assert np.isnan(results.params[:3]).all()
    assert np.isnan(results.bse[:3]).all()
    np.testing.assert_allclose(results.params[3:], plain.params, rtol=1e-12)
    np.testing.assert_allclose(results.bse[3:], plain.bse, rtol=1e-12)
    np.testing.assert_allclose(results.predict()[:, [0, 2, 3]], plain.predict(), atol=1e-14)
    assert (results.predict(x)[:, 1] == 0).all()
    for name in ("llf", "llnull", "aic", "bic", "df_resid", "prsquared"):
        assert getattr(results, name) == pytest.approx(getattr(plain, name), rel=1e-12), name
    assert "Nobody chose ghost" in results.summary()
    assert results.summary().count("no optimum") == 3
    wide, names = interacted(x, 3)
    wide = np.concatenate([wide, np.zeros_like(wide[:, :1])], axis=1)
    wide = np.concatenate([wide, np.zeros_like(wide[:, :, :1])], axis=2)
    wide[:, 3, -1] = 1.0
    other = conditional_logit(y, wide, names=[*names, "3:(constant)"])
    assert other.no_optimum == ("3:(constant)",)
    np.testing.assert_allclose(other.params[:-1], plain.params, rtol=1e-9)
    assert (other.predict()[:, 3] == 0).all()


def test_the_supremum_of_a_state_nobody_chose_is_the_model_without_it():
    y, x = careers(100)
    mask = np.ones((100, 4), bool)
    sample = Sample(np.arange(100), y, mask, np.ones(100), None)
    far = maximise(Multinomial(x, sample, free=np.arange(1, 4)), np.zeros(9))
    assert far.value == pytest.approx(multinomial_logit(y, x).llf, rel=1e-12)
    assert not far.converged
    assert far.iterations < 60


def test_an_unchosen_state_without_a_constant_has_a_finite_optimum_if_its_variable_changes_sign():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 1))
    y = (x[:, 0] + rng.gumbel(size=200) > rng.gumbel(size=200)).astype(int)
    results = multinomial_logit(y, x, alternatives=["a", "b", "ghost"])
    wide, _ = interacted(x, 3)
    params, value, bse = climb(slow_conditional(y, wide), np.zeros(2))
    assert results.absent == ()
    assert results.llf == pytest.approx(value, rel=1e-12)
    agrees(results, params, bse)
    counts = np.bincount(y)
    assert results.llnull == pytest.approx((counts * np.log(counts / 200)).sum(), rel=1e-12)
    assert multinomial_logit(y, np.abs(x), alternatives=["a", "b", "ghost"]).absent == ("ghost",)


def test_an_unchosen_alternative_that_has_nothing_of_its_own_is_like_any_other():
    data = drawn(300, 3, 2, seed=1)
    keep = data.chosen != 2
    results = conditional_logit(data.chosen[keep], data.x[keep])
    assert results.absent == ()
    assert (results.predict()[:, 2] > 0).all()
    params, _, _ = climb(slow_conditional(data.chosen[keep], data.x[keep]), np.zeros(2))
    np.testing.assert_allclose(results.params, params, rtol=1e-7)


def test_the_summary_is_plain_text_with_a_line_for_every_coefficient():
    y, x = careers()
    results = multinomial_logit(y, x, clusters=np.arange(400) // 4)
    lines = results.summary().splitlines()
    assert len({len(line) for line in lines if set(line) <= set("=-")}) == 1
    assert max(map(len, lines)) == len(lines[1])
    assert "clustered, 100 clusters" in results.summary()
    row = next(line for line in lines if line.startswith("1:x1")).split()
    assert float(row[1]) == pytest.approx(results.params[1], abs=5e-5)
    assert float(row[2]) == pytest.approx(results.bse[1], abs=5e-5)
    assert float(row[5]) == pytest.approx(results.conf_int()[1, 0], abs=5e-5)
    assert sum(line.startswith(("1:", "2:")) for line in lines) == 6


def test_the_table_holds_what_the_summary_prints():
    y, x = careers()
    results = multinomial_logit(y, x)
    table = results.to_table(alpha=0.1)
    assert table["name"].to_pylist() == list(results.names)
    np.testing.assert_array_equal(table["std_err"].to_numpy(), results.bse)
    np.testing.assert_array_equal(table["upper"].to_numpy(), results.conf_int(0.1)[:, 1])


def test_derivatives_of_a_hundred_thousand_rows_take_little_memory():
    rng = np.random.default_rng(0)
    size, num_states, num_variables = 100_000, 9, 25
    x, y = rng.normal(size=(size, num_variables)), rng.integers(0, num_states, size)
    sample = Sample(np.arange(size), y, np.ones((size, num_states), bool), np.ones(size), None)
    likelihood = Multinomial(x, sample, free=np.arange(1, num_states))
    tracemalloc.start()
    likelihood.derivatives(np.zeros(likelihood.num_params))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6  # the scores of all rows alone take 160e6, their products 32e9


@pytest.mark.parametrize("name", ["choice", "design", "nested"])
def test_examples_in_docstrings_are_true(name):
    failed, tried = doctest.testmod(import_module(f"laborllm.models.logit.{name}"))
    assert tried > 0
    assert failed == 0
