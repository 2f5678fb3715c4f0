"""Forward passes over texts, and over titles behind prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import DynamicCache

from laborllm.score.head import Masks, log_normalizer, picked
from laborllm.tokens import TitleUnits, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Laws = tuple[np.ndarray, np.ndarray]
"""Log-probabilities under the `raw` and under the `masked` law, float64, one entry per title asked for."""


class Passes:
    """One model and the J units, as one ragged array: the tokens, and the trie node in which each of them is chosen.

    Args:
        model: A causal language model in evaluation mode.
        units: The titles.
        max_tokens: Padded tokens in one forward pass, unless a single text is longer.
    """

    def __init__(self, model: PreTrainedModel, units: TitleUnits, *, max_tokens: int) -> None:
        self.model = model
        self.max_tokens = max_tokens
        self.masks = Masks(units.trie, model.device)
        self.lengths = np.array([len(unit) for unit in units.ids], np.int64)
        self.begins = np.cumsum(self.lengths) - self.lengths
        self.tokens = np.array([token for unit in units.ids for token in unit], np.int64)
        self.nodes = self._nodes(units)

    def ragged(self, titles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tokens of the named titles: position in `titles`, depth, and place in `tokens`, one entry per token."""
        lengths = self.lengths[titles]
        which = np.repeat(np.arange(len(titles)), lengths)
        depth = np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return which, depth, self.begins[titles][which] + depth

    @torch.inference_mode()
    def observed(self, texts: Tokens) -> Iterator[tuple[np.ndarray, Laws]]:
        """Score the titles that happened, for all rows of each text in one teacher-forced pass.

        Texts are sorted by length and padded on the right, where a causal model cannot see.

        Yields:
            Positions in `texts.states`, and the laws there.
        """
        ends = texts.stops[texts.rows[1:] - 1].astype(np.int64)
        for batch in batches(ends, self.max_tokens):
            width = int(ends[batch].max()) - 1
            ids = np.zeros((len(batch), width), np.int64)
            for b, text in enumerate(batch):
                ids[b, : ends[text] - 1] = texts.text(text)[: ends[text] - 1]
            logits = self.model(input_ids=self._tensor(ids), use_cache=False).logits  # (B, T, V)
            rows = np.concatenate([np.arange(texts.rows[text], texts.rows[text + 1]) for text in batch])
            text_of = np.repeat(np.arange(len(batch)), np.diff(texts.rows)[batch])
            which, depth, place = self.ragged(texts.states[rows])
            at = text_of[which] * width + texts.starts[rows][which] + depth - 1
            yield rows, self._sums(logits.flatten(0, 1)[self._tensor(at)], which, place)

    @torch.inference_mode()
    def behind_prefixes(self, prompts: Sequence[np.ndarray], titles: Sequence[np.ndarray]) -> Iterator[Laws]:
        """Score titles behind prompts that are all prefixes of the last one.

        The keys and values of the last prompt are computed once; each prompt uses the part that belongs to it.
        """
        output = self.model(
            input_ids=self._tensor(prompts[-1].astype(np.int64))[None], use_cache=True, past_key_values=DynamicCache()
        )
        layers = [(layer.keys, layer.values) for layer in output.past_key_values.layers]
        for prompt, wanted in zip(prompts, titles, strict=True):
            length = len(prompt)
            raw, masked = np.empty((2, len(wanted)))
            for batch in batches(self.lengths[wanted], self.max_tokens, overhead=length):
                past = DynamicCache(ddp_cache_data=[_shared(layer, length, len(batch)) for layer in layers])
                raw[batch], masked[batch] = self._suffixes(past, output.logits[0, length - 1], wanted[batch])
            yield raw, masked

    @torch.inference_mode()
    def behind_texts(self, prompts: Sequence[np.ndarray], titles: Sequence[np.ndarray]) -> Iterator[Laws]:
        """Score titles behind any prompts; every (prompt, title) is a text of its own."""
        for prompt, wanted in zip(prompts, titles, strict=True):
            raw, masked = np.empty((2, len(wanted)))
            lengths = self.lengths[wanted] - 1 + len(prompt)
            for batch in batches(lengths, self.max_tokens):
                which, depth, place = self.ragged(wanted[batch])
                width = int(lengths[batch].max())
                ids = np.zeros((len(batch), width), np.int64)
                ids[:, : len(prompt)] = prompt
                inner = len(prompt) + depth < width
                ids[which[inner], len(prompt) + depth[inner]] = self.tokens[place[inner]]
                logits = self.model(input_ids=self._tensor(ids), use_cache=False).logits
                at = self._tensor(which * width + len(prompt) + depth - 1)
                raw[batch], masked[batch] = self._sums(logits.flatten(0, 1)[at], which, place)
            yield raw, masked

    def _suffixes(self, past: DynamicCache, first: torch.Tensor, titles: np.ndarray) -> Laws:
        """Titles as rows behind one cached prompt; `first`, (V,), are the logits at the prompt's last token."""
        which, depth, place = self.ragged(titles)
        width = int(depth.max())
        rows = first.expand(len(titles), 1, -1)  # (B, 1, V)
        if width:
            ids = np.zeros((len(titles), width), np.int64)
            inner = depth < width
            ids[which[inner], depth[inner]] = self.tokens[place[inner]]
            behind = self.model(input_ids=self._tensor(ids), past_key_values=past, use_cache=True).logits
            rows = torch.cat([rows, behind], dim=1)  # (B, 1 + width, V)
        return self._sums(rows.flatten(0, 1)[self._tensor(which * (width + 1) + depth)], which, place)

    def _sums(self, logits: torch.Tensor, which: np.ndarray, place: np.ndarray) -> Laws:
        """Add up the log-probabilities of each title's tokens, in float64; `logits` holds one row per token, (R, V)."""
        chosen = picked(logits, self._tensor(self.tokens[place]))
        count = int(which[-1]) + 1
        raw = (chosen - log_normalizer(logits)).double().cpu().numpy()
        masked = (chosen - self.masks.log_normalizer(logits, self._tensor(self.nodes[place]))).double().cpu().numpy()
        return np.bincount(which, raw, count), np.bincount(which, masked, count)

    def _nodes(self, units: TitleUnits) -> np.ndarray:
        """The trie node in which each of `tokens` is chosen, int64."""
        nodes = np.zeros(len(self.tokens), np.int64)
        states = np.zeros(len(self.lengths), np.uint32)
        for depth in range(units.longest):
            inside = np.flatnonzero(self.lengths > depth)
            places = self.begins[inside] + depth
            nodes[places] = states[inside]
            states[inside] = units.trie.step(states[inside], self.tokens[places])
        return nodes

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.model.device)


def _shared(layer: tuple[torch.Tensor, torch.Tensor], length: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The keys and values of the first `length` positions, seen by `rows` rows without a copy."""
    keys, values = (tensor[:, :, :length].expand(rows, -1, -1, -1) for tensor in layer)
    return keys, values


def batches(lengths: np.ndarray, max_tokens: int, *, overhead: int = 0) -> Iterator[np.ndarray]:
    """Positions sorted by length, in batches whose padded size stays within `max_tokens` (or of one)."""
    order = np.argsort(lengths, kind="stable")
    begin = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - begin) * (int(lengths[order[end]]) + overhead) > max_tokens:
            yield order[begin:end]
            begin = end
