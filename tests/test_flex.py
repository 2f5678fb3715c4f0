"""Flex attention gives what attention written out gives, over no more blocks than hold a visible key."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention.flex_attention import create_block_mask
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.resume import Template
from laborllm.score import TitleScorer, flex, frontier
from laborllm.score.attention import Pass
from laborllm.score.check import _toy_career, gap
from laborllm.score.frontier import Frontier
from laborllm.score.layout import NO_STEM, NOTHING, Branch, Place, Rows, branches, trunks
from laborllm.score.passes import Passes
from laborllm.score.spelling import Spelling
from laborllm.score.tree import Tree
from laborllm.tokens import TitleUnits
from tests.models import byte_level, random_model
from tests.samples import HARD_TITLES, careers

CPU = torch.device("cpu")
VOCAB = 60
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    "llama, 6 heads on 2": LlamaConfig(**SIZES | {"num_attention_heads": 6, "hidden_size": 96}),
    "mistral, window 8": MistralConfig(**SIZES, sliding_window=8),
    "gemma 2, soft cap": Gemma2Config(**SIZES, sliding_window=8, attn_logit_softcapping=5.0),
    "gpt-oss, sinks": GptOssConfig(**SIZES, sliding_window=8, num_local_experts=2, num_experts_per_tok=1),
}


@pytest.fixture(autouse=True)
def _one_thread():
    """Small cases wait for one another on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiler flex attention is written out in torch; it warns, unless told that this is wanted."""
    module = importlib.import_module("torch.nn.attention.flex_attention")
    monkeypatch.setattr(module, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)


def random_branch(random: np.random.Generator, count: int, *, deepest: int) -> Branch:
    depths = [1]
    while len(depths) < count:
        depths.append(int(random.integers(1, min(depths[-1] + 1, deepest) + 1)))
    ends = [next((at for at in range(i + 1, count) if depths[at] <= depths[i]), count) for i in range(count)]
    nodes = np.arange(1, count + 1)
    return Branch(nodes, random.integers(0, 9, count), np.array(depths), np.array(ends))


def random_rows(random: np.random.Generator, *, deepest: int = 9) -> tuple[Rows, Rows, np.ndarray]:
    """The trunks of some workers, branches at some years of most of them, and the positions of the trunks' rows."""
    texts = [np.zeros(random.integers(2, 300), np.int64) for _ in range(random.integers(1, 5))]
    trunk = trunks(texts)
    places = [
        Place(text, int(trunk.starts[text]), int(length), NO_STEM)
        for text in np.flatnonzero(random.random(len(texts)) < 0.7).tolist() or [0]
        for length in np.sort(random.integers(1, len(texts[text]) + 1, random.integers(1, 4)))
    ]
    sizes = random.integers(1, 200, len(places)).tolist()
    return trunk, branches(places, [random_branch(random, size, deepest=deepest) for size in sizes]), trunk.positions


def listed(order: torch.Tensor, count: torch.Tensor) -> list[list[int]]:
    return [row[:some].tolist() for row, some in zip(order[0, 0], count[0, 0].tolist(), strict=True)]


def check_blocks(rows: Rows, kept_positions: np.ndarray, window: int | None, *, exact: bool) -> None:
    """The lists of blocks are those that evaluating the rule for all pairs gives."""
    own = flex.Flex(flex.filled(rows), kept_positions=kept_positions, device=CPU)
    mask = own.mask(window)
    want = create_block_mask(mask.mask_mod, 1, 1, *mask.seq_lengths, device="cpu")
    some, some_wanted = (listed(one.kv_indices, one.kv_num_blocks) for one in (mask, want))
    whole, whole_wanted = (listed(one.full_kv_indices, one.full_kv_num_blocks) for one in (mask, want))
    if exact:
        assert some == some_wanted
        assert whole == whole_wanted
    for mine, held, needed, safe in zip(some, whole, some_wanted, whole_wanted, strict=True):
        assert set(held) <= set(safe)
        assert set(needed) <= set(mine)
        assert set(safe) <= {*held, *mine}


