"""Careers drawn from a world: counter-based, in batches of whole workers, on any number of threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from laborllm.errors import WorldError
from laborllm.synth.checks import check_shares
from laborllm.synth.recipes import stream_of

if TYPE_CHECKING:
    from laborllm.synth.world import World

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Shares = Mapping[str, Mapping[str, float]]

BATCH_ROWS = 1 << 18
"""Rows of a batch, about: four megabytes of columns, and as much while they are drawn."""
_CLASS = "the class of a worker"


@dataclass(frozen=True)
class Population:
    """Which workers, and how many years of each."""

    num_workers: int
    num_years: int
    seed: int = 0
    first_worker: int = 0
    first_year: int = 1980

    def __post_init__(self) -> None:
        """Refuse numbers that count nothing."""
        if self.num_workers < 0 or self.num_years < 1 or self.first_worker < 0:
            raise WorldError(
                f"{self.num_workers} workers from number {self.first_worker} with {self.num_years} years each cannot "
                "be simulated; give workers and numbers from 0 up, and a year or more"
            )
        if not 0 <= self.seed < 1 << 64:
            raise WorldError(f"the seed is {self.seed}; give one in [0, 2**64)")

    def blocks(self) -> Iterator[Population]:
        """The same population in parts of a batch each."""
        size = max(1024, BATCH_ROWS // self.num_years)
        for start in range(0, self.num_workers, size):
            count = min(size, self.num_workers - start)
            yield replace(self, num_workers=count, first_worker=self.first_worker + start)

    def uniforms(self, stream: int) -> Floats:
        """One draw in [0, 1) per worker, cut to 32 bits so that adding the number of a row loses none of them.

        The Philox generator keyed by (seed, stream) gives draw w to worker w; four draws come of one counter.
        """
        generator = np.random.Philox(key=np.array([self.seed, stream], np.uint64))
        skipped = self.first_worker % 4
        generator.advance(self.first_worker // 4)
        raw = generator.random_raw(skipped + self.num_workers)[skipped:]
        draws: Floats = (raw >> np.uint64(32)) / 2.0**32
        return draws


class Ladder:
    """Cumulative laws, one a row, with a table of where each part of [0, 1) begins in it: few draws need a search."""

    def __init__(self, laws: Floats) -> None:
        self.width = laws.shape[-1]
        self.parts = 1 << self.width.bit_length()
        rows = steps(laws).reshape(-1, self.width)
        self.cumulative = rows.ravel()
        self.begins = np.empty((len(rows), self.parts + 1), np.min_scalar_type(self.width))
        size = max(1, BATCH_ROWS // self.width)
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            cells = np.ceil(some * self.parts).astype(np.int64) + np.arange(len(some))[:, None] * (self.parts + 1)
            counts = np.bincount(cells.ravel(), minlength=len(some) * (self.parts + 1))
            self.begins[start : start + size] = counts.reshape(len(some), -1).cumsum(axis=1)
        self.begins = self.begins.ravel()

    def __call__(self, row: Integers, draw: Floats) -> Integers:
        """Place in its row that each draw in [0, 1) falls on, as np.searchsorted(row, draw, side="right") finds it."""
        part = row * (self.parts + 1) + (draw * self.parts).astype(np.int64)
        place: Integers = self.begins[part].astype(np.int64)
        last = self.begins[part + 1].astype(np.int64)
        unsure = np.flatnonzero(place < last)
        low, high, wanted, start = place[unsure], last[unsure], draw[unsure], row[unsure] * self.width
        for _ in range(int((high - low).max(initial=0)).bit_length()):
            middle = (low + high) >> 1
            above = self.cumulative[start + middle] <= wanted
            low, high = np.where(above, middle + 1, low), np.where(above, high, middle)
        place[unsure] = low
        return place


class Dice:
    """The tables of a world in the form in which draws are looked up."""

    def __init__(self, world: World) -> None:
        self.size, self.width = len(world.titles), world.neighbours.shape[1]
        self.first = Ladder(world.initial)
        self.kernel = Ladder(world.kernel)
        self.shared = len(world.kernel) == 1
        self.neighbours = np.ascontiguousarray(world.neighbours).ravel()
        self.stay = world.stay.ravel()
        self.duration = world.duration
        self.returns, self.restarts = world.returns, world.restarts

    def careers(self, people: Population, classes: Integers) -> NDArray[np.int32]:
        """Walk through the years, shape (num_years, num_workers).

        A worker's one draw of a year decides in turn: what is left of it after a decision is stretched to [0, 1) again.
        """
        states = np.empty((people.num_years, people.num_workers), np.int32)
        now = self.first(classes, people.uniforms(0))
        states[0] = now
        before, tenure = np.full(len(now), -1), np.ones(len(now), np.int64)
        for step in range(1, people.num_years):
            new = self._next(people.uniforms(step), classes, now, before, tenure)
            moved = new != now
            np.copyto(before, now, where=moved)
            tenure += 1
            tenure[moved] = 1
            states[step] = now = new
        return states

    def _next(self, draw: Floats, classes: Integers, now: Integers, before: Integers, tenure: Integers) -> Integers:
        """The state after `now`, of which `before` is the last other one (-1 where there is none), all (W,)."""
        stay = self.stay[classes * self.size + now] + self.duration[np.minimum(tenure, len(self.duration)) - 1]
        new = now.copy()
        who = np.flatnonzero(draw >= stay)
        draw = _stretched(draw[who], stay[who])
        if self.returns:
            chance = np.where(before[who] >= 0, self.returns, 0.0)
            back = draw < chance
            new[who[back]] = before[who[back]]
            who, draw = who[~back], _stretched(draw[~back], chance[~back])
        if self.restarts:
            anew = draw < self.restarts
            new[who[anew]] = self.first(classes[who[anew]], draw[anew] / self.restarts)
            who, draw = who[~anew], _stretched(draw[~anew], self.restarts)
        origin = now[who]
        slot = self.kernel(origin if self.shared else classes[who] * self.size + origin, draw)
        new[who] = self.neighbours[origin * self.width + slot]
        return new


def states(world: World, people: Population) -> NDArray[np.int32]:
    """Simulate states only, shape (num_workers, num_years)."""
    dice, found = Dice(world), np.empty((people.num_workers, people.num_years), np.int32)
    for block in people.blocks():
        start = block.first_worker - people.first_worker
        found[start : start + block.num_workers] = dice.careers(block, _classes(world, block, _values(world, block))).T
    return found


def stream(world: World, people: Population, *, covariates: Shares, threads: int | None) -> pa.RecordBatchReader:
    """Simulate careers batch by batch; see `World.stream`."""
    for name, shares in covariates.items():
        check_shares(name, shares)
        if name in {*world.covariates, "worker_id", "year", "occupation"}:
            raise WorldError(f"the world has a column {name!r} of its own; leave it out of covariates")
    dice, titles = Dice(world), _text(world.titles)
    columns = {**world.covariates, **covariates}
    words = {name: _text(tuple(shares)) for name, shares in columns.items()}

    def batch(block: Population) -> pa.RecordBatch:
        values = {name: _value(name, shares, block) for name, shares in columns.items()}
        found = dice.careers(block, _classes(world, block, values))
        workers = np.arange(block.first_worker, block.first_worker + block.num_workers, dtype=np.int64)
        years = np.arange(block.first_year, block.first_year + block.num_years, dtype=np.int32)
        rows: dict[str, Any] = {
            "worker_id": np.repeat(workers, block.num_years),
            "year": np.tile(years, block.num_workers),
            "occupation": _coded(found.T.ravel(), titles),
        }
        rows |= {name: _coded(np.repeat(value, block.num_years), words[name]) for name, value in values.items()}
        return pa.record_batch(rows)

    schema = batch(replace(people, num_workers=0)).schema
    return pa.RecordBatchReader.from_batches(schema, _in_order(batch, people.blocks(), threads))


def steps(laws: Floats) -> Floats:
    """Cumulative laws along the last axis, ending in exactly one; what has no probability is never reached."""
    cumulative: Floats = np.cumsum(laws, axis=-1)
    cumulative[cumulative >= cumulative[..., -1:]] = 1.0
    return cumulative


def _in_order(work: Any, blocks: Iterator[Population], threads: int | None) -> Iterator[pa.RecordBatch]:
    """Do the blocks on threads and give the results in their order, no more than one for each thread ahead."""
    threads = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[pa.RecordBatch]] = deque()
        for block in blocks:
            ahead.append(pool.submit(work, block))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _values(world: World, people: Population) -> dict[str, NDArray[np.int32]]:
    return {name: _value(name, shares, people) for name, shares in world.covariates.items()}


def _value(name: str, shares: Mapping[str, float], people: Population) -> NDArray[np.int32]:
    """Which of its values each worker has, (W,)."""
    numbers = np.array(list(shares.values()), np.float64)
    cumulative = steps(numbers / numbers.sum())
    return np.searchsorted(cumulative, people.uniforms(stream_of(name)), side="right").astype(np.int32)


def _classes(world: World, people: Population, values: Mapping[str, NDArray[np.int32]]) -> Integers:
    """The hidden class of each worker, given the world's covariates, (W,)."""
    if world.num_classes == 1:
        return np.zeros(people.num_workers, np.int64)
    cell = np.zeros(people.num_workers, np.int64)
    for name, axis in zip(world.covariates, world.class_law.shape, strict=False):
        cell = cell * axis + (values[name] if axis > 1 else 0)
    return Ladder(world.class_law)(cell, people.uniforms(stream_of(_CLASS)))


def _stretched(draw: Floats, used: Floats | float) -> Floats:
    """What a draw in [used, 1) is once that range is stretched to [0, 1); 32 bits keep it from rounding to one."""
    stretched: Floats = (draw - used) / (1 - used)
    return stretched


def _text(values: tuple[str, ...]) -> pa.Array[Any]:
    return pa.array(values, pa.large_string())


def _coded(index: NDArray[np.int32], values: pa.Array[Any]) -> pa.Array[Any]:
    return pa.DictionaryArray.from_arrays(pa.array(index, pa.int32()), values)
