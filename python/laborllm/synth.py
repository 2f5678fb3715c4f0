"""Career worlds whose law is known, so that a model can be held against the best that anyone could do.

Random numbers are counter-based: the draw of a worker at a step depends on the seed, the worker's number and the step
alone, so that a worker has the same career among ten workers and among ten million, and its first years do not
change when more years are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from laborllm.errors import LaborLLMError
from laborllm.occupations import Occupations

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]

# Named worlds are part of the record: their numbers never change once a model was trained on one.
WORLDS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {"markov-50": MappingProxyType({"num_titles": 50, "stay": 0.6, "zipf": 1.0, "spread": 2.0, "seed": 50})}
)


@dataclass(frozen=True, eq=False)
class MarkovWorld:
    """Careers in which the next occupation depends on the last one alone.

    Attributes:
        titles: The J titles in order.
        initial: Law of a worker's first occupation, shape (J,).
        transition: Law of the next occupation after each one, shape (J, J); rows sum to one.

    Raises:
        LaborLLMError: A law of the wrong shape, with a negative entry, or that does not sum to one within 1e-9.

    >>> world = MarkovWorld(("Cooks", "Clerks"), np.array([0.5, 0.5]), np.array([[0.5, 0.5], [0.5, 0.5]]))
    >>> round(world.expected_optimum(num_years=10), 12)
    2.0
    """

    titles: tuple[str, ...]
    initial: Floats
    transition: Floats

    def __post_init__(self) -> None:
        """Check the laws once, when the world is made."""
        size = len(self.titles)
        if self.initial.shape != (size,) or self.transition.shape != (size, size):
            raise LaborLLMError(
                f"laws of shape {self.initial.shape} and {self.transition.shape} do not fit {size} titles; "
                f"give ({size},) and ({size}, {size})"
            )
        for place, row in enumerate([self.initial, *self.transition]):
            if not (row >= 0).all() or abs(row.sum() - 1) > 1e-9:
                name = f"after {self.titles[place - 1]!r}" if place else "of first occupations"
                raise LaborLLMError(
                    f"the law {name} is negative somewhere or sums to {row.sum()}, not to one; normalise it"
                )

    @classmethod
    def random(cls, num_titles: int, *, stay: float, zipf: float, spread: float, seed: int) -> Self:
        """Draw a world.

        Titles have popularities falling as rank ** -zipf, in random order. A worker stays in state j with a probability
        drawn uniformly within half of the way from `stay` to 0 or 1, whichever is nearer; movers go to k != j with
        probability proportional to popularity times a taste, a standard exponential to the power `spread` (at 1 and
        `zipf` 0 the move law is a draw from the flat Dirichlet; above 1 it is sparser).
        """
        uniform = np.random.Generator(
            np.random.Philox(key=np.array([seed, _stream("the law of a world")], np.uint64))
        ).random
        popularity = (1.0 + np.argsort(uniform(num_titles))) ** -zipf
        stays = stay + (uniform(num_titles) - 0.5) * min(stay, 1 - stay)
        taste = (-np.log1p(-uniform((num_titles, num_titles)))) ** spread
        moves = popularity * taste * (1 - np.eye(num_titles))
        if num_titles == 1:
            stays, moves = np.ones(1), np.ones((1, 1))
        transition = (1 - stays)[:, None] * moves / moves.sum(axis=1, keepdims=True) + np.diag(stays)
        width = len(str(num_titles))
        titles = tuple(f"Occupation {number:0{width}}" for number in range(1, num_titles + 1))
        return cls(titles, popularity / popularity.sum(), transition / transition.sum(axis=1, keepdims=True))

    @classmethod
    def named(cls, name: str) -> Self:
        """A world of the record; `markov-50` has 50 titles and stays of 0.6 on average.

        Raises:
            LaborLLMError: No world of that name.
        """
        if name not in WORLDS:
            raise LaborLLMError(f"there is no world {name!r}; named worlds are {', '.join(WORLDS)}")
        numbers = WORLDS[name]
        return cls.random(
            int(numbers["num_titles"]),
            stay=numbers["stay"],
            zipf=numbers["zipf"],
            spread=numbers["spread"],
            seed=int(numbers["seed"]),
        )

    @classmethod
    def from_counts(cls, initial: ArrayLike, transition: ArrayLike, titles: tuple[str, ...]) -> Self:
        """The world of given frequencies, or of any positive numbers proportional to laws.

        Args:
            initial: First occupations, shape (J,).
            transition: Occupations after each one, shape (J, J); a row of zeros takes the law of all rows together.
            titles: The J titles.

        Raises:
            LaborLLMError: A shape that does not fit the titles, a negative count, or no first occupation at all.
        """
        first, matrix = np.asarray(initial, np.float64), np.asarray(transition, np.float64)
        everywhere = first + matrix.sum(axis=0)
        matrix = np.where(matrix.sum(axis=1, keepdims=True) > 0, matrix, everywhere)
        with np.errstate(invalid="ignore"):  # an empty law is refused below, by name
            return cls(tuple(titles), first / first.sum(), matrix / matrix.sum(axis=1, keepdims=True))

    @property
    def occupations(self) -> Occupations:
        """The closed set of states, all of them employed."""
        return Occupations.from_titles(self.titles)

    def simulate(
        self,
        num_workers: int,
        num_years: int,
        *,
        seed: int = 0,
        first_worker: int = 0,
        first_year: int = 1980,
        covariates: Mapping[str, Mapping[str, float]] | None = None,
    ) -> pa.Table:
        """Simulate careers in the form of a panel: worker_id, year, occupation, then the covariates.

        Args:
            num_workers: Workers, numbered from `first_worker`.
            num_years: Rows of each, in successive years from `first_year`.
            seed: Which careers; independent of the seed of the world's law.
            first_worker: Number of the first worker, so that parts of a population can be made alone.
            first_year: Year of everyone's first row.
            covariates: Shares of the values by name, for example {"gender": {"female": 0.5, "male": 0.5}}; drawn once
                a worker, independently of everything else, so that the law is not changed by them.

        Returns:
            A table of num_workers * num_years rows, in ascending worker_id and year.
        """
        states = self.simulate_states(num_workers, num_years, seed=seed, first_worker=first_worker)
        workers = np.arange(first_worker, first_worker + num_workers, dtype=np.int64)
        years = np.arange(first_year, first_year + num_years, dtype=np.int32)
        columns: dict[str, Any] = {
            "worker_id": np.repeat(workers, num_years),
            "year": np.tile(years, num_workers),
            "occupation": _words(states.ravel(), self.titles),
        }
        for name, shares in (covariates or {}).items():
            draws = _uniforms(num_workers, seed=seed, stream=_stream(name), first_worker=first_worker)
            value = np.searchsorted(_cumulative(name, shares), draws, side="right")
            columns[name] = _words(np.repeat(value, num_years), tuple(shares))
        return pa.table(columns)

    def simulate_states(
        self, num_workers: int, num_years: int, *, seed: int = 0, first_worker: int = 0
    ) -> NDArray[np.int32]:
        """States only, shape (num_workers, num_years)."""
        size = len(self.titles)
        states = np.empty((num_workers, num_years), np.int32)
        for step in range(num_years):
            draws = _uniforms(num_workers, seed=seed, stream=step, first_worker=first_worker)
            row = states[:, step - 1] + 1 if step else np.zeros(num_workers, np.int32)
            states[:, step] = np.searchsorted(self._ladder, row + draws, side="right") - row * size
        return states

    @cached_property
    def _ladder(self) -> Floats:
        """Cumulative laws end to end, row r of them in (r, r + 1]: first occupations, then one row per state."""
        rows = np.vstack([self.initial, self.transition])
        cumulative = _steps(rows)
        return (cumulative + np.arange(len(rows))[:, None]).ravel()

    def law(self, previous: Integers) -> Floats:
        """The exact law of the next occupation, shape (N, J); a previous of -1 asks for first rows."""
        law: Floats = np.vstack([self.transition, self.initial])[previous]
        return law

    def log_p(self, previous: Integers, occupation: Integers) -> Floats:
        """Natural log of the true probability of what happened, shape (N,); -inf where the world forbids it."""
        chosen: Floats = np.vstack([self.transition, self.initial])[previous, occupation]
        with np.errstate(divide="ignore"):
            return np.log(chosen)

    def optimum(self, previous: Integers, occupation: Integers) -> float:
        """Perplexity of the true law on given transitions: no model beats it by more than luck."""
        return float(np.exp(-self.log_p(previous, occupation).mean()))

    def expected_optimum(self, *, num_years: int) -> float:
        """Perplexity of the true law over rows with a history of endless careers of `num_years` rows, in closed form.

        exp of the entropy of the next state, averaged over where workers are from the first year to the last but one.

        Raises:
            LaborLLMError: Fewer than two years: no row has a history.
        """
        if num_years < 2:
            raise LaborLLMError(f"careers of {num_years} years have no row with a history; give num_years of 2 or more")
        entropy = -np.where(self.transition > 0, self.transition * np.log(np.maximum(self.transition, 1e-300)), 0).sum(
            1
        )
        occupied, total = self.initial, 0.0
        for _ in range(num_years - 1):
            total += float(occupied @ entropy)
            occupied = occupied @ self.transition
        return float(np.exp(total / (num_years - 1)))


def _uniforms(num_workers: int, *, seed: int, stream: int, first_worker: int) -> Floats:
    """One draw in [0, 1) per worker, cut to 32 bits so that adding a row number loses none of them.

    The Philox generator keyed by (seed, stream) gives draw w to worker w; four draws come of one counter.
    """
    generator = np.random.Philox(key=np.array([seed, stream], np.uint64))
    skipped = first_worker % 4
    generator.advance(first_worker // 4)
    raw = generator.random_raw(skipped + num_workers)[skipped:]
    draws: Floats = (raw >> np.uint64(32)) / 2.0**32
    return draws


def _steps(laws: Floats) -> Floats:
    """Cumulative laws along the last axis, ending in exactly one; what has no probability is never reached."""
    cumulative: Floats = np.cumsum(laws, axis=-1)
    cumulative[cumulative >= cumulative[..., -1:]] = 1.0
    return cumulative


def _cumulative(name: str, shares: Mapping[str, float]) -> Floats:
    numbers = np.array(list(shares.values()), np.float64)
    if not ((numbers >= 0).all() and 0 < numbers.sum() < np.inf):
        raise LaborLLMError(f"the shares of {name!r} are {dict(shares)}; give numbers from zero up, not all zero")
    return _steps(numbers / numbers.sum())


def _stream(name: str) -> int:
    """A stream for a covariate, far from those of the years and the same whichever others are drawn."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") | 1 << 63


def _words(index: Integers, values: tuple[str, ...]) -> pa.Array[Any]:
    return pa.DictionaryArray.from_arrays(pa.array(index, pa.int32()), pa.array(values, pa.large_string()))
