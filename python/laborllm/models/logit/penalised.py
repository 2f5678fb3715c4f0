"""Multinomial logit with a ridge penalty, for as many rows and columns as prediction asks for; after scikit-learn."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from laborllm.models.logit.objective import Coordinates, Floats, Objective

MEMORY = 10
"""Steps that L-BFGS remembers."""
SEARCH = 50
"""Evaluations a line search may take."""


class MultinomialLogit(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not annotated
    """Multinomial logit whose squared coefficients are penalised: the mode under independent normal priors.

    With weights w, features x and J classes, `fit` minimises

        f(W, b) = - sum_i w_i log p(y_i | x_i) + l2/2 ||W||^2,    p(j | x) = exp(x W_j + b_j) / sum_k exp(x W_k + b_k)

    over coefficients of all J classes, by L-BFGS in coordinates that make the curvature nearly equal in all directions
    (`Coordinates`). The penalty makes the minimum unique and finite: classes that are perfectly separated are no
    problem. The coefficients of a column sum to zero over the classes; the intercepts, which are not penalised, do too.

    Standard errors are not given. The coefficients are biased towards zero by as much as the penalty says, so that
    plus or minus two standard errors would not cover the truth; J x P of them would need the inverse of a matrix of as
    many rows. For inference fit fewer columns without penalty.

    Args:
        l2: Weight of half the sum of squared coefficients, positive: coefficients have a prior variance of 1/l2. As the
            log-likelihood is a sum over rows, l2 is scikit-learn's 1/C for three classes and more; for two classes
            scikit-learn penalises the one vector that is the difference of ours, and the optimum is that of C = 2/l2.
        fit_intercept: Whether there are intercepts.
        tol: The fit ends when f is within this share of its minimum, as bounded by its gradient: f falls no lower than
            f - ||df/dW||^2 / (2 l2), by strong convexity, plus an estimate for the intercepts from their curvature.
        max_iter: Iterations at most; where they do not suffice a `ConvergenceWarning` gives the bound that was reached.
        warm_start: Begin at the last fit's coefficients if they have the same shape.

    Attributes:
        classes_: The J classes, ascending.
        coef_: W, shape (J, P), also where J is 2.
        intercept_: b, shape (J,), zero without intercepts.
        n_iter_: Iterations of L-BFGS.
        objective_: f at the solution.
        gap_: Bound of (f - minimum) / f at the solution.
        n_features_in_: P.

    >>> import numpy as np
    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> model = MultinomialLogit(l2=1.0).fit(x, ["clerk", "clerk", "cook", "cook"])
    >>> model.predict([[0.5], [2.5]]).tolist()
    ['clerk', 'cook']
    >>> model.predict_proba([[1.5]]).round(6).tolist()
    [[0.5, 0.5]]
    """

    classes_: NDArray[Any]
    coef_: Floats
    intercept_: Floats
    n_iter_: int
    objective_: float
    gap_: float

    def __init__(
        self,
        *,
        l2: float = 1.0,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        max_iter: int = 1000,
        warm_start: bool = False,
    ) -> None:
        self.l2 = l2
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start

    def __sklearn_tags__(self) -> Tags:
        """Sparse features are taken as they are."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Fit to N rows.

        Args:
            X: Features, shape (N, P), dense or sparse, without NaN; worked on in float64. Columns are penalised as they
                stand: bring them to one scale.
            y: Classes, shape (N,).
            sample_weight: From zero up, shape (N,); an integer weight is worth that many copies of its row, zero none.

        Raises:
            ValueError: l2, tol or max_iter out of range; NaN or infinity; lengths that differ; a weight that is
                negative or null; rows of positive weight in fewer than two classes.
        """
        self._check_params()
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64)  # noqa: N806
        check_classification_targets(y)
        weights = _weights(sample_weight, len(y))
        if not weights.all():
            X, y, weights = X[weights > 0], y[weights > 0], weights[weights > 0]  # noqa: N806
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"all rows of positive weight are in 1 class ({classes[0]!r}); a logit needs two or more")
        objective = Objective(_matrix(X), codes, weights, len(classes), float(self.l2), self.fit_intercept)
        start = self._start(objective)
        self.classes_ = classes
        coefficients, intercepts = self._minimise(objective, *start)
        self.coef_ = np.ascontiguousarray(coefficients.T)
        self.intercept_ = intercepts - intercepts.mean()
        return self

    def predict_log_proba(self, X: Any) -> Floats:  # noqa: N803
        """Natural-log probabilities of the classes, shape (N, J)."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)  # noqa: N806
        log_p: Floats = np.asarray(_matrix(X) @ self.coef_.T) + self.intercept_
        log_p -= log_p.max(axis=1, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
        return log_p

    def predict_proba(self, X: Any) -> Floats:  # noqa: N803
        """Probabilities of the classes, shape (N, J)."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The most probable class of each row, shape (N,)."""
        best = self.predict_log_proba(X).argmax(axis=1)
        classes: NDArray[Any] = self.classes_[best]
        return classes

    def _check_params(self) -> None:
        if not 0 < self.l2 < np.inf:
            raise ValueError(
                f"l2 is {self.l2}; give a positive number: without a penalty coefficients of rare columns are infinite"
            )
        if not self.tol > 0 or self.max_iter < 1:
            raise ValueError(f"tol is {self.tol} and max_iter {self.max_iter}; both must be positive")

    def _start(self, objective: Objective) -> tuple[Floats, Floats]:
        """The last solution where it is wanted and fits, else the shares of the classes."""
        shape = (objective.num_classes, objective.x.shape[1])
        if self.warm_start and hasattr(self, "coef_") and self.coef_.shape == shape:
            coefficients, odds = np.ascontiguousarray(self.coef_.T), self.intercept_
        else:
            coefficients, odds = np.zeros(shape[::-1]), np.log(objective.observed[1])
        return coefficients, (odds - odds.mean() if self.fit_intercept else np.zeros(objective.num_classes))

    def _minimise(self, objective: Objective, coefficients: Floats, intercepts: Floats) -> tuple[Floats, Floats]:
        """Run L-BFGS from a start, to within `tol`; sets what it reached."""
        coordinates, total = Coordinates.of(objective), objective.weights.sum()
        coefficients = coordinates.without_flat(coefficients)
        shape = (len(coordinates.scale) + 1, len(intercepts))

        def at(z: Floats) -> tuple[Floats, Floats]:
            step, shift = coordinates.parameters(z.reshape(shape))
            return coefficients + step, intercepts + shift

        def value(z: Floats) -> tuple[float, Floats]:
            f, slopes, levels = objective.at(*at(z))
            latest.update(objective=f, gap=coordinates.gap(slopes, levels, l2=objective.l2) / f)
            latest["norm"] = float(np.hypot(np.linalg.norm(slopes), np.linalg.norm(levels)))
            return f / total, coordinates.gradient(slopes, levels).ravel() / total

        def stop_when_near(_: Floats) -> None:
            if latest["gap"] <= self.tol:
                raise StopIteration

        latest: dict[str, float] = {}
        options: dict[str, float] = {"maxiter": self.max_iter, "maxfun": 10 * self.max_iter, "maxcor": MEMORY}
        options |= {"maxls": SEARCH, "ftol": float(np.finfo(float).eps), "gtol": 0.0}
        found = minimize(
            value, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", callback=stop_when_near, options=options
        )
        self.n_iter_, self.objective_, self.gap_ = int(found.nit), latest["objective"], latest["gap"]
        if self.gap_ > self.tol and found.status:
            warnings.warn(
                f"L-BFGS stopped after {self.n_iter_} iterations ({found.message}), within {self.gap_:.1e} and not "
                f"{self.tol} of the minimum; the gradient's norm is {latest['norm']:.1e}; raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=3,
            )
        return at(found.x)


def _weights(sample_weight: ArrayLike | None, num_rows: int) -> Floats:
    weights = np.ones(num_rows) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if weights.shape != (num_rows,):
        raise ValueError(f"sample_weight has shape {weights.shape}; give one number for each of {num_rows} rows")
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if bad.size:
        raise ValueError(
            f"the weight of row {bad[0]} is {weights[bad[0]]} ({bad.size} such rows); weights are numbers from zero up"
        )
    if not weights.any():
        raise ValueError("the weight of every row is zero; give at least two rows a positive one")
    return weights


def _matrix(x: Any) -> Any:
    return sparse.csr_array(x) if sparse.issparse(x) else np.asarray(x)
