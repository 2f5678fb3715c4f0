"""Panels larger than memory: checked parts of whole workers, ascending, from any rows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from typing import Any, Self

import numpy as np
import pyarrow as pa

from laborllm import _core
from laborllm.errors import LaborLLMError, PanelError
from laborllm.occupations import Occupations
from laborllm.panel import Panel, PanelReport
from laborllm.sources import Source, source_of
from laborllm.spill import ROW, all_missing, in_order, ranges, renumbered

CHECKED = ("dataset", "worker_id", "year", "occupation", "gender", "race", "birth_year")
"""Columns that are read whoever asks: without them a panel is not checked."""
PIECE_ROWS = 1 << 17
"""Rows of a panel in a stream, about; no worker is cut."""
PART_ROWS = 1 << 20
"""Rows of a part that is printed at once, where a panel is in memory anyway."""
COPIES = 3
"""A check holds its input, codes of it, and its output."""


class PanelStream:
    """A panel that is read part by part, each of whole workers, in ascending order; made by `read`.

    The parts together are the rows of `Panel.from_arrow` over the same rows, whatever batches, files or order those
    came in. Files and tables may be read again and again, a stream of batches once.
    """

    def __init__(
        self,
        source: Source,
        *,
        occupations: Occupations,
        dataset: str | None,
        columns: Mapping[str, str],
        drop_null_occupations: bool,
        shard: tuple[int, int] | None,
        memory: int,
    ) -> None:
        self.occupations = occupations
        self._source, self._columns, self._shard, self._memory = source, dict(columns), shard, memory
        self._dataset, self._drop = dataset, drop_null_occupations
        self._read = False
        self._broken: BaseException | None = None
        self._pieces: _core.Pieces | None = None
        self._done = PanelReport(0, 0)
        self._handed = 0
        self.schema: pa.Schema = pa.schema(self.empty().schema)
        """Names and types of every panel."""

    @classmethod
    def read(
        cls,
        source: Any,
        *,
        occupations: Occupations,
        dataset: str | None = None,
        columns: Mapping[str, str] | None = None,
        drop_null_occupations: bool = False,
        shard: tuple[int, int] | None = None,
        memory: int | None = None,
    ) -> Self:
        """Look at rows without reading them yet.

        Args:
            source: Files (a path or several: Parquet, Arrow IPC or CSV) or a table of pyarrow, polars, pandas, DuckDB
                or arro3, with rows in any order; or a stream such as `pa.RecordBatchReader`, whose datasets and ids
                must not fall. Anything with a length is a table, and is held in memory.
            occupations: The closed list of states.
            dataset: The survey's tag, where no column `dataset` gives it.
            columns: Canonical name → name in the data.
            drop_null_occupations: Drop and count such rows instead of refusing them.
            shard: (i, n): only the workers of shard i of n, see `Panel.shard`.
            memory: Bytes that files out of order may take to be sorted; beyond, they are sorted on disk. A quarter of
                the machine's by default. What they take is estimated as three times rows × bytes per row, those being
                the width in Arrow or the uncompressed size in Parquet, whichever is more.

        Raises:
            PanelError: A missing column, an id that is neither integer nor text, a shard that does not exist.
            FileError: A file that is absent or cannot be read.
        """
        if shard is not None and not 0 <= shard[0] < shard[1]:
            raise PanelError(f"there is no shard {shard[0]} of {shard[1]}; shards are 0 to {shard[1] - 1}")
        return cls(
            source_of(source),
            occupations=occupations,
            dataset=dataset,
            columns=columns or {},
            drop_null_occupations=drop_null_occupations,
            shard=shard,
            memory=_quarter_of_memory() if memory is None else memory,
        )

    def __repr__(self) -> str:
        rows = "rows of unknown number" if self.rows is None else f"{self.rows} rows"
        return f"PanelStream({rows}, {len(self.occupations)} titles)"

    @property
    def column_names(self) -> list[str]:
        """Names of a panel's columns, for a template to be bound to."""
        return list(self.schema.names)

    @property
    def rows(self) -> int | None:
        """Input rows in all, None where only the end will tell."""
        return self._source.rows

    @property
    def rows_read(self) -> int:
        """Input rows so far: those of the parts handed out and the few that are being checked."""
        return self._handed if self._pieces is None else self._pieces.report[0]

    @property
    def report(self) -> PanelReport:
        """What was counted so far, in the columns that were read; complete once the last part is out."""
        return self._done if self._pieces is None else _report(self._pieces.report)

    def panels(self) -> Iterator[Panel]:
        """Give the panel's parts, each a Panel of whole workers; `report` of each counts its rows alone.

        Raises:
            PanelError: What `Panel.from_arrow` refuses, rows counted over all input; a stream that falls, or that was
                read before.
        """
        return self._panels(self.parts())

    def _panels(self, parts: Iterator[Panel | _core.Pieces]) -> Iterator[Panel]:
        with self.naming_the_break():
            for part in parts:
                if isinstance(part, Panel):
                    yield from _sliced(part, PIECE_ROWS)
                else:
                    yield from (self._panel_of(pa.table(batch), pa.array(starts).to_numpy()) for batch, starts in part)

    def _panel_of(self, table: pa.Table, starts: np.ndarray) -> Panel:
        return Panel(
            table=table,
            occupations=self.occupations,
            report=PanelReport(table.num_rows, table.num_rows),
            targets=np.ones(table.num_rows, bool),
            starts=starts,
            complete=np.ones(len(starts) - 1, bool),
        )

    def parts(self, columns: Collection[str] | None = None) -> Iterator[Panel | _core.Pieces]:
        """Give the panel as the core reads it fastest: one stream of pieces, or panels where rows had to be sorted.

        Args:
            columns: Canonical names of the columns wanted; those that are checked come too. All by default.
        """
        if self._read and not self._source.again:
            raise PanelError(
                "these rows came as a stream that can be read once, and it was read before; make the stream anew, or "
                "pass a table or a file"
            )
        self._read, self._broken, self._pieces, self._handed, self._done = True, None, None, 0, PanelReport(0, 0)
        return self._parts(self._names(columns))

    def empty(self) -> _core.Pieces:
        """The stream without its rows, for the schema of what becomes of them."""
        return self._open(pa.RecordBatchReader.from_batches(self._source.schema, iter(())))

    @contextmanager
    def naming_the_break(self) -> Iterator[None]:
        """Around the reading of `parts`: say in one line why the rows stopped to come, where that is what happened."""
        try:
            yield
        except PanelError as error:
            if self._broken is None:
                raise
            if isinstance(self._broken, LaborLLMError) or not isinstance(self._broken, Exception):
                raise self._broken from None
            where, reason = str(error).split(":", maxsplit=1)[0], " ".join(str(self._broken).split())
            raise PanelError(f"{where}: {type(self._broken).__name__}: {reason}") from self._broken

    def _watched(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        """The same batches; keeps what was raised meanwhile, Ctrl-C too: Arrow passes on the text of a traceback."""
        try:
            yield from reader
        except BaseException as error:
            self._broken = error
            raise

    def _names(self, columns: Collection[str] | None) -> list[str]:
        if columns is None:
            return list(self._source.schema.names)
        wanted = {self._columns.get(name, name) for name in {*columns, *CHECKED}}
        return [name for name in self._source.schema.names if name in wanted]

    def _parts(self, names: list[str]) -> Iterator[Panel | _core.Pieces]:
        source = self._source
        if not source.again or in_order(source, self._columns):
            reader = source.reader(names)
            watched = pa.RecordBatchReader.from_batches(reader.schema, self._watched(reader))
            self._pieces = self._open(watched, shard=self._shard)
            yield self._pieces
            return
        need = COPIES * source.size(names)
        if need <= self._memory:
            yield from self._handed_out(self._panel(source.reader(names).read_all()))
            return
        with ranges(source, names, self._columns, ceil(need / max(self._memory, 1))) as tables:
            for table in tables:
                if panel := self._range(table):
                    yield from self._handed_out(panel)
                self._handed = self._done.rows_in
        if not self._done.rows_out:
            raise PanelError(
                f"the panel has no rows ({self._handed} came in, {self._handed} were dropped for a null occupation); "
                "check the file and its filters"
            )

    def _handed_out(self, panel: Panel) -> Iterator[Panel]:
        """A checked panel's shard, part by part."""
        before, self._done = self._done, _sum(self._done, panel.report)
        chosen = panel if self._shard is None else panel.shard(*self._shard)
        rows = 0
        for part in _sliced(chosen, PART_ROWS):
            yield part
            rows += part.num_rows
            self._handed = before.rows_in + panel.report.rows_in * rows // chosen.num_rows
        self._handed = self._done.rows_in

    def _range(self, table: pa.Table) -> Panel | None:
        """Check one range from disk; None where all its rows are dropped."""
        rows = table[ROW]
        table = table.drop_columns([ROW])
        if self._drop and all_missing(table[self._columns.get("occupation", "occupation")]):
            dropped = {"null occupation": table.num_rows}
            self._done = _sum(self._done, PanelReport(table.num_rows, 0, dropped))
            return None
        try:
            return self._panel(table)
        except PanelError as error:
            raise PanelError(renumbered(str(error), rows)) from None

    def _panel(self, table: pa.Table) -> Panel:
        return Panel.from_arrow(
            table,
            occupations=self.occupations,
            dataset=self._dataset,
            columns=self._mapped(table.column_names),
            drop_null_occupations=self._drop,
        )

    def _open(self, rows: pa.RecordBatchReader, *, shard: tuple[int, int] | None = None) -> _core.Pieces:
        return _core.Pieces(
            rows,
            codes=self.occupations.codes,
            titles=self.occupations.titles,
            dataset=self._dataset,
            columns=list(self._mapped(rows.schema.names).items()),
            drop_null_occupations=self._drop,
            shard=shard,
            piece_rows=PIECE_ROWS,
        )

    def _mapped(self, names: list[str]) -> dict[str, str]:
        """The mapping of names that were read; one of a name that the source lacks is for the core to refuse."""
        left_out = {*self._source.schema.names} - {*names}
        return {to: name for to, name in self._columns.items() if name not in left_out}


def _sliced(panel: Panel, rows: int) -> Iterator[Panel]:
    """Whole workers of about so many rows, at least one."""
    worker = 0
    while worker < panel.num_workers:
        stop = int(np.searchsorted(panel.starts, panel.starts[worker] + rows, side="right")) - 1
        stop = min(max(stop, worker + 1), panel.num_workers)
        part = panel.slice_workers(worker, stop)
        yield replace(part, report=PanelReport(part.num_rows, part.num_rows))
        worker = stop


def _report(counts: tuple[int, int, dict[str, int], int]) -> PanelReport:
    rows_in, dropped, changed, falls = counts
    return PanelReport(rows_in, rows_in - dropped, {"null occupation": dropped} if dropped else {}, changed, falls)


def _sum(one: PanelReport, other: PanelReport) -> PanelReport:
    return PanelReport(
        one.rows_in + other.rows_in,
        one.rows_out + other.rows_out,
        dict(Counter(one.dropped) + Counter(other.dropped)),
        dict(Counter(one.changed) + Counter(other.changed)),
        one.education_falls + other.education_falls,
    )


def _quarter_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
