from __future__ import annotations

import dataclasses
import hashlib
from itertools import pairwise, product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laborllm.errors import WorldError
from laborllm.occupations import Occupations
from laborllm.synth import World, careers
from tests.worlds import FIRST_ORDER, FORBIDDING, WORLD, random_world, slow_career, slow_class

every_kind = pytest.mark.parametrize("world", [FIRST_ORDER, WORLD], ids=["first order", "with memory"])


@settings(deadline=None)
@given(
    world=st.sampled_from([FIRST_ORDER, WORLD]),
    seed=st.integers(0, 2**63),
    sizes=st.tuples(st.integers(0, 50), st.integers(1, 30), st.integers(1, 6), st.integers(0, 9)),
)
def test_a_worker_has_the_same_career_in_any_population_and_for_any_number_of_years(world, seed, sizes):
    first, workers, years, more = sizes
    everyone = world.simulate_states(first + workers + more, years + more, seed=seed)
    some = world.simulate_states(workers, years, seed=seed, first_worker=first)
    assert np.array_equal(some, everyone[first : first + workers, :years])


@every_kind
def test_rows_are_the_same_for_any_number_of_threads_and_any_size_of_batch(world, monkeypatch):
    one = world.simulate(3_000, 7, seed=3, threads=1)
    assert world.simulate(3_000, 7, seed=3, threads=2).equals(one)
    assert world.simulate(3_000, 7, seed=3, threads=5).equals(one)
    monkeypatch.setattr(careers, "BATCH_ROWS", 1)
    batches = list(world.stream(3_000, 7, seed=3, threads=2))
    assert [batch.num_rows for batch in batches] == [1024 * 7, 1024 * 7, 952 * 7]
    assert pa.Table.from_batches(batches).combine_chunks().equals(one)


@pytest.mark.parametrize("world", [FIRST_ORDER, FORBIDDING, *(random_world(s, shared=s % 2 > 0) for s in range(6))])
def test_careers_equal_those_of_one_generator_per_worker_and_year(world):
    states = world.simulate_states(23, 9, seed=9)
    assert states.tolist() == [slow_career(world, worker, 9, seed=9) for worker in range(23)]


def test_careers_with_a_sure_stay_a_sure_return_or_a_sure_restart_divide_by_nothing():
    for change in ({"returns": 1.0}, {"restarts": 1.0}, {"stay": np.full((2, 4), 1.0), "duration": np.zeros(1)}):
        world = dataclasses.replace(WORLD, **change)
        states = world.simulate_states(23, 9, seed=9)
        assert states.tolist() == [slow_career(world, worker, 9, seed=9) for worker in range(23)]


def test_a_stream_of_any_length_begins_at_once():
    reader = WORLD.stream(10**12, 16, threads=2)
    assert reader.read_next_batch().num_rows < 10**6
    reader.close()


def test_other_seeds_give_other_careers():
    assert not np.array_equal(FIRST_ORDER.simulate_states(50, 5, seed=0), FIRST_ORDER.simulate_states(50, 5, seed=1))


def test_simulated_careers_follow_the_law():
    states = FIRST_ORDER.simulate_states(50_000, 6)
    for rows, law in [(states[:, 0], FIRST_ORDER.initial[0])] + [
        (states[:, 1:][states[:, :-1] == j], FIRST_ORDER.transition()[j]) for j in range(4)
    ]:
        error = np.sqrt(law * (1 - law) / len(rows))
        assert (np.abs(np.bincount(rows, minlength=4) / len(rows) - law) < 4.5 * error).all()


def test_successive_steps_are_independent_given_the_state():
    states = FIRST_ORDER.simulate_states(50_000, 3)
    came_from, there = states[:, 0], states[:, 1]
    for j, k in product(range(4), repeat=2):
        rows = states[:, 2][(came_from == j) & (there == k)]
        share, law = (rows == k).mean(), FIRST_ORDER.transition()[k, k]
        assert abs(share - law) < 4.5 * np.sqrt(law * (1 - law) / len(rows))


