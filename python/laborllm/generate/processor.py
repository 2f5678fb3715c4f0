"""The title trie for transformers' `generate()`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from transformers import LogitsProcessor

from laborllm.errors import TrieError
from laborllm.generate.walk import DeviceTrie
from laborllm.trie import TitleTrie


class TitleLogitsProcessor(LogitsProcessor):
    """Allows the tokens that continue a title, and after its last token `stop` alone.

    It keeps no state: what stands behind the prompt is walked from the root at every call, so that beams may be
    reordered, rows finished and batches padded on the left. A row that left the trie, because a beam had to take a
    token of probability zero, may only stop.

    What it lets through are logits: sampling renormalises them over the allowed tokens at every step, and so draws
    from the `masked` law, which is not P(title) (the `raw` and `normalized` laws). Beam search needs
    `renormalize_logits=True` for the same law.

    Let `max_new_tokens` be at least `trie.longest`, or long titles are cut; what other processors forbid before it
    (`suppress_tokens`, `min_new_tokens`) may leave nothing that is allowed.

    Args:
        trie: The titles. On the CPU each call costs little more than the new scores; for scores on another device a
            `DeviceTrie` is made there at the first call, whose later calls never wait for the host. Pass a
            `DeviceTrie` to share one between processors.
        prompt_length: Columns before the first token of a title, the padding on the left included; 0 where the prompt
            was given as embeddings.
        stop: The token that ends a sequence, `eos_token_id` and best `pad_token_id` too.
        in_place: Overwrite the scores that are given: no new tensor, which takes most of the time. Not for
            `generate(output_logits=True)`, which gives the same tensor out as the logits.

    >>> process = TitleLogitsProcessor(TitleTrie([[5, 6, 1], [5, 1]]), prompt_length=2, stop=0)
    >>> process(torch.tensor([[3, 3, 5], [0, 3, 7]]), torch.zeros(2, 8)).isfinite().nonzero().tolist()
    [[0, 1], [0, 6], [1, 0]]
    """

    supports_continuous_batching = False

    def __init__(self, trie: TitleTrie | DeviceTrie, *, prompt_length: int, stop: int, in_place: bool = False) -> None:
        if prompt_length < 0:
            raise TrieError(f"prompt_length={prompt_length} is no number of columns; pass the width of the prompts")
        self.trie = trie
        self.prompt_length = prompt_length
        self.stop = stop
        self.in_place = in_place

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        """Mask one step's scores.

        Args:
            input_ids: The prompts and what was decoded so far, (B, prompt_length + T).
            scores: (B, V), V at least the trie's vocabulary.

        Returns:
            (B, V): the scores of allowed tokens, -inf elsewhere; at least one token a row is allowed.

        Raises:
            TrieError: V is smaller than the trie's vocabulary or does not hold `stop`, or there are fewer columns
                than `prompt_length`.
        """
        if len(input_ids) != len(scores):
            raise TrieError(f"there are {len(input_ids)} rows of ids and {len(scores)} of scores; pass one for each")
        if input_ids.shape[1] < self.prompt_length:
            raise TrieError(
                f"there are {input_ids.shape[1]} columns of ids and a prompt_length of {self.prompt_length}; "
                "pass the width of the padded prompts"
            )
        check_width(self.trie, scores, stop=self.stop)
        ids = input_ids[:, self.prompt_length :]
        if isinstance(self.trie, TitleTrie) and scores.device.type != "cpu":
            self.trie = DeviceTrie(self.trie, scores.device)
        if isinstance(self.trie, DeviceTrie):
            states = self.trie.states(ids)
            return self.trie.masked(scores, states, depth=ids.shape[1], stop=self.stop, in_place=self.in_place)
        allowed = allowed_entries(self.trie, self.trie.walk(ids.numpy()), stop=self.stop)
        kept = scores[allowed]
        masked = scores.fill_(-torch.inf) if self.in_place else torch.full_like(scores, -torch.inf)
        masked[allowed] = kept
        return masked


def prefix_allowed_tokens_fn(
    trie: TitleTrie, prompt_length: int, *, stop: int
) -> Callable[[int, torch.Tensor], list[int]]:
    """Make a `prefix_allowed_tokens_fn` for transformers; `TitleLogitsProcessor` does the same for whole batches.

    Masked decoding draws from the `masked` law, which is not P(title).

    Args:
        trie: The titles.
        prompt_length: Columns before the first token of a title, the padding on the left included.
        stop: The token that is allowed after a title's last token, alone.

    Returns:
        A function of a batch index, which it does not look at, and the ids of one sequence, (T,).
    """

    def allowed(_batch: int, ids: torch.Tensor) -> list[int]:
        if not 0 <= prompt_length <= len(ids):
            raise TrieError(f"there are {len(ids)} ids and a prompt_length of {prompt_length}; pass that of the prompt")
        states = trie.walk(ids[prompt_length:].numpy(force=True)[None])
        _, tokens = trie.allowed(states)
        return tokens.tolist() or [stop]

    return allowed


def allowed_entries(trie: TitleTrie, states: np.ndarray, *, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns of the allowed entries of a (B, V) tensor, int64 each; `stop` in rows that have no other."""
    bounds, tokens = trie.allowed(states)
    counts = np.diff(bounds)
    ended = np.flatnonzero(counts == 0)
    rows = np.concatenate([np.repeat(np.arange(len(states)), counts), ended])
    columns = np.concatenate([tokens.astype(np.int64), np.full(len(ended), stop)])
    return torch.from_numpy(rows), torch.from_numpy(columns)


def check_width(trie: TitleTrie | DeviceTrie, scores: torch.Tensor, *, stop: int) -> None:
    """Refuse scores that have no column for a token of the trie, or for `stop`.

    Raises:
        TrieError: The message names both widths.
    """
    width = scores.shape[-1]
    if width < trie.vocabulary:
        raise TrieError(
            f"the logits are {width} wide and the trie holds token {trie.vocabulary - 1}; "
            "build the trie with the tokenizer of this model"
        )
    if not 0 <= stop < width:
        raise TrieError(
            f"the logits are {width} wide and have no token {stop} to stop with; pass the model's eos token"
        )
