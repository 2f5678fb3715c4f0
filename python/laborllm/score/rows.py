"""What scoring found, brought to the rows of a panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from laborllm.panel import Panel
from laborllm.prediction_titles import Top
from laborllm.score.found import Found

if TYPE_CHECKING:
    from laborllm.score.scorer import Law


class PanelRows:
    """What is known of each panel row, filled batch by batch; float64, NaN where not computed.

    Args:
        panel: The panel.
        num_kept: J where the whole law is kept, else 0.
        others: Titles wanted in every row beside the one that happened and the previous one.
        num_top: How many of the best titles of each row are kept.
    """

    def __init__(self, panel: Panel, num_kept: int, others: Sequence[int], num_top: int) -> None:
        self.raw, self.masked, self.log_mass = np.full((3, panel.num_rows), np.nan)
        self.law = np.empty((panel.num_rows if num_kept else 0, num_kept), np.float32)
        self.top = Top.of_rows(panel.num_rows, num_top)
        self.states = panel.states()
        self.wanted = np.empty((panel.num_rows, 1 + len(others)), np.int64)  # the previous title, then the others
        self.wanted[:, 1:] = others
        self.wanted[1:, 0] = self.states[:-1]
        self.wanted[panel.starts[:-1], 0] = -1
        self.raw_wanted, self.masked_wanted = np.full((2, *self.wanted.shape), np.nan)

    def asked(self, row: int) -> np.ndarray:
        """Titles to score beside the one that happened, ascending: those wanted that are others."""
        wanted = np.unique(self.wanted[row])
        others: np.ndarray = wanted[(wanted >= 0) & (wanted != self.states[row])]
        return others

    def fill(self, at: np.ndarray, found: Found, *, law: Law, titles: Literal["observed", "all"]) -> None:
        """Take over one batch, about the panel rows `at`."""
        self.raw[at], self.masked[at] = found.raw, found.masked
        read = self._asked if titles == "observed" else self._read_off
        self.raw_wanted[at] = read(at, found.raw, found.raw_titles)
        self.masked_wanted[at] = read(at, found.masked, found.masked_titles)
        if titles == "observed":
            return
        if found.raw_titles is not None:
            self.log_mass[at] = np.logaddexp.reduce(found.raw_titles, axis=1)
        whole = found.masked_titles if law == "masked" else found.raw_titles
        log_mass = 0.0 if law == "masked" else self.log_mass[at]
        if self.top.titles.size and whole is not None:
            self.top.put(at, Top.of_law(whole, log_mass, count=self.top.titles.shape[1]))
        if self.law.shape[1]:
            self.law[at] = whole - np.reshape(log_mass, (-1, 1)) if law == "normalized" else whole

    def under(self, law: Law) -> tuple[np.ndarray, np.ndarray]:
        """Log P of what happened, (rows,), and of the previous title and the others, (rows, 1 + others)."""
        if law == "masked":
            return self.masked, self.masked_wanted
        shift = self.log_mass if law == "normalized" else np.zeros(len(self.log_mass))
        return self.raw - shift, self.raw_wanted - shift[:, None]

    def _asked(self, at: np.ndarray, happened: np.ndarray, asked: np.ndarray | None) -> np.ndarray:
        """What is wanted in the rows `at`, from what happened and what was asked for row after row."""
        titles = [self.asked(row) for row in at.tolist()]
        row = np.repeat(np.arange(len(at)), [len(some) for some in titles])
        flat = np.concatenate(titles)
        found = np.where(self.wanted[at] == self.states[at, None], happened[:, None], np.nan)
        for column, wanted in enumerate(self.wanted[at].T):
            here = np.flatnonzero(flat == wanted[row])
            found[row[here], column] = np.zeros(0) if asked is None else asked[here]
        return found

    def _read_off(self, at: np.ndarray, happened: np.ndarray, law: np.ndarray | None) -> np.ndarray:  # noqa: ARG002
        """What is wanted in the rows `at`, from the whole law."""
        wanted = self.wanted[at]
        if law is None:
            return np.full(wanted.shape, np.nan)
        return np.where(wanted >= 0, np.take_along_axis(law, np.maximum(wanted, 0), axis=1), np.nan)
