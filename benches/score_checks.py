"""The cases of the scorer's bench that time nothing: rows, equality, independence of the batch, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import score_peers as peers
import score_worlds as worlds
import torch
from measured import growth
from score_cases import FAMILY, apart, judged, promised_rows, work_of
from score_worlds import Shape
from trie_record import Record

from laborllm.panel import Panel
from laborllm.score import TitleScorer, reference

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
RUNS = (("llama-2", "llama-2"), ("llama-2", "llama-3"), ("llama-3", "llama-3"))
"""Whose titles and texts, and whose size of vocabulary."""
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""glibc moves these with what was freed before, which leaves another slack in the heap after another model."""
MEMORY_GB, MEMORY_SPREAD = 1.5, 0.05


def small_scorer(shape: Shape, panel: Panel, dtype: torch.dtype, **options: Any) -> TitleScorer:
    """A scorer on a model that is small enough for texts of their own."""
    sizes = {"hidden": shape.observed_hidden, "layers": shape.observed_layers, "heads": shape.observed_heads}
    body = worlds.model(worlds.vocabulary(FAMILY, full=shape.full), **sizes, dtype=dtype)
    return worlds.scorer(panel, body, worlds.tokenizer(FAMILY, full=shape.full), **options)


def rows(shape: Shape) -> Record:
    """Rows forwarded for the whole law of one worker, counted in a run, and those of every history and title alone."""
    counts, wrong = [], []
    body = worlds.model(worlds.vocabulary(FAMILY, full=shape.full), hidden=32, layers=1, heads=4)
    for years in shape.row_years:
        panel = worlds.careers(worlds.titles_of(shape), workers=1, years=years)
        scorer = worlds.scorer(panel, body, worlds.tokenizer(FAMILY, full=shape.full), method="tree")
        work = work_of(scorer, lambda scorer=scorer, panel=panel: scorer.score(panel, titles="all"))
        promised = promised_rows(scorer, panel)
        if (work.trunk, work.nodes) != promised:
            wrong.append(f"{years} years: {work.trunk} + {work.nodes} rows, promised {promised}")
        alone = int(peers.requests(scorer, panel).lengths.sum())
        count = {"years": years, "trunk": work.trunk, "nodes": work.nodes, "alone": alone}
        counts.append(count | {"ratio": alone / (work.trunk + work.nodes)})
    return {"case": "rows", "title": "rows of the whole law", "counts": counts, "marks": [], "wrong": wrong}


def exact(shape: Shape) -> Record:
    """Tree against naive in each type, beside the naive path's own distance from float64; the same weights in all."""
    panel = worlds.careers(worlds.titles_of(shape, min(40, shape.titles or 40)), workers=1, years=3)
    found, naive = {}, {}
    for name, dtype in DTYPES.items():
        scorer = small_scorer(shape, panel, dtype, method="tree")
        _, tokens = scorer.texts(panel)
        prompts = [tokens.text(0)[:start] for start in tokens.starts]
        naive[name] = reference.law(scorer.model, prompts, scorer.units)
        (one,) = scorer._method.whole(tokens, np.arange(panel.num_rows), law="raw")
        found[name] = one.raw_titles, one.masked_titles
    gaps = {
        name: {
            "tree_and_naive": max(map(apart, found[name], naive[name])),
            "naive_and_float64": max(map(apart, naive[name], naive["float64"])),
            "tree_and_float64": max(map(apart, found[name], naive["float64"])),
        }
        for name in DTYPES
    }
    bounds = {"float64": 1e-6, "float32": 1e-4}
    marks = [
        judged(f"tree = naive, {name}", gaps[name]["tree_and_naive"], passing=bound, goal=bound, most=True)
        for name, bound in bounds.items()
    ]
    wrong = [f"{mark['what']}: {mark['ratio']:.1e}" for mark in marks if not mark["ratio"] <= 10 * mark["passing"]]
    title = f"tree and naive, 3 years, {len(panel.occupations)} titles, nats"
    return {"case": "exact", "title": title, "gaps": gaps, "marks": marks, "wrong": wrong}


