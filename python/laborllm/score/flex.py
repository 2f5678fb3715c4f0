"""Attention of all rows of a pass by one kernel, over the blocks of keys that some row of a block sees.

Two kinds of keys: trunk rows that were kept, of which a row sees a range; and rows of the same pass, of which key k is
seen by the rows `k..end[k]`. Both are intervals, so that the lists of blocks are counted from where intervals begin
and end, and no matrix over rows and keys is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from laborllm.score.device import upload
from laborllm.score.layout import NO_STEM, Rows

try:
    from torch.nn.attention.flex_attention import AuxRequest
except ImportError:  # torch before 2.9
    LSE: dict[str, Any] | None = None
else:
    LSE = {"return_aux": AuxRequest(lse=True)}
"""How the log-sum-exp of the scores is asked for, which sinks need."""

BLOCK = 128
"""Rows and keys of a block: the kernel's default."""
MOST_KERNELS = 64
"""Kernels that torch may compile; its own limit is 8, and a model has up to two for each kind of layer and type."""


def filled(rows: Rows) -> Rows:
    """Rows filled up to whole blocks, at least two, by one branch of rows; each of them sees itself alone.

    (A size of one would be compiled into a kernel of its own.)
    """
    count = len(rows)
    extra = max(2 * BLOCK, -(-count // BLOCK) * BLOCK) - count
    if not extra:
        return rows
    zeros = np.zeros(extra, np.int64)
    return Rows(
        ids=np.append(rows.ids, zeros),
        positions=np.append(rows.positions, zeros),
        ends=np.append(rows.ends, np.arange(count, count + extra) + 1),
        starts=np.append(rows.starts, count + extra),
        texts=np.append(rows.texts, -1),
        begins=np.append(rows.begins, 0),
        stops=np.append(rows.stops, 0),
        stems=[*rows.stems, NO_STEM],
    )


@dataclass(frozen=True)
class Paths:
    """Which keys each row sees, and how rows and keys are numbered: K kept keys, filled up to blocks, then the R rows.

    Attributes:
        kept: Where the kept keys lie among all rows that were kept.
        begin, stop: int32 (R,), row q sees the kept keys `begin[q] <= k < stop[q]`.
        number: int32 (R,), the row's own key.
        end: int32 (K + R,), row q sees the row k if `k <= number[q] < end[k]`; 0 for kept keys.
        row_positions, key_positions: int32 (R,) and (K + R,), places in the text.
    """

    kept: slice
    begin: np.ndarray
    stop: np.ndarray
    number: np.ndarray
    end: np.ndarray
    row_positions: np.ndarray
    key_positions: np.ndarray

    @classmethod
    def of(cls, rows: Rows, kept_positions: np.ndarray) -> Paths:
        """The paths of rows that fill whole blocks and hang from no stem."""
        seen = rows.stops > rows.begins
        low = int(rows.begins[seen].min()) if seen.any() else 0
        high = int(rows.stops[seen].max()) if seen.any() else 0
        count = -(-(high - low) // BLOCK) * BLOCK
        sizes = np.diff(rows.starts)
        before = np.zeros(count, np.int64)
        before[: high - low] = kept_positions[low:high]
        arrays = (
            np.repeat(np.where(seen, rows.begins - low, 0), sizes),
            np.repeat(np.where(seen, rows.stops - low, 0), sizes),
            np.arange(count, count + len(rows)),
            np.concatenate([np.zeros(count, np.int64), rows.ends + count]),
            rows.positions,
            np.concatenate([before, rows.positions]),
        )
        return cls(slice(low, high), *(array.astype(np.int32) for array in arrays))

    def blocks(self, window: int | None) -> tuple[np.ndarray, np.ndarray]:
        """For each block of rows, the blocks of keys that some of its rows see, and those that all see wholly.

        With a window that is shorter than a branch is deep, the first may hold blocks that no row sees, and the second
        may lack some; else both are exact.

        Returns:
            Two bool arrays, (R / 128, (K + R) / 128).
        """
        first, count = self.begin.astype(np.int64), len(self.end) - len(self.begin)
        own = np.arange(len(self.begin))
        least = most = self.end[count:].astype(np.int64) - count  # the row is seen by the rows own..least, own..most
        if window is not None:
            if count:
                behind = self.row_positions - window + 1 - self.key_positions[self.begin]
                first = np.minimum(first + np.maximum(behind, 0), self.stop)
            # Positions grow by at most one from row to row; where they grow by one, rows beyond the window follow.
            chain = self.row_positions[most - 1] - self.row_positions == most - 1 - own
            least = np.minimum(most, own + window)
            most = np.where(chain, least, most)
        rows, keys = len(own) // BLOCK, count // BLOCK
        some = np.hstack([_touched(first, self.stop, keys), _touched(own, most, rows).T]) > 0
        whole = np.hstack([_held(first, self.stop, keys), _held(own, least, rows).T]) == BLOCK
        return some, whole


def _touched(begin: np.ndarray, end: np.ndarray, blocks: int) -> np.ndarray:
    """How many of 128 consecutive intervals meet each block, (intervals / 128, blocks)."""
    return _counted(begin // BLOCK, np.where(end > begin, -(-end // BLOCK), 0), blocks)


def _held(begin: np.ndarray, end: np.ndarray, blocks: int) -> np.ndarray:
    """How many of 128 consecutive intervals hold each block wholly, (intervals / 128, blocks)."""
    return _counted(-(-begin // BLOCK), end // BLOCK, blocks)


def _counted(first: np.ndarray, last: np.ndarray, blocks: int) -> np.ndarray:
    """How many of 128 consecutive intervals `first..last` have each number below `blocks`."""
    groups = len(first) // BLOCK
    row = np.arange(len(first)) // BLOCK * (blocks + 1)
    some = first < last
    begun, ended = (np.bincount((row + x)[some], minlength=groups * (blocks + 1)) for x in (first, last))
    counts: np.ndarray = (begun - ended).reshape(groups, blocks + 1).cumsum(axis=1)[:, :-1]
    return counts


class Flex:
    """Attention of one pass.

    Args:
        rows: Its rows, as `filled` gives them, without stems.
        kept_positions: The positions of all rows that were kept, int64.
        device: Of the model.
    """

    def __init__(self, rows: Rows, *, kept_positions: np.ndarray, device: torch.device) -> None:
        self.paths = Paths.of(rows, kept_positions)
        self._device = device
        self._masks: dict[int | None, BlockMask] = {}

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        kept: tuple[torch.Tensor, torch.Tensor] | None,
        scaling: float,
        window: int | None,
        softcap: float | None,
        sinks: torch.Tensor | None,
    ) -> torch.Tensor:
        """Attention of every row over its path; (R, H, D), (R, G, D), (R, G, D) -> (R, H, D)."""
        if kept is not None:
            key, value = self._behind(kept[0], key), self._behind(kept[1], value)
        repeats = query.shape[1] // key.shape[1]
        if shared := repeats & (repeats - 1):  # the kernel shares keys among a power of two of heads
            key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
        options: dict[str, Any] = {} if sinks is None else LSE or {}
        output = _kernel(query.device.type)(
            *(x.transpose(0, 1)[None] for x in (query, key, value)),
            score_mod=None if softcap is None else _capped(softcap),
            block_mask=self.mask(window),
            scale=scaling,
            enable_gqa=repeats > 1 and not shared,
            **options,
        )
        if sinks is not None:  # one more score that gives nothing
            output, aux = output
            share = torch.sigmoid(aux.lse - sinks.to(aux.lse.dtype)[:, None])  # (1, H, R)
            output = output * share[..., None].to(output.dtype)
        attended: torch.Tensor = output[0].transpose(0, 1)
        return attended

    def mask(self, window: int | None) -> BlockMask:
        """The blocks of keys of each block of rows, and the rule within them."""
        if window not in self._masks:
            self._masks[window] = self._mask(window)
        return self._masks[window]

    def _behind(self, kept: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """The kept keys (or values) that the pass needs, zeros up to a whole block, and its own."""
        count = len(self.paths.end) - len(own)
        if not count:
            return own
        some = kept[self.paths.kept]
        return torch.cat([some, own.new_zeros(count - len(some), *own.shape[1:]), own])

    def _mask(self, window: int | None) -> BlockMask:
        some, whole = self.paths.blocks(window)
        count, order, whole_count, whole_order = (
            upload(x, self._device) for dense in (some & ~whole, whole) for x in _ordered(dense)
        )
        return BlockMask.from_kv_blocks(
            count,
            order,
            whole_count,
            whole_order,
            BLOCK_SIZE=BLOCK,
            mask_mod=_sees(self._arrays(), window),
            seq_lengths=(len(self.paths.begin), len(self.paths.end)),
        )

    def _arrays(self) -> list[torch.Tensor]:
        paths = self.paths
        arrays = paths.begin, paths.stop, paths.number, paths.end, paths.row_positions, paths.key_positions
        return [upload(array, self._device) for array in arrays]


def _ordered(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many blocks of keys each block of rows has, (1, 1, Q), and the blocks, those first, (1, 1, Q, K); int32."""
    count = blocks.sum(axis=1, dtype=np.int32)
    order = np.argsort(~blocks, axis=1, kind="stable").astype(np.int32)
    return count[None, None], order[None, None]


def _sees(arrays: list[torch.Tensor], window: int | None) -> Any:
    """Does a row see a key? For flex attention, which calls it with batch, head, row and key."""
    begin, stop, number, end, row_position, key_position = arrays

    def path(_b: Any, _h: Any, q: Any, k: Any) -> Any:
        return ((begin[q] <= k) & (k < stop[q])) | ((k <= number[q]) & (number[q] < end[k]))

    if window is None:
        return path
    width = window

    def path_in_window(_b: Any, _h: Any, q: Any, k: Any) -> Any:
        return path(_b, _h, q, k) & (row_position[q] - key_position[k] < width)

    return path_in_window


@cache
def _capped(cap: float) -> Any:
    def capped(score: Any, _b: Any, _h: Any, _q: Any, _k: Any) -> Any:
        return torch.tanh(score / cap) * cap

    return capped


@cache
def _kernel(device: str) -> Any:
    """Flex attention, compiled on CUDA: the first passes compile it for their size, later ones for all sizes."""
    if device != "cuda":
        return flex_attention
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, MOST_KERNELS)
    return torch.compile(flex_attention, fullgraph=True)
