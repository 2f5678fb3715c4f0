"""Rows before they are a panel: a table in memory, files, or a stream that can be read once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from laborllm.errors import PanelError
from laborllm.files import existing, read_table, unreadable

BATCH_ROWS = 1 << 16
"""Rows that are read from a file at once."""


class Source(Protocol):
    """Where rows come from, and what is known of them beforehand."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types as they are read."""

    @property
    def rows(self) -> int | None:
        """How many there are, None where it is not known."""

    @property
    def again(self) -> bool:
        """Whether they can be read more than once."""

    def size(self, names: Sequence[str]) -> int:
        """Bytes that these columns of all rows take in memory, about, beyond what is there already."""

    def reader(self, names: Sequence[str]) -> pa.RecordBatchReader:
        """All rows in order, in these columns."""


def source_of(data: Any) -> Source:
    """Find out what rows are given: a path or several, a table, or a stream.

    Raises:
        PanelError: Something that does not speak Arrow.
        FileError: A file that is absent or cannot be read.
    """
    if isinstance(data, str | Path):
        return Files([data])
    if isinstance(data, list | tuple) and data and all(isinstance(one, str | Path) for one in data):
        return Files(data)
    if not (hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")):
        raise PanelError(
            f"a panel cannot be read from {type(data).__name__}; give a path or several, an Arrow table, a polars or "
            "pandas data frame, or anything else with __arrow_c_stream__ (a lazy frame: collect it first)"
        )
    if isinstance(data, pa.RecordBatchReader):
        return Once(data)
    held = isinstance(data, Sized) or not hasattr(data, "__arrow_c_stream__")
    try:
        return Held(pa.table(data)) if held else Once(pa.RecordBatchReader.from_stream(data))
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise PanelError(
            f"the rows of this {type(data).__name__} cannot be read as Arrow ({reason}); cast the column"
        ) from error


@dataclass(frozen=True)
class Held:
    """A table in memory."""

    table: pa.Table
    again = True

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        return self.table.schema

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return int(self.table.num_rows)

    def size(self, names: Sequence[str]) -> int:  # noqa: ARG002  it is there already
        """Nothing more than there is."""
        return 0

    def reader(self, names: Sequence[str]) -> pa.RecordBatchReader:
        """Slices of the table."""
        return self.table.select(names).to_reader(max_chunksize=BATCH_ROWS)


@dataclass
class Once:
    """A stream that can be read once."""

    stream: pa.RecordBatchReader
    again = False
    rows = None

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        return self.stream.schema

    def size(self, names: Sequence[str]) -> int:  # noqa: ARG002  no more than a few batches
        """Nothing: it is never kept."""
        return 0

    def reader(self, names: Sequence[str]) -> pa.RecordBatchReader:
        """What comes, in these columns."""
        if list(names) == self.schema.names:
            return self.stream
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.RecordBatchReader.from_batches(schema, (batch.select(names) for batch in self.stream))


@dataclass(frozen=True)
class _File:
    path: Path
    schema: pa.Schema
    rows: int
    widths: dict[str, float]
    """Bytes per row in memory, about, by column."""


class Files:
    """Parquet, Arrow IPC or CSV files, whose rows follow one another; Parquet and Arrow are read piece by piece."""

    again = True

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self._files = [_described(existing(path)) for path in paths]
        self._schema = _common(self._files)

    @property
    def schema(self) -> pa.Schema:
        """Names of the first file, in types that hold the values of all."""
        return self._schema

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(file.rows for file in self._files)

    def size(self, names: Sequence[str]) -> int:
        """Rows times bytes per row: a column's width in Arrow, or its uncompressed size in Parquet if that is more."""
        return int(sum(file.rows * sum(file.widths[name] for name in names) for file in self._files))

    def reader(self, names: Sequence[str]) -> pa.RecordBatchReader:
        """All rows, file by file."""
        schema = pa.schema([self._schema.field(name) for name in names])
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema))

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for file in self._files:
            try:
                for batch in _read(file, schema.names):
                    yield batch if batch.schema.equals(schema) else _cast(batch, schema)
            except (pa.ArrowException, OSError) as error:
                raise unreadable(file.path, error) from error


