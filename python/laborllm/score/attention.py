"""Attention over rows that each see their own path: one function for every model that transformers lets us hook.

transformers gives a registered function the queries, keys and values after rotary embedding, the model's own scaling,
and the layer's window, soft cap and sinks where it has them. It builds no mask for a name that it does not know, and
passes keyword arguments of `forward` through to us: that is how the pass gets here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface

from laborllm.score import flex
from laborllm.score.device import upload
from laborllm.score.layout import Chunk, Rows, chunks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "laborllm_paths"
WIDTH = 128
"""Rows of a chunk."""
MOST_KEYS = 2**15
"""Keys that are put together for one group of chunks."""
MOST_SCORES = 2**22
"""Pairs of rows and keys in one group of chunks."""

Backend = Literal["sdpa", "eager", "flex"]
Kept = dict[int, tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, (K, heads, head size)."""


@dataclass(frozen=True)
class Group:
    """Chunks that are computed together, filled up to one shape.

    Attributes:
        rows: int64 (C, W), rows of the pass; a chunk's last row is repeated.
        keys: int64 (C, K), numbered through from the first kept row.
        visible: bool (C, W, K), False where a chunk is filled up.
        row_positions, key_positions: int64 (C, W) and (C, K), places in the text.
    """

    rows: torch.Tensor
    keys: torch.Tensor
    visible: torch.Tensor
    row_positions: torch.Tensor
    key_positions: torch.Tensor
    _masks: dict[int, torch.Tensor] = field(default_factory=dict)

    def mask(self, window: int | None) -> torch.Tensor:
        """Which keys each row sees in a layer with this window, bool (C, 1, W, K)."""
        if window is None:
            return self.visible[:, None]
        if window not in self._masks:
            distance = self.row_positions[:, :, None] - self.key_positions[:, None, :]
            self._masks[window] = self.visible & (distance < window)
        return self._masks[window][:, None]


def best_backend(device: torch.device) -> Backend:
    """`flex` where its kernel is compiled, which is on CUDA; else `sdpa`."""
    return "flex" if device.type == "cuda" else "sdpa"


