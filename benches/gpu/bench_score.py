"""The law over titles on a GPU, in shares of what the same GPU reaches in a plain matrix product.

    python benches/gpu/bench_score.py                              7B and 8B models of random weights, on CUDA
    python benches/gpu/bench_score.py --device cpu --shape tiny    a small case whose outputs are compared

Careers of 10 to 25 years, the 333 states of occ1990dd, ids as full tokenizers give them (gpu_cases.py). Rows are
counted as the scorer counts them; work is 2 x parameters x rows, where embeddings do not count and the head counts for
the rows that are read. Rivals score the same prompts and titles in the same process: every (history, title) as a padded
row of its own, as lm-evaluation-harness does; the usual loop over a prefix cache, 64 titles at a time; and the same
cache with titles sorted by length. What they would take for all prompts is scaled by the tokens that they forward.

Kernels are compiled before the clock runs. Outputs are compared over the prompts that rivals score: in float32 on two
layers of the shape, and in the type of the run with the bounds that are printed.
"""

from __future__ import annotations

import argparse
import copy
import gc
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from gpu_cases import SHAPES, Cases, Shape, model_of
from gpu_facts import busiest, compiled, product_rate, timed
from gpu_rivals import CachedLoop, forwarded
from measured import circumstances

from laborllm.score.frontier import Frontier, Work
from laborllm.score.passes import Passes
from laborllm.score.spelling import Spelling
from laborllm.score.tree import Tree
from laborllm.tokens import Tokens

RESULTS = Path(__file__).parents[1] / "results" / "gpu_score.json"
BOUNDS = {torch.float32: (1e-3, 1e-4), torch.bfloat16: (2.0, 0.2)}
"""Largest and mean difference of log P between two ways, in nats."""


def say(*words: object) -> None:
    """A line that is there even if the run is cut off."""
    print(*words, flush=True)


