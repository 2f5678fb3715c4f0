"""A long run in parts of consecutive workers, each kept on disk when it is done, so that a run can be taken up again.

A part's file is named by its number, by a key of all it was made from (the rows and the options), and by the digest of
its bytes: what does not have the bytes its name says is made anew, and what stands under another name is left
alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from laborllm.errors import FileError
from laborllm.files import make_folder
from laborllm.panel import Panel
from laborllm.prediction_union import union
from laborllm.predictions import Predictions

DIGITS = 24
"""Hexadecimal digits of keys and digests in names, 96 bits."""


class Parts:
    """The parts of one run.

    Args:
        panel: What is to be predicted.
        folder: Where finished parts are kept; made with the first of them.
        workers: Workers of a part.
        options: All that the numbers depend on beside the rows; JSON values.

    Attributes:
        total: Number of parts.
        kept: Parts that an earlier run finished: number → file.
        strange: Finished parts whose files are damaged; they are removed.
        others: Files of other rows or options, which are left alone.
        rows_left: Target rows of the parts that are to be made.
    """

    def __init__(self, panel: Panel, folder: Path, *, workers: int, options: Mapping[str, Any]) -> None:
        self.folder = folder
        self._panels = [
            panel.slice_workers(start, start + workers) for start in range(0, max(1, panel.num_workers), workers)
        ]
        self.total = len(self._panels)
        stated = json.dumps([dict(options), workers], sort_keys=True, ensure_ascii=False).encode()
        self._names = [f"{number:06d}-{_key(stated, part)}" for number, part in enumerate(self._panels)]
        self.kept: dict[int, Path] = {}
        self.strange = self.others = 0
        if folder.is_dir():
            self._look()
        elif folder.exists():
            raise FileError(f"{folder} is where finished parts are kept, and is no folder; move it away")
        self.rows_left = sum(
            int(part.targets.sum()) for number, part in enumerate(self._panels) if number not in self.kept
        )

    def predictions(self, predict: Callable[[Panel], Predictions]) -> Predictions:
        """Make the parts that are missing, and put all of them together as they stand on disk.

        One part alone is not written.
        """
        if self.total == 1 and not self.kept:
            return predict(self._panels[0])
        for number, panel in enumerate(self._panels):
            if number not in self.kept:
                self.kept[number] = self._write(number, predict(panel))
        files = [self.kept[number] for number in range(self.total)]
        return union([Predictions.read(file) for file in files], [file.name for file in files], source=str(self.folder))

    def remove(self) -> None:
        """Remove the parts of this run, and the folder if nothing else is in it."""
        _unlink(self.kept.values())
        with suppress(OSError):
            self.folder.rmdir()

    def _look(self) -> None:
        """Take over finished parts; remove what is none, and what a killed run left half-written."""
        numbers = {name: number for number, name in enumerate(self._names)}
        _unlink(file for name in numbers for file in self.folder.glob(f".*{name}.tmp*"))
        for file in sorted(self.folder.glob("*.parquet")):
            name, _, digest = file.stem.rpartition("-")
            if name not in numbers:
                self.others += 1
            elif _digest(file.read_bytes()) == digest:
                self.kept[numbers[name]] = file
            else:
                self.strange += 1
                _unlink([file])

    def _write(self, number: int, predictions: Predictions) -> Path:
        make_folder(self.folder)
        unnamed = self.folder / f".{self._names[number]}.tmp"
        predictions.write(unnamed, overwrite=True)
        file = self.folder / f"{self._names[number]}-{_digest(unnamed.read_bytes())}.parquet"
        return unnamed.replace(file)


def _key(options: bytes, panel: Panel) -> str:
    """A digest of options and of a panel's rows, its targets among them."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, panel.table.schema) as writer:
        writer.write_table(panel.table)
    digest = sha256(options)
    for piece in (panel.occupations.hash.encode(), panel.targets.tobytes(), sink.getvalue()):
        digest.update(piece)
    return digest.hexdigest()[:DIGITS]


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:DIGITS]


def _unlink(files: Iterable[Path]) -> None:
    for file in files:
        with suppress(OSError):
            file.unlink()