class Pass:
    """One forward pass: its rows, what was kept of earlier ones, and what shall be kept of this one.

    Args:
        rows: The rows.
        kept: Keys and values of K earlier rows, by layer.
        kept_positions: Their positions, int64 (K,).
        keep: Which rows' keys and values `added` takes, int64; None takes those of all.
        backend: `sdpa` and `eager` compute chunk by chunk, `flex` by one kernel, compiled on CUDA (rows must be
            `flex.filled`). `sdpa` falls back to `eager` in layers with soft cap or sinks; `flex` to `sdpa` where
            branches hang from stems, and in layers with sinks where torch gives no log-sum-exp.
        device: Of the model.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        kept: Kept,
        kept_positions: np.ndarray,
        keep: np.ndarray | None,
        backend: Backend,
        device: torch.device,
    ) -> None:
        self.rows, self.kept, self.backend = rows, kept, backend
        self.added: Kept = {}
        self._device = device
        self._kept_positions = kept_positions
        self._num_kept = len(kept_positions)
        self._keep = None if keep is None else upload(keep, device)
        self._flex: flex.Flex | None = None
        if backend == "flex" and not any(len(stem.rows) for stem in rows.stems):
            self._flex = flex.Flex(rows, kept_positions=kept_positions, device=device)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scaling: float,
        window: int | None,
        softcap: float | None,
        sinks: torch.Tensor | None,
    ) -> torch.Tensor:
        """Attention of every row over its path; (R, H, D), (R, G, D), (R, G, D) -> (R, H, D)."""
        if self._keep is None or len(self._keep):
            which = slice(None) if self._keep is None else self._keep
            self.added[layer] = key[which], value[which]
        if self._flex is not None and (sinks is None or flex.LSE):
            options: dict[str, Any] = {"scaling": scaling, "window": window, "softcap": softcap, "sinks": sinks}
            return self._flex.attend(query, key, value, kept=self.kept.get(layer), **options)
        if layer in self.kept:
            key, value = (torch.cat(pair) for pair in zip(self.kept[layer], (key, value), strict=True))
        exact = self.backend == "eager" or softcap is not None or sinks is not None
        output = query.new_empty(query.shape[:2] + value.shape[2:])
        for group in self._groups:
            mask = group.mask(window)
            q, k, v = (x[index].transpose(1, 2) for x, index in zip((query, key, value), _indices(group), strict=True))
            if exact:
                chunk = softmax_attention(q, k, v, mask, scaling=scaling, softcap=softcap, sinks=sinks)
            else:
                chunk = scaled_dot_product_attention(
                    q, k, v, attn_mask=mask, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
                )
            output[group.rows] = chunk.transpose(1, 2)
        return output

    @cached_property
    def _groups(self) -> list[Group]:
        return list(self._grouped())

    @cached_property
    def _positions(self) -> torch.Tensor:  # (K + R,)
        return upload(np.concatenate([self._kept_positions, self.rows.positions]), self._device)

    @cached_property
    def _limits(self) -> torch.Tensor:  # (R,)
        return upload(np.repeat(self.rows.stops, np.diff(self.rows.starts)), self._device)

    def _grouped(self) -> Iterator[Group]:
        """Chunks of like size together, so that little is filled up."""
        cut = chunks(self.rows, kept=self._num_kept, width=WIDTH)
        plan = sorted(cut, key=lambda chunk: (len(chunk.keys), chunk.stop - chunk.start))
        group: list[Chunk] = []
        rows = 0
        for chunk in plan:
            rows = max(rows, chunk.stop - chunk.start)
            keys = (len(group) + 1) * len(chunk.keys)
            if group and (keys > MOST_KEYS or keys * rows > MOST_SCORES):
                yield self._group(group)
                group, rows = [], chunk.stop - chunk.start
            group.append(chunk)
        if group:
            yield self._group(group)

    def _group(self, group: list[Chunk]) -> Group:
        width = max(chunk.stop - chunk.start for chunk in group)
        rows = np.stack([np.minimum(np.arange(c.start, c.start + width), c.stop - 1) for c in group])
        at = upload(rows, self._device)
        keys, since, until = (  # filled up by keys that no row sees
            pad_sequence([torch.from_numpy(x) for x in arrays], batch_first=True).to(self._device)[:, None, :]
            for arrays in zip(*((chunk.keys, chunk.since, chunk.until) for chunk in group), strict=True)
        )
        number = (at + self._num_kept)[:, :, None]  # (C, W, 1)
        below = (since <= number) & (number < until)
        visible = torch.where(until < 0, keys < self._limits[at][:, :, None], below)
        positions = self._positions[number[:, :, 0]], self._positions[keys[:, 0]]
        return Group(at, keys[:, 0], visible, *positions)


def _indices(group: Group) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return group.rows, group.keys, group.keys


def softmax_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    *,
    scaling: float,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention written out; (C, H, W, D), (C, G, K, D), (C, G, K, D), (C, 1, W, K) -> (C, H, W, D).

    A soft cap bounds scores by `cap * tanh(score / cap)` (Gemma 2); a sink is one more score per head, (H,), that
    takes probability and gives nothing (gpt-oss). Scores and softmax are float32 at least.
    """
    repeats = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
    scores = query @ key.transpose(-1, -2) * scaling
    scores = scores if scores.dtype == torch.float64 else scores.float()
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~mask, -torch.inf)
    if sinks is not None:
        extra = sinks.to(scores.dtype)[None, :, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, extra], dim=-1)
    weights = torch.softmax(scores, dim=-1)[..., : key.shape[2]]
    return weights.to(value.dtype) @ value


def _hook(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    paths: Pass,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in every layer; query (1, H, R, D) -> (1, R, H, D).

    Raises:
        ValueError: The layer hides keys by a rule that does not reach us: a mask that it makes itself, or a window.
    """
    layer: Any = module.layer_idx
    if attention_mask is not None or (sliding_window is None and _slides(module.config, layer)):
        raise ValueError(f"layer {layer} hides keys by a mask or a window that is not passed to attention functions")
    output = paths.attend(
        layer,
        *(x[0].transpose(0, 1) for x in (query, key, value)),
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=sliding_window,
        softcap=softcap,
        sinks=s_aux,
    )
    return output[None], None


def _slides(config: Any, layer: int) -> bool:
    """Whether the configuration gives a layer a window; a text shorter than the window would not show it."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return bool(kinds[layer] == "sliding_attention")
    return getattr(config, "sliding_window", None) is not None


@contextmanager
def attending(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Let the model attend by the function of that name, `NAME` for the hook, and as before afterwards."""
    _register()
    config: Any = model.config
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


@cache
def _register() -> None:
    AttentionInterface.register(NAME, _hook)
