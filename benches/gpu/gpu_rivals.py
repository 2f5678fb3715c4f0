"""What others do to score titles behind prompts, and how many tokens they forward."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

AT_ONCE = 64
"""Titles behind one copy of the cache."""


class CachedLoop:
    """The usual loop over a prefix cache: each prompt is run once, its cache copied behind 64 titles at a time.

    Args:
        model: A causal language model in evaluation mode.
        units: The titles' token ids.
    """

    def __init__(self, model: Any, units: Sequence[tuple[int, ...]]) -> None:
        self.model = model
        self.units = units

    @torch.inference_mode()
    def law(self, prompt: np.ndarray) -> np.ndarray:
        """Log P of every title, float64 (J,)."""
        device = self.model.device
        ids = torch.from_numpy(prompt.astype(np.int64)).to(device)[None]
        output = self.model(input_ids=ids, use_cache=True, past_key_values=DynamicCache(), logits_to_keep=1)
        first = torch.log_softmax(output.logits[:, -1].float(), dim=-1)  # (1, V)
        found = []
        for begin in range(0, len(self.units), AT_ONCE):
            some = self.units[begin : begin + AT_ONCE]
            width = max(map(len, some))
            filled = torch.tensor([[*unit, *[0] * (width - len(unit))] for unit in some], device=device)
            lengths = torch.tensor([len(unit) for unit in some], device=device)
            log_p = first[0, filled[:, :1]].double()
            if width > 1:
                past = copy.deepcopy(output.past_key_values)
                past.batch_repeat_interleave(len(some))
                logits = self.model(input_ids=filled[:, :-1], past_key_values=past, use_cache=True).logits
                behind = torch.log_softmax(logits.float(), dim=-1).gather(2, filled[:, 1:, None])[:, :, 0]
                log_p = torch.cat([log_p, behind.double()], dim=1)
            inside = torch.arange(width, device=device) < lengths[:, None]
            found.append(torch.where(inside, log_p, 0).sum(dim=1).cpu().numpy())
        return np.concatenate(found)


def forwarded(starts: np.ndarray, lengths: np.ndarray) -> dict[str, int]:
    """Tokens that each rival forwards for all titles at some prompts of one career.

    Args:
        starts: Tokens of each prompt.
        lengths: Tokens of each title; the last one of a title is not forwarded.
    """
    behind, titles, prompts = int((lengths - 1).sum()), len(lengths), len(starts)
    filled = sum(len(some) * int(some.max() - 1) for some in np.split(lengths, range(AT_ONCE, titles, AT_ONCE)))
    return {
        "strings": int(starts.sum()) * titles + prompts * behind,
        "cache, loop": int(starts.sum()) + prompts * filled,
        "cache, sorted": int(starts.max()) + prompts * behind,
    }
