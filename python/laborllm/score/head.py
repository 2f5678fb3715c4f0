"""From rows of logits to log-probabilities, under the full vocabulary and under the trie's masks."""

from __future__ import annotations

import torch

from laborllm.trie import TitleTrie


def log_normalizer(logits: torch.Tensor) -> torch.Tensor:
    """Log of the softmax's denominator over the whole vocabulary, in float32 at least; (R, V) -> (R,)."""
    return torch.logsumexp(_wide(logits), dim=-1)


class Masks:
    """Allowed tokens of each trie node, flat, for the `masked` law."""

    def __init__(self, trie: TitleTrie, device: torch.device) -> None:
        self.first = torch.tensor(trie.first.astype("int64"), device=device)  # (nodes + 1,)
        self.labels = torch.tensor(trie.labels.astype("int64"), device=device)  # (edges,)

    def log_normalizer(self, logits: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
        """Log of the softmax's denominator over the tokens allowed at each row's node; (R, V), (R,) -> (R,)."""
        begin, count = self.first[nodes], self.first[nodes + 1] - self.first[nodes]
        row = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), count)
        within = torch.arange(len(row), device=nodes.device) - (count.cumsum(0) - count)[row]
        allowed = _wide(logits[row, self.labels[begin[row] + within]])  # (edges of these nodes,)
        top = torch.full((len(nodes),), -torch.inf, dtype=allowed.dtype, device=nodes.device)
        top = top.scatter_reduce(0, row, allowed, "amax")
        total = torch.zeros_like(top).index_add(0, row, torch.exp(allowed - top[row]))
        return top + torch.log(total)


def picked(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The logit of one token a row; (R, V), (R,) -> (R,)."""
    return _wide(logits.gather(-1, tokens[:, None]).squeeze(-1))


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()
