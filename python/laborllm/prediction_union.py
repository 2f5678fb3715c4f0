"""Predictions of several files as one table: shards that were scored apart, parts of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laborllm.errors import FileError, PredictionsError

if TYPE_CHECKING:
    from laborllm.predictions import Predictions

One = TypeVar("One", bound="Predictions")


def files_of(folder: str | Path) -> list[Path]:
    """The files of predictions in a folder, by name; hidden ones are not looked at.

    Raises:
        FileError: There is none.
    """
    files = sorted(file for file in Path(folder).glob("*.parquet") if not file.name.startswith("."))
    if not files:
        raise FileError(f"the folder {folder} holds no .parquet file; score into it, or name another")
    return files


def union(pieces: Sequence[One], names: Sequence[str], *, source: str) -> One:
    """Put predictions together in the order of panels: dataset bytewise, worker, year.

    Args:
        pieces: At least one.
        names: What to call each in a message.
        source: What to call them all.

    Raises:
        PredictionsError: They differ in metadata, occupations or columns, hold one worker and year twice, or are
            shards of which some are missing.
    """
    first = pieces[0]
    for piece, name in zip(pieces, names, strict=True):
        _check_alike(first, piece, names[0], name, source)
    _check_shards([piece.metadata["shard"] for piece in pieces], source)
    table = pa.concat_tables([piece.table for piece in pieces])
    keys = pa.table({name: _key(table[name]) for name in ("dataset", "worker_id", "year")})
    order = np.asarray(pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names]))
    _check_once(keys, order, pieces, names, source)
    if (np.diff(order.astype(np.int64)) != 1).any():
        table = table.take(pa.array(order))
    metadata = first.metadata | {"shard": None}
    return type(first)(table, occupations=first.occupations, metadata=metadata)


def _key(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    return column.cast(pa.large_string()) if pa.types.is_dictionary(column.type) else column


def _check_alike(a: Predictions, b: Predictions, a_name: str, b_name: str, source: str) -> None:
    differ = [
        f"{entry} {a.metadata.get(entry)!r} and {b.metadata.get(entry)!r}"
        for entry in sorted(a.metadata.keys() | b.metadata.keys())
        if entry != "shard" and a.metadata.get(entry) != b.metadata.get(entry)
    ]
    if not differ and not a.table.schema.equals(b.table.schema):
        differ = [f"columns {', '.join(map(str, set(a.table.schema) ^ set(b.table.schema)))}"]
    if differ:
        raise PredictionsError(
            f"{a_name} and {b_name} in {source} differ ({'; '.join(differ)}); keep the files of one run in a folder"
        )


def _check_shards(shards: Sequence[Any], source: str) -> None:
    """Refuse a folder that lacks shards, or where shards stand beside whole runs."""
    if all(shard is None for shard in shards):
        return
    counts = {0 if shard is None else int(shard[1]) for shard in shards}
    if len(counts) > 1:
        raise PredictionsError(f"{source} holds files of different shardings; keep the shards of one run in a folder")
    count = counts.pop()
    if missing := sorted(set(range(count)) - {index for index, _ in shards}):
        listed = ", ".join(f"{index}/{count}" for index in missing[:8])
        raise PredictionsError(f"{source} lacks {len(missing)} of {count} shards ({listed}); score them too")


def _check_once(
    keys: pa.Table, order: np.ndarray, pieces: Sequence[Predictions], names: Sequence[str], source: str
) -> None:
    ordered = keys.take(pa.array(order))
    same = np.ones(max(0, len(order) - 1), bool)
    for name in keys.column_names:
        same &= np.asarray(pc.equal(ordered[name].slice(1), ordered[name].slice(0, len(same))))
    if same.any():
        at = int(same.argmax())
        stops = np.cumsum([len(piece) for piece in pieces])
        one, two = (
            names[int(np.searchsorted(stops, row, side="right"))] for row in sorted(order[at : at + 2].tolist())
        )
        dataset, worker, year = (ordered[name][at].as_py() for name in keys.column_names)
        tag = f" of {dataset!r}" if dataset else ""
        raise PredictionsError(
            f"two predictions for worker {worker!r}{tag} in {year} in {source} ({one} and {two}); keep one of them"
        )
