"""What the trie is measured against, without grammars: dictionaries, numpy, torch, memcpy; each as well as we can.

Builders take token ids, dictionaries from lists and numpy from flat arrays, as each likes them best. Steps take states
that were prepared in their own form before the clock: nodes of the dictionary, integer arrays of the width that numpy
indexes by, tensors.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Node = dict[int, Any]
"""Children by token; a title's last token leads to its row."""


def build_dict(lists: Sequence[Sequence[int]]) -> Node:
    """Nested dictionaries."""
    root: Node = {}
    for row, ids in enumerate(lists):
        node = root
        for token in ids[:-1]:
            child = node.get(token)
            if child is None:
                child = node[token] = {}
            node = child
        node[ids[-1]] = row
    return root


def dict_walk(root: Node, ids: Sequence[int]) -> Any:
    """The node (or the row) behind a prefix."""
    node: Any = root
    for token in ids:
        node = node[token]
    return node


class Csr(NamedTuple):
    """A trie in level order; edge e leads to node e + 1.

    Attributes:
        first: First edge of each node, then the number of edges.
        labels: Token of each edge, ascending within a node.
        leaves, titles: Nodes at which titles end, ascending, and the title of each.
    """

    first: np.ndarray
    labels: np.ndarray
    leaves: np.ndarray
    titles: np.ndarray

    def leaf_of(self) -> np.ndarray:
        """The node at which each title ends."""
        found = np.empty(len(self.titles), np.int64)
        found[self.titles] = self.leaves
        return found


def lexsort_csr(flat: np.ndarray, offsets: np.ndarray) -> Csr:
    """A padded matrix, as many tokens in a 64-bit column as fit, `np.lexsort`, then one pass per level."""
    lengths = np.diff(offsets)
    depth = int(lengths.max())
    bits = (int(flat.max()) + 1).bit_length()
    per = 64 // bits
    inside = np.arange(depth)[:, None] < lengths
    matrix = np.zeros((depth, len(lengths)), np.uint32)
    for level in range(depth):
        rows = np.flatnonzero(inside[level])
        matrix[level, rows] = flat[offsets[rows] + level] + np.uint32(1)
    columns = []
    for start in range(0, depth, per):
        packed = np.zeros(len(lengths), np.uint64)
        for level in range(start, start + per):
            packed <<= np.uint64(bits)
            if level < depth:
                packed |= matrix[level]
        columns.append(packed)
    order = np.lexsort(columns[::-1])
    new = np.zeros(len(order), bool)
    new[0] = True
    labels, counts, leaves, titles = [], [np.array([0])], [], []
    parent, total = np.zeros(len(order), np.int64), 1
    for level in range(depth):
        tokens = matrix[level][order]
        live = tokens > 0
        new[1:] |= tokens[1:] != tokens[:-1]
        fresh = new & live
        labels.append(tokens[fresh] - 1)
        counts.append(np.bincount(parent[fresh], minlength=int(parent[-1]) + 1))
        parent = np.cumsum(fresh) - 1
        ends = np.flatnonzero(live & (lengths[order] == level + 1))
        leaves.append(parent[ends] + total)
        titles.append(order[ends])
        total += int(parent[-1]) + 1
    return _csr(labels, counts, leaves, titles, total)


def packed_sort_csr(flat: np.ndarray, offsets: np.ndarray) -> Csr:
    """Level by level: node, token and row packed into 64 bits for `np.sort`, which has vector instructions.

    Titles that have ended are left out of the deeper levels. Not what one finds in use, but the fastest numpy we know.
    """
    lengths = np.diff(offsets)
    row_bits = np.uint64(max(len(lengths) - 1, 1).bit_length())
    token_bits = np.uint64(int(flat.max()).bit_length())
    row_mask, token_mask = (np.uint64((1 << int(bits)) - 1) for bits in (row_bits, token_bits))
    rows = np.arange(len(lengths))
    node = np.zeros(len(lengths), np.uint64)
    labels, counts, leaves, titles = [], [], [], []
    nodes, total, level = 1, 1, 0
    while len(rows):
        key = (node << token_bits | flat[offsets[rows] + level]) << row_bits | rows.astype(np.uint64)
        key.sort()
        rows = (key & row_mask).astype(np.int64)
        group = key >> row_bits
        fresh = np.empty(len(group), bool)
        fresh[0] = True
        np.not_equal(group[1:], group[:-1], out=fresh[1:])
        chosen = group[fresh]
        labels.append((chosen & token_mask).astype(np.uint32))
        counts.append(np.bincount((chosen >> token_bits).astype(np.int64), minlength=nodes))
        node = np.cumsum(fresh) - 1
        nodes = len(chosen)
        level += 1
        going = lengths[rows] > level
        leaves.append(node[~going] + total)
        titles.append(rows[~going])
        rows, node = rows[going], node[going].astype(np.uint64)
        total += nodes
    counts.append(np.zeros(nodes, np.int64))
    return _csr(labels, [np.array([0]), *counts], leaves, titles, total)


