"""Laws drawn at random: what the numbers and the seed of a world file stand for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laborllm.errors import WorldError
from laborllm.synth.likeness import nearest

Floats = NDArray[np.float64]
Draw = Callable[[tuple[int, ...]], Floats]


def stream_of(name: str) -> int:
    """A stream of random numbers by its name, far from those of the years and the same whichever others are used."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") | 1 << 63


def numbered(num_titles: int) -> tuple[str, ...]:
    """Titles without a meaning, as "Occupation 01", "Occupation 02"."""
    width = len(str(num_titles))
    return tuple(f"Occupation {number:0{width}}" for number in range(1, num_titles + 1))


def everyone(num_titles: int) -> NDArray[np.int32]:
    """Every state as a neighbour of every state, shape (J, J)."""
    return np.broadcast_to(np.arange(num_titles, dtype=np.int32), (num_titles, num_titles))


def permutation(num_titles: int, *, seed: int) -> NDArray[np.int64]:
    """A random order of the states, shape (J,)."""
    order: NDArray[np.int64] = np.argsort(_draw(seed, "the order of titles")((num_titles,)), kind="stable")
    return order


def markov(initial: Floats, transition: Floats) -> dict[str, Any]:
    """The attributes of a World whose kernel is a first-order law, shapes (J,) and (J, J)."""
    return {
        "initial": initial[None],
        "neighbours": everyone(len(initial)),
        "kernel": transition[None],
        "stay": np.zeros((1, len(initial))),
    }


def random_markov(titles: Sequence[str], *, stay: float, zipf: float, spread: float, seed: int) -> dict[str, Any]:
    """Draw a first-order law.

    Titles have popularities falling as rank ** -zipf, in random order. A worker stays in state j with a probability
    drawn uniformly within half of the way from `stay` to 0 or 1, whichever is nearer; movers go to k != j with
    probability proportional to popularity times a taste, a standard exponential to the power `spread` (at 1 and `zipf`
    0 the move law is a draw from the flat Dirichlet; above 1 it is sparser).

    Returns:
        `initial`, `neighbours`, `kernel` and `stay` of a World.
    """
    size, draw = len(titles), _draw(seed, "the law of a world")
    popularity = (1.0 + np.argsort(draw((size,)))) ** -zipf
    stays = stay + (draw((size,)) - 0.5) * min(stay, 1 - stay)
    moves = popularity * _taste(draw((size, size)), spread) * (1 - np.eye(size))
    if size == 1:
        stays, moves = np.ones(1), np.ones((1, 1))
    transition = (1 - stays)[:, None] * moves / moves.sum(axis=1, keepdims=True) + np.diag(stays)
    return markov(popularity / popularity.sum(), transition / transition.sum(axis=1, keepdims=True))


def random_careers(
    titles: Sequence[str],
    *,
    seed: int,
    stay: Sequence[float],
    stay_width: float = 0.0,
    neighbours: int | None = None,
    zipf: float = 0.0,
    spread: float = 1.0,
    class_spread: float = 1.0,
    likeness: float | None = None,
) -> dict[str, Any]:
    """Draw the law of a world whose classes differ in where they move and how long they stay.

    Titles have popularities falling as rank ** -zipf, in random order, and each class a taste for each of them, a
    standard exponential to the power `class_spread`; their product is the class's law of first occupations. A mover
    goes to a neighbour with probability proportional to that product times a taste of the pair, a standard exponential
    to the power `spread`, times exp(likeness * cosine) where titles are compared by their words.

    Args:
        titles: The J titles.
        seed: Of the law.
        stay: Mean probability of staying in each of the Z classes.
        stay_width: Its range over the titles, uniform.
        neighbours: Titles that a mover may go to from each, M; all the others by default.
        zipf: How unequal the popularities are.
        spread: How unequal the pairs are.
        class_spread: How much the classes differ; 0 gives all the same moves.
        likeness: How strongly movers keep to alike titles, the M most alike ones being the neighbours. Without it,
            neighbours are near each other in a random order of the titles that has nothing to do with their words.

    Returns:
        `initial`, `neighbours`, `kernel` and `stay` of a World.
    """
    size = len(titles)
    width = size - 1 if neighbours is None else neighbours
    if not 1 <= width < size:
        raise WorldError(f"neighbours is {width}; each of {size} titles has 1 to {size - 1} others")
    if not len(stay):
        raise WorldError("stay is empty; give the mean probability of staying of each class")
    draw = _draw(seed, "the law of a world")
    popularity = (1.0 + np.argsort(draw((size,)))) ** -zipf
    attraction = popularity * _taste(draw((len(stay), size)), class_spread)
    stays = np.array(stay, np.float64)[:, None] + (draw((len(stay), size)) - 0.5) * stay_width
    order = np.argsort(draw((size,)))
    if likeness is None:
        near, cosine = _ring(order, width), np.zeros((size, width))
    else:
        near, cosine = nearest(titles, width)
    pairs = _taste(draw((size, width)), spread) * np.exp((likeness or 0.0) * cosine)
    kernel = attraction[:, near] * pairs
    return {
        "initial": attraction / attraction.sum(axis=1, keepdims=True),
        "neighbours": near,
        "kernel": kernel / kernel.sum(axis=2, keepdims=True),
        "stay": stays,
    }


def random_classes(shape: tuple[int, ...], *, spread: float, seed: int) -> Floats:
    """Draw a law of the class for each cell of the covariates, shape (C1, …, Z).

    Shares are proportional to standard exponentials to the power `spread`: equal at 0, a flat Dirichlet at 1.
    """
    shares = _taste(_draw(seed, "the law of the class")(shape), spread)
    law: Floats = shares / shares.sum(axis=-1, keepdims=True)
    return law


def _ring(order: NDArray[np.int64], width: int) -> NDArray[np.int32]:
    """The `width` nearest of each state when states stand in a circle in this order, ascending, shape (J, width)."""
    size = len(order)
    steps = [(step + 1) // 2 * (1 if step % 2 else -1) for step in range(1, width + 1)]
    near = np.empty((size, width), np.int32)
    near[order] = order[(np.arange(size)[:, None] + steps) % size]
    near.sort(axis=1)
    return near


def _taste(uniform: Floats, power: float) -> Floats:
    """A standard exponential to a power."""
    taste: Floats = (-np.log1p(-uniform)) ** power
    return taste


def _draw(seed: int, name: str) -> Draw:
    """Uniform draws in [0, 1) from the Philox generator of this seed and name."""
    if not 0 <= seed < 1 << 64:
        raise WorldError(f"the seed is {seed}; give one in [0, 2**64)")
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, stream_of(name)], np.uint64)))
    return generator.random
