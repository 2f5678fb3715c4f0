"""The exact law of the next state given the history, against enumeration and against the generator's own draws."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laborllm import metrics
from laborllm.errors import PanelError, PredictionsError
from laborllm.models.counts import Markov
from laborllm.panel import Panel
from laborllm.predictions import Predictions
from laborllm.synth import World, bayes
from tests.worlds import FIRST_ORDER, FORBIDDING, WORLD, panel_of, random_world, slow_law, slow_optimum, slow_prior


def whole_law(optimum):
    blocks = list(optimum.laws())
    assert [piece.start for piece, _ in blocks] == [0, *(piece.stop for piece, _ in blocks)][:-1]
    return np.concatenate([law for _, law in blocks])


@given(data=st.data(), seed=st.integers(0, 9), shared=st.booleans(), classes=st.integers(1, 3))
def test_the_optimum_equals_the_enumeration_of_classes(data, seed, shared, classes):
    world = random_world(seed, classes=classes, shared=shared)
    careers = data.draw(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=7), min_size=1, max_size=4))
    values = {
        name: data.draw(st.lists(st.sampled_from([*shares, None]), min_size=len(careers), max_size=len(careers)))
        for name, shares in world.covariates.items()
    }
    possible = [c for c in range(len(careers)) if slow_probability(world, careers[c]) > 0]
    if not possible:
        return
    careers = [careers[c] for c in possible]
    values = {name: [column[c] for c in possible] for name, column in values.items()}
    panel = panel_of(world, careers, **values)
    optimum = world.optimum(panel)
    expected = [
        slow_optimum(world, career, slow_prior(world, {name: values[name][c] for name in values}))
        for c, career in enumerate(careers)
    ]
    laws = whole_law(optimum)
    assert np.abs(laws - np.concatenate(expected)).max() < 1e-12
    happened = np.concatenate(expected)[np.arange(panel.num_rows), panel.states()]
    assert np.abs(np.exp(optimum.log_p) - happened).max() < 1e-12


def slow_probability(world, career):
    """The least probable class's probability of a career, so that no class is excluded by a zero."""
    return min(
        np.prod([slow_law(world, z, career[:t])[career[t]] for t in range(len(career))])
        for z in range(world.num_classes)
    )


def test_a_class_that_the_history_excludes_is_out_for_good():
    apart = World.markov(["a", "b"], [1.0, 0.0], [[0.5, 0.5], [0.0, 1.0]])
    world = dataclasses.replace(
        apart,
        initial=np.array([[1.0, 0.0], [0.5, 0.5]]),
        kernel=np.array([[[0.5, 0.5], [0.0, 1.0]], [[0.25, 0.75], [0.5, 0.5]]]),
        stay=np.zeros((2, 2)),
        class_law=np.array([0.5, 0.5]),
    )
    laws = whole_law(world.optimum(panel_of(world, [[1, 0, 1]])))
    assert np.allclose(laws, [[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]], atol=1e-15)


def test_what_no_class_allows_has_probability_zero_and_leaves_the_class_as_it_was():
    optimum = FORBIDDING.optimum(panel_of(FORBIDDING, [[1, 0, 1]]))
    assert optimum.log_p.tolist() == [0.0, -np.inf, np.log(0.8)]
    world = dataclasses.replace(
        FORBIDDING,
        initial=np.vstack([FORBIDDING.initial] * 2),
        kernel=np.concatenate([FORBIDDING.kernel] * 2),
        stay=np.array([[0.0] * 3, [0.5] * 3]),
        class_law=np.array([0.25, 0.75]),
    )
    assert np.allclose(whole_law(world.optimum(panel_of(world, [[0, 2]])))[1], [0.5, 0.5, 0.0])


@pytest.mark.parametrize("world", [random_world(s) for s in range(4)])
def test_the_laws_of_all_careers_sum_to_one(world):
    careers = list(product(range(4), repeat=4))
    panel = panel_of(world, careers, gender=["male"] * len(careers))
    per_career = world.optimum(panel).log_p.reshape(-1, 4).sum(axis=1)
    assert np.exp(per_career).sum() == pytest.approx(1, abs=1e-12)
    assert np.abs(whole_law(world.optimum(panel)).sum(axis=1) - 1).max() < 1e-12


