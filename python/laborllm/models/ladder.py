"""Back-off ladders: laws counted in finer and finer contexts, each shrunk towards the one below.

On the rung of context c, with n counts of outcome k there among N of all outcomes, and P_0 the law of the rung below,

    P(k | c) = (max(n - d, 0) + (b + D) P_0(k)) / (N + b),    D = sum over outcomes of min(n, d).

The back-off b is worth so many observations of the law below (Dirichlet smoothing where d = 0); the discount d in
[0, 1) is taken off every outcome that occurred and given to the law below too (absolute discounting; both together are
the two-parameter law of Pitman and Yor). Sources: Ney, Essen and Kneser (1994); Teh (2006), "A hierarchical Bayesian
language model based on Pitman-Yor processes".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from laborllm.models.contexts import Coding
from laborllm.models.histories import Histories
from laborllm.models.past import Past
from laborllm.models.tallies import Tally

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]
Params = Mapping[str, float]
Stage = Callable[[Floats, Params], Floats]
"""Takes the law of the rung below, (n, M), and gives that of its own."""


@dataclass(frozen=True)
class Rung:
    """Counts in the contexts that the features `by` make; none makes one context of all rows.

    Its parameters are `<name>_backoff` and, where `discounted`, `<name>_discount`.
    """

    name: str
    by: tuple[str, ...] = ()
    discounted: bool = False

    @property
    def params(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return (f"{self.name}_backoff", f"{self.name}_discount")[: 1 + self.discounted]


@dataclass(frozen=True)
class OwnPast:
    """Counts of the worker's own earlier states, the previous one left out.

    A state held a rows ago counts retention^(a - 1); the parameters are `own_backoff` and `own_retention`.
    """

    params: ClassVar[tuple[str, ...]] = ("own_backoff", "own_retention")


@dataclass(frozen=True)
class Exclusion:
    """The previous state is taken out, and the rest made to sum to one: where a mover can go."""

    params: ClassVar[tuple[str, ...]] = ()


Plan = tuple[Rung | OwnPast | Exclusion, ...]
"""Rungs from the coarsest to the finest."""


def bound(plan: Plan, available: Callable[[str], bool]) -> Plan:
    """The plan without the features that a panel cannot give, and without rungs that then repeat a coarser one."""
    rungs: list[Rung | OwnPast | Exclusion] = []
    seen: set[frozenset[str]] = set()
    for rung in plan:
        if isinstance(rung, Rung):
            by = tuple(name for name in rung.by if available(name))
            if by != rung.by and (not by or frozenset(by) in seen):
                continue
            seen.add(frozenset(by))
            rungs.append(Rung(rung.name, by, rung.discounted))
        else:
            rungs.append(rung)
    return tuple(rungs)


@dataclass(frozen=True, eq=False)
class Ladder:
    """A plan with its counts.

    Attributes:
        plan: The rungs.
        base: The law under the lowest, shape (O,) over O outcomes.
        tallies: Counts by name of rung.
    """

    plan: Plan
    base: Floats
    tallies: Mapping[str, Tally] = field(default_factory=dict)

    @property
    def params(self) -> tuple[str, ...]:
        """Names of all parameters."""
        return tuple(name for rung in self.plan for name in rung.params)

    def locate(self, histories: Histories, coding: Coding) -> Climb:
        """Find the context of every transition on every rung."""
        places = {
            rung.name: self.tallies[rung.name].places(coding.contexts(histories, rung.by))
            for rung in self.plan
            if isinstance(rung, Rung)
        }
        return Climb(self, histories, places)


@dataclass(frozen=True, eq=False)
class Climb:
    """A ladder put to the transitions of a panel.

    Attributes:
        ladder: The counts.
        histories: N transitions.
        places: Place of each transition's context among those counted, (N,), by name of rung.
    """

    ladder: Ladder
    histories: Histories
    places: Mapping[str, Integers]

    def probabilities(self, rows: Integers, outcomes: Integers | None, params: Params) -> Floats:
        """Probabilities of M outcomes (n, M) of n transitions, same shape, or of all O, where none are named."""
        if outcomes is not None:
            return self.path(rows, outcomes).climb(params)
        base = np.broadcast_to(self.ladder.base, (len(rows), len(self.ladder.base)))
        return Path(base, self._stages(rows, None)).climb(params)

    def path(self, rows: Integers, outcomes: Integers) -> Path:
        """The way up for M outcomes of n transitions: all that does not depend on parameters, looked up once."""
        if not any(isinstance(rung, Exclusion) for rung in self.ladder.plan):
            return Path(self.ladder.base[outcomes], self._stages(rows, outcomes))
        outcomes = np.column_stack([outcomes, self.histories.previous[rows]])
        base = self.ladder.base[outcomes]
        base[:, -1] = 1.0 - base[:, -1]
        return Path(base, self._stages(rows, outcomes))

    def _stages(self, rows: Integers, outcomes: Integers | None) -> list[tuple[tuple[str, ...], Stage]]:
        """One stage for each rung; all outcomes where none are named.

        Below an exclusion the last column of named outcomes stands for all states but the previous one: a sum of its
        own, for one minus the probability of the previous state would lose its digits where that is near one.
        """
        below = outcomes is not None and any(isinstance(rung, Exclusion) for rung in self.ladder.plan)
        stages: list[tuple[tuple[str, ...], Stage]] = []
        for rung in self.ladder.plan:
            if isinstance(rung, Rung):
                tally, places = self.ladder.tallies[rung.name], self.places[rung.name][rows]
                stages.append((rung.params, _counted(rung, tally, places, outcomes, others=below)))
            elif isinstance(rung, OwnPast):
                stages.append((rung.params, _own(Past.of(self.histories, rows), outcomes, len(self.ladder.base))))
            else:
                stages.append((rung.params, _excluding(self.histories.previous[rows], named=outcomes is not None)))
                outcomes, below = None if outcomes is None else outcomes[:, :-1], False
        return stages


@dataclass(frozen=True, eq=False)
class Path:
    """Stages from a base law, (n, M), up to the finest."""

    base: Floats
    stages: list[tuple[tuple[str, ...], Stage]]

    def climb(self, params: Params, *, start: int = 0, law: Floats | None = None) -> Floats:
        """The law on top, from the base or from that below the stage `start`."""
        law = self.base if law is None else law
        for _, stage in self.stages[start:]:
            law = stage(law, params)
        return law


def _counted(rung: Rung, tally: Tally, places: Integers, outcomes: Integers | None, *, others: bool) -> Stage:
    counts = tally.dense(places) if outcomes is None else tally.at(places, outcomes)
    totals = tally.totals[places][:, None]

    @lru_cache(maxsize=1)  # other parameters are tried while this one stands
    def removals(discount: float) -> Floats:
        removed: Floats = tally.removed(discount)[places][:, None]
        return removed

    def stage(below: Floats, params: Params) -> Floats:
        backoff = params[f"{rung.name}_backoff"]
        discount = params[f"{rung.name}_discount"] if rung.discounted else 0.0
        removed = removals(discount)
        kept = np.maximum(counts - discount, 0.0)
        if others:
            kept[:, -1:] = np.maximum(totals - removed - kept[:, -1:], 0.0)
        law: Floats = (kept + (backoff + removed) * below) / (totals + backoff)
        return law

    return stage


def _own(past: Past, outcomes: Integers | None, num_outcomes: int) -> Stage:
    @lru_cache(maxsize=1)  # other parameters are tried while this one stands
    def counted(retention: float) -> tuple[Floats, Floats]:
        counts = past.dense(retention, num_outcomes) if outcomes is None else past.counts(retention, outcomes)
        return counts, past.totals(retention)

    def stage(below: Floats, params: Params) -> Floats:
        backoff = params["own_backoff"]
        counts, totals = counted(params["own_retention"])
        return (counts + backoff * below) / (totals + backoff)

    return stage


def _excluding(previous: Integers, *, named: bool) -> Stage:
    def stage(below: Floats, params: Params) -> Floats:  # noqa: ARG001
        with np.errstate(divide="ignore", invalid="ignore"):  # a single title leaves nowhere to go
            if named:
                return below[:, :-1] / below[:, -1:]
            law = below.copy()
            np.put_along_axis(law, previous[:, None], 0.0, axis=1)
            law /= law.sum(axis=1, keepdims=True)
        return law

    return stage
