"""The slow, obvious twin of the scorer: every title with its own prompt, one forward pass each, no cache, no padding.

It defines what the fast paths must equal; the tests use it as their oracle.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from laborllm.tokens import TitleUnits


@torch.inference_mode()
def law(model: PreTrainedModel, prompts: Sequence[np.ndarray], units: TitleUnits) -> tuple[np.ndarray, np.ndarray]:
    """Log P(title | prompt) of every title under the `raw` and the `masked` law.

    Args:
        model: A causal language model in evaluation mode.
        prompts: N arrays of token ids.
        units: The J titles' units.

    Returns:
        Two float64 arrays of shape (N, J), natural logs. Raw: the sum over the unit's tokens of the log-softmax over
        the full vocabulary. Masked: the same with each softmax taken over the tokens that continue some title.
    """
    allowed = _allowed(units)
    raw = np.zeros((len(prompts), len(units.ids)))
    masked = np.zeros_like(raw)
    for n, prompt in enumerate(prompts):
        for j, unit in enumerate(units.ids):
            ids = torch.tensor([*prompt.tolist(), *unit], device=model.device)
            logits = model(input_ids=ids[None], use_cache=False).logits[0]  # (T, V)
            logits = logits if logits.dtype == torch.float64 else logits.float()
            for depth, token in enumerate(unit):
                row = logits[len(prompt) + depth - 1]
                choice = row[torch.tensor(sorted(allowed[unit[:depth]]), device=row.device)]
                raw[n, j] += float(row[token] - torch.logsumexp(row, 0))
                masked[n, j] += float(row[token] - torch.logsumexp(choice, 0))
    return raw, masked


def _allowed(units: TitleUnits) -> dict[tuple[int, ...], set[int]]:
    """The tokens that continue some title, by what has been written of it."""
    allowed: dict[tuple[int, ...], set[int]] = {}
    for unit in units.ids:
        for depth, token in enumerate(unit):
            allowed.setdefault(unit[:depth], set()).add(token)
    return allowed