@pytest.mark.parametrize("seed", range(6))
def test_the_lists_of_blocks_are_those_of_the_rule_over_all_pairs(seed):
    trunk, grown, positions = random_rows(np.random.default_rng(seed))
    check_blocks(trunk, NOTHING, None, exact=True)
    check_blocks(grown, positions, None, exact=True)
    for window in (5, 100):
        check_blocks(trunk, NOTHING, window, exact=True)
        check_blocks(grown, positions, window, exact=window > 9)


@pytest.mark.parametrize("seed", range(4))
def test_where_the_window_is_shorter_than_a_branch_no_block_is_missing(seed):
    random = np.random.default_rng(seed)
    _, grown, positions = random_rows(random, deepest=150)
    for window in (1, 20, 100):
        check_blocks(grown, positions, window, exact=False)


def test_the_blocks_of_a_career_are_few():
    random = np.random.default_rng(0)
    texts = [np.zeros(320, np.int64)]
    places = [Place(0, 0, 20 * year, NO_STEM) for year in range(1, 17)]
    rows = flex.filled(branches(places, [random_branch(random, 1_600, deepest=16)] * 16))
    some, whole = flex.Paths.of(rows, trunks(texts).positions).blocks(None)
    assert (some | whole).sum(axis=1).mean() * flex.BLOCK < 800  # of 26,000 keys


def attended(rows: Rows, kept_positions: np.ndarray, backend: str, *, heads: int, **layer: object) -> torch.Tensor:
    torch.manual_seed(0)
    run = flex.filled(rows) if backend == "flex" else rows
    states = [torch.randn(len(rows), count, 16, dtype=torch.float64) for count in (heads, 2, 2)]
    kept = {3: tuple(torch.randn(len(kept_positions), 2, 16, dtype=torch.float64) for _ in range(2))}
    sinks = torch.randn(heads, dtype=torch.float64) if layer.pop("sinks", False) else None
    padding = (0, 0, 0, 0, 0, len(run) - len(rows))
    one = Pass(run, kept=kept, kept_positions=kept_positions, keep=NOTHING, backend=backend, device=CPU)
    options = {"window": None, "softcap": None} | layer
    padded = [torch.nn.functional.pad(x, padding) for x in states]
    return one.attend(3, *padded, scaling=0.3, sinks=sinks, **options)[: len(rows)]


@pytest.mark.parametrize("layer", [{}, {"window": 7}, {"softcap": 2.0}, {"sinks": True}, {"window": 60, "sinks": True}])
@pytest.mark.parametrize("heads", [2, 4, 6])
def test_flex_gives_what_attention_written_out_gives(layer, heads):
    trunk, grown, positions = random_rows(np.random.default_rng(heads))
    for rows, kept in ((trunk, NOTHING), (grown, positions)):
        found, want = (attended(rows, kept, name, heads=heads, **layer) for name in ("flex", "eager"))
        torch.testing.assert_close(found, want, rtol=0, atol=1e-12)
        if not {"softcap", "sinks"} & set(layer):
            torch.testing.assert_close(found, attended(rows, kept, "sdpa", heads=heads, **layer), rtol=0, atol=1e-12)


def test_sinks_without_a_log_sum_exp_fall_back_to_chunks(monkeypatch):
    monkeypatch.setattr(flex, "LSE", None)
    trunk, _, _ = random_rows(np.random.default_rng(0))
    found, want = (attended(trunk, NOTHING, name, heads=4, sinks=True) for name in ("flex", "eager"))
    torch.testing.assert_close(found, want, rtol=0, atol=1e-12)


