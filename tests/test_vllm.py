"""Requests of a serving engine are held to titles while others come, go and change places around them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from laborllm.errors import TrieError
from laborllm.generate.vllm import TitlesProcessor
from laborllm.trie import TitleTrie
from tests.tries import DictTrie, random_units

STOP, VOCABULARY = 0, 40
UNITS = [[token + 2 for token in unit] for unit in random_units(200, tokens=30, longest=6)]
CPU = torch.device("cpu")


class Direction(Enum):
    UNIDIRECTIONAL = auto()
    SWAP = auto()


@dataclass
class Request:
    held: bool
    decoded: list[int] = field(default_factory=list)


@dataclass
class Engine:
    """A batch that is kept dense: finished requests leave, new ones take their rows, the last ones move up.

    It tells its processor what vLLM's does: rows removed, added (with the live list of decoded tokens) and moved.
    """

    processor: TitlesProcessor
    random: np.random.Generator
    batch: list[Request] = field(default_factory=list)
    finished: list[Request] = field(default_factory=list)

    def change(self) -> None:
        removed, added, moved = [], [], []
        for row, request in enumerate(self.batch):
            if request.decoded[-1:] == [STOP] or len(request.decoded) == 12:
                self.finished.append(request)
                removed.append(row)
        free = list(removed)
        for _ in range(self.random.integers(3)):
            row = free.pop(0) if free else len(self.batch)
            removed = [other for other in removed if other != row]  # its successor replaces it
            request = Request(held=bool(self.random.random() < 0.7))
            self.batch[row : row + 1] = [request]
            extra = {"laborllm": True} if request.held else self.random.choice(np.array([None, {"other": 1}]))
            added.append((row, SimpleNamespace(extra_args=extra), [1, 2], request.decoded))
        gone = sorted(removed)
        while gone:
            last = len(self.batch) - 1
            if last == gone[-1]:
                gone.pop()
            else:
                row = gone.pop(0)
                self.batch[row] = self.batch[last]
                moved.append((last, row, Direction.UNIDIRECTIONAL))
            self.batch.pop()
        if len(self.batch) > 1 and self.random.random() < 0.5:
            one, other = self.random.choice(len(self.batch), 2, replace=False).tolist()
            self.batch[one], self.batch[other] = self.batch[other], self.batch[one]
            moved.append((one, other, Direction.SWAP))
        changed = bool(removed or added or moved)
        update = SimpleNamespace(batch_size=len(self.batch), removed=removed, added=added, moved=moved)
        self.processor.update_state(update if changed else None)

    def step(self, logits: torch.Tensor) -> torch.Tensor:
        masked = self.processor.apply(logits)
        for request, p in zip(self.batch, masked.softmax(-1).numpy(), strict=True):
            request.decoded.append(int(self.random.choice(len(p), p=p / p.sum())))
        return masked


def processor(folder, *, units: list[list[int]] = UNITS, stop: int = STOP) -> TitlesProcessor:
    TitleTrie(units).save(folder / "titles.arrow", overwrite=True)
    settings = {"trie": str(folder / "titles.arrow"), "stop": stop}
    return TitlesProcessor(SimpleNamespace(additional_config={"laborllm": settings}), CPU, is_pin_memory=False)


@pytest.mark.parametrize("seed", range(3))
def test_every_row_of_a_changing_batch_is_masked_as_a_plain_trie_says(tmp_path, seed):
    engine = Engine(processor(tmp_path), np.random.default_rng(seed))
    generator, plain = torch.Generator().manual_seed(seed), DictTrie(UNITS)
    for _ in range(150):
        engine.change()
        logits = torch.randn(len(engine.batch), VOCABULARY, generator=generator)
        expected = logits.clone()
        for row, request in enumerate(engine.batch):
            if request.held:
                expected[row] = -torch.inf
                allowed = plain.allowed(request.decoded, stop=STOP)
                expected[row, allowed] = logits[row, allowed]
        assert torch.equal(engine.step(logits), expected)
    held = [request.decoded for request in engine.finished if request.held]
    assert len(held) > 20
    assert {tuple(decoded[:-1]) for decoded in held} <= set(map(tuple, UNITS))


def test_a_greedy_engine_may_not_leave_it_out(tmp_path):
    assert not processor(tmp_path).is_argmax_invariant()


def test_an_engine_that_was_not_told_the_titles_learns_how_to_tell_them(tmp_path):
    for config in (None, {}, {"laborllm": {"stop": 1}}):
        with pytest.raises(TrieError, match=r'additional_config=\{"laborllm": \{"trie": a file of TitleTrie.save'):
            TitlesProcessor(SimpleNamespace(additional_config=config), CPU, is_pin_memory=False)


def test_narrow_logits_and_tokens_not_yet_written_down_are_refused(tmp_path):
    held = SimpleNamespace(extra_args={"laborllm": True})
    for decoded, width, message in (([], 20, "20 wide and the trie holds token 31"), ([-1], 40, "asynchronous")):
        ours = processor(tmp_path)
        ours.update_state(SimpleNamespace(removed=[], added=[(0, held, None, decoded)], moved=[]))
        with pytest.raises(TrieError, match=message):
            ours.apply(torch.zeros(1, width))
