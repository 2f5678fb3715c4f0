"""Small worlds to test with, and what the fast paths of `laborllm.synth` compute, one worker and one year at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.synth import World
from laborllm.synth.recipes import stream_of

FIRST_ORDER = World.random(4, stay=0.5, zipf=1.0, spread=1.0, seed=3)
FORBIDDING = World.markov(
    ("a", "b", "c"), np.array([0.0, 1.0, 0.0]), np.array([[0.2, 0.8, 0.0], [0.0, 0.3, 0.7], [1.0, 0.0, 0.0]])
)


def random_world(seed: int, *, size: int = 4, classes: int = 2, width: int = 3, shared: bool = False) -> World:
    """A world with everything: classes that depend on one of two covariates, sparse kernels with zeros, durations."""
    random = np.random.default_rng(seed)

    def laws(*shape: int) -> np.ndarray:
        rows = random.random(shape) * (random.random(shape) < 0.8) + 1e-3 * (np.arange(shape[-1]) == 0)
        return rows / rows.sum(axis=-1, keepdims=True)

    return World(
        Occupations.from_titles([f"Job {j}" for j in range(size)]),
        initial=laws(classes, size),
        neighbours=np.sort([random.permutation(size)[:width] for _ in range(size)], axis=1).astype(np.int32),
        kernel=laws(1 if shared else classes, size, width),
        stay=0.6 * random.random((classes, size)),
        duration=0.4 * random.random(3),
        returns=0.3 * random.random(),
        restarts=0.3 * random.random(),
        covariates={"race": {"x": 1.0, "y": 2.0}, "gender": {"female": 0.5, "male": 0.25, "other": 0.25}},
        class_law=random.dirichlet(np.ones(classes), (1, 3)),
    )


WORLD = random_world(0)


def draw(worker: int, *, seed: int, stream: int) -> float:
    """The draw of one worker, by a generator of its own."""
    generator = np.random.Philox(key=np.array([seed, stream], np.uint64), counter=worker // 4)
    return (int(generator.random_raw(4)[worker % 4]) >> 32) / 2**32


def pick(law: Any, number: float) -> int:
    """The first state whose cumulative probability is above the number; the last possible one where rounding lacks."""
    total = 0.0
    for k, p in enumerate(law):
        total += float(p)
        if number < total:
            return k
    return max(k for k, p in enumerate(law) if p > 0)


def slow_class(world: World, worker: int, *, seed: int) -> int:
    """The hidden class of a worker."""
    values = [
        pick(
            [share / sum(shares.values()) for share in shares.values()], draw(worker, seed=seed, stream=stream_of(name))
        )
        for name, shares in world.covariates.items()
    ]
    cell = tuple(v if axis > 1 else 0 for v, axis in zip(values, world.class_law.shape, strict=False))
    return pick(world.class_law[cell], draw(worker, seed=seed, stream=stream_of("the class of a worker")))


def slow_career(world: World, worker: int, num_years: int, *, seed: int) -> list[int]:
    """One worker's states: a draw decides whether to stay, to return, to begin anew, and where else to move."""
    z = slow_class(world, worker, seed=seed) if world.num_classes > 1 else 0
    career = [pick(world.initial[z], draw(worker, seed=seed, stream=0))]
    for year in range(1, num_years):
        number, now = draw(worker, seed=seed, stream=year), career[-1]
        before, stay, kernel = memory(world, z, career)
        decisions = [(stay, now)] + ([(world.returns, before)] if before is not None else [])
        for chance, state in decisions:
            if number < chance:
                career.append(state)
                break
            number = (number - chance) / (1 - chance)
        else:
            if number < world.restarts:
                career.append(pick(world.initial[z], number / world.restarts))
            else:
                career.append(pick(kernel, (number - world.restarts) / (1 - world.restarts)))
    return career


def memory(world: World, z: int, career: list[int]) -> tuple[int | None, float, np.ndarray]:
    """The last other state, the probability of staying, and the kernel over all states after this career."""
    now = career[-1]
    others = [state for state in career if state != now]
    tenure = 0
    for state in reversed(career):
        if state != now:
            break
        tenure += 1
    kernel = np.zeros(len(world.titles))
    for slot, k in enumerate(world.neighbours[now]):
        kernel[k] = world.kernel[z if len(world.kernel) > 1 else 0][now][slot]
    stay = world.stay[z, now] + world.duration[min(tenure, len(world.duration)) - 1]
    return (others[-1] if others else None), float(stay), kernel


def slow_law(world: World, z: int, career: list[int]) -> np.ndarray:
    """The law of the next state after this career, for a worker of this class."""
    if not career:
        return np.array(world.initial[z])
    before, stay, kernel = memory(world, z, career)
    law = np.zeros(len(world.titles))
    law[career[-1]] += stay
    rest = 1 - stay
    if before is not None:
        law[before] += rest * world.returns
        rest *= 1 - world.returns
    return law + rest * (world.restarts * world.initial[z] + (1 - world.restarts) * kernel)


def slow_prior(world: World, values: dict[str, str | None]) -> np.ndarray:
    """The law of the class of a worker with these covariates: the mean over what is not known, cell by cell."""
    law = np.zeros(world.num_classes)
    cells = np.broadcast_to(world.class_law, (*map(len, world.covariates.values()), world.num_classes))
    for cell in np.ndindex(cells.shape[:-1]):
        weight = 1.0
        for place, (name, shares) in zip(cell, world.covariates.items(), strict=True):
            known, words = values.get(name), list(shares)
            weight *= shares[words[place]] / sum(shares.values()) if known is None else float(words[place] == known)
        law += weight * cells[cell]
    return law


def slow_optimum(world: World, career: list[int], prior: np.ndarray) -> np.ndarray:
    """The law of every row of a career, (T, J): all classes enumerated, each with the probability of all that was."""
    rows = []
    for t in range(len(career)):
        joint = prior.copy()
        for z in range(world.num_classes):
            for s in range(t):
                joint[z] *= slow_law(world, z, career[:s])[career[s]]
        rows.append(sum(joint[z] * slow_law(world, z, career[:t]) for z in range(world.num_classes)) / joint.sum())
    return np.array(rows)


def panel_of(world: World, careers: Any, **columns: list[Any]) -> Panel:
    """A panel of these careers, from 1980; further columns have one value per worker."""
    rows = [(w, 1980 + t, world.titles[j]) for w, career in enumerate(careers) for t, j in enumerate(career)]
    worker, year, title = zip(*rows, strict=True)
    table: dict[str, Any] = {"worker_id": worker, "year": year, "occupation": title}
    table |= {name: [values[w] for w in worker] for name, values in columns.items()}
    import pyarrow as pa

    return Panel.from_arrow(
        pa.table({name: list(values) for name, values in table.items()}), occupations=world.occupations
    )
