"""The law over titles without a hook into attention: each title as a text of its own, or as a row behind a cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from transformers import DynamicCache

from laborllm.score.found import Found
from laborllm.score.head import Head, renormalized
from laborllm.score.spelling import Spelling
from laborllm.tokens import Tokens
from laborllm.trie import TitleTrie

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Laws = tuple[np.ndarray, np.ndarray]
"""Log-probabilities under the `raw` and under the `masked` law, float64, one entry per title asked for."""
Behind = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], Iterator[Laws]]


class Passes:
    """Scores titles by calls of the model as it is.

    Args:
        model: A causal language model in evaluation mode.
        trie: The titles.
        spelling: The same.
        cached: Compute the keys and values of a career once, and hang the titles of each year on the part that belongs
            to it; else every (prompt, title) is a text of its own.
        max_tokens: Padded tokens in one forward pass, unless a single text is longer.
    """

    def __init__(
        self, model: PreTrainedModel, trie: TitleTrie, spelling: Spelling, *, cached: bool, max_tokens: int
    ) -> None:
        self.model = model
        self.spelling = spelling
        self.max_tokens = max_tokens
        self._head = Head(model, trie)
        self._first = trie.first.astype(np.int64)
        self._behind: Behind = self.behind_prefixes if cached else self.behind_texts

    def observed(self, tokens: Tokens, rows: np.ndarray, titles: Sequence[np.ndarray] | None = None) -> Iterator[Found]:
        """As `Method.observed`; texts are sorted by length and padded on the right, where a causal model cannot see."""
        if not len(rows):
            return
        text = np.searchsorted(tokens.rows, rows, side="right") - 1
        _, first = np.unique(text, return_index=True)
        last = np.append(first[1:], len(rows)) - 1
        for batch in batches(tokens.stops[rows[last]].astype(np.int64), self.max_tokens):
            here = np.sort(np.concatenate([np.arange(first[at], last[at] + 1) for at in batch]))
            raw, masked = self._teacher_forced(tokens, rows[here])
            if titles is None:
                yield Found(rows[here], raw, masked)
            else:
                laws = zip(*self._behind_rows(tokens, rows[here], [titles[at] for at in here]), strict=True)
                yield Found(rows[here], raw, masked, *(np.concatenate(law) for law in laws))

    def whole(self, tokens: Tokens, rows: np.ndarray, *, law: Literal["raw", "masked"]) -> Iterator[Found]:  # noqa: ARG002
        """As `Method.whole`; both laws come together."""
        if not len(rows):
            return
        every = np.arange(len(self.spelling.lengths))
        text = np.searchsorted(tokens.rows, rows, side="right") - 1
        for here in np.split(rows, np.flatnonzero(np.diff(text)) + 1):
            laws = self._behind_rows(tokens, here, [every] * len(here))
            raw, masked = (np.stack(one) for one in zip(*laws, strict=True))
            at = np.arange(len(here)), tokens.states[here]
            yield Found(here, raw[at], masked[at], raw, masked)

    def _behind_rows(self, tokens: Tokens, rows: np.ndarray, titles: Sequence[np.ndarray]) -> Iterator[Laws]:
        text = np.searchsorted(tokens.rows, rows, side="right") - 1
        for one in np.unique(text):
            at = np.flatnonzero(text == one)
            ids = tokens.text(one)
            yield from self._behind([ids[: tokens.starts[row]] for row in rows[at]], [titles[i] for i in at.tolist()])

    @torch.inference_mode()
    def _teacher_forced(self, tokens: Tokens, rows: np.ndarray) -> Laws:
        """What happened at some rows, from one padded pass over their texts."""
        text = np.searchsorted(tokens.rows, rows, side="right") - 1
        texts, text_of = np.unique(text, return_inverse=True)
        ends = np.zeros(len(texts), np.int64)
        np.maximum.at(ends, text_of, tokens.stops[rows])
        ids = np.zeros((len(texts), int(ends.max()) - 1), np.int64)
        for b, one in enumerate(texts):
            ids[b, : ends[b] - 1] = tokens.text(one)[: ends[b] - 1]
        logits = self.model(input_ids=self._tensor(ids), use_cache=False).logits  # (B, T, V)
        which, depth, place = self.spelling.ragged(tokens.states[rows])
        at = text_of[which] * ids.shape[1] + tokens.starts[rows][which] + depth - 1
        return self._sums(logits.flatten(0, 1)[self._tensor(at)], which, place)

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
            for batch in batches(self.spelling.lengths[wanted], self.max_tokens, overhead=length):
                past = DynamicCache(ddp_cache_data=[_shared(layer, length, len(batch)) for layer in layers])
                raw[batch], masked[batch] = self._suffixes(past, output.logits[0, length - 1], wanted[batch])
            yield raw, masked

    @torch.inference_mode()
    def behind_texts(self, prompts: Sequence[np.ndarray], titles: Sequence[np.ndarray]) -> Iterator[Laws]:
        """Score titles behind any prompts; every (prompt, title) is a text of its own."""
        for prompt, wanted in zip(prompts, titles, strict=True):
            raw, masked = np.empty((2, len(wanted)))
            lengths = self.spelling.lengths[wanted] - 1 + len(prompt)
            for batch in batches(lengths, self.max_tokens):
                which, depth, place = self.spelling.ragged(wanted[batch])
                width = int(lengths[batch].max())
                ids = np.zeros((len(batch), width), np.int64)
                ids[:, : len(prompt)] = prompt
                inner = len(prompt) + depth < width
                ids[which[inner], len(prompt) + depth[inner]] = self.spelling.tokens[place[inner]]
                logits = self.model(input_ids=self._tensor(ids), use_cache=False).logits
                at = self._tensor(which * width + len(prompt) + depth - 1)
                raw[batch], masked[batch] = self._sums(logits.flatten(0, 1)[at], which, place)
            yield raw, masked

    def _suffixes(self, past: DynamicCache, first: torch.Tensor, titles: np.ndarray) -> Laws:
        """Titles as rows behind one cached prompt; `first`, (V,), are the logits at the prompt's last token."""
        which, depth, place = self.spelling.ragged(titles)
        width = int(depth.max())
        rows = first.expand(len(titles), 1, -1)  # (B, 1, V)
        if width:
            ids = np.zeros((len(titles), width), np.int64)
            inner = depth < width
            ids[which[inner], depth[inner]] = self.spelling.tokens[place[inner]]
            behind = self.model(input_ids=self._tensor(ids), past_key_values=past, use_cache=True).logits
            rows = torch.cat([rows, behind], dim=1)  # (B, 1 + width, V)
        return self._sums(rows.flatten(0, 1)[self._tensor(which * (width + 1) + depth)], which, place)

    def _sums(self, logits: torch.Tensor, which: np.ndarray, place: np.ndarray) -> Laws:
        """Add up the log-probabilities of each title's tokens, in float64; `logits` holds one row per token, (R, V)."""
        nodes = self.spelling.nodes[place]
        indptr, _ = self._head.edges(nodes)
        chosen = indptr[:-1] + self.spelling.edges[place] - self._first[nodes]
        count = int(which[-1]) + 1
        raw = self._head.of_logits(logits, nodes)
        return np.bincount(which, raw[chosen], count), np.bincount(which, renormalized(raw, indptr)[chosen], count)

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
