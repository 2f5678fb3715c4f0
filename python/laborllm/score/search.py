"""Titles behind prompts, found little by little: what is known so far bounds what is not.

The log-probability of a prefix only falls as it grows, so an open prefix bounds all titles behind it: a title that is
at least as probable as every open prefix is among the best, for certain. The same masses are an envelope from which
titles can be drawn exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, Self

import numpy as np
import torch

from laborllm.score.descent import Descent
from laborllm.score.frontier import Forest
from laborllm.score.layout import NOTHING, Stem

Law = Literal["raw", "masked"]
NONE = np.zeros(0)


class Known:
    """What is known of the law behind one prompt.

    Attributes:
        titles, title_log_p: int64 and float64 (F,), finished titles.
        nodes, node_log_p: int64 and float64 (O,), open trie nodes: no two on one path, none of them run yet.
        rows: For each fork that was run, the kept rows from the prompt's end down to it.
        behind: For each chain that was run, by its first node, the nodes behind its end, and their log-probability
            given that first node.
    """

    def __init__(self, titles: np.ndarray = NOTHING, title_log_p: np.ndarray = NONE) -> None:
        self.titles, self.title_log_p = titles, title_log_p
        self.nodes, self.node_log_p = NOTHING, NONE
        self.rows = {0: NOTHING}
        self.behind: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def log_mass(self) -> tuple[float, float]:
        """Logs of bounds of the sum over all titles: of those that are finished, and of the open ones with them."""
        finished = np.logaddexp.reduce(self.title_log_p, initial=-np.inf)
        return float(finished), float(np.logaddexp.reduce(self.node_log_p, initial=finished))

    def hopeful(self, k: int) -> np.ndarray:
        """Open nodes to run next for the k best titles; none once these are certain.

        Those among the k most probable of all titles and open nodes, and of more as the search grows, so that its
        passes grow in number as a logarithm. What is less probable than k titles is not run.
        """
        log_p = np.concatenate([self.node_log_p, self.title_log_p])
        best = np.argsort(-log_p, kind="stable")  # of equals the open ones first
        certain = np.flatnonzero(best >= len(self.nodes))[k - 1 : k]
        open_ones = best[: max(k, len(self.behind) // 4)][: int(certain[0]) if len(certain) else None]
        return self.nodes[open_ones[open_ones < len(self.nodes)]]

    def heaviest(self, share: float) -> np.ndarray:
        """The most probable open nodes, so many that the others hold at most `share` of all mass."""
        order = np.argsort(-self.node_log_p, kind="stable")
        left = np.cumsum(np.exp(self.node_log_p[order] - self.log_mass[1])[::-1])[::-1]
        return self.nodes[order[left > share]]

    def best(self, k: int | None = None) -> np.ndarray:
        """Positions of the most probable finished titles, of equals the first in the list first."""
        return np.lexsort((self.titles, -self.title_log_p))[:k]


class Explorer:
    """Expands open nodes behind several prompts of one forest, in common passes.

    Args:
        descent: Where the trie's nodes lead.
        known: What is known behind each prompt.
        law: Whose log-probabilities are added up: `raw` or `masked`.
        forest: Where open nodes are run; None where there are none.
        prompts: The text and the length of each prompt.
    """

    def __init__(
        self,
        descent: Descent,
        known: list[Known],
        *,
        law: Law,
        forest: Forest | None = None,
        prompts: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.descent, self.known, self.law = descent, known, law
        self._forest, self._prompts = forest, prompts

    @classmethod
    def behind(cls, forest: Forest, prompts: Sequence[tuple[int, int]], *, law: Law) -> Self:
        """Begin behind prompts of a forest that has kept its trunks: the root's edges are known."""
        self = cls(forest.frontier.descent, [Known() for _ in prompts], law=law, forest=forest, prompts=prompts)
        head = forest.frontier.head
        texts, lengths = np.array(prompts).T
        read = head.raw if law == "raw" else head.masked
        roots = read(forest.at(texts, lengths - 1), np.zeros(len(prompts), np.int64)).reshape(len(prompts), -1)
        for one, edges in zip(self.known, roots, strict=True):
            self._open(one, self.descent.children(0), edges)
        return self

    @classmethod
    def enumerated(cls, descent: Descent, whole: np.ndarray, *, law: Law) -> Self:
        """Of a law that is known already, float64 (P, J)."""
        return cls(descent, [Known(np.arange(len(log_p)), log_p) for log_p in whole], law=law)

    @property
    def num_titles(self) -> int:
        """Titles, J."""
        return len(self.descent.in_order)

    def titles_below(self, node: int) -> np.ndarray:
        """The titles that an open node may still become, int64."""
        return self.descent.titles_below(node)

    def title(self, nodes: np.ndarray) -> np.ndarray:
        """The title that is certain at each node, int64; -1 where there is a choice or probability to lose."""
        found: np.ndarray = self.descent.titles[nodes if self.law == "raw" else self.descent.lands[nodes]]
        return found

    def expand(self, wanted: Sequence[np.ndarray]) -> bool:
        """Run some open nodes of each prompt, each down to where there is a choice, and open what is behind them.

        Returns:
            Whether there was anything to run.
        """
        pairs = [(at, int(node)) for at, nodes in enumerate(wanted) for node in nodes]
        if self._forest is None or not pairs:
            return False
        chains = [self.descent.chain(node) for _, node in pairs]
        frontier = self._forest.frontier
        run = partial(self._run, self._forest, pairs, chains)
        for _ in frontier.in_passes(np.array([len(chain) for chain in chains], np.int64), run):
            pass
        return True

    def _run(
        self, forest: Forest, pairs: list[tuple[int, int]], chains: list[np.ndarray], group: np.ndarray
    ) -> Literal[True]:
        stems, hanging = [], []
        for at in group.tolist():
            prompt, node = pairs[at]
            above = self.known[prompt].rows[int(self.descent.parents[node])]
            stems.append(Stem(above, np.full(len(above), len(chains[at]))))
            hanging.append(self.descent.branch(chains[at]))
        prompts = [self._prompts[pairs[at][0]] for at in group.tolist()]
        hidden, kept = forest.grow(prompts, hanging, stems=stems, keep=None)
        stops = np.cumsum([len(branch) for branch in hanging])
        laws = self._read(forest, hidden, np.concatenate([branch.nodes for branch in hanging]), stops)
        for at, stem, stop, (forced, edges) in zip(group.tolist(), stems, stops, laws, strict=True):
            prompt, node = pairs[at]
            one, chain = self.known[prompt], chains[at]
            place = int(np.flatnonzero(one.nodes == node)[0])
            log_p = one.node_log_p[place]
            one.nodes, one.node_log_p = np.delete(one.nodes, place), np.delete(one.node_log_p, place)
            one.rows[int(chain[-1])] = np.concatenate([stem.rows, kept[stop - len(chain) : stop]])
            children = self.descent.children(int(chain[-1]))
            one.behind[node] = children, forced + edges
            self._open(one, children, log_p + forced + edges)
        return True

    def _read(
        self, forest: Forest, hidden: torch.Tensor, nodes: np.ndarray, stops: np.ndarray
    ) -> list[tuple[float, np.ndarray]]:
        """For each chain the log-probability of its forced tokens, and that of each edge at its end."""
        head = forest.frontier.head
        if self.law == "masked":
            ends = nodes[stops - 1]
            indptr, _ = head.edges(ends)
            law = head.masked(hidden[torch.from_numpy(stops - 1).to(hidden.device)], ends)
            return [(0.0, edges) for edges in np.split(law, indptr[1:-1])]
        law = head.raw(hidden, nodes)
        indptr, _ = head.edges(nodes)
        starts = np.append(0, stops[:-1])
        return [
            (float(law[indptr[start] : indptr[stop - 1]].sum()), law[indptr[stop - 1] : indptr[stop]])
            for start, stop in zip(starts, stops, strict=True)
        ]

    def _open(self, one: Known, nodes: np.ndarray, log_p: np.ndarray) -> None:
        """Put nodes among the open ones, or among the titles where nothing is left to choose."""
        title = self.title(nodes)
        done = title >= 0
        one.titles = np.concatenate([one.titles, title[done]])
        one.title_log_p = np.concatenate([one.title_log_p, log_p[done]])
        one.nodes = np.concatenate([one.nodes, nodes[~done]])
        one.node_log_p = np.concatenate([one.node_log_p, log_p[~done]])
