"""The timed cases of the scorer's bench: the whole law, the masked law beside it, and what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import score_peers as peers
import score_worlds as worlds
from measured import interleaved
from score_worlds import Shape
from trie_record import Record, record

from laborllm.panel import Panel
from laborllm.score import TitleScorer
from laborllm.score.frontier import Frontier, Work
from laborllm.score.spelling import Spelling
from laborllm.score.tree import Tree

FAMILY = "llama-2"
CLOSE = 1e-3
"""Nats by which log-probabilities in float32 may differ between two ways to compute them."""


def judged(what: str, value: float, *, passing: float, goal: float, most: bool = False) -> Record:
    """A mark as `trie_record.Mark.judge` gives it, of any number."""
    reached = [value <= bound if most else value >= bound for bound in (passing, goal)]
    bounds = {"what": what, "ratio": float(value), "passing": passing, "goal": goal, "most": most}
    return {**bounds, "passes": reached[0], "reaches_goal": reached[1]}


def over(found: Record, what: str, names: tuple[str, ...], *, passing: float, goal: float) -> list[Record]:
    """How many times as long the fastest of some variants takes as ours; nothing where none of them ran."""
    ratios = [found["rows"][name]["over_laborllm"] for name in names if name in found["rows"]]
    return [judged(what, min(ratios), passing=passing, goal=goal)] if ratios else []


def work_of(scorer: TitleScorer, run: Callable[[], Any]) -> Work:
    """What a run forwards."""
    before = replace(scorer.work)
    run()
    after = scorer.work
    return Work(after.trunk - before.trunk, after.nodes - before.nodes, after.passes - before.passes)


class Kept:
    """A variant that keeps what it returned last."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.found: Any = None

    def __call__(self) -> None:
        """Call once."""
        self.found = self.call()


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, in nats."""
    return float(np.abs(np.asarray(a, float) - np.asarray(b, float)).max())


def differing(gaps: dict[str, float], *, most: float = CLOSE) -> list[str]:
    """Which differences are too large; NaN is."""
    return [f"{name} differs by {gap:.1e} nats" for name, gap in gaps.items() if not gap <= most]


def law_model(shape: Shape, panel: Panel, **options: Any) -> TitleScorer:
    """A scorer of the whole law in float32."""
    vocab = worlds.vocabulary(FAMILY, full=shape.full)
    body = worlds.model(vocab, hidden=shape.hidden, layers=shape.layers, heads=shape.heads)
    return worlds.scorer(panel, body, worlds.tokenizer(FAMILY, full=shape.full), **options)


def whole(scorer: TitleScorer, panel: Panel, law: Any = "raw") -> np.ndarray:
    """The whole law, (N, J)."""
    return scorer.score(panel, titles="all", law=law, keep_law=True).log_p_all


def law(shape: Shape, *, rounds: int, share: int) -> Record:
    """The whole law of one worker, against peers that score every title as a text and against prefix caches."""
    panel = worlds.careers(worlds.titles_of(shape), workers=1, years=shape.years)
    ours = law_model(shape, panel, method="tree")
    cache = worlds.scorer(panel, ours.model, ours.tokenizer, method="cache")
    asked = peers.requests(ours, panel)
    some = np.argsort(asked.lengths, kind="stable")[:: max(1, len(asked) // 32)][:32]
    alone = {"padded HF texts": peers.padded}
    if find_spec("lm_eval"):
        alone["lm-evaluation-harness"] = lambda model, asked, *, batch: peers.lm_eval(
            model, ours.tokenizer, asked, batch=batch
        )
    tried = {}
    for name, make in alone.items():
        tried[name] = peers.fastest(_trial(make, ours.model, asked, some), shape.batches)
    variants: dict[str, Any] = {"laborllm": Kept(lambda: whole(ours, panel))}
    slices = {}
    for name, make in alone.items():
        score = make(ours.model, asked, batch=tried[name])
        variants[name], slices[name] = peers.in_slices(score, asked, share)
    sizes = [4 * size for size in shape.batches]  # titles alone, a tenth as long as with their prompts
    tried["HF prefix cache"] = peers.fastest(
        lambda size: lambda: peers.cached(ours.model, replace(asked, prompts=asked.prompts[-1:]), batch=size), sizes
    )
    variants["HF prefix cache"] = Kept(lambda: peers.cached(ours.model, asked, batch=tried["HF prefix cache"]))
    variants["cache, sorted by length"] = Kept(lambda: whole(cache, panel))
    work = work_of(ours, variants["laborllm"])
    rows = promised_rows(ours, panel)
    seconds = interleaved(variants, rounds=rounds)
    found = variants["laborllm"].found
    gaps = {name: apart(found.ravel()[~np.isnan(x)], x[~np.isnan(x)]) for name, x in slices.items()}
    gaps |= {name: apart(found, variants[name].found) for name in ("HF prefix cache", "cache, sorted by length")}
    wrong = differing(gaps) + ([] if (work.trunk, work.nodes) == rows else [f"rows {work}, promised {rows}"])
    table = record(
        "law",
        f"whole law, hidden {shape.hidden}, {shape.years} years, {len(asked.units)} titles, seconds a worker",
        seconds,
        per=dict.fromkeys(variants, 1) | dict.fromkeys(slices, 1 / share),
        wrong=wrong,
        trunk=work.trunk,
        nodes=work.nodes,
        alone=int(asked.lengths.sum()),
        alone_over_ours=float(asked.lengths.sum() / sum(rows)),
        share_of_requests_a_call=1 / share,
        requests_checked={name: float((~np.isnan(x)).mean()) for name, x in slices.items()},
        batch=tried,
        largest_difference=gaps,
    )
    every = tuple(alone)
    table["marks"] = [
        *over(table, "every (history, title) as a text", every, passing=15, goal=25),
        *over(table, "HF prefix cache", ("HF prefix cache",), passing=3, goal=3),
        *over(table, "prefix cache, sorted by length", ("cache, sorted by length",), passing=1.15, goal=1.15),
    ]
    return table


def _trial(
    make: Callable[..., peers.Score], model: Any, asked: peers.Requests, some: np.ndarray
) -> Callable[[int], Any]:
    """For `fastest`: score the same few requests at a size of batch."""

    def sized(batch: int) -> Callable[[], np.ndarray]:
        score = make(model, asked, batch=batch)
        return lambda: score(some)

    return sized


def promised_rows(scorer: TitleScorer, panel: Panel) -> tuple[int, int]:
    """Rows of trunks and of trie nodes for the whole raw law: each career once, and years times inner nodes."""
    _, tokens = scorer.texts(panel)
    inner = int((np.diff(scorer.units.trie.first.astype(np.int64)) > 0).sum()) - 1  # the root is the trunk's
    return int(tokens.starts[tokens.rows[1:] - 1].sum()), panel.num_rows * inner


def masked(shape: Shape, *, rounds: int) -> Record:
    """The whole masked law against the whole raw law, of the same workers."""
    panel = worlds.careers(worlds.titles_of(shape), workers=2, years=shape.years)
    ours = law_model(shape, panel, method="tree")
    variants = {"laborllm": Kept(lambda: whole(ours, panel, "masked")), "raw": Kept(lambda: whole(ours, panel))}
    work = {name: vars(work_of(ours, run)) for name, run in variants.items()}
    seconds = interleaved(variants, rounds=rounds)
    _, tokens = ours.texts(panel)
    tree = Tree(Frontier(ours.model, ours.units.trie, max_rows=4_096), Spelling(ours.units))
    both = list(tree.whole(tokens, np.arange(panel.num_rows), law="raw"))
    gaps = {
        "masked law of the raw run": apart(variants["laborllm"].found, np.concatenate([f.masked_titles for f in both])),
        "raw law": apart(variants["raw"].found, np.concatenate([f.raw_titles for f in both])),
    }
    table = record(
        "masked",
        f"masked law (laborllm) and raw law, hidden {shape.hidden}, 2 workers, {shape.years} years, seconds",
        seconds,
        wrong=differing(gaps),
        work=work,
        largest_difference=gaps,
    )
    return table | {"marks": over(table, "raw law", ("raw",), passing=8, goal=8)}


def observed(shape: Shape, *, rounds: int) -> Record:
    """Log P of what happened: one pass over each career, without padding and with the logits of titles alone."""
    panel = worlds.survey(shape)
    vocab = worlds.vocabulary(FAMILY, full=shape.full)
    sizes = {"hidden": shape.observed_hidden, "layers": shape.observed_layers, "heads": shape.observed_heads}
    encoder, body = worlds.tokenizer(FAMILY, full=shape.full), worlds.model(vocab, **sizes)
    ours = worlds.scorer(panel, body, encoder, method="tree")
    texts = ours.texts(panel)
    calls = {"a text per transition": peers.one_by_one, "a padded pass per worker": peers.teacher_forced}
    few = texts[1].take(np.linspace(0, len(texts[1]) - 1, max(2, len(texts[1]) // 15)).astype(int))
    tried = {
        name: peers.fastest(lambda most, call=call: lambda: call(body, few, most=most), shape.budgets)
        for name, call in calls.items()
    }
    variants: dict[str, Any] = {
        "laborllm": Kept(lambda: ours.log_p_observed(panel, ours.texts(panel))[0]),
        "laborllm, and the previous title": Kept(lambda: ours.score(panel).log_p),
    }
    for name, call in calls.items():
        variants[name] = Kept(lambda call=call, most=tried[name]: call(body, ours.texts(panel)[1], most=most))
    work = {name: vars(work_of(ours, variants[name])) for name in list(variants)[:2]}
    seconds = interleaved(variants, rounds=rounds)
    found = variants["laborllm"].found
    gaps = {name: apart(found, run.found) for name, run in variants.items()}
    most = int((texts[1].stops[texts[1].rows[1:] - 1]).sum())
    trunk = max(one["trunk"] for one in work.values())
    table = record(
        "observed",
        f"observed, {panel.num_workers} workers, {panel.num_rows} rows, hidden {shape.observed_hidden}, seconds",
        seconds,
        wrong=differing(gaps) + ([f"{trunk} rows for {most} tokens"] if trunk > most else []),
        work=work,
        tokens=most,
        budget=tried,
        largest_difference=gaps,
    )
    table["marks"] = [
        *over(table, "a text per transition", ("a text per transition",), passing=8, goal=8),
        *over(table, "a padded pass per worker", ("a padded pass per worker",), passing=1.3, goal=1.3),
    ]
    return table