def test_the_class_follows_its_law_given_the_covariates():
    table = WORLD.simulate(40_000, 1, seed=2)
    gender = np.array(table["gender"].to_pylist())
    classes = np.array([slow_class(WORLD, worker, seed=2) for worker in range(2_000)])
    first = np.array(table["occupation"].combine_chunks().indices)
    for g, value in enumerate(WORLD.covariates["gender"]):
        share = (classes[gender[:2_000] == value] == 0).mean()
        law = WORLD.class_law[0, g, 0]
        assert abs(share - law) < 4.5 * np.sqrt(law * (1 - law) / (gender[:2_000] == value).sum())
        expected = WORLD.class_law[0, g] @ WORLD.initial
        found = np.bincount(first[gender == value], minlength=4) / (gender == value).sum()
        assert (np.abs(found - expected) < 4.5 * np.sqrt(expected / (gender == value).sum())).all()


def test_what_the_world_forbids_never_happens():
    states = FORBIDDING.simulate_states(5_000, 8)
    assert (states[:, 0] == 1).all()
    assert (FORBIDDING.transition()[states[:, :-1], states[:, 1:]] > 0).all()


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2.0**-32])
def test_the_smallest_and_the_largest_draw_land_on_possible_states(draw, monkeypatch):
    short = 1 - 9e-10  # as far below one as a law may sum
    chain = World.markov(
        ("a", "b", "c", "d"),
        np.array([0.0, short / 2, short / 2, 0.0]),
        np.array([[1, 0, 0, 0], [0, 0.5, 0.5 * short, 0], [0, short, 0, 0], [0, 0, 0, 1]]),
    )
    monkeypatch.setattr(careers.Population, "uniforms", lambda self, _: np.full(self.num_workers, draw))
    for world in (chain, dataclasses.replace(chain, stay=np.full((1, 4), 0.3), returns=0.1, restarts=1 / 3)):
        assert np.isin(world.simulate_states(2, 9), [1, 2]).all()


@given(seed=st.integers(0, 999), rows=st.integers(1, 4), width=st.integers(1, 70), power=st.sampled_from([0, 1, 9]))
def test_a_ladder_finds_what_a_search_of_the_cumulative_law_finds(seed, rows, width, power):
    random = np.random.default_rng(seed)
    laws = random.random((rows, width)) ** power * (random.random((rows, width)) < 0.7) + 1e-300
    laws /= laws.sum(axis=1, keepdims=True)
    cumulative = careers.steps(laws)
    row = random.integers(rows, size=400)
    draws = np.concatenate([random.random(200), cumulative[row[200:], random.integers(width, size=200)]])
    draws = np.minimum(draws, np.nextafter(1.0, 0.0))  # and on the very steps
    expected = [np.searchsorted(cumulative[r], draw, side="right") for r, draw in zip(row, draws, strict=True)]
    assert careers.Ladder(laws)(row, draws).tolist() == expected


@pytest.mark.parametrize("world", [FIRST_ORDER, FORBIDDING])
def test_the_expected_optimum_equals_the_sum_over_every_possible_career(world):
    years, size, total = 4, len(world.titles), 0.0
    for career in product(range(size), repeat=years):
        moves = [world.transition()[a, b] for a, b in pairwise(career)]
        chance = world.initial[0, career[0]] * np.prod(moves)
        if chance > 0:
            total -= chance * np.log(moves).sum()
    assert world.expected_optimum(num_years=years) == pytest.approx(np.exp(total / (years - 1)), rel=1e-12)


def test_the_transition_of_a_world_of_one_class_holds_its_stays_and_restarts():
    stays = dataclasses.replace(FIRST_ORDER, stay=np.array([[0.1, 0.2, 0.3, 0.4]]), restarts=0.25)
    states = stays.simulate_states(50_000, 6)
    law = stays.transition()
    assert np.allclose(law.sum(axis=1), 1, atol=1e-14)
    for j in range(4):
        rows = states[:, 1:][states[:, :-1] == j]
        error = np.sqrt(law[j] * (1 - law[j]) / len(rows))
        assert (np.abs(np.bincount(rows, minlength=4) / len(rows) - law[j]) < 4.5 * error).all()


