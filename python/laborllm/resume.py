"""Careers as text: templates, and the rendering of a panel through one of them."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from laborllm import _core
from laborllm.errors import PanelError, TemplateError
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.stream import PanelStream

BATCH_BYTES = 2 << 20
"""Text per batch of resumes, about: as much as the caches near a core hold, so that printing does not wait for them."""

_ALWAYS_KNOWN = ("title", "year", "dataset", "worker_id")


@dataclass(frozen=True)
class Template:
    """The text of a resume, as data.

    `{field}` prints a column's value as it is. A phrase in `[[…]]` is left out for the whole panel when a column of its
    fields is absent; one that prints no field, like `[[education level, ]]`, goes with the column its first word names.
    The prompt of a transition is everything before the single space that leads `{title}`; the newline after it is the
    title's terminator. Before the title a row shows its year, education and what is fixed; anything else would show the
    row to be predicted, and stands behind the title, where it is seen for past rows only.

    Raises:
        TemplateError: Text that is no template, or a field without a word for null.
    """

    name: str
    version: int
    header: str
    row: str
    end: str
    missing: Mapping[str, str] = field(default_factory=dict)
    """The word for a null of each field."""
    education: str = "target"
    """Whose education stands before a title: "target" (the row's own, as in the paper) or "previous"."""

    def __post_init__(self) -> None:
        """Check the text once, when it is made."""
        if self.education not in {"target", "previous"}:
            raise TemplateError(f"education={self.education!r} is unknown; choose 'target' or 'previous'")
        for name in (*self.header_fields, *self.row_fields):
            if name not in self.missing and name not in _ALWAYS_KNOWN:
                raise TemplateError(
                    f'the template has no word for a missing {{{name}}}; add {name} = "…" under [missing]'
                )

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Read a template that comes with the package by its name, or a TOML file by its path (ending .toml)."""
        path = Path(name_or_path)
        home = resources.files("laborllm").joinpath("templates")
        packaged = home.joinpath(f"{name_or_path}.toml")
        if path.suffix != ".toml" and not packaged.is_file():
            known = sorted(entry.name.removesuffix(".toml") for entry in home.iterdir() if entry.name.endswith(".toml"))
            raise TemplateError(
                f"no template {str(name_or_path)!r}; known are {', '.join(known)}, or give a .toml file"
            )
        try:
            text = path.read_text("utf-8") if path.suffix == ".toml" else packaged.read_text("utf-8")
            return cls._from_mapping(tomllib.loads(text), source=str(name_or_path))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            reason = " ".join(str(error).split())
            raise TemplateError(f"the template {name_or_path} cannot be read ({reason}); give a TOML file") from error

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        return cls._from_mapping(json.loads(text), source="the template's JSON")

    @classmethod
    def _from_mapping(cls, entries: Mapping[str, Any], *, source: str) -> Self:
        kinds = {"name": str, "version": int, "header": str, "row": str, "end": str, "missing": dict, "education": str}
        given = {key: value for key, value in entries.items() if key != "hash"}
        required = {"name", "version", "header", "row", "end"}
        wrong = [key for key, value in given.items() if not isinstance(value, kinds.get(key, type(None)))]
        wrong += [f"missing.{key}" for key, word in given.get("missing", {}).items() if not isinstance(word, str)]
        if wrong or required - given.keys():
            lacks = ", ".join(sorted(required - given.keys())) or "nothing"
            raise TemplateError(
                f"{source} is no template: it lacks {lacks}, and has entries unknown or of a wrong type: "
                f"{', '.join(wrong) or 'none'}; the keys are {', '.join(f.name for f in fields(cls))}"
            )
        return cls(**given)

    @property
    def header_fields(self) -> tuple[str, ...]:
        """Fields printed in the header, in order, each once."""
        return tuple(_core.template_fields(self.header, self.row, self.end)[0])

    @property
    def row_fields(self) -> tuple[str, ...]:
        """Fields printed in a row, `title` among them, in order, each once."""
        return tuple(_core.template_fields(self.header, self.row, self.end)[1])

    @property
    def bound(self) -> bool:
        """Whether no brackets are left."""
        return _core.template_fields(self.header, self.row, self.end)[2]

    @property
    def covariates(self) -> tuple[str, ...]:
        """Fields printed other than dataset, year and title, in order, each once."""
        printed = dict.fromkeys((*self.header_fields, *self.row_fields))
        return tuple(name for name in printed if name not in {"dataset", "year", "title"})

    def without(self, *dropped: str) -> Template:
        """Leave out the bracketed phrases of these fields.

        Raises:
            TemplateError: A field that stands in no brackets.
        """
        header, row, end = _core.strip_template(self.header, self.row, self.end, dropped)
        return replace(self, header=header, row=row, end=end)

    def bind(self, columns: Iterable[str]) -> Template:
        """Resolve the brackets for a set of columns, and keep the missing words of printed fields only.

        Raises:
            TemplateError: An unbracketed field without a column.
        """
        header, row, end = _core.bind_template(self.header, self.row, self.end, list(columns))
        bound = replace(self, header=header, row=row, end=end)
        printed = {*bound.header_fields, *bound.row_fields}
        return replace(bound, missing={name: word for name, word in self.missing.items() if name in printed})

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of the bound template, as hexadecimal text."""
        if not self.bound:
            raise TemplateError("a template has a hash once it is bound to a panel's columns; call bind first")
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def texts(self) -> tuple[str, str, str, dict[str, str], str]:
        """What the core reads: header, row, end, the missing words, and whose education stands before a title."""
        return self.header, self.row, self.end, dict(self.missing), self.education

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, characters as they are."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def render(
    panel: Any, template: Template, *, windows: tuple[np.ndarray, np.ndarray] | None = None, **reading: Any
) -> pa.RecordBatchReader:
    """Print every worker's career, in panel order, in batches of about 2 MB of text, on all cores.

    Args:
        panel: A Panel, whose whole careers end in the template's end (one cut short by `Panel.part` does not); or a
            PanelStream, or whatever `PanelStream.read` takes, of which a few pieces at a time are in memory.
        template: It is bound to the panel's columns where it is not yet.
        windows: First rows and stop rows (absolute rows of the panel, each range inside one worker) to print instead:
            header and rows [first, stop) of each, and the end only where that is the whole career.
        **reading: What `PanelStream.read` is to be told about rows: occupations, dataset, columns, shard, …

    Returns:
        A stream with the columns dataset, worker_id, resume (large_string), title_start and title_end
        (large_list<int64>, byte offsets with resume[start:end] == title), year (list<int32>) and occupation
        (list<dictionary>). Its schema carries `laborllm.template`, `laborllm.occupations` and `laborllm.version`.

    Raises:
        TemplateError: The template does not fit the panel.
        PanelError: A window that is no range of rows of one worker; rows that are no panel, which may come to light
            only with the batch that they would be in.
    """
    if not isinstance(panel, Panel):
        if windows is not None:
            raise PanelError("windows are ranges of a panel's rows in memory; read it with Panel.read or from_arrow")
        stream = panel if isinstance(panel, PanelStream) and not reading else PanelStream.read(panel, **reading)
        return _render_stream(stream, template.bind(stream.column_names))
    if reading:
        raise PanelError(f"a panel has been read already; leave out {', '.join(reading)}")
    return printed(_core.render, panel, template, windows=windows, batch_bytes=BATCH_BYTES)


