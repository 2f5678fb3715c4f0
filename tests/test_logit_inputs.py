from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from laborllm.errors import ModelError
from laborllm.models.logit import choice_design, conditional_logit, long_design, multinomial_logit
from tests.choices import careers, drawn, mode_canada, read

Y, X = careers()
DATA = drawn(200, 3, 2)


def fit(y=Y, x=X, **options):
    return multinomial_logit(y, x, **options)


def choose(chosen=DATA.chosen, x=DATA.x, **options):
    return conditional_logit(chosen, x, **options)


def changed(array, place, value):
    array = np.array(array, float)
    array[place] = value
    return array


def all_but(row, alternative):
    mask = np.ones((200, 3), bool)
    mask[row, alternative] = False
    return mask


PERFECT = np.column_stack([np.ones(400), Y == 2])
ALMOST = np.column_stack([X, (Y == 1) & (X[:, 1] > 0)])
FRAME = pd.DataFrame(X, columns=["const", "skill", "union"])

REFUSED = {
    "perfect separation": (lambda: fit(Y == 2, PERFECT, names=["const", "uniform"]), "separated by '1:uniform'"),
    "quasi-complete separation": (lambda: fit(Y, ALMOST, names=["const", "skill", "union", "badge"]), "1:badge"),
    "separation among alternatives": (
        lambda: choose(x=np.concatenate([DATA.x, np.eye(3)[DATA.chosen][:, :, None]], axis=2), names=["a", "b", "won"]),
        "separated by 'won'",
    ),
    "one state": (lambda: fit(np.zeros(400, int)), "every row is in the state '0'"),
    "one state of positive weight": (lambda: fit(weights=Y == 1), "every row is in the state '1'"),
    "one state that occurs": (
        lambda: choose(np.zeros(200, int), choice_design(["a", "b"], generic={"x": DATA.x[:, :2, 0]}).X),
        r"no row could have chosen anything but what it chose \(0\)",
    ),
    "one alternative": (lambda: choose(np.zeros(200, int), DATA.x[:, :1]), "a choice needs two alternatives"),
    "collinear columns": (
        lambda: fit(x=np.column_stack([X, X[:, 1] - 2 * X[:, 2]]), names=["const", "skill", "union", "sum"]),
        "'2:skill', '2:union', '2:sum' are collinear .2 such combinations",
    ),
    "a column twice": (
        lambda: choose(x=DATA.x[:, :, [0, 1, 1]], names=["a", "b", "copy"]),
        "the columns 'b', 'copy' are collinear",
    ),
    "a variable of rows alone": (
        lambda: choose(x=np.concatenate([DATA.x, np.tile(np.arange(200.0)[:, None, None], (1, 3, 1)) / 7], axis=2),
                       names=["a", "b", "income"]),
        "'income' changes no difference.*interact it",
    ),
    "a column of zeros": (lambda: fit(x=X * [1, 0, 1]), "'1:x1', '2:x1' changes no difference"),
    "a negative weight": (lambda: fit(weights=changed(np.ones(400), 7, -1)), "weight of row 7 is -1.0"),
    "a null weight": (lambda: fit(weights=[None, *[1.0] * 399]), "weight of row 0 is nan"),
    "an infinite weight": (lambda: fit(weights=changed(np.ones(400), 3, np.inf)), "weight of row 3 is inf"),
    "no weight": (lambda: fit(weights=np.zeros(400)), "every weight is zero"),
    "weights of other rows": (lambda: fit(weights=np.ones(5)), r"weights have shape \(5,\)"),
    "an unavailable choice": (
        lambda: choose(available=all_but(3, DATA.chosen[3]), alternatives=["a", "b", "c"]),
        f"row 3 chose '{'abc'[DATA.chosen[3]]}', which is not available",
    ),
    "a mask of another shape": (lambda: choose(available=np.ones((200, 2), bool)), r"`available` has shape \(200, 2\)"),
    "a mask of numbers": (lambda: choose(available=np.full((200, 3), 2)), "neither true nor false"),
    "one cluster": (lambda: fit(clusters=np.ones(400)), "all rows are in one cluster"),
    "a null cluster": (lambda: fit(clusters=[None, *range(399)]), "the cluster of row 0 is null"),
    "an infinite state": (lambda: fit(changed(Y, 4, np.inf)), "the choice of row 4 is null or infinite"),
    "clusters of other rows": (lambda: fit(clusters=np.arange(3)), r"clusters have shape \(3,\)"),
    "clusters without need": (lambda: fit(clusters=Y, cov_type="robust"), "cov_type='robust' with clusters"),
    "no clusters": (lambda: fit(cov_type="cluster"), "cov_type='cluster' without clusters"),
    "unknown errors": (lambda: fit(cov_type="HC3"), "choose 'classical', 'robust' or 'cluster'"),
    "NaN in a column": (lambda: fit(x=changed(X, (5, 1), np.nan)), "'x1' is nan in row 5"),
    "NaN behind rows of weight zero": (
        lambda: fit(x=changed(X, (5, 1), np.nan), weights=(np.arange(400) > 2)),
        "'x1' is nan in row 5",
    ),
    "infinity of an alternative": (lambda: choose(x=changed(DATA.x, (4, 2, 0), np.inf)), "'x0' is inf in row 4"),
    "words in a column": (lambda: fit(x=FRAME.assign(skill="high")), "X holds something that is no number"),
    "nulls in a frame": (
        lambda: fit(x=pl.DataFrame({"const": [1] * 400, "skill": [None, *range(399)]})),
        "'skill' is nan in row 0",
    ),
    "rows that do not match": (lambda: fit(Y[:5]), "X has 400 rows, the choices have 5"),
    "a flat X": (lambda: fit(x=X[:, 0]), r"X has shape \(400,\); give \(N, K\)"),
    "X of two dimensions": (lambda: choose(x=X), r"give \(N, J, K\)"),
    "too few names": (lambda: fit(names=["a"]), "1 distinct names for 3 variables"),
    "a name twice": (lambda: fit(names=["a", "a", "b"]), "2 distinct names for 3 variables"),
    "an absent column": (lambda: fit(x=FRAME, names=["const", "age"]), "no column 'age'"),
    "an unknown state": (lambda: fit(alternatives=["a", "b"]), "row [0-9]+ chose 2, which is none of the 2"),
    "an unknown word": (lambda: fit(["a", "x"] * 200, alternatives=["a", "b"]), "row 1 chose 'x'"),
    "a null state": (lambda: fit([None, *Y[1:]]), "the choice of row 0 is null"),
    "an alternative twice": (lambda: fit(alternatives=["a", "a", "b"]), "named twice"),
    "names of other alternatives": (lambda: choose(alternatives=list("abcd")), "4 alternatives are named, X holds 3"),
    "a table of choices": (lambda: fit(np.ones((400, 3))), "one label per row"),
    "an unknown base": (lambda: fit(base="x"), "base='x' is none of the states; they are 0, 1, 2"),
    "a base nobody chose": (
        lambda: fit(alternatives=["a", "b", "c", "ghost"], base="ghost"),
        "nobody chose the base 'ghost'",
    ),
    "too many parameters": (
        lambda: fit(x=np.random.default_rng(0).normal(size=(400, 1501))),
        "3,002 parameters .* use the penalised logit, MultinomialLogit",
    ),
    "too many variables": (
        lambda: choose(x=np.random.default_rng(0).normal(size=(200, 3, 3001))),
        "3,001 parameters .* MultinomialLogit",
    ),
    "no rows": (lambda: fit(Y[:0], X[:0]), r"X has shape \(0, 3\)"),
    "prediction from other variables": (lambda: fit().predict(X[:, :2]), "3 distinct names for 2 variables"),
    "prediction with nothing to choose": (
        lambda: fit().predict(X[:1], available=[[False] * 3]),
        "row 0 has no available alternative",
    ),
    "prediction of what nobody chose": (
        lambda: fit(alternatives=["a", "b", "c", "ghost"]).predict(X[:1], available=[[False] * 3 + [True]]),
        "row 0 has no available alternative that the model gives a probability",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused_in_one_line(case):
    act, words = REFUSED[case]
    with pytest.raises(ModelError, match=words) as caught:
        act()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.002, 0.02, 0.5])
