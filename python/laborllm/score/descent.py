"""Where the nodes of a trie lead."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from laborllm.score.layout import Branch, parents
from laborllm.trie import TitleTrie


class Descent:
    """Titles and forced tokens below each node.

    Attributes:
        parents: int64 (nodes,), the node above each; the root is its own.
        titles: int64 (nodes,), the title that ends at each, -1 inside of titles.
        lands: int64 (nodes,), the next fork or title's end, at or below each.
        in_order: int64 (J,), the titles in pre-order.
    """

    def __init__(self, trie: TitleTrie) -> None:
        first = trie.first.astype(np.int64)
        self.parents = parents(trie)
        self.titles = np.full(trie.num_nodes, -1, np.int64)
        self.titles[trie.leaves] = trie.titles
        self._first = first
        self._tokens = np.concatenate([[0], trie.labels.astype(np.int64)])
        self._depths = np.repeat(np.arange(len(trie.levels) - 1), np.diff(trie.levels))
        self._single = first[1:] - first[:-1] == 1
        self.lands = np.arange(trie.num_nodes)
        below = (self.titles >= 0).astype(np.int64)  # titles at or below each node
        levels = list(pairwise(trie.levels))
        for begin, end in reversed(levels):
            nodes = begin + np.flatnonzero(self._single[begin:end])
            self.lands[nodes] = self.lands[first[nodes] + 1]
            np.add.at(below, self.parents[max(begin, 1) : end], below[max(begin, 1) : end])
        self._starts = np.zeros(trie.num_nodes, np.int64)  # titles that come before each node's in pre-order
        for begin, end in levels[1:]:
            above = self.parents[begin:end]
            before = np.cumsum(below[begin:end]) - below[begin:end]
            self._starts[begin:end] = self._starts[above] + before - before[np.searchsorted(above, above)]
        self._stops = self._starts + below
        self.in_order = np.empty(trie.num_titles, np.int64)
        self.in_order[self._starts[trie.leaves]] = trie.titles

    def children(self, node: int) -> np.ndarray:
        """The nodes behind a node, int64."""
        return np.arange(self._first[node], self._first[node + 1]) + 1

    def titles_below(self, node: int) -> np.ndarray:
        """The titles that begin with a node's tokens, int64."""
        return self.in_order[self._starts[node] : self._stops[node]]

    def chain(self, node: int) -> np.ndarray:
        """A node and those behind it that are forced, down to a fork or to the last before a title's end."""
        nodes = [node]
        while self._single[nodes[-1]] and self.titles[below := int(self._first[nodes[-1]]) + 1] < 0:
            nodes.append(below)
        return np.array(nodes)

    def branch(self, chain: np.ndarray) -> Branch:
        """A chain as what is run."""
        return Branch.chain(self._tokens[chain], chain, depth=int(self._depths[chain[0]]))
