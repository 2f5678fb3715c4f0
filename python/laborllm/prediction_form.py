"""The form of a table of predictions: its columns and their types, and the checks that every one has passed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laborllm import prediction_titles
from laborllm.errors import PredictionsError
from laborllm.occupations import Occupations
from laborllm.prediction_titles import LOG_TOLERANCE, MASS_TOLERANCE

if TYPE_CHECKING:
    from laborllm.predictions import Predictions

LAWS = ("raw", "normalized", "masked")
TITLES = ("observed", "all")
MAJOR = 1
VERSION = f"{MAJOR}.0"
"""Version of the file's form, not of the package; a newer major one is refused."""
WHOLE_LAW_LIMIT = 2 * 2**30
"""Bytes of `log_p_all` (float32, N x J) above which it is refused."""

_STATE = pa.dictionary(pa.int32(), pa.large_string())
_REQUIRED = ("dataset", "worker_id", "year", "previous", "occupation", "log_p")
_OPTIONAL: dict[str, Any] = {
    "log_p_raw": pa.float64(),
    "log_p_previous": pa.float64(),
    "title_mass": pa.float64(),
    "n_rows_dropped": pa.int32(),
}


def check_whole_law_size(rows: int, titles: int) -> None:
    """Refuse a whole law of `rows` x `titles` float32 above `WHOLE_LAW_LIMIT`; to be asked before it is computed."""
    size = 4 * rows * titles
    if size > WHOLE_LAW_LIMIT:
        raise PredictionsError(
            f"log_p_all of {rows} transitions x {titles} titles takes {size / 2**30:.1f} GiB, more than "
            f"{WHOLE_LAW_LIMIT / 2**30:g} GiB; leave it out, score titles='observed', or split the panel"
        )


def checked_metadata(metadata: Mapping[str, Any], occupations: Occupations) -> dict[str, Any]:
    """Check model, law and titles, and fill in what is absent."""
    if not isinstance(metadata, Mapping):
        raise PredictionsError("the metadata of the predictions is no mapping; give model, law and titles")
    model = metadata.get("model")
    if not isinstance(model, str) or not model:
        raise PredictionsError(f"the predictions name no model ({model!r}); give model= a name")
    for name, known in (("law", LAWS), ("titles", TITLES)):
        if metadata.get(name) not in known:
            raise PredictionsError(
                f"unknown {name} {metadata.get(name)!r} of {model!r}; choose from {', '.join(known)}"
            )
    stated = metadata.get("occupations_hash", occupations.hash)
    if stated != occupations.hash:
        raise PredictionsError(
            f"the occupations beside {model!r} hash to {occupations.hash[:12]}, its metadata says {str(stated)[:12]}; "
            "score the panel anew"
        )
    defaults: dict[str, Any] = {"kind": None, "covariates": [], "template_hash": None, "model_hash": None, "seed": None}
    defaults |= {"dtype": None, "shard": None}
    return defaults | dict(metadata) | {"occupations_hash": occupations.hash, "version": VERSION}


def canonical(table: pa.Table, occupations: Occupations) -> pa.Table:
    """Bring every contract column to its type; dictionaries of states get the J titles in order."""
    missing = [name for name in _REQUIRED if name not in table.column_names]
    if missing:
        raise PredictionsError(
            f"predictions without the column {missing[0]!r}; present are {', '.join(table.column_names)}"
        )
    table = table.replace_schema_metadata(None)
    columns: dict[str, Any] = {}
    for name in (*_REQUIRED, *_OPTIONAL, *table.column_names):
        if name in columns:
            continue
        if name not in table.column_names:
            columns[name] = pa.nulls(table.num_rows, _OPTIONAL[name])
        elif name in {"previous", "occupation"}:
            columns[name] = _encoded(table, name, occupations)
        elif name in prediction_titles.COLUMNS:
            columns[name] = prediction_titles.canonical(table[name], name, occupations)
        else:
            columns[name] = _cast(table, name, occupations)
    return pa.table(columns).combine_chunks()


