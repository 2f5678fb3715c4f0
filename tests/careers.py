"""Careers of known law for the tests of predictions and metrics: arrays, and the Predictions of any given law."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from laborllm.occupations import Occupations
from laborllm.predictions import Predictions


@dataclass(frozen=True)
class Rows:
    """Worker-years in panel order; stands in for a panel and for its transitions."""

    worker: np.ndarray  # (N,) worker_id, workers in one block each
    year: np.ndarray
    occupation: np.ndarray  # (N,) states
    num_titles: int
    dataset: np.ndarray | None = None  # (N,) tags
    columns: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.occupation)

    @property
    def row(self) -> np.ndarray:
        return np.arange(len(self))

    @property
    def previous(self) -> np.ndarray:
        tags = np.zeros(len(self)) if self.dataset is None else self.dataset
        same = (self.worker[1:] == self.worker[:-1]) & (tags[1:] == tags[:-1])
        return np.concatenate([[-1], np.where(same, self.occupation[:-1], -1)])[: len(self)]

    @property
    def occupations(self) -> Occupations:
        return Occupations.from_titles([f"Title {j}" for j in range(self.num_titles)])

    @property
    def table(self) -> pa.Table:
        tags = np.full(len(self), "", object) if self.dataset is None else self.dataset
        tags = pa.array(tags.tolist(), pa.large_string()).dictionary_encode()
        return pa.table({"dataset": tags, "worker_id": self.worker, "year": self.year.astype(np.int32)} | self.columns)

    def take(self, rows: np.ndarray) -> Rows:
        tags = None if self.dataset is None else self.dataset[rows]
        return Rows(self.worker[rows], self.year[rows], self.occupation[rows], self.num_titles, tags)


@dataclass(frozen=True)
class Law:
    """A first-order Markov law."""

    first: np.ndarray  # (J,)
    next: np.ndarray  # (J, J), rows sum to 1

    def over_titles(self, rows: Rows) -> np.ndarray:
        """Probabilities of every title in every row, (N, J)."""
        return np.where((rows.previous < 0)[:, None], self.first, self.next[rows.previous])

    def permuted(self, order: np.ndarray) -> Law:
        """The same law with the states renamed."""
        return Law(self.first[order], self.next[np.ix_(order, order)])


def random_law(num_titles: int, *, seed: int, stay: float = 2.0) -> Law:
    generator = np.random.default_rng(seed)
    weights = generator.gamma(1.0, size=(num_titles, num_titles)) + stay * np.eye(num_titles) * num_titles / 4
    return Law(generator.dirichlet(np.ones(num_titles)), weights / weights.sum(axis=1, keepdims=True))


def simulate(laws: list[Law], *, workers: int, years: int, generator: np.random.Generator) -> np.ndarray:
    """States (workers, years); every worker follows one of the laws, drawn with equal chance, for the whole career."""
    kind = generator.integers(len(laws), size=workers)
    first = np.stack([law.first for law in laws]).cumsum(axis=1)[kind]
    following = np.stack([law.next for law in laws]).cumsum(axis=2)
    states = np.empty((workers, years), np.int64)
    states[:, 0] = (generator.random((workers, 1)) > first).sum(axis=1)
    for year in range(1, years):
        states[:, year] = (generator.random((workers, 1)) > following[kind, states[:, year - 1]]).sum(axis=1)
    return np.minimum(states, len(laws[0].first) - 1)


def as_rows(states: np.ndarray, num_titles: int) -> Rows:
    workers, years = states.shape
    worker, year = np.repeat(np.arange(workers), years), np.tile(np.arange(1980, 1980 + years), workers)
    return Rows(worker, year, states.ravel(), num_titles)


def some_rows(*, workers: int = 30, years: int = 6, num_titles: int = 5, seed: int = 0) -> Rows:
    law = random_law(num_titles, seed=seed)
    return as_rows(simulate([law], workers=workers, years=years, generator=np.random.default_rng(seed)), num_titles)


def predict(rows: Rows, law: Law, /, **changed: Any) -> Predictions:
    """What an estimator that knows `law` returns."""
    whole = law.over_titles(rows)
    with np.errstate(divide="ignore"):
        given = {
            "model": "known",
            "law": "normalized",
            "titles": "all",
            "log_p": np.log(whole[rows.row, rows.occupation]),
            "log_p_previous": np.log(whole[rows.row, rows.previous]),
            "log_p_all": np.log(whole),
        }
    return Predictions.from_transitions(rows, rows, **(given | changed))