def batch(shape: Shape) -> Record:
    """The same workers alone, together, in another order and under other budgets; both laws and what happened."""
    occupations = worlds.titles_of(shape)
    parts = [worlds.careers(occupations, workers=1, years=1 + n, first_worker=n) for n in range(4)]
    table = pa.concat_tables([part.table for part in parts])
    together = Panel.from_arrow(table, occupations=occupations)
    ids = pa.array(9 - together.table["worker_id"].to_numpy())
    place = together.table.column_names.index("worker_id")
    turned = Panel.from_arrow(together.table.set_column(place, "worker_id", ids), occupations=occupations)
    back = np.lexsort((turned.years(), 9 - turned.table["worker_id"].to_numpy()))
    gaps = {}
    for name in ("float32", "bfloat16"):
        scorer = small_scorer(shape, together, DTYPES[name], method="tree")
        alone = np.concatenate([_laws(scorer, part) for part in parts], axis=1)
        gaps[f"{name}, together"] = apart(_laws(scorer, together), alone)
        gaps[f"{name}, another order"] = apart(_laws(scorer, turned)[:, back], alone)
        for budget in (100, 20_000):
            other = worlds.scorer(together, scorer.model, scorer.tokenizer, method="tree", max_rows=budget)
            gaps[f"{name}, budget of {budget}"] = apart(_laws(other, together), alone)
        _, tokens = scorer.texts(together)
        read = [peers.teacher_forced(scorer.model, tokens, most=most) for most in (1, 1_000_000)]
        gaps[f"{name}, padded HF texts, alone and together"] = apart(*read)
    worst = max(gap for name, gap in gaps.items() if name.startswith("float32") and "HF" not in name)
    marks = [judged("float32, any batch, order, budget", worst, passing=1e-5, goal=1e-5, most=True)]
    wrong = [f"float32 differs by {worst:.1e} nats"] if not worst <= 1e-3 else []
    title = "the same workers in other company, nats"
    return {"case": "batch", "title": title, "largest_difference": gaps, "marks": marks, "wrong": wrong}


def _laws(scorer: TitleScorer, panel: Panel) -> np.ndarray:
    """Log P of what happened, from three amounts of work, (3, rows)."""
    runs: list[dict[str, Any]] = [{}, {"titles": "all"}, {"titles": "all", "law": "masked"}]
    return np.stack([scorer.score(panel, **run).log_p for run in runs])


def memory(shape_name: str) -> Record:
    """Growth of peak memory while the whole law runs in a fresh process: two vocabularies, and two sets of ids."""
    found = {}
    for encoder, size in RUNS:
        command = [sys.executable, str(Path(__file__).with_name("bench_score.py")), "--shape", shape_name]
        command += ["--one", encoder, size]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | MALLOC)
        found[f"ids of {encoder}, vocabulary of {size}"] = json.loads(done.stdout.splitlines()[-1])
    gains = [one["gb"] for one in found.values()]
    spread = gains[1] / gains[0] - 1  # the same rows, another vocabulary
    marks = [
        judged("growth, GB", max(gains), passing=MEMORY_GB, goal=MEMORY_GB, most=True),
        judged("a larger vocabulary, share more", abs(spread), passing=MEMORY_SPREAD, goal=MEMORY_SPREAD, most=True),
    ]
    return {"case": "memory", "title": "peak memory of the whole law", "runs": found, "marks": marks, "wrong": []}


def memory_of_one(shape: Shape, encoder: str, size: str) -> dict[str, Any]:
    """In this process: rows of trie nodes, and GB by which the peak grows above the loaded model."""
    occupations = worlds.titles_of(shape)
    vocab = worlds.vocabulary(size, full=shape.full)
    body = worlds.model(vocab, hidden=shape.hidden, layers=shape.layers, heads=shape.heads)
    first = worlds.careers(occupations, workers=1, years=1)
    scorer = worlds.scorer(first, body, worlds.tokenizer(encoder, full=shape.full), method="tree")
    _, inner = promised_rows(scorer, first)
    panel = worlds.careers(occupations, workers=1, years=max(1, round(shape.memory_rows / inner)))
    gb = growth(lambda: scorer.score(panel, titles="all")) / 1_000
    return {"vocabulary": vocab, "rows": scorer.work.nodes, "years": panel.num_rows, "gb": gb}