def _cast(table: pa.Table, name: str, occupations: Occupations) -> pa.ChunkedArray[Any]:
    column: Any = table[name]
    target: Any
    if name == "worker_id":
        target = _id_type(column.type)
    elif name == "log_p_all":
        given = column.type.list_size if pa.types.is_fixed_size_list(column.type) else None
        if given != len(occupations):
            raise PredictionsError(
                f"log_p_all holds {given or column.type} for {len(occupations)} titles; give one number per title"
            )
        target = pa.list_(pa.float32(), len(occupations))
    else:
        fixed: dict[str, Any] = {"dataset": pa.large_string(), "year": pa.int32(), "log_p": pa.float64()}
        target = (_OPTIONAL | fixed).get(name, column.type)
    if name in _REQUIRED:
        _check_filled(column, name)
    try:
        column = column if column.type == target else column.cast(target)
    except pa.ArrowException as error:
        detail = " ".join(str(error).split())
        raise PredictionsError(f"the column {name!r} is no {target} ({detail}); write it as {target}") from error
    done: pa.ChunkedArray[Any] = column.dictionary_encode().cast(_STATE) if name == "dataset" else column
    return done


def _check_filled(column: pa.ChunkedArray[Any], name: str) -> None:
    if column.null_count:
        raise PredictionsError(f"the column {name!r} is null in row {_first(column.is_null())}; every row needs one")


def _id_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(kind):
        return pa.uint64() if kind == pa.uint64() else pa.int64()
    if _is_string(kind.value_type if pa.types.is_dictionary(kind) else kind):
        return pa.large_string()
    raise PredictionsError(f"the column 'worker_id' is {kind}; write ids as integers or strings")


def _encoded(table: pa.Table, name: str, occupations: Occupations) -> pa.Array[Any]:
    titles = table[name]
    if not (pa.types.is_dictionary(titles.type) or _is_string(titles.type) or pa.types.is_null(titles.type)):
        raise PredictionsError(f"the column {name!r} is {titles.type}; write titles as strings or a dictionary of them")
    if name == "occupation":
        _check_filled(titles, name)
    titles = titles.cast(pa.large_string())
    index: Any = pc.index_in(titles, value_set=occupations.dictionary)
    lost = np.asarray(index.is_null()) & np.asarray(titles.is_valid())
    if lost.any():
        row = int(lost.argmax())
        raise PredictionsError(
            f"{name} {titles[row].as_py()!r} of {where(table, row)} (row {row}) is none of the {len(occupations)} "
            "titles; give the list of occupations that was scored"
        )
    indices = index.combine_chunks().cast(pa.int32())
    return pa.DictionaryArray.from_arrays(indices, occupations.dictionary)


def check_keys(predictions: Predictions) -> None:
    """Refuse a worker and year that stands twice."""
    order = np.lexsort((predictions.year, predictions.worker))
    worker, year = predictions.worker[order], predictions.year[order]
    repeated = np.flatnonzero((worker[1:] == worker[:-1]) & (year[1:] == year[:-1]))
    if repeated.size:
        rows = sorted((int(order[repeated[0]]), int(order[repeated[0] + 1])))
        raise PredictionsError(
            f"two predictions for {predictions.where(rows[0])} (rows {rows[0]} and {rows[1]}); keep one of them"
        )


def check_numbers(predictions: Predictions) -> None:
    """Refuse NaN, positive logs, masses outside [0, 1], and columns that are filled in part."""
    first = predictions.first
    for name in ("log_p", "log_p_raw", "log_p_previous", "title_mass"):
        column = predictions.table[name]
        values, null = predictions._numpy(name), np.asarray(column.is_null())
        if name == "log_p_previous" and not null[first].all():
            row = int(np.flatnonzero(first & ~null)[0])
            raise PredictionsError(
                f"log_p_previous of {predictions.where(row)} (row {row}) has no previous title; leave it null"
            )
        needed = ~first if name == "log_p_previous" else np.ones(len(first), bool)
        if (null & needed).any() and not null[needed].all():
            row = int(np.flatnonzero(null & needed)[0])
            raise PredictionsError(
                f"{name} of {predictions.where(row)} (row {row}) is null while other rows have it; fill all or none"
            )
        low, high = (0.0, 1 + MASS_TOLERANCE) if name == "title_mass" else (-np.inf, LOG_TOLERANCE)
        bad = ~null & ~((values >= low) & (values <= high))
        if bad.any():
            row = int(bad.argmax())
            hint = "a sum of probabilities is in [0, 1]" if name == "title_mass" else "give natural logs, at most 0"
            raise PredictionsError(
                f"{name} of {predictions.where(row)} is {values[row]:.6g} (row {row}, {int(bad.sum())} of "
                f"{len(bad)} rows); {hint}"
            )


