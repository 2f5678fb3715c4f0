"""What all count models share: counting, the choice of parameters, laws and files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from laborllm.errors import ModelError
from laborllm.files import output_directory, read_parquet, write_parquet
from laborllm.models.choosing import check, choose, mean_loss, untuned
from laborllm.models.closed import CELLS, ClosedForm, Floats, counting_weights, histories_to_fit
from laborllm.models.contexts import BINS, Coding
from laborllm.models.counts_files import ladders_from_table, ladders_to_table, plans_from_json, plans_to_json
from laborllm.models.histories import Histories
from laborllm.models.ladder import Climb, Ladder, Plan, Rung, bound
from laborllm.models.tallies import Tally
from laborllm.occupations import Occupations
from laborllm.panel import Panel

Integers = NDArray[np.int64]

BLOCK = 1 << 18
"""Transitions whose counts are looked up at a time."""
EVERY_PANEL = ("previous", "second", "before", "tenure", "gap", "period")
"""Features that need no further column."""


class CountModel(ClosedForm):
    """What all count models share: counting, the choice of parameters, files.

    Attributes:
        plans: Its ladders: `first` for first rows, and for all others `next`, or `stay` and `move`.
        weights: Parameters in use after `fit`, by name: those given, the others chosen on the validation rows.
        val_perplexity: Perplexity per validation transition after `fit`: `history` and `first` with the weights in use,
            `history_untuned` and `first_untuned` with every back-off at one, nothing discounted and nothing faded; None
            where there is no such row.
    """

    plans: ClassVar[Mapping[str, Plan]]

    def __init__(self, **params: float | None) -> None:
        super().__init__()
        self._params: dict[str, float | None] = dict.fromkeys(self._names())
        self.weights: dict[str, float] = {}
        self.val_perplexity: dict[str, float | None] = {}
        self.weighted = False
        self._ladders: dict[str, Ladder] = {}
        self._coding: Coding | None = None
        self._sizes: dict[str, float] = {}
        self.set_params(**params)

    @classmethod
    def _names(cls) -> list[str]:
        return [name for plan in cls.plans.values() for rung in plan for name in rung.params]

    def get_params(self) -> dict[str, float | None]:
        """The parameters as given; None stands for chosen on the validation rows."""
        return dict(self._params)

    def set_params(self, **params: float | None) -> Self:
        """Change parameters before `fit`: positive back-offs, discounts in [0, 1), retentions in (0, 1].

        Raises:
            ModelError: A name this model does not have, or a value out of its range.
        """
        for name, value in params.items():
            if name not in self._params:
                known = ", ".join(self._params) or "none"
                raise ModelError(f"the {self.kind} model has no parameter {name!r}; it has {known}")
            check(name, value)
            self._params[name] = value
        return self

    def fit(self, train: Panel, val: Panel, *, weighted: bool = False) -> Self:
        """Count the target rows of `train`, and choose the parameters that were not given on those of `val`.

        One parameter after the other is set to the best of a wide grid, round after round until none moves. Covariates
        that `train` lacks are left out of the model.

        Args:
            train: Rows to count.
            val: Rows on which parameters are chosen, and nothing else.
            weighted: Take the column `weight` of both panels as counts; scale population weights to a mean near one,
                or the half observations added to every state vanish beside them. A worker's own past is not weighted.

        Raises:
            ModelError: The panels have different occupations, or no row to count.
            PanelError: A weight is null or negative.
        """
        rows, held_out = histories_to_fit(train, val)
        self._coding, plans = self._bind(rows)
        self._check_covariates(held_out)
        self._count(rows, plans, counting_weights(rows) if weighted else None)
        self.occupations, self.weighted, self.datasets = train.occupations, weighted, train.datasets
        self._choose(held_out, val.row_weights(held_out.row) if weighted else np.ones(len(held_out)))
        return self

    def _bind(self, histories: Histories) -> tuple[Coding, dict[str, Plan]]:
        """Settle on the features that the training panel can give, and on their codes."""
        column = {"age": "birth_year"}
        plans = {
            name: bound(plan, lambda feature: feature in EVERY_PANEL or histories.has(column.get(feature, feature)))
            for name, plan in self.plans.items()
        }
        features = [name for plan in plans.values() for rung in plan if isinstance(rung, Rung) for name in rung.by]
        used = dict.fromkeys(column.get(name, name) for name in features if name not in EVERY_PANEL)
        self.covariates = list(used)
        return Coding.of(histories, self.covariates), plans

    def _count(self, histories: Histories, plans: Mapping[str, Plan], weights: Floats | None) -> None:
        first = histories.first
        self._sizes = {"transitions": _mass(~first, weights), "first_rows": _mass(first, weights)}
        if not sum(self._sizes.values()) > 0:
            raise ModelError(
                "the training panel has no row of positive weight to count; check the split and the weights"
            )
        coding, num_titles, self._ladders = self._coding_known(), len(histories.panel.occupations), {}
        for name, plan in plans.items():
            chosen, outcomes = _events(name, histories)
            size = 2 if name == "stay" else num_titles
            counted = partial(Tally.of, outcomes=outcomes, num_outcomes=size, chosen=chosen, weights=weights)
            tallies = {
                rung.name: counted(coding.columns(histories, rung.by)) for rung in plan if isinstance(rung, Rung)
            }
            self._ladders[name] = Ladder(plan, self._base(name, num_titles, counted, tallies), tallies)

    def _base(self, name: str, num_titles: int, counted: Callable[..., Tally], tallies: Mapping[str, Tally]) -> Floats:
        """The law under the lowest rung: all occupations for `first` and `next`, stays, and destinations of moves.

        Every rung counts all stays. A destination counts once for each origin: the rung `move` of every plan counts by
        the origin alone.
        """
        if name == "move":
            return _shares(np.bincount(tallies["move"].outcomes, minlength=num_titles))
        if name == "stay":
            stays = next(iter(tallies.values())).frequencies
            return np.array([0.0, 1.0]) if num_titles == 1 else _shares(stays)
        return _shares(counted((), chosen=None).frequencies)

    def _start(self) -> dict[str, float]:
        """Values before anything is chosen."""
        names = [name for ladder in self._ladders.values() for name in ladder.params]
        return {name: untuned(name) if (given := self._params.get(name)) is None else given for name in names}

    def _choose(self, histories: Histories, weights: Floats) -> None:
        coding, losses = self._coding_known(), {}
        self.weights = self._start()
        plain = {name: untuned(name) if name in self._params else value for name, value in self.weights.items()}
        free = {name for name in self.weights if self._params.get(name, 0.0) is None}
        for name, ladder in self._ladders.items():
            chosen, outcomes = _events(name, histories)
            rows, some = np.flatnonzero(chosen), weights[chosen]
            path = ladder.locate(histories, coding).path(rows, outcomes[rows, None])
            start = mean_loss(path.climb(plain), some)
            self.weights |= choose(path, self.weights, free, some)
            total = float(some.sum())
            losses[name] = np.array([total, total * mean_loss(path.climb(self.weights), some), total * start])
        history = [losses[name] for name in losses if name != "first"]
        rows = history[0][0]
        tuned, plain_loss = np.sum(history, axis=0)[1:]
        self.val_perplexity = {
            "history": _perplexity(tuned, rows),
            "first": _perplexity(losses["first"][1], losses["first"][0]),
            "history_untuned": _perplexity(plain_loss, rows),
            "first_untuned": _perplexity(losses["first"][2], losses["first"][0]),
        }

    def log_p(self, histories: Histories, outcomes: Integers) -> Floats:
        """Natural-log probabilities of M outcomes of each transition, shape (N, M)."""
        climbs = self._climbs(histories)
        p = np.empty(outcomes.shape)
        for start in range(0, len(histories), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(histories)))
            first = histories.first[rows]
            for part, of in ((rows[first], self._first), (rows[~first], self._later)):
                p[part] = of(climbs, part, outcomes[part])
        return np.log(p)

    def laws(self, histories: Histories) -> Iterator[Floats]:
        """The whole law as natural logs, in successive blocks of rows, (n, J) each."""
        climbs, num_titles = self._climbs(histories), len(self._fitted())
        step = max(1, CELLS // num_titles)
        for start in range(0, len(histories), step):
            rows = np.arange(start, min(start + step, len(histories)))
            first = histories.first[rows]
            law = np.empty((len(rows), num_titles))
            law[first], law[~first] = self._first(climbs, rows[first]), self._later(climbs, rows[~first])
            yield np.log(law)

    def unseen(self, histories: Histories) -> dict[str, int]:
        """Transitions with a text that training never saw, by covariate: they climb no higher than it is asked for."""
        return self._coding_known().unseen(histories)

    def _climbs(self, histories: Histories) -> dict[str, Climb]:
        self._fitted()
        self._check_covariates(histories)
        return {name: ladder.locate(histories, self._coding_known()) for name, ladder in self._ladders.items()}

    def _first(self, climbs: Mapping[str, Climb], rows: Integers, outcomes: Integers | None = None) -> Floats:
        return climbs["first"].probabilities(rows, outcomes, self.weights)

    def _later(self, climbs: Mapping[str, Climb], rows: Integers, outcomes: Integers | None = None) -> Floats:
        """Probabilities of rows with a history, (n, M), or their whole law, (n, J)."""
        if "next" in climbs:
            return climbs["next"].probabilities(rows, outcomes, self.weights)
        previous = climbs["stay"].histories.previous[rows][:, None]
        go, stay = np.hsplit(climbs["stay"].probabilities(rows, None, self.weights), 2)
        moves = climbs["move"].probabilities(rows, outcomes, self.weights)
        titles = np.arange(moves.shape[1])[None, :] if outcomes is None else outcomes
        with np.errstate(invalid="ignore"):  # a single title leaves nowhere to go
            return np.where(titles == previous, stay, go * moves)

    def parameters(self) -> dict[str, float]:
        """What was fitted, for display: transitions and first rows counted, pairs kept, parameters in use."""
        self._fitted()
        pairs = sum(len(tally.keys) for ladder in self._ladders.values() for tally in ladder.tallies.values())
        return {**self._sizes, "pairs": float(pairs), **self.weights}

    @property
    def hash(self) -> str:
        """SHA-256 of kind, occupations, features, parameters and counts, as hexadecimal text."""
        about = [self.kind, self._fitted().hash, self.weights, self._coding_known().values, BINS, self._plans_json()]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for ladder in self._ladders.values():
            for array in (ladder.base, *(a for tally in ladder.tallies.values() for a in (tally.keys, tally.values))):
                digest.update(array.tobytes())
        return digest.hexdigest()

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write `laborllm.json` and `counts.parquet` (ladder, rung, context, outcome, count).

        The directory is marked as not redistributable: a count of one is somebody's career.
        """
        from laborllm import __version__  # noqa: PLC0415  the package's own front door is above this layer

        occupations = self._fitted()
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
            "covariates": self.covariates,
            "values": self._coding_known().values,
            "bins": BINS,
            "plans": self._plans_json(),
            "sizes": self._sizes,
            "redistributable": False,
        }
        with output_directory(directory, overwrite=overwrite) as folder:
            text = json.dumps(about, ensure_ascii=False, indent=1)
            (folder / "laborllm.json").write_text(text + "\n", encoding="utf-8")
            write_parquet(ladders_to_table(self._ladders), folder / "counts.parquet")

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read a model of this kind back exactly; `laborllm.models.load_model` reads whichever a directory holds.

        Raises:
            ModelError: No such model directory, another kind of model, or files that do not belong together.
            FileError: `counts.parquet` is missing or damaged.
        """
        source = Path(directory) / "laborllm.json"
        try:
            about = json.loads(source.read_text(encoding="utf-8"))
            if about["kind"] != cls.kind:
                raise ModelError(
                    f"{directory} holds a model of kind {about['kind']!r}, not {cls.kind}; load it by its own name"
                )
            model = cls(**about["params"])
            model.occupations = Occupations.from_json(json.dumps(about["occupations"]))
            model.weights, model.val_perplexity = about["weights"], about["val_perplexity"]
            model.weighted, model.datasets = about["weighted"], about["datasets"]
            model.covariates, model._sizes = about["covariates"], about["sizes"]
            model._coding = Coding(len(model.occupations), about["values"])
            if about["bins"] != BINS:
                raise ModelError(f"{directory} counts in bins of {about['bins']}, this package in {BINS}; fit it anew")
            plans, written = plans_from_json(about["plans"]), about["hash"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{source} describes no count model ({error!r}); fit and save it anew") from error
        model._ladders = ladders_from_table(
            read_parquet(Path(directory) / "counts.parquet"), plans, num_titles=len(model.occupations)
        )
        if model.hash != written:
            raise ModelError(f"counts.parquet in {directory} is not the one laborllm.json describes; fit and save anew")
        return model

    def _plans_json(self) -> dict[str, Any]:
        return plans_to_json({name: ladder.plan for name, ladder in self._ladders.items()})

    def _coding_known(self) -> Coding:
        if self._coding is None:
            raise ModelError(f"the {self.kind} model has no counts yet; call fit(train, val) first")
        return self._coding


def _events(name: str, histories: Histories) -> tuple[NDArray[np.bool_], NDArray[np.integer[Any]]]:
    """Transitions that a ladder is about, and what happened in all: an occupation, or whether a worker stayed."""
    if name == "first":
        return histories.first, histories.occupation
    if name == "next":
        return ~histories.first, histories.occupation
    if name == "stay":
        return ~histories.first, histories.stayed.view(np.int8)
    return ~(histories.first | histories.stayed), histories.occupation


def _mass(chosen: NDArray[np.bool_], weights: Floats | None) -> float:
    """How many rows are chosen, or the sum of their weights."""
    return float(np.count_nonzero(chosen) if weights is None else weights[chosen].sum())


def _shares(counts: NDArray[Any]) -> Floats:
    """Shares, one half added to each count."""
    shares: Floats = (counts + 0.5) / (counts + 0.5).sum()
    return shares


def _perplexity(loss: float, total: float) -> float | None:
    return float(np.exp(loss / total)) if total > 0 else None
