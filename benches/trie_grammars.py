"""Engines made for grammars, given a list of titles: llguidance, xgrammar, outlines-core.

    pip install llguidance xgrammar outlines-core
    python benches/trie_grammars.py ENGINE FAMILY SET [--rounds 9]

They take text, not ids: each title with the space before it and the newline behind it, as an alternation. They allow
every way to spell a title in tokens, so the trie's tokens must be among theirs. `main` builds a set under one engine in
a process of its own, for the caller to end when it has waited enough, and prints one line of JSON after each stage. The
tokenizer is read before the clock starts; a build ends with the first mask, since llguidance works when it is asked.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

ENDS = {"llama-2": "</s>", "llama-3": "<|end_of_text|>"}
Fill = Callable[[], Any]
"""Writes the masks of a batch into its bitmask, by address where that is fastest, so it must hold the array too."""


class Engine(Protocol):
    """One engine with its tokenizer loaded."""

    package: str

    def __init__(self, path: Path, family: str) -> None: ...

    def compile(self, titles: Sequence[str]) -> None:
        """Build the constraint and write one mask at its start."""

    def fills(self, prefixes: Sequence[Sequence[int]], bitmask: np.ndarray) -> dict[str, Fill]:
        """The ways to write masks for sequences that have said these prefixes; matchers are made before the clock."""


@cache
def _hugging_face(path: Path, family: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=str(path), eos_token=ENDS[family])


def _expression(titles: Sequence[str]) -> str:
    return "(" + "|".join(re.escape(f" {title}\n") for title in titles) + ")"


def bitmask_for(size: int, vocabulary: int) -> np.ndarray:
    """Zeros in the layout that all share: int32, a bit per token."""
    return np.zeros((size, -(-vocabulary // 32)), np.int32)


class LLGuidance:
    """A regular expression, with the limits lifted that refuse large sets; masks one by one or by its thread pool."""

    package = "llguidance"

    def __init__(self, path: Path, family: str) -> None:
        from llguidance.hf import from_tokenizer

        self.tokenizer = from_tokenizer(_hugging_face(path, family))

    def compile(self, titles: Sequence[str]) -> None:
        """Derivatives are taken as masks ask for them."""
        from llguidance import LLMatcher, LLParserLimits

        most = 2**31
        limits = LLParserLimits(
            max_items_in_row=most,
            initial_lexer_fuel=most,
            step_lexer_fuel=most,
            step_max_items=most,
            max_lexer_states=most,
            max_grammar_size=most,
        )
        self.matcher = LLMatcher(self.tokenizer, LLMatcher.grammar_from_regex(_expression(titles)), limits=limits)
        _fill_one(self.matcher, bitmask_for(1, self.tokenizer.vocab_size))
        if self.matcher.is_error():
            raise RuntimeError(self.matcher.get_error())

    def fills(self, prefixes: Sequence[Sequence[int]], bitmask: np.ndarray) -> dict[str, Fill]:
        """A loop over sequences, and `LLExecutor`."""
        from llguidance import LLExecutor
        from llguidance.numpy import fill_next_token_bitmask_par

        matchers = [self.matcher.deep_copy() for _ in prefixes]
        for matcher, prefix in zip(matchers, prefixes, strict=True):
            if prefix and not matcher.consume_tokens(list(prefix)):
                raise RuntimeError(f"llguidance refuses the canonical tokens {prefix}")
        pairs = [(matcher, row) for row, matcher in enumerate(matchers)]
        places = [(m.unsafe_compute_mask_ptr, bitmask[row].ctypes.data) for m, row in pairs]
        size, executor = bitmask.shape[1] * 4, LLExecutor()

        def loop(_written: np.ndarray = bitmask) -> None:
            for fill, place in places:
                fill(place, size)

        return {"loop": loop, "executor": lambda: fill_next_token_bitmask_par(executor, pairs, bitmask)}


def _fill_one(matcher: Any, bitmask: np.ndarray) -> None:
    matcher.unsafe_compute_mask_ptr(bitmask.ctypes.data, bitmask.nbytes)


class XGrammar:
    """An EBNF alternation; masks by `BatchGrammarMatcher`, on one thread and on as many as it likes."""

    package = "xgrammar"

    def __init__(self, path: Path, family: str) -> None:
        from xgrammar import TokenizerInfo

        tokenizer = _hugging_face(path, family)
        size = len(tokenizer)
        self.tokenizer = TokenizerInfo.from_huggingface(
            tokenizer, vocab_size=size, stop_token_ids=[tokenizer.eos_token_id]
        )

    def compile(self, titles: Sequence[str]) -> None:
        """Two threads, no cache."""
        from xgrammar import GrammarCompiler, GrammarMatcher

        quoted = " | ".join(json.dumps(f" {title}\n", ensure_ascii=False) for title in titles)
        compiler = GrammarCompiler(self.tokenizer, max_threads=2, cache_enabled=False)
        self.compiled = compiler.compile_grammar(f"root ::= {quoted}")
        matcher = GrammarMatcher(self.compiled)
        matcher.fill_next_token_bitmask(bitmask_for(1, self.tokenizer.vocab_size))

    def fills(self, prefixes: Sequence[Sequence[int]], bitmask: np.ndarray) -> dict[str, Fill]:
        """Batches."""
        from xgrammar import BatchGrammarMatcher, GrammarMatcher

        matchers = [GrammarMatcher(self.compiled) for _ in prefixes]
        for matcher, prefix in zip(matchers, prefixes, strict=True):
            for token in prefix:
                if not matcher.accept_token(token):
                    raise RuntimeError(f"xgrammar refuses the canonical tokens {prefix}")
        one, many = BatchGrammarMatcher(max_threads=1), BatchGrammarMatcher()
        return {
            "batch, 1 thread": lambda: one.batch_fill_next_token_bitmask(matchers, bitmask),
            "batch": lambda: many.batch_fill_next_token_bitmask(matchers, bitmask),
        }


class OutlinesCore:
    """A regular expression made into an automaton over the vocabulary; masks one by one."""

    package = "outlines-core"

    def __init__(self, path: Path, family: str) -> None:
        from outlines_core import Vocabulary

        tokenizer = _hugging_face(path, family)
        self.size = len(tokenizer)
        entries: dict[bytes, list[int]] = {}
        special = set(tokenizer.all_special_ids)
        for token, index in tokenizer.get_vocab().items():
            if index not in special and (piece := _bytes_of(token, family)):
                entries.setdefault(piece, []).append(index)
        self.vocabulary = Vocabulary(tokenizer.eos_token_id, entries)

    def compile(self, titles: Sequence[str]) -> None:
        """Everything ahead of the first step."""
        from outlines_core import Guide, Index

        self.index = Index(_expression(titles), self.vocabulary)
        bitmask = bitmask_for(1, self.size)
        Guide(self.index).write_mask_into(bitmask.ctypes.data, bitmask.size, 4)

    def fills(self, prefixes: Sequence[Sequence[int]], bitmask: np.ndarray) -> dict[str, Fill]:
        """A loop over sequences."""
        from outlines_core import Guide

        guides = [Guide(self.index) for _ in prefixes]
        for guide, prefix in zip(guides, prefixes, strict=True):
            for token in prefix:
                guide.advance(token, return_tokens=False)
        places = [(guide.write_mask_into, bitmask[row].ctypes.data) for row, guide in enumerate(guides)]
        size = bitmask.shape[1]

        def loop(_written: np.ndarray = bitmask) -> None:
            for fill, place in places:
                fill(place, size, 4)

        return {"loop": loop}


def _bytes_of(token: str, family: str) -> bytes:
    """The text that a token stands for."""
    from token_peers import _byte_alphabet

    if family == "llama-2":
        byte = re.fullmatch(r"<0x([0-9A-F]{2})>", token)
        return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()
    code = {character: byte for byte, character in enumerate(_byte_alphabet())}
    return bytes(code[character] for character in token)


ENGINES: dict[str, type[Engine]] = {"llguidance": LLGuidance, "xgrammar": XGrammar, "outlines-core": OutlinesCore}


def bits(bitmask: np.ndarray, vocabulary: int) -> np.ndarray:
    """The tokens that each row allows, bool, shape (B, V)."""
    return np.unpackbits(bitmask.view(np.uint8), axis=1, bitorder="little")[:, :vocabulary].astype(bool)


def main() -> None:
    """Build, then step at B = 1 and 64 beside the trie, a line of JSON after each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("family", choices=ENDS)
    parser.add_argument("set")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    from measured import interleaved
    from trie_sets import title_set, tokenizer_path
    from trie_uses import grammar_steps

    from laborllm.trie import TitleTrie

    titles = title_set(options.set, options.family)
    began = time.perf_counter()
    engine = ENGINES[options.engine](tokenizer_path(options.family), options.family)
    setup = time.perf_counter() - began
    began = time.perf_counter()
    engine.compile(titles.titles)
    build = time.perf_counter() - began
    ours = statistics.median(interleaved({"": lambda: TitleTrie(titles.arrow)}, rounds=options.rounds)[""])
    print(json.dumps({"tokenizer_s": setup, "build_s": build, "build_over_laborllm": build / ours}), flush=True)
    for size in (1, 64):
        print(json.dumps(grammar_steps(engine, titles, size=size, rounds=options.rounds)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
