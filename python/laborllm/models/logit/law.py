"""A fitted regression as a law over all titles, those that nobody held included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from laborllm.models.logit.penalised import MultinomialLogit

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]

BLOCK = 4096
"""Rows of laws worked out at a time."""


@dataclass(frozen=True, eq=False)
class TitleLaw:
    """A fitted regression as a law over all J titles.

    Attributes:
        logit: Fitted on the titles that were held in training, whose numbers are its classes.
        num_titles: J.
        total: Weight of the training rows.
    """

    logit: MultinomialLogit
    num_titles: int
    total: float

    @property
    def unheld(self) -> float:
        """Probability of all U titles that nobody held together: half a row of each, U/2 / (N + J/2)."""
        count = self.num_titles - len(self.logit.classes_)
        return count / 2 / (self.total + self.num_titles / 2)

    def blocks(self, x: Any) -> Iterator[Floats]:
        """Natural logs of the law of each row of features, (n, J) in successive blocks."""
        for start in range(0, x.shape[0], BLOCK):
            yield self._block(x[start : start + BLOCK])

    def log_p(self, x: Any, outcomes: Integers) -> Floats:
        """Natural logs of the probabilities of M outcomes of each row, shape (N, M), for `outcomes` (N, M)."""
        found = np.empty(outcomes.shape)
        for number, law in enumerate(self.blocks(x)):
            rows = slice(number * BLOCK, number * BLOCK + len(law))
            found[rows] = np.take_along_axis(law, outcomes[rows], axis=1)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was fitted: titles held (J',), coefficients (J', P), intercepts (J',)."""
        logit = self.logit
        return {"held": logit.classes_, "coefficients": logit.coef_, "intercepts": logit.intercept_}

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Put back what `arrays` gave."""
        logit = self.logit
        logit.classes_, logit.coef_ = arrays["held"], arrays["coefficients"]
        logit.intercept_, logit.n_features_in_ = arrays["intercepts"], logit.coef_.shape[1]
        return self

    def _block(self, x: Any) -> Floats:
        if not self.unheld:
            return self.logit.predict_log_proba(x)
        count = self.num_titles - len(self.logit.classes_)
        law = np.full((x.shape[0], self.num_titles), np.log(self.unheld / count))
        law[:, self.logit.classes_] = self.logit.predict_log_proba(x) + np.log1p(-self.unheld)
        return law
