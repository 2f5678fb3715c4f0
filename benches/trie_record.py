"""A table of the trie's bench: medians, quartiles, ratios to laborllm, and the marks to reach."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

OURS = "laborllm"

Record = dict[str, Any]


class Mark(NamedTuple):
    """What a table is asked for: peers' least ratio at least `least`, or their ratio to ours at most `most` of theirs.

    Attributes:
        what: Words.
        peers: Beginnings of the names of variants; those that did not run do not count.
        passing, goal: Bounds.
        most: Whether laborllm's time over the peer's must stay below the bounds, rather than the inverse above.
    """

    what: str
    peers: tuple[str, ...]
    passing: float
    goal: float
    most: bool = False

    def judge(self, ratios: dict[str, float]) -> Record | None:
        """The ratio that counts, and whether it reaches the bounds."""
        counted = {name: ratio for name, ratio in ratios.items() if name.startswith(self.peers)}
        if not counted:
            return None
        peer = min(counted, key=lambda name: counted[name])
        ratio = 1 / counted[peer] if self.most else counted[peer]
        reached = [ratio <= bound if self.most else ratio >= bound for bound in (self.passing, self.goal)]
        return {**self._asdict(), "peer": peer, "ratio": ratio, "passes": reached[0], "reaches_goal": reached[1]}


def record(
    case: str,
    title: str,
    seconds: dict[str, list[float]],
    *,
    per: dict[str, int] | int = 1,
    marks: Iterable[Mark] = (),
    wrong: Sequence[str] = (),
    **facts: Any,
) -> Record:
    """Medians, quartiles and ratios of a table; `per` is the number of sequences in one call of each variant."""
    counts = dict.fromkeys(seconds, per) if isinstance(per, int) else per
    each = {name: [second / counts[name] for second in row] for name, row in seconds.items()}
    ratios = {
        name: statistics.median(mine / ours for mine, ours in zip(row, each[OURS], strict=False))
        for name, row in each.items()
    }
    rows = {
        name: {
            "seconds": statistics.median(row),
            "quartiles": [float(q) for q in np.quantile(row, [0.25, 0.75])],
            "over_laborllm": ratios[name],
            "rounds": len(row),
        }
        for name, row in each.items()
    }
    judged = [found for mark in marks if (found := mark.judge({n: r for n, r in ratios.items() if n != OURS}))]
    return {"case": case, "title": title, **facts, "rows": rows, "marks": judged, "wrong": list(wrong)}