def test_a_simulated_panel_has_one_row_per_worker_and_year_in_order():
    table = FIRST_ORDER.simulate(
        3, 4, first_worker=7, first_year=1990, covariates={"gender": {"female": 0.4, "male": 0.6}}
    )
    assert table.column_names == ["worker_id", "year", "occupation", "gender"]
    assert table["worker_id"].to_pylist() == [7] * 4 + [8] * 4 + [9] * 4
    assert table["year"].to_pylist() == [1990, 1991, 1992, 1993] * 3
    states = FIRST_ORDER.simulate_states(3, 4, first_worker=7)
    assert table["occupation"].to_pylist() == [FIRST_ORDER.titles[j] for j in states.ravel()]
    assert WORLD.simulate(0, 2).num_rows == 0
    assert WORLD.simulate(2, 2).column_names == ["worker_id", "year", "occupation", "race", "gender"]


def test_further_covariates_leave_careers_alone_and_are_independent_of_them_and_of_each_other():
    shares = {"sex": {"female": 0.3, "male": 0.7}, "region": {"x": 1, "never": 0, "y": 1}}
    bare, dressed = WORLD.simulate(20_000, 2), WORLD.simulate(20_000, 2, covariates=shares)
    assert bare["occupation"].equals(dressed["occupation"])
    assert bare["gender"].equals(dressed["gender"])
    alone = WORLD.simulate(20_000, 2, covariates={"region": shares["region"]})
    assert alone["region"].equals(dressed["region"])
    female = np.array([value == "female" for value in dressed["sex"].to_pylist()])[::2]
    region = np.array(dressed["region"].to_pylist())[::2]
    gender = np.array(dressed["gender"].to_pylist())[::2]
    first = WORLD.simulate_states(20_000, 1)[:, 0]
    assert set(region) == {"x", "y"}
    for group in [np.ones(20_000, bool), region == "x", gender == "female", first == 0, first == 3]:
        assert abs(female[group].mean() - 0.3) < 4.5 * np.sqrt(0.21 / group.sum())


def test_counts_make_the_world_of_their_frequencies_and_an_empty_row_takes_the_law_of_all():
    world = World.from_counts([3, 1], [[0, 0], [1, 3]], ("a", "b"))
    assert np.allclose(world.initial, [[0.75, 0.25]])
    assert np.allclose(world.transition(), [[4 / 8, 4 / 8], [0.25, 0.75]])


def test_titles_are_words_only_and_change_no_career():
    renamed = dataclasses.replace(FIRST_ORDER, occupations=Occupations.from_titles(["w", "x", "y", "z"]))
    assert np.array_equal(renamed.simulate_states(30, 5), FIRST_ORDER.simulate_states(30, 5))
    permuted = FIRST_ORDER.permuted(seed=1)
    assert sorted(permuted.titles) == sorted(FIRST_ORDER.titles) != list(permuted.titles)
    assert np.array_equal(permuted.simulate_states(30, 5), FIRST_ORDER.simulate_states(30, 5))


def test_a_world_with_one_title_is_certain():
    world = World.random(1, stay=0.5, zipf=1.0, spread=1.0, seed=0)
    assert world.expected_optimum(num_years=5) == pytest.approx(1.0)


