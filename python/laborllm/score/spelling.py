"""The J units as one ragged array: their tokens, and the trie's node and edge at each of them."""

from __future__ import annotations

import numpy as np

from laborllm.tokens import TitleUnits


class Spelling:
    """How titles are spelled.

    Attributes:
        lengths: int64 (J,), tokens of each unit.
        begins: int64 (J,), where each begins in the next three.
        tokens: int64, the token.
        nodes: int64, the trie node at which it is chosen.
        edges: int64, the trie edge that it takes.
    """

    def __init__(self, units: TitleUnits) -> None:
        self.lengths = np.array([len(unit) for unit in units.ids], np.int64)
        self.begins = np.cumsum(self.lengths) - self.lengths
        self.tokens = np.array([token for unit in units.ids for token in unit], np.int64)
        self.nodes = np.zeros(len(self.tokens), np.int64)
        self.edges = np.zeros(len(self.tokens), np.int64)
        states = np.zeros(len(self.lengths), np.uint32)
        for depth in range(units.longest):
            inside = np.flatnonzero(self.lengths > depth)
            places = self.begins[inside] + depth
            self.nodes[places] = states[inside]
            states[inside] = units.trie.step(states[inside], self.tokens[places])
            self.edges[places] = states[inside].astype(np.int64) - 1

    def ragged(self, titles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tokens of the named titles: position in `titles`, depth, and place in `tokens`, one entry per token."""
        lengths = self.lengths[titles]
        which = np.repeat(np.arange(len(titles)), lengths)
        depth = np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return which, depth, self.begins[titles][which] + depth
