"""Panels: one row per worker and observed year, checked once and in one order ever after."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laborllm import _core
from laborllm.errors import PanelError
from laborllm.files import read_table
from laborllm.occupations import Occupations


@dataclass(frozen=True)
class PanelReport:
    """What was counted while a panel was checked."""

    rows_in: int
    rows_out: int
    dropped: dict[str, int] = field(default_factory=dict)
    """Rows dropped on request, by reason; rows_in = rows_out + their sum."""
    changed: dict[str, int] = field(default_factory=dict)
    """Workers in whom a text column other than education and split changes, by column."""
    education_falls: int = 0
    """Rows in which a level of education returns that the worker had already left."""

    def sentence(self) -> str | None:
        """Say in one line what a reader of the panel should know, None where all is plain."""
        parts = [f"{count} rows dropped ({reason})" for reason, count in self.dropped.items()]
        parts += [
            f"{name} changes within {count} workers (a header shows that of the first row)"
            for name, count in self.changed.items()
        ]
        if self.education_falls:
            parts.append(f"education returns to a level already left in {self.education_falls} rows")
        return "panel: " + "; ".join(parts) if parts else None


@dataclass(frozen=True)
class Transitions:
    """(history → next observed row), one entry per row to be predicted, in panel order; all arrays have shape (N,)."""

    row: np.ndarray
    """Row of the panel, int64."""
    worker: np.ndarray
    """Worker, int64 in [0, W)."""
    previous: np.ndarray
    """State in the row before, int32 in [0, J); -1 on first rows."""
    occupation: np.ndarray
    """State that occurred, int32 in [0, J)."""
    year: np.ndarray
    """Year in which it occurred, int32."""
    gap: np.ndarray
    """Years since the row before, int32; 0 on first rows."""
    position: np.ndarray
    """Row number within the worker, int32, counted from 0."""

    def __len__(self) -> int:
        """N, the number of transitions."""
        return len(self.row)

    @property
    def first(self) -> np.ndarray:
        """True on first rows, whose history is empty."""
        first: np.ndarray = self.previous < 0
        return first


@dataclass(frozen=True, eq=False)
class Panel:
    """A checked panel in memory; made by `from_arrow` or `read`, never by hand.

    Rows ascend by dataset (bytewise), worker_id (integers by value, text bytewise) and year, whatever the order they
    came in. A worker is a pair (dataset, worker_id) everywhere.
    """

    table: pa.Table
    """`dataset`, `worker_id`, `year`, `occupation` (a dictionary of the J titles in order), then all other columns."""
    occupations: Occupations
    report: PanelReport
    targets: np.ndarray
    """Rows to be predicted or fitted on, bool (N,); the others are history."""
    starts: np.ndarray
    """First row of each worker, then N, int64 (W + 1,)."""
    complete: np.ndarray
    """Whether a worker's last row here is the last that was observed, bool (W,)."""

    @classmethod
    def from_arrow(
        cls,
        data: Any,
        *,
        occupations: Occupations,
        dataset: str | None = None,
        columns: Mapping[str, str] | None = None,
        drop_null_occupations: bool = False,
    ) -> Self:
        """Check anything that speaks the Arrow PyCapsule interface: pyarrow, polars, pandas, DuckDB, arro3.

        Args:
            data: Rows in any order, with `worker_id` (any integer or text), `year` (any integer), `occupation` (text is
                a title, integers are codes) and any further columns. Empty text is null.
            occupations: The closed list of states.
            dataset: The survey's tag, where no column `dataset` gives it.
            columns: Canonical name → name in the data.
            drop_null_occupations: Drop and count such rows instead of refusing them.

        Raises:
            PanelError: A missing column, a null id or year, two rows for one worker and year, a state outside the list,
                a null occupation, a gender, race or birth year that changes; rows are named as they came, from 0.
        """
        batches, starts, (rows_in, dropped, changed, falls) = _core.check_panel(
            _as_table(data),
            codes=occupations.codes,
            titles=occupations.titles,
            dataset=dataset,
            columns=list((columns or {}).items()),
            drop_null_occupations=drop_null_occupations,
        )
        table = pa.table(batches)
        reasons = {"null occupation": dropped} if dropped else {}
        return cls(
            table=table,
            occupations=occupations,
            report=PanelReport(rows_in, table.num_rows, reasons, changed, falls),
            targets=np.ones(table.num_rows, bool),
            starts=pa.array(starts).to_numpy(),
            complete=np.ones(len(starts) - 1, bool),
        )

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        occupations: Occupations,
        dataset: str | None = None,
        columns: Mapping[str, str] | None = None,
        drop_null_occupations: bool = False,
    ) -> Self:
        """Check a Parquet, Arrow IPC or CSV file; see `from_arrow`."""
        return cls.from_arrow(
            read_table(path),
            occupations=occupations,
            dataset=dataset,
            columns=columns,
            drop_null_occupations=drop_null_occupations,
        )

    def __repr__(self) -> str:
        return f"Panel({self.num_workers} workers, {self.num_rows} rows, {len(self.occupations)} titles)"

    @property
    def num_rows(self) -> int:
        """N, the number of rows, history included."""
        return int(self.table.num_rows)

    @property
    def num_workers(self) -> int:
        """W, the number of workers."""
        return len(self.starts) - 1

    @property
    def datasets(self) -> list[str]:
        """Tags that occur, ascending bytewise; [""] where no tag is known."""
        return sorted(map(str, pc.unique(self.column("dataset")).to_pylist()), key=str.encode)

    def column(self, name: str) -> pa.Array[Any]:
        """One column as one array, shape (N,)."""
        if name not in self.table.column_names:
            raise PanelError(f"the panel has no column {name!r}; present are {', '.join(self.table.column_names)}")
        chunks = self.table[name].chunks
        return chunks[0] if chunks else pa.array([], self.table.schema.field(name).type)

    def states(self) -> np.ndarray:
        """State of every row, int32 (N,), the index in [0, J)."""
        column: Any = self.column("occupation")
        states: np.ndarray = column.indices.to_numpy()
        return states

    def years(self) -> np.ndarray:
        """Year of every row, int32 (N,)."""
        years: np.ndarray = self.column("year").to_numpy()
        return years

    def workers(self) -> np.ndarray:
        """Worker of every row, int64 (N,), in [0, W)."""
        return np.repeat(np.arange(self.num_workers), np.diff(self.starts))

    def transitions(self) -> Transitions:
        """Give the transitions into the rows to be predicted; the first row of a worker has an empty history."""
        row = np.flatnonzero(self.targets)
        worker, states, years = self.workers()[row], self.states(), self.years()
        position = row - self.starts[worker]
        before = np.where(position > 0, row - 1, row)
        return Transitions(
            row=row,
            worker=worker,
            previous=np.where(position > 0, states[before], -1).astype(np.int32),
            occupation=states[row],
            year=years[row],
            gap=years[row] - years[before],
            position=position.astype(np.int32),
        )

    def part(self, split: str) -> Panel:
        """Choose the rows to be predicted by the column `split`; the history of those rows stays.

        Rows after a worker's last row to be predicted are dropped, and workers without any.

        Raises:
            PanelError: No column `split`, or no such row.
        """
        if "split" not in self.table.column_names:
            raise PanelError("the panel has no column 'split'; make one with laborllm split (Panel.with_split)")
        values = np.array(self.column("split").to_pylist(), object)
        targets = self.targets & (values == split)
        if not targets.any():
            counts = Counter(value for value in values if value is not None)
            found = ", ".join(f"{name!r} ({count} rows)" for name, count in counts.items()) or "nothing"
            raise PanelError(f"the split {split!r} has no row to be predicted; the column 'split' holds {found}")
        rows = np.arange(self.num_rows)
        last = np.maximum.reduceat(np.where(targets, rows, -1), self.starts[:-1])
        return self._keep(rows <= last[self.workers()], targets)

    def refuse_held_out_rows(self) -> None:
        """Refuse rows of the split `test` among those to be fitted on, and of `val` and `test` in their history.

        Raises:
            PanelError: There is such a row, as where the whole panel was given, or where rows and not workers or years
                were divided; the worker is named.
        """
        if "split" not in self.table.column_names:
            return
        split = self.column("split").cast(pa.large_string())
        test, val = (
            pc.is_in(split, pa.array([name], pa.large_string())).to_numpy(zero_copy_only=False)
            for name in ("test", "val")
        )
        if len(bad := np.flatnonzero(self.targets & test)):
            worker = self.column("worker_id")[int(bad[0])].as_py()
            raise PanelError(
                f"worker {worker} has a row of the split 'test' in {self.years()[bad[0]]} among those to be fitted on "
                f"({len(bad)} such rows); give panel.part('train')"
            )
        if len(bad := np.flatnonzero(~self.targets & (test | val))):
            worker = self.column("worker_id")[int(bad[0])].as_py()
            raise PanelError(
                f"worker {worker} has a held-out row in {self.years()[bad[0]]} before a row to be fitted on; split by "
                "worker (laborllm split) or by year"
            )

    def with_split(self, fractions: Mapping[str, float], *, seed: int = 0, unit: str = "worker_id") -> Panel:
        """Add or replace the column `split`, drawn by worker (or by the value of the column `unit`).

        The draw is the first 64 bits (big-endian, over 2**64) of blake2b(`split:<seed>:<dataset>:<id as text>`,
        digest_size=8) against the cumulated fractions: neither the order of rows nor the type of ids matters.

        Args:
            fractions: Name of each split → its share; the shares sum to 1.
            seed: Another seed, another draw.
            unit: `worker_id`, or a column that is constant within workers, such as a family's id.

        Raises:
            PanelError: Shares that are negative or do not sum to 1, a unit that is absent, null or changes in a worker.
        """
        names, shares = list(fractions), list(fractions.values())
        if not names or not min(shares) >= 0 or not abs(sum(shares) - 1) <= 1e-9:
            raise PanelError(
                f"the shares {dict(fractions)} do not sum to 1 or one is negative; give one share per split"
            )
        limits = list(accumulate(shares))[:-1]
        parts = np.searchsorted(limits, self._draws(f"split:{seed}", unit) / 2**64, side="right").astype(np.int32)
        codes = np.repeat(parts, np.diff(self.starts))
        column = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names, pa.large_string()))
        if "split" in self.table.column_names:
            table = self.table.set_column(self.table.column_names.index("split"), "split", column)
        else:
            table = self.table.append_column("split", column)
        return replace(self, table=table)

    def row_weights(self, rows: np.ndarray) -> np.ndarray:
        """The column `weight` of these rows, float64, in their order.

        Raises:
            PanelError: No such column, one without numbers, or a weight that is null, infinite or negative.
        """
        column = self.column("weight")
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise PanelError(f"the column 'weight' holds {column.type}; cast it to numbers")
        weights: np.ndarray = column.cast(pa.float64()).to_numpy(zero_copy_only=False)[rows]
        bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        if bad.size:
            row = int(rows[bad[0]])
            worker, year = (self.column(name)[row].as_py() for name in ("worker_id", "year"))
            raise PanelError(
                f"the weight of worker {worker} in {year} (row {row}) is {weights[bad[0]]} ({bad.size} such rows); "
                "weights are numbers from zero up, null is none"
            )
        return weights

    def with_targets(self, targets: np.ndarray) -> Panel:
        """Choose the rows to be predicted, bool (N,); every row stays."""
        if targets.shape != (self.num_rows,) or targets.dtype != bool:
            raise PanelError(
                f"targets are {targets.dtype} {targets.shape}; give one boolean for each of {self.num_rows} rows"
            )
        return replace(self, targets=targets)

    def shard(self, index: int, count: int) -> Panel:
        """Keep the workers of one of `count` shards, by blake2b of `shard:<dataset>:<id as text>` modulo `count`."""
        if not 0 <= index < count:
            raise PanelError(f"there is no shard {index} of {count}; shards are 0 to {count - 1}")
        chosen = self._draws("shard", "worker_id") % np.uint64(count) == index
        return self._keep(np.repeat(chosen, np.diff(self.starts)), self.targets)

    def slice_workers(self, start: int, stop: int) -> Panel:
        """Keep the workers [start, stop), without a copy."""
        start, stop, _ = slice(start, stop).indices(self.num_workers)
        stop = max(start, stop)
        first, last = int(self.starts[start]), int(self.starts[stop])
        return replace(
            self,
            table=self.table.slice(first, last - first),
            targets=self.targets[first:last],
            starts=self.starts[start : stop + 1] - first,
            complete=self.complete[start:stop],
        )

    def _draws(self, tag: str, unit: str) -> np.ndarray:
        """One 64-bit hash per worker of tag, dataset and unit, uint64 (W,)."""
        if unit == "worker_id":
            keys = self.table.select(["dataset", "worker_id"]).combine_chunks()
            draws: np.ndarray = pa.array(_core.draws(keys, pa.array(self.starts), tag)).to_numpy()
            return draws
        heads = pa.array(self.starts[:-1])
        column = self.column(unit)
        values = np.array(column.to_pylist(), object)
        missing = np.array([value is None for value in values])
        bad = np.flatnonzero(missing | (values != values[self.starts[:-1]][self.workers()]))
        if len(bad):
            worker = self.column("worker_id")[int(bad[0])].as_py()
            raise PanelError(f"the unit {unit!r} is null or changes in worker {worker}; it must be one per worker")
        datasets = self.column("dataset").take(heads).to_pylist()
        units = column.take(heads).to_pylist()
        texts = (f"{tag}:{dataset}:{one}".encode() for dataset, one in zip(datasets, units, strict=True))
        hashes = (hashlib.blake2b(text, digest_size=8).digest() for text in texts)
        return np.array([int.from_bytes(one, "big") for one in hashes], np.uint64)

    def _keep(self, rows: np.ndarray, targets: np.ndarray) -> Panel:
        """Keep rows (bool, (N,)) that are a beginning of each worker's rows, or none of them."""
        kept = np.add.reduceat(rows.astype(np.int64), self.starts[:-1]) if self.num_workers else np.zeros(0, np.int64)
        workers = kept > 0
        table = self.table if rows.all() else self.table.filter(pa.array(rows)).combine_chunks()
        return replace(
            self,
            table=table,
            targets=targets[rows],
            starts=np.concatenate([[0], np.cumsum(kept[workers])]),
            complete=(self.complete & (kept == np.diff(self.starts)))[workers],
        )


def _as_table(data: Any) -> pa.Table:
    if isinstance(data, pa.Table):
        return data
    if not (hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")):
        raise PanelError(
            f"a panel cannot be read from {type(data).__name__}; give an Arrow table, a polars or pandas data frame, "
            "or anything else with __arrow_c_stream__ (a lazy frame: collect it first)"
        )
    try:
        return pa.table(data)
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise PanelError(
            f"the rows of this {type(data).__name__} cannot be read as Arrow ({reason}); cast the column"
        ) from error
