"""Reading and writing files so that nothing half-written ever stands under a final name.

An output is written under a temporary name beside its target, synced, and renamed; an output that exists is refused
unless overwriting was asked for. Parquet is written with page checksums, and readers verify them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq

from laborllm.errors import FileError

OWN = ("laborllm.json", "config.json")
"""What a directory that may be overwritten holds one of: those of a model and of a base."""
READABLE = (".parquet", ".arrow", ".feather", ".csv")


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
            f"{target} could not be written ({_one_line(error)}); nothing stands under that name"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def output_directory(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary directory to fill; on success its files are synced and it is renamed to `path`.

    An old directory of that name is moved aside first and removed last, so that at every moment either the old or the
    new one is whole.

    Raises:
        FileError: `path` exists and `overwrite` is false or it holds no model, or its parent does not exist.
    """
    target = check_output(path, overwrite=overwrite)
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


def write_text(text: str, path: str | Path, *, overwrite: bool = False) -> None:
    """Write UTF-8 text in one atomic step."""
    with output_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_parquet(table: pa.Table | pa.RecordBatchReader, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a table, or a stream batch by batch, as Parquet (zstd, page checksums) in one atomic step."""
    batches: Iterable[pa.RecordBatch] = table.to_batches() if isinstance(table, pa.Table) else table
    with (
        output_file(path, overwrite=overwrite) as temporary,
        pq.ParquetWriter(temporary, table.schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)


def read_parquet(path: str | Path) -> pa.Table:
    """Read a Parquet file and verify its page checksums.

    Raises:
        FileError: The file does not exist, is no Parquet file, or is damaged.
    """
    source = _existing(path)
    try:
        return pq.read_table(source, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise FileError(f"{source} is no readable Parquet file ({_one_line(error)}); write it anew") from error


def read_table(path: str | Path) -> pa.Table:
    """Read a Parquet, Arrow IPC or CSV file, chosen by the ending of its name.

    Raises:
        FileError: The file does not exist, has another ending, or cannot be read as what its ending says.
    """
    source = _existing(path)
    if source.suffix == ".parquet":
        return read_parquet(source)
    try:
        if source.suffix in {".arrow", ".feather"}:
            return pa.feather.read_table(source)
        if source.suffix == ".csv":
            # one thread, so that an error names its line
            return pa.csv.read_csv(source, read_options=pa.csv.ReadOptions(use_threads=False))
    except (pa.ArrowException, OSError) as error:
        raise FileError(f"{source} is no readable {source.suffix} file ({_one_line(error)})") from error
    raise FileError(f"{source} has the ending {source.suffix!r}; readable are {', '.join(READABLE)}")


def with_metadata(schema: pa.Schema, entries: Mapping[str, str]) -> pa.Schema:
    """Return the schema with `laborllm.*` entries added to its metadata."""
    old: dict[bytes, bytes] = dict(schema.metadata or {})
    new = {f"laborllm.{key}".encode(): value.encode() for key, value in entries.items()}
    return schema.with_metadata(old | new)


def metadata_entry(schema: pa.Schema, key: str) -> str | None:
    """Return the `laborllm.<key>` entry of a schema's metadata, None where it has none."""
    value = (schema.metadata or {}).get(f"laborllm.{key}".encode())
    return None if value is None else value.decode()


def check_output(path: str | Path, *, overwrite: bool) -> Path:
    """Refuse an output that cannot be written, before any work is done for it; gives the absolute path.

    Raises:
        FileError: It exists and `overwrite` is false, or its folder does not exist.
    """
    target = Path(path).resolve()
    if target.exists() and not overwrite:
        raise FileError(f"{target} exists; choose another name or pass --overwrite (overwrite=True)")
    if not target.parent.is_dir():
        raise FileError(f"{target} cannot be written: the folder {target.parent} does not exist; make it first")
    return target


def _existing(path: str | Path) -> Path:
    source = Path(path)
    if not source.is_file():
        raise FileError(f"{source} is no file; check the path")
    return source


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
