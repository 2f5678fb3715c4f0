from __future__ import annotations

import dataclasses
import hashlib
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laborllm import synth
from laborllm.errors import LaborLLMError
from laborllm.synth import WORLDS, MarkovWorld

SMALL = MarkovWorld.random(4, stay=0.5, zipf=1.0, spread=1.0, seed=3)
FORBIDDING = MarkovWorld(
    ("a", "b", "c"), np.array([0.0, 1.0, 0.0]), np.array([[0.2, 0.8, 0.0], [0.0, 0.3, 0.7], [1.0, 0.0, 0.0]])
)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**63),
    first=st.integers(0, 50),
    workers=st.integers(1, 30),
    years=st.integers(1, 6),
    more=st.integers(0, 9),
)
def test_a_worker_has_the_same_career_in_any_population_and_for_any_number_of_years(seed, first, workers, years, more):
    everyone = SMALL.simulate_states(first + workers + more, years + more, seed=seed)
    some = SMALL.simulate_states(workers, years, seed=seed, first_worker=first)
    assert np.array_equal(some, everyone[first : first + workers, :years])


def test_draws_equal_those_of_one_generator_per_worker_and_year():
    states = SMALL.simulate_states(11, 5, seed=9)
    for worker, year in product(range(11), range(5)):
        generator = np.random.Philox(key=np.array([9, year], np.uint64), counter=worker // 4)
        draw = (int(generator.random_raw(4)[worker % 4]) >> 32) / 2**32
        law = SMALL.transition[states[worker, year - 1]] if year else SMALL.initial
        below = sum(float(p) for p in law[: states[worker, year]])
        assert below <= draw < below + law[states[worker, year]] + 1e-12


def test_other_seeds_give_other_careers():
    assert not np.array_equal(SMALL.simulate_states(50, 5, seed=0), SMALL.simulate_states(50, 5, seed=1))


def test_simulated_careers_follow_the_law():
    states = SMALL.simulate_states(50_000, 6)
    for rows, law in [(states[:, 0], SMALL.initial)] + [
        (states[:, 1:][states[:, :-1] == j], SMALL.transition[j]) for j in range(4)
    ]:
        error = np.sqrt(law * (1 - law) / len(rows))
        assert (np.abs(np.bincount(rows, minlength=4) / len(rows) - law) < 4.5 * error).all()


def test_successive_steps_are_independent_given_the_state():
    states = SMALL.simulate_states(50_000, 3)
    came_from, there = states[:, 0], states[:, 1]
    for j, k in product(range(4), repeat=2):
        rows = states[:, 2][(came_from == j) & (there == k)]
        share, law = (rows == k).mean(), SMALL.transition[k, k]
        assert abs(share - law) < 4.5 * np.sqrt(law * (1 - law) / len(rows))


def test_what_the_world_forbids_never_happens():
    states = FORBIDDING.simulate_states(5_000, 8)
    assert (states[:, 0] == 1).all()
    assert (FORBIDDING.transition[states[:, :-1], states[:, 1:]] > 0).all()
    assert FORBIDDING.log_p(np.array([0]), np.array([2]))[0] == -np.inf


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2.0**-32])
def test_the_smallest_and_the_largest_draw_land_on_possible_states(draw, monkeypatch):
    short = 1 - 9e-10  # as far below one as a law may sum
    world = MarkovWorld(
        ("a", "b", "c", "d"),
        np.array([0.0, short / 2, short / 2, 0.0]),
        np.array([[1, 0, 0, 0], [0, 0.5, 0.5 * short, 0], [0, short, 0, 0], [0, 0, 0, 1]]),
    )
    monkeypatch.setattr(synth, "_uniforms", lambda num_workers, **_: np.full(num_workers, draw))
    states = world.simulate_states(2, 9)
    assert np.isin(states, [1, 2]).all()
    assert np.isfinite(world.log_p(states[:, :-1], states[:, 1:])).all()


def test_the_law_of_first_rows_is_asked_for_by_minus_one_and_every_law_sums_to_one():
    law = SMALL.law(np.array([-1, 2, 0]))
    assert np.array_equal(law, np.vstack([SMALL.initial, SMALL.transition[[2, 0]]]))
    assert np.allclose(MarkovWorld.named("markov-50").law(np.arange(-1, 50)).sum(axis=1), 1, atol=1e-14)


def test_the_optimum_equals_the_product_of_true_probabilities():
    states = SMALL.simulate_states(20, 5)
    logs = [
        np.log(SMALL.transition[row[t - 1], row[t]] if t else SMALL.initial[row[0]]) for row in states for t in range(5)
    ]
    previous = np.hstack([np.full((20, 1), -1), states[:, :-1]]).ravel()
    assert SMALL.optimum(previous, states.ravel()) == pytest.approx(np.exp(-np.mean(logs)), rel=1e-12)


