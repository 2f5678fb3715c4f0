"""The worlds that come with the package, and how near counts of a longer memory come to their optimum."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import pytest

from laborllm.models.counts import MODELS, Markov, TwoStage
from laborllm.panel import Panel
from laborllm.synth import World, likeness

RECORD = {
    "markov-50": (50, 1, "254272a8"),
    "occupations-330-permuted": (330, 8, "0b785402"),
    "occupations-330-words": (330, 8, "1603c308"),
    "two-types": (20, 2, "2ee40466"),
}


@pytest.mark.parametrize("name", RECORD)
def test_a_named_world_is_the_one_of_the_record(name):
    world = World.named(name)
    numbers = [
        world.initial,
        world.kernel,
        world.stay,
        world.duration,
        world.class_law,
        [world.returns, world.restarts],
    ]
    laws = b"".join(np.round(np.asarray(each) * 1e6).astype("<i8").tobytes() for each in numbers)
    places = world.neighbours.astype("<i4").tobytes()
    found = hashlib.sha256("\n".join(world.titles).encode() + places + laws).hexdigest()[:8]
    assert (len(world.titles), world.num_classes, found) == RECORD[name]
    assert sorted(RECORD) == World.names()


def test_the_permuted_world_is_that_of_words_under_other_titles():
    words, permuted = World.named("occupations-330-words"), World.named("occupations-330-permuted")
    assert sorted(words.titles) == sorted(permuted.titles)
    assert np.mean([a == b for a, b in zip(words.titles, permuted.titles, strict=True)]) < 0.02
    careers = [world.simulate(500, 8, seed=4) for world in (words, permuted)]
    panels = [Panel.from_arrow(t, occupations=w.occupations) for t, w in zip(careers, (words, permuted), strict=True)]
    assert np.array_equal(panels[0].states(), panels[1].states())
    assert np.array_equal(words.optimum(panels[0]).log_p, permuted.optimum(panels[1]).log_p)
    parts = [panel.with_split({"train": 0.7, "val": 0.3}) for panel in panels]
    for kind in (Markov, TwoStage):
        one, other = (kind().fit(p.part("train"), p.part("val")).predict(p.part("val")).log_p for p in parts)
        assert np.array_equal(one, other)


def test_moves_in_the_world_of_words_are_between_alike_titles_and_in_the_permuted_one_are_not():
    alike = {}
    for name in ("words", "permuted"):
        world = World.named(f"occupations-330-{name}")
        near, cosine = likeness.nearest(world.titles, 329)
        table = np.zeros((330, 330))
        np.put_along_axis(table, near.astype(np.int64), cosine, axis=1)
        alike[name] = (
            (world.kernel * np.take_along_axis(table, world.neighbours.astype(np.int64), axis=1)).sum(2).mean()
        )
    assert alike["words"] > 5 * alike["permuted"]


@cache
def ladder(name, *, num_workers=10_000):
    """Log-probabilities of test rows with a history by each model, and the worker of each row."""
    world = World.named(name)
    panel = Panel.from_arrow(world.simulate(num_workers, 16), occupations=world.occupations)
    panel = panel.with_split({"train": 0.7, "val": 0.1, "test": 0.2})
    train, val, test = (panel.part(part) for part in ("train", "val", "test"))
    optimum = world.optimum(test)
    later = ~optimum.transitions.first
    columns = {kind: model().fit(train, val).predict(test).log_p[later] for kind, model in MODELS.items()}
    columns["optimum"] = optimum.log_p[later]
    return columns, optimum.transitions.worker[later]


def standard_errors(difference, worker):
    """The mean of a paired difference of rows over its standard error, workers being drawn."""
    sums = np.bincount(worker, difference)
    return sums.mean() / (sums.std() / np.sqrt(len(sums)))


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ("uniform", "marginal"),
        ("marginal", "markov"),
        ("markov", "markov-2"),
        ("two-stage", "markov-2"),
        ("markov-2", "tenure"),
        ("tenure", "optimum"),
    ],
)
def test_in_the_world_of_two_types_every_longer_memory_is_beyond_three_standard_errors_better(worse, better):
    columns, worker = ladder("two-types")
    assert standard_errors(columns[better] - columns[worse], worker) > 3


def test_in_the_world_of_two_types_a_stage_for_stays_is_worth_nothing():
    columns, _ = ladder("two-types")
    assert abs(columns["markov"].mean() - columns["two-stage"].mean()) < 0.01


@pytest.mark.parametrize("name", ["markov-50", "occupations-330-words", "two-types"])
def test_nothing_is_below_the_optimum_by_more_than_luck(name):
    columns, worker = ladder(name)
    for kind, log_p in columns.items():
        if kind != "optimum":
            assert standard_errors(log_p - columns["optimum"], worker) < 3, kind


@pytest.mark.parametrize("name", ["occupations-330-words", "occupations-330-permuted"])
def test_in_the_worlds_of_330_occupations_a_quarter_is_left_to_what_sees_more_than_the_last_one(name):
    columns, _ = ladder(name)
    for kind in ("markov", "two-stage", "markov-2", "tenure"):
        assert np.exp((columns["optimum"] - columns[kind]).mean()) >= 1.25, kind
