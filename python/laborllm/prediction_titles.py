"""The columns of predictions that name titles: `log_p_of` some of them, and the `top` ones of each row.

`log_p_of` is a struct with one float64 field per named title. `top` is a list of K structs a row, the best first:
`title` (a dictionary of the J titles in order), `log_p`, `lower`, `upper` (float64) and `exact`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laborllm.errors import PredictionsError
from laborllm.occupations import Occupations

COLUMNS = ("log_p_of", "top")
FIELDS = ("title", "log_p", "lower", "upper", "exact")
LOG_TOLERANCE = 1e-6
"""A log-probability may exceed 0 by this much: the rounding of a log-softmax."""
MASS_TOLERANCE = 1e-4
"""A row of a law over titles may miss or exceed 1 by this much: J float32 roundings."""


@dataclass(frozen=True, eq=False)
class Top:
    """The K most probable titles of N rows, the best first; all arrays have shape (N, K).

    Attributes:
        titles: Indices, int in [0, J), no title twice in a row.
        log_p: Natural log under the `raw` law (under `masked` where the predictions are masked), never rising.
        lower, upper: What the `normalized` probability lies between (the `masked` one, where that is the law).
        exact: Whether the bounds meet.
    """

    titles: np.ndarray
    log_p: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    exact: np.ndarray

    @classmethod
    def of_law(cls, log_p: np.ndarray, log_mass: np.ndarray | float, *, count: int) -> Self:
        """The best of a whole law.

        Args:
            log_p: Natural logs, (N, J); titles of equal probability come in the order of the list.
            log_mass: Log of what each row sums to, (N,), or of all of them.
            count: K; all J titles where there are fewer.
        """
        titles = np.argsort(-log_p, axis=1, kind="stable")[:, :count]
        best = np.take_along_axis(log_p, titles, axis=1)
        share = np.exp(best - np.reshape(log_mass, (-1, 1)))
        return cls(titles.astype(np.int32), best, share, share, np.ones(best.shape, bool))

    @classmethod
    def of_rows(cls, rows: int, count: int) -> Self:
        """Room for `rows` rows of `count` titles, to be filled."""
        shape = (rows, count)
        log_p, lower, upper = np.full((3, *shape), np.nan)
        return cls(np.zeros(shape, np.int32), log_p, lower, upper, np.zeros(shape, bool))

    def take(self, rows: np.ndarray) -> Self:
        """Some rows, in this order."""
        return type(self)(*(values[rows] for values in self._arrays()))

    def put(self, rows: np.ndarray, other: Top) -> None:
        """Fill rows with those of another."""
        for mine, theirs in zip(self._arrays(), other._arrays(), strict=True):
            mine[rows] = theirs

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.titles, self.log_p, self.lower, self.upper, self.exact


def named(titles: Sequence[str | int], occupations: Occupations) -> list[int]:
    """Indices of titles given as such or as indices, each once.

    Raises:
        OccupationsError: A title that is not on the list; the nearest ones are named.
        PredictionsError: An index outside of it.
    """
    indices = [occupations.index(title) if isinstance(title, str) else int(title) for title in titles]
    if bad := [index for index in indices if not 0 <= index < len(occupations)]:
        raise PredictionsError(f"there is no title {bad[0]} among {len(occupations)}; count from 0, or give its words")
    return list(dict.fromkeys(indices))


def of_titles(log_p: Mapping[int, np.ndarray], occupations: Occupations, *, rows: int) -> pa.Array[Any]:
    """The column `log_p_of`, from natural logs (rows,) of some titles."""
    for title, values in log_p.items():
        if np.shape(values) != (rows,):
            raise PredictionsError(
                f"log_p_of {occupations.titles[title]!r} has shape {np.shape(values)}; give one number for each of "
                f"{rows} rows"
            )
    columns = [pa.array(np.asarray(values, np.float64), from_pandas=False) for values in log_p.values()]
    return pa.StructArray.from_arrays(columns, [occupations.titles[title] for title in log_p])


def of_top(top: Top, occupations: Occupations, *, rows: int) -> pa.Array[Any]:
    """The column `top`."""
    shapes = {np.shape(values) for values in top._arrays()}
    if len(shapes) > 1 or len(top.titles) != rows or top.titles.ndim != 2:
        raise PredictionsError(f"the arrays of top have the shapes {sorted(shapes)}; give {rows} rows of K each")
    if top.titles.size and not (top.titles.min() >= 0 and top.titles.max() < len(occupations)):
        raise PredictionsError(f"top names a title outside [0, {len(occupations)}); give indices of the occupations")
    flat = pa.DictionaryArray.from_arrays(pa.array(top.titles.ravel().astype(np.int32)), occupations.dictionary)
    lengths = np.full(rows, top.titles.shape[1])
    return _lists(lengths, flat, [values.ravel() for values in top._arrays()[1:]])


def _lists(lengths: np.ndarray, titles: pa.Array[Any], numbers: Sequence[Any]) -> pa.Array[Any]:
    fields = [pa.array(values, pa.float64(), from_pandas=False) for values in numbers[:3]]
    structs = pa.StructArray.from_arrays([titles, *fields, pa.array(numbers[3], pa.bool_())], list(FIELDS))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, structs)


def canonical(column: pa.ChunkedArray[Any], name: str, occupations: Occupations) -> pa.Array[Any]:
    """Bring one of the two columns to its type.

    Raises:
        PredictionsError: It has another form, a null, or a title that is not on the list.
    """
    kind = column.type
    fits = pa.types.is_struct(kind) if name == "log_p_of" else _is_list_of_structs(kind)
    if not fits:
        raise PredictionsError(f"the column {name!r} is {kind}; write what laborllm score --also or --top writes")
    values = pc.list_flatten(column) if name == "top" else column
    names = [values.type.field(k).name for k in range(values.type.num_fields)]
    numbers = {field: pc.struct_field(values, field) for field in names}
    nulls = [field for field, one in numbers.items() if one.null_count]
    if column.null_count or nulls:
        raise PredictionsError(f"the column {name!r} holds nulls; every row needs {nulls[0] if nulls else 'one'}")
    if name == "top":
        return _canonical_top(np.asarray(pc.list_value_length(column)), numbers, occupations)
    for title in names:
        if title not in occupations.titles:
            raise PredictionsError(f"log_p_of names {title!r}, none of the {len(occupations)} titles; drop it")
    return pa.StructArray.from_arrays([_floats(one, name) for one in numbers.values()], names)


def _canonical_top(lengths: np.ndarray, fields: dict[str, Any], occupations: Occupations) -> pa.Array[Any]:
    if tuple(fields) != FIELDS:
        raise PredictionsError(f"top holds {', '.join(fields)}; it needs {', '.join(FIELDS)}")
    if len(set(lengths.tolist())) > 1:
        row = int(np.flatnonzero(lengths != lengths[0])[0])
        raise PredictionsError(f"top holds {lengths[row]} titles in row {row}, {lengths[0]} in row 0; give K in each")
    titles = fields["title"].cast(pa.large_string())
    index = pc.index_in(titles, value_set=occupations.dictionary).combine_chunks()
    if index.null_count:
        lost = titles[int(np.asarray(index.is_null()).argmax())].as_py()
        raise PredictionsError(f"top names {lost!r}, none of the {len(occupations)} titles; score the panel anew")
    flat = pa.DictionaryArray.from_arrays(index.cast(pa.int32()), occupations.dictionary)
    numbers = [_floats(fields[field], "top").to_numpy() for field in FIELDS[1:4]]
    exact = fields["exact"].combine_chunks()
    if not pa.types.is_boolean(exact.type):
        raise PredictionsError(f"exact of top is {exact.type}; write booleans")
    return _lists(lengths, flat, [*numbers, exact.to_numpy(zero_copy_only=False)])


def _floats(column: pa.ChunkedArray[Any], name: str) -> pa.Array[Any]:
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise PredictionsError(f"the column {name!r} holds {column.type} where it needs float64")
    done: pa.Array[Any] = column.cast(pa.float64()).combine_chunks()
    return done


def _is_list_of_structs(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and pa.types.is_struct(kind.value_type))


def read_top(column: pa.ChunkedArray[Any]) -> Top:
    """The arrays of a canonical column `top`."""
    lists: Any = column.combine_chunks()
    flat = lists.flatten()
    shape = (len(lists), len(flat) // max(1, len(lists)))
    log_p, lower, upper = (np.asarray(flat.field(name)).reshape(shape) for name in FIELDS[1:4])
    exact = flat.field("exact").to_numpy(zero_copy_only=False).reshape(shape)
    return Top(np.asarray(flat.field("title").indices).reshape(shape), log_p, lower, upper, exact)


def fault_of_titles(log_p: np.ndarray, title: str) -> tuple[int, str] | None:
    """The first row in which a number of `log_p_of` cannot be, and what is wrong with it."""
    bad = ~(log_p <= LOG_TOLERANCE)
    if not bad.any():
        return None
    row = int(bad.argmax())
    return row, f"log_p_of {title!r} is {log_p[row]:.6g}; give natural logs, at most 0"


def fault_of_top(top: Top) -> tuple[int, str] | None:
    """The first row in which `top` cannot be, and what is wrong with it."""
    with np.errstate(invalid="ignore"):
        rising = (np.diff(top.log_p, axis=1, prepend=top.log_p[:, :1]) > 0).any(axis=1)
    ordered = np.sort(top.titles, axis=1)
    faults = {
        "a log_p that is NaN or above 0; give natural logs": ~(top.log_p <= LOG_TOLERANCE).all(axis=1),
        "titles that are not the best first; sort them by log_p": rising,
        "one title twice": (ordered[:, 1:] == ordered[:, :-1]).any(axis=1),
        "a bound outside [0, 1]": ~((top.lower >= 0) & (top.upper <= 1 + MASS_TOLERANCE)).all(axis=1),
        "a lower bound above the upper one": ~(top.lower <= top.upper * (1 + 1e-6)).all(axis=1),
    }
    for what, bad in faults.items():
        if bad.any():
            return int(bad.argmax()), f"top holds {what}"
    return None
