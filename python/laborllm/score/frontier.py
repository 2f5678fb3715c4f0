"""Running trie nodes after prompts: the one place through which every amount of work goes.

A `Forest` holds the texts of one batch: their trunks are run once, and branches grow from any prompt in them, all at
once or little by little, without running a token twice.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from laborllm.errors import ModelError
from laborllm.score import flex
from laborllm.score.attention import NAME, Backend, Kept, Pass, attending, best_backend
from laborllm.score.descent import Descent
from laborllm.score.device import is_out_of_memory, upload
from laborllm.score.head import Head
from laborllm.score.layout import (
    NO_STEM,
    NOTHING,
    Branch,
    Place,
    Rows,
    Stem,
    branches,
    forks,
    inner_nodes,
    trunks,
)
from laborllm.trie import TitleTrie

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Result = TypeVar("Result")


@dataclass
class Work:
    """What was forwarded so far.

    Attributes:
        trunk: Rows of resumes.
        nodes: Rows of trie nodes behind them.
        passes: Forward passes.
    """

    trunk: int = 0
    nodes: int = 0
    passes: int = 0


class Frontier:
    """A model that runs trie nodes after prompts.

    Args:
        model: A causal language model in evaluation mode, whose attention can be hooked.
        trie: The titles.
        max_rows: Rows of one forward pass, unless a single text has more. Halved when memory runs out.
        backend: How attention is computed; None takes the fastest of the model's device.

    Attributes:
        work: What was forwarded so far.
        first, fan_out: The trie's first edges, and the number of edges of each node, int64.
        inner, forks: The nodes that the whole raw law, and the whole masked law, need.
    """

    def __init__(
        self, model: PreTrainedModel, trie: TitleTrie, *, max_rows: int, backend: Backend | None = None
    ) -> None:
        self.model = model
        self.trie = trie
        self.max_rows = max_rows
        self.backend = backend or best_backend(model.device)
        self.head = Head(model, trie)
        self.work = Work()
        self.first = trie.first.astype(np.int64)
        self.fan_out = np.diff(self.first)
        self.inner = Branch.of(trie, inner_nodes(trie))
        self.forks = Branch.of(trie, forks(trie))

    @cached_property
    def descent(self) -> Descent:
        """Where the trie's nodes lead."""
        return Descent(self.trie)

    def forward(
        self, rows: Rows, *, kept: Kept, kept_positions: np.ndarray, keep: np.ndarray | None
    ) -> tuple[torch.Tensor, Kept]:
        """Run one pass; gives the last hidden states, (R, h), and the keys and values to keep."""
        device = self.model.device
        run = flex.filled(rows) if self.backend == "flex" else rows
        if keep is None and len(run) > len(rows):
            keep = np.arange(len(rows))
        one = Pass(run, kept=kept, kept_positions=kept_positions, keep=keep, backend=self.backend, device=device)
        body: Any = self.model.base_model
        ids, positions = (upload(x, device)[None] for x in (run.ids, run.positions))
        with torch.inference_mode(), attending(self.model, NAME):
            output = body(input_ids=ids, position_ids=positions, attention_mask=None, use_cache=False, paths=one)
        self.work.passes += 1
        return output.last_hidden_state[0, : len(rows)], one.added

    def plant(self, texts: Sequence[np.ndarray], *, keep: bool) -> Forest:
        """Run the trunks of some texts in one pass, and keep their keys and values if branches shall grow."""
        rows = trunks(texts)
        hidden, kept = self.forward(rows, kept={}, kept_positions=NOTHING, keep=None if keep else NOTHING)
        self.work.trunk += len(rows)
        return Forest(self, rows, hidden, kept)

    def in_passes(self, sizes: np.ndarray, run: Callable[[np.ndarray], Result]) -> Iterator[Result]:
        """Call `run` with consecutive items whose sizes add up to at most `max_rows`, or with one."""
        begin = 0
        while begin < len(sizes):
            total = np.cumsum(sizes[begin:])
            stop = begin + max(1, int(np.searchsorted(total, self.max_rows, side="right")))
            result = self.attempt(partial(run, np.arange(begin, stop)), rows=int(total[stop - begin - 1]))
            if result is not None:
                yield result
                begin = stop

    def attempt(self, run: Callable[[], Result], *, rows: int) -> Result | None:
        """Call `run`; where the memory of the device runs out, halve the row budget and give None.

        Raises:
            ModelError: The budget was one row.
        """
        try:
            return run()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if self.max_rows == 1:
                raise ModelError(f"the device has no memory for {rows} rows of this model") from error
            self.max_rows = max(1, min(self.max_rows, rows) // 2)
        gc.collect()
        torch.cuda.empty_cache()
        return None


class Forest:
    """Texts whose trunks were run, and what has grown on them.

    Attributes:
        hidden: Last hidden states of the trunks' rows, (R, h).
        starts: int64 (texts + 1,), text i is the rows `starts[i]:starts[i + 1]`.
    """

    def __init__(self, frontier: Frontier, rows: Rows, hidden: torch.Tensor, kept: Kept) -> None:
        self.frontier = frontier
        self.hidden = hidden
        self.starts = rows.starts
        self._kept = kept
        self._positions = rows.positions

    def at(self, texts: np.ndarray, positions: np.ndarray) -> torch.Tensor:
        """Hidden states at some tokens of some texts, (P, h)."""
        return self.hidden[upload(self.starts[texts] + positions, self.hidden.device)]

    def grow(
        self,
        prompts: Sequence[tuple[int, int]],
        hanging: Sequence[Branch],
        *,
        stems: Sequence[Stem] | None = None,
        keep: np.ndarray | None = NOTHING,
    ) -> tuple[torch.Tensor, np.ndarray]:
        """Run one branch behind each prompt, in one pass.

        Args:
            prompts: The text and the length of each prompt.
            hanging: The branches.
            stems: What branches that begin inside of titles hang from.
            keep: Rows of this pass from which further branches may grow; None for all, by default none.

        Returns:
            Hidden states of all rows, (R, h), and the numbers of those that were kept.
        """
        places = [
            Place(text, int(self.starts[text]), length, NO_STEM if stems is None else stems[at])
            for at, (text, length) in enumerate(prompts)
        ]
        rows = branches(places, hanging)
        hidden, added = self.frontier.forward(rows, kept=self._kept, kept_positions=self._positions, keep=keep)
        self.frontier.work.nodes += len(rows)
        first = len(self._positions)
        if keep is None or len(keep):
            self._kept = {layer: _joined(self._kept[layer], pair) for layer, pair in added.items()}
            kept = rows.positions if keep is None else rows.positions[keep]
            self._positions = np.concatenate([self._positions, kept])
        return hidden, np.arange(first, len(self._positions))

    def cover(self, prompts: Sequence[tuple[int, int]], branch: Branch) -> Iterator[tuple[slice, slice, torch.Tensor]]:
        """Run one branch behind every prompt, in passes within the row budget.

        Yields:
            Which prompts, which places of the branch, and the hidden states there, (prompts, places, h).
        """
        begin = 0
        while begin < len(prompts):
            several = self.frontier.max_rows // len(branch)
            if several == 0:
                yield from self._piece_by_piece(prompts[begin], begin, branch)
                begin += 1
                continue
            group = prompts[begin : begin + several]
            grown = self.frontier.attempt(
                partial(self.grow, group, [branch] * len(group)), rows=len(group) * len(branch)
            )
            if grown is not None:
                yield slice(begin, begin + len(group)), slice(0, len(branch)), grown[0].unflatten(0, (len(group), -1))
                begin += len(group)

    def _piece_by_piece(
        self, prompt: tuple[int, int], number: int, branch: Branch
    ) -> Iterator[tuple[slice, slice, torch.Tensor]]:
        """Run a branch that exceeds the budget: of each piece, keep the rows that later pieces hang from."""
        kept, positions = self._kept, self._positions
        stem, ends = NOTHING, NOTHING  # kept rows above the next piece, and where in the branch their subtrees end
        begin = 0
        while begin < len(branch):
            stop = min(begin + self.frontier.max_rows, len(branch))
            piece = branch.piece(begin, stop)
            keep = np.flatnonzero(branch.ends[begin:stop] > stop)
            grown = self.frontier.attempt(
                partial(self.grow, [prompt], [piece], stems=[Stem(stem, ends - begin)], keep=keep), rows=stop - begin
            )
            if grown is None:
                continue
            yield slice(number, number + 1), slice(begin, stop), grown[0][None]
            stem, ends = np.append(stem, grown[1]), np.append(ends, branch.ends[begin:stop][keep])
            stem, ends = stem[ends > stop], ends[ends > stop]
            begin = stop
        self._kept, self._positions = kept, positions


def _joined(old: tuple[torch.Tensor, torch.Tensor], new: tuple[torch.Tensor, torch.Tensor]) -> Any:
    return tuple(torch.cat(pair) for pair in zip(old, new, strict=True))
