"""Panel → token table: straight from fragments where that is proved exact for the tokenizer, else through the text."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from laborllm import _core
from laborllm.files import with_metadata
from laborllm.fragments import FragmentEncoder, InexactError
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.resume import Template, printed, render, text_schema
from laborllm.stream import PanelStream
from laborllm.tokens import Tokens, encode, from_arrow, title_units, to_arrow, tokenizer_hash

if TYPE_CHECKING:
    import tokenizers

BATCH_BYTES = 2 << 20
"""Token ids per batch, in bytes, about; as for text."""
DIRECT_ROWS = 50_000
"""The proof costs as much as a few thousand resumes: a panel of fewer rows goes through the text."""

Windows = tuple[np.ndarray, np.ndarray]


class PanelEncoder:
    """Gives the ids that the tokenizer gives for the whole text of each career, and the place of every title's unit.

    Either way gives the same ids. Where the proof fails, the encoder says so once, in a warning, and goes through the
    text ever after.

    Args:
        tokenizer: A fast tokenizer, as `laborllm.tokens.load_tokenizer` gives it.
        occupations: The J states.
        template: It is bound to a panel's columns where it is not yet.

    Raises:
        TokenizerError: Title probabilities are not defined under this tokenizer; see `title_units`.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, occupations: Occupations, template: Template) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.units = title_units(tokenizer, occupations, template)
        titles = zip(occupations.titles, self.units.ids, strict=True)
        self._fragments: FragmentEncoder | None = FragmentEncoder(
            tokenizer, units={f" {title}\n": list(unit) for title, unit in titles}
        )

    def __call__(self, panel: Panel, windows: Windows | None = None) -> Tokens:
        """Encode whole careers, or windows of rows as `render` has them, into arrays.

        Raises:
            TokenizerError: As `laborllm.tokens.encode`.
        """
        if panel.num_rows < DIRECT_ROWS:
            return encode(
                render(panel, self.template, windows=windows), self.tokenizer, units=self.units, template=self.template
            )
        return Tokens.concatenate([from_arrow(batch) for batch in self.table(panel, windows)])

    def table(self, panel: Panel, windows: Windows | None = None) -> pa.RecordBatchReader:
        """Encode into a stream of the token table, in batches of about half a million ids.

        Columns: dataset, worker_id, year (list), occupation (list of dictionary), spans (list<struct<start, stop>>,
        each title's unit, counted in tokens of its text) and input_ids (large_list<int32>). The schema carries
        `laborllm.tokenizer` beside what resumes carry.

        Raises:
            TokenizerError: As `laborllm.tokens.encode`.
        """
        batches = self._direct(panel, windows) or self._through_text(panel, windows)
        schema = with_metadata(batches.schema, {"tokenizer": self._hash})
        metadata = schema.metadata
        return pa.RecordBatchReader.from_batches(schema, (one.replace_schema_metadata(metadata) for one in batches))

    def stream(self, panels: PanelStream) -> pa.RecordBatchReader:
        """Encode a panel that may be larger than memory into a stream of the token table, as `table` does."""
        texts = text_schema(panels, self.template.bind(panels.column_names))
        schema = with_metadata(self._table_schema(texts), {"tokenizer": self._hash})
        batches = (batch for panel in panels.panels() for batch in self.table(panel))
        return pa.RecordBatchReader.from_batches(schema, batches)

    def _table_schema(self, texts: pa.Schema) -> pa.Schema:
        nothing = encode([], self.tokenizer, units=self.units)
        return to_arrow(pa.RecordBatch.from_pylist([], texts), nothing).schema

    @cached_property
    def _hash(self) -> str:
        return tokenizer_hash(self.tokenizer)

    def _direct(self, panel: Panel, windows: Windows | None) -> pa.RecordBatchReader | None:
        if self._fragments is None:
            return None
        try:
            return printed(
                _core.tokenize, panel, self.template, windows=windows, batch_bytes=BATCH_BYTES, encode=self._fragments
            )
        except InexactError as error:
            warnings.warn(f"encoding whole texts, which is slow: {error}", stacklevel=4)
            self._fragments = None
            return None

    def _through_text(self, panel: Panel, windows: Windows | None) -> pa.RecordBatchReader:
        texts = render(panel, self.template, windows=windows)

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in texts:
                yield to_arrow(batch, encode([batch], self.tokenizer, units=self.units, template=self.template))

        return pa.RecordBatchReader.from_batches(self._table_schema(texts.schema), batches())
