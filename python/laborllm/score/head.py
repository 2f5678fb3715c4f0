"""From hidden rows to the log-probabilities of a trie's edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from laborllm.errors import ModelError
from laborllm.score.device import is_out_of_memory, upload
from laborllm.trie import TitleTrie

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_LOGITS = {"cpu": 2**25, "cuda": 2**29}
"""Logits held at a time, 128 MiB or 2 GiB in float32; their log-softmax takes as much again."""
LEAST_BLOCK = 1_024
"""Tokens of a block of the vocabulary."""
HALF = {torch.bfloat16, torch.float16}
WIDE_PRODUCTS = "dtype" in torch.ops.aten.mm.overloads()
"""Can torch multiply half-precision matrices on CUDA without rounding the sums to half precision?"""


class Head:
    """The model's own last step (output weights, bias, scale and soft cap), for the tokens that continue titles.

    Args:
        model: A causal language model.
        trie: The titles.
    """

    def __init__(self, model: PreTrainedModel, trie: TitleTrie) -> None:
        config: Any = model.config
        self._model = model
        self._output: Any = model.get_output_embeddings()
        self._factor = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
        self._cap = getattr(config, "final_logit_softcapping", None)
        self._first = trie.first.astype(np.int64)
        self._labels = trie.labels.astype(np.int64)
        self._most = MOST_LOGITS.get(model.device.type, MOST_LOGITS["cpu"])
        blocks = type(self._output) is torch.nn.Linear
        self._rows_at_once = max(1, self._most // (LEAST_BLOCK if blocks else config.vocab_size))

    def logits(self, hidden: torch.Tensor, tokens: slice | torch.Tensor | None = None) -> torch.Tensor:
        """(R, h) -> (R, V), or of some tokens alone where the output weights are a matrix; float32 at least."""
        if tokens is None:
            return self._finished(self._output(hidden))
        weight, bias = self._output.weight[tokens], self._output.bias
        if hidden.dtype == weight.dtype and hidden.is_cuda and WIDE_PRODUCTS and weight.dtype in HALF:
            logits = torch.mm(hidden, weight.T, out_dtype=torch.float32)
        else:
            logits = _wide(torch.nn.functional.linear(hidden, weight))
        return self._finished(logits if bias is None else logits + _wide(bias[tokens]))

    def edges(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The edges of each row's node, one row after another.

        Returns:
            `indptr`, int64 (R + 1,), and the trie's edges, int64.
        """
        begin, count = self._first[nodes], self._first[nodes + 1] - self._first[nodes]
        indptr = np.concatenate([[0], np.cumsum(count)])
        return indptr, np.arange(indptr[-1]) + np.repeat(begin - indptr[:-1], count)

    @torch.inference_mode()
    def raw(self, hidden: torch.Tensor, nodes: np.ndarray) -> np.ndarray:
        """Log-probability of each edge under the softmax over the whole vocabulary.

        Args:
            hidden: (R, h).
            nodes: The trie node each row stands at, int64 (R,).

        Returns:
            float64, in the order of `edges`; at most 0.

        Raises:
            ModelError: The model gives no finite numbers.
        """
        indptr, edges = self.edges(nodes)
        row, label = np.repeat(np.arange(len(nodes)), np.diff(indptr)), self._labels[edges]
        read = self._read_blocks if type(self._output) is torch.nn.Linear else self._read_whole
        parts = [hidden.new_empty(0, dtype=torch.float64)]
        begin = 0
        while begin < len(nodes):
            stop = min(begin + self._rows_at_once, len(nodes))
            own = slice(indptr[begin], indptr[stop])
            try:
                parts.append(read(hidden[begin:stop], row[own] - begin, label[own]))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self._rows_at_once == 1:
                    raise ModelError("the device has no memory for one row of logits") from error
                self._rows_at_once = min(self._rows_at_once, stop - begin) // 2 or 1
            else:
                begin = stop
        return self._fetched(torch.cat(parts))

    def _read_whole(self, hidden: torch.Tensor, row: np.ndarray, label: np.ndarray) -> torch.Tensor:
        """Log-probabilities of some tokens at some rows; (R, h), (E,), (E,) -> (E,)."""
        log_p = torch.log_softmax(self.logits(hidden), dim=-1)
        return log_p[upload(row, hidden.device), upload(label, hidden.device)].double()

    def _read_blocks(self, hidden: torch.Tensor, row: np.ndarray, label: np.ndarray) -> torch.Tensor:
        """As `_read_whole`, over a block of the vocabulary at a time, which stays in the processor's cache."""
        vocabulary, device = self._output.weight.shape[0], hidden.device
        starts = range(0, vocabulary, max(LEAST_BLOCK, self._most // len(hidden)) if hidden.is_cuda else LEAST_BLOCK)
        order = label.argsort(kind="stable")
        cuts = np.searchsorted(label[order], [*starts, vocabulary])
        place, rows, labels = (upload(x, device) for x in (order, row[order], label[order]))
        chosen = hidden.new_empty(len(label), dtype=torch.float64)
        top = torch.full_like(hidden[:, 0], -torch.inf, dtype=torch.float64)
        total = torch.zeros_like(top)
        for start, first, last in zip(starts, cuts[:-1], cuts[1:], strict=True):
            logits = self.logits(hidden, slice(start, start + starts.step))  # (R, block)
            chosen[place[first:last]] = logits[rows[first:last], labels[first:last] - start].double()
            highest = logits.amax(dim=1)
            some = logits.sub_(highest[:, None]).exp_().sum(dim=1).double()
            higher = torch.maximum(top, highest.double())
            total = total * torch.exp(top - higher) + some * torch.exp(highest - higher)
            top = higher
        return chosen - (top + total.log())[upload(row, device)]

    @torch.inference_mode()
    def of_logits(self, logits: torch.Tensor, nodes: np.ndarray) -> np.ndarray:
        """As `raw`, of logits that are there already, (R, V)."""
        indptr, edges = self.edges(nodes)
        row = np.repeat(np.arange(len(nodes)), np.diff(indptr))
        log_p = torch.log_softmax(_wide(logits), dim=-1)
        return self._fetched(log_p[upload(row, logits.device), upload(self._labels[edges], logits.device)])

    def _fetched(self, log_p: torch.Tensor) -> np.ndarray:
        found: np.ndarray = log_p.double().cpu().numpy()
        self._check_finite(found)
        return found.clip(max=0.0)

    def masked(self, hidden: torch.Tensor, nodes: np.ndarray) -> np.ndarray:
        """As `raw`, under the softmax over each node's own edges; where the output weights allow it, of these alone."""
        if type(self._output) is not torch.nn.Linear:
            indptr, _ = self.edges(nodes)
            return renormalized(self.raw(hidden, nodes), indptr)
        indptr, _ = self.edges(nodes)
        places, parts = [np.zeros(0, np.int64)], [hidden.new_zeros(0, dtype=torch.float64)]
        for node in np.unique(nodes):  # the same few tokens for all rows at a node
            rows = np.flatnonzero(nodes == node)
            at = indptr[rows][:, None] + np.arange(self._first[node + 1] - self._first[node])
            places.append(at.ravel())
            parts.append(self._own_edges(hidden[upload(rows, hidden.device)], int(node)).flatten())
        logits = np.empty(indptr[-1])
        logits[np.concatenate(places)] = torch.cat(parts).cpu().numpy()
        self._check_finite(logits)
        return renormalized(logits, indptr)

    @torch.inference_mode()
    def _own_edges(self, hidden: torch.Tensor, node: int) -> torch.Tensor:
        """Logits of one node's edges at rows that stand there; (R, h) -> float64 (R, edges)."""
        labels = upload(self._labels[self._first[node] : self._first[node + 1]], hidden.device)
        return self.logits(hidden, labels).double()

    def _check_finite(self, values: np.ndarray) -> None:
        if np.isfinite(values).all():
            return
        for name, weights in self._model.named_parameters():
            if not torch.isfinite(weights).all():
                raise ModelError(f"the weights {name} hold NaN or infinity; train again or restore them")
        raise ModelError(f"all weights are finite, but numbers overflow in {self._model.dtype}; use another dtype")

    def _finished(self, logits: torch.Tensor) -> torch.Tensor:
        logits = _wide(logits) * self._factor if self._factor != 1 else _wide(logits)
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap


def renormalized(logits: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Subtract from each ragged row its log-sum-exp; float64, rows are not empty."""
    count = np.diff(indptr)
    top = np.maximum.reduceat(logits, indptr[:-1])
    total = np.add.reduceat(np.exp(logits - np.repeat(top, count)), indptr[:-1])
    law: np.ndarray = np.minimum(logits - np.repeat(top + np.log(total), count), 0.0)
    return law


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()
