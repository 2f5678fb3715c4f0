"""What the trie's bench measures first: building, sparse steps, bit masks. The rest is in trie_uses.py."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from measured import in_turn, interleaved
from trie_grammars import ENGINES, Engine, bitmask_for, bits
from trie_peers import (
    Csr,
    build_dict,
    copier,
    dict_walk,
    lexsort_csr,
    packed_sort_csr,
    padded_torch,
    ragged_numpy,
)
from trie_record import OURS, Mark, Record, record
from trie_sets import Drawn, TitleSet, draw, title_set, tokenizer_path

from laborllm.trie import TitleTrie

IN_TURN = 16
"""Batches that a step goes round."""
MOST_MATCHERS = 1024
"""Of an engine for grammars; more than that many sequences are not kept."""


@cache
def reference(name: str, family: str) -> Csr:
    """The set's trie as numpy builds it."""
    titles = title_set(name, family)
    return packed_sort_csr(titles.flat, titles.offsets)


@cache
def engine(name: str, set_name: str, family: str) -> Engine:
    """An engine that has built a set in this process."""
    made = ENGINES[name](tokenizer_path(family), family)
    made.compile(title_set(set_name, family).titles)
    return made


def unequal(trie: TitleTrie, csr: Csr) -> list[str]:
    """Which arrays of a trie are not those of another builder."""
    names = ("first", "labels", "leaves", "titles")
    return [name for name, want in zip(names, csr, strict=True) if not np.array_equal(getattr(trie, name), want)]


def build(name: str, family: str, *, rounds: int, engines: Sequence[str]) -> Record:
    """From token ids; llguidance from text."""
    titles = title_set(name, family)
    million = len(titles.titles) >= 1_000_000
    variants: dict[str, Callable[[], Any]] = {
        OURS: lambda: TitleTrie(titles.arrow),
        "laborllm, Python lists": lambda: TitleTrie(titles.lists),
        "dict trie": lambda: build_dict(titles.lists),
        "numpy lexsort": lambda: lexsort_csr(titles.flat, titles.offsets),
        "numpy packed sort": lambda: packed_sort_csr(titles.flat, titles.offsets),
    }
    if "llguidance" in engines:
        made = ENGINES["llguidance"](tokenizer_path(family), family)
        variants["llguidance regex"] = lambda: made.compile(titles.titles)
    csr, trie = reference(name, family), TitleTrie(titles.arrow)
    wrong = [f"{array} of laborllm" for array in unequal(trie, csr)]
    wrong += [f"{array} of laborllm from lists" for array in unequal(TitleTrie(titles.lists), csr)]
    wrong += [f"{array} of numpy lexsort" for array in unequal(trie, lexsort_csr(titles.flat, titles.offsets))]
    if million:
        marks = [Mark("over numpy lexsort", ("numpy lexsort",), 6, 12)]
    else:
        best = ("dict trie", "numpy lexsort", "llguidance")
        marks = [Mark("over the best of dict trie, numpy lexsort, llguidance", best, 3, 5)]
    return record(
        "build",
        f"build, {name}, {family}",
        interleaved(variants, rounds=rounds, slow=5),
        marks=[*marks, Mark("over the fastest numpy we know", ("numpy packed sort",), 1, 1)],
        wrong=wrong,
        titles=len(titles.titles),
        nodes=trie.num_nodes,
        tokens=len(titles.flat),
        longest=int(titles.lengths.max()),
    )


def drawn(name: str, family: str, *, size: int, batches: int = IN_TURN) -> list[Drawn]:
    """Batches of states of a set's trie."""
    csr = reference(name, family)
    return draw(title_set(name, family), csr.first, csr.leaf_of(), size=size, batches=batches)


def step(name: str, family: str, *, size: int, rounds: int, engines: Sequence[str]) -> Record:
    """The allowed tokens of a batch, sparse, torch on one thread; engines for grammars give bit masks."""
    import torch

    torch.set_num_threads(1)
    titles, csr = title_set(name, family), reference(name, family)
    trie, batches = TitleTrie(titles.arrow), drawn(name, family, size=size)
    states = [batch.states for batch in batches]
    wide = [batch.astype(np.int64) for batch in states]
    tensors = [torch.from_numpy(batch) for batch in wide]
    root = build_dict(titles.lists)
    nodes = [[dict_walk(root, prefix) for prefix in batch.prefixes] for batch in batches]
    numpy_step, torch_step = ragged_numpy(csr.first, trie.labels), padded_torch(csr.first, csr.labels)
    copies, floors = [], []
    prepare, size_of = copier(), trie.labels.itemsize
    for batch in wide:
        start, stop = csr.first[batch].astype(np.int64), csr.first[batch + 1].astype(np.int64)
        copies.append(prepare(np.array([start, stop - start]) * size_of, trie.labels))
        runs = numpy_step(batch)[1]
        floors.append((np.empty_like(runs), runs))
    variants: dict[str, Callable[[], Any]] = {
        OURS: in_turn(trie.allowed, states),
        "laborllm, edges too": in_turn(lambda batch: (trie.allowed(batch), trie.edges(batch)), states),
        "dict trie": in_turn(lambda batch: list(map(list, batch)), nodes),
        "torch padded CSR": in_turn(torch_step, tensors),
        "numpy ragged gather": in_turn(numpy_step, wide),
        "memcpy run by run (C)": in_turn(lambda copy: copy(), copies),
        "one copy of all runs": in_turn(lambda pair: np.copyto(*pair), floors),
    }
    per = dict.fromkeys(variants, size * len(batches))
    wrong = _step_differences(trie, batches, nodes, numpy_step, torch_step)
    for peer in engines:
        fills, count, differ = _engine_fills(peer, titles, batches, trie)
        variants.update(fills)
        per.update(dict.fromkeys(fills, count))
        wrong += differ
    bound = {1: (10, 20), 64: (3, 5)}.get(size, (1.5, 3))
    rivals = ("dict trie", "torch", "llguidance", "outlines")
    marks = [
        *([Mark("over dict trie, torch, llguidance, outlines-core", rivals, 20, 40)] if size > 1 else []),
        Mark("over ragged numpy", ("numpy ragged",), *bound),
        Mark("time over memcpy's", ("memcpy",), 3, 2, most=True),
    ]
    title = f"sparse step, {name}, {family}, B = {size}"
    seconds = interleaved(variants, rounds=rounds)
    return record("step", title, seconds, per=per, marks=marks, wrong=wrong, allowed=_mean_allowed(trie, states))


