"""The next occupation of a history as text that is always on the list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from transformers import GenerationConfig

from laborllm.errors import ModelError, PanelError, TrieError
from laborllm.generate.processor import TitleLogitsProcessor
from laborllm.generate.walk import DeviceTrie
from laborllm.panel import Panel
from laborllm.score import TitleScorer, batches
from laborllm.trie import TitleTrie

MOST_TOKENS = 2**15
"""Padded tokens of one call of the model, those to be decoded included."""
READ_AHEAD = 1_024
"""Workers whose prompts are decoded before the first of their titles is given."""


@dataclass(frozen=True)
class Decoded:
    """One title decoded behind one history.

    Attributes:
        dataset, worker_id: The worker.
        year: The year that the title is for.
        title: The title, always one of the J.
        log_p: Its log-probability under the `raw` law.
        log_p_masked: Its log-probability under the `masked` law, that of masked decoding.
    """

    dataset: str
    worker_id: int | str
    year: int
    title: str
    log_p: float
    log_p_masked: float


def next_rows(panel: Panel, *, year: int | None = None, education: str | None = None) -> Panel:
    """Append to each worker the row to be predicted, and make these rows the only targets.

    The new row repeats the worker's last row but for the year (by default the last plus one) and the education (by
    default the last); its occupation is a placeholder that no prompt shows.

    Raises:
        PanelError: `year` is not after a worker's last row, or the panel has no column `education`.
    """
    table = panel.table.cast(pa.schema([_decoded_field(field) for field in panel.table.schema]))
    last = table.take(pa.array(panel.starts[1:] - 1))
    years = panel.years()[panel.starts[1:] - 1]
    if year is not None and (years >= year).any():
        worker = last["worker_id"][int(np.argmax(years >= year))]
        raise PanelError(f"worker {worker} has a row in {year} or later; pass a --year after every worker's last row")
    if education is not None and "education" not in last.column_names:
        raise PanelError("the panel has no column education to set; leave out --education")
    following = years + 1 if year is None else np.full_like(years, year)
    last = _replaced(last, "year", pa.array(following, pa.int32()))
    if education is not None:
        last = _replaced(last, "education", pa.array([education] * len(last), pa.large_string()))
    extended = Panel.from_arrow(pa.concat_tables([table, last]), occupations=panel.occupations)
    targets = np.zeros(extended.num_rows, bool)
    targets[extended.starts[1:] - 1] = True
    return extended.with_targets(targets)


def _decoded_field(field: pa.Field) -> pa.Field:
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def _replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), table.schema.field(name), values)


def decode(
    scorer: TitleScorer,
    panel: Panel,
    *,
    beams: int = 1,
    samples: int = 0,
    law: Literal["normalized", "masked"] = "normalized",
    seed: int = 0,
    max_tokens: int = MOST_TOKENS,
) -> Iterator[Decoded]:
    """Decode titles for the target rows of a panel (see `next_rows`), prompts of similar length together.

    Args:
        scorer: The model, its tokenizer and the titles.
        panel: Its target rows are predicted.
        beams: Width of beam search under the `masked` law; 1 is greedy. A narrow beam can miss its most probable
            title; one as wide as there are titles cannot.
        samples: If positive, this many exact draws per history, and no search.
        law: What is drawn from: P(title) among the titles, or `masked`, which renormalises at every token.
        seed: Of the draws; see `TitleScorer.sample`.
        max_tokens: Padded tokens in one call of the model, unless a single sequence is longer.

    Yields:
        One title per history, or `samples` of them, in the order of the target rows.
    """
    if beams < 1 or samples < 0:
        raise ModelError(f"beams={beams} and samples={samples} are no numbers of sequences; beams is at least 1")
    decoder = None if samples else _Decoder(scorer, beams=beams, max_tokens=max_tokens)
    for start in range(0, panel.num_workers, READ_AHEAD):
        part = panel.slice_workers(start, start + READ_AHEAD)
        if decoder is None:
            titles = scorer.sample(part, samples, law=law, seed=seed)
        else:
            titles = decoder.titles(_prompts(scorer, part))[:, None]
        yield from _decoded(scorer, part, titles)


def _prompts(scorer: TitleScorer, panel: Panel) -> list[np.ndarray]:
    """The ids of the prompt of each target row."""
    windows, tokens = scorer.texts(panel)
    return [
        tokens.text(text)[: tokens.starts[tokens.rows[text] + row - windows.first[text]]]
        for text in range(len(windows))
        for row in range(int(windows.fresh[text]), int(windows.stop[text]))
        if panel.targets[row]
    ]


def _stop(scorer: TitleScorer) -> int:
    """The model's end of text; where it has none, or titles hold it, a token that ends a title and is inside of none.

    Raises:
        ModelError: There is no such token.
    """
    config = scorer.model.config
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    inside = {token for unit in scorer.units.ids for token in unit[:-1]}
    for end in [*ends, *dict.fromkeys(unit[-1] for unit in scorer.units.ids)]:
        if end is not None and end < config.vocab_size and end not in inside:
            return int(end)
    raise ModelError("every token that could end a sequence stands inside of a title; give the model another eos token")


class _Decoder:
    """Batches of prompts through `generate()`, and the titles that come out."""

    def __init__(self, scorer: TitleScorer, *, beams: int, max_tokens: int) -> None:
        self.stop = _stop(scorer)
        self.model: Any = scorer.model
        self.units = scorer.units
        on_host = scorer.model.device.type == "cpu"
        self.trie: TitleTrie | DeviceTrie = (
            self.units.trie if on_host else DeviceTrie(self.units.trie, self.model.device)
        )
        self.beams, self.max_tokens = beams, max_tokens

    def titles(self, prompts: list[np.ndarray]) -> np.ndarray:
        """One title behind each prompt, int64 (prompts,)."""
        lengths = np.array([len(prompt) for prompt in prompts]) + self.units.longest
        found = np.empty(len(prompts), np.int64)
        for batch in batches(lengths, self.max_tokens // self.beams):
            found[batch] = self._call(*self._padded([prompts[at] for at in batch]))
        return found

    def _padded(self, prompts: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and attention mask, int64 (B, T), prompts at the right."""
        ids = np.full((len(prompts), max(map(len, prompts))), self.stop, np.int64)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, ids.shape[1] - len(prompt) :] = prompt
            mask[row, ids.shape[1] - len(prompt) :] = 1
        return torch.from_numpy(ids).to(self.model.device), torch.from_numpy(mask).to(self.model.device)

    @torch.inference_mode()
    def _call(self, ids: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
        """Generate a title behind each prompt, int64 (B,).

        What the base's own configuration adds is left out: a penalty there would change the law.
        """
        width = ids.shape[1]
        config = GenerationConfig(
            max_new_tokens=self.units.longest,
            renormalize_logits=True,
            pad_token_id=self.stop,
            eos_token_id=self.stop,
            num_beams=self.beams,
            **({"length_penalty": 0.0} if self.beams > 1 else {}),
        )
        configured, self.model.generation_config = self.model.generation_config, GenerationConfig()
        process = TitleLogitsProcessor(self.trie, prompt_length=width, stop=self.stop, in_place=True)
        try:
            output = self.model.generate(
                input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=[process]
            )
        finally:
            self.model.generation_config = configured
        states = self.units.trie.walk(output[:, width:].numpy(force=True))
        titles: np.ndarray = self.units.trie.title(states)
        if (titles < 0).any():
            raise TrieError("a sequence is no title; this is a defect, please report it")
        return titles


def _decoded(scorer: TitleScorer, panel: Panel, titles: np.ndarray) -> Iterator[Decoded]:
    """Decoded titles with their log-probabilities; `titles`, int64 (N, titles each), of the target rows."""
    different = [np.unique(row) for row in titles]
    laws = zip(*scorer.log_p_of(panel, different), strict=True)
    datasets, workers, years = panel.column("dataset"), panel.column("worker_id"), panel.years()
    for row, chosen, names, (raw, masked) in zip(
        np.flatnonzero(panel.targets).tolist(), titles, different, laws, strict=True
    ):
        for title, at in zip(chosen.tolist(), np.searchsorted(names, chosen).tolist(), strict=True):
            yield Decoded(
                dataset=datasets[row].as_py(),
                worker_id=workers[row].as_py(),
                year=int(years[row]),
                title=scorer.occupations.titles[title],
                log_p=float(raw[at]),
                log_p_masked=float(masked[at]),
            )
