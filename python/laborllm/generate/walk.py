"""The title trie on a torch device, walked without a word to the host."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from laborllm.trie import TitleTrie


class DeviceTrie:
    """A copy of a trie on a device, for decoding loops that must not wait for the host.

    Shapes depend on the batch and on how many tokens stand behind the prompt, never on a state, and no value is read
    back: every method can stand in a CUDA graph and in `torch.compile(fullgraph=True)`.

    A state is the trie's own node number as int64; a sequence that left the trie is in `nowhere`, which is `num_nodes`
    here. The node behind (state, token) is one binary search over `state * stride + token`, ascending over all edges;
    a node without edges keeps its sequences. The tokens allowed after d tokens are padded to the widest fan-out of
    depth d, those of the root are one row for all sequences.

    Args:
        trie: The trie to copy.
        device: Where to.

    Attributes:
        num_nodes, vocabulary: Those of the trie.
        nowhere: The state of a sequence that left the trie.
        deepest: Tokens of the longest title.

    >>> trie = DeviceTrie(TitleTrie([[5, 6, 1], [5, 1]]), "cpu")
    >>> states = trie.states(torch.tensor([[5], [7]]))
    >>> trie.candidates(states, 1)[1].tolist()
    [[True, True], [False, False]]
    """

    def __init__(self, trie: TitleTrie, device: torch.device | str) -> None:
        first = trie.first.astype(np.int64)
        fan_out = np.diff(first)
        self.num_nodes = self.nowhere = trie.num_nodes
        self.vocabulary = trie.vocabulary
        self._stride = trie.vocabulary + 2  # room for any token below 0 and any above the vocabulary
        bounds = pairwise(trie.levels)
        self._widths = [max(1, int(fan_out[begin:end].max())) for begin, end in bounds]
        self.deepest = trie.longest
        parents = np.repeat(np.arange(trie.num_nodes), fan_out)
        keys = np.append(parents * self._stride + trie.labels.astype(np.int64) + 1, np.iinfo(np.int64).max)
        narrow = np.int32 if trie.num_nodes < 2**31 else np.int64
        self._keys = torch.from_numpy(keys).to(device)  # (edges + 1,)
        self._first = torch.from_numpy(np.append(first, first[-1]).astype(narrow)).to(device)  # (nodes + 2,)
        self._root = torch.from_numpy(trie.labels[: first[1]].astype(np.int64)).to(device)  # (fan-out of the root,)

    def __repr__(self) -> str:
        return f"DeviceTrie(num_nodes={self.num_nodes}, device='{self.device}', nbytes={self.nbytes})"

    @property
    def device(self) -> torch.device:
        """Where the copy lies."""
        return self._keys.device

    @property
    def nbytes(self) -> int:
        """Bytes on the device: 12 a node, and 8 for each token that may begin a title."""
        return sum(tensor.nbytes for tensor in (self._keys, self._first, self._root))

    def start(self, count: int) -> torch.Tensor:
        """The state before the first token, int64 (count,)."""
        return torch.zeros(count, dtype=torch.int64, device=self.device)

    def states(self, ids: torch.Tensor) -> torch.Tensor:
        """Walk from the root; what stands behind a title's last token is not looked at.

        Args:
            ids: The tokens after the prompt, int64 (B, T).

        Returns:
            int64 (B,).
        """
        states = self.start(ids.shape[0])
        for position in range(min(ids.shape[1], self.deepest)):
            states = self.step(states, ids[:, position])
        return states

    def step(self, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Walk one token on; int64 (B,), (B,) -> (B,). A finished title stays where it is, and so does `nowhere`."""
        wanted = states * self._stride + tokens.clamp(-1, self.vocabulary) + 1
        edges = torch.searchsorted(self._keys, wanted)
        inner = self._first[states] < self._first[states + 1]
        stays = torch.where(inner, self.nowhere, states)
        return torch.where(self._keys[edges] == wanted, edges + 1, stays)

    def candidates(self, states: torch.Tensor, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens that continue a title.

        Args:
            states: int64 (B,).
            depth: Tokens behind the prompt, finished titles' padding included: what led to these states.

        Returns:
            Tokens int64 (B, K) and whether each is one, bool (B, K), where K is the widest fan-out of this depth, at
            least 1. A row's allowed tokens come first, ascending, the last of them repeated to the end of the row; a
            row with none is 0 and False throughout.
        """
        if depth == 0:
            tokens = self._root.expand(states.shape[0], -1)
            return tokens, torch.ones_like(tokens, dtype=torch.bool)
        width = self._widths[depth] if depth <= self.deepest else 1
        begin = self._first[states].long()
        count = self._first[states + 1] - begin
        column = torch.arange(width, device=self.device)
        edges = begin[:, None] + torch.minimum(column, (count - 1).clamp(min=0)[:, None])
        tokens = self._keys[edges] - states[:, None] * self._stride - 1
        return torch.where(count[:, None] > 0, tokens, 0), column < count[:, None]

    def masked(
        self, scores: torch.Tensor, states: torch.Tensor, *, depth: int, stop: int, in_place: bool = False
    ) -> torch.Tensor:
        """Keep the scores of allowed tokens, and -inf elsewhere: one full write and a small scatter.

        Args:
            scores: (B, V), V at least the trie's vocabulary and above `stop`.
            states: int64 (B,).
            depth: As in `candidates`.
            stop: The one token that is allowed after a title's last token, and in `nowhere`.
            in_place: Overwrite `scores`.

        Returns:
            (B, V), of the type of `scores`.
        """
        tokens, valid = self.candidates(states, depth)
        tokens = torch.where(valid[:, :1], tokens, stop)
        kept = scores.gather(1, tokens)
        masked = scores.fill_(-torch.inf) if in_place else torch.full_like(scores, -torch.inf)
        return masked.scatter_(1, tokens, kept)
