"""Next-token loss on resumes, summed so that any batch size gives the same mean."""

from __future__ import annotations

import torch
from torch.nn import functional


def weighted_loss(logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted sum of the negative log-probabilities of each token given those before it, in float32.

    Args:
        logits: (B, T, V).
        ids: (B, T), the same texts.
        weights: (B, T), weight of each token as a label; zero for padding, for the first token, and for whatever is
            not to be learned. Divide the sum by the sum of weights of the whole optimiser step.
    """
    labelled = weights[:, 1:] > 0
    nll = functional.cross_entropy(logits[:, :-1][labelled].float(), ids[:, 1:][labelled], reduction="none")
    return (nll * weights[:, 1:][labelled]).sum()