def _mean_allowed(trie: TitleTrie, states: list[np.ndarray]) -> float:
    return float(np.mean([len(trie.allowed(batch)[1]) / len(batch) for batch in states]))


def _step_differences(
    trie: TitleTrie, batches: list[Drawn], nodes: list[list[Any]], numpy_step: Any, torch_step: Any
) -> list[str]:
    """Which variants' outputs are not laborllm's."""
    import torch

    wrong = set()
    for batch, node in zip(batches, nodes, strict=True):
        wide = batch.states.astype(np.int64)
        ours, theirs = (*trie.allowed(batch.states), trie.edges(batch.states)), numpy_step(wide)
        wrong |= {"numpy ragged gather" for a, b in zip(ours, theirs, strict=True) if not np.array_equal(a, b)}
        rows = [ours[1][a:b].tolist() for a, b in itertools.pairwise(ours[0].tolist())]
        wrong |= {"dict trie" for row, children in zip(rows, node, strict=True) if row != sorted(children)}
        inner, tokens, mask, _, root = torch_step(torch.from_numpy(wide))
        padded = [root.tolist()] * len(rows)
        for at, row, known in zip(inner.tolist(), tokens, mask, strict=True):
            padded[at] = row[known].tolist()
        wrong |= {"torch padded CSR"} if padded != rows else set()
    return sorted(wrong)


def _engine_fills(
    peer: str, titles: TitleSet, batches: list[Drawn], trie: TitleTrie
) -> tuple[dict[str, Callable[[], Any]], int, list[str]]:
    """The ways of an engine to mask the first batches, of how many sequences, and where it forbids what we allow."""
    size = len(batches[0].states)
    used = batches[: max(1, MOST_MATCHERS // size)]
    made = engine(peer, titles.name, titles.family)
    mask = bitmask_for(size, titles.vocabulary)
    wrong, ways = set(), []
    for batch in used:
        ways.append(made.fills(batch.prefixes, mask))
        ours = bitmask_for(size, titles.vocabulary)
        trie.fill_bitmask(batch.states, ours)
        for way, fill in ways[-1].items():
            mask[:] = 0
            fill()
            if (ours & ~mask).any():
                wrong.add(f"{peer} {way} forbids what the trie allows")
    found = {f"{peer} {way}": in_turn(lambda fill: fill(), [fills[way] for fills in ways]) for way in ways[0]}
    return found, size * len(used), sorted(wrong)


def bitmask(name: str, family: str, *, size: int, rounds: int, engines: Sequence[str]) -> Record:
    """Bit masks of a batch: the previous batch's bits undone, or all words cleared; engines write all words."""
    titles, trie = title_set(name, family), TitleTrie(title_set(name, family).arrow)
    batches = drawn(name, family, size=size)
    states = [batch.states for batch in batches]
    undone, cleared = (bitmask_for(size, titles.vocabulary) for _ in range(2))
    trie.fill_bitmask(states[-1], undone)
    pairs = list(zip(states, [states[-1], *states[:-1]], strict=True))

    wrong = []
    for batch, previous in pairs:
        trie.fill_bitmask(batch, undone, previous=previous)
        want = np.zeros((size, titles.vocabulary), bool)
        indptr, tokens = trie.allowed(batch)
        want[np.repeat(np.arange(size), np.diff(indptr)), tokens] = True
        if not np.array_equal(bits(undone, titles.vocabulary), want):
            wrong.append("laborllm's bits are not its tokens")
    variants: dict[str, Callable[[], Any]] = {
        OURS: in_turn(lambda pair: trie.fill_bitmask(pair[0], undone, previous=pair[1]), pairs),
        "laborllm, all words cleared": in_turn(lambda batch: trie.fill_bitmask(batch, cleared), states),
    }
    per = dict.fromkeys(variants, size * len(batches))
    for peer in engines:
        fills, count, differ = _engine_fills(peer, titles, batches, trie)
        variants.update(fills)
        per.update(dict.fromkeys(fills, count))
        wrong += differ
    marks = [Mark("over outlines-core", ("outlines",), 10, 15), Mark("over xgrammar batch", ("xgrammar",), 12, 20)]
    return record(
        "bitmask",
        f"bitmask step, {name}, {family}, B = {size}",
        interleaved(variants, rounds=rounds),
        per=per,
        marks=marks if size > 1 else (),
        wrong=wrong,
    )
