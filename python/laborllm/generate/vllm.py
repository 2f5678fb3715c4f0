"""The title trie for vLLM, by the batch interface of its `vllm.v1.sample.logits_processor`.

vLLM is not needed by anything else and need not be installed. Its interface is still changing: the V2 model runner has
one of its own and refuses this one when it loads it; where it is the default, set VLLM_USE_V2_MODEL_RUNNER=0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from laborllm.errors import TrieError
from laborllm.generate.processor import allowed_entries, check_width
from laborllm.trie import TitleTrie

try:
    from vllm.v1.sample.logits_processor import LogitsProcessor
except ImportError:
    LogitsProcessor = object

SETTINGS = "laborllm"
"""Key in the engine's `additional_config` and in a request's `extra_args`."""


class TitlesProcessor(LogitsProcessor):  # type: ignore[misc]
    """Holds the requests that ask for it to titles.

    The engine loads it by name, and every process of the engine maps the same file:

        LLM(model, logits_processors=["laborllm.generate.vllm:TitlesProcessor"],
            additional_config={"laborllm": {"trie": "titles.arrow", "stop": tokenizer.eos_token_id}})
        SamplingParams(extra_args={"laborllm": True}, max_tokens=64)

    Samples follow the `masked` law, which is not P(title). A request's state is derived from its tokens at every step,
    so that requests may come, go and change places.

    Args:
        vllm_config: The engine's configuration.
        device: Not used: allowed tokens are found on the host and sent to where the logits are.
        is_pin_memory: Whether they are sent from pinned memory.

    Raises:
        TrieError: `additional_config` names no trie or no token to stop with.
    """

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:  # noqa: ARG002, FBT001
        settings = (vllm_config.additional_config or {}).get(SETTINGS, {})
        if not {"trie", "stop"} <= settings.keys():
            raise TrieError(
                "the engine was not told the titles; "
                f'pass additional_config={{"{SETTINGS}": {{"trie": a file of TitleTrie.save, "stop": a token id}}}}'
            )
        self.trie = TitleTrie.load(settings["trie"])
        self.stop = int(settings["stop"])
        self._pinned = is_pin_memory
        self._decoded: dict[int, Sequence[int]] = {}  # row in the batch -> the engine's own list, which grows

    def is_argmax_invariant(self) -> bool:
        """Tell whether greedy decoding can do without it: no."""
        return False

    def update_state(self, batch_update: Any | None) -> None:
        """Follow the requests that left, came and moved, in this order; None where none did."""
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._decoded.pop(row, None)
        for row, parameters, _, decoded in batch_update.added:
            self._decoded.pop(row, None)
            if (parameters.extra_args or {}).get(SETTINGS):
                self._decoded[row] = decoded
        for source, target, direction in batch_update.moved:
            moved, replaced = self._decoded.pop(source, None), self._decoded.pop(target, None)
            if moved is not None:
                self._decoded[target] = moved
            if replaced is not None and direction.name == "SWAP":
                self._decoded[source] = replaced

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask one step's logits, (B, V), in place.

        Raises:
            TrieError: V is smaller than the trie's vocabulary or does not hold the token to stop with, or the engine
                has not written down a token that it drew.
        """
        if not self._decoded:
            return logits
        check_width(self.trie, logits, stop=self.stop)
        which, columns = allowed_entries(self.trie, self._states(), stop=self.stop)
        held = torch.tensor(list(self._decoded))
        held, rows, columns = (self._sent(index, logits.device) for index in (held, held[which], columns))
        kept = logits[rows, columns]
        logits.index_fill_(0, held, -torch.inf)
        logits[rows, columns] = kept
        return logits

    def _states(self) -> np.ndarray:
        decoded = list(self._decoded.values())
        lengths = np.array([len(tokens) for tokens in decoded])
        states = np.zeros(len(decoded), np.uint32)
        for position in range(lengths.max()):
            inside = np.flatnonzero(lengths > position)
            tokens = np.array([decoded[row][position] for row in inside], np.int64)
            if (tokens < 0).any():
                raise TrieError("the engine has not written down its last tokens yet; turn asynchronous scheduling off")
            states[inside] = self.trie.step(states[inside], tokens)
        return states

    def _sent(self, index: torch.Tensor, device: torch.device) -> torch.Tensor:
        return (index.pin_memory() if self._pinned else index).to(device, non_blocking=True)
