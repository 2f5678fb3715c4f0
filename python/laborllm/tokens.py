"""Resumes as token ids, with the place of every title.

A title's *unit* is the title and the newline behind it, as the tokenizer encodes them in a resume: the newline is the
terminator that keeps "Physicians" apart from "Physicians' assistants". A tokenizer under which units are not the same
in every resume, or under which a prompt is no token prefix of its resume, is refused when it is loaded; every text
that is encoded later is checked against the units again.

Source of the checks: the boundary facts measured for arXiv 2406.17972's template (a prompt that ends in a space is no
token prefix, a title encoded alone differs from the title in its resume).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from laborllm.errors import MissingDependencyError, TokenizerError
from laborllm.occupations import Occupations
from laborllm.resume import Template
from laborllm.trie import TitleTrie
from laborllm.units import plain, refuse_special_text, refuse_unknown

if TYPE_CHECKING:
    import tokenizers

SPAN = pa.struct([("start", pa.int32()), ("stop", pa.int32())])


@dataclass(frozen=True)
class TitleUnits:
    """The token ids of each title's unit, in the order of the occupations.

    Attributes:
        ids: J tuples of token ids; no unit is a prefix of another.
        bare: J booleans: the unit's last token is the newline alone, so that the law without terminator exists.
    """

    ids: tuple[tuple[int, ...], ...]
    bare: tuple[bool, ...]

    @cached_property
    def trie(self) -> TitleTrie:
        """The trie over the units."""
        return TitleTrie([list(unit) for unit in self.ids])

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest unit."""
        return max(map(len, self.ids))


@dataclass(frozen=True)
class Tokens:
    """Encoded texts: for each its ids, and for each of its rows where the title's unit stands.

    Attributes:
        ids: int32, all texts one after another.
        offsets: int64 (texts + 1,), text i is `ids[offsets[i]:offsets[i + 1]]`.
        rows: int64 (texts + 1,), the rows of text i are `rows[i]:rows[i + 1]` of the next three.
        starts: int32 (rows,), first token of each unit, counted from the start of its text; the prompt of the row is
            everything before it.
        stops: int32 (rows,), one past the unit's last token.
        states: int32 (rows,), the index of the occupation.
    """

    ids: np.ndarray
    offsets: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    states: np.ndarray

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.offsets) - 1

    def text(self, index: int) -> np.ndarray:
        """The ids of one text."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64."""
        return np.diff(self.offsets)

    def take(self, index: np.ndarray) -> Tokens:
        """The texts at these positions, in this order."""
        own = [slice(self.rows[i], self.rows[i + 1]) for i in index]
        return Tokens(
            ids=_join([self.text(i) for i in index], np.int32),
            offsets=_offsets(self.lengths[index]),
            rows=_offsets(np.diff(self.rows)[index]),
            starts=_join([self.starts[rows] for rows in own], np.int32),
            stops=_join([self.stops[rows] for rows in own], np.int32),
            states=_join([self.states[rows] for rows in own], np.int32),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Tokens]) -> Tokens:
        """Put the texts of several parts one after another."""
        return cls(
            ids=_join([part.ids for part in parts], np.int32),
            offsets=_offsets(_join([part.lengths for part in parts], np.int64)),
            rows=_offsets(_join([np.diff(part.rows) for part in parts], np.int64)),
            starts=_join([part.starts for part in parts], np.int32),
            stops=_join([part.stops for part in parts], np.int32),
            states=_join([part.states for part in parts], np.int32),
        )


def load_tokenizer(source: str | Path) -> tokenizers.Tokenizer:
    """Load the fast tokenizer of a model directory or a hub name.

    Raises:
        MissingDependencyError: The `train` extra is not installed.
        TokenizerError: There is no fast tokenizer there.
    """
    try:
        from transformers import AutoTokenizer  # noqa: PLC0415  an extra
    except ImportError as error:
        raise MissingDependencyError('tokenizing needs the train extra: pip install "laborllm[train]"') from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source), local_files_only=Path(source).is_dir())
    except (OSError, ValueError, KeyError) as error:
        raise TokenizerError(f"no tokenizer in {source} ({' '.join(str(error).split())[:200]})") from error
    if not tokenizer.is_fast:
        raise TokenizerError(f"{source} has no fast tokenizer (tokenizer.json), which gives the places of the titles")
    return plain(tokenizer.backend_tokenizer)


@dataclass(frozen=True)
class _Encoded:
    """One text as the tokenizer gives it, without what is added at its end."""

    ids: list[int]
    ends: np.ndarray  # one past the last character of each token, int64


