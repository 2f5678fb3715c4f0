"""Results of the choice models, under the names that statsmodels gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike
from scipy import special

from laborllm.errors import ModelError
from laborllm.models.logit import summary
from laborllm.models.logit.likelihood import Conditional, Multinomial
from laborllm.models.logit.nests import Nested, Nests, nest_positions
from laborllm.models.logit.sample import CovType, Sample, availability, table
from laborllm.models.tallies import Floats, Integers


@dataclass(frozen=True, eq=False, kw_only=True)
class ChoiceResults:
    """Maximum-likelihood estimates of a choice model.

    P counts every coefficient, those without a finite optimum included; their entries are NaN.

    Attributes:
        model: "Multinomial logit", "Conditional logit" or "Nested logit".
        names: Names of the P coefficients; "manage:education" is that of education for the alternative manage.
        variables: Names of the K variables.
        params: Estimates, shape (P,).
        covariance: Of the estimates, shape (P, P); NaN throughout where there is none.
        cov_type: "classical", "robust" or "cluster".
        llf: Log-likelihood at the optimum.
        llnull: Log-likelihood of the null model.
        null: "constants" where the null model has a constant per alternative (multinomial logit, and others whose
            variables hold the constants), "equal shares" where all its coefficients are zero.
        df_null: Parameters of the null model.
        nobs: Rows of positive weight.
        num_clusters: Clusters behind the standard errors, None without.
        alternatives: Names of the J alternatives.
        absent: Alternatives that nobody chose and that the model can rule out: their probability is zero.
        converged: Whether max |gradient| < 1e-6 was reached at a finite point.
        iterations: Newton steps.
        max_gradient: Largest component of the gradient at the estimate.
        why: Why there are no standard errors; None where there are.
        data: Variables and mask of the fit, as given, behind `predict()`.
    """

    model: str
    names: tuple[str, ...]
    variables: tuple[str, ...]
    params: Floats
    covariance: Floats
    cov_type: CovType
    llf: float
    llnull: float
    null: str
    df_null: int
    nobs: int
    num_clusters: int | None
    alternatives: tuple[str, ...]
    absent: tuple[str, ...]
    converged: bool
    iterations: int
    max_gradient: float
    why: str | None
    data: tuple[Floats, ArrayLike | None]

    @property
    def no_optimum(self) -> tuple[str, ...]:
        """Coefficients without a finite optimum: those of absent alternatives alone."""
        return tuple(name for name, value in zip(self.names, self.params, strict=True) if np.isnan(value))

    @property
    def num_params(self) -> int:
        """Coefficients that were estimated."""
        return len(self.names) - len(self.no_optimum)

    @property
    def bse(self) -> Floats:
        """Standard errors, shape (P,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def zvalues(self) -> Floats:
        """Estimates over their standard errors, shape (P,)."""
        return self.params / self.bse

    @property
    def tvalues(self) -> Floats:
        """The z-values, under the name statsmodels gives them."""
        return self.zvalues

    @property
    def pvalues(self) -> Floats:
        """Two-sided p-values of zero under the normal law, shape (P,)."""
        return np.asarray(2 * special.ndtr(-np.abs(self.zvalues)))

    def conf_int(self, alpha: float = 0.05) -> Floats:
        """Intervals of coverage 1 - alpha under the normal law, shape (P, 2)."""
        half = special.ndtri(1 - alpha / 2) * self.bse
        return np.column_stack([self.params - half, self.params + half])

    def cov_params(self) -> Floats:
        """Covariance of the estimates, shape (P, P)."""
        return self.covariance

    @property
    def df_resid(self) -> int:
        """Rows less estimated parameters."""
        return self.nobs - self.num_params

    @property
    def prsquared(self) -> float:
        """McFadden's pseudo R²: 1 - llf / llnull."""
        return 1 - self.llf / self.llnull

    @property
    def llr(self) -> float:
        """Likelihood ratio against the null model, 2 (llf - llnull)."""
        return 2 * (self.llf - self.llnull)

    @property
    def llr_pvalue(self) -> float:
        """Probability of a larger ratio under the null model; NaN if it has as many parameters."""
        df = self.num_params - self.df_null
        return float(special.chdtrc(df, self.llr)) if df > 0 else float("nan")

    @property
    def aic(self) -> float:
        """Akaike's criterion, -2 llf + 2 P."""
        return -2 * self.llf + 2 * self.num_params

    @property
    def bic(self) -> float:
        """Schwarz's criterion, -2 llf + P log N, with N the rows, whatever their weights."""
        return -2 * self.llf + self.num_params * float(np.log(self.nobs))

    def to_table(self, alpha: float = 0.05) -> pa.Table:
        """One row per coefficient: name, coef, std_err, z, p, lower, upper; NaN where there is none."""
        lower, upper = self.conf_int(alpha).T
        columns = [list(self.names), self.params, self.bse, self.zvalues, self.pvalues, lower, upper]
        return pa.table(columns, names=["name", "coef", "std_err", "z", "p", "lower", "upper"])

    def summary(self, alpha: float = 0.05) -> str:
        """A table to print."""
        return summary.text(self, alpha=alpha)

    def _asked(self, x: Any, available: ArrayLike | None) -> tuple[Any, ArrayLike | None]:
        """Variables and mask to predict with: where they are not given, those of the fit."""
        given, mask = self.data if x is None else (x, None)
        return given, mask if available is None else available

    def _finite(self) -> Floats:
        """Coefficients to predict with: absent alternatives are ruled out by the mask, whatever theirs are."""
        return np.nan_to_num(self.params, nan=0.0)

    def _sample(self, num_rows: int, available: ArrayLike | None) -> Sample:
        """Rows to predict: the present alternatives that are available."""
        mask = availability(available, shape=(num_rows, len(self.alternatives)))
        mask = mask & ~np.isin(self.alternatives, self.absent)
        empty = np.flatnonzero(~mask.any(axis=1))
        if empty.size:
            raise ModelError(
                f"row {empty[0]} has no available alternative that the model gives a probability "
                f"({empty.size} such rows); leave them out"
            )
        rows = np.arange(num_rows)
        return Sample(rows, mask.argmax(axis=1), mask, np.ones(num_rows), None)


@dataclass(frozen=True, eq=False, kw_only=True)
class MultinomialResults(ChoiceResults):
    """Estimates of a multinomial logit; coefficients run by alternative, then by variable.

    Attributes:
        base: The alternative without coefficients.
    """

    base: str

    def predict(self, X: Any = None, *, available: ArrayLike | None = None) -> Floats:  # noqa: N803
        """Probabilities of the alternatives, shape (N, J).

        Args:
            X: Variables, shape (N, K), as in the fit; None for the rows of the fit.
            available: Which alternatives each row can choose, shape (N, J); None for the mask of the fit with its rows,
                for all with others.
        """
        given, available = self._asked(X, available)
        values = table(given, self.variables, ndim=2)[0]
        free = np.flatnonzero(np.array(self.alternatives) != self.base)
        likelihood = Multinomial(values, self._sample(len(values), available), free=free)
        return likelihood.probabilities(self._finite())


@dataclass(frozen=True, eq=False, kw_only=True)
class ConditionalResults(ChoiceResults):
    """Estimates of a conditional logit, one coefficient per variable."""

    def predict(self, X: Any = None, *, available: ArrayLike | None = None) -> Floats:  # noqa: N803
        """Probabilities of the alternatives, shape (N, J).

        Args:
            X: Variables, shape (N, J, K), as in the fit; None for the rows of the fit.
            available: Which alternatives each row can choose, shape (N, J); None for the mask of the fit with its rows,
                for all with others.
        """
        given, available = self._asked(X, available)
        values = table(given, self.variables, ndim=3)[0]
        sample = self._sample(len(values), available)
        values = np.where(sample.available[:, :, None], values, 0.0)
        return Conditional(values, sample).probabilities(self._finite())


@dataclass(frozen=True, eq=False, kw_only=True)
class NestedResults(ChoiceResults):
    """Estimates of a nested logit: one coefficient per variable, then the inclusive-value parameters.

    Attributes:
        nests: Number of the nest of each alternative, shape (J,) or (N, J), as in the fit.
        nest_names: Names of the M nests.
        lambdas: Inclusive-value parameter of each nest, shape (M,); 1 where a nest never holds two alternatives.
    """

    nests: Integers
    nest_names: tuple[str, ...]
    lambdas: Floats

    def predict(
        self,
        X: Any = None,  # noqa: N803
        *,
        available: ArrayLike | None = None,
        nests: Nests | None = None,
    ) -> Floats:
        """Probabilities of the alternatives, shape (N, J).

        Args:
            X: Variables, shape (N, J, K), as in the fit; None for the rows of the fit.
            available: Which alternatives each row can choose, shape (N, J); None for the mask of the fit with its rows,
                for all with others.
            nests: Nests of these rows, needed where the nests of the fit differ between rows: alternatives by the names
                of the nests, or numbers of nests in the order of `nest_names`.

        Raises:
            ModelError: A nest that the fit did not have.
        """
        given, available = self._asked(X, available)
        values = table(given, self.variables, ndim=3)[0]
        sample = self._sample(len(values), available)
        if nests is None and X is not None and self.nests.ndim == 2:
            raise ModelError("the nests of this model differ between rows; give those of the rows to predict")
        groups = self._groups(self.nests if nests is None else nests, len(values))
        values = np.where(sample.available[:, :, None], values, 0.0)
        transform = np.zeros((len(self.nest_names), 0))
        law = Nested(values, sample, groups, transform=transform, fixed=self.lambdas)
        return law.probabilities(self._finite()[: len(self.variables)])

    def _groups(self, nests: Nests, num_rows: int) -> Integers:
        """Numbers of the nests of the fit, shape (N, J)."""
        groups, names = nest_positions(nests, self.alternatives, num_rows)
        known = self.nest_names
        if not isinstance(nests, Mapping):
            known = tuple(str(number) for number in range(len(known)))
        strange = [name for name in names if name not in known]
        if strange:
            raise ModelError(f"the fit has no nest {strange[0]!r}; its nests are {', '.join(self.nest_names)}")
        return np.array([known.index(name) for name in names])[groups]
