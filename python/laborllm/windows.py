"""Careers that are longer than a model's window.

A career that fits is one text, and every prompt in it is a prefix of that text. Of a career that does not fit, each
transition beyond the window becomes a text of its own: the header, the longest suffix of *its own* history that fits,
and the row. Which rows a transition shows depends on its history alone, so deleting later rows changes no probability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from laborllm.errors import TokenizerError
from laborllm.panel import Panel
from laborllm.tokens import Tokens

Encode = Callable[[np.ndarray, np.ndarray], Tokens]
"""Encodes the texts that show the panel rows `[first[i], stop[i])`."""


@dataclass(frozen=True)
class Windows:
    """Which panel rows each text shows, and from which on it answers for them.

    Attributes:
        first, stop: int64 (texts,), text i shows the rows `first[i] <= row < stop[i]` of one worker.
        fresh: int64 (texts,), of these it scores, or carries labels for, the rows `fresh[i] <= row < stop[i]`; every
            row of the panel is fresh in exactly one text.
        dropped: int64 (texts,), earlier rows of the worker that the text does not show.
    """

    first: np.ndarray
    stop: np.ndarray
    fresh: np.ndarray
    dropped: np.ndarray

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.first)


def whole_careers(panel: Panel) -> Windows:
    """One text per worker."""
    first, stop = panel.starts[:-1], panel.starts[1:]
    return Windows(first, stop, first, np.zeros_like(first))


def scoring_windows(
    panel: Panel, careers: Tokens, encode: Encode, *, limit: int | None, reserve: int
) -> tuple[Windows, Tokens]:
    """Split what exceeds the window for scoring.

    Args:
        panel: The checked panel.
        careers: Its whole careers, encoded, one text per worker.
        encode: Renders and encodes other windows.
        limit: Tokens the model can see; None is no limit.
        reserve: Tokens kept free behind each prompt: the longest unit, so that the window does not depend on the
            title that happened.

    Raises:
        TokenizerError: The window is too small for a header and one row; the message names the worker.
    """
    whole = whole_careers(panel)
    if limit is None or not len(careers) or (careers.starts + reserve).max() <= limit:
        return whole, careers
    fits = careers.starts.astype(np.int64) + reserve <= limit
    rows_that_fit = np.add.reduceat(fits.astype(np.int64), panel.starts[:-1])
    long = np.flatnonzero(rows_that_fit < np.diff(panel.starts))
    short = np.setdiff1d(np.arange(panel.num_workers), long)
    head = [(panel.starts[w], panel.starts[w] + rows_that_fit[w]) for w in long if rows_that_fit[w]]
    alone = np.concatenate([np.arange(panel.starts[w] + rows_that_fit[w], panel.starts[w + 1]) for w in long])
    history = _longest_histories(panel, careers, encode, alone, limit=limit - reserve)
    first = np.concatenate([whole.first[short], [a for a, _ in head], history]).astype(np.int64)
    stop = np.concatenate([whole.stop[short], [b for _, b in head], alone + 1]).astype(np.int64)
    fresh = np.concatenate([whole.first[short], [a for a, _ in head], alone]).astype(np.int64)
    begin = panel.starts[np.searchsorted(panel.starts, first, side="right") - 1]
    order = np.argsort(fresh, kind="stable")
    tokens = Tokens.concatenate([careers.take(short), encode(first[len(short) :], stop[len(short) :])])
    return Windows(first[order], stop[order], fresh[order], (first - begin)[order]), tokens.take(order)


def _longest_histories(panel: Panel, careers: Tokens, encode: Encode, targets: np.ndarray, *, limit: int) -> np.ndarray:
    """First row to show for each target row, so that the prompt has at most `limit` tokens and is the longest such.

    It begins with too many rows (as if the header took no tokens) and drops the oldest until the encoded prompt fits.
    """
    begin = panel.starts[np.searchsorted(panel.starts, targets, side="right") - 1]
    first = begin.copy()
    for index, target in enumerate(targets):
        ends = careers.stops[begin[index] : target]
        first[index] += np.searchsorted(ends, careers.starts[target] - limit, side="left")
    open_ = np.arange(len(targets))
    while len(open_):
        tokens = encode(first[open_], targets[open_] + 1)
        prompt = tokens.starts[tokens.rows[1:] - 1]
        open_ = open_[prompt > limit]
        if (first[open_] == targets[open_]).any():
            worker = panel.column("worker_id")[int(targets[open_[first[open_] == targets[open_]][0]])]
            raise TokenizerError(
                f"the header and one row of worker {worker} exceed the model's window; use a base with a longer window "
                "or a shorter template"
            )
        first[open_] += 1
    return first


def training_windows(panel: Panel, careers: Tokens, encode: Encode, *, limit: int | None) -> tuple[Windows, Tokens]:
    """Split what exceeds the window for training: overlapping texts that restate the header, each title a label once.

    A text after the first shows as history what fits in half of the window.
    """
    whole = whole_careers(panel)
    if limit is None or not len(careers) or careers.lengths.max() <= limit:
        return whole, careers
    parts: list[tuple[int, int, int]] = []
    for worker in range(panel.num_workers):
        begin, end = int(panel.starts[worker]), int(panel.starts[worker + 1])
        if careers.lengths[worker] <= limit:
            parts.append((begin, end, begin))
        else:
            end_marker = int(careers.lengths[worker] - careers.stops[end - 1])  # stands behind whole careers only
            header = int(careers.starts[begin])
            parts += _overlapping(careers.stops[begin:end], header, begin, limit=limit - end_marker)
    first, stop, fresh = (np.array(column, np.int64) for column in zip(*parts, strict=True))
    begin_of = panel.starts[np.searchsorted(panel.starts, first, side="right") - 1]
    tokens = encode(first, stop)
    if tokens.lengths.max() > limit:
        text = int(tokens.lengths.argmax())
        raise TokenizerError(
            f"rows {first[text]} to {stop[text]} take {tokens.lengths[text]} tokens and the model's window is {limit}; "
            "use a base with a longer window"
        )
    return Windows(first, stop, fresh, first - begin_of), tokens


def _overlapping(stops: np.ndarray, header: int, begin: int, *, limit: int) -> list[tuple[int, int, int]]:
    """(first, stop, fresh) of each text of one long career; `header` bounds the header's tokens from above."""
    parts: list[tuple[int, int, int]] = []
    fresh, rows = 0, len(stops)
    while fresh < rows:
        base = int(stops[fresh - 1]) if fresh else 0
        begins = np.append(header, stops[:-1])
        first = min(int(np.searchsorted(begins, base - limit // 2 + header)), fresh) if fresh else 0
        offset = int(stops[first - 1]) - header if first else 0
        stop = int(np.searchsorted(stops, limit + offset, side="right"))
        stop = max(stop, fresh + 1)
        parts.append((begin + first, begin + stop, begin + fresh))
        fresh = stop
    return parts