def _encode(tokenizer: tokenizers.Tokenizer, texts: Sequence[str]) -> Iterator[_Encoded]:
    for encoding in tokenizer.encode_batch(list(texts)):
        keep = len(encoding.ids)
        while keep and encoding.special_tokens_mask[keep - 1]:
            keep -= 1
        ends = np.fromiter((end for _, end in encoding.offsets[:keep]), np.int64, keep)
        yield _Encoded(encoding.ids[:keep], ends)


def title_units(tokenizer: tokenizers.Tokenizer, occupations: Occupations, template: Template) -> TitleUnits:
    """Encode every title in its place in a resume and prove that its unit does not depend on what stands around it.

    Each title is encoded behind two prompts and before two continuations. Cost: 4 J short texts.

    Raises:
        TokenizerError: A prompt is no token prefix of its resume, the newline merges with the next line, a title
            needs the unknown token or holds a special token's text, or a unit changes with its surroundings.
    """
    refuse_special_text(tokenizer, occupations.titles)
    prompts, continuations = _surroundings(template)
    units: list[tuple[int, ...]] = []
    bare: list[bool] = []
    for prompt in prompts:
        (head,) = _encode(tokenizer, [prompt])
        for continuation in continuations:
            texts = [f"{prompt} {title}\n{continuation}" for title in occupations.titles]
            for j, encoded in enumerate(_encode(tokenizer, texts)):
                title = occupations.titles[j]
                if encoded.ids[: len(head.ids)] != head.ids:
                    raise TokenizerError(
                        f"the prompt {prompt[-24:]!r} is no token prefix of the prompt followed by {title!r}: this "
                        "tokenizer merges across the prompt's end, so title probabilities are not defined under it; "
                        "use another tokenizer or template"
                    )
                newline = len(prompt) + 1 + len(title)
                stop = int(np.searchsorted(encoded.ends, newline + 1)) + 1
                if encoded.ends[stop - 1] > newline + 1:
                    raise TokenizerError(
                        f"the newline after {title!r} merges with the next line, {continuation[:12]!r}: titles have no "
                        "terminator under this tokenizer; use another tokenizer or template"
                    )
                unit = tuple(encoded.ids[len(head.ids) : stop])
                if len(units) == j:
                    units.append(unit)
                    bare.append(len(unit) > 1 and encoded.ends[stop - 2] == newline)
                elif units[j] != unit:
                    raise TokenizerError(
                        f"the tokens of {title!r} change with what stands around it; use another tokenizer"
                    )
    refuse_unknown(tokenizer, occupations.titles, pa.array(map(list, units), pa.large_list(pa.int32())))
    found = TitleUnits(tuple(units), tuple(bare))
    found.trie  # noqa: B018  two titles with the same tokens are refused here
    return found


def _surroundings(template: Template) -> tuple[list[str], list[str]]:
    """Two prompts and two continuations in the words of the template."""

    def row(year: str, word: str) -> str:
        text = template.row
        for name in set(template.row_fields) - {"title"}:
            text = text.replace("{" + name + "}", year if name == "year" else word)
        return text

    lines = [row("1984", "college"), row("2019", "12 years of school")]
    prompts = [line[: line.index(" {title}")] for line in lines]
    after = lines[0][lines[0].index("{title}") + len("{title}\n") :]
    following = after + lines[0].replace("{title}", "Cooks")
    header_last_line = template.header.splitlines()[-1] if template.header else ""
    return [f"{header_last_line}\n{prompt}" for prompt in prompts], [following, after + template.end + "\n"]


def encode(
    resumes: pa.Table | Iterable[pa.RecordBatch],
    tokenizer: tokenizers.Tokenizer,
    *,
    units: TitleUnits,
    template: Template | None = None,
) -> Tokens:
    """Encode rendered resumes and find every title's unit in the tokens.

    Args:
        resumes: What `render` gives.
        tokenizer: A fast tokenizer.
        units: The unit of each title under it.
        template: That of the resumes, whose own words may be special tokens of the tokenizer.

    Raises:
        TokenizerError: The tokens of some title are not its unit, or a text holds a special token's text; the message
            names the worker.
    """
    batches = resumes.to_batches() if isinstance(resumes, pa.Table) else resumes
    words = f"{template.header}\n{template.row}\n{template.end}" if template else ""
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    foreign = [content for content in special if content and content not in words]
    return Tokens.concatenate([_encode_batch(batch, tokenizer, units, foreign) for batch in batches])


