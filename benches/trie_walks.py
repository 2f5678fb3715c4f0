"""What the trie's bench measures of walks: states derived anew from ids, one token on, forced chains."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
from measured import in_turn, interleaved
from trie_cases import drawn, reference
from trie_peers import build_dict, dict_walk, search_step
from trie_record import OURS, Record, record
from trie_sets import Drawn, title_set

from laborllm.trie import TitleTrie


def walk(name: str, family: str, *, size: int, rounds: int) -> list[Record]:
    """States derived anew from ten ids a row; one token on; forced chains."""
    titles, csr = title_set(name, family), reference(name, family)
    trie, root = TitleTrie(titles.arrow), build_dict(titles.lists)
    rows = np.random.default_rng(1).integers(len(titles.titles), size=size)
    ids = np.full((size, 10), titles.flat[-1], np.int64)
    for at, row in enumerate(rows.tolist()):
        unit = titles.lists[row][:10]
        ids[at, : len(unit)] = unit
    lists = ids.tolist()

    def walk_dict() -> list[Any]:
        found = []
        for sequence in lists:
            node: Any = root
            for token in sequence:
                node = node[token]
                if type(node) is int:
                    break
            found.append(node)
        return found

    search = search_step(csr.first, csr.labels)
    inner = np.append(csr.first[:-1] < csr.first[1:], False)

    def walk_numpy() -> np.ndarray:
        states = np.zeros(size, np.int64)
        for column in ids.T:
            states = np.where(inner.take(states), search(states, column), states)
        return states

    wrong = [] if np.array_equal(trie.walk(ids), walk_numpy()) else ["numpy's walk"]
    ended = [node if type(node) is int else -1 for node in walk_dict()]
    wrong += [] if trie.title(trie.walk(ids)).tolist() == ended else ["the dictionary's walk"]
    variants = {OURS: lambda: trie.walk(ids), "dict trie": walk_dict, "numpy searchsorted": walk_numpy}
    seconds = interleaved(variants, rounds=rounds)
    at = f"{name}, {family}, B = {size}"
    return [
        record("walk", f"walk from the root, 10 ids, {at}", seconds, per=size, wrong=wrong),
        *_one_token(trie, root, search, drawn(name, family, size=size), at=at, rounds=rounds),
    ]


def _one_token(
    trie: TitleTrie, root: Any, search: Any, batches: list[Drawn], *, at: str, rounds: int
) -> Iterable[Record]:
    draws, moves = np.random.default_rng(2), []
    for batch in batches:
        indptr, tokens = trie.allowed(batch.states)
        edges = trie.edges(batch.states)
        chosen = draws.integers(indptr[:-1], indptr[1:])
        nodes = [dict_walk(root, prefix) for prefix in batch.prefixes]
        moves.append((batch.states, tokens[chosen].astype(np.int64), edges[chosen], nodes))
    wide = [(states.astype(np.int64), tokens) for states, tokens, _, _ in moves]
    paired = [list(zip(nodes, tokens.tolist(), strict=True)) for _, tokens, _, nodes in moves]
    wrong = [
        "step"
        for (states, tokens, edges, _), (broad, _) in zip(moves, wide, strict=True)
        if not np.array_equal(trie.step(states, tokens), trie.advance(edges))
        or not np.array_equal(search(broad, tokens), trie.advance(edges))
    ]
    variants = {
        OURS: in_turn(lambda move: trie.step(move[0], move[1]), moves),
        "laborllm, advance by edge": in_turn(lambda move: trie.advance(move[2]), moves),
        "dict trie": in_turn(lambda pairs: [node[token] for node, token in pairs], paired),
        "numpy searchsorted": in_turn(lambda move: search(*move), wide),
    }
    count = sum(len(states) for states, *_ in moves)
    yield record("walk", f"one token on, {at}", interleaved(variants, rounds=rounds), per=count, wrong=wrong)

    def forced(node: Any) -> list[int]:
        chain = []
        while type(node) is dict and len(node) == 1:
            ((token, node),) = node.items()
            chain.append(token)
        return chain

    chains = {
        OURS: in_turn(lambda move: trie.forced(move[0]), moves),
        "dict trie": in_turn(lambda move: [forced(node) for node in move[3]], moves),
    }
    ours = [trie.forced(states) for states, *_ in moves]
    theirs = [[forced(node) for node in nodes] for *_, nodes in moves]
    wrong = [
        "forced"
        for (indptr, tokens, _), lists in zip(ours, theirs, strict=True)
        if [tokens[a:b].tolist() for a, b in itertools.pairwise(indptr.tolist())] != lists
    ]
    yield record("walk", f"forced chains, {at}", interleaved(chains, rounds=rounds), per=count, wrong=wrong)
