"""Variables of rows and alternatives, laid out for conditional and nested logit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
from numpy.typing import ArrayLike, NDArray

from laborllm.errors import ModelError
from laborllm.models.logit.sample import Booleans, availability
from laborllm.models.tallies import Floats, Integers


@dataclass(frozen=True, eq=False)
class ChoiceDesign:
    """What `conditional_logit` and `nested_logit` take.

    Attributes:
        X: Variables, shape (N, J, K).
        names: Names of the K variables: "cost", "train:income", "train:(constant)".
        alternatives: Names of the J alternatives.
        available: Which alternatives each row can choose, shape (N, J).
        chosen: Position of what each row chose, shape (N,); None if the design was made without choices.
        cases: Identity of each row in the long table it came from, shape (N,); None from arrays.
        first_row: The first row of each case in that table, shape (N,), to take clusters or weights from.
    """

    X: Floats
    names: tuple[str, ...]
    alternatives: tuple[str, ...]
    available: Booleans
    chosen: Integers | None = None
    cases: NDArray[Any] | None = None
    first_row: Integers | None = None


def choice_design(
    alternatives: Sequence[str],
    *,
    generic: Mapping[str, ArrayLike] | None = None,
    individual: Mapping[str, ArrayLike] | None = None,
    specific: Mapping[str, ArrayLike] | None = None,
    available: ArrayLike | None = None,
    constants: bool = True,
    base: str | None = None,
) -> ChoiceDesign:
    """Lay out the three kinds of variables of a discrete choice (the three parts of a formula in R's mlogit).

    Args:
        alternatives: Names of the J alternatives.
        generic: Variables of rows and alternatives with one coefficient each, shape (N, J).
        individual: Variables of rows, shape (N,), with a coefficient for every alternative but the base.
        specific: Variables of rows and alternatives, shape (N, J), with a coefficient for every alternative.
        available: Shape (N, J); None for all. What is not available is stored as zero.
        constants: A constant for every alternative but the base.
        base: The alternative that constants and individual variables are measured from; None for the first.

    Returns:
        X with the columns in the order constants, generic, individual, specific; within a variable by alternative.

    Raises:
        ModelError: No variable at all, arrays of other shapes or without numbers, or a base that is no alternative.

    >>> design = choice_design(["car", "bus"], generic={"cost": [[5, 2], [4, 3]]}, individual={"income": [40, 20]})
    >>> design.names
    ('bus:(constant)', 'cost', 'bus:income')
    >>> design.X[0].tolist()
    [[0.0, 5.0, 0.0], [1.0, 2.0, 40.0]]
    """
    states = tuple(str(name) for name in alternatives)
    if base is not None and base not in states:
        raise ModelError(f"base={base!r} is none of the alternatives {', '.join(states)}")
    others = [place for place, name in enumerate(states) if name != (states[0] if base is None else base)]
    parts = [dict(part or {}) for part in (generic, individual, specific)]
    size = _num_rows([*parts[0].values(), *parts[1].values(), *parts[2].values()], available)
    shape, everywhere = (size, len(states)), range(len(states))
    mask = availability(available, shape=shape)
    columns: list[tuple[str, Floats, Sequence[int]]] = []  # name, values (N, J), where they belong
    if constants:
        one = np.broadcast_to(1.0, shape)
        columns += [(f"{states[place]}:(constant)", one, [place]) for place in others]
    for name, given in parts[0].items():
        columns.append((name, _shaped(name, given, shape), everywhere))
    for name, given in parts[1].items():
        values = np.broadcast_to(_shaped(name, given, (size,))[:, None], shape)
        columns += [(f"{states[place]}:{name}", values, [place]) for place in others]
    for name, given in parts[2].items():
        values = _shaped(name, given, shape)
        columns += [(f"{states[place]}:{name}", values, [place]) for place in everywhere]
    if not columns:
        raise ModelError("a design without constants needs a variable; give generic, individual or specific ones")
    x = np.zeros((*shape, len(columns)))
    for number, (_, values, places) in enumerate(columns):
        x[:, places, number] = values[:, places]
    x[~mask] = 0.0
    return ChoiceDesign(x, tuple(name for name, _, _ in columns), states, mask)


def long_design(
    data: Any,
    *,
    case: str,
    alternative: str,
    chosen: str,
    alternatives: Sequence[str] | None = None,
    generic: Sequence[str] = (),
    individual: Sequence[str] = (),
    specific: Sequence[str] = (),
    constants: bool = True,
    base: str | None = None,
) -> ChoiceDesign:
    """The same from a long table with a row for each case and alternative; alternatives without a row are unavailable.

    Args:
        data: A data frame (pandas, polars, pyarrow).
        case: Column that tells the choices apart.
        alternative: Column with the alternative of the row.
        chosen: Column that is true, or 1, in the row that was chosen.
        alternatives: The alternatives in order; None takes those in the table, sorted.
        generic: Columns with one coefficient each.
        individual: Columns that do not differ within a case, with a coefficient for every alternative but the base.
        specific: Columns with a coefficient for every alternative.
        constants: A constant for every alternative but the base.
        base: The alternative that constants and individual variables are measured from; None for the first.

    Returns:
        Rows in the order in which the cases first occur.

    Raises:
        ModelError: An unknown column or alternative, a null among cases or alternatives, a column without numbers; a
            case with two rows for one alternative, with no choice or with two, or with an individual variable that
            differs within it.
    """
    frame = nw.from_native(data, eager_only=True)
    _check_table(frame, [case, alternative, chosen, *generic, *individual, *specific], keys=[case, alternative])
    cases, first_row, row = _grouped(frame[case].to_numpy())
    labels = np.array([str(value) for value in frame[alternative].to_list()])
    states = tuple(str(name) for name in (np.unique(labels) if alternatives is None else alternatives))
    unknown = np.flatnonzero(~np.isin(labels, states))
    if unknown.size:
        raise ModelError(f"row {unknown[0]} has the alternative {str(labels[unknown[0]])!r}, which is none of {states}")
    place = np.argmax(labels[:, None] == np.array(states), axis=1)
    counts = np.zeros((len(cases), len(states)), np.int64)
    np.add.at(counts, (row, place), 1)
    if (counts > 1).any():
        twice = np.argwhere(counts > 1)[0]
        raise ModelError(f"case {cases[twice[0]]} has two rows for {states[twice[1]]!r}; keep one of them")
    taken = frame[chosen].to_numpy().astype(np.bool_)
    wrong = np.flatnonzero(np.bincount(row, taken, len(cases)) != 1)
    if wrong.size:
        raise ModelError(
            f"case {cases[wrong[0]]} has no chosen row, or several ({wrong.size} such cases); mark one row"
        )

    def spread(name: str) -> Floats:
        """A column of the table as (N, J), NaN where a case has no such alternative."""
        values = np.full((len(cases), len(states)), np.nan)
        values[row, place] = _numbers(name, frame[name].to_numpy())
        return values

    choice = np.zeros(len(cases), np.intp)
    choice[row[taken]] = place[taken]
    design = choice_design(
        states,
        generic={name: spread(name) for name in generic},
        individual={
            name: _of_cases(_numbers(name, frame[name].to_numpy()), name, row, first_row, cases) for name in individual
        },
        specific={name: spread(name) for name in specific},
        available=counts > 0,
        constants=constants,
        base=base,
    )
    return ChoiceDesign(design.X, design.names, states, design.available, choice, cases, first_row)


def _check_table(frame: Any, columns: Sequence[str], *, keys: Sequence[str]) -> None:
    """Refuse a table without rows, without one of the columns, or with a null among the keys."""
    for name in columns:
        if name not in frame.columns:
            raise ModelError(f"the table has no column {name!r}; it has {', '.join(frame.columns)}")
    if not len(frame):
        raise ModelError("the table has no rows; give one for each case and alternative")
    for name in keys:
        null = np.flatnonzero(frame[name].is_null().to_numpy())
        if null.size:
            raise ModelError(f"{name!r} is null in row {null[0]} ({null.size} such rows); leave the rows out")


def _grouped(values: NDArray[Any]) -> tuple[NDArray[Any], Integers, Integers]:
    """Distinct values in the order of their first occurrence, where that is, and the number of each entry's value."""
    distinct, first, number = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order))
    return distinct[order], first[order], rank[number]


def _of_cases(values: Floats, name: str, row: Integers, first_row: Integers, cases: NDArray[Any]) -> Floats:
    of_case = values[first_row]
    differs = np.flatnonzero((values != of_case[row]) & ~(np.isnan(values) & np.isnan(of_case[row])))
    if differs.size:
        raise ModelError(
            f"{name!r} differs within case {cases[row[differs[0]]]}; it is generic or specific, not individual"
        )
    return of_case


def _num_rows(variables: Sequence[ArrayLike], available: ArrayLike | None) -> int:
    arrays = [np.asarray(values) for values in ([*variables] if available is None else [*variables, available])]
    if not arrays or not arrays[0].ndim:
        raise ModelError("a design needs a variable or `available`, an array with one entry or row per choice")
    return len(arrays[0])


def _shaped(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Floats:
    array = _numbers(name, values)
    if array.shape != shape:
        raise ModelError(f"{name!r} has shape {array.shape}; for these rows and alternatives give {shape}")
    return array


def _numbers(name: str, values: ArrayLike) -> Floats:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"{name!r} holds something that is no number ({error}); encode categories as 0 and 1"
        ) from error
