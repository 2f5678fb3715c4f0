"""The exact law of the next state given the history alone: a Bayes filter over the hidden class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from laborllm.errors import PanelError
from laborllm.panel import Panel, Transitions
from laborllm.spells import Spells

if TYPE_CHECKING:
    from laborllm.synth.world import World

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CELLS = 1 << 21
"""Numbers of a block of rows x classes or rows x titles (float64: 16 MiB)."""


class Optimum:
    """The true law of each row to be predicted, given all earlier rows of the worker and the covariates.

    No model that sees the same beats it by more than luck. The class is not seen: the law is the mean of the laws of
    the classes, weighted by how probable the history made each. Where the class depends on a covariate, a null and a
    column that the panel lacks are unknown values, over which the mean is taken by their shares. A worker's first row
    is taken for the first of the career: of careers whose beginning was cut off the law is another.

    Raises:
        PanelError: Other titles than the world's, years that are not consecutive within a worker, a covariate with a
            value that the world does not know or that changes; the message names the worker.
    """

    def __init__(self, world: World, panel: Panel) -> None:
        if panel.occupations.titles != world.titles:
            raise PanelError(
                f"the panel has {len(panel.occupations)} titles that are not the world's {len(world.titles)} in their "
                "order; read it with the occupations of the world that it was simulated from"
            )
        jumps = np.flatnonzero(np.diff(panel.years()) != 1) + 1
        if (bad := np.setdiff1d(jumps, panel.starts)).size:
            worker = panel.column("worker_id")[int(bad[0])].as_py()
            raise PanelError(
                f"worker {worker} has no row in {panel.years()[bad[0]] - 1}, before {panel.years()[bad[0]]} (row "
                f"{bad[0]}); the law after unseen years is not known, give complete careers"
            )
        self.world, self.panel = world, panel
        self._prior = _prior(world, panel)

    @cached_property
    def transitions(self) -> Transitions:
        """The rows to be predicted, N of them, in panel order."""
        return self.panel.transitions()

    @cached_property
    def log_p(self) -> Floats:
        """Natural log of the true probability of what happened, shape (N,); -inf where the world forbids it."""
        found = []
        for _, histories, states, weights in self._blocks():
            found.append((weights * chances(self.world, histories, states)).sum(axis=1))
        law = np.concatenate([np.zeros(0), *found])[self.panel.targets]
        with np.errstate(divide="ignore"):
            log_p: Floats = np.log(law)
        return log_p

    @property
    def perplexity(self) -> float:
        """Perplexity of the true law on these rows, first rows included: exp of the mean of -log_p."""
        return float(np.exp(-self.log_p.mean()))

    def laws(self) -> Iterator[tuple[slice, Floats]]:
        """The whole law of row after row: which of the N transitions, and their laws over the titles, (rows, J).

        The blocks are in order and of about 16 MB, so that memory does not grow with the panel.
        """
        done, step = 0, max(1, CELLS // len(self.world.titles))
        for rows, histories, _, weights in self._blocks():
            chosen = np.flatnonzero(self.panel.targets[rows])
            for start in range(0, len(chosen), step):
                some = chosen[start : start + step]
                yield slice(done, done + len(some)), laws(self.world, histories.take(some), weights[some])
                done += len(some)

    def _blocks(self) -> Iterator[tuple[slice, Spells, NDArray[np.int32], Floats]]:
        """Rows of whole workers: which, their histories, their states, and the law of the class before each row."""
        starts, states = self.panel.starts, self.panel.states()
        worker, limit = 0, max(1, CELLS // self.world.num_classes)
        while worker < self.panel.num_workers:
            stop = int(np.searchsorted(starts, starts[worker] + limit, side="right")) - 1
            stop = max(stop, worker + 1)
            rows = slice(int(starts[worker]), int(starts[stop]))
            inside = starts[worker : stop + 1] - starts[worker]
            histories = Spells.of(states[rows], inside)
            likelihood = chances(self.world, histories, states[rows])
            yield rows, histories, states[rows], posterior(self._prior[worker:stop], likelihood, inside)
            worker = stop


def posterior(prior: Floats, likelihood: Floats, starts: Integers) -> Floats:
    """Law of the class before each row, shape (N, Z), by Bayes' rule from row to row.

    Args:
        prior: Law of the class of each worker, shape (W, Z).
        likelihood: Probability of each row in each class, shape (N, Z).
        starts: First row of each worker, then N, shape (W + 1,).

    Returns:
        After a row that no class allows, the law stays as it was.
    """
    before = np.empty_like(likelihood)
    weights, lengths = prior.copy(), np.diff(starts)
    for position in range(int(lengths.max(initial=0))):
        alive = np.flatnonzero(lengths > position)
        rows = starts[alive] + position
        before[rows] = weights[alive]
        joint = weights[alive] * likelihood[rows]
        total = joint.sum(axis=1, keepdims=True)
        weights[alive] = np.where(total > 0, joint / np.where(total > 0, total, 1.0), weights[alive])
    return before


def chances(world: World, histories: Spells, states: NDArray[np.int32]) -> Floats:
    """Probability of what happened in each class, shape (N, Z)."""
    previous, _, before = histories
    state, width = states.astype(np.int64), world.neighbours.shape[1]
    keys = (np.arange(len(world.titles))[:, None] * len(world.titles) + world.neighbours).ravel()
    wanted = previous * len(world.titles) + state
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    kernel = np.where(keys[place] == wanted, world.kernel[:, place // width, place % width], 0.0)
    fresh = world.initial[:, state]
    stay, back = _stays(world, histories), _returns(world, histories)
    moves = world.restarts * fresh + (1 - world.restarts) * kernel
    later = stay * (previous == state) + (1 - stay) * (back * (before == state) + (1 - back) * moves)
    return np.where(previous < 0, fresh, later).T


def laws(world: World, histories: Spells, weights: Floats) -> Floats:
    """Law of the next state under a law of the class, shape (N, J).

    Args:
        world: Whose law.
        histories: Of the N rows.
        weights: Law of the class before each row, shape (N, Z).
    """
    previous, _, before = histories
    rows = np.arange(len(previous))
    stay, back = _stays(world, histories).T, _returns(world, histories)  # (N, Z), (N,)
    leave = weights * (1 - stay)
    moving = leave * (1 - back)[:, None] * (1 - world.restarts)
    found: Floats = (leave * ((1 - back) * world.restarts)[:, None]) @ world.initial
    step = max(1, CELLS // world.neighbours.shape[1])
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        origin = previous[some]
        slots = sum(
            (
                (moving[some, z] if len(world.kernel) > 1 else moving[some].sum(axis=1))[:, None]
                * world.kernel[z][origin]
                for z in range(len(world.kernel))
            ),
            start=np.zeros(1),
        )
        found[rows[some, None], world.neighbours[origin]] += slots
    found[rows, previous] += (weights * stay).sum(axis=1)
    found[rows, before] += leave.sum(axis=1) * back
    first = previous < 0
    found[first] = weights[first] @ world.initial
    return found


def _stays(world: World, histories: Spells) -> Floats:
    """Probability of staying in each class, shape (Z, N); of no meaning on first rows."""
    year = np.clip(histories.tenure, 1, len(world.duration)) - 1
    stays: Floats = world.stay[:, histories.previous] + world.duration[year]
    return stays


def _returns(world: World, histories: Spells) -> Floats:
    """Probability of going back where there is something to go back to, shape (N,)."""
    return np.where(histories.before >= 0, world.returns, 0.0)


def _prior(world: World, panel: Panel) -> Floats:
    """Law of each worker's class given the covariates that the panel shows, shape (W, Z)."""
    law, index = world.class_law, []
    for axis, (name, shares) in enumerate(world.covariates.items()):
        if law.shape[axis] == 1:
            index.append(np.zeros(panel.num_workers, np.int64))
            continue
        numbers = np.array(list(shares.values()), np.float64)
        unknown = np.tensordot(numbers / numbers.sum(), law, axes=(0, axis))
        law = np.concatenate([law, np.expand_dims(unknown, axis)], axis=axis)  # so that -1 is the unknown value
        index.append(_values(panel, name, shares))
    return np.broadcast_to(law[tuple(index)], (panel.num_workers, world.num_classes))


def _values(panel: Panel, name: str, shares: Mapping[str, float]) -> Integers:
    """Which of the world's values each worker has, -1 where it is not known, shape (W,)."""
    if name not in panel.table.column_names:
        return np.full(panel.num_workers, -1)
    column = panel.column(name).cast(pa.large_string())
    places = pc.index_in(column, pa.array(list(shares), pa.large_string()))
    index: Integers = places.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    heads: Integers = index[panel.starts[:-1]]
    strange = (index < 0) & column.is_valid().to_numpy(zero_copy_only=False)
    if (bad := np.flatnonzero(strange | (index != heads[panel.workers()]))).size:
        row = int(bad[0])
        worker = panel.column("worker_id")[row].as_py()
        raise PanelError(
            f"worker {worker} has the {name} {column[row].as_py()!r} in row {row}, which the world does not know or "
            f"which changes in the career; it is one of {', '.join(map(repr, shares))} for good, or null"
        )
    return heads
