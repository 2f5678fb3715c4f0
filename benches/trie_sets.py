"""Title sets of the trie's bench as token ids, and the states in which decoding would stand.

Real sets come from ../shared/data. Synthetic ones of any size are put together from the words of O*NET's alternate
titles, "Senior Analyst, Aircraft Maintenance": their first words, last words and first two words, each as
often as there, so that prefixes are shared as in real lists. Titles are encoded as they stand behind a prompt and
with the newline that ends them. The ids of sets of 1e5 titles and more are kept beside the tokenizers.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

DATA = ROOT.parent / "shared" / "data"
REAL = {
    "occ1990dd": DATA / "occ1990dd" / "titles.csv",
    "census2010": DATA / "titles" / "census2010.csv",
    "ESCO": DATA / "titles" / "esco_occupations.csv",
    "O*NET reported": DATA / "titles" / "onet27_reported_titles.csv",
    "O*NET alternate": DATA / "titles" / "onet27_alternate_titles.csv",
}
PROMPT = "1990:"
SEED = 1990


def titles_of(name: str) -> list[str]:
    """A set's titles, each once when case is folded: a name in `REAL`, or a number for as many synthetic ones."""
    if not name.isdecimal():
        with REAL[name].open(encoding="utf-8", newline="") as file:
            return list({row["title"].casefold(): row["title"] for row in csv.DictReader(file)}.values())
    return _synthetic(int(name))


def _synthetic(size: int) -> list[str]:
    """So many different titles; a smaller set is the beginning of a larger one."""
    real = [title for title in titles_of("O*NET alternate") if "(" not in title]
    words = [title.replace(",", "").split() for title in real if title.count(" ") >= 2]
    pools = [
        Counter(" ".join(part) for part in parts)
        for parts in ((w[:1] for w in words), (w[-1:] for w in words), (w[:2] for w in words))
    ]
    draws = np.random.default_rng(SEED)
    found: dict[str, None] = {}
    while len(found) < size:
        chosen = [draws.choice(list(pool), 100_000, p=np.array([*pool.values()]) / pool.total()) for pool in pools]
        found.update(dict.fromkeys(f"{first} {noun}, {field}" for first, noun, field in zip(*chosen, strict=True)))
    return list(found)[:size]


@dataclass(frozen=True)
class TitleSet:
    """Titles under one tokenizer.

    Attributes:
        name, family: Which titles, which tokenizer.
        titles: The titles.
        flat: Token ids of all of them one after another, each with its terminator, uint32.
        offsets: Where each title begins and the last one ends, int64, shape (J + 1,).
        vocabulary: Entries of the tokenizer.
    """

    name: str
    family: str
    titles: list[str]
    flat: np.ndarray
    offsets: np.ndarray
    vocabulary: int

    @cached_property
    def lists(self) -> list[list[int]]:
        """The ids as Python lists."""
        flat, offsets = self.flat.tolist(), self.offsets.tolist()
        return [flat[start:stop] for start, stop in pairwise(offsets)]

    @cached_property
    def arrow(self) -> Any:
        """The ids as an Arrow list array over the same memory."""
        import pyarrow as pa

        return pa.ListArray.from_arrays(pa.array(self.offsets.astype(np.int32)), pa.array(self.flat))

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each title."""
        return np.diff(self.offsets)


@cache
def tokenizer_path(family: str) -> Path:
    """The tokenizer.json of a family at full size."""
    from tests.families import family_path

    return family_path(family, full=True)


@cache
def title_set(name: str, family: str) -> TitleSet:
    """The ids of a set's titles behind a prompt."""
    from tokenizers import Tokenizer

    path, titles = tokenizer_path(family), titles_of(name)
    tokenizer = Tokenizer.from_file(str(path))
    key = sha256("\n".join([path.name, PROMPT, *titles]).encode()).hexdigest()[:16]
    kept = path.parent / f"titles-{len(titles)}-{key}.npz"
    if kept.exists():
        ids = np.load(kept)
        flat, lengths = ids["flat"], ids["lengths"]
    else:
        flat, lengths = _encode(tokenizer, titles)
        if len(titles) >= 100_000:
            with NamedTemporaryFile(dir=path.parent, delete=False) as file:
                np.savez(file, flat=flat, lengths=lengths)
            Path(file.name).replace(kept)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return TitleSet(name, family, titles, flat, offsets, tokenizer.get_vocab_size())


def _encode(tokenizer: Any, titles: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the titles, each behind the prompt and with its newline, and how many each has."""
    prompt = tokenizer.encode(PROMPT, add_special_tokens=False).ids
    flat, lengths = [], []
    for start in range(0, len(titles), 50_000):
        texts = [f"{PROMPT} {title}\n" for title in titles[start : start + 50_000]]
        for text, encoding in zip(texts, tokenizer.encode_batch_fast(texts, add_special_tokens=False), strict=True):
            ids = encoding.ids
            if ids[: len(prompt)] != prompt:
                raise ValueError(f"the prompt's tokens change before {text!r}")
            flat.append(np.array(ids[len(prompt) :], np.uint32))
            lengths.append(len(flat[-1]))
    return np.concatenate(flat), np.array(lengths, np.int64)


class Drawn(NamedTuple):
    """States of one batch, and how they were reached.

    Attributes:
        states: Nodes of the trie, uint32, shape (B,).
        prefixes: The tokens that lead to each.
    """

    states: np.ndarray
    prefixes: list[list[int]]


def draw(titles: TitleSet, first: np.ndarray, leaf_of: np.ndarray, *, size: int, batches: int) -> list[Drawn]:
    """Batches as decoding draws them: one in ten at the root, the others inside of random titles at random depth.

    Args:
        titles: The set.
        first: First edge of each node in level order, shape (nodes + 1,).
        leaf_of: Node at which each title ends, shape (J,).
        size: Sequences in a batch.
        batches: How many; a caller goes round them, so that no batch is met in the same order of branches twice.
    """
    draws = np.random.default_rng(SEED)
    rows = draws.integers(len(titles.titles), size=size * batches)
    depths = draws.integers(1, titles.lengths[rows])
    depths[draws.random(len(rows)) < 0.1] = 0
    parent = np.concatenate([[0], np.repeat(np.arange(len(first) - 1), np.diff(first.astype(np.int64)))])
    states = leaf_of[rows].astype(np.int64)
    above = titles.lengths[rows] - depths
    for step in range(int(above.max())):
        states = np.where(above > step, parent[states], states)
    starts = titles.offsets[rows]
    prefixes = [titles.flat[a : a + d].tolist() for a, d in zip(starts.tolist(), depths.tolist(), strict=True)]
    return [
        Drawn(states[at : at + size].astype(np.uint32), prefixes[at : at + size])
        for at in range(0, size * batches, size)
    ]
