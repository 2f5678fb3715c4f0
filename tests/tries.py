"""Random units over small alphabets, and the trie of plain dictionaries that the fast ones are held against."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np

END = 9
UNITS = st.lists(
    st.lists(st.integers(0, 4), max_size=5).map(lambda body: [*body, END]), min_size=1, max_size=25, unique_by=tuple
)


def random_units(count: int, *, tokens: int, longest: int, seed: int = 0) -> list[list[int]]:
    """At most `count` different units of 1 to `longest` tokens below `tokens`, all ending in the greatest one."""
    random = np.random.default_rng(seed)
    bodies = {tuple(random.integers(0, tokens - 1, random.integers(longest)).tolist()) for _ in range(count)}
    return [[*body, tokens - 1] for body in sorted(bodies)]


class DictTrie:
    """Nested dictionaries: the obvious form."""

    def __init__(self, units: list[list[int]]) -> None:
        self.root: dict = {}
        for unit in units:
            node = self.root
            for token in unit:
                node = node.setdefault(token, {})

    def allowed(self, ids: list[int], *, stop: int) -> list[int]:
        """What may follow these tokens; `stop` behind a finished title and off the trie."""
        node = self.root
        for token in ids:
            node = node.get(token, {})
        return sorted(node) or [stop]