def test_the_entropy_of_simulated_careers_is_that_of_the_law_up_to_sampling_error():
    world, years = random_world(5), 4
    values = list(product(*world.covariates.values()))
    shares = [np.prod(each) for each in product(*(s.values() for s in world.covariates.values()))]
    shares = np.array(shares) / sum(shares)
    careers = list(product(range(4), repeat=years))
    entropy = 0.0
    for cell, share in zip(values, shares, strict=True):
        columns = {name: [value] * len(careers) for name, value in zip(world.covariates, cell, strict=True)}
        logs = world.optimum(panel_of(world, careers, **columns)).log_p.reshape(-1, years).sum(axis=1)
        possible = np.isfinite(logs)
        entropy -= share * (np.exp(logs[possible]) * logs[possible]).sum()
    panel = Panel.from_arrow(world.simulate(60_000, years, seed=1), occupations=world.occupations)
    found = -world.optimum(panel).log_p.reshape(-1, years).sum(axis=1)
    assert abs(found.mean() - entropy) < 4 * found.std() / np.sqrt(len(found))


def test_the_optimum_of_a_first_order_world_is_the_expected_one_up_to_sampling_error():
    world = World.named("markov-50")
    panel = Panel.from_arrow(world.simulate(20_000, 16, seed=1), occupations=world.occupations)
    per_worker = -world.optimum(panel).log_p.reshape(-1, 16)[:, 1:].mean(axis=1)
    error = per_worker.std() / np.sqrt(len(per_worker))
    assert abs(per_worker.mean() - np.log(world.expected_optimum(num_years=16))) < 4 * error


@pytest.mark.parametrize("cells", [1, 37, 200])
def test_blocks_of_any_size_give_the_same_numbers_in_the_order_of_the_rows_to_be_predicted(cells, monkeypatch):
    panel = Panel.from_arrow(WORLD.simulate(200, 5), occupations=WORLD.occupations)
    targets = np.random.default_rng(0).random(panel.num_rows) < 0.5
    some = panel.with_targets(targets)
    log_p, laws = WORLD.optimum(panel).log_p, whole_law(WORLD.optimum(panel))
    monkeypatch.setattr(bayes, "CELLS", cells)
    optimum = WORLD.optimum(some)
    assert np.array_equal(optimum.log_p, log_p[targets])
    assert np.allclose(whole_law(optimum), laws[targets], atol=1e-15)
    chosen = laws[np.arange(panel.num_rows), panel.states()]
    assert np.abs(np.exp(log_p) - chosen).max() < 1e-14
    assert optimum.perplexity == pytest.approx(metrics.perplexity(log_p[targets]))
    assert np.array_equal(optimum.transitions.row, np.flatnonzero(targets))


def test_careers_of_different_lengths_are_filtered_apart():
    careers = [[0, 1, 1, 2, 0], [3], [2, 2]]
    together = WORLD.optimum(panel_of(WORLD, careers)).log_p
    alone = [WORLD.optimum(panel_of(WORLD, [career])).log_p for career in careers]
    assert np.array_equal(together, np.concatenate(alone))


def test_seeing_a_covariate_of_the_class_lowers_the_optimum_and_one_that_says_nothing_does_not():
    sharp = dataclasses.replace(WORLD, class_law=np.array([[[0.98, 0.02], [0.02, 0.98], [0.5, 0.5]]]))
    panel = Panel.from_arrow(sharp.simulate(20_000, 3), occupations=sharp.occupations)

    def without(*names):
        return dataclasses.replace(panel, table=panel.table.drop_columns(list(names)))

    seen, blind = sharp.optimum(panel).log_p, sharp.optimum(without("gender")).log_p
    gain = np.bincount(panel.workers(), seen - blind)
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))
    assert np.array_equal(sharp.optimum(without("race")).log_p, seen)


