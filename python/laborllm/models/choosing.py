"""The choice of back-offs, discounts and retentions on validation rows, over wide grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from laborllm.errors import ModelError
from laborllm.models.ladder import Path

Floats = NDArray[np.float64]

GRIDS: Mapping[str, Floats] = {
    "backoff": np.logspace(-3, 12, 121),  # eight per factor of ten
    "discount": np.linspace(0.0, 0.95, 20),
    "retention": np.linspace(0.05, 1.0, 20),
}
UNTUNED: Mapping[str, float] = {"backoff": 1.0, "discount": 0.0, "retention": 1.0}
"""Values of nobody's choice, shown beside the chosen ones, and kept where the validation rows tell nothing."""
RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "backoff": (lambda value: 0 < value < np.inf, "a positive number"),
    "discount": (lambda value: 0 <= value < 1, "a number from 0 up, below 1"),
    "retention": (lambda value: 0 < value <= 1, "a number above 0, 1 at most"),
}
COARSE = 4
"""First every so many-th value of a grid is tried, then those around the best of them."""
ROUNDS = 30
TIE = 1e-12
"""Losses no further apart are equal, and the first value of the grid is taken: rounding chooses nothing."""
GAIN = 1e-9
"""The choice ends with the round that lowers the mean loss by less."""


def untuned(name: str) -> float:
    """The value of nobody's choice for a parameter."""
    return UNTUNED[_quantity(name)]


def check(name: str, value: float | None) -> None:
    """Refuse a value out of the range of its quantity; None stands for chosen.

    Raises:
        ModelError: It is out of range.
    """
    quantity = _quantity(name)
    fits, words = RANGES[quantity]
    if value is not None and not fits(value):
        raise ModelError(f"{name}={value} is no {quantity}; give {words}, or None to choose it on val")


def choose(path: Path, params: Mapping[str, float], free: set[str], weights: Floats) -> dict[str, float]:
    """Lower the mean -log P of validation rows by one parameter after the other, until a round gains nothing.

    Args:
        path: The way up for what happened in n validation rows, outcomes (n, 1).
        params: Values to begin with; those not in `free` stay.
        free: Names of the parameters to choose.
        weights: Of the rows, (n,).
    """
    chosen = dict(params)
    before = np.inf
    for _ in range(ROUNDS):
        below = path.base
        for place, (names, stage) in enumerate(path.stages):
            for name in names:
                if name in free:

                    def loss(value: float, name: str = name, place: int = place, below: Floats = below) -> float:
                        return mean_loss(path.climb({**chosen, name: value}, start=place, law=below), weights)

                    chosen[name] = _best(loss, GRIDS[_quantity(name)], otherwise=chosen[name])
            below = stage(below, chosen)
        after = mean_loss(below, weights)
        if not before - after > GAIN:
            break
        before = after
    return chosen


def mean_loss(p: Floats, weights: Floats) -> float:
    """Weighted mean of -log p over rows (n, 1); 0 where no row has a weight."""
    return float(-np.log(p[:, 0]) @ weights) / (float(weights.sum()) or 1.0)


def _best(loss: Callable[[float], float], grid: Floats, *, otherwise: float) -> float:
    """The value of a grid with the smallest loss; `otherwise` where the loss does not depend on it."""
    coarse = {place: loss(float(grid[place])) for place in {*range(0, len(grid), COARSE), len(grid) - 1}}
    best = min(place for place, value in coarse.items() if value <= min(coarse.values()) + TIE)
    near = range(max(0, best - COARSE + 1), min(len(grid), best + COARSE))
    losses = coarse | {place: loss(float(grid[place])) for place in near if place not in coarse}
    least = min(losses.values()) + TIE
    if max(losses.values()) <= least:
        return otherwise
    return float(grid[min(place for place, value in losses.items() if value <= least)])


def _quantity(name: str) -> str:
    return name.rsplit("_", 1)[1]