class Bench:
    """One shape on one device.

    Args:
        shape: What to measure.
        device: On the CPU times mean nothing; outputs are compared in float32.
        ceiling: TFLOP/s that the device reaches.
        save: Called after each step.

    Attributes:
        record: What was found.
        wrong: What failed or gave other probabilities.
    """

    def __init__(self, shape: Shape, *, device: torch.device, ceiling: float, save: Callable[[], None]) -> None:
        self.shape, self.device, self.ceiling, self.save = shape, device, ceiling, save
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.cases = Cases(shape)
        self.trie = self.cases.units.trie
        self.spelling = Spelling(self.cases.units)
        self.record: dict[str, Any] = {"shape": shape.name, "differences": {}}
        self.wrong: list[str] = []

    def run(self) -> None:
        """All steps; each prints a line. Where flex attention fails, the others run."""
        say(f"\n{self.shape.name}: {len(self.cases.units.ids)} titles, {self.trie.num_nodes} nodes")
        self.compare(self.model(torch.float32, layers=2), "2 layers, float32")
        model = self.model(self.dtype)
        self.compare(model, str(self.dtype).removeprefix("torch."))
        self.head = model.get_output_embeddings().weight.numel()
        self.body = sum(x.numel() for x in model.base_model.parameters()) - model.get_input_embeddings().weight.numel()
        self.weights = sum(x.nbytes for x in model.parameters())
        self.record |= {"body": self.body, "head": self.head, "weights_gb": self.weights / 1e9}
        names = [name for name in ("flex", "sdpa") if not any(f"tree, {name} fails" in what for what in self.wrong)]
        trees = [self.tree(model, name) for name in names]
        for tree, workers in zip(trees, (self.shape.whole, self.shape.chunked), strict=False):
            self.laws(tree, workers)
        self.profile(trees[0])
        self.masked(trees[0])
        self.observed(trees[0])
        self.rivals(model, own=self.record[f"whole law, {names[0]}"]["laws_per_second"])
        self.memory(trees[0])

    def model(self, dtype: torch.dtype, *, layers: int | None = None) -> Any:
        """A model of the shape, or of some layers of it."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return model_of(
            self.shape, device=self.device.type, dtype=dtype, vocabulary=self.cases.vocabulary, layers=layers
        )

    def tree(self, model: Any, backend: Any) -> Tree:
        """The scorer, without its check when it is made."""
        return Tree(Frontier(model, self.trie, max_rows=self.shape.max_rows, backend=backend), self.spelling)

    def timed(self, run: Callable[[], Any]) -> float:
        """Seconds."""
        return timed(run, self.device)

    def warm(self, run: Callable[[Tokens], Any], name: str) -> None:
        """Two sizes of the same work: the first may be compiled for itself, the second for all sizes."""
        if self.device.type == "cuda":
            sizes = [self.cases.careers(workers, seed=9) for workers in (1, 2)]
            seconds = [self.timed(lambda tokens=tokens: run(tokens)) for tokens in sizes]  # type: ignore[misc]
            say(f"  {name}: warm after {sum(seconds):.1f} s, {compiled()} kernels compiled so far")

    def line(self, name: str, seconds: float, *, rows: int, head: int, **figures: float) -> None:
        """Print and keep one result; figures are counts per second."""
        flop = 2.0 * self.body * rows + 2.0 * self.head * head
        rate = flop / seconds / 1e12
        share = rate / self.ceiling
        kept = {"seconds": seconds, "rows": rows, "head_rows": head, "tflops": rate, "share": share} | figures
        self.record[name] = kept
        figured = ", ".join(f"{value:,.1f} {key.replace('_', ' ')}" for key, value in figures.items())
        say(f"  {name}: {seconds:.2f} s, {rows:,} rows, {rate:.1f} TFLOP/s, {share:.1%} of the ceiling, {figured}")
        self.save()

    # ---- ours

    def laws(self, tree: Tree, workers: int) -> None:
        """The whole law at every year."""
        name = f"whole law, {tree.frontier.backend}"
        self.warm(lambda tokens: self.whole(tree, tokens), name)
        tokens = self.cases.careers(workers, seed=1)
        before, graphs = copy.copy(tree.frontier.work), compiled()
        seconds = self.timed(lambda: self.whole(tree, tokens))
        trunk, nodes, passes = _since(before, tree)
        laws = len(tokens.states)
        assert nodes == laws * len(tree.frontier.inner)
        figures = {"laws_per_second": laws / seconds, "passes": passes, "compiled_meanwhile": compiled() - graphs}
        self.line(name, seconds, rows=trunk + nodes, head=laws + nodes, **figures)

    def whole(self, tree: Tree, tokens: Tokens) -> np.ndarray:
        """Log P of all titles at all rows, (rows, J)."""
        found = list(tree.whole(tokens, np.arange(len(tokens.states)), law="raw"))
        return np.concatenate([one.raw_titles for one in found if one.raw_titles is not None])

    def masked(self, tree: Tree) -> None:
        """The whole masked law at every year."""

        def run(tokens: Tokens) -> None:
            for _ in tree.whole(tokens, np.arange(len(tokens.states)), law="masked"):
                pass

        self.warm(run, "masked law")
        tokens, before = self.cases.careers(self.shape.masked, seed=2), copy.copy(tree.frontier.work)
        seconds = self.timed(lambda: run(tokens))
        trunk, nodes, _ = _since(before, tree)
        units = int((tokens.stops - tokens.starts).sum())
        self.line("masked law", seconds, rows=trunk + nodes, head=units, laws_per_second=len(tokens.states) / seconds)

    def observed(self, tree: Tree) -> None:
        """What happened."""

        def run(tokens: Tokens) -> None:
            for _ in tree.observed(tokens, np.arange(len(tokens.states))):
                pass

        self.warm(run, "observed")
        tokens, before = self.cases.careers(self.shape.observed, seed=3), copy.copy(tree.frontier.work)
        seconds = self.timed(lambda: run(tokens))
        units = int((tokens.stops - tokens.starts).sum())
        rate = len(tokens.states) / seconds
        self.line("observed", seconds, rows=_since(before, tree)[0], head=units, person_years_per_second=rate)

    def profile(self, tree: Tree) -> None:
        """Where the device spends a few passes of the whole law."""
        tokens = self.cases.careers(min(3, self.shape.whole), seed=1)
        busy, kernels = busiest(lambda: self.whole(tree, tokens), self.device)
        self.record |= {"device_busy": busy, "kernels": kernels}
        say(f"  profile: device busy {busy:.1%} of the time; shares, calls:")
        for name, share, calls in kernels:
            say(f"    {share:6.1%} {calls:6d}  {name}")

    def memory(self, tree: Tree) -> None:
        """The peak beyond the weights: a full forest, and two passes with a quarter more rows than usual."""
        frontier = tree.frontier
        frontier.max_rows = self.shape.max_rows * 5 // 4
        tokens = self.cases.careers(200, seed=4)
        count = max(1, int(np.searchsorted(np.cumsum(tokens.lengths), frontier.max_rows)))
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        forest = frontier.plant([tokens.text(at) for at in range(count)], keep=True)
        prompts = [
            (at, int(start))
            for at in range(count)
            for start in tokens.starts[tokens.rows[at] : tokens.rows[at + 1]].tolist()
        ]
        several = 2 * max(1, frontier.max_rows // len(frontier.inner))
        for _, places, hidden in forest.cover(prompts[:several], frontier.inner):
            frontier.head.raw(hidden.flatten(0, 1), np.tile(frontier.inner.nodes[places], len(hidden)))
        peak = (torch.cuda.max_memory_allocated() - self.weights) / 1e9 if self.device.type == "cuda" else 0.0
        self.record["peak_gb_beyond_weights"] = peak
        say(f"  memory: {peak:.1f} GB beyond {self.weights / 1e9:.1f} GB of weights, {frontier.max_rows:,} rows a pass")
        self.save()

    # ---- rivals

    def prompts(self) -> tuple[Tokens, list[int]]:
        """One career and some of its rows, evenly chosen."""
        tokens = self.cases.careers(1, seed=5)
        chosen = np.linspace(0, len(tokens.states) - 1, min(self.shape.prompts, len(tokens.states)))
        return tokens, chosen.astype(int).tolist()

    def ways(self, model: Any) -> dict[str, Callable[[], np.ndarray]]:
        """Every way to score all titles at the chosen prompts, (P, J)."""
        tokens, rows = self.prompts()
        every = np.arange(len(self.cases.units.ids))
        prompts = [tokens.text(0)[: tokens.starts[row]] for row in rows]
        most = min(self.shape.max_rows, 2**31 // self.cases.vocabulary)  # the logits of all rows are held

        def passes(*, cached: bool) -> np.ndarray:
            way = Passes(model, self.trie, self.spelling, cached=cached, max_tokens=most)
            laws = way.behind_prefixes if cached else way.behind_texts
            return np.stack([raw for raw, _ in laws(prompts, [every] * len(prompts))])

        trees = {
            f"tree, {name}": lambda name=name: self.whole(self.tree(model, name), tokens)[rows]
            for name in ("flex", "sdpa")
        }
        loop = CachedLoop(model, self.cases.units.ids)
        return trees | {
            "strings": lambda: passes(cached=False),
            "cache, sorted": lambda: passes(cached=True),
            "cache, loop": lambda: np.stack([loop.law(prompt) for prompt in prompts]),
        }

    def compare(self, model: Any, name: str) -> None:
        """All ways give one law, within the bounds; a line of differences from the strings."""
        laws = {}
        for way, run in self.ways(model).items():
            try:
                laws[way] = run()
            except Exception as error:  # noqa: BLE001  time on a GPU is short: the other ways are measured
                self.note(f"{name}: {way} fails, {type(error).__name__}: {' '.join(str(error).split())[:400]}")
        most, mean = BOUNDS[model.dtype]
        want = laws.pop("strings")
        gaps = {way: np.abs(law - want) for way, law in laws.items()}
        self.record["differences"][name] = {way: [float(gap.max()), float(gap.mean())] for way, gap in gaps.items()}
        told = "; ".join(f"{way} {gap.max():.1e}, {gap.mean():.1e}" for way, gap in gaps.items())
        say(f"  {name}, from strings (log P {want.min():.0f} to {want.max():.0f}), largest and mean: {told}")
        for way, gap in gaps.items():
            if not (gap.max() <= most and gap.mean() <= mean):
                self.note(f"{name}: {way} beyond {most} nats, or {mean} on average")

    def note(self, what: str) -> None:
        """Something is wrong."""
        self.wrong.append(what)
        say(f"  WRONG {what}")

    def rivals(self, model: Any, *, own: float) -> None:
        """Rivals on some prompts, scaled by what they would forward for the careers of the whole law."""
        tokens, rows = self.prompts()
        lengths = self.spelling.lengths
        measured = forwarded(tokens.starts[rows].astype(np.int64), lengths)
        every = self.cases.careers(self.shape.whole, seed=1)
        careers = [forwarded(part.astype(np.int64), lengths) for part in np.split(every.starts, every.rows[1:-1])]
        for name, count in measured.items():
            run = self.ways(model)[name]
            run()
            seconds = self.timed(run)
            share = count / sum(career[name] for career in careers)
            laws = len(every.states) * share / seconds
            figures = {"laws_per_second": laws, "times_slower": own / laws, "percent_measured": 100 * share}
            self.line(name, seconds, rows=count, head=count, **figures)


def _since(before: Work, tree: Tree) -> tuple[int, int, int]:
    """Rows of trunks, rows of nodes, and passes since then."""
    work = tree.frontier.work
    return work.trunk - before.trunk, work.nodes - before.nodes, work.passes - before.passes


def main() -> None:
    """Measure every shape; what is known is written after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--shape", choices=[*SHAPES, "real"], default="real", help="real: 7b, then 8b")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        say("the scorer on a GPU: not measured, torch finds no CUDA device")
        return
    if options.device == "cpu":  # flex attention written out, without a compiler
        importlib.import_module("torch.nn.attention.flex_attention")._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = True
    device = torch.device(options.device)
    gpu = torch.cuda.get_device_name() if device.type == "cuda" else None
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    record: dict[str, Any] = {**circumstances(), "gpu": gpu, **versions, "ceiling_tflops": product_rate(device)}
    say(", ".join(f"{key} {value}" for key, value in record.items()))
    record["shapes"] = []
    wrong = []

    def save() -> None:
        if options.shape != "tiny":
            options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    for name in ("7b", "8b") if options.shape == "real" else (options.shape,):
        bench = Bench(SHAPES[name], device=device, ceiling=record["ceiling_tflops"], save=save)
        record["shapes"].append(bench.record)
        bench.run()
        wrong += bench.wrong
        del bench
    if wrong:
        sys.exit("\n".join(wrong))
    say("outputs agree within the bounds")


if __name__ == "__main__":
    main()
