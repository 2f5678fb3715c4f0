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

from laborllm import prediction_form as form
from laborllm import prediction_titles
from laborllm.errors import OccupationsError, PredictionsError
from laborllm.files import metadata_entry, read_parquet, with_metadata, write_parquet
from laborllm.occupations import Occupations
from laborllm.prediction_titles import Top
from laborllm.prediction_union import files_of, union

if TYPE_CHECKING:
    from laborllm.panel import Panel, Transitions


class Predictions:
    """A checked table of predictions, N rows, over the J titles of `occupations`.

    Attributes:
        table: Columns `dataset`, `worker_id`, `year`, `previous` (null on first rows), `occupation`, `log_p` (natural
            log of what the law in the metadata gave to what happened), `log_p_raw`, `log_p_previous`, `title_mass`
            (null where not computed), `n_rows_dropped`, and further columns as they came. On request `log_p_all`
            (the whole law, J float32 a row), `log_p_of` (a struct: one float64 under the law for each further title
            that was named) and `top` (a list of K structs, the best title first: `title`, its `log_p` under the raw
            law, or the masked one where that is the law, `lower` and `upper` bound of its normalized, or masked,
            probability, and whether they are `exact`). A log-probability may be -inf: that of the impossible.
        occupations: The J states, in the order of every dictionary and of `log_p_all`.
        metadata: model, kind, law (raw, normalized or masked), titles (observed or all), covariates, template_hash,
            model_hash, occupations_hash, version, seed, dtype (of the weights), shard ([i, n] or null); JSON values
            only.

    Raises:
        PredictionsError: A column is missing or of the wrong type, a state is unknown, a worker and year stand twice,
            a log-probability is NaN or above 0, a law over titles exceeds 1 (under `normalized` and `masked` also:
            misses 1), a bound is no probability or above the other, a column is filled in part; the message names
            the first such row.
    """

    def __init__(self, table: pa.Table, *, occupations: Occupations, metadata: Mapping[str, Any]) -> None:
        self.occupations = occupations
        self.metadata = form.checked_metadata(metadata, occupations)
        self.table = form.canonical(table, occupations)
        form.check_keys(self)
        form.check_numbers(self)
        form.check_whole_law(self)
        form.check_titles(self)

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
        log_p_of: Mapping[int, np.ndarray] | None = None,
        top: Top | None = None,
        covariates: Sequence[str] = (),
        template_hash: str | None = None,
        model_hash: str | None = None,
        seed: int | None = None,
        kind: str | None = None,
        dtype: str | None = None,
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
            log_p_of: Natural logs under `law` of further titles: index of the title → shape (N,).
            top: The most probable titles of each row.
            covariates: Names of the columns the model saw.
            template_hash: Of the bound template, for models of text.
            model_hash: Of the fitted model.
            seed: Of the fit.
            kind: The kind of estimator, as in its model directory.
            dtype: Of the model's weights while it scored.
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
        columns["previous"] = form.states(transitions.previous, panel.occupations)
        columns["occupation"] = form.states(transitions.occupation, panel.occupations)
        columns["log_p"] = form.floats(log_p)
        columns["log_p_raw"] = form.floats(
            log_p if log_p_raw is None and law == "raw" else log_p_raw, length=len(first)
        )
        columns["log_p_previous"] = form.floats(log_p_previous, length=len(first), absent=first)
        columns["title_mass"] = form.floats(title_mass, length=len(first))
        if n_rows_dropped is not None:
            columns["n_rows_dropped"] = pa.array(np.asarray(n_rows_dropped, np.int32))
        if log_p_all is not None:
            columns["log_p_all"] = form.whole_law(log_p_all, rows=len(first), occupations=panel.occupations)
        if log_p_of:
            columns["log_p_of"] = prediction_titles.of_titles(log_p_of, panel.occupations, rows=len(first))
        if top is not None:
            columns["top"] = prediction_titles.of_top(top, panel.occupations, rows=len(first))
        metadata = {
            "model": model,
            "kind": kind,
            "law": law,
            "titles": titles,
            "covariates": list(covariates),
            "template_hash": template_hash,
            "model_hash": model_hash,
            "seed": seed,
            "dtype": dtype,
        }
        return cls(pa.table(columns), occupations=panel.occupations, metadata=metadata)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read what `write` wrote; the occupations come with the file.

        Args:
            path: A file, or a folder: the files in it that end in .parquet are put together, in the order of panels.

        Raises:
            FileError: The file does not exist, is no Parquet file or is damaged; the folder holds none.
            PredictionsError: It holds no predictions, a newer major version, or breaks the contract; files of a folder
                differ in metadata, hold one worker and year twice, or lack a shard.
        """
        if Path(path).is_dir():
            files = files_of(path)
            return union([cls.read(file) for file in files], [file.name for file in files], source=str(path))
        table = read_parquet(path)
        stated = metadata_entry(table.schema, "predictions")
        states = metadata_entry(table.schema, "occupations")
        version = metadata_entry(table.schema, "version") or form.VERSION
        if stated is None or states is None:
            raise PredictionsError(f"{path} holds no predictions; make them with laborllm score or Predictions.write")
        if not _readable(version):
            raise PredictionsError(
                f"{path} has version {version}, this package reads up to {form.MAJOR}.x; install a newer laborllm"
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
            "version": form.VERSION,
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
        return form.indices(self.table["occupation"])

    @cached_property
    def previous(self) -> np.ndarray:
        """Index of the title of the row before, int32 (N,), -1 on first rows."""
        return form.indices(self.table["previous"])

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

    @property
    def named_titles(self) -> list[str]:
        """The titles that `log_p_of` knows."""
        kind: Any = self.table.schema.field("log_p_of").type if "log_p_of" in self.table.column_names else ()
        return [field.name for field in kind]

    def log_p_of(self, title: str) -> np.ndarray:
        """Natural log of the probability of a further title that was named when the rows were scored, shape (N,).

        Raises:
            PredictionsError: It was not named.
        """
        if title not in self.named_titles:
            raise PredictionsError(
                f"the predictions of {self.model!r} hold no log P of {title!r} (of: {', '.join(self.named_titles)}); "
                "score with --also"
            )
        column: Any = self.table["log_p_of"].combine_chunks()
        return np.asarray(column.field(title))

    @cached_property
    def top(self) -> Top | None:
        """The most probable titles of each row, None where they were not asked for."""
        return prediction_titles.read_top(self.table["top"]) if "top" in self.table.column_names else None

    @cached_property
    def worker(self) -> np.ndarray:
        """Index of the key (dataset, worker_id) in order of appearance, int64 (N,), 0 to W - 1."""
        if not len(self):
            return np.zeros(0, np.int64)
        datasets = form.indices(self.table["dataset"]).astype(np.int64)
        ids = form.indices(self.table["worker_id"].dictionary_encode()).astype(np.int64)
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
        return form.where(self.table, row)

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


def _readable(version: str) -> bool:
    major = version.split(".", maxsplit=1)[0]
    return major.isdigit() and int(major) <= form.MAJOR


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