def small_model(name: str, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    torch.manual_seed(0)  # transformers 5.17 leaves out the soft cap elsewhere than in eager attention
    model = AutoModelForCausalLM.from_config(CONFIGS[name], dtype=dtype, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model.eval()


def some_units(random: np.random.Generator, count: int = 9) -> TitleUnits:
    units = {(*random.integers(1, 6, random.integers(1, 7)).tolist(), 7) for _ in range(count)}
    return TitleUnits(tuple(sorted(units)), (True,) * len(units))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("max_rows", [4_096, 24])
def test_the_law_by_flex_is_the_naive_one(name, max_rows):
    in_float32 = name.startswith("gpt-oss")  # its experts know no float64
    model = small_model(name, torch.float32 if in_float32 else torch.float64)
    units = some_units(np.random.default_rng(1), 20)
    spelling = Spelling(units)
    by_flex, by_chunks = (
        Tree(Frontier(model, units.trie, max_rows=max_rows, backend=backend), spelling) for backend in ("flex", "eager")
    )
    career = _toy_career(units, most=60)
    for law in ("raw", "masked"):
        found, want = (next(iter(tree.whole(career, np.arange(3), law=law))) for tree in (by_flex, by_chunks))
        np.testing.assert_allclose(found.masked_titles, want.masked_titles, rtol=0, atol=1e-3 if in_float32 else 1e-6)
    assert by_flex.frontier.work == by_chunks.frontier.work  # rows that fill up blocks are not counted
    naive = Passes(model, units.trie, spelling, cached=False, max_tokens=4_096)
    assert gap(model, by_flex, naive, units, window=None) < (
        1e-3 if in_float32 else 1e-4
    )  # transformers takes some softmaxes in float32


def scorer(monkeypatch: pytest.MonkeyPatch) -> TitleScorer:
    """As on a device on which flex attention is chosen."""
    monkeypatch.setattr(frontier, "best_backend", lambda _: "flex")
    tokenizer = byte_level([title + "\n" for title in HARD_TITLES])
    template = Template("plain", 1, "", "{year}: {title}\n", "")
    model = random_model("llama", tokenizer.get_vocab_size())
    return TitleScorer(model, tokenizer, occupations=Occupations.from_titles(HARD_TITLES), template=template)


def test_a_scorer_by_flex_gives_the_law_of_chunks(monkeypatch):
    by_flex = scorer(monkeypatch)
    panel = Panel.from_arrow(careers(HARD_TITLES, workers=3), occupations=by_flex.occupations, dataset="TEST")
    assert (by_flex.method, by_flex._frontier.backend) == ("tree", "flex")
    found = by_flex.score(panel, titles="all", law="normalized").log_p
    by_flex._frontier.backend = "sdpa"
    np.testing.assert_allclose(found, by_flex.score(panel, titles="all", law="normalized").log_p, rtol=0, atol=1e-10)


def test_where_the_kernel_fails_chunks_are_attended_with_a_warning(monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(flex, "_kernel", lambda _: fails)
    with pytest.warns(UserWarning, match="without a compiled kernel, which is slower: tree fails with RuntimeError"):
        by_chunks = scorer(monkeypatch)
    assert (by_chunks.method, by_chunks._frontier.backend) == ("tree", "sdpa")


def test_few_kernels_serve_passes_of_every_size(monkeypatch):
    """Counted without generating code: C++ for sizes that vary is not compiled by every version of torch."""
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(flex.flex_attention, fullgraph=True, backend=counter)
    monkeypatch.setattr(flex, "_kernel", lambda _: compiled)
    torch.compiler.reset()
    for seed in range(6):
        trunk, grown, positions = random_rows(np.random.default_rng(seed))
        for rows, kept in ((trunk, NOTHING), (grown, positions)):
            with torch.inference_mode():
                found = attended(rows, kept, "flex", heads=4)
            torch.testing.assert_close(found, attended(rows, kept, "eager", heads=4), rtol=0, atol=1e-12)
    assert counter.frame_count <= 4


def test_flex_is_chosen_on_cuda_and_chunks_elsewhere():
    units, model = some_units(np.random.default_rng(1)), small_model("llama")
    assert Frontier(model, units.trie, max_rows=64).backend == "sdpa"
    assert frontier.best_backend(torch.device("cuda")) == "flex"
