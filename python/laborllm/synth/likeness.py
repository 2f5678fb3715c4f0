"""Which titles are alike in their words: inverse document frequencies of words and of parts of words.

The sums are over small integers, so that they are exact: every machine finds the same neighbours.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

COLUMNS = 2048
"""Beyond so many features that titles share, several fall into one column, each with a sign of its own (K. Weinberger
et al., Feature hashing for large scale multitask learning, ICML 2009)."""
PART = 4
"""Letters of a part of a word: "engineer" and "engineering" share most of theirs."""
WORD_WEIGHT = 2
"""What a whole word counts, in parts."""
_BLOCK = 128
_SCALE = 1 << 20


def nearest(titles: Sequence[str], count: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The titles most alike to each of J titles, and how alike they are.

    Args:
        titles: The J titles.
        count: How many, M < J; of those equally alike the first in order.

    Returns:
        Indices, ascending in each row, int32 (J, M), and cosines of the weighted words, in steps of 2**-20, (J, M).
        Memory J * (2048 + M) numbers; time grows as J * J.
    """
    vectors, lengths = features(titles)
    size = len(titles)
    near, cosines = np.empty((size, count), np.int32), np.empty((size, count))
    for start in range(0, size, _BLOCK):
        rows = np.arange(start, min(size, start + _BLOCK))
        products = (vectors[rows] @ vectors.T).astype(np.float64)
        alike = np.rint(_SCALE * products / (lengths[rows, None] * lengths)).astype(np.int64)
        ranked = alike * size - np.arange(size)  # no two are equal
        ranked[np.arange(len(rows)), rows] = np.iinfo(np.int64).min
        best = np.sort(np.argpartition(ranked, size - count, axis=1)[:, size - count :], axis=1)
        near[rows], cosines[rows] = best, np.take_along_axis(alike, best, axis=1) / _SCALE
    return near, cosines


def features(titles: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Words and parts of words of each title, weighted by how rare they are.

    The weight is log2(J / titles that have it) rounded, at least 1, twice that for a whole word.

    Returns:
        Weights of what several titles share, whole numbers, shape (J, C) with C at most 2048; and the length of each
        title's vector with what it alone has, (J,).
    """
    counted = [Counter(_parts(title)) for title in titles]
    holders = Counter(part for title in counted for part in title)
    shared = sorted(part for part, count in holders.items() if count > 1)
    column = {part: place % COLUMNS for place, part in enumerate(shared)}
    vectors = np.zeros((len(titles), max(1, min(len(shared), COLUMNS))), np.float32)
    lengths = np.ones(len(titles))  # a title may hold no word
    for row, parts in enumerate(counted):
        for part, times in parts.items():
            rarity = max(1, round(float(np.log2(len(titles) / holders[part]))))
            weight = times * rarity * (WORD_WEIGHT if part[0] == " " else 1)
            lengths[row] += weight**2
            if part in column:
                vectors[row, column[part]] += weight if zlib.crc32(part.encode()) & 1 else -weight
    return vectors, np.sqrt(lengths)


def _parts(title: str) -> Iterator[str]:
    """Words, with a space in front, and all runs of four letters of each."""
    for word in re.findall(r"\w+", title.casefold()):
        yield f" {word}"
        padded = f"<{word}>"
        yield from (padded[start : start + PART] for start in range(len(padded) - PART + 1))
