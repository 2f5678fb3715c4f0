"""Which rows a forward pass runs, and which earlier rows each of them sees.

A row is one token. The rows of a career's text are its *trunk*; a *branch* holds trie nodes that hang off the last
token of a prompt in it. All rows of a pass stand in one sequence; what keeps them apart is which keys they see: those
of their own path, and nothing else. In pre-order a node's descendants follow it at once, so that row k is on the path
of row q exactly if `k <= q < end[k]`: two comparisons, and no matrix over all pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from laborllm.trie import TitleTrie

NOTHING = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Branch:
    """Some of a trie's nodes in pre-order, the root left out: what is run behind a prompt.

    Attributes:
        nodes: int64 (n,), the trie's nodes.
        tokens: int64 (n,), the token that leads to each.
        depths: int64 (n,), tokens behind the prompt, 1 for a title's first.
        ends: int64 (n,), one past the place of each node's last descendant.
    """

    nodes: np.ndarray
    tokens: np.ndarray
    depths: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.nodes)

    @classmethod
    def of(cls, trie: TitleTrie, keep: np.ndarray) -> Branch:
        """Put the kept nodes in pre-order; with a node its ancestors must be kept. `keep` is bool (nodes,)."""
        parent = parents(trie)
        levels = list(pairwise(trie.levels))[1:]
        size = keep.astype(np.int64)  # of each kept node's subtree
        for begin, end in reversed(levels):
            np.add.at(size, parent[begin:end], size[begin:end])
        place = np.full(trie.num_nodes, -1, np.int64)
        depth = np.zeros(trie.num_nodes, np.int64)
        for begin, end in levels:
            before = np.cumsum(size[begin:end]) - size[begin:end]
            above = parent[begin:end]
            eldest = np.searchsorted(above, above)  # siblings stand together
            place[begin:end] = place[above] + 1 + before - before[eldest]
            depth[begin:end] = depth[above] + 1
        nodes = np.flatnonzero(keep[1:]) + 1
        nodes = nodes[np.argsort(place[nodes])]
        tokens = trie.labels[nodes - 1].astype(np.int64)
        return cls(nodes, tokens, depth[nodes], place[nodes] + size[nodes])

    @classmethod
    def chain(cls, tokens: np.ndarray, nodes: np.ndarray, *, depth: int) -> Branch:
        """Nodes each of which is the only kept child of the one before; the first stands at `depth`."""
        count = len(nodes)
        return cls(nodes, tokens, np.arange(depth, depth + count), np.full(count, count))

    def piece(self, begin: int, stop: int) -> Branch:
        """The places `begin:stop` alone."""
        own = slice(begin, stop)
        ends = np.minimum(self.ends[own], stop) - begin
        return Branch(self.nodes[own], self.tokens[own], self.depths[own], ends)


def parents(trie: TitleTrie) -> np.ndarray:
    """The node above each node, int64 (nodes,); the root is its own."""
    first = trie.first.astype(np.int64)
    return np.concatenate([[0], np.repeat(np.arange(trie.num_nodes), first[1:] - first[:-1])])


def inner_nodes(trie: TitleTrie) -> np.ndarray:
    """Nodes with children, bool (nodes,): those that must be run for the whole raw law."""
    return np.diff(trie.first.astype(np.int64)) > 0


def forks(trie: TitleTrie) -> np.ndarray:
    """Nodes with several children and all of their ancestors, bool (nodes,): those that the whole masked law needs."""
    keep = np.diff(trie.first.astype(np.int64)) > 1
    return _with_ancestors(trie, keep)


def inside_titles(trie: TitleTrie, titles: np.ndarray) -> np.ndarray:
    """The nodes with children on the paths of some titles, bool (nodes,)."""
    leaves = trie.leaves[np.isin(trie.titles, titles)].astype(np.int64)
    keep = np.zeros(trie.num_nodes, bool)
    keep[parents(trie)[leaves]] = True
    return _with_ancestors(trie, keep)


def _with_ancestors(trie: TitleTrie, keep: np.ndarray) -> np.ndarray:
    parent = parents(trie)
    for begin, end in reversed(list(pairwise(trie.levels))[1:]):
        np.logical_or.at(keep, parent[begin:end], keep[begin:end])
    return keep


@dataclass(frozen=True)
class Stem:
    """Kept rows of trie nodes above a branch.

    Attributes:
        rows: int64 (S,), their numbers.
        ends: int64 (S,), one past the last place of the branch that hangs from each.
    """

    rows: np.ndarray
    ends: np.ndarray


NO_STEM = Stem(NOTHING, NOTHING)


@dataclass(frozen=True)
class Rows:
    """What one forward pass runs: R rows in B branches, or in B trunks.

    Keys are numbered through: first the K rows whose keys and values were kept from earlier passes, then the R rows.

    Attributes:
        ids, positions: int64 (R,), token and place in its text.
        ends: int64 (R,), one past the row's last descendant among the R rows.
        starts: int64 (B + 1,), branch b is the rows `starts[b]:starts[b + 1]`.
        texts: int64 (B,), the text each branch belongs to.
        begins, stops: int64 (B,), the kept trunk rows that the branch sees are `begins[b] <= k < stops[b]`.
        stems: B stems.
    """

    ids: np.ndarray
    positions: np.ndarray
    ends: np.ndarray
    starts: np.ndarray
    texts: np.ndarray
    begins: np.ndarray
    stops: np.ndarray
    stems: Sequence[Stem]

    def __len__(self) -> int:
        """Number of rows, R."""
        return len(self.ids)


def trunks(texts: Sequence[np.ndarray]) -> Rows:
    """The rows of whole texts, each of which sees what stands before it in its own text."""
    lengths = np.array([len(text) for text in texts], np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.arange(starts[-1])
    none = np.zeros(len(texts), np.int64)
    return Rows(
        ids=np.concatenate([NOTHING, *texts]).astype(np.int64),
        positions=rows - np.repeat(starts[:-1], lengths),
        ends=np.repeat(starts[1:], lengths),
        starts=starts,
        texts=np.arange(len(texts)),
        begins=none,
        stops=none,
        stems=[NO_STEM] * len(texts),
    )


@dataclass(frozen=True)
class Place:
    """Where a branch hangs.

    Attributes:
        text: The text.
        begin: Its first kept row.
        length: Tokens of the prompt, a prefix of the text.
        stem: What the branch hangs from inside of titles.
    """

    text: int
    begin: int
    length: int
    stem: Stem


def branches(places: Sequence[Place], hanging: Sequence[Branch]) -> Rows:
    """The rows of branches, one at each place."""
    sizes = np.array([len(branch) for branch in hanging], np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    length = np.array([place.length for place in places], np.int64)
    begins = np.array([place.begin for place in places], np.int64)
    return Rows(
        ids=np.concatenate([branch.tokens for branch in hanging]),
        positions=np.repeat(length, sizes) + np.concatenate([branch.depths for branch in hanging]) - 1,
        ends=np.repeat(starts[:-1], sizes) + np.concatenate([branch.ends for branch in hanging]),
        starts=starts,
        texts=np.array([place.text for place in places], np.int64),
        begins=begins,
        stops=begins + length,
        stems=[place.stem for place in places],
    )


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of one text, and all keys that any of them sees.

    Attributes:
        start, stop: The rows.
        keys: int64 (K,).
        since, until: int64 (K,), the key is seen by the rows `since <= q < until`, numbered as keys are; `until` is -1
            for keys of the trunk, which each row sees up to its own prompt's end.
    """

    start: int
    stop: int
    keys: np.ndarray
    since: np.ndarray
    until: np.ndarray


