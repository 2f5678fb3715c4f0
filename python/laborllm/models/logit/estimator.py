"""The regression of the next occupation on states, durations and traits, fitted to a panel."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NoReturn, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from laborllm.errors import ModelError
from laborllm.files import output_directory
from laborllm.models.closed import ClosedForm, Floats, Integers, counting_weights, histories_to_fit
from laborllm.models.histories import Histories
from laborllm.models.logit.features import Features
from laborllm.models.logit.law import TitleLaw
from laborllm.models.logit.penalised import MultinomialLogit
from laborllm.models.logit.penalty import Rows, follow
from laborllm.occupations import Occupations
from laborllm.panel import Panel

PATH_TOL = 1e-4
"""How near the optimum penalties are compared, as a share of the objective."""
TOL = 1e-6
"""How near the optimum the chosen one is fitted."""
FILE = "coefficients.safetensors"
NO_ERRORS = (
    "the logit of prediction size has no standard errors: its coefficients are biased towards zero by a penalty chosen "
    "to predict, so that plus or minus two standard errors would not cover the truth, and the covariance of "
    "all {count:,} of them would have {entries:,} entries; for inference fit few columns without a penalty"
)


class Logit(ClosedForm):
    """Multinomial logit with a ridge penalty on the regressors of CAREER's "regression" (see `Features`).

    First rows are predicted by the same regression: they have no state and no duration, an indicator of their own, and
    share the effects of year and traits. A title that nobody held in training has no coefficients; all U of them share
    the probability U/2 / (N + J/2) equally, in every row, as if half a row had been seen of each title.

    Args:
        l2: Penalty on half the sum of squared coefficients, as in `MultinomialLogit`; None chooses it on the validation
            rows (`penalty.follow`).

    Attributes:
        l2: The penalty in use after `fit`.
        path: Every penalty tried and the perplexity of the validation rows under it.
        val_perplexity: Perplexity per validation transition after `fit`, of rows with `history`, of `first` rows
            and of `all`; None where there is no such row.
    """

    kind: ClassVar[str] = "logit"

    def __init__(self, *, l2: float | None = None) -> None:
        super().__init__()
        self._params: dict[str, float | None] = {"l2": _positive(l2)}
        self.l2: float | None = None
        self.path: dict[float, float] = {}
        self.val_perplexity: dict[str, float | None] = {}
        self.weighted = False
        self._features: Features | None = None
        self._law: TitleLaw | None = None

    def get_params(self) -> dict[str, float | None]:
        """The penalty as given; None stands for chosen on the validation rows."""
        return dict(self._params)

    def set_params(self, **params: float | None) -> Self:
        """Change the penalty before `fit`.

        Raises:
            ModelError: Another name than `l2`, or a penalty that is not positive.
        """
        for name, value in params.items():
            if name not in self._params:
                raise ModelError(f"the logit has no parameter {name!r}; it has l2")
            self._params[name] = _positive(value)
        return self

    def fit(self, train: Panel, val: Panel, *, weighted: bool = False) -> Self:
        """Fit to the target rows of `train`, and choose the penalty, where none is given, on those of `val`.

        Args:
            train: Rows to fit. Levels of covariates that occur in them become dummies.
            val: Rows on which the penalty is chosen, and nothing else.
            weighted: Take the column `weight` of both panels as numbers of rows; scale population weights to a mean
                near one, or they outweigh the penalty.

        Raises:
            ModelError: The panels have different occupations; the rows to fit hold one state only; there is no row to
                choose the penalty on.
            PanelError: A weight is null or negative, or `val` lacks a covariate of `train`.
        """
        rows, held_out = histories_to_fit(train, val)
        weights = counting_weights(rows) if weighted else np.ones(len(rows))
        val_weights = val.row_weights(held_out.row) if weighted else np.ones(len(held_out))
        taken = np.flatnonzero(weights > 0)
        if len(np.unique(rows.occupation[taken])) < 2:
            raise ModelError(
                "the training rows of positive weight hold fewer than two states, which leaves nothing to tell apart; "
                "check the split and the weights"
            )
        features = Features.of(rows, taken)
        fitted, chosen_on = Rows.of(rows, features, weights), Rows.of(held_out, features, val_weights)
        law = TitleLaw(MultinomialLogit(tol=PATH_TOL, warm_start=True), len(train.occupations), float(weights.sum()))
        path = {} if self._params["l2"] is not None else follow(law, fitted, chosen_on)
        l2 = self._params["l2"] or min(path, key=lambda tried: path[tried])
        law.logit.set_params(l2=l2, tol=TOL).fit(fitted.x, fitted.outcomes, weights)
        self.l2, self.path, self._features, self._law = l2, path, features, law
        self.occupations, self.datasets, self.covariates = train.occupations, train.datasets, features.covariates
        self.weighted, self.val_perplexity = weighted, chosen_on.perplexity(law)
        return self

    def laws(self, histories: Histories) -> Iterator[Floats]:
        """The whole law as natural logs, in successive blocks of rows, (n, J) each; a row sums to one after exp."""
        features, law = self._known()
        return law.blocks(features.matrix(histories))

    def log_p(self, histories: Histories, outcomes: Integers) -> Floats:
        """Natural-log probabilities of M outcomes of each transition, shape (N, M), for `outcomes` (N, M) in [0, J)."""
        features, law = self._known()
        return law.log_p(features.matrix(histories), outcomes)

    def unseen(self, histories: Histories) -> dict[str, int]:
        """Transitions whose year, age band or covariate did not occur in training, by name, where there are any.

        Their dummies are zero, as those of a level without an effect would be.
        """
        return self._known()[0].unseen(histories)

    @property
    def features(self) -> list[str]:
        """What each of the P columns stands for; states by their number."""
        return self._known()[0].names

    @property
    def coefficients(self) -> Floats:
        """Coefficients of each title, shape (J, P); NaN for titles that nobody held in training."""
        law = self._known()[1]
        whole = np.full((law.num_titles, law.logit.coef_.shape[1]), np.nan)
        whole[law.logit.classes_] = law.logit.coef_
        return whole

    @property
    def standard_errors(self) -> NoReturn:
        """There are none.

        Raises:
            ModelError: Always; the message says why.
        """
        raise ModelError(self._no_errors())

    def parameters(self) -> dict[str, float]:
        """What was fitted, for display: weight of the rows, columns, coefficients, the penalty, titles never held."""
        law = self._known()[1]
        coefficients = law.logit.coef_
        return {
            "rows": law.total,
            "columns": float(coefficients.shape[1]),
            "coefficients": float(coefficients.size),
            "titles_never_held": float(law.num_titles - len(coefficients)),
            "l2": law.logit.l2,
        }

    def summary(self) -> str:
        """What was fitted, how near the optimum, how well it predicts `val`, and why there are no standard errors."""
        law = self._known()[1]
        lines = [f"{name}: {value:,.6g}" for name, value in self.parameters().items()]
        lines.append(f"covariates: {', '.join(self.covariates) or 'none'}")
        lines.append(f"objective: within {law.logit.gap_:.1e} of its minimum")
        lines += [f"val perplexity, {name}: {value:.3f}" for name, value in self.val_perplexity.items() if value]
        return "\n".join([*lines, self._no_errors()])

    def _no_errors(self) -> str:
        count = self._known()[1].logit.coef_.size
        return NO_ERRORS.format(count=count, entries=count**2)

    @property
    def hash(self) -> str:
        """SHA-256 of kind, occupations, penalty, features and coefficients, as hexadecimal text."""
        features, law = self._known()
        about = [self.kind, self._fitted().hash, self.l2, features.definition, law.total]
        digest = hashlib.sha256(json.dumps(about).encode())
        for array in law.arrays().values():
            digest.update(array.tobytes())
        return digest.hexdigest()

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write `laborllm.json` and `coefficients.safetensors` (held (J',), coefficients (J', P), intercepts (J',)).

        The directory is marked as not redistributable: the coefficients of a rare state are somebody's career.
        """
        from laborllm import __version__  # noqa: PLC0415  the package's own front door is above this layer

        occupations, (features, law) = self._fitted(), self._known()
        about = {
            "kind": self.kind,
            "version": __version__,
            "hash": self.hash,
            "occupations": json.loads(occupations.to_json()),
            "occupations_hash": occupations.hash,
            "params": self._params,
            "l2": self.l2,
            "path": list(self.path.items()),
            "val_perplexity": self.val_perplexity,
            "weighted": self.weighted,
            "datasets": self.datasets,
            "features": features.definition,
            "total": law.total,
            "gap": law.logit.gap_,
            "redistributable": False,
        }
        with output_directory(directory, overwrite=overwrite) as folder:
            text = json.dumps(about, ensure_ascii=False, indent=1)
            (folder / "laborllm.json").write_text(text + "\n", encoding="utf-8")
            save_file(law.arrays(), folder / FILE)

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read a model back exactly.

        Raises:
            ModelError: No such model directory, another kind of model, or files that do not belong together.
        """
        source = Path(directory)
        try:
            about = json.loads((source / "laborllm.json").read_text(encoding="utf-8"))
            if about["kind"] != cls.kind:
                raise ModelError(
                    f"{directory} holds a model of kind {about['kind']!r}, not {cls.kind}; load it by its name"
                )
            model, written = cls(**about["params"]), about["hash"]
            model.occupations = Occupations.from_json(json.dumps(about["occupations"]))
            model.l2, model.path = about["l2"], dict(about["path"])
            model.val_perplexity, model.weighted = about["val_perplexity"], about["weighted"]
            model.datasets = about["datasets"]
            levels = {name: tuple(found) for name, found in about["features"]["levels"]}
            model._features = Features(len(model.occupations), levels)
            model.covariates = model._features.covariates
            logit = MultinomialLogit(l2=about["l2"], tol=TOL, warm_start=True)
            logit.gap_ = about["gap"]
            model._law = TitleLaw(logit, len(model.occupations), about["total"]).with_arrays(load_file(source / FILE))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ModelError(f"{directory} holds no readable logit ({error!r}); fit and save it anew") from error
        if model.hash != written:
            raise ModelError(f"{FILE} in {directory} is not the one laborllm.json describes; fit and save anew")
        return model

    def _known(self) -> tuple[Features, TitleLaw]:
        self._fitted()
        if self._features is None or self._law is None:
            raise ModelError("the logit is not fitted; call fit(train, val) first")
        return self._features, self._law


def _positive(l2: float | None) -> float | None:
    if l2 is not None and not 0 < l2 < np.inf:
        raise ModelError(
            f"l2={l2} is no penalty for J x P coefficients: without one those of states that were never seen together "
            "have no finite optimum; give a positive number, or None to choose it on val"
        )
    return l2