def _encode_batch(
    batch: pa.RecordBatch, tokenizer: tokenizers.Tokenizer, units: TitleUnits, foreign: list[str]
) -> Tokens:
    texts: list[str] = batch.column("resume").to_pylist()
    rows = batch.column("title_start").offsets.to_numpy().astype(np.int64)
    first_byte = batch.column("title_start").flatten().to_numpy()
    last_byte = batch.column("title_end").flatten().to_numpy()
    states = batch.column("occupation").flatten().indices.to_numpy().astype(np.int32)
    rows -= rows[0]
    starts, stops = np.empty(len(states), np.int32), np.empty(len(states), np.int32)
    ids: list[np.ndarray] = []
    for index, encoded in enumerate(_encode(tokenizer, texts)):
        own = slice(int(rows[index]), int(rows[index + 1]))
        characters = _character_positions(texts[index])
        space, newline = characters[first_byte[own] - 1], characters[last_byte[own]]
        starts[own] = np.searchsorted(encoded.ends, space, side="right")
        stops[own] = np.searchsorted(encoded.ends, newline + 1) + 1
        for row in range(own.start, own.stop):
            if tuple(encoded.ids[starts[row] : stops[row]]) != units.ids[states[row]]:
                raise TokenizerError(
                    f"in the resume of worker {batch.column('worker_id')[index]} the tokens of row {row - own.start} "
                    "are not those its title has elsewhere; the tokenizer does not fit this panel's text"
                )
        if found := [content for content in foreign if content in texts[index]]:
            raise TokenizerError(
                f"the resume of worker {batch.column('worker_id')[index]} holds the text of a special token; "
                f"reword the value in the panel ({found[0]!r})"
            )
        ids.append(np.asarray(encoded.ids, np.int32))
    lengths = np.array([len(text) for text in ids], np.int64)
    return Tokens(_join(ids, np.int32), _offsets(lengths), rows, starts, stops, states)


def _character_positions(text: str) -> np.ndarray:
    """Character index of every byte position of the text and of its end, int64."""
    raw = np.frombuffer(text.encode(), np.uint8)
    if len(raw) == len(text):
        return np.arange(len(raw) + 1)
    begins = (raw & 0xC0) != 0x80
    return np.concatenate([np.cumsum(begins) - 1, [len(text)]])


def to_arrow(resumes: pa.RecordBatch, tokens: Tokens) -> pa.RecordBatch:
    """The token table: who, when, in what state, where each unit stands, and the ids."""
    spans = pa.StructArray.from_arrays([pa.array(tokens.starts), pa.array(tokens.stops)], fields=list(SPAN))
    columns = {name: resumes[name] for name in ("dataset", "worker_id", "year", "occupation")}
    columns["spans"] = pa.ListArray.from_arrays(pa.array(tokens.rows.astype(np.int32)), spans)
    columns["input_ids"] = pa.LargeListArray.from_arrays(pa.array(tokens.offsets), pa.array(tokens.ids))
    return pa.record_batch(columns, metadata=resumes.schema.metadata)


def from_arrow(batch: pa.RecordBatch) -> Tokens:
    """Read a batch of the token table; the arrays are views of it."""
    ids, spans = batch["input_ids"], batch["spans"]
    offsets, rows = (column.offsets.to_numpy().astype(np.int64) for column in (ids, spans))
    units = spans.flatten()
    return Tokens(
        ids=ids.flatten().to_numpy(),
        offsets=offsets - offsets[0],
        rows=rows - rows[0],
        starts=units.field("start").to_numpy(),
        stops=units.field("stop").to_numpy(),
        states=batch["occupation"].flatten().indices.to_numpy().astype(np.int32),
    )


def prompts(batch: pa.RecordBatch) -> pa.LargeListViewArray:
    """The prompt of every row of a token table's batch: the ids before its title's unit, as views of the career's ids.

    Returns:
        Views, 16 bytes each, row after row; valid as prompts where all history is shown and fits the model's window.
    """
    ids, spans = batch["input_ids"], batch["spans"]
    rows = np.diff(spans.offsets.to_numpy())
    begins = np.repeat(ids.offsets.to_numpy()[:-1], rows)
    sizes = spans.flatten().field("start").to_numpy().astype(np.int64)
    return pa.LargeListViewArray.from_arrays(pa.array(begins), pa.array(sizes), ids.values)


def tokenizer_hash(tokenizer: tokenizers.Tokenizer) -> str:
    """SHA-256 of the tokenizer's own serialisation, as hexadecimal text."""
    return sha256(tokenizer.to_str().encode()).hexdigest()


def _join(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype, copy=False)


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
