"""Rows of files in any order: whether their workers ascend, and if not, how they are divided into ranges on disk.

A range holds all rows of the workers between two keys, in the order they came in; range after range the workers ascend.
Text is compared by code point, which is the order of its UTF-8 bytes.
"""

from __future__ import annotations

import re
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laborllm.errors import FileError, PanelError
from laborllm.sources import Source, is_text, large

ROW = "laborllm input row"
"""The column of a spilled range that holds each row's number in the input."""
SAMPLE = 100_000
"""Keys from which the bounds of ranges are drawn."""
MOST_RANGES = 500
"""Open files are limited; more ranges than these are never needed before a panel is 500 times as large as memory."""


@dataclass(frozen=True)
class Keys:
    """Who the rows of one batch are about."""

    tags: list[str]
    """Datasets that occur, ascending."""
    tag: np.ndarray
    """Position of each row's dataset in `tags`, (n,)."""
    ids: pa.Array[Any]
    """int64, uint64 or large_string, (n,)."""

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, row: int) -> tuple[str, Any]:
        """The key of one row."""
        return self.tags[self.tag[row]], self.ids[row].as_py()

    def fall(self) -> bool:
        """Whether any worker comes before that of the row above."""
        if len(self) < 2:
            return False
        earlier = pc.less(self.ids[1:], self.ids[:-1])
        if len(self.tags) == 1:
            return bool(pc.any(earlier).as_py())
        step = np.diff(self.tag)
        return bool(((step < 0) | ((step == 0) & earlier.to_numpy(zero_copy_only=False))).any())


def keys(source: Source, columns: Mapping[str, str]) -> Iterator[Keys]:
    """Read the key columns alone, batch by batch; `columns` maps canonical names.

    Raises:
        PanelError: A null key.
    """
    names = [columns.get(name, name) for name in ("worker_id", "dataset")]
    batches = source.reader([name for name in names if name in source.schema.names])
    return (part for _, part in keyed(batches, columns))


def keyed(batches: Iterable[pa.RecordBatch], columns: Mapping[str, str]) -> Iterator[tuple[pa.RecordBatch, Keys]]:
    """Read the keys of each batch that is not empty.

    Raises:
        PanelError: A null key; a dataset may be null in all rows.
    """
    row, null, known = 0, None, False
    for batch in batches:
        if not batch.num_rows:
            continue
        ids = _ids(batch[columns.get("worker_id", "worker_id")])
        if ids.null_count:
            raise _null("worker_id", row + ids.is_null().index(True).as_py())
        tags, tag = _tags(batch, columns.get("dataset", "dataset"))
        if tags[0] == "" and null is None:
            null = row + int(np.flatnonzero(tag == 0)[0])
        known = known or tags[-1] != ""
        if null is not None and known:
            raise _null("dataset", null)
        row += batch.num_rows
        yield batch, Keys(tags, tag, ids)


def in_order(source: Source, columns: Mapping[str, str]) -> bool:
    """Whether the workers ascend; reads up to the first fall."""
    last = None
    for part in keys(source, columns):
        if part.fall() or (last is not None and part.at(0) < last):
            return False
        last = part.at(len(part) - 1)
    return True


