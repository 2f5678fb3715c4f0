"""What every estimator returns: the probability it gave to what happened, one row per transition.

A count table and a 13B model end in the same `Predictions`; evaluation and reports know nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laborllm.errors import OccupationsError, PredictionsError
from laborllm.files import metadata_entry, read_parquet, with_metadata, write_parquet
from laborllm.occupations import Occupations

if TYPE_CHECKING:
    from laborllm.panel import Panel, Transitions

LAWS = ("raw", "normalized", "masked")
TITLES = ("observed", "all")
FORMAT_MAJOR = 1
FORMAT_VERSION = f"{FORMAT_MAJOR}.0"
"""Version of the file's form, not of the package; a newer major one is refused."""
WHOLE_LAW_LIMIT = 2 * 2**30
"""Bytes of `log_p_all` (float32, N x J) above which it is refused."""

LOG_TOLERANCE = 1e-6
"""A log-probability may exceed 0 by this much: the rounding of a log-softmax."""
MASS_TOLERANCE = 1e-4
"""A row of a law over titles may miss or exceed 1 by this much: J float32 roundings."""

_STATE = pa.dictionary(pa.int32(), pa.large_string())
_REQUIRED = ("dataset", "worker_id", "year", "previous", "occupation", "log_p")
_OPTIONAL: dict[str, Any] = {
    "log_p_raw": pa.float64(),
    "log_p_previous": pa.float64(),
    "title_mass": pa.float64(),
    "n_rows_dropped": pa.int32(),
}


