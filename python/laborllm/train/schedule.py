"""The learning rate over a run whose length is known when it begins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """A linear rise over the first steps and a decay to zero at the last one.

    Both are computed from the planned total: a run of five epochs that is stopped after three is not a run of three.

    Attributes:
        total: Optimiser steps of the whole run.
        warmup: Share of them in which the rate rises.
        kind: `linear` or `cosine` decay.
    """

    total: int
    warmup: float = 0.05
    kind: Literal["linear", "cosine"] = "cosine"

    def factor(self, step: int) -> float:
        """Share of the full learning rate at optimiser step `step`, counted from 0."""
        rise = max(1, round(self.warmup * self.total))
        if step < rise:
            return (step + 1) / rise
        done = (step - rise) / max(1, self.total - rise)
        return 0.5 * (1 + math.cos(math.pi * done)) if self.kind == "cosine" else 1 - done
