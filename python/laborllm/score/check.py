"""Is the law that a fast method gives the law of the model? Asked once, when a scorer is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from laborllm.score.attention import attending
from laborllm.score.found import Method
from laborllm.tokens import TitleUnits, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = 1e-3
"""Nats, in float32 or float64. What a wrong mask or position costs is 0.2 to 11 (measured on random models)."""
ROUNDED = 0.5
"""Nats, where a model in half precision is too large to be checked in float32."""
PATHS = {"full_attention", "sliding_attention"}
"""Kinds of layers that see a path of rows; others (linear attention, state space, chunks) cannot branch."""


def branching(model: PreTrainedModel) -> str | None:
    """Why the model cannot run branches, by its configuration; None where nothing speaks against it."""
    kinds = set(getattr(model.config, "layer_types", None) or [])
    if foreign := sorted(kinds - PATHS):
        return f"layers of the kind {', '.join(foreign)} cannot branch"
    return None


def gap(model: PreTrainedModel, fast: Method, naive: Method, units: TitleUnits, *, window: int | None) -> float:
    """The largest difference between two methods on a toy career, in nats.

    The career is a text made of a few units, with a prompt before each of them; further titles hang off each prompt.
    The naive method attends by the model's eager function, which is its definition; others may leave out a soft cap.
    """
    tokens = _toy_career(units, most=min(window or 128, 128) - units.longest)
    rows = np.arange(len(tokens.states))
    titles = [np.arange(min(4, len(units.ids)))] * len(rows)
    with attending(model, "eager"):
        expected = list(naive.observed(tokens, rows, titles))
    pairs = zip(fast.observed(tokens, rows, titles), expected, strict=True)
    return max(_distance(a.raw, b.raw) + _distance(a.raw_titles, b.raw_titles) for a, b in pairs)


def _distance(a: np.ndarray | None, b: np.ndarray | None) -> float:
    return 0.0 if a is None or b is None or not len(a) else float(np.abs(a - b).max())


def _toy_career(units: TitleUnits, *, most: int) -> Tokens:
    """One text: a unit as header, then units as rows, in at most `most` tokens but at least one row."""
    chosen = [units.ids[0], units.ids[-1]]
    for unit in units.ids[:8]:
        if sum(map(len, chosen)) + len(unit) <= most:
            chosen.append(unit)
    stops = np.cumsum([len(unit) for unit in chosen]).astype(np.int32)
    states = [units.ids.index(unit) for unit in chosen[1:]]
    return Tokens(
        ids=np.array([token for unit in chosen for token in unit], np.int32),
        offsets=np.array([0, stops[-1]], np.int64),
        rows=np.array([0, len(states)], np.int64),
        starts=stops[:-1],
        stops=stops[1:],
        states=np.array(states, np.int32),
    )


@contextmanager
def in_float32(model: PreTrainedModel) -> Iterator[float]:
    """Widen a model in half precision for a while; gives the tolerance that fits the precision that was reached.

    Where memory does not suffice it stays as it is. Widening and narrowing again changes no weight.
    """
    tensors: list[Any] = [*model.parameters(), *model.buffers()]
    narrow = [(x, x.dtype) for x in tensors if x.dtype in {torch.bfloat16, torch.float16}]
    tolerance = TOLERANCE
    try:
        for x, _ in narrow:
            x.data = x.data.float()
    except (torch.OutOfMemoryError, MemoryError):
        _narrow(narrow)
        tolerance = ROUNDED
    try:
        yield tolerance
    finally:
        _narrow(narrow)


def _narrow(tensors: list[tuple[Any, torch.dtype]]) -> None:
    for x, dtype in tensors:
        x.data = x.data.to(dtype)