def prompts(panel: Panel, template: Template, *, history: int | None = None) -> pa.RecordBatchReader:
    """Print the prompt of every row to be predicted: everything before the space that leads its title.

    Args:
        panel: Its targets are the rows that get a prompt.
        template: As for `render`.
        history: Rows before the row to be predicted that a prompt shows, the last ones; None shows all of them. Then
            all prompts of a career are views of one resume, 16 bytes each; with a number each is a text of its own.

    Returns:
        A stream with the columns dataset, worker_id, year, occupation (what happened) and prompt (string_view), one
        row for each row to be predicted, in panel order.

    Raises:
        TemplateError: The template does not fit the panel.
        PanelError: A negative history.
    """
    if history is not None and history < 0:
        raise PanelError(f"history={history} is negative; give a number of rows, or None for all of them")
    rows = np.flatnonzero(panel.targets)
    windows = None
    if history is not None:
        windows = (np.maximum(rows - history, panel.starts[panel.workers()[rows]]), rows + 1)
    resumes = printed(_core.render, panel, template, windows=windows, batch_bytes=BATCH_BYTES, prompts=True)
    names = ["dataset", "worker_id", "year", "occupation", "prompt"]
    kinds = [resumes.schema.field(name).type for name in names]
    types = [kind.value_type if pa.types.is_list(kind) else kind for kind in kinds]

    def batches() -> Iterator[pa.RecordBatch]:
        done = 0
        for batch in resumes:
            lengths = np.diff(batch["prompt"].offsets.to_numpy())
            ends = np.cumsum(lengths)
            kept = ends - 1 if history is not None else np.flatnonzero(panel.targets[done : done + int(lengths.sum())])
            done += int(lengths.sum())
            owner, rows = pa.array(np.repeat(np.arange(len(lengths)), lengths)[kept]), pa.array(kept)
            who = [batch[name].take(owner) for name in ("dataset", "worker_id")]
            what = [batch[name].flatten().take(rows) for name in ("year", "occupation")]
            yield pa.record_batch([*who, *what, _views(batch["prompt"].flatten(), kept)], names=names)

    schema = pa.schema(list(zip(names, types, strict=True)), resumes.schema.metadata)
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in batches()))