def test_separation_is_told_from_a_strong_effect(share):
    """Two states that a variable tells apart but for a few rows have a finite optimum; without the few, none."""
    rng = np.random.default_rng(0)
    skill = rng.normal(size=2000)
    x = np.column_stack([np.ones(2000), skill])
    y = (skill > 0) ^ (rng.random(2000) < share)
    results = multinomial_logit(y, x)
    assert results.converged
    with pytest.raises(ModelError, match=r"separated by '1:x1'"):
        multinomial_logit(skill > 0, x)


@pytest.mark.parametrize("unit", [1e-6, 1, 1e6])
def test_separated_states_are_named_with_their_variable_in_any_units(unit):
    y, x = careers(600, 4, seed=3)
    badge = unit * ((y == 2) & (np.arange(600) % 3 == 0))
    with pytest.raises(ModelError, match="separated by '2:badge'") as caught:
        multinomial_logit(y, np.column_stack([x, badge]), names=["const", "skill", "union", "badge"])
    assert "skill" not in str(caught.value)


def test_nearly_collinear_columns_are_estimated():
    y, x = careers()
    year = 1990 + np.arange(400) % 9
    results = multinomial_logit(y, np.column_stack([x, year]))
    centred = multinomial_logit(y, np.column_stack([x, year - 1994]))
    assert results.llf == pytest.approx(centred.llf, rel=1e-12)
    np.testing.assert_allclose(results.params[[3, 7]], centred.params[[3, 7]], rtol=1e-7)
    np.testing.assert_allclose(results.bse[[3, 7]], centred.bse[[3, 7]], rtol=1e-7)


