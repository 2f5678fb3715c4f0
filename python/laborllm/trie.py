"""The token sequences of J titles as a trie: which tokens may come next, and which title has been said."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from laborllm import _core
from laborllm.errors import TrieError


class TitleTrie:
    """A trie over token ids, one unit (the tokens of a title and its terminator) per title.

    Nodes are in level order and the root is node 0. The edges of node n are `first[n]:first[n + 1]`, ascending by
    token, and edge e leads to node e + 1, so that `labels[n - 1]` is the token that leads to node n. Every title ends
    in a leaf.

    Args:
        units: Token ids per title, in the order of the titles.

    Raises:
        TrieError: A unit is empty, repeated, or begins another; the message names both rows.

    >>> trie = TitleTrie([[5, 6, 1], [5, 1]])
    >>> trie.allowed(trie.walk([5]))
    [1, 6]
    >>> trie.title(trie.walk([5, 1]))
    1
    """

    def __init__(self, units: Sequence[Sequence[int]]) -> None:
        rows = [[int(token) for token in unit] for unit in units]
        for row, unit in enumerate(rows):
            if unit and not (min(unit) >= 0 and max(unit) < 1 << 32):
                raise TrieError(
                    f"the unit in row {row} holds a token id outside 0 to 2**32 - 1; pass ids of a vocabulary"
                )
        self._core = _core.TitleTrie(rows)

    def __repr__(self) -> str:
        return f"TitleTrie(num_nodes={self.num_nodes})"

    @property
    def num_nodes(self) -> int:
        """Nodes, the root among them."""
        return self._core.num_nodes

    @cached_property
    def first(self) -> np.ndarray:
        """First edge of each node, then the number of edges, uint32, shape (nodes + 1,)."""
        return _numpy(self._core.first)

    @cached_property
    def labels(self) -> np.ndarray:
        """Token of each edge, uint32, shape (edges,) = (nodes - 1,)."""
        return _numpy(self._core.labels)

    @cached_property
    def title_of(self) -> np.ndarray:
        """Title that ends at each node, -1 where none does, int32, shape (nodes,)."""
        return _numpy(self._core.title_of)

    def allowed(self, state: int) -> list[int]:
        """Tokens that may follow a node, ascending; none at the end of a title."""
        tokens = self._core.allowed(self._known(state))
        return [] if tokens is None else tokens

    def advance(self, state: int, token: int) -> int | None:
        """Give the node after one token, None where the token is not allowed."""
        return self._core.advance(self._known(state), token) if 0 <= token < 1 << 32 else None

    def walk(self, tokens: Sequence[int]) -> int | None:
        """Give the node after several tokens from the root, None where one of them is not allowed."""
        state: int | None = 0
        for token in tokens:
            if state is None:
                return None
            state = self.advance(state, token)
        return state

    def title(self, state: int) -> int | None:
        """Give the title that ends at a node, None inside of titles."""
        return self._core.title(self._known(state))

    def _known(self, state: int) -> int:
        if not 0 <= state < self.num_nodes:
            raise TrieError(f"this trie has no state {state}; states are 0 (the root) to {self.num_nodes - 1}")
        return state


def _numpy(array: Any) -> np.ndarray:
    """View an Arrow array as numpy, read-only and without a copy."""
    view: np.ndarray = pa.array(array).to_numpy(zero_copy_only=True)
    return view