class Predictions:
    """A checked table of predictions, N rows, over the J titles of `occupations`.

    Attributes:
        table: Columns `dataset`, `worker_id`, `year`, `previous` (null on first rows), `occupation`, `log_p` (natural
            log of what the law in the metadata gave to what happened), `log_p_raw`, `log_p_previous`, `title_mass`
            (null where not computed), `n_rows_dropped`, perhaps `log_p_all` (the whole law, J float32 a row), and
            further columns as they came.
        occupations: The J states, in the order of every dictionary and of `log_p_all`.
        metadata: model, kind, law (raw, normalized or masked), titles (observed or all), covariates, template_hash,
            model_hash, occupations_hash, version, seed; JSON values only.

    Raises:
        PredictionsError: A column is missing or of the wrong type, a state is unknown, a worker and year stand twice,
            a log-probability is NaN or above 0, a law over titles exceeds 1 (under `normalized` and `masked` also:
            misses 1), a column is filled in part; the message names the first such row.
    """

    def __init__(self, table: pa.Table, *, occupations: Occupations, metadata: Mapping[str, Any]) -> None:
        self.occupations = occupations
        self.metadata = _checked_metadata(metadata, occupations)
        self.table = _canonical(table, occupations)
        _check_keys(self)
        _check_numbers(self)
        _check_whole_law(self)

    @classmethod
    def from_transitions(  # one argument per column, or the caller would build the table
        cls,
        panel: Panel,
        transitions: Transitions,
        *,
        model: str,
        law: str,
        titles: str,
        log_p: np.ndarray,
        log_p_raw: np.ndarray | None = None,
        log_p_previous: np.ndarray | None = None,
        title_mass: np.ndarray | None = None,
        log_p_all: np.ndarray | None = None,
        n_rows_dropped: np.ndarray | None = None,
        covariates: Sequence[str] = (),
        template_hash: str | None = None,
        model_hash: str | None = None,
        seed: int | None = None,
        kind: str | None = None,
    ) -> Self:
        """Put the numbers of an estimator beside the transitions they are about.

        Args:
            panel: The panel whose transitions were predicted.
            transitions: `panel.transitions()`, N of them.
            model: The name under which tables and pages show the numbers.
            law: raw, normalized or masked: what `log_p`, `log_p_previous` and `log_p_all` are.
            titles: "all" where the whole law was computed, else "observed".
            log_p: Natural log of the probability of what happened, shape (N,).
            log_p_raw: The same under the raw law, shape (N,); taken from `log_p` where `law` is raw.
            log_p_previous: Of the title of the row before, shape (N,); what it holds on first rows is dropped.
            title_mass: Sum of the raw law over the J titles, shape (N,).
            log_p_all: The whole law, shape (N, J), stored as float32.
            n_rows_dropped: Rows of history that did not fit the window, shape (N,).
            covariates: Names of the columns the model saw.
            template_hash: Of the bound template, for models of text.
            model_hash: Of the fitted model.
            seed: Of the fit.
            kind: The kind of estimator, as in its model directory.
        """
        shapes = {"log_p": log_p, "log_p_raw": log_p_raw, "log_p_previous": log_p_previous}
        shapes |= {"title_mass": title_mass, "n_rows_dropped": n_rows_dropped}
        for name, values in shapes.items():
            if values is not None and np.shape(values) != (len(transitions),):
                raise PredictionsError(
                    f"{name} has shape {np.shape(values)}; give one number for each of {len(transitions)} transitions"
                )
        keys = panel.table.select(["dataset", "worker_id"]).take(pa.array(transitions.row))
        first = np.asarray(transitions.previous) < 0
        columns: dict[str, Any] = {name: keys[name] for name in keys.column_names}
        columns["year"] = pa.array(np.asarray(transitions.year, np.int32))
        columns["previous"] = _states(transitions.previous, panel.occupations)
        columns["occupation"] = _states(transitions.occupation, panel.occupations)
        columns["log_p"] = _floats(log_p)
        columns["log_p_raw"] = _floats(log_p if log_p_raw is None and law == "raw" else log_p_raw, length=len(first))
        columns["log_p_previous"] = _floats(log_p_previous, length=len(first), absent=first)
        columns["title_mass"] = _floats(title_mass, length=len(first))
        if n_rows_dropped is not None:
            columns["n_rows_dropped"] = pa.array(np.asarray(n_rows_dropped, np.int32))
        if log_p_all is not None:
            columns["log_p_all"] = _whole_law(log_p_all, rows=len(first), occupations=panel.occupations)
        metadata = {
            "model": model,
            "kind": kind,
            "law": law,
            "titles": titles,
            "covariates": list(covariates),
            "template_hash": template_hash,
            "model_hash": model_hash,
            "seed": seed,
        }
        return cls(pa.table(columns), occupations=panel.occupations, metadata=metadata)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read what `write` wrote; the occupations come with the file.

        Raises:
            FileError: The file does not exist, is no Parquet file or is damaged.
            PredictionsError: It holds no predictions, a newer major version, or breaks the contract.
        """
        table = read_parquet(path)
        stated = metadata_entry(table.schema, "predictions")
        states = metadata_entry(table.schema, "occupations")
        version = metadata_entry(table.schema, "version") or FORMAT_VERSION
        if stated is None or states is None:
            raise PredictionsError(f"{path} holds no predictions; make them with laborllm score or Predictions.write")
        if not _readable(version):
            raise PredictionsError(
                f"{path} has version {version}, this package reads up to {FORMAT_MAJOR}.x; install a newer laborllm"
            )
        try:
            metadata, occupations = json.loads(stated), Occupations.from_json(states)
        except (ValueError, TypeError, OccupationsError) as error:
            raise PredictionsError(f"the metadata of {path} cannot be read ({error}); score the panel anew") from error
        try:
            return cls(table, occupations=occupations, metadata=metadata)
        except PredictionsError as error:
            raise PredictionsError(f"{path}: {error}") from error

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write Parquet in one atomic step; a file of that name is refused unless `overwrite`."""
        entries = {
            "predictions": json.dumps(self.metadata, ensure_ascii=False),
            "occupations": self.occupations.to_json(),
            "version": FORMAT_VERSION,
        }
        schema = with_metadata(self.table.schema, entries)
        write_parquet(self.table.replace_schema_metadata(schema.metadata), path, overwrite=overwrite)

    def __len__(self) -> int:
        """N, the number of predicted transitions."""
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return f"Predictions({self.model!r}, law={self.law!r}, transitions={len(self)}, workers={self.num_workers})"

    @property
    def model(self) -> str:
        """The name of the model."""
        return str(self.metadata["model"])

    @property
    def law(self) -> str:
        """Which of the three laws the log-probabilities belong to: raw, normalized or masked."""
        return str(self.metadata["law"])

    @cached_property
    def log_p(self) -> np.ndarray:
        """Natural log of the probability of what happened, shape (N,)."""
        return self._numpy("log_p")

    @cached_property
    def log_p_raw(self) -> np.ndarray:
        """The same under the raw law, shape (N,), NaN where there is none."""
        return self._numpy("log_p_raw")

    @cached_property
    def log_p_previous(self) -> np.ndarray:
        """Natural log of the probability of the previous title, shape (N,), NaN on first rows or if not computed."""
        return self._numpy("log_p_previous")

    @cached_property
    def title_mass(self) -> np.ndarray:
        """Sum of the raw law over the J titles, shape (N,), NaN where not computed."""
        return self._numpy("title_mass")

    @cached_property
    def year(self) -> np.ndarray:
        """Year of the predicted row, int32 (N,)."""
        return self._numpy("year")

    @cached_property
    def observed(self) -> np.ndarray:
        """Index of the title that happened, int32 (N,)."""
        return _indices(self.table["occupation"])

    @cached_property
    def previous(self) -> np.ndarray:
        """Index of the title of the row before, int32 (N,), -1 on first rows."""
        return _indices(self.table["previous"])

    @property
    def first(self) -> np.ndarray:
        """Rows without a history, bool (N,)."""
        return np.asarray(self.previous < 0)

    @property
    def stay(self) -> np.ndarray:
        """Rows in the state of the row before, bool (N,); first rows neither stay nor move."""
        return np.asarray(self.previous == self.observed)

    @property
    def move(self) -> np.ndarray:
        """Rows in another state than the row before, bool (N,)."""
        return np.asarray(~self.first & ~self.stay)

    @cached_property
    def log_p_all(self) -> np.ndarray | None:
        """The whole law, float32 (N, J), None where it was not kept."""
        if "log_p_all" not in self.table.column_names:
            return None
        lists: Any = self.table["log_p_all"].combine_chunks()
        flat: np.ndarray = np.asarray(lists.flatten())
        return flat.reshape(len(self), len(self.occupations))

    @cached_property
    def worker(self) -> np.ndarray:
        """Index of the key (dataset, worker_id) in order of appearance, int64 (N,), 0 to W - 1."""
        if not len(self):
            return np.zeros(0, np.int64)
        datasets = _indices(self.table["dataset"]).astype(np.int64)
        ids = _indices(self.table["worker_id"].dictionary_encode()).astype(np.int64)
        _, first, inverse = np.unique(datasets * (ids.max() + 1) + ids, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        return rank[inverse]

    @cached_property
    def num_workers(self) -> int:
        """W, the number of distinct (dataset, worker_id)."""
        return int(self.worker.max()) + 1 if len(self) else 0

    def where(self, row: int) -> str:
        """Name a row for a message: its worker, its dataset if tagged, its year."""
        return _where(self.table, row)

    def _numpy(self, name: str) -> np.ndarray:
        return np.asarray(self.table[name].combine_chunks().to_numpy(zero_copy_only=False))


def check_comparable(first: Predictions, second: Predictions) -> None:
    """Refuse two sets of predictions that are not about the same transitions, row by row.

    Template and model hashes may differ: they are shown, not compared.

    Raises:
        PredictionsError: The lists of occupations differ, or a row differs in dataset, worker_id, year, previous or
            occupation; the message names the first such row.
    """
    if first.occupations.hash != second.occupations.hash:
        raise PredictionsError(
            f"{first.model!r} and {second.model!r} were predicted over different lists of occupations "
            f"({first.occupations.hash[:12]}, {second.occupations.hash[:12]}); score both with one list"
        )
    shared = min(len(first), len(second))
    differs = np.zeros(shared, bool)
    for name in ("dataset", "worker_id"):
        differs |= _differs(first.table[name].slice(0, shared), second.table[name].slice(0, shared))
    for name in ("year", "previous", "observed"):
        differs |= getattr(first, name)[:shared] != getattr(second, name)[:shared]
    if differs.any():
        row = int(differs.argmax())
        raise PredictionsError(
            f"row {row} of {first.model!r} is {_transition(first, row)}, of {second.model!r} "
            f"{_transition(second, row)}; score both models on the same rows of one panel"
        )
    if len(first) != len(second):
        longer, shorter = (first, second) if len(first) > len(second) else (second, first)
        raise PredictionsError(
            f"{longer.model!r} has {len(longer)} transitions, {shorter.model!r} {len(shorter)}: {longer.where(shared)} "
            f"(row {shared}) is missing in the latter; score both models on the same rows of one panel"
        )


def check_whole_law_size(rows: int, titles: int) -> None:
    """Refuse a whole law of `rows` x `titles` float32 above `WHOLE_LAW_LIMIT`; to be asked before it is computed."""
    size = 4 * rows * titles
    if size > WHOLE_LAW_LIMIT:
        raise PredictionsError(
            f"log_p_all of {rows} transitions x {titles} titles takes {size / 2**30:.1f} GiB, more than "
            f"{WHOLE_LAW_LIMIT / 2**30:g} GiB; leave it out, score titles='observed', or split the panel"
        )


def _readable(version: str) -> bool:
    major = version.split(".", maxsplit=1)[0]
    return major.isdigit() and int(major) <= FORMAT_MAJOR


def _checked_metadata(metadata: Mapping[str, Any], occupations: Occupations) -> dict[str, Any]:
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
    return defaults | dict(metadata) | {"occupations_hash": occupations.hash, "version": FORMAT_VERSION}


def _canonical(table: pa.Table, occupations: Occupations) -> pa.Table:
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
            f"{name} {titles[row].as_py()!r} of {_where(table, row)} (row {row}) is none of the {len(occupations)} "
            "titles; give the list of occupations that was scored"
        )
    indices = index.combine_chunks().cast(pa.int32())
    return pa.DictionaryArray.from_arrays(indices, occupations.dictionary)


