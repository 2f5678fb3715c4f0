"""Certified best titles: how little of the trie is run, beside beam search, and whether they are those of the law.

    python benches/bench_best.py MODEL CAREERS [--dataset NLSY97] [--cases 500] [--k 5]

MODEL is a trained language model (`laborllm train`), CAREERS the panel it is judged on (its test rows). Half of the
cases are prompts of that panel under that model; the other half are prompts of random careers under random models,
over the states of occ1990dd with titles that begin other titles, a quarter of them under a model whose weights are all
zero, so that titles of as many tokens are exactly as probable. All models are in float64, so that equal means equal.

"Expansions" are open prefixes that were run, each down to where there is a choice; "nodes" are the rows this took;
"calls" are the forward passes in which a prompt took part, that of its career included. Beam search keeps 4 k prefixes
a step, runs each of them, and has no certificate. Results go to benches/results/best.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import score_worlds
import torch
from measured import circumstances

from laborllm import Occupations, Panel
from laborllm.models.language import LanguageModel
from laborllm.score import TitleScorer
from laborllm.score.best import Ranked, topk
from laborllm.score.search import Explorer
from laborllm.score.spelling import Spelling
from laborllm.score.tree import Tree

RESULTS = Path(__file__).parent / "results" / "best.json"
PREFIXES = ("Managers", "Managers, n.e.c.", "Cooks, n.e.c.", "Cook", "Physicians' aides", "a", "b", "Not", "Not here")
MARKS = {"expansions": 30, "calls": 6, "beam_over_expansions": 3}


class Counted(Explorer):
    """An explorer that counts the passes each prompt takes part in."""

    calls: np.ndarray

    def expand(self, wanted: Any) -> bool:
        """As `Explorer.expand`."""
        self.calls = getattr(self, "calls", np.ones(len(self.known))) + [len(nodes) > 0 for nodes in wanted]
        return super().expand(wanted)


def search(scorer: TitleScorer, panel: Panel, k: int) -> tuple[list[list[Ranked]], np.ndarray]:
    """The best titles of every target row, and for each row expansions, nodes and calls, (N, 3)."""
    tree, tokens, rows = _tree(scorer, panel)
    found, costs = [], []
    for forest, texts, here in tree.planted(tokens, rows, keep=True, happened=False):
        explorer = Counted.behind(forest, tree.prompts(tokens, texts, rows[here]), law="raw")
        found += topk(explorer, k)
        for one, calls in zip(explorer.known, explorer.calls, strict=True):
            nodes = sum(len(explorer.descent.chain(node)) for node in one.behind)
            costs.append((len(one.behind), nodes, calls))
    return found, np.array(costs)


def enumerate_and_beam(scorer: TitleScorer, panel: Panel, k: int) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """For each target row the whole raw law, the k best titles of a beam of 4 k, and the nodes the beam ran."""
    tree, tokens, rows = _tree(scorer, panel)
    for forest, texts, here in tree.planted(tokens, rows, keep=True, happened=False):
        edges = tree.raw_edges(forest, tree.prompts(tokens, texts, rows[here]))
        for own, law in zip(edges, tree.path_sums(edges), strict=True):
            yield law, *beam(tree, own, k=k, width=4 * k)


def beam(tree: Tree, edges: np.ndarray, *, k: int, width: int) -> tuple[np.ndarray, int]:
    """Beam search over a law that is known: the k best titles it ends with, and how many nodes it ran."""
    descent = tree.frontier.descent
    live, log_p, ran = np.zeros(1, np.int64), np.zeros(1), 0
    done: list[tuple[float, int]] = []
    while len(live):
        ran += int((live > 0).sum())  # the root comes with the prompt
        children = [descent.children(int(node)) for node in live]
        nodes = np.concatenate(children)
        scores = np.repeat(log_p, [len(some) for some in children]) + edges[nodes - 1]
        best = np.argsort(-scores, kind="stable")[:width]
        nodes, scores = nodes[best], scores[best]
        titles = descent.titles[nodes]
        done += zip(-scores[titles >= 0], titles[titles >= 0].tolist(), strict=True)
        live, log_p = nodes[titles < 0], scores[titles < 0]
    return np.array([title for _, title in sorted(done)[:k]]), ran


def _tree(scorer: TitleScorer, panel: Panel) -> tuple[Tree, Any, np.ndarray]:
    windows, tokens = scorer.texts(panel)
    tree = Tree(scorer._frontier, Spelling(scorer.units))
    shown = np.arange(tokens.rows[-1]) + np.repeat(windows.first - tokens.rows[:-1], np.diff(tokens.rows))
    return tree, tokens, np.flatnonzero(panel.targets[shown])


def some_rows(panel: Panel, count: int, *, seed: int) -> Panel:
    """The panel with so many of its target rows, drawn at random."""
    targets = np.zeros(panel.num_rows, bool)
    rows = np.flatnonzero(panel.targets)
    targets[np.random.default_rng(seed).choice(rows, min(count, len(rows)), replace=False)] = True
    return panel.with_targets(targets)


def worlds(options: argparse.Namespace) -> Iterator[tuple[str, TitleScorer, Panel]]:
    """The trained model on its test rows; then random and zero models on random careers."""
    language = LanguageModel.load(options.model)
    language.scorer.model.double()
    table = Panel.read(options.careers, occupations=language.occupations, dataset=options.dataset)
    yield "trained", language.scorer, some_rows(table.part("test"), options.cases, seed=0)
    titles = tuple(dict.fromkeys((*Occupations.occ1990dd().titles, *PREFIXES)))
    careers = score_worlds.careers(Occupations.from_titles(list(titles)), workers=40, years=10)
    for name, count in (("random", options.cases * 3 // 4), ("ties", options.cases // 4)):
        encoder = score_worlds.tokenizer("llama-2", full=False)
        body = score_worlds.model(encoder.get_vocab_size(), hidden=64, layers=2, heads=4, dtype=torch.float64)
        if name == "ties":
            for weights in body.parameters():
                weights.data.zero_()
        yield name, score_worlds.scorer(careers, body, encoder), some_rows(careers, count, seed=1)


def measure(scorer: TitleScorer, panel: Panel, k: int) -> dict[str, Any]:
    """One world: how many rankings are those of the whole law, and what they cost."""
    found, costs = search(scorer, panel, k)
    equal, inside, beams, missed = 0, 0, [], 0
    for best, (law, beamed, ran) in zip(found, enumerate_and_beam(scorer, panel, k), strict=True):
        wanted = np.lexsort((np.arange(len(law)), -law))[:k]
        equal += [one.title for one in best] == wanted.tolist()
        normalized = np.exp(law) / np.exp(law).sum()
        inside += all(one.lower - 1e-12 <= normalized[one.title] <= one.upper + 1e-12 for one in best)
        missed += set(beamed.tolist()) != set(wanted.tolist())
        beams.append(ran)
    means = dict(zip(("expansions", "nodes", "calls"), costs.mean(axis=0).tolist(), strict=True))
    ratio = float(np.mean(beams) / means["expansions"])
    return {
        "cases": len(found),
        "equal_to_enumeration": equal,
        "bounds_that_hold": inside,
        **means,
        "most_calls": float(costs[:, 2].max()),
        "inner_nodes": len(scorer._frontier.inner),
        "beam_nodes": float(np.mean(beams)),
        "beam_over_expansions": ratio,
        "beam_over_nodes": float(np.mean(beams) / means["nodes"]),
        "beams_that_missed": missed,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("careers", type=Path)
    parser.add_argument("--dataset", default="NLSY97")
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    record: dict[str, Any] = {"k": options.k, **circumstances(), "marks": MARKS, "worlds": {}}
    for name, scorer, panel in worlds(options):
        record["worlds"][name] = found = measure(scorer, panel, options.k)
        print(name, json.dumps(found), file=sys.stderr)
        options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
