"""Titles behind the prompts of careers: each career is run once, and what is asked for hangs off its prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch

from laborllm.score.device import upload
from laborllm.score.found import Found
from laborllm.score.frontier import Forest, Frontier
from laborllm.score.head import renormalized
from laborllm.score.layout import Branch, inside_titles
from laborllm.score.spelling import Spelling
from laborllm.tokens import Tokens

Prompts = list[tuple[int, int]]
"""The text and the length of each."""
MOST_SETS = 4_096
"""Sets of titles whose branches are remembered."""
KEPT_COST = 4
"""Rows of a pass that one row counts for whose keys and values are kept: they stay while branches grow."""
Read = Callable[[torch.Tensor, np.ndarray], np.ndarray]
"""How hidden states at trie nodes become log-probabilities of their edges."""


@dataclass(frozen=True)
class Some:
    """A few titles behind one prompt: the branch that spells them, and which of its edges each title takes.

    Attributes:
        branch: The nodes inside of the titles.
        which, at: Position of the title, and place among the root's edges followed by the branch's edges.
        count: Number of titles.
    """

    branch: Branch
    which: np.ndarray
    at: np.ndarray
    count: int


class Tree:
    """Scores titles behind prompts by a frontier.

    Args:
        frontier: The model.
        spelling: The titles.
    """

    def __init__(self, frontier: Frontier, spelling: Spelling) -> None:
        self.frontier = frontier
        self.spelling = spelling
        self._some: dict[tuple[int, ...], Some] = {}

    def observed(self, tokens: Tokens, rows: np.ndarray, titles: Sequence[np.ndarray] | None = None) -> Iterator[Found]:
        """Score what happened at some rows, and for each row further titles, from one pass over each text.

        Args:
            tokens: The texts.
            rows: Rows of them, ascending, int64 (R,).
            titles: For each row the indices of further titles; their inner nodes cost a row each.
        """
        for forest, texts, here in self.planted(tokens, rows, keep=titles is not None, happened=True):
            raw, masked, roots = self._happened(forest, tokens, texts, rows[here])
            if titles is None:
                yield Found(rows[here], raw, masked)
                continue
            asked = [self._titles(titles[at]) for at in here]
            others = list(self._some_titles(forest, self.prompts(tokens, texts, rows[here]), asked, roots))
            yield Found(rows[here], raw, masked, *(np.concatenate(law) for law in zip(*others, strict=True)))

    def whole(self, tokens: Tokens, rows: np.ndarray, *, law: Literal["raw", "masked"]) -> Iterator[Found]:
        """Score all titles at some rows.

        Args:
            tokens: The texts.
            rows: Rows of them, ascending, int64 (R,).
            law: `raw` runs every inner node of the trie and gives both laws; `masked` runs forks and what lies above
                them, and gives the whole masked law alone.
        """
        for forest, texts, here in self.planted(tokens, rows, keep=True, happened=law == "masked"):
            prompts = self.prompts(tokens, texts, rows[here])
            states = tokens.states[rows[here]]
            if law == "masked":
                raw, masked, _ = self._happened(forest, tokens, texts, rows[here])
                yield Found(rows[here], raw, masked, None, self._masked_law(forest, prompts))
            else:
                raw_law, masked_law = self._raw_law(forest, prompts)
                every = np.arange(len(here))
                yield Found(rows[here], raw_law[every, states], masked_law[every, states], raw_law, masked_law)

    def planted(
        self, tokens: Tokens, rows: np.ndarray, *, keep: bool, happened: bool
    ) -> Iterator[tuple[Forest, np.ndarray, np.ndarray]]:
        """Run the trunks of some rows' texts, batch by batch.

        Args:
            tokens: The texts.
            rows: Rows of them, ascending.
            keep: Branches shall grow.
            happened: Run each text on to where its last row's title is known; else to the end of its last prompt.

        Yields:
            The forest, the text of each of its rows, and their positions in `rows`.
        """
        if not len(rows):
            return
        text = np.searchsorted(tokens.rows, rows, side="right") - 1
        texts, first = np.unique(text, return_index=True)
        last = np.append(first[1:], len(rows)) - 1
        ends = (tokens.stops[rows[last]] - 1 if happened else tokens.starts[rows[last]]).astype(np.int64)

        def plant(some: np.ndarray) -> tuple[Forest, np.ndarray, np.ndarray]:
            ids = [tokens.text(texts[at])[: ends[at]] for at in some]
            here = np.arange(first[some[0]], last[some[-1]] + 1)
            return self.frontier.plant(ids, keep=keep), np.searchsorted(texts[some], text[here]), here

        yield from self.frontier.in_passes(KEPT_COST * ends if keep else ends, plant)

    def prompts(self, tokens: Tokens, texts: np.ndarray, rows: np.ndarray) -> Prompts:
        """The prompts of some rows, of which `texts` says the text of the forest."""
        return list(zip(texts.tolist(), tokens.starts[rows].tolist(), strict=True))

    def _happened(
        self, forest: Forest, tokens: Tokens, texts: np.ndarray, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Raw and masked log P of what happened at some rows, and the root's raw edges behind each, (R, E)."""
        which, depth, place = self.spelling.ragged(tokens.states[rows])
        nodes = self.spelling.nodes[place]
        hidden = forest.at(texts[which], tokens.starts[rows][which] + depth - 1)
        raw = self.frontier.head.raw(hidden, nodes)
        indptr, _ = self.frontier.head.edges(nodes)
        at = indptr[:-1] + self.spelling.edges[place] - self.frontier.first[nodes]
        root = indptr[:-1][depth == 0][:, None] + np.arange(self.frontier.first[1])
        masked = renormalized(raw, indptr)
        return np.bincount(which, raw[at], len(rows)), np.bincount(which, masked[at], len(rows)), raw[root]

    def _some_titles(
        self, forest: Forest, prompts: Prompts, asked: Sequence[Some], roots: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Raw and masked log P of the titles asked for behind each prompt."""
        sizes = np.array([len(some.branch) for some in asked], np.int64)

        def run(group: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
            nodes = np.concatenate([asked[at].branch.nodes for at in group])
            indptr, _ = self.frontier.head.edges(nodes)
            raw = masked = np.zeros(0)
            if len(nodes):
                grown = [at for at in group if sizes[at]]
                hidden, _ = forest.grow([prompts[at] for at in grown], [asked[at].branch for at in grown])
                raw = self.frontier.head.raw(hidden, nodes)
                masked = renormalized(raw, indptr)
            cuts = indptr[np.cumsum(sizes[group])[:-1]]
            root = roots[group]
            root_masked = renormalized(root.ravel(), np.arange(len(group) + 1) * root.shape[1]).reshape(root.shape)
            return [
                (_sums(asked[at], root[i], own_raw), _sums(asked[at], root_masked[i], own_masked))
                for i, (at, own_raw, own_masked) in enumerate(
                    zip(group, np.split(raw, cuts), np.split(masked, cuts), strict=True)
                )
            ]

        for laws in self.frontier.in_passes(sizes, run):
            yield from laws

    def _titles(self, titles: np.ndarray) -> Some:
        """The branch that spells some titles; kept, since the same few are asked for again and again."""
        key = tuple(titles.tolist())
        if key not in self._some:
            if len(self._some) == MOST_SETS:
                self._some.clear()
            branch = Branch.of(self.frontier.trie, inside_titles(self.frontier.trie, titles))
            _, edges = self.frontier.head.edges(branch.nodes)
            order = np.argsort(edges)
            which, depth, place = self.spelling.ragged(titles)
            wanted = self.spelling.edges[place]
            root = int(self.frontier.first[1])
            at = wanted.copy()
            deep = depth > 0
            at[deep] = root + order[np.searchsorted(edges, wanted[deep], sorter=order)]
            self._some[key] = Some(branch, which, at, len(titles))
        return self._some[key]

    def raw_edges(self, forest: Forest, prompts: Prompts) -> np.ndarray:
        """Raw log P of every edge of the trie behind each prompt, given what stands before it, (P, edges)."""
        texts, lengths = np.array(prompts).T
        root = np.zeros(len(prompts), np.int64)
        first = self.frontier.head.raw(forest.at(texts, lengths - 1), root)
        return self._edges(forest, prompts, first, self.frontier.inner, self.frontier.head.raw, least=1)

    def _raw_law(self, forest: Forest, prompts: Prompts) -> tuple[np.ndarray, np.ndarray]:
        """All titles behind each prompt, raw and masked, (P, J) each."""
        raw = self.raw_edges(forest, prompts)
        fan_out = self.frontier.fan_out
        indptr = np.append(self.frontier.first[:-1][fan_out > 0], len(self.frontier.trie.labels))
        rows = np.arange(len(prompts))[:, None] * raw.shape[1] + indptr[:-1]
        masked = renormalized(raw.ravel(), np.append(rows.ravel(), raw.size)).reshape(raw.shape)
        return self.path_sums(raw), self.path_sums(masked)

    def _masked_law(self, forest: Forest, prompts: Prompts) -> np.ndarray:
        """All titles behind each prompt under the masked law, (P, J), from forks and what lies above them."""
        texts, lengths = np.array(prompts).T
        head = self.frontier.head
        first = head.masked(forest.at(texts, lengths - 1), np.zeros(len(prompts), np.int64))
        return self.path_sums(self._edges(forest, prompts, first, self.frontier.forks, head.masked, least=2))

    def _edges(
        self, forest: Forest, prompts: Prompts, first: np.ndarray, branch: Branch, read: Read, *, least: int
    ) -> np.ndarray:
        """Log P of all edges behind each prompt, (P, edges): `first` at the root, 0 at nodes with less than `least`."""
        found = np.zeros((len(prompts), len(self.frontier.trie.labels)))
        found[:, : self.frontier.first[1]] = first.reshape(len(prompts), -1)
        if not len(branch):
            return found
        for group, places, hidden in forest.cover(prompts, branch):
            nodes = branch.nodes[places]
            chosen = np.flatnonzero(self.frontier.fan_out[nodes] >= least)
            rows = hidden[:, upload(chosen, hidden.device)].flatten(0, 1)
            _, edges = self.frontier.head.edges(nodes[chosen])
            found[group, edges] = read(rows, np.tile(nodes[chosen], len(hidden))).reshape(len(hidden), -1)
        return found

    def path_sums(self, edges: np.ndarray) -> np.ndarray:
        """Add edges up from the root to each title's end, (P, edges) -> (P, J)."""
        sums = np.zeros((len(edges), self.frontier.trie.num_nodes))
        levels = self.frontier.trie.levels
        for begin, end in pairwise(levels[1:]):
            sums[:, begin:end] = sums[:, self.frontier.descent.parents[begin:end]] + edges[:, begin - 1 : end - 1]
        law = np.empty((len(edges), self.frontier.trie.num_titles))
        law[:, self.frontier.trie.titles] = sums[:, self.frontier.trie.leaves]
        return law


def _sums(some: Some, root: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Log P of each title, from the root's edges and those of its branch."""
    return np.bincount(some.which, np.concatenate([root, own])[some.at], some.count)
