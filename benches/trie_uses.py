"""What the trie's bench measures in use: processors for transformers, engines for grammars, memory and loading."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from measured import growth, in_turn, interleaved
from trie_cases import bits, drawn
from trie_grammars import ENDS, Engine, bitmask_for
from trie_peers import build_dict
from trie_record import OURS, Mark, Record, record
from trie_sets import PROMPT, TitleSet, title_set, tokenizer_path

from laborllm.trie import TitleTrie

PROMPT_LENGTH = 40
BEAMS = 8
STEPS = 10
PrefixFn = Callable[[int, Any], list[int]]


def _decoding(titles: TitleSet, rows: int, stop: int) -> list[Any]:
    """The ids of a batch of random titles before each of its first steps; finished rows hold `stop`."""
    import torch

    chosen = np.random.default_rng(3).integers(len(titles.titles), size=rows)
    ids = np.full((rows, PROMPT_LENGTH + STEPS), stop, np.int64)
    ids[:, :PROMPT_LENGTH] = np.random.default_rng(4).integers(titles.vocabulary, size=(rows, PROMPT_LENGTH))
    for at, row in enumerate(chosen.tolist()):
        unit = titles.lists[row][:STEPS]
        ids[at, PROMPT_LENGTH : PROMPT_LENGTH + len(unit)] = unit
    return [torch.from_numpy(np.ascontiguousarray(ids[:, : PROMPT_LENGTH + step])) for step in range(STEPS)]


def _prefix_fn(root: Any, stop: int) -> PrefixFn:
    """The function that users of `prefix_allowed_tokens_fn` write, over nested dictionaries."""

    def allowed(_batch: int, ids: Any) -> list[int]:
        node: Any = root
        for token in ids[PROMPT_LENGTH:].tolist():
            node = node[token]
            if type(node) is int:
                return [stop]
        return list(node)

    return allowed


def _each(ids: Any, function: PrefixFn) -> list[list[int]]:
    """The calls that transformers makes, without its scores."""
    return [
        function(batch, sequence) for batch, beams in enumerate(ids.view(-1, BEAMS, ids.shape[1])) for sequence in beams
    ]


def processor(name: str, family: str, *, rows: int) -> tuple[Callable[[int], Record], Callable[[int], Record]]:
    """A call of a processor, mean over the first ten steps: the allowed sets alone, and with the scores written.

    Both are measured when they are called, with a number of rounds.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import PrefixConstrainedLogitsProcessor

    from laborllm.generate import TitleLogitsProcessor, prefix_allowed_tokens_fn

    torch.set_num_threads(os.cpu_count() or 1)
    titles = title_set(name, family)
    stop = Tokenizer.from_file(str(tokenizer_path(family))).token_to_id(ENDS[family])
    trie, root = TitleTrie(titles.arrow), build_dict(titles.lists)
    inputs = _decoding(titles, rows, stop)

    prefix_fn = _prefix_fn(root, stop)

    def sets(ids: torch.Tensor) -> Any:
        return trie.allowed(trie.walk(ids[:, PROMPT_LENGTH:].numpy()))

    own_fn = prefix_allowed_tokens_fn(trie, PROMPT_LENGTH, stop=stop)
    scores = torch.randn(rows, titles.vocabulary)
    ours = TitleLogitsProcessor(trie, prompt_length=PROMPT_LENGTH, stop=stop)
    in_place = TitleLogitsProcessor(trie, prompt_length=PROMPT_LENGTH, stop=stop, in_place=True)
    scores_to_lose = scores.clone()
    theirs = PrefixConstrainedLogitsProcessor(prefix_fn, num_beams=BEAMS)
    known = []
    for ids in inputs:
        allowed = _each(ids, prefix_fn)
        at = [row * titles.vocabulary + token for row, tokens in enumerate(allowed) for token in tokens]
        known.append(torch.tensor(at))

    def scatter(flat: torch.Tensor) -> torch.Tensor:
        masked = torch.full_like(scores, -torch.inf)
        masked.view(-1).scatter_(0, flat, scores.view(-1).gather(0, flat))
        return masked

    wrong = set()
    for ids, flat in zip(inputs, known, strict=True):
        want = scatter(flat)
        for what, process in ((OURS, ours), ("HF prefix function", theirs)):
            wrong |= set() if torch.equal(process(ids, scores), want) else {what}
        indptr, tokens = sets(ids)
        lists = [tokens[a:b].tolist() or [stop] for a, b in itertools.pairwise(indptr.tolist())]
        wrong |= set() if lists == _each(ids, own_fn) else {"prefix_allowed_tokens_fn"}
        wrong |= set() if lists == [sorted(row) for row in _each(ids, prefix_fn)] else {"allowed sets"}
    where = f"{name}, {family}, B * beams = {rows}, V = {titles.vocabulary}"

    def alone(rounds: int) -> Record:
        variants = {
            OURS: in_turn(sets, inputs),
            "laborllm, prefix_allowed_tokens_fn": in_turn(lambda ids: _each(ids, own_fn), inputs),
            "its function alone, over a dict trie": in_turn(lambda ids: _each(ids, prefix_fn), inputs),
            "HF PrefixConstrainedLogitsProcessor": in_turn(lambda ids: theirs(ids, scores), inputs),
        }
        marks = [Mark("over Hugging Face's processor, its write included", ("HF",), 500, 1000)]
        seconds = interleaved(variants, rounds=rounds)
        return record("processor", f"allowed sets, {where}", seconds, per=STEPS, marks=marks, wrong=sorted(wrong))

    def written(rounds: int) -> Record:
        variants = {
            OURS: in_turn(lambda ids: ours(ids, scores), inputs),
            "laborllm, in place": in_turn(lambda ids: in_place(ids, scores_to_lose), inputs),
            "HF PrefixConstrainedLogitsProcessor": in_turn(lambda ids: theirs(ids, scores), inputs),
            "full_like and scatter of known entries": in_turn(scatter, known),
        }
        marks = [
            Mark("over Hugging Face's", ("HF",), 5, 5),
            Mark("time over the scatter's", ("full_like",), 1.3, 1.3, most=True),
        ]
        seconds = interleaved(variants, rounds=rounds, slow=60)
        return record("processor", f"[B, V] written, {where}", seconds, per=STEPS, marks=marks, wrong=sorted(wrong))

    return alone, written


