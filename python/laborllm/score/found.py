"""What scoring gives, whatever the method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from laborllm.tokens import Tokens


@dataclass(frozen=True)
class Found:
    """Log-probabilities at some rows of a token table, natural logs, float64.

    Attributes:
        rows: int64 (R,).
        raw, masked: (R,), of the title that happened.
        raw_titles, masked_titles: Of the titles asked for behind each row, row after row; or of all J titles, (R, J).
            None where not computed.
    """

    rows: np.ndarray
    raw: np.ndarray
    masked: np.ndarray
    raw_titles: np.ndarray | None = None
    masked_titles: np.ndarray | None = None


class Method(Protocol):
    """A way to compute the law over titles behind the prompts of encoded texts."""

    def observed(self, tokens: Tokens, rows: np.ndarray, titles: Sequence[np.ndarray] | None = None) -> Iterator[Found]:
        """Score what happened at some rows, and for each row further titles.

        Args:
            tokens: The texts.
            rows: Rows of them, ascending, int64 (R,).
            titles: For each row the indices of further titles.
        """

    def whole(self, tokens: Tokens, rows: np.ndarray, *, law: Literal["raw", "masked"]) -> Iterator[Found]:
        """Score all titles at some rows; `masked` may leave out the raw law of all titles, where that is cheaper."""