def _check_keys(predictions: Predictions) -> None:
    order = np.lexsort((predictions.year, predictions.worker))
    worker, year = predictions.worker[order], predictions.year[order]
    repeated = np.flatnonzero((worker[1:] == worker[:-1]) & (year[1:] == year[:-1]))
    if repeated.size:
        rows = sorted((int(order[repeated[0]]), int(order[repeated[0] + 1])))
        raise PredictionsError(
            f"two predictions for {predictions.where(rows[0])} (rows {rows[0]} and {rows[1]}); keep one of them"
        )


def _check_numbers(predictions: Predictions) -> None:
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


def _check_whole_law(predictions: Predictions) -> None:
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


def _states(index: np.ndarray, occupations: Occupations) -> pa.Array[Any]:
    index = np.asarray(index)
    indices: Any = pa.array(index.astype(np.int32), mask=index < 0)
    return pa.DictionaryArray.from_arrays(indices, occupations.dictionary)


def _floats(values: np.ndarray | None, *, length: int = 0, absent: np.ndarray | None = None) -> pa.Array[Any]:
    if values is None:
        return pa.nulls(length, pa.float64())
    return pa.array(np.asarray(values, np.float64), mask=absent, from_pandas=False)


def _whole_law(law: np.ndarray, *, rows: int, occupations: Occupations) -> pa.Array[Any]:
    if law.shape != (rows, len(occupations)):
        raise PredictionsError(
            f"log_p_all has shape {law.shape}; {rows} transitions over {len(occupations)} titles need "
            f"({rows}, {len(occupations)})"
        )
    check_whole_law_size(*law.shape)
    flat = pa.array(np.ascontiguousarray(law, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, len(occupations))


def _indices(column: pa.ChunkedArray[Any]) -> np.ndarray:
    chunk: Any = column.combine_chunks()
    return np.asarray(chunk.indices.fill_null(-1)).astype(np.int32)


def _differs(first: pa.ChunkedArray[Any], second: pa.ChunkedArray[Any]) -> np.ndarray:
    if first.type != second.type and pa.large_string() in (first.type, second.type):
        return np.ones(len(first), bool)  # the worker 7 and the worker "7" are two workers
    if first.type != second.type or pa.types.is_dictionary(first.type):
        first, second = first.cast(pa.large_string()), second.cast(pa.large_string())
    return np.asarray(pc.not_equal(first, second))


def _transition(predictions: Predictions, row: int) -> str:
    titles = predictions.occupations.titles
    previous = predictions.previous[row]
    return (
        f"{predictions.where(row)} from {titles[previous]!r} to {titles[predictions.observed[row]]!r}"
        if previous >= 0
        else f"{predictions.where(row)} (first row) to {titles[predictions.observed[row]]!r}"
    )


def _where(table: pa.Table, row: int) -> str:
    dataset, worker, year = (table[name][row].as_py() for name in ("dataset", "worker_id", "year"))
    tag = f" of {dataset!r}" if dataset else ""
    return f"worker {worker!r}{tag} in {year}"


def _first(mask: pa.ChunkedArray[Any]) -> int:
    return int(np.asarray(mask).argmax())


def _is_string(kind: pa.DataType) -> bool:
    known: bool = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return known