def chunks(rows: Rows, *, kept: int, width: int) -> Iterator[Chunk]:
    """Cut rows into chunks of at most `width`; small branches of one text share a chunk.

    Of the rows before a chunk in its own branch, its rows see the ancestors of its first row and no others.

    Args:
        rows: The rows.
        kept: Rows whose keys were kept; the number of the first row's key.
        width: Most rows in a chunk.
    """
    first, count = 0, len(rows.starts) - 1
    while first < count:
        stop = first + 1
        while stop < count and rows.texts[stop] == rows.texts[first] and _size(rows, first, stop + 1) <= width:
            stop += 1
        begin, end = int(rows.starts[first]), int(rows.starts[stop])
        trunk = np.arange(rows.begins[first], rows.stops[first:stop].max())
        none = np.full(len(trunk), -1)
        hung = [b for b in range(first, stop) if len(rows.stems[b].rows)]
        stems = [np.concatenate([NOTHING, *(rows.stems[b].rows for b in hung)])]
        stems.append(np.repeat(kept + rows.starts[hung], [len(rows.stems[b].rows) for b in hung]))
        stems.append(np.concatenate([NOTHING, *(kept + rows.starts[b] + rows.stems[b].ends for b in hung)]))
        for at in range(begin, end, width):
            above = begin + np.flatnonzero(rows.ends[begin:at] > at)
            own = np.concatenate([above, np.arange(at, min(at + width, end))])
            parts = zip((trunk, none, none), stems, (kept + own, kept + own, kept + rows.ends[own]), strict=True)
            yield Chunk(at, min(at + width, end), *(np.concatenate(part) for part in parts))
        first = stop


def _size(rows: Rows, first: int, stop: int) -> int:
    return int(rows.starts[stop] - rows.starts[first])
