"""Checked input of the choice models: arrays of one length, known alternatives, usable weights and clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import narwhals as nw
import numpy as np
from numpy.typing import ArrayLike, NDArray

from laborllm.errors import ModelError
from laborllm.models.tallies import Floats, Integers

Booleans = NDArray[np.bool_]
CovType = Literal["classical", "robust", "cluster"]

MAX_PARAMETERS = 3000
WHOLE = 2.0**53  # up to which float64 tells whole numbers apart


@dataclass(frozen=True)
class Sample:
    """N rows of positive weight, each a choice among the available ones of J alternatives.

    Attributes:
        rows: Which of the rows given these are, shape (N,).
        chosen: Position of the chosen alternative, shape (N,).
        available: Which alternatives each row could choose, shape (N, J).
        weights: Positive, shape (N,).
        clusters: Number of each row's cluster from 0 without gaps, shape (N,); None without clusters.
    """

    rows: Integers
    chosen: Integers
    available: Booleans
    weights: Floats
    clusters: Integers | None

    def never_chosen(self) -> Booleans:
        """Alternatives that no row chose, shape (J,)."""
        return np.asarray(np.bincount(self.chosen, minlength=self.available.shape[1]) == 0)


def sample(
    chosen: Integers,
    *,
    alternatives: tuple[str, ...],
    available: ArrayLike | None,
    weights: ArrayLike | None,
    clusters: ArrayLike | None,
    cov_type: CovType,
) -> Sample:
    """Check what every choice model is given beside its variables; rows of weight zero are left out.

    Raises:
        ModelError: Lengths that differ, a choice that was not available, negative or null weights, fewer than two
            clusters, clusters without cov_type "cluster" or the reverse.
    """
    size, width = len(chosen), len(alternatives)
    if width < 2 or not size:
        raise ModelError(f"a choice needs two alternatives and a row; {width} alternatives and {size} rows were given")
    mask = availability(available, shape=(size, width))
    amount = _weights(weights, size)
    refused = np.flatnonzero(~mask[np.arange(size), chosen])
    if refused.size:
        row = refused[0]
        raise ModelError(
            f"row {row} chose {alternatives[chosen[row]]!r}, which is not available there "
            f"({refused.size} such rows); mend `available` or leave the rows out"
        )
    rows = np.flatnonzero(amount > 0)
    groups = _clusters(clusters, size, rows=rows, cov_type=cov_type)
    return Sample(rows, chosen[rows], mask[rows], amount[rows], groups)


def availability(available: ArrayLike | None, *, shape: tuple[int, int]) -> Booleans:
    """The mask of alternatives, all of them where none is given.

    Raises:
        ModelError: Another shape than (N, J), or entries that are neither true nor false.
    """
    if available is None:
        return np.ones(shape, np.bool_)
    mask = np.asarray(available)
    if mask.shape != shape:
        raise ModelError(f"`available` has shape {mask.shape}; for these rows and alternatives give {shape}")
    if not np.isin(mask, (0, 1)).all():
        raise ModelError("`available` holds something that is neither true nor false; give booleans")
    return mask.astype(np.bool_)


def positions(labels: ArrayLike, alternatives: Sequence[Any] | None) -> tuple[Integers, tuple[str, ...]]:
    """Labels as positions among the alternatives.

    Args:
        labels: Shape (N,). Integers are positions where `alternatives` is given, unless those are integers too;
            anything else is a name.
        alternatives: The J alternatives in order; None takes the distinct labels, sorted.

    Returns:
        Positions, shape (N,), and the names of the J alternatives.

    Raises:
        ModelError: A null, a label that is no alternative, or names that are given twice.
    """
    values = _labels(labels, "choice")
    if alternatives is None:
        distinct, codes = np.unique(values, return_inverse=True)
        return codes, tuple(str(label) for label in distinct)
    names = tuple(str(name) for name in alternatives)
    if len(set(names)) < len(names):
        raise ModelError("an alternative is named twice; give every alternative its own name")
    if values.dtype.kind in "iu" and not _codes(alternatives):
        strange = np.flatnonzero((values < 0) | (values >= len(names)))
        codes = values.astype(np.intp)
    else:
        place = {name: position for position, name in enumerate(names)}
        codes = np.array([place.get(str(value), -1) for value in values], np.intp)
        strange = np.flatnonzero(codes < 0)
    if strange.size:
        raise ModelError(
            f"row {strange[0]} chose {values[strange[0]].item()!r}, which is none of the {len(names)} alternatives "
            f"({strange.size} such rows); integers are positions from 0 unless the alternatives are integers, anything "
            "else must be a name"
        )
    return codes, names


def table(x: Any, names: Sequence[str] | None, *, ndim: int) -> tuple[Floats, tuple[str, ...]]:
    """Variables as float64, with their names.

    Args:
        x: An array of `ndim` dimensions, variables last, or a data frame (pandas, polars, pyarrow) for two of them.
        names: Names of the K variables, in a data frame the columns to take; None takes those of the data frame, or
            x0, x1 …
        ndim: 2 or 3.

    Raises:
        ModelError: Another number of dimensions or names, a name given twice, a column that is absent or holds no
            numbers.
    """
    frame = nw.from_native(x, eager_only=True, pass_through=True)
    if isinstance(frame, nw.DataFrame):
        names = frame.columns if names is None else names
        absent = [name for name in names if name not in frame.columns]
        if absent or not names:
            raise ModelError(
                f"the data frame has no column {(absent or ['at all'])[0]!r}; give one column per variable"
            )
        x = np.column_stack([frame[name].to_numpy() for name in names])
    try:
        values = np.asarray(x, np.float64)
    except (TypeError, ValueError) as error:
        raise ModelError(f"X holds something that is no number ({error}); encode categories as 0 and 1") from error
    if values.ndim != ndim or 0 in values.shape:
        wanted = "(N, K)" if ndim == 2 else "(N, J, K)"
        raise ModelError(f"X has shape {values.shape}; give {wanted}, none of them zero")
    if names is None:
        names = [f"x{number}" for number in range(values.shape[-1])]
    if len(names) != values.shape[-1] or len(set(names)) < len(names):
        raise ModelError(
            f"{len(set(names))} distinct names for {values.shape[-1]} variables; give each variable its own"
        )
    return values, tuple(names)


def refuse_unknown(x: Floats, names: Sequence[str], *, rows: Integers, available: Booleans | None = None) -> None:
    """Refuse nulls and infinities, except where the alternative is not available.

    Args:
        x: Variables, shape (N, K) or (N, J, K).
        names: Names of the K variables.
        rows: The number of each row among those given, for the message, shape (N,).
        available: Shape (N, J), for three dimensions.

    Raises:
        ModelError: The first such place.
    """
    strange = ~np.isfinite(x)
    if available is not None:
        strange &= available[:, :, None]
    if strange.any():
        place = np.argwhere(strange)[0]
        raise ModelError(
            f"{names[place[-1]]!r} is {x[tuple(place)]} in row {rows[place[0]]} ({int(strange.sum())} such entries); "
            "leave the rows out or fill them in"
        )


def refuse_many(count: int) -> None:
    """Stop before a Hessian that does not fit.

    Raises:
        ModelError: More than 3,000 parameters.
    """
    if count > MAX_PARAMETERS:
        raise ModelError(
            f"{count:,} parameters are more than the {MAX_PARAMETERS:,} that exact standard errors are worked out for; "
            "for prediction use the penalised logit, MultinomialLogit"
        )


def same_length(size: int, **others: int) -> None:
    """Refuse arrays about different numbers of rows.

    Raises:
        ModelError: One of them differs; the message names it.
    """
    for name, other in others.items():
        if other != size:
            raise ModelError(f"{name} has {other} rows, the choices have {size}; give one row per choice")


def settled_cov_type(cov_type: CovType | None, clusters: ArrayLike | None) -> CovType:
    """What is asked for: by default clustered where clusters are given, classical elsewhere."""
    if cov_type is None:
        return "classical" if clusters is None else "cluster"
    if cov_type not in ("classical", "robust", "cluster"):
        raise ModelError(f"cov_type={cov_type!r} is unknown; choose 'classical', 'robust' or 'cluster'")
    if (cov_type == "cluster") != (clusters is not None):
        raise ModelError(
            f"cov_type={cov_type!r} {'without' if clusters is None else 'with'} clusters; "
            "clustered standard errors take both"
        )
    return cov_type


def _codes(alternatives: Sequence[Any]) -> bool:
    """Whether alternatives are integers other than their own positions."""
    codes = np.asarray(alternatives)
    return codes.dtype.kind in "iu" and not np.array_equal(codes, np.arange(len(codes)))


def _labels(labels: ArrayLike, what: str) -> NDArray[Any]:
    """Labels without nulls; floats that are whole numbers, and booleans, as integers."""
    values = np.asarray(labels)
    if values.ndim != 1:
        raise ModelError(f"the {what}s have shape {values.shape}; give one label per row, shape (N,)")
    if values.dtype.kind == "O":
        missing = np.array([value is None or value != value for value in values], np.bool_)  # noqa: PLR0124  NaN
        if not missing.any():
            values = np.array(values.tolist())
    else:
        missing = ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(len(values), np.bool_)
    if missing.any():
        raise ModelError(f"the {what} of row {np.flatnonzero(missing)[0]} is null or infinite; leave the row out")
    if values.dtype.kind == "f" and ((values == np.rint(values)) & (np.abs(values) < WHOLE)).all():
        values = values.astype(np.int64)
    return values.astype(np.int64) if values.dtype.kind == "b" else values


def _weights(weights: ArrayLike | None, size: int) -> Floats:
    if weights is None:
        return np.ones(size)
    amount = np.asarray(weights, np.float64)
    if amount.shape != (size,):
        raise ModelError(f"weights have shape {amount.shape}; give one per row, ({size},)")
    bad = np.flatnonzero(~((amount >= 0) & (amount < np.inf)))
    if bad.size:
        raise ModelError(
            f"the weight of row {bad[0]} is {amount[bad[0]]} ({bad.size} such rows); give numbers from zero up"
        )
    if not amount.any():
        raise ModelError("every weight is zero; give some row a positive one")
    return amount


def _clusters(clusters: ArrayLike | None, size: int, *, rows: Integers, cov_type: CovType) -> Integers | None:
    if cov_type != "cluster":
        return None
    labels = np.asarray(clusters)
    if labels.shape != (size,):
        raise ModelError(f"clusters have shape {labels.shape}; give one label per row, ({size},)")
    numbers = np.unique(_labels(labels, "cluster")[rows], return_inverse=True)[1]
    if numbers.max() == 0:
        raise ModelError(
            "all rows are in one cluster, from which no variance can be told; give a finer cluster, such as the worker"
        )
    return numbers
