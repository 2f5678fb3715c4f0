"""Reading and writing files so that nothing half-written ever stands under a final name.

An output is written under a temporary name beside its target, synced, and renamed; an output that exists is refused
unless overwriting was asked for. Parquet is written with page checksums, and readers verify them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq

from laborllm.errors import FileError

OWN = ("laborllm.json", "config.json")
"""What a directory that may be overwritten holds one of: those of a model and of a base."""
READABLE = (".parquet", ".arrow", ".feather", ".csv")
ROW_GROUP_BYTES = 32 << 20
"""What a row group takes in memory, about: as small a file as larger ones make, in pages that are still warm."""
ZSTD_LEVEL = 1
"""On resumes level 3 takes an eighth longer for 2 % less; negative levels are no faster."""


@contextmanager
def output_file(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to; on success it is synced and renamed to `path`.

    Raises:
        FileError: `path` exists and `overwrite` is false, or its folder does not exist.
    """
    target = check_output(path, overwrite=overwrite)
    temporary = _temporary(target)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise FileError(
            f"{target} could not be written ({_one_line(error)}); what stood under that name, if anything, is unchanged"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def output_directory(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary directory to fill; on success its files are synced and it is renamed to `path`.

    An old directory of that name is moved aside first and removed last, so that at every moment either the old or the
    new one is whole.

    Raises:
        FileError: `path` exists and `overwrite` is false or it holds no model, or its parent does not exist.
    """
    target = check_output(path, overwrite=overwrite, directory=True)
    if target.exists() and not any((target / name).is_file() for name in OWN):
        raise FileError(f"{target} is no model or base directory, so it is not overwritten; choose another name")
    temporary, old = _temporary(target), target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        if target.exists():
            target.replace(old)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        if old.exists() and not target.exists():
            old.replace(target)
        raise FileError(f"{target} could not be written ({_one_line(error)}); nothing was changed") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def keep_freed_pages() -> None:
    """Give Arrow a memory pool that keeps what was freed for what comes next, in this process.

    Its default pool gives pages back at once, and a third of the time of a long stream goes into new, cleared ones
    (Linux, huge pages). Where ARROW_DEFAULT_MEMORY_POOL names a pool, that one stays.
    """
    if not os.environ.get("ARROW_DEFAULT_MEMORY_POOL"):
        jemalloc = "jemalloc" in pa.supported_memory_backends()
        pa.set_memory_pool(pa.jemalloc_memory_pool() if jemalloc else pa.system_memory_pool())


def write_text(text: str, path: str | Path, *, overwrite: bool = False) -> None:
    """Write UTF-8 text in one atomic step."""
    with output_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_parquet(
    table: pa.Table | pa.RecordBatchReader,
    path: str | Path,
    *,
    overwrite: bool = False,
    progress: Callable[[pa.RecordBatch], None] | None = None,
) -> None:
    """Write a table or a stream as Parquet (zstd, page checksums) in one atomic step.

    Batches are gathered into row groups, and one row group is written while the next is gathered: two are in memory.

    Args:
        table: A stream that fails leaves no file.
        path: Where to write.
        overwrite: Replace a file that exists.
        progress: Called with each batch as it comes.

    Raises:
        FileError: `path` exists and `overwrite` is false, its folder does not exist, or the disk is full.
    """
    batches: Iterable[pa.RecordBatch] = table.to_batches() if isinstance(table, pa.Table) else table
    with (
        output_file(path, overwrite=overwrite) as temporary,
        pq.ParquetWriter(
            temporary,
            table.schema,
            compression="zstd",
            compression_level=ZSTD_LEVEL,
            write_page_checksum=True,
            **_encodings(table.schema),
        ) as writer,
        ThreadPoolExecutor(1) as thread,
    ):
        written: Future[None] | None = None
        for group in _row_groups(batches, progress):
            if written is not None:
                written.result()
            written = thread.submit(writer.write_table, group, group.num_rows)
        if written is not None:
            written.result()


def _row_groups(
    batches: Iterable[pa.RecordBatch], progress: Callable[[pa.RecordBatch], None] | None
) -> Iterator[pa.Table]:
    gathered: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        if progress is not None:
            progress(batch)
        gathered.append(batch)
        size += batch.nbytes
        if size >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(gathered)
            gathered, size = [], 0
    if gathered:
        yield pa.Table.from_batches(gathered)


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """Dictionaries, but for text that was not one before and for positions in lists, whose values seldom return.

    The least and greatest value of a page are written neither for text nor for lists: they would cost a third of the
    time that lists take, and nobody asks for rows by them.
    """
    kinds = {path: kind for field in schema for path, kind in _leaves(field.name, field.type)}
    positions = {path for path, kind in kinds.items() if kind == pa.int64() and ".list." in path}
    text = {path for path, kind in kinds.items() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind)}
    return {
        "use_dictionary": [path for path in kinds if path not in positions | text] or False,
        "write_statistics": [path for path in kinds if path not in text and ".list." not in path] or False,
        "column_encoding": dict.fromkeys(sorted(positions), "DELTA_BINARY_PACKED") or None,
    }


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """The columns that a type becomes in Parquet."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    else:
        yield path, kind


def read_parquet(path: str | Path) -> pa.Table:
    """Read a Parquet file and verify its page checksums.

    Raises:
        FileError: The file does not exist, is no Parquet file, or is damaged.
    """
    source = existing(path)
    try:
        return pq.read_table(source, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(source, error) from error


def read_table(path: str | Path) -> pa.Table:
    """Read a Parquet, Arrow IPC or CSV file, chosen by the ending of its name.

    Raises:
        FileError: The file does not exist, has another ending, or cannot be read as what its ending says.
    """
    source = existing(path)
    if source.suffix == ".parquet":
        return read_parquet(source)
    try:
        if source.suffix in {".arrow", ".feather"}:
            return pa.feather.read_table(source)
        if source.suffix == ".csv":
            return _read_csv(source)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(source, error) from error
    raise FileError(f"{source} has the ending {source.suffix!r}; readable are {', '.join(READABLE)}")


def _read_csv(source: Path) -> pa.Table:
    """Numbers where that loses nothing, else text as it stands: an id 007 is not 7."""
    options = pa.csv.ReadOptions(use_threads=False)  # so that an error names its line
    table = pa.csv.read_csv(source, read_options=options)
    if binary := [field.name for field in table.schema if pa.types.is_binary(field.type)]:
        raise FileError(f"{source} holds bytes that are no UTF-8 in column {binary[0]!r}; save it as UTF-8")
    kept = {field.name for field in table.schema if pa.types.is_string(field.type) or pa.types.is_floating(field.type)}
    typed = dict.fromkeys(set(table.column_names) - kept, pa.string())
    if not typed:
        return table
    conversion = pa.csv.ConvertOptions(column_types=typed, include_columns=list(typed), strings_can_be_null=True)
    text = pa.csv.read_csv(source, read_options=options, convert_options=conversion)
    for name in typed:
        at, numbers = table.column_names.index(name), table[name]
        if pa.types.is_null(numbers.type):
            continue
        if not pa.types.is_integer(numbers.type) or not numbers.cast(pa.string()).equals(text[name]):
            table = table.set_column(at, name, text[name])
    return table


def with_metadata(schema: pa.Schema, entries: Mapping[str, str]) -> pa.Schema:
    """Return the schema with `laborllm.*` entries added to its metadata."""
    old: dict[bytes, bytes] = dict(schema.metadata or {})
    new = {f"laborllm.{key}".encode(): value.encode() for key, value in entries.items()}
    return schema.with_metadata(old | new)


def metadata_entry(schema: pa.Schema, key: str) -> str | None:
    """Return the `laborllm.<key>` entry of a schema's metadata, None where it has none."""
    value = (schema.metadata or {}).get(f"laborllm.{key}".encode())
    return None if value is None else value.decode()


def check_output(path: str | Path, *, overwrite: bool, directory: bool = False) -> Path:
    """Refuse an output that cannot be written, before any work is done for it; gives the absolute path.

    Raises:
        FileError: It exists and `overwrite` is false or it is no file (no directory, where one is to be written), or
            its folder does not exist.
    """
    target = Path(path).resolve()
    if target.exists() and not (target.is_dir() if directory else target.is_file()):
        raise FileError(f"{target} is no {'directory' if directory else 'regular file'}; choose another name")
    if target.exists() and not overwrite:
        raise FileError(f"{target} exists; choose another name or pass --overwrite (overwrite=True)")
    if not target.parent.is_dir():
        raise FileError(f"{target} cannot be written: the folder {target.parent} does not exist; make it first")
    return target


def make_folder(path: str | Path) -> None:
    """Make a folder, and those above it, where there is none.

    Raises:
        FileError: It cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"the folder {path} cannot be made ({_one_line(error)}); choose another") from error


def existing(path: str | Path) -> Path:
    """Refuse a path without a file.

    Raises:
        FileError: There is none.
    """
    source = Path(path)
    if not source.is_file():
        raise FileError(f"{source} is no file; check the path")
    return source


def unreadable(path: Path, error: Exception) -> FileError:
    """Say that a file is not what its ending says."""
    if isinstance(error, pa.ArrowMemoryError):
        return FileError(f"memory does not suffice to read {path} ({_one_line(error)}); the file itself may be sound")
    kind = "Parquet" if path.suffix == ".parquet" else path.suffix
    return FileError(f"{path} is no readable {kind} file ({_one_line(error)}); write it anew")


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{token_hex(6)}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
