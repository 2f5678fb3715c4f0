"""Career worlds whose law is known, so that a model can be held against the best that anyone could do.

A worker belongs to one of Z hidden classes. The first occupation follows the class's law. Each year after, the worker
stays with a probability that depends on class, occupation and tenure; else, with the probability `returns`, goes back
to the last other occupation held, where there is one; else, with the probability `restarts`, begins anew by the class's
law of first occupations; else moves by the class's kernel over the neighbours of the occupation. With one class, no
stay and no return this is a Markov chain, whose kernel holds the stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from laborllm.errors import WorldError
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.synth import careers, checks, recipes, world_file
from laborllm.synth.bayes import Optimum

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class World:
    """The law of careers over J occupations, for workers of Z hidden classes.

    Attributes:
        occupations: The J states in order.
        initial: Law of a worker's first occupation in each class, shape (Z, J).
        neighbours: Where the kernel may lead from each state, int32 (J, M), ascending in each row: 43,000 titles with
            64 neighbours take 22 MB for each class, not 15 GB.
        kernel: Law over those neighbours, shape (Z, J, M), or (1, J, M) where all classes share it.
        stay: Probability of staying in the first year of a tenure, shape (Z, J).
        duration: What is added to it after 1, 2, … D consecutive years in the state, the last entry from then on, (D,).
        returns: Probability that a worker who does not stay goes back to the last other state held.
        restarts: Probability that one who neither stays nor returns draws from the law of first occupations; it may
            lead to any state, the present one too, and keeps every state possible however sparse the kernel is.
        covariates: Shares of the values of each covariate, drawn once a worker and independently of each other.
        class_law: Law of the class given the covariates, shape (C1, C2, …, Z) with one axis for each covariate in
            their order, of length 1 where the class does not depend on it; (Z,) without covariates.

    Raises:
        WorldError: Shapes that do not fit, a law that is negative somewhere or does not sum to one within 1e-9, a
            probability outside [0, 1]; the message names the law and the state.

    >>> world = World.markov(["Cooks", "Clerks"], [0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]])
    >>> round(world.expected_optimum(num_years=10), 12)
    2.0
    """

    occupations: Occupations
    initial: Floats
    neighbours: NDArray[np.int32]
    kernel: Floats
    stay: Floats
    duration: Floats = field(default_factory=lambda: np.zeros(1))
    returns: float = 0.0
    restarts: float = 0.0
    covariates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    class_law: Floats = field(default_factory=lambda: np.ones(1))

    def __post_init__(self) -> None:
        """Check the laws once, when the world is made."""
        checks.check_shapes(self)
        checks.check_laws(self)
        checks.check_stays(self)
        checks.check_classes(self)

    @classmethod
    def markov(cls, titles: Sequence[str], initial: ArrayLike, transition: ArrayLike) -> Self:
        """The world in which the next occupation depends on the last one alone.

        Args:
            titles: The J titles in order.
            initial: Law of a worker's first occupation, shape (J,).
            transition: Law of the next occupation after each one, stays included, shape (J, J).
        """
        first, matrix = np.asarray(initial, np.float64), np.asarray(transition, np.float64)
        size = len(titles)
        if first.shape != (size,) or matrix.shape != (size, size):
            raise WorldError(
                f"laws of shape {first.shape} and {matrix.shape} do not fit {size} titles; give ({size},) and "
                f"({size}, {size})"
            )
        return cls(Occupations.from_titles(tuple(titles)), **recipes.markov(first, matrix))

    @classmethod
    def from_counts(cls, initial: ArrayLike, transition: ArrayLike, titles: Sequence[str]) -> Self:
        """The first-order world of given frequencies, or of any positive numbers proportional to laws.

        Args:
            initial: First occupations, shape (J,).
            transition: Occupations after each one, shape (J, J); a row of zeros takes the law of all rows together.
            titles: The J titles.

        Raises:
            WorldError: A shape that does not fit the titles, a negative count, or no first occupation at all.
        """
        first, matrix = np.asarray(initial, np.float64), np.asarray(transition, np.float64)
        if not ((first >= 0).all() and (matrix >= 0).all()):
            raise WorldError("a count of first occupations or moves is negative or null; give counts from zero up")
        everywhere = first + matrix.sum(axis=0)
        matrix = np.where(matrix.sum(axis=1, keepdims=True) > 0, matrix, everywhere)
        with np.errstate(invalid="ignore"):  # an empty law is refused below, by name
            return cls.markov(titles, first / first.sum(), matrix / matrix.sum(axis=1, keepdims=True))

    @classmethod
    def random(cls, num_titles: int, *, stay: float, zipf: float, spread: float, seed: int) -> Self:
        """Draw a first-order world; see `recipes.random_markov` for what the numbers mean."""
        occupations = Occupations.from_titles(recipes.numbered(num_titles))
        moves = recipes.random_markov(occupations.titles, stay=stay, zipf=zipf, spread=spread, seed=seed)
        return cls(occupations, **moves)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a world from a TOML file that gives its laws, or the numbers and the seed that they are drawn by.

        The keys are described in `laborllm.synth.world_file`; `laborllm/data/worlds` holds examples.

        Raises:
            WorldError: An unknown key, a value of the wrong kind, laws that are none; the message begins with the file.
        """
        try:
            return cls(**world_file.read(path))
        except WorldError as error:
            raise WorldError(f"{path}: {error}") from error

    @classmethod
    def named(cls, name: str) -> Self:
        """A world that comes with the package, see `names`; its law never changes.

        Raises:
            WorldError: No world of that name.
        """
        return cls(**world_file.read_named(name))

    @staticmethod
    def names() -> list[str]:
        """The worlds that come with the package."""
        return world_file.names()

    @property
    def titles(self) -> tuple[str, ...]:
        """The J titles in order."""
        return self.occupations.titles

    @property
    def num_classes(self) -> int:
        """Z."""
        return len(self.initial)

    @property
    def first_order(self) -> bool:
        """Whether the next occupation depends on the last one alone."""
        return self.num_classes == 1 and self.returns == 0 and not self.duration.any()

    def permuted(self, *, seed: int) -> Self:
        """The same law of the same numbered states under titles handed out anew: what titles mean is then no help."""
        order = recipes.permutation(len(self.titles), seed=seed)
        return replace(self, occupations=self.occupations.take(order))

    def transition(self) -> Floats:
        """Law of the next state after each one, shape (J, J), of a world that is first-order.

        Raises:
            WorldError: The next state depends on more than the last one.
        """
        if not self.first_order:
            raise WorldError(
                "this world has classes, returns or durations: the last occupation alone does not give the law of the "
                "next; use optimum(panel)"
            )
        size = len(self.titles)
        moves = np.zeros((size, size))
        np.put_along_axis(moves, self.neighbours.astype(np.int64), (1 - self.restarts) * self.kernel[0], axis=1)
        moves += self.restarts * self.initial[0]
        law: Floats = (1 - self.stay[0])[:, None] * moves + np.diag(self.stay[0])
        return law

    def expected_optimum(self, *, num_years: int) -> float:
        """Perplexity of the true law over rows with a history of endless careers of `num_years` rows, in closed form.

        exp of the entropy of the next state, averaged over where workers are from the first year to the last but one.

        Raises:
            WorldError: Fewer than two years: no row has a history; or a world that is not first-order.
        """
        if num_years < 2:
            raise WorldError(f"careers of {num_years} years have no row with a history; give num_years of 2 or more")
        law = self.transition()
        entropy = -(law * np.log(law, where=law > 0, out=np.zeros_like(law))).sum(axis=1)
        occupied, total = self.initial[0], 0.0
        for _ in range(num_years - 1):
            total += float(occupied @ entropy)
            occupied = occupied @ law
        return float(np.exp(total / (num_years - 1)))

    def optimum(self, panel: Panel) -> Optimum:
        """The exact law of every row to be predicted, given the worker's history alone; see `Optimum`."""
        return Optimum(self, panel)

    def simulate(
        self,
        num_workers: int,
        num_years: int,
        *,
        seed: int = 0,
        first_worker: int = 0,
        first_year: int = 1980,
        covariates: Mapping[str, Mapping[str, float]] | None = None,
        threads: int | None = None,
    ) -> pa.Table:
        """Simulate careers in the form of a panel, in memory; arguments and columns are those of `stream`.

        Returns:
            A table of num_workers * num_years rows, in ascending worker_id and year.
        """
        reader = self.stream(
            num_workers,
            num_years,
            seed=seed,
            first_worker=first_worker,
            first_year=first_year,
            covariates=covariates,
            threads=threads,
        )
        return reader.read_all().combine_chunks()

    def stream(
        self,
        num_workers: int,
        num_years: int,
        *,
        seed: int = 0,
        first_worker: int = 0,
        first_year: int = 1980,
        covariates: Mapping[str, Mapping[str, float]] | None = None,
        threads: int | None = None,
    ) -> pa.RecordBatchReader:
        """Simulate careers batch by batch, each of whole workers: any number of workers takes the same memory.

        Random numbers are counter-based: the draw of a worker at a step depends on the seed, the worker's number and
        the step alone. A worker has the same career among ten workers and among ten million, whatever the threads, and
        its first years do not change when more years are asked for.

        Args:
            num_workers: Workers, numbered from `first_worker`.
            num_years: Rows of each, in successive years from `first_year`.
            seed: Which careers, in [0, 2**64); independent of the seed of the world's law.
            first_worker: Number of the first worker, so that parts of a population can be made alone.
            first_year: Year of everyone's first row.
            covariates: Shares of the values of further columns, for example {"race": {"black": 0.3, "white": 0.7}};
                drawn once a worker, independently of everything else, so that the law is not changed by them.
            threads: How many work at a time, one for each CPU by default; the rows are the same for any number.

        Returns:
            Batches with the columns worker_id (int64), year (int32), occupation (dictionary of the J titles), then the
            world's covariates and the further ones (dictionaries), in ascending worker_id and year.

        Raises:
            WorldError: Numbers below zero, careers of no year, shares that are none, a covariate that the world has.
        """
        return careers.stream(
            self,
            careers.Population(num_workers, num_years, seed=seed, first_worker=first_worker, first_year=first_year),
            covariates=covariates or {},
            threads=threads,
        )

    def simulate_states(
        self, num_workers: int, num_years: int, *, seed: int = 0, first_worker: int = 0
    ) -> NDArray[np.int32]:
        """States only, shape (num_workers, num_years)."""
        population = careers.Population(num_workers, num_years, seed=seed, first_worker=first_worker)
        return careers.states(self, population)