@pytest.mark.parametrize("world", [SMALL, FORBIDDING])
def test_the_expected_optimum_equals_the_sum_over_every_possible_career(world):
    years, size, total = 4, len(world.titles), 0.0
    for career in product(range(size), repeat=years):
        steps = [world.transition[a, b] for a, b in pairwise(career)]
        chance = world.initial[career[0]] * np.prod(steps)
        if chance > 0:
            total -= chance * np.log(steps).sum()
    assert world.expected_optimum(num_years=years) == pytest.approx(np.exp(total / (years - 1)), rel=1e-12)


def test_the_optimum_of_a_simulated_panel_is_the_expected_one_up_to_sampling_error():
    world = MarkovWorld.named("markov-50")
    states = world.simulate_states(20_000, 16, seed=1)
    per_worker = -world.log_p(states[:, :-1], states[:, 1:]).mean(axis=1)
    error = per_worker.std() / np.sqrt(len(per_worker))
    assert abs(per_worker.mean() - np.log(world.expected_optimum(num_years=16))) < 4 * error


def test_a_simulated_panel_has_one_row_per_worker_and_year_in_order():
    table = SMALL.simulate(3, 4, first_worker=7, first_year=1990, covariates={"gender": {"female": 0.4, "male": 0.6}})
    assert table.column_names == ["worker_id", "year", "occupation", "gender"]
    assert table["worker_id"].to_pylist() == [7] * 4 + [8] * 4 + [9] * 4
    assert table["year"].to_pylist() == [1990, 1991, 1992, 1993] * 3
    states = SMALL.simulate_states(3, 4, first_worker=7)
    assert table["occupation"].to_pylist() == [SMALL.titles[j] for j in states.ravel()]
    assert SMALL.occupations.titles == SMALL.titles


def test_covariates_leave_careers_alone_and_are_independent_of_them_and_of_each_other():
    shares = {"gender": {"female": 0.3, "male": 0.7}, "race": {"x": 1, "never": 0, "y": 1}}
    bare, dressed = SMALL.simulate(20_000, 2), SMALL.simulate(20_000, 2, covariates=shares)
    assert bare["occupation"].equals(dressed["occupation"])
    alone = SMALL.simulate(20_000, 2, covariates={"race": shares["race"]})
    assert alone["race"].equals(dressed["race"])
    female = np.array([value == "female" for value in dressed["gender"].to_pylist()])[::2]
    race = np.array(dressed["race"].to_pylist())[::2]
    first = SMALL.simulate_states(20_000, 1)[:, 0]
    assert set(race) == {"x", "y"}
    for group in [np.ones(20_000, bool), race == "x", first == 0, first == 3]:
        assert abs(female[group].mean() - 0.3) < 4.5 * np.sqrt(0.21 / group.sum())


def test_counts_make_the_world_of_their_frequencies_and_an_empty_row_takes_the_law_of_all():
    world = MarkovWorld.from_counts([3, 1], [[0, 0], [1, 3]], ("a", "b"))
    assert np.allclose(world.initial, [0.75, 0.25])
    assert np.allclose(world.transition, [[4 / 8, 4 / 8], [0.25, 0.75]])


def test_titles_are_words_only_and_change_no_career():
    renamed = dataclasses.replace(SMALL, titles=("w", "x", "y", "z"))
    assert np.array_equal(renamed.simulate_states(30, 5), SMALL.simulate_states(30, 5))


def test_a_world_with_one_title_is_certain():
    world = MarkovWorld.random(1, stay=0.5, zipf=1.0, spread=1.0, seed=0)
    assert world.expected_optimum(num_years=5) == pytest.approx(1.0)


def test_the_named_world_is_the_one_of_the_record():
    world = MarkovWorld.named("markov-50")
    laws = np.round(np.vstack([world.initial, world.transition]) * 1e9).astype(np.int64)
    assert len(world.titles) == 50
    assert hashlib.sha256(laws.tobytes()).hexdigest()[:16] == "626964fa9e714a82"
    assert world.expected_optimum(num_years=16) == pytest.approx(4.401822, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MarkovWorld.named("nowhere"), f"named worlds are {', '.join(WORLDS)}"),
        (lambda: MarkovWorld(("a", "b"), np.ones(1), np.eye(2)), "do not fit 2 titles"),
        (lambda: MarkovWorld(("a", "b"), np.array([0.5, 0.5]), np.array([[1, 0], [0.5, 0.4]])), "after 'b'"),
        (lambda: MarkovWorld(("a", "b"), np.array([1.5, -0.5]), np.eye(2)), "of first occupations is negative"),
        (lambda: MarkovWorld.from_counts([0, 0], np.eye(2), ("a", "b")), "of first occupations"),
        (lambda: SMALL.expected_optimum(num_years=1), "no row with a history"),
        (lambda: SMALL.simulate(2, 2, covariates={"race": {"x": -1.0, "y": 2.0}}), "the shares of 'race'"),
    ],
)
def test_what_is_no_world_is_refused_in_one_line(make, words):
    with pytest.raises(LaborLLMError, match=words) as error:
        make()
    assert "\n" not in str(error.value)