@cache
def probe(engine: str, family: str, name: str, *, cap: float, rounds: int) -> Record:
    """Build and step under an engine for grammars in a process of its own, ended after `cap` seconds."""
    command = [sys.executable, str(Path(__file__).with_name("trie_grammars.py")), engine, family, name]
    process = subprocess.Popen(
        [*command, "--rounds", str(rounds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        output, errors = process.communicate(timeout=cap)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        errors = f"ended after {cap:.0f} s"
    found: Record = {"engine": engine, "family": family, "set": name, "steps": []}
    for line in output.splitlines():
        stage = json.loads(line)
        found |= stage if "build_s" in stage else {"steps": [*found["steps"], stage]}
    if process.returncode:
        found["failed"] = " ".join(errors.split())[-160:]
    return found


def grammar_steps(made: Engine, titles: TitleSet, *, size: int, rounds: int) -> Record:
    """Called in the engine's process: its masks beside laborllm's, sparse and as masks."""
    trie = TitleTrie(titles.arrow)
    batches = drawn(titles.name, titles.family, size=size, batches=2)
    prefixes, states = batches[0].prefixes, [batch.states for batch in batches]
    mask, ours = (bitmask_for(size, titles.vocabulary) for _ in range(2))
    fills = made.fills(prefixes, mask)
    trie.fill_bitmask(states[0], ours)
    wrong, extra = [], {}
    for way, fill in fills.items():
        mask[:] = 0
        fill()
        allowed = bits(mask, titles.vocabulary).sum()
        extra[way] = float(allowed / bits(ours, titles.vocabulary).sum())
        wrong += [way] if (ours & ~mask).any() else []

    def masks() -> None:
        trie.fill_bitmask(states[1], ours, previous=states[0])
        trie.fill_bitmask(states[0], ours, previous=states[1])

    variants = {
        OURS: in_turn(trie.allowed, states),
        "laborllm, bit mask": masks,
        **fills,
    }
    per = dict.fromkeys(variants, size) | dict.fromkeys(list(variants)[:2], 2 * size)
    seconds = interleaved(variants, rounds=rounds)
    return record("grammars", f"B = {size}", seconds, per=per, wrong=wrong, allowed_over_trie=extra)


def memory(name: str, family: str) -> Record:
    """Bytes of a node here and in dictionaries; those are the growth of a fresh process."""
    titles = title_set(name, family)
    trie = TitleTrie(titles.arrow)
    command = [sys.executable, __file__, name, family]
    grown = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    own = (trie.nbytes - 4 * trie.num_titles) / trie.num_nodes
    bound = 8 if trie.vocabulary <= 65_536 else 10
    return {
        "case": "memory",
        "title": f"memory, {name}, {family}",
        "nodes": trie.num_nodes,
        "megabytes": trie.nbytes / 1e6,
        "bytes_a_node_without_4_a_title": own,
        "dict_bytes_a_node": grown * 2**20 / trie.num_nodes,
        "marks": [Mark("bytes a node", ("",), bound, bound, most=True).judge({"": 1 / own})],
        "wrong": [],
    }


def loading(name: str, family: str, *, rounds: int) -> Record:
    """Mapping a saved trie against building it from ids, and, once, from titles."""
    from tokenizers import Tokenizer

    titles = title_set(name, family)
    tokenizer = Tokenizer.from_file(str(tokenizer_path(family)))
    begin = time.perf_counter()
    whole = TitleTrie.from_titles(titles.titles, tokenizer, prompt=PROMPT)
    from_titles = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trie.arrow"
        TitleTrie(titles.arrow).save(path)
        loaded, size = TitleTrie.load(path), path.stat().st_size
        arrays = ("first", "labels", "titles", "leaves")
        wrong = [array for array in arrays if not np.array_equal(getattr(loaded, array), getattr(whole, array))]
        variants = {OURS: lambda: TitleTrie.load(path), "build from ids": lambda: TitleTrie(titles.arrow)}
        seconds = interleaved(variants, rounds=rounds)
    seconds["build from titles"] = [from_titles]
    marks = [Mark("over building from titles", ("build from titles",), 100, 100)]
    title = f"loading by mmap, {name}, {family}"
    return record("memory", title, seconds, marks=marks, wrong=wrong, file_mb=size / 1e6)


if __name__ == "__main__":
    lists = title_set(*sys.argv[1:3]).lists
    print(growth(lambda: build_dict(lists)))
