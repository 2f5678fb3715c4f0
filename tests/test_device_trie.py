"""The walk on a device is the walk on the host, with shapes that no value decides."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from torch._subclasses.fake_tensor import FakeTensorMode

from laborllm.generate import DeviceTrie
from laborllm.trie import TitleTrie
from tests.tries import UNITS, random_units

STOP = 11
SEQUENCES = st.lists(st.lists(st.integers(-2, 12), min_size=8, max_size=8), min_size=1, max_size=6)


def on_host(trie: TitleTrie, states: torch.Tensor) -> np.ndarray:
    """The states as the host's trie numbers them."""
    return np.where(states.numpy() == trie.num_nodes, TitleTrie.NOWHERE, states.numpy()).astype(np.uint32)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[list[int]], torch.Tensor]:
    """Units, and sequences that follow them, pass their ends, leave them, or are noise."""
    units = draw(UNITS)
    followed = [[*unit, *tail][:8] for unit in units[:6] for tail in draw(SEQUENCES)]
    return units, torch.tensor(draw(SEQUENCES) + [row + [0] * (8 - len(row)) for row in followed])


@settings(max_examples=100)
@given(cases(), st.integers(0, 8))
def test_states_and_candidates_are_those_of_the_host(case, depth):
    units, ids = case
    trie = TitleTrie(units)
    copy = DeviceTrie(trie, "cpu")
    states = copy.states(ids[:, :depth])
    expected = trie.walk(np.ascontiguousarray(ids[:, :depth].numpy()))
    assert on_host(trie, states).tolist() == expected.tolist()
    tokens, valid = copy.candidates(states, depth)
    assert tokens.shape == valid.shape
    bounds, allowed = trie.allowed(expected)
    for row in range(len(ids)):
        assert tokens[row][valid[row]].tolist() == allowed[bounds[row] : bounds[row + 1]].tolist()
    if depth < 8:
        behind = on_host(trie, copy.step(states, ids[:, depth])).tolist()
        assert behind == trie.step(expected, np.ascontiguousarray(ids[:, depth].numpy())).tolist()


@settings(max_examples=50)
@given(cases(), st.integers(0, 8))
def test_masked_scores_are_kept_where_allowed_and_stop_is_allowed_behind_titles(case, depth):
    units, ids = case
    trie = TitleTrie(units)
    copy = DeviceTrie(trie, "cpu")
    scores = torch.arange(len(ids) * 14.0).reshape(-1, 14)
    before = scores.clone()
    masked = copy.masked(scores, copy.states(ids[:, :depth]), depth=depth, stop=STOP)
    bounds, allowed = trie.allowed(trie.walk(np.ascontiguousarray(ids[:, :depth].numpy())))
    expected = torch.full_like(scores, -torch.inf)
    for row in range(len(ids)):
        columns = allowed[bounds[row] : bounds[row + 1]].tolist() or [STOP]
        expected[row, columns] = scores[row, columns]
    assert torch.equal(masked, expected)
    assert torch.equal(scores, before)


def test_the_padding_of_a_depth_is_its_own_widest_fan_out_and_never_the_roots():
    trie = DeviceTrie(TitleTrie([[token, 0, token % 3, 9] for token in range(200)]), "cpu")
    widths = [trie.candidates(trie.start(5), depth)[0].shape[1] for depth in range(6)]
    assert widths == [200, 1, 1, 1, 1, 1]
    assert trie.candidates(trie.start(5), 0)[0].stride(0) == 0  # one list for all rows


def step(trie: DeviceTrie, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    return trie.masked(scores, trie.states(ids), depth=ids.shape[1], stop=STOP)


@pytest.fixture
def deep() -> tuple[DeviceTrie, torch.Tensor, torch.Tensor]:
    units = random_units(200, tokens=9, longest=7)
    ids = torch.tensor([(unit + [STOP] * 7)[:7] for unit in units])
    return DeviceTrie(TitleTrie(units), "cpu"), ids, torch.randn(len(ids), 14)


@pytest.mark.parametrize("depth", [0, 1, 3, 7])
def test_a_step_is_one_graph_for_the_compiler(deep, depth):
    trie, ids, scores = deep
    compiled = torch.compile(step, backend="eager", fullgraph=True)
    assert torch.equal(compiled(trie, ids[:, :depth], scores), step(trie, ids[:, :depth], scores))


@pytest.mark.parametrize("depth", [0, 1, 3, 7])
def test_a_step_reads_no_value_and_its_shapes_depend_on_none(deep, depth):
    """On tensors without values, reading one and a shape that depends on one are errors."""
    trie, ids, scores = deep
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        masked = step(trie, mode.from_tensor(ids[:, :depth]), mode.from_tensor(scores))
    assert masked.shape == scores.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_on_a_gpu_never_waits_and_can_be_captured(deep):
    trie, ids, scores = deep
    units = random_units(200, tokens=9, longest=7)
    there = DeviceTrie(TitleTrie(units), "cuda")
    ids_there, scores_there = ids.cuda(), scores.cuda()
    for depth in range(ids.shape[1] + 1):
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            masked = step(there, ids_there[:, :depth], scores_there)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step(there, ids_there[:, :depth], scores_there)
        graph.replay()
        expected = step(trie, ids[:, :depth], scores)
        assert torch.equal(masked.cpu(), expected)
        assert torch.equal(captured.cpu(), expected)


def test_the_size_on_the_device_is_about_twelve_bytes_a_node():
    trie = DeviceTrie(TitleTrie(random_units(2_000, tokens=50, longest=9)), "cpu")
    root = trie.candidates(trie.start(1), 0)[0].shape[1]
    assert trie.nbytes == 8 * trie.num_nodes + 4 * (trie.num_nodes + 2) + 8 * root
    assert f"nbytes={trie.nbytes}" in repr(trie)