def test_the_first_order_world_of_the_record_is_the_one_it_was():
    world = World.named("markov-50")
    laws = np.round(np.vstack([world.initial, world.transition()]) * 1e9).astype(np.int64)
    assert len(world.titles) == 50
    assert hashlib.sha256(laws.tobytes()).hexdigest()[:16] == "626964fa9e714a82"
    assert world.expected_optimum(num_years=16) == pytest.approx(4.401822, abs=1e-6)
    states = world.simulate_states(1_000, 16)
    assert hashlib.sha256(states.tobytes()).hexdigest()[:16] == "381e73aef3597d6e"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: World.markov(("a", "b"), np.ones(1), np.eye(2)), "do not fit 2 titles"),
        (lambda: World.markov(("a", "b"), [0.5, 0.5], [[1, 0], [0.5, 0.4]]), "after 'b'"),
        (lambda: World.markov(("a", "b"), [1.5, -0.5], np.eye(2)), "of first occupations is negative"),
        (lambda: World.from_counts([0, 0], np.eye(2), ("a", "b")), "of first occupations"),
        (lambda: World.from_counts([1, -1], np.eye(2), ("a", "b")), "is negative or null"),
        (lambda: World.from_counts([1, 1], [[1, -1], [0, 1]], ("a", "b")), "is negative or null"),
        (lambda: World.random(3, stay=0.5, zipf=1.0, spread=1.0, seed=-1), "the seed is -1"),
        (lambda: WORLD.permuted(seed=-1), "the seed is -1"),
        (lambda: FIRST_ORDER.expected_optimum(num_years=1), "no row with a history"),
        (lambda: WORLD.expected_optimum(num_years=5), "use optimum"),
        (lambda: FIRST_ORDER.simulate(2, 2, covariates={"race": {"x": -1.0, "y": 2.0}}), "the shares of 'race'"),
        (lambda: WORLD.simulate(2, 2, covariates={"race": {"x": 1.0}}), "a column 'race' of its own"),
        (lambda: WORLD.simulate(2, 2, covariates={"year": {"1980": 1.0}}), "a column 'year' of its own"),
        (lambda: WORLD.simulate(-1, 2), "-1 workers"),
        (lambda: WORLD.simulate(2, 0), "0 years"),
        (lambda: WORLD.simulate(2, 2, seed=-1), "the seed is -1"),
        (lambda: dataclasses.replace(WORLD, kernel=WORLD.kernel[:, :2]), "kernel has shape"),
        (lambda: dataclasses.replace(WORLD, initial=WORLD.initial[:, ::2]), "initial has shape"),
        (lambda: dataclasses.replace(WORLD, neighbours=WORLD.neighbours[:, ::-1]), "neighbours of 'Job 0'"),
        (
            lambda: dataclasses.replace(WORLD, neighbours=WORLD.neighbours[:, :0], kernel=WORLD.kernel[..., :0]),
            "after 'Job 0' in class 0 is negative somewhere or sums to 0",
        ),
        (lambda: dataclasses.replace(WORLD, neighbours=WORLD.neighbours + 1), "ascending states in"),
        (lambda: dataclasses.replace(WORLD, kernel=WORLD.kernel * [[[1]], [[2]]]), "after 'Job 0' in class 1"),
        (lambda: dataclasses.replace(WORLD, initial=WORLD.initial * [[1], [2]]), "first occupations in class 1"),
        (lambda: dataclasses.replace(WORLD, stay=WORLD.stay + np.array([[0], [0.6]])), "in class 1 is 1"),
        (lambda: dataclasses.replace(WORLD, duration=np.array([0.0, -0.9])), "after 2 years"),
        (lambda: dataclasses.replace(WORLD, duration=np.zeros(0)), "duration has shape"),
        (lambda: dataclasses.replace(WORLD, returns=1.5), "returns is 1.5"),
        (lambda: dataclasses.replace(WORLD, restarts=float("nan")), "restarts is nan"),
        (lambda: dataclasses.replace(WORLD, class_law=np.full((1, 2, 2), 0.5)), "axis each for race 2, gender 3"),
        (lambda: dataclasses.replace(WORLD, class_law=np.full((1, 3, 2), 0.4)), r"of the class in row \[0, 0\]"),
        (lambda: dataclasses.replace(WORLD, covariates={"race": {"x": 0.0}, "gender": {"a": 1.0}}), "shares of 'race'"),
    ],
)
def test_what_is_no_world_is_refused_in_one_line(make, words):
    with pytest.raises(WorldError, match=words) as error:
        make()
    assert "\n" not in str(error.value)