def test_as_many_parameters_as_rows_leave_no_clustered_errors_and_say_why():
    y, x = [0, 1, 2, 0, 1, 2], np.column_stack([np.ones(6), [0, 0, 0, 1, 1, 1], [1, 2, 3, 3, 2, 1]])
    with pytest.warns(UserWarning, match="no standard errors: 6 rows are too few for clustered"):
        results = multinomial_logit(y, x, clusters=[0, 0, 1, 1, 2, 2])
    assert np.isnan(results.bse).all()
    assert "too few" in results.summary()


def test_an_estimate_that_is_no_optimum_says_so(monkeypatch):
    monkeypatch.setattr("laborllm.models.logit.newton.MAX_ITERATIONS", 2)
    with pytest.warns(UserWarning, match="Newton's method stopped after 2 steps"):
        results = fit()
    assert not results.converged
    assert results.max_gradient > 1e-6
    assert "did not converge" in results.summary()


LONG = read("mode_canada").to_pandas()
COLUMNS = {"case": "case", "alternative": "alt", "chosen": "choice"}
PARTS = {"generic": ["cost", "freq", "ovt"], "individual": ["income"], "specific": ["ivt"]}


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame, pa.table])
def test_long_tables_of_every_kind_and_order_lay_out_the_same_choices(kind):
    rows = LONG.sample(frac=1, random_state=0)
    data = {name: rows[name].to_numpy() for name in rows.columns}
    data["alt"] = data["alt"].astype(str)
    design = long_design(kind(data), **COLUMNS, **PARTS)
    expected = mode_canada()
    order = np.argsort(design.cases)
    assert design.names == expected.names
    np.testing.assert_array_equal(design.X[order], expected.x)
    np.testing.assert_array_equal(design.chosen[order], expected.chosen)
    np.testing.assert_array_equal(data["case"][design.first_row], design.cases)