def bounds(source: Source, columns: Mapping[str, str], count: int) -> list[tuple[str, Any]]:
    """First keys of all ranges but the lowest, ascending: quantiles of a sample, fewer than `count`."""
    step = max(1, (source.rows or 0) // SAMPLE)
    sample, first = [], 0
    for part in keys(source, columns):
        sample += [part.at(row) for row in range(first, len(part), step)]
        first = (first - len(part)) % step
    sample.sort()
    return sorted({sample[len(sample) * i // count] for i in range(1, count)})


@contextmanager
def ranges(
    source: Source, names: Sequence[str], columns: Mapping[str, str], count: int
) -> Iterator[Iterator[pa.Table]]:
    """Divide the rows into about `count` ranges on disk, and give them one after the other, lowest keys first.

    The files have no names: nothing is left of them, however the process ends. They lie where `tempfile` puts them.

    Raises:
        FileError: There is no room for them.
        PanelError: A null key.
    """
    low = bounds(source, columns, min(count, MOST_RANGES))
    schema = pa.schema([*(source.schema.field(name) for name in names), pa.field(ROW, pa.int64())])
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with ExitStack() as stack:
        try:
            files = [stack.enter_context(_scratch()) for _ in range(len(low) + 1)]
            with ExitStack() as writing:
                writers = [writing.enter_context(pa.ipc.new_stream(file, schema, options=options)) for file in files]
                _divide(source, names, columns, low, writers)
            for file in files:
                file.flush()
        except OSError as error:
            raise FileError(
                f"the rows do not stand in order and could not be sorted on disk in {tempfile.gettempdir()} "
                f"({' '.join(str(error).split())}); set TMPDIR to a folder with room, or sort them before"
            ) from error
        yield _read_back(files)


@contextmanager
def _scratch() -> Iterator[Any]:
    """A file without a name, thrown away at the end: what it could not take on a full disk is no error then."""
    file = tempfile.TemporaryFile(prefix="laborllm-")  # noqa: SIM115  its closing is what may fail
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


def _read_back(files: Sequence[Any]) -> Iterator[pa.Table]:
    for file in files:
        file.seek(0)
        with pa.ipc.open_stream(file) as stream:
            table = stream.read_all()
        file.close()
        if table.num_rows:
            yield table


def _divide(
    source: Source,
    names: Sequence[str],
    columns: Mapping[str, str],
    low: Sequence[tuple[str, Any]],
    writers: Sequence[Any],
) -> None:
    rows = 0
    for batch, part in keyed(source.reader(names), columns):
        place = places(part, low)
        order = np.argsort(place, kind="stable")
        stops = np.searchsorted(place[order], np.arange(len(writers) + 1))
        numbered = pa.RecordBatch.from_arrays(
            [*batch.columns, pa.array(np.arange(rows, rows + len(part)))], names=[*batch.schema.names, ROW]
        ).take(pa.array(order))
        for writer, start, stop in zip(writers, stops[:-1], stops[1:], strict=True):
            if stop > start:
                writer.write_batch(numbered.slice(start, stop - start))
        rows += len(part)


def places(part: Keys, low: Sequence[tuple[str, Any]]) -> np.ndarray:
    """The range of each row: how many of `low` are not above its key."""
    found = np.empty(len(part), np.int64)
    for code, tag in enumerate(part.tags):
        rows = np.flatnonzero(part.tag == code)
        own = [one for dataset, one in low if dataset == tag]
        before = sum(dataset < tag for dataset, _ in low)
        found[rows] = before + _placed(part.ids.take(pa.array(rows)), own)
    return found


def all_missing(column: pa.ChunkedArray) -> bool:
    """Whether a column holds nothing but nulls and empty text."""
    if is_text(column.type):
        return not any(pc.any(pc.not_equal(large(chunk), "")).as_py() for chunk in column.chunks)
    return bool(column.null_count == len(column))


def renumbered(message: str, rows: pa.ChunkedArray) -> str:
    """The core's sentence about rows of a range, with their numbers in the input."""

    def numbered(match: re.Match[str]) -> str:
        return re.sub(r"\d+", lambda number: str(rows[int(number[0])].as_py()), match[0])

    return re.sub(r"\brows? \d+( and \d+)?(?=,? \(?counted from 0)", numbered, message)


def _placed(ids: pa.Array[Any], own: list[Any]) -> np.ndarray:
    if not is_text(ids.type):
        numbers = ids.to_numpy()
        found: np.ndarray = np.searchsorted(np.array(own, numbers.dtype), numbers, side="right")
        return found
    coded = ids.dictionary_encode()
    each = np.array([bisect_right(own, one) for one in coded.dictionary.to_pylist()], np.int64)
    placed: np.ndarray = each[coded.indices.to_numpy()]
    return placed


def _ids(column: pa.Array[Any]) -> pa.Array[Any]:
    if is_text(column.type):
        text = large(column)
        return pc.if_else(pc.equal(text, ""), pa.scalar(None, text.type), text)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return column.cast(pa.uint64() if kind == pa.uint64() else pa.int64())


def _tags(batch: pa.RecordBatch, name: str) -> tuple[list[str], np.ndarray]:
    if name not in batch.schema.names or pa.types.is_null(batch[name].type):
        return [""], np.zeros(batch.num_rows, np.int32)
    coded = large(batch[name]).fill_null("").dictionary_encode()
    values = coded.dictionary.to_pylist()
    tags = sorted(values)
    rank = {tag: position for position, tag in enumerate(tags)}
    return tags, np.array([rank[value] for value in values], np.int32)[coded.indices.to_numpy()]


def _null(column: str, row: int) -> PanelError:
    return PanelError(f"null {column} in row {row} (counted from 0); give it a value or drop the row")