def test_an_optimum_is_refused_where_the_history_is_not_known():
    panel = Panel.from_arrow(WORLD.simulate(3, 5), occupations=WORLD.occupations)
    rows = np.arange(15) != 7
    with pytest.raises(PanelError, match="worker 1 has no row in 1982, before 1983"):
        WORLD.optimum(Panel.from_arrow(panel.table.filter(rows), occupations=WORLD.occupations))
    with pytest.raises(PanelError, match="4 titles that are not the world's 3"):
        FORBIDDING.optimum(panel)
    with pytest.raises(PanelError, match=r"worker 1 has the gender 'man' in row 2.* 'female', 'male', 'other'"):
        WORLD.optimum(panel_of(WORLD, [[0, 1], [1, 2]], gender=["male", "man"]))
    moving = dataclasses.replace(WORLD, covariates={"region": WORLD.covariates["gender"]}, class_law=WORLD.class_law[0])
    table = panel_of(WORLD, [[0, 1], [1, 2]]).table.append_column("region", [["male", "male", "male", "female"]])
    with pytest.raises(PanelError, match="worker 1 has the region 'female' in row 3"):
        moving.optimum(Panel.from_arrow(table, occupations=WORLD.occupations))


@pytest.fixture(scope="module")
def compared():
    """The optimum of test rows and what the counts of other rows say of them."""
    world = FIRST_ORDER
    panel = Panel.from_arrow(world.simulate(400, 6), occupations=world.occupations)
    panel = panel.with_split({"train": 0.5, "val": 0.1, "test": 0.4})
    test = panel.part("test")
    return world.optimum(test), Markov().fit(panel.part("train"), panel.part("val")).predict(test, titles="all")


def law_of(optimum, log_p_all):
    """Predictions that hold this law."""
    rows = np.arange(len(optimum.transitions))
    log_p = log_p_all[rows, optimum.transitions.occupation]
    return Predictions.from_transitions(
        optimum.panel, optimum.transitions, model="m", law="normalized", titles="all", log_p=log_p, log_p_all=log_p_all
    )


def test_the_divergence_from_the_optimum_is_that_of_each_row(compared, monkeypatch):
    optimum, _ = compared
    law = whole_law(optimum)
    other = np.log(0.9 * law + 0.1 / 4)
    expected = [sum(q * (np.log(q) - np.log(0.9 * q + 0.025)) for q in row if q > 0) for row in law]
    monkeypatch.setattr(bayes, "CELLS", 50)
    assert np.allclose(metrics.kl_to_optimum(optimum, law_of(optimum, other)), expected, atol=1e-6)
    with np.errstate(divide="ignore"):
        itself = law_of(optimum, np.log(law))
    assert np.abs(metrics.kl_to_optimum(optimum, itself)).max() < 1e-6


def test_the_mean_divergence_is_the_log_of_perplexity_over_optimum_up_to_luck(compared):
    optimum, predictions = compared
    divergence = metrics.kl_to_optimum(optimum, predictions)
    luck = (optimum.log_p - predictions.log_p) - divergence
    assert abs(luck.mean()) < 4 * luck.std() / np.sqrt(len(luck))
    assert divergence.mean() > 0
    assert divergence.min() > -1e-6


def test_a_divergence_needs_the_whole_law_and_the_same_rows(compared):
    optimum, predictions = compared
    bare, facts = predictions.table.drop_columns("log_p_all"), {**predictions.metadata, "titles": "observed"}
    without = Predictions(bare, occupations=predictions.occupations, metadata=facts)
    with pytest.raises(PredictionsError, match="whole law"):
        metrics.kl_to_optimum(optimum, without)
    others = Panel.from_arrow(
        FIRST_ORDER.simulate(optimum.panel.num_workers, 6, seed=1), occupations=FIRST_ORDER.occupations
    )
    first = np.flatnonzero(others.states() != optimum.panel.states())[0]
    with pytest.raises(PredictionsError, match=f"row {first} of the predictions has another"):
        metrics.kl_to_optimum(FIRST_ORDER.optimum(others), predictions)
    with pytest.raises(PredictionsError, match="846 predictions and an optimum of 1 transitions"):
        metrics.kl_to_optimum(FIRST_ORDER.optimum(panel_of(FIRST_ORDER, [[0]])), predictions)
