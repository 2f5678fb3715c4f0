"""Whole careers in bins of one length, so that training wastes few tokens on padding.

A token table (`dataset`, `worker_id`, `input_ids`, and `spans` where titles are labelled) becomes a stream of bins of
exactly `length` tokens. A career is never split, and position ids begin anew with each, so that no career sees
another in a model that reads them: in transformers, pass `position_ids` and `use_cache=False`, and no
`attention_mask` (flash attention wants batches of one bin). TRL's padding-free collator reads `seq_lengths`; their
cumulative sums are the `cu_seqlens` of variable-length attention.

Best fit decreasing is that of arXiv 2404.10830, which TRL's `pack_dataset(strategy="bfd")` follows too: the number of
bins is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laborllm import _core, files
from laborllm.errors import FileError, PackingError

PIECE_TOKENS = 1 << 23
"""A stream is packed in pieces of at most so many tokens (32 MB), or one career."""


@dataclass(frozen=True)
class Filled:
    """What stands in some bins."""

    bins: int
    careers: int
    tokens: int  # without padding
    length: int

    @property
    def fill(self) -> float:
        """The share of the bins' tokens that is no padding, NaN without bins."""
        return self.tokens / (self.bins * self.length) if self.bins else float("nan")


def pack(
    tokens: Any,
    *,
    length: int,
    pad_id: int,
    method: Literal["best_fit", "first_fit"] = "best_fit",
    labels: Literal["all", "titles"] | None = "all",
    position_ids: bool = True,
    open_bins: int = 256,
    seed: int | None = None,
) -> pa.RecordBatchReader:
    """Pack whole careers into bins of `length` tokens, on all cores.

    Args:
        tokens: A token table or a stream of one in any Arrow library, or the path of a Parquet file; lists of any
            width, ids of any integer type.
        length: Tokens of a bin, padding included.
        pad_id: The token that fills bins up.
        method: "best_fit" takes careers by falling length, each into the bin with the least room that suffices, so
            the table is held in memory. "first_fit" takes them as they come, each into the bin opened first among
            those with room; it holds `open_bins` bins, a few batches and a piece of the stream, however long.
        labels: "all" tokens are labels, or those of "titles" and their newlines only; None leaves the column out, and
            a collator that makes every id a label then has to skip `pad_id` itself.
        position_ids: False leaves the column out; it follows from `seq_lengths`.
        open_bins: For "first_fit", how many bins may be open; the one opened first is closed to make room.
        seed: For "best_fit", shuffle the bins; without it they stand as they were opened, longest careers first.

    Returns:
        A stream in batches of about a million tokens with, for each bin,
        `input_ids`, `position_ids`, `labels`: fixed_size_list<int32>[length]. Positions begin at 0 in each career and
        in the padding. Labels stand on their own tokens (the model shifts them) and are -100 in the padding, outside
        of what is labelled and for the first token of each career, so that no career predicts another's;
        `seq_lengths`: list<int32>, tokens of each career, then of the padding if there is any; they sum to `length`;
        `dataset`, `worker_id`: lists with one value per career, in the order of the token table.
        The schema keeps the table's `laborllm.*` metadata and adds `laborllm.packing`. The same table gives the same
        bins, however it is cut and on any number of threads.

    Raises:
        PackingError: A career is empty or longer than a bin, a column is absent or broken, an argument cannot be;
            "first_fit" reads careers, and so raises, while the stream is read.
        FileError: `tokens` is no readable Parquet file.

    Cost: O(careers + length), with "first_fit" O(careers log open_bins), and one copy of the tokens.
    """
    if method not in {"best_fit", "first_fit"}:
        raise PackingError(f"method={method!r} is unknown; choose 'best_fit' (whole table) or 'first_fit' (stream)")
    if method == "first_fit" and seed is not None:
        raise PackingError("a stream cannot be shuffled; leave the seed out, or pack with method='best_fit'")
    if seed is not None and not 0 <= seed < 2**64:
        raise PackingError(f"seed is {seed}; it must be from 0 to {2**64 - 1}")
    piece = max(1, PIECE_TOKENS // max(1, length))
    if isinstance(tokens, str | Path):
        columns = ["dataset", "worker_id", "input_ids", *(["spans"] if labels == "titles" else [])]
        source = _read_parquet(Path(tokens), columns, rows=piece)
    else:
        source = pa.RecordBatchReader.from_stream(tokens)
    rule = {"open_bins": open_bins} if method == "first_fit" else {"seed": seed}
    chosen = {"length": length, "pad_id": pad_id, "labels": labels, **rule}
    described = json.dumps({"method": method, **chosen}, sort_keys=True)
    metadata = _own(source.schema) | {"laborllm.packing": described}
    options: dict[str, Any] = {**chosen, "position_ids": position_ids, "metadata": metadata}
    if method == "best_fit":
        return pa.RecordBatchReader.from_stream(_core.pack_best_fit(source.read_all(), **options))
    packer = _core.FirstFit(source.schema, **options)
    return pa.RecordBatchReader.from_batches(pa.schema(packer.schema), _first_fit(source, packer, piece))


def _first_fit(source: pa.RecordBatchReader, packer: _core.FirstFit, piece: int) -> Iterator[pa.RecordBatch]:
    for batch in source:
        for start in range(0, batch.num_rows, piece):
            yield from map(pa.record_batch, packer.push(batch.slice(start, piece)))
    yield from map(pa.record_batch, packer.finish())


def _read_parquet(path: Path, columns: list[str], *, rows: int) -> pa.RecordBatchReader:
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    columns = [name for name in columns if name in file.schema_arrow.names]
    schema = pa.schema([file.schema_arrow.field(name) for name in columns], file.schema_arrow.metadata)

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from file.iter_batches(batch_size=rows, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from error

    return pa.RecordBatchReader.from_batches(schema, batches())


def _own(schema: pa.Schema) -> dict[str, str]:
    """The metadata of this package; entries of others describe the columns of the token table."""
    entries = (schema.metadata or {}).items()
    return {key.decode(): value.decode() for key, value in entries if key.startswith(b"laborllm.")}


def write_packed(bins: pa.RecordBatchReader | pa.Table, path: str | Path, *, overwrite: bool = False) -> Filled:
    """Write bins, batch by batch, as Parquet (`.parquet`) or as an Arrow IPC stream (`.arrow`), in one atomic step.

    `datasets.Dataset.from_file` maps the IPC stream into memory, `datasets.Dataset.from_parquet` reads the Parquet
    file. Nothing stands under the name if the stream fails half-way.

    Raises:
        FileError: `path` exists and `overwrite` is false, or it has another ending.
        PackingError: What `pack` raises while its stream is read.
    """
    kind = Path(path).suffix
    if kind not in {".arrow", ".parquet"}:
        raise FileError(f"{path} has the ending {kind!r}; bins are written to .arrow or .parquet")
    counts = np.zeros(3, np.int64)

    def counted(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            counts[:] += _count(batch)
            yield batch

    batches = counted(bins.to_batches() if isinstance(bins, pa.Table) else bins)
    if kind == ".parquet":
        files.write_parquet(pa.RecordBatchReader.from_batches(bins.schema, batches), path, overwrite=overwrite)
    else:
        with (
            files.output_file(path, overwrite=overwrite) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_stream(sink, bins.schema) as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)
    count, careers, tokens = counts.tolist()
    return Filled(count, careers, tokens, length=bins.schema.field("input_ids").type.list_size)


def _count(batch: pa.RecordBatch) -> tuple[int, int, int]:
    """Bins, careers, and tokens without padding."""
    lengths, careers = batch["seq_lengths"], batch["worker_id"]
    padded = np.diff(lengths.offsets.to_numpy()) > np.diff(careers.offsets.to_numpy())
    last = lengths.values.to_numpy()[lengths.offsets.to_numpy()[1:][padded] - 1]
    tokens = batch.num_rows * batch.schema.field("input_ids").type.list_size - int(last.sum())
    return batch.num_rows, len(careers.flatten()), tokens


def read_packed(path: str | Path) -> pa.Table:
    """Read what `write_packed` wrote; an `.arrow` file is mapped into memory and not copied.

    A chunk of a wide column is a matrix: `table["input_ids"].chunk(0).flatten().to_numpy().reshape(-1, length)` is an
    int32 view of (bins, length).

    Raises:
        FileError: The file does not exist, is damaged, or holds no bins.
    """
    try:
        mapped = Path(path).suffix == ".arrow"
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all() if mapped else files.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    if files.metadata_entry(table.schema, "packing") is None:
        raise FileError(f"{path} holds no bins (its metadata has no laborllm.packing); give a file of write_packed")
    return table


def _unreadable(path: str | Path, error: Exception) -> FileError:
    return FileError(f"{path} cannot be read ({' '.join(str(error).split())}); check the path, or write it anew")