def check_whole_law(predictions: Predictions) -> None:
    """Refuse a law over titles that exceeds one (or, unless it is raw, misses one)."""
    if "log_p_all" not in predictions.table.column_names:
        return
    check_whole_law_size(len(predictions), len(predictions.occupations))
    if predictions.table["log_p_all"].null_count:
        raise PredictionsError(f"log_p_all is null in row {_first(predictions.table['log_p_all'].is_null())}; fill it")
    law = np.asarray(predictions.log_p_all)
    for start in range(0, len(law), 4096):
        mass = np.exp(law[start : start + 4096].astype(np.float64)).sum(axis=1)
        lowest = 0.0 if predictions.law == "raw" else 1 - MASS_TOLERANCE
        bad = ~((mass >= lowest) & (mass <= 1 + MASS_TOLERANCE))
        if bad.any():
            row = start + int(bad.argmax())
            raise PredictionsError(
                f"the {predictions.law} law of {predictions.where(row)} (row {row}) sums to {mass[bad.argmax()]:.6g} "
                "over the titles; pass natural log-probabilities, not logits"
            )


def check_titles(predictions: Predictions) -> None:
    """Refuse what `log_p_of` and `top` cannot hold."""
    found = [
        prediction_titles.fault_of_titles(predictions.log_p_of(title), title) for title in predictions.named_titles
    ]
    if predictions.top is not None:
        found.append(prediction_titles.fault_of_top(predictions.top))
    for fault in found:
        if fault is not None:
            raise PredictionsError(f"{predictions.where(fault[0])} (row {fault[0]}): {fault[1]}")


def states(index: np.ndarray, occupations: Occupations) -> pa.Array[Any]:
    """Indices of states, negative for null, as a dictionary of the J titles."""
    index = np.asarray(index)
    indices: Any = pa.array(index.astype(np.int32), mask=index < 0)
    return pa.DictionaryArray.from_arrays(indices, occupations.dictionary)


def floats(values: np.ndarray | None, *, length: int = 0, absent: np.ndarray | None = None) -> pa.Array[Any]:
    """Numbers as a float64 column, null where `absent`; nulls alone where there are none."""
    if values is None:
        return pa.nulls(length, pa.float64())
    return pa.array(np.asarray(values, np.float64), mask=absent, from_pandas=False)


def whole_law(law: np.ndarray, *, rows: int, occupations: Occupations) -> pa.Array[Any]:
    """The whole law, (N, J), as a fixed-size list of float32."""
    if law.shape != (rows, len(occupations)):
        raise PredictionsError(
            f"log_p_all has shape {law.shape}; {rows} transitions over {len(occupations)} titles need "
            f"({rows}, {len(occupations)})"
        )
    check_whole_law_size(*law.shape)
    flat = pa.array(np.ascontiguousarray(law, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, len(occupations))


def indices(column: pa.ChunkedArray[Any]) -> np.ndarray:
    """The indices of a dictionary column, int32, -1 for null."""
    chunk: Any = column.combine_chunks()
    return np.asarray(chunk.indices.fill_null(-1)).astype(np.int32)


def where(table: pa.Table, row: int) -> str:
    """Name a row for a message: its worker, its dataset if tagged, its year."""
    dataset, worker, year = (table[name][row].as_py() for name in ("dataset", "worker_id", "year"))
    tag = f" of {dataset!r}" if dataset else ""
    return f"worker {worker!r}{tag} in {year}"


def _first(mask: pa.ChunkedArray[Any]) -> int:
    return int(np.asarray(mask).argmax())


def _is_string(kind: pa.DataType) -> bool:
    known: bool = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return known