def _csr(
    labels: list[np.ndarray], counts: list[np.ndarray], leaves: list[np.ndarray], titles: list[np.ndarray], nodes: int
) -> Csr:
    degrees = np.concatenate(counts)
    first = np.full(nodes + 1, degrees.sum(), np.uint32)
    first[: len(degrees)] = np.cumsum(degrees)
    return Csr(first, np.concatenate(labels), np.concatenate(leaves), np.concatenate(titles))


def ragged_numpy(first: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
    """(indptr, tokens, edges) of a batch of int64 states, by `take` and `repeat` on 64-bit copies of `first`."""
    wide = first.astype(np.int64)
    ramp = np.arange(len(labels))

    def step(states: np.ndarray) -> tuple[np.ndarray, ...]:
        start = wide.take(states)
        count = wide.take(states + 1) - start
        indptr = np.empty(len(states) + 1, np.int64)
        indptr[0] = 0
        count.cumsum(out=indptr[1:])
        start -= indptr[:-1]
        edges = start.repeat(count)
        total = len(edges)
        edges += ramp[:total] if total <= len(ramp) else np.arange(total)
        return indptr, labels.take(edges), edges

    return step


def padded_torch(first: np.ndarray, labels: np.ndarray) -> Callable[[Any], tuple[Any, ...]]:
    """Padded tokens, their mask and edges for a tensor of states, and the root's list once for all that stand there.

    `index_select` on the flat edges: `take` and indexing are slower, and with two threads wait for a busy core.
    """
    import torch

    starts, tokens = torch.from_numpy(first.astype(np.int64)), torch.from_numpy(labels.astype(np.int64))
    root = tokens[: int(first[1])]
    ramp = torch.arange(int(np.diff(first[1:].astype(np.int64)).max()))
    tokens = torch.cat([tokens, torch.zeros_like(ramp)])  # the last nodes' padding

    def step(states: Any) -> tuple[Any, ...]:
        inner = torch.nonzero(states).squeeze(1)
        at = states.index_select(0, inner)
        start = starts.index_select(0, at)
        count = starts.index_select(0, at + 1) - start
        columns = ramp[: int(count.max())] if len(at) else ramp[:0]
        edges = start[:, None] + columns
        mask = columns < count[:, None]
        return inner, tokens.index_select(0, edges.view(-1)).view(edges.shape), mask, edges, root

    return step


RUNS_IN_C = """
#include <stdint.h>
#include <string.h>
void copy_runs(char *out, const char *from, const int64_t *start, const int64_t *bytes, int64_t runs) {
    for (int64_t run = 0; run < runs; run++) {
        memcpy(out, from + start[run], bytes[run]);
        out += bytes[run];
    }
}
"""


def copier() -> Callable[[np.ndarray, np.ndarray], Callable[[], None]]:
    """Compile the loop over memcpy; of (runs' starts and lengths in bytes, the array) it makes the copy to be timed."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "runs.so"
        command = ["cc", "-O3", "-march=native", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
        subprocess.run(command, input=RUNS_IN_C.encode(), check=True)
        copy = ctypes.PyDLL(str(library)).copy_runs

    def prepare(runs: np.ndarray, source: np.ndarray) -> Callable[[], None]:
        start, size = (np.ascontiguousarray(column, np.int64) for column in runs)
        out = np.zeros(max(int(size.sum()), 1), np.uint8)
        kept = (out, source, start, size)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in kept]
        count = ctypes.c_int64(len(start))

        def run(_kept: Any = kept) -> None:
            copy(*pointers, count)

        return run

    return prepare


def search_step(first: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The next nodes of int64 states by tokens: one `searchsorted` over (node, token) packed into 64 bits."""
    node = np.repeat(np.arange(len(first) - 1), np.diff(first.astype(np.int64)))
    keys = node << 32 | labels.astype(np.int64)
    last = len(keys) - 1

    def step(states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        wanted = states << 32 | tokens
        found = keys.searchsorted(wanted)
        np.minimum(found, last, out=found)
        return np.where(keys.take(found) == wanted, found + 1, 0xFFFF_FFFF)

    return step