def _described(path: Path) -> _File:
    """What a file says about itself; text of Parquet is read as dictionaries, but for the ids."""
    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path, read_dictionary=_texts(path)) as file:
                sizes = _parquet_sizes(file.metadata)
                rows, schema = file.metadata.num_rows, file.schema_arrow.remove_metadata()
            return _File(
                path, schema, rows, {f.name: max(_width(f), sizes.get(f.name, 0) / (rows or 1)) for f in schema}
            )
        if path.suffix in {".arrow", ".feather"}:
            with pa.ipc.open_file(path) as file:
                rows = sum(file.get_batch(i).num_rows for i in range(file.num_record_batches))
                schema = file.schema.remove_metadata()
            share = path.stat().st_size / max(rows, 1) / max(len(schema), 1)
            return _File(path, schema, rows, {f.name: max(_width(f), share) for f in schema})
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    table = read_table(path)
    share = table.nbytes / max(table.num_rows, 1) / max(table.num_columns, 1)
    return _File(path, table.schema, table.num_rows, dict.fromkeys(table.column_names, share))


def _read(file: _File, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    if file.path.suffix == ".parquet":
        options = {"read_dictionary": _texts(file.path), "page_checksum_verification": True}
        with pq.ParquetFile(file.path, **options) as parquet:
            yield from (batch.select(names) for batch in parquet.iter_batches(BATCH_ROWS, columns=list(names)))
    elif file.path.suffix in {".arrow", ".feather"}:
        with pa.ipc.open_file(file.path) as arrow:
            for i in range(arrow.num_record_batches):
                yield arrow.get_batch(i).select(names)
    else:
        yield from read_table(file.path).select(names).to_batches(BATCH_ROWS)


def _texts(path: Path) -> list[str]:
    schema = pq.read_schema(path)
    return [field.name for field in schema if is_text(field.type) and field.name != "worker_id"]


def _parquet_sizes(metadata: Any) -> dict[str, int]:
    """Uncompressed bytes by column."""
    sizes: dict[str, int] = {}
    for group in range(metadata.num_row_groups):
        for position in range(metadata.num_columns):
            column = metadata.row_group(group).column(position)
            name = column.path_in_schema.split(".")[0]
            sizes[name] = sizes.get(name, 0) + column.total_uncompressed_size
    return sizes


def _width(field: pa.Field) -> float:
    try:
        return float(field.type.bit_width / 8)
    except ValueError:
        return 4.0  # a code


def is_text(kind: pa.DataType) -> bool:
    """True for text in any layout."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def large(column: pa.Array[Any]) -> pa.Array[Any]:
    """Text of any layout as large_string; Arrow itself decodes no dictionaries of views."""
    if pa.types.is_dictionary(column.type):
        return column.dictionary.cast(pa.large_string()).take(column.indices)
    return column.cast(pa.large_string())


def _views(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind) or (pa.types.is_dictionary(kind) and _views(kind.value_type)))


def _common(files: Sequence[_File]) -> pa.Schema:
    """Names of the first file; one type where files differ, and no views, of which Arrow cannot take rows."""
    first = files[0].schema
    if all(file.schema.equals(first) for file in files):
        large_views = [field.with_type(pa.large_string()) if _views(field.type) else field for field in first]
        return pa.schema(large_views)
    for file in files:
        if odd := sorted(set(file.schema.names) ^ set(first.names)):
            raise PanelError(
                f"{files[0].path} and {file.path} differ in their columns ({', '.join(odd)}); files of one panel have "
                "the same columns"
            )
    try:
        plain = [
            pa.schema([(f.name, pa.large_string() if is_text(f.type) else f.type) for f in file.schema])
            for file in files
        ]
        return pa.unify_schemas(plain, promote_options="permissive")
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise PanelError(f"the files have columns of types that do not go together ({reason}); cast them") from error


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        large(batch[field.name]) if field.type == pa.large_string() else batch[field.name].cast(field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