def _views(array: pa.StringViewArray, rows: np.ndarray) -> pa.StringViewArray:
    """Some of the views, over the same text; pyarrow cannot take from views yet."""
    _, views, *text = array.buffers()
    some = np.frombuffer(views, "V16", count=array.offset + len(array))[array.offset :][rows]
    return pa.Array.from_buffers(array.type, len(rows), [None, pa.py_buffer(some), *text])


def printed(
    function: Callable[..., _core.Batches],
    panel: Panel,
    template: Template,
    *,
    windows: tuple[np.ndarray, np.ndarray] | None,
    **options: Any,
) -> pa.RecordBatchReader:
    """Print a panel with one of the core's functions; see `render` for the arguments."""
    bound = template.bind(panel.table.column_names)
    batches = function(
        panel.table,
        template=bound.texts,
        starts=pa.array(panel.starts),
        complete=pa.array(panel.complete),
        windows=None if windows is None else (_rows(windows[0]), _rows(windows[1])),
        metadata=_metadata(bound, panel.occupations),
        **options,
    )
    return pa.RecordBatchReader.from_batches(_ordered(batches.schema), _drained(batches))


def _render_stream(stream: PanelStream, bound: Template) -> pa.RecordBatchReader:
    metadata = _metadata(bound, stream.occupations)
    parts = stream.parts({*bound.header_fields, *bound.row_fields})

    def batches() -> Iterator[pa.RecordBatch]:
        with stream.naming_the_break():
            for part in parts:
                if isinstance(part, Panel):
                    yield from printed(_core.render, part, bound, windows=None, batch_bytes=BATCH_BYTES)
                else:
                    yield from _drained(part.render(bound.texts, metadata, BATCH_BYTES))

    return pa.RecordBatchReader.from_batches(text_schema(stream, bound), batches())


def _drained(batches: _core.Batches) -> Iterator[pa.RecordBatch]:
    """Every batch, then the error that ended them before their time, if one did."""
    yield from batches.reader()
    batches.finish()


def text_schema(stream: PanelStream, bound: Template) -> pa.Schema:
    """The schema of a stream's resumes."""
    empty = stream.empty().render(bound.texts, _metadata(bound, stream.occupations), BATCH_BYTES)
    return _ordered(empty.schema)


def _ordered(schema: Any) -> pa.Schema:
    """The schema with its metadata in one order, so that equal tables make equal files."""
    plain = pa.schema(schema)
    return plain.with_metadata(dict(sorted((plain.metadata or {}).items())))


@cache
def _version() -> str:
    return metadata.version("laborllm")


def _metadata(bound: Template, occupations: Occupations) -> dict[str, str]:
    described = json.dumps({**json.loads(bound.to_json()), "hash": bound.hash}, sort_keys=True, ensure_ascii=False)
    return {
        "laborllm.template": described,
        "laborllm.occupations": occupations.hash,
        "laborllm.version": _version(),
    }


def render_plain(
    panel: Panel, template: Template, *, windows: tuple[np.ndarray, np.ndarray] | None = None
) -> list[str]:
    """Print the same texts as `render`, one cell at a time: the slow twin for tests and benchmarks."""
    bound = template.bind(panel.table.column_names)
    names = {*bound.header_fields, *bound.row_fields}
    cells = {name: panel.column("occupation" if name == "title" else name).to_pylist() for name in names}
    texts = []
    for first, stop in zip(*(windows or (panel.starts[:-1], panel.starts[1:])), strict=True):
        worker = int(np.searchsorted(panel.starts, first, side="right")) - 1
        start = int(panel.starts[worker])
        text = _plain(bound, bound.header, {name: cells[name][start] for name in bound.header_fields})
        for row in range(int(first), int(stop)):
            shown = {name: cells[name][row] for name in bound.row_fields}
            if bound.education == "previous" and "education" in shown:
                before = cells["education"][row - 1] if row > start else None
                lead, rest = bound.row.split("{title}")
                text += _plain(bound, lead, shown | {"education": before}) + _plain(bound, "{title}" + rest, shown)
            else:
                text += _plain(bound, bound.row, shown)
        whole = (first, stop) == (panel.starts[worker], panel.starts[worker + 1])
        texts.append(text + bound.end if whole and panel.complete[worker] else text)
    return texts


def _plain(template: Template, text: str, values: Mapping[str, Any]) -> str:
    def value(match: re.Match[str]) -> str:
        found = values[match[1]]
        if isinstance(found, bool):
            return str(found).lower()
        return template.missing[match[1]] if found is None else str(found)

    return re.sub(r"\{(\w+)\}", value, text)


def _rows(values: np.ndarray) -> pa.Array[Any]:
    array = np.asarray(values)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise PanelError(f"windows are two vectors of integers, not {array.dtype} of {array.ndim} dimensions")
    return pa.array(array.astype(np.int64))
