"""Count models: what a transition matrix knows about the next occupation, at its best.

A model is a table of counts from the training rows and one or two back-off weights, each worth that many
pseudo-observations of the coarser law it backs off to. The weights that are not given are chosen on the validation
rows; counts never are. Every model has a law of its own for the first rows of workers, where nothing is known yet, and
gives every one of the J titles a positive probability after any state, seen or not.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from laborllm.errors import ModelError
from laborllm.files import output_directory, read_parquet, write_parquet
from laborllm.models.pairs import Floats, Integers, PairCounts
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.prediction_form import check_whole_law_size
from laborllm.prediction_titles import Top, named
from laborllm.predictions import Predictions

Weights = Mapping[str, float]

GRID: Floats = np.logspace(-3, 12, 121)  # back-off weights tried on the validation rows, eight per factor of ten
UNTUNED = 1.0  # the back-off weight of nobody's choice, shown beside the chosen one
FIRST = "first_backoff"
CELLS = 1 << 20  # cells of whole laws worked out at a time


@dataclass(frozen=True)
class Rows:
    """N transitions to be predicted from counts; all have a previous state."""

    counts: PairCounts
    previous: Integers
    occupation: Integers

    @cached_property
    def seen(self) -> Floats:
        """How often each pair was counted, shape (N,)."""
        return self.counts.pairs(self.previous, self.occupation)


class CountModel(ABC):
    """What all count models share: counting, the choice of weights, predictions, files.

    Attributes:
        weights: Back-off weights in use after `fit`, by name: those given, the others chosen on the validation rows.
        val_perplexity: Perplexity per validation transition after `fit`: `history` and `first` with the weights in use,
            `history_untuned` and `first_untuned` with every weight at one; None where there is no such row.
        occupations: The states of the training panel, None before `fit`.
        datasets: The tags of the surveys in it.
        seed: None: nothing here is drawn.
    """

    kind: ClassVar[str]
    seed: ClassVar[int | None] = None

    def __init__(self, **params: float | None) -> None:
        self._params: dict[str, float | None] = {}
        self.weights: dict[str, float] = {}
        self.val_perplexity: dict[str, float | None] = {}
        self.occupations: Occupations | None = None
        self.datasets: list[str] = []
        self.weighted = False
        self._counts: PairCounts | None = None
        for name, value in params.items():
            self._params[name] = _positive(name, value)

    @abstractmethod
    def _log_history(self, rows: Rows, weights: Weights) -> Floats:
        """Log-probabilities of N transitions with a history, shape (N,)."""

    def _log_first(self, counts: PairCounts, weights: Weights) -> Floats:
        """Log-law of first rows, shape (J,): counts of first rows, backed off to the marginal."""
        return np.log(_shrunk(counts.first, counts.first.sum(), prior=counts.marginal, weight=weights[FIRST]))

    def get_params(self) -> dict[str, float | None]:
        """The back-off weights as given; None stands for chosen on the validation rows."""
        return dict(self._params)

    def set_params(self, **params: float | None) -> Self:
        """Change weights before `fit`.

        Raises:
            ModelError: A name this model does not have, or a weight that is not positive.
        """
        for name, value in params.items():
            if name not in self._params:
                known = ", ".join(self._params) or "none"
                raise ModelError(f"the {self.kind} model has no parameter {name!r}; it has {known}")
            self._params[name] = _positive(name, value)
        return self

    def fit(self, train: Panel, val: Panel, *, weighted: bool = False) -> Self:
        """Count the target rows of `train`, and choose the weights that were not given on those of `val`.

        Each weight enters a part of the likelihood that no other weight enters, so that choosing one after the other
        over `GRID` finds the best of all combinations. A weight for which `val` has no row stays at one.

        Args:
            train: Rows to count.
            val: Rows on which weights are chosen, and nothing else.
            weighted: Take the column `weight` of both panels as counts; scale population weights to a mean near one,
                or the half observations added to every state vanish beside them.

        Raises:
            ModelError: The panels have different occupations, or no row to count.
            PanelError: A weight is null or negative.
        """
        if train.occupations.hash != val.occupations.hash:
            raise ModelError("train and val have different occupations; read both with one list")
        train.refuse_held_out_history()
        counts, held_out = _count(train, weighted=weighted), _count(val, weighted=weighted)
        if counts.first.sum() + counts.values.sum() <= 0:
            raise ModelError(
                "the training panel has no row of positive weight to count; check the split and the weights"
            )
        self.occupations, self.weighted, self._counts = train.occupations, weighted, counts
        self.datasets = train.datasets
        self._choose_weights(counts, held_out)
        return self

    def _choose_weights(self, counts: PairCounts, held_out: PairCounts) -> None:
        rows = Rows(counts, held_out.previous, held_out.occupation)

        def loss_first(weights: Weights) -> float:
            return float(-(held_out.first @ self._log_first(counts, weights)))

        def loss_history(weights: Weights) -> float:
            return float(-(held_out.values @ self._log_history(rows, weights)))

        untuned = dict.fromkeys(self._params, UNTUNED)
        self.weights = untuned | {name: value for name, value in self._params.items() if value is not None}
        for name, value in self._params.items():
            if value is None:
                self.weights[name] = _best(loss_first if name == FIRST else loss_history, self.weights, name=name)
        total_first, total_history = float(held_out.first.sum()), float(held_out.values.sum())
        self.val_perplexity = {
            "history": _perplexity(loss_history(self.weights), total_history),
            "first": _perplexity(loss_first(self.weights), total_first),
            "history_untuned": _perplexity(loss_history(untuned), total_history),
            "first_untuned": _perplexity(loss_first(untuned), total_first),
        }

    def log_p(self, previous: Integers, occupation: Integers) -> Floats:
        """Natural-log probability of each occupation after each previous one, shape (N,); -1 marks first rows."""
        counts = self._fitted()[1]
        result: Floats = self._log_first(counts, self.weights)[occupation]
        history = previous >= 0
        result[history] = self._log_history(Rows(counts, previous[history], occupation[history]), self.weights)
        return result

    def law(self, previous: Integers) -> Floats:
        """The whole law after each previous occupation as natural logs, shape (N, J); -1 marks first rows.

        Each distinct state is worked out once; rows sum to one after exp.
        """
        rows, row = self._distinct_laws(previous)
        law: Floats = rows[row]
        return law

    def predict(
        self,
        panel: Panel,
        *,
        titles: str = "observed",
        keep_law: bool | None = None,
        also: Sequence[str | int] = (),
        top: int | None = None,
    ) -> Predictions:
        """Predict the target rows of a panel.

        Args:
            panel: Rows to predict, over the occupations the model was fitted on.
            titles: "observed" for the probability of what happened, "all" for the whole law as well, (N, J).
            keep_law: Store the whole law; by default with titles="all".
            also: Further titles (or their indices) whose probability is wanted in every row.
            top: Name this many of the most probable titles of every row.

        Raises:
            ModelError: The model is not fitted, or the panel has other occupations.
            OccupationsError: A title that is not on the list.
        """
        occupations = self._fitted()[0]
        if titles not in ("observed", "all"):
            raise ModelError(f"titles={titles!r} is unknown; choose 'observed' or 'all'")
        if panel.occupations.hash != occupations.hash:
            raise ModelError(
                f"the panel's {len(panel.occupations)} occupations are not the {len(occupations)} that the {self.kind} "
                "model was fitted on; read the panel with the model's list"
            )
        others = named(also, occupations)
        rows = panel.transitions()
        keep = titles == "all" if keep_law is None else keep_law
        whole, best = self._of_laws(rows.previous, keep=keep, top=top)
        log_p = self.log_p(rows.previous, rows.occupation)
        log_p_previous = np.full(len(rows), np.nan)
        history = ~rows.first
        log_p_previous[history] = self.log_p(rows.previous[history], rows.previous[history])
        return Predictions.from_transitions(
            panel,
            rows,
            model=self.kind,
            law="normalized",
            titles=titles,
            log_p=log_p,
            log_p_raw=log_p,
            log_p_previous=log_p_previous,
            title_mass=np.ones(len(rows)),
            log_p_all=whole,
            log_p_of={title: self.log_p(rows.previous, np.full(len(rows), title)) for title in others},
            top=best,
            model_hash=self.hash,
            kind=self.kind,
        )

    def _of_laws(
        self, previous: Integers, *, keep: bool, top: int | None
    ) -> tuple[NDArray[np.float32] | None, Top | None]:
        """The whole law of each row, if it is kept, and its best titles, if they are asked for."""
        if not keep and top is None:
            return None, None
        if keep:
            check_whole_law_size(len(previous), len(self._fitted()[0]))
        laws, row = self._distinct_laws(previous)
        best = None if top is None else Top.of_law(laws, 0.0, count=top).take(row)
        return laws.astype(np.float32)[row] if keep else None, best

    def parameters(self) -> dict[str, float]:
        """What was fitted, for display: transitions and first rows counted, pairs that occur, weights in use."""
        counts = self._fitted()[1]
        return {
            "transitions": float(counts.values.sum()),
            "first_rows": float(counts.first.sum()),
            "pairs": float(len(counts.keys)),
            **self.weights,
        }

    @property
    def hash(self) -> str:
        """SHA-256 of kind, occupations, weights and counts, as hexadecimal text."""
        occupations, counts = self._fitted()
        digest = hashlib.sha256(json.dumps([self.kind, occupations.hash, self.weights]).encode())
        for array in (counts.first, counts.keys, counts.values):
            digest.update(array.tobytes())
        return digest.hexdigest()

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write `laborllm.json` and `counts.parquet` (previous, null on first rows; occupation; count).

        The directory is marked as not redistributable: a count of one is somebody's career.
        """
        from laborllm import __version__  # noqa: PLC0415  the package's own front door is above this layer

        occupations, counts = self._fitted()
        about = {
            "kind": self.kind,
            "version": __version__,
            "hash": self.hash,
            "occupations": json.loads(occupations.to_json()),
            "occupations_hash": occupations.hash,
            "params": self._params,
            "weights": self.weights,
            "val_perplexity": self.val_perplexity,
            "weighted": self.weighted,
            "datasets": self.datasets,
            "redistributable": False,
        }
        with output_directory(directory, overwrite=overwrite) as folder:
            text = json.dumps(about, ensure_ascii=False, indent=1)
            (folder / "laborllm.json").write_text(text + "\n", encoding="utf-8")
            write_parquet(counts.to_table(), folder / "counts.parquet")

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read a model back exactly; on `CountModel` itself, whichever count model the directory holds.

        Raises:
            ModelError: No such model directory, another kind of model, or files that do not belong together.
            FileError: `counts.parquet` is missing or damaged.
        """
        source = Path(directory) / "laborllm.json"
        try:
            about = json.loads(source.read_text(encoding="utf-8"))
            kind = about["kind"]
            found = MODELS.get(kind)
            if found is None or not issubclass(found, cls):
                wanted = " or ".join(name for name, model in MODELS.items() if issubclass(model, cls))
                raise ModelError(f"{directory} holds a model of kind {kind!r}, not {wanted}; load it by its own name")
            model = found(**about["params"])
            model.occupations = Occupations.from_json(json.dumps(about["occupations"]))
            model.weights, model.val_perplexity = about["weights"], about["val_perplexity"]
            model.weighted, model.datasets = about["weighted"], about["datasets"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{source} describes no count model ({error!r}); fit and save it anew") from error
        model._counts = PairCounts.from_table(
            read_parquet(Path(directory) / "counts.parquet"), num_titles=len(model.occupations)
        )
        if model.hash != about["hash"]:
            raise ModelError(f"counts.parquet in {directory} is not the one laborllm.json describes; fit and save anew")
        return model

    def _distinct_laws(self, previous: Integers) -> tuple[Floats, NDArray[np.int64]]:
        """The law after each distinct state, (U, J), and the row of it that each transition takes, (N,)."""
        num_titles = self._fitted()[1].num_titles
        states, row = np.unique(previous, return_inverse=True)
        laws: Floats = np.empty((len(states), num_titles))
        step = max(1, CELLS // num_titles)
        for start in range(0, len(states), step):
            some = states[start : start + step]
            log_p = self.log_p(np.repeat(some, num_titles), np.tile(np.arange(num_titles), len(some)))
            laws[start : start + step] = log_p.reshape(len(some), num_titles)
        return laws, row

    def _fitted(self) -> tuple[Occupations, PairCounts]:
        if self.occupations is None or self._counts is None:
            raise ModelError(f"the {self.kind} model has no counts yet; call fit(train, val) first")
        return self.occupations, self._counts


class Uniform(CountModel):
    """Every title has probability 1/J, first rows too: perplexity is exactly J."""

    kind: ClassVar[str] = "uniform"

    def __init__(self) -> None:
        super().__init__()

    def _log_first(self, counts: PairCounts, weights: Weights) -> Floats:  # noqa: ARG002
        return np.full(counts.num_titles, -np.log(counts.num_titles))

    def _log_history(self, rows: Rows, weights: Weights) -> Floats:  # noqa: ARG002
        return np.full(len(rows.occupation), -np.log(rows.counts.num_titles))


class Marginal(CountModel):
    """The share of each title among all training rows, one half added to each count, whatever came before."""

    kind: ClassVar[str] = "marginal"

    def __init__(self, *, first_backoff: float | None = None) -> None:
        super().__init__(first_backoff=first_backoff)

    def _log_history(self, rows: Rows, weights: Weights) -> Floats:  # noqa: ARG002
        return np.log(rows.counts.marginal)[rows.occupation]


class Laplace(CountModel):
    """Transition frequencies with one added to every cell, first rows too: the usual strawman, kept as a yardstick."""

    kind: ClassVar[str] = "laplace"

    def __init__(self) -> None:
        super().__init__()

    def _log_first(self, counts: PairCounts, weights: Weights) -> Floats:  # noqa: ARG002
        law: Floats = (counts.first + 1) / (counts.first.sum() + counts.num_titles)
        return np.log(law)

    def _log_history(self, rows: Rows, weights: Weights) -> Floats:  # noqa: ARG002
        return np.log((rows.seen + 1) / (rows.counts.leaving[rows.previous] + rows.counts.num_titles))


class Markov(CountModel):
    """Transition frequencies backed off to the marginal m: (C_jk + b m_k) / (C_j + b)."""

    kind: ClassVar[str] = "markov"

    def __init__(self, *, backoff: float | None = None, first_backoff: float | None = None) -> None:
        super().__init__(backoff=backoff, first_backoff=first_backoff)

    def _log_history(self, rows: Rows, weights: Weights) -> Floats:
        total, prior = rows.counts.leaving[rows.previous], rows.counts.marginal[rows.occupation]
        return np.log(_shrunk(rows.seen, total, prior=prior, weight=weights["backoff"]))


class TwoStage(CountModel):
    """Whether a worker stays, then where a mover goes; each is a count backed off to what all states share.

    stay_j = (C_jj + b_s g) / (C_j + b_s), with g the share of stays among all transitions;
    move_jk = (C_jk + b_m d_k) / (sum over l != j of C_jl + b_m d_l) for k != j, with d the shares of all destinations.
    """

    kind: ClassVar[str] = "two-stage"

    def __init__(
        self,
        *,
        stay_backoff: float | None = None,
        move_backoff: float | None = None,
        first_backoff: float | None = None,
    ) -> None:
        super().__init__(stay_backoff=stay_backoff, move_backoff=move_backoff, first_backoff=first_backoff)

    def _log_history(self, rows: Rows, weights: Weights) -> Floats:
        counts, b_stay, b_move = rows.counts, weights["stay_backoff"], weights["move_backoff"]
        total, stays = counts.leaving[rows.previous], counts.staying[rows.previous]
        log_p = np.log(_shrunk(stays, total, prior=counts.stay_share, weight=b_stay))
        move = rows.previous != rows.occupation
        origin, arrival = rows.previous[move], rows.occupation[move]
        total, moves = total[move], (total - stays)[move]
        log_p[move] = (
            np.log(_shrunk(moves, total, prior=1.0 - counts.stay_share, weight=b_stay))
            + np.log(rows.seen[move] + b_move * counts.destinations[arrival])
            - np.log(moves + b_move * (1.0 - counts.destinations[origin]))
        )
        return log_p


MODELS: dict[str, type[CountModel]] = {model.kind: model for model in (Uniform, Marginal, Laplace, Markov, TwoStage)}


def _shrunk(count: Floats, total: Floats | float, *, prior: Floats | float, weight: float) -> Floats:
    """A frequency pulled to its prior by `weight` pseudo-observations: raw at 0, the prior at infinity."""
    shrunk: Floats = (count + weight * prior) / (total + weight)
    return shrunk


def _best(loss: Callable[[Weights], float], weights: Weights, *, name: str) -> float:
    """The weight of `GRID` with the smallest loss, the others held; one where the loss does not depend on it."""
    losses = np.array([loss({**weights, name: float(weight)}) for weight in GRID])
    return UNTUNED if losses.min() == losses.max() else float(GRID[losses.argmin()])


def _perplexity(loss: float, total: float) -> float | None:
    return float(np.exp(loss / total)) if total > 0 else None


def _positive(name: str, value: float | None) -> float | None:
    if value is not None and not 0 < value < np.inf:
        raise ModelError(f"{name}={value} is no back-off weight; give a positive number, or None to choose it on val")
    return value


def _count(panel: Panel, *, weighted: bool) -> PairCounts:
    rows = panel.transitions()
    weights = panel.row_weights(rows.row) if weighted else None
    return PairCounts.of(rows.previous, rows.occupation, num_titles=len(panel.occupations), weights=weights)