def test_an_alternative_without_a_row_is_unavailable():
    gone = (LONG["alt"] == "bus") & (LONG["choice"] == 0) & (LONG["case"] % 2 == 0)
    design = long_design(LONG[~gone], **COLUMNS, **PARTS)
    whole = mode_canada()
    np.testing.assert_array_equal(design.X[design.available], whole.x[design.available])
    assert (~design.available).sum() == gone.sum()
    assert (design.X[~design.available] == 0).all()
    one = conditional_logit(design.chosen, design.X, available=design.available)
    other = conditional_logit(whole.chosen, whole.x, available=design.available)
    np.testing.assert_allclose(one.params, other.params, rtol=1e-10)


def test_a_design_holds_each_kind_of_variable_where_it_belongs():
    rng = np.random.default_rng(0)
    cost, time, income = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.normal(size=5)
    states = ["car", "bus", "train"]
    options = {"generic": {"cost": cost}, "individual": {"income": income}, "specific": {"time": time}}
    design = choice_design(states, base="bus", **options)
    assert design.names == (
        *("car:(constant)", "train:(constant)", "cost", "car:income", "train:income"),
        *("car:time", "bus:time", "train:time"),
    )
    beta = rng.normal(size=8)
    utility = np.empty((5, 3))
    for n in range(5):
        for j, (constant, slope) in enumerate([(beta[0], beta[3]), (0.0, 0.0), (beta[1], beta[4])]):
            utility[n, j] = constant + beta[2] * cost[n, j] + slope * income[n] + beta[5 + j] * time[n, j]
    np.testing.assert_allclose(design.X @ beta, utility)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: long_design(LONG, **COLUMNS, generic=["price"]), "no column 'price'"),
        (lambda: long_design(LONG, **COLUMNS, individual=["cost"]), "'cost' differs within case"),
        (lambda: long_design(pd.concat([LONG, LONG[:1]]), **COLUMNS, generic=["cost"]), "two rows for 'train'"),
        (lambda: long_design(LONG.assign(choice=0), **COLUMNS, generic=["cost"]), "no chosen row, or several"),
        (lambda: long_design(LONG.assign(choice=1), **COLUMNS, generic=["cost"]), "no chosen row, or several"),
        (
            lambda: long_design(LONG, **COLUMNS, generic=["cost"], alternatives=["air", "car", "bus"]),
            "row 0 has the alternative 'train'",
        ),
        (lambda: long_design(LONG[:0], **COLUMNS, generic=["cost"]), "has no rows"),
        (
            lambda: long_design(LONG.assign(alt=LONG["alt"].where(LONG.index != 5)), **COLUMNS, generic=["cost"]),
            "'alt' is null in row 5",
        ),
        (lambda: long_design(LONG.assign(sex="f"), **COLUMNS, individual=["sex"]), "'sex' holds something that is no"),
        (lambda: long_design(LONG.assign(cost="low"), **COLUMNS, generic=["cost"]), "'cost' holds something that is"),
        (lambda: choice_design(["a", "b"], individual={"sex": ["m", "f"]}), "'sex' holds something that is no number"),
        (lambda: choice_design(["a", "b"], base="c", individual={"x": [1.0]}), "base='c' is none of"),
        (lambda: choice_design(["a", "b"]), "a design needs a variable"),
        (lambda: choice_design(["a", "b"], constants=False, available=[[1, 1]]), "needs a variable; give generic"),
        (lambda: choice_design(["a", "b"], generic={"x": [[1.0, 2, 3]]}), r"'x' has shape \(1, 3\).*\(1, 2\)"),
        (
            lambda: choice_design(["a", "b"], individual={"x": [1.0, 2]}, generic={"y": [[1.0, 2]]}),
            r"'x' has shape \(2,\)",
        ),
        (lambda: choice_design(["a", "b"], individual={"x": [1.0]}, available=[[1, 1, 1]]), "`available` has shape"),
    ],
)
def test_a_design_that_does_not_fit_is_refused_in_one_line(act, words):
    with pytest.raises(ModelError, match=words) as caught:
        act()
    assert "\n" not in str(caught.value)
