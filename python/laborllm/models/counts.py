"""Count models: what transition counts know about the next occupation, at their best.

A model is one or more ladders of counts (`laborllm.models.ladder`) from the training rows. Parameters that are not
given are chosen on the validation rows; counts never are. Every model has a law of its own for the first rows of
workers, and gives every one of the J titles a positive probability after any history, seen or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from laborllm.models.closed import Floats
from laborllm.models.count_model import CountModel
from laborllm.models.ladder import Exclusion, OwnPast, Plan, Rung
from laborllm.models.tallies import Tally

FIRST: Plan = (Rung("first"),)


class Marginal(CountModel):
    """The share of each title among all training rows, one half added to each count, whatever came before.

    First rows have a law of their own, as in every model here but `uniform`.
    """

    kind: ClassVar[str] = "marginal"
    plans: ClassVar[Mapping[str, Plan]] = {"first": FIRST, "next": ()}


class Uniform(CountModel):
    """Every title has probability 1/J, first rows too: perplexity is exactly J."""

    kind: ClassVar[str] = "uniform"
    plans: ClassVar[Mapping[str, Plan]] = {"first": (), "next": ()}

    def _base(
        self,
        name: str,  # noqa: ARG002
        num_titles: int,
        counted: Callable[..., Tally],  # noqa: ARG002
        tallies: Mapping[str, Tally],  # noqa: ARG002
    ) -> Floats:
        return np.full(num_titles, 1 / num_titles)


class Laplace(Uniform):
    """Transition frequencies with one added to every cell, first rows too: the usual strawman, kept as a yardstick."""

    kind: ClassVar[str] = "laplace"
    plans: ClassVar[Mapping[str, Plan]] = {"first": FIRST, "next": (Rung("next", ("previous",)),)}

    @classmethod
    def _names(cls) -> list[str]:
        return []

    def _start(self) -> dict[str, float]:
        """One in each of J cells is a back-off of J to the uniform law."""
        return dict.fromkeys(("first_backoff", "next_backoff"), float(len(self._fitted())))


class Markov(CountModel):
    """Transition frequencies backed off to the marginal m: (C_jk + b m_k) / (C_j + b)."""

    kind: ClassVar[str] = "markov"
    plans: ClassVar[Mapping[str, Plan]] = {"first": FIRST, "next": (Rung("next", ("previous",)),)}


class TwoStage(CountModel):
    """Whether a worker stays, then where a mover goes.

    Stays are counted after each occupation and backed off to the share of stays among all transitions; moves are
    counted after each occupation, discounted, and backed off to the shares of titles among all pairs (origin,
    destination) that occur, as Kneser and Ney (1995) do for words.
    """

    kind: ClassVar[str] = "two-stage"
    plans: ClassVar[Mapping[str, Plan]] = {
        "first": FIRST,
        "stay": (Rung("stay", ("previous",)),),
        "move": (Exclusion(), Rung("move", ("previous",), discounted=True)),
    }


class Markov2(CountModel):
    """The two-stage model with finer counts after the last two rows of a history.

    Below the counts after the last row stand, for moves, those after the row before it alone.
    """

    kind: ClassVar[str] = "markov-2"
    plans: ClassVar[Mapping[str, Plan]] = {
        "first": FIRST,
        "stay": (Rung("stay", ("previous",)), Rung("stay_second", ("second", "previous"))),
        "move": (
            Rung("to_second", ("second",), discounted=True),
            Exclusion(),
            Rung("move", ("previous",), discounted=True),
            Rung("move_second", ("second", "previous"), discounted=True),
        ),
    }


class Tenure(CountModel):
    """Second order in spells: stays by tenure, moves by the last two different occupations."""

    kind: ClassVar[str] = "tenure"
    plans: ClassVar[Mapping[str, Plan]] = {
        "first": FIRST,
        "stay": (Rung("stay_tenure", ("tenure",)), Rung("stay", ("previous", "tenure"))),
        "move": (
            Rung("to_before", ("before",), discounted=True),
            Exclusion(),
            Rung("move", ("previous",), discounted=True),
            Rung("move_before", ("before", "previous"), discounted=True),
        ),
    }


class OwnHistory(CountModel):
    """The tenure model, with movers drawn to the occupations of their own past, the more recent the more."""

    kind: ClassVar[str] = "own-history"
    plans: ClassVar[Mapping[str, Plan]] = {**Tenure.plans, "move": (*Tenure.plans["move"], OwnPast())}


class Covariates(CountModel):
    """The own-history model by gender, education, age band, period and gap, as far as the panel has them.

    Age needs `birth_year`. First rows are counted by age, education and gender.
    """

    kind: ClassVar[str] = "covariates"
    plans: ClassVar[Mapping[str, Plan]] = {
        "first": (
            Rung("first"),
            Rung("first_age", ("age",), discounted=True),
            Rung("first_education", ("age", "education"), discounted=True),
            Rung("first_gender", ("age", "education", "gender"), discounted=True),
        ),
        "stay": (
            Rung("stay_tenure", ("tenure",)),
            Rung("stay_gap", ("tenure", "gap")),
            Rung("stay_period", ("tenure", "gap", "period")),
            Rung("stay_age", ("tenure", "gap", "period", "age")),
            Rung("stay", ("previous", "tenure", "gap")),
            Rung("stay_finest", ("previous", "tenure", "gap", "age")),
        ),
        "move": (
            Rung("to_gender", ("gender",)),
            Rung("to_education", ("gender", "education")),
            Rung("to_age", ("gender", "education", "age")),
            Rung("to_before", ("before",), discounted=True),
            Exclusion(),
            Rung("move", ("previous",), discounted=True),
            Rung("move_gender", ("previous", "gender"), discounted=True),
            Rung("move_education", ("previous", "gender", "education"), discounted=True),
            Rung("move_before", ("before", "previous"), discounted=True),
            OwnPast(),
        ),
    }


MODELS: dict[str, type[CountModel]] = {
    model.kind: model
    for model in (Uniform, Marginal, Laplace, Markov, TwoStage, Markov2, Tenure, OwnHistory, Covariates)
}
