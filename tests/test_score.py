"""The law over titles: every fast path equals the naive one, and the three laws are what their names say."""

from __future__ import annotations

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peft

from laborllm.errors import ModelError, PredictionsError, TokenizerError
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.resume import Template, render
from laborllm.score import TitleScorer, check, reference
from tests.models import CONFIGS, FAMILIES, byte_level, random_model
from tests.samples import HARD_TITLES, careers


def make(
    *,
    family: str = "llama",
    encoder: str = "byte-level",
    titles: tuple[str, ...] = HARD_TITLES,
    dtype: torch.dtype = torch.float64,
    window: int | None = None,
    workers: int = 5,
    years: int = 5,
    **options: object,
) -> tuple[TitleScorer, Panel]:
    panel = Panel.from_arrow(
        careers(titles, workers=workers, years=years), occupations=Occupations.from_titles(titles), dataset="TEST"
    )
    template = Template.load("labor-llm").bind(panel.table.column_names)
    texts = [text for batch in render(panel, template) for text in batch["resume"].to_pylist()]
    tokenizer = FAMILIES[encoder](texts)
    model = random_model(family, tokenizer.get_vocab_size(), dtype=dtype, window=window)
    return TitleScorer(model, tokenizer, occupations=panel.occupations, template=template, **options), panel


def oracle(scorer: TitleScorer, panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    windows, tokens = scorer.texts(panel)
    prompts = []
    for text in range(len(windows)):
        for row in range(int(windows.fresh[text]), int(windows.stop[text])):
            at = tokens.rows[text] + row - windows.first[text]
            prompts.append(tokens.text(text)[: tokens.starts[at]])
    return reference.law(scorer.model, prompts, scorer.units)


@pytest.mark.parametrize("encoder", FAMILIES)
@pytest.mark.parametrize("method", ["tree", "cache", "naive"])
def test_the_whole_law_equals_scoring_every_title_with_its_own_prompt(encoder, method):
    scorer, panel = make(encoder=encoder, method=method)
    raw, masked = oracle(scorer, panel)
    for law, expected in (("raw", raw), ("masked", masked), ("normalized", raw - np.log(np.exp(raw).sum(1))[:, None])):
        found = scorer.score(panel, titles="all", law=law, keep_law=True)
        np.testing.assert_allclose(found.log_p_all, expected, rtol=1e-6)  # stored in float32
        np.testing.assert_allclose(found.log_p, expected[np.arange(len(raw)), panel.states()], rtol=0, atol=1e-10)
        if law != "masked":
            np.testing.assert_allclose(found.title_mass, np.exp(raw).sum(1), rtol=1e-10)


@pytest.mark.parametrize("family", CONFIGS)
def test_every_model_family_gets_the_same_law_by_the_path_that_was_chosen_for_it(family):
    scorer, panel = make(family=family, workers=3)
    raw, _ = oracle(scorer, panel)
    found = scorer.score(panel, titles="all")
    np.testing.assert_allclose(found.log_p, raw[np.arange(len(raw)), panel.states()], rtol=0, atol=1e-10)


def test_in_float32_the_law_is_within_a_ten_thousandth_of_a_nat():
    scorer, panel = make(dtype=torch.float32)
    raw, masked = oracle(scorer, panel)
    for law, expected in (("raw", raw), ("masked", masked)):
        found = scorer.score(panel, titles="all", law=law, keep_law=True)
        np.testing.assert_allclose(found.log_p_all, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("law", ["raw", "masked"])
def test_one_teacher_forced_pass_gives_what_the_whole_law_gives_for_the_title_that_happened(law):
    scorer, panel = make(workers=12)
    whole = scorer.score(panel, titles="all", law=law)
    observed = scorer.score(panel, titles="observed", law=law)
    np.testing.assert_allclose(observed.log_p, whole.log_p, rtol=0, atol=1e-10)
    np.testing.assert_allclose(observed.log_p_raw, whole.log_p_raw, rtol=0, atol=1e-10)
    np.testing.assert_allclose(observed.log_p_previous, whole.log_p_previous, rtol=0, atol=1e-10)
    assert np.isnan(observed.log_p_previous).tolist() == observed.first.tolist()
    assert np.isnan(observed.title_mass).all()


def test_normalized_and_masked_laws_sum_to_one_and_raw_to_less():
    scorer, panel = make()
    for law in ("normalized", "masked"):
        found = scorer.score(panel, titles="all", law=law, keep_law=True)
        np.testing.assert_allclose(np.exp(found.log_p_all.astype(float)).sum(1), 1, rtol=1e-5)
    assert (scorer.score(panel, titles="all").title_mass < 1).all()


def test_titles_that_begin_other_titles_do_not_share_their_probability():
    titles = ("Cook", "Cooks", "Cooks, n.e.c.")
    scorer, panel = make(titles=titles)
    assert (scorer.score(panel, titles="all").title_mass < 1).all()
    lengths = [len(unit) for unit in scorer.units.ids]
    for short, long in ((0, 1), (1, 2)):
        assert scorer.units.ids[short] != scorer.units.ids[long][: lengths[short]]


def test_masked_and_normalized_are_different_laws():
    scorer, panel = make()
    masked = scorer.score(panel, titles="all", law="masked").log_p
    normalized = scorer.score(panel, titles="all", law="normalized").log_p
    assert np.abs(masked - normalized).max() > 0.1


def test_the_size_of_a_batch_changes_no_probability():
    scorer, panel = make(workers=9)
    alone = TitleScorer(
        scorer.model, scorer.tokenizer, occupations=scorer.occupations, template=scorer.template, max_rows=1
    )
    for titles in ("observed", "all"):
        together, apart = scorer.score(panel, titles=titles), alone.score(panel, titles=titles)
        np.testing.assert_allclose(together.log_p, apart.log_p, rtol=0, atol=1e-10)
        np.testing.assert_allclose(together.log_p_previous, apart.log_p_previous, rtol=0, atol=1e-10)


@pytest.mark.parametrize("window", [None, 90])
def test_deleting_later_rows_changes_no_probability(window):
    scorer, panel = make(years=12, workers=4, window=window)
    full = scorer.score(panel)
    position = panel.transitions().position
    table = panel.table.filter(position < 4)
    short = scorer.score(Panel.from_arrow(table, occupations=panel.occupations))
    np.testing.assert_allclose(short.log_p, full.log_p[position < 4], rtol=0, atol=1e-10)


def test_careers_beyond_the_window_keep_the_longest_suffix_of_their_own_history():
    scorer, panel = make(years=12, workers=4, window=90)
    windows, tokens = scorer.texts(panel)
    found = scorer.score(panel, titles="all")
    dropped = found.table["n_rows_dropped"].to_numpy()
    assert dropped.max() > 0
    assert (np.diff(dropped)[np.diff(panel.transitions().position) > 0] >= 0).all()
    prompts = tokens.starts[tokens.rows[1:] - 1]
    assert (prompts + scorer.units.longest <= 90).all()
    raw, _ = oracle(scorer, panel)
    np.testing.assert_allclose(found.log_p, raw[np.arange(len(raw)), panel.states()], rtol=0, atol=1e-10)
    longer = windows.dropped > 0
    _, one_more = windows.first[longer] - 1, windows.stop[longer]
    wider = scorer.encode(panel, (windows.first[longer] - 1, one_more))
    assert (wider.starts[wider.rows[1:] - 1] + scorer.units.longest > 90).all()


def test_only_target_rows_are_scored_and_all_earlier_rows_are_shown():
    scorer, panel = make(workers=8)
    whole = scorer.score(panel)
    last = np.zeros(panel.num_rows, bool)
    last[panel.starts[1:] - 1] = True
    some = scorer.score(panel.with_targets(last))
    assert len(some.log_p) == panel.num_workers
    np.testing.assert_allclose(some.log_p, whole.log_p[last], rtol=0, atol=1e-10)


@pytest.mark.parametrize("titles", ["observed", "all"])
def test_workers_without_target_rows_are_passed_over(titles):
    scorer, panel = make(workers=8)
    whole = scorer.score(panel, titles=titles)
    some = np.zeros(panel.num_rows, bool)
    some[panel.starts[[2, 3, 6]]] = True
    few = scorer.score(panel.with_targets(some), titles=titles)
    np.testing.assert_allclose(few.log_p, whole.log_p[some], rtol=0, atol=1e-10)


def test_the_normalized_law_needs_the_whole_law():
    scorer, panel = make(workers=2)
    with pytest.raises(PredictionsError, match="--titles all"):
        scorer.score(panel, titles="observed", law="normalized")


def test_a_model_that_neither_branches_nor_has_a_cache_to_cut_is_scored_text_by_text_with_one_warning(monkeypatch):
    scorer, panel = make(family="falcon", method="naive", workers=3)
    expected = scorer.score(panel).log_p

    def broken(*_: object) -> None:
        raise AttributeError("no keys")

    monkeypatch.setattr("laborllm.score.passes.DynamicCache", broken)
    with pytest.warns(UserWarning, match="one text per title") as caught:
        slow = TitleScorer(scorer.model, scorer.tokenizer, occupations=scorer.occupations, template=scorer.template)
    assert len(caught) == 1
    assert re.search("tree fails with TypeError.*; cache fails with AttributeError: no keys", str(caught[0].message))
    np.testing.assert_allclose(slow.score(panel, titles="all").log_p, expected, rtol=0, atol=1e-10)


def test_prompts_are_taken_from_the_resume_and_never_show_the_title_that_is_scored():
    scorer, panel = make()
    windows, tokens = scorer.texts(panel)
    decoded = [
        scorer.tokenizer.decode(tokens.text(t)[: tokens.starts[row]].tolist())
        for t in range(len(windows))
        for row in range(tokens.rows[t], tokens.rows[t + 1])
    ]
    years = panel.years()
    for prompt, year in zip(decoded, years, strict=True):
        assert prompt.endswith(":")
        assert prompt.splitlines()[-1].startswith(str(year))


def test_the_byte_level_tokenizer_of_a_base_spells_titles_it_was_not_trained_on():
    hard_occupations = Occupations.from_titles(HARD_TITLES)
    tokenizer = byte_level(["1984 (college): Cooks\n"])
    scorer, _ = make(workers=1)
    wide = TitleScorer(
        random_model("llama", tokenizer.get_vocab_size()),
        tokenizer,
        occupations=hard_occupations,
        template=scorer.template,
    )
    assert all(len(unit) > 1 for unit in wide.units.ids)


@pytest.mark.parametrize("titles", ["observed", "all"])
def test_the_previous_title_is_that_of_the_row_before(titles):
    scorer, panel = make(workers=8)
    raw, _ = oracle(scorer, panel)
    rows, found = panel.transitions(), scorer.score(panel, titles=titles)
    moved = ~rows.first & (rows.previous != rows.occupation)
    assert moved.any()
    np.testing.assert_allclose(found.log_p_previous[moved], raw[rows.row, rows.previous][moved], rtol=0, atol=1e-10)


def test_dropped_rows_and_rows_shown_are_the_whole_history():
    scorer, panel = make(years=12, workers=4, window=90)
    windows, tokens = scorer.texts(panel)
    shown = []
    for text in range(len(windows)):
        for row in range(int(windows.fresh[text]), int(windows.stop[text])):
            prompt = tokens.text(text)[: tokens.starts[tokens.rows[text] + row - windows.first[text]]]
            shown.append(len(re.findall(r"^\d{4} \(", scorer.tokenizer.decode(prompt.tolist()), re.MULTILINE)) - 1)
    dropped = scorer.score(panel).table["n_rows_dropped"].to_numpy()
    assert dropped.max() > 0
    assert (dropped + shown).tolist() == panel.transitions().position.tolist()


@contextmanager
def before_each_pass(scorer: TitleScorer, call: Any) -> Iterator[None]:
    """Call a function with the keyword arguments of each pass through the model's body."""
    handle = scorer.model.base_model.register_forward_pre_hook(
        lambda _body, _args, kwargs: call(kwargs), with_kwargs=True
    )
    try:
        yield
    finally:
        handle.remove()


def test_no_pass_keeps_a_cache_or_has_a_mask():
    scorer, panel = make()
    scorer.model.config.use_cache = True
    calls: list[dict] = []
    with before_each_pass(scorer, calls.append):
        for titles in ("observed", "all"):
            scorer.score(panel, titles=titles)
    assert len(calls) > 2
    assert all(call["use_cache"] is False and call["attention_mask"] is None for call in calls)


def test_the_model_attends_as_before_after_scoring_and_after_an_error():
    scorer, panel = make(workers=2)
    ids = torch.arange(30)[None]
    before = scorer.model(input_ids=ids).logits
    implementation = scorer.model.config._attn_implementation
    scorer.score(panel, titles="all")
    assert scorer.model.config._attn_implementation == implementation

    def fail(_: object) -> None:
        raise RuntimeError("out of order")

    with before_each_pass(scorer, fail), pytest.raises(RuntimeError, match="out of order"):
        scorer.score(panel)
    assert scorer.model.config._attn_implementation == implementation
    assert torch.equal(scorer.model(input_ids=ids).logits, before)


@pytest.mark.parametrize("name", ["model.layers.1.mlp.down_proj.weight", "model.norm.weight", "lm_head.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_an_error_that_names_them(name, value):
    scorer, panel = make(workers=2)
    with torch.no_grad():
        dict(scorer.model.named_parameters())[name].fill_(value)
    for method in ("auto", "tree", "cache"):
        with pytest.raises(ModelError, match=name):
            TitleScorer(
                scorer.model, scorer.tokenizer, occupations=panel.occupations, template=scorer.template, method=method
            )
    for titles, law in (("observed", "raw"), ("observed", "masked"), ("all", "raw"), ("all", "masked")):
        with pytest.raises(ModelError, match=name):
            scorer.score(panel, titles=titles, law=law)


def inner_and_forks(scorer: TitleScorer) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]]]:
    """What has been written of a title where something follows, and where a choice is still to come."""
    units = scorer.units.ids
    inner = {unit[:depth] for unit in units for depth in range(1, len(unit))}
    forks = {a for a in inner if len({unit[len(a)] for unit in units if unit[: len(a)] == a}) > 1}
    return inner, {a for a in inner if any(fork[: len(a)] == a for fork in forks)}


@pytest.mark.parametrize("window", [None, 90])
@pytest.mark.parametrize("max_rows", [None, 5])
def test_each_token_of_a_resume_and_each_node_of_the_trie_is_run_once_a_year(window, max_rows):
    scorer, panel = make(years=12, workers=4, window=window, max_rows=max_rows)
    windows, tokens = scorer.texts(panel)
    last = tokens.rows[1:] - 1
    prompts, trunk = int(tokens.starts[last].sum()), int((tokens.stops[last] - 1).sum())
    inner, forks = inner_and_forks(scorer)
    assert (scorer.work.trunk, scorer.work.nodes) == (0, 0)
    scorer.score(panel, titles="all")
    assert (scorer.work.trunk, scorer.work.nodes) == (prompts, panel.num_rows * len(inner))
    scorer.score(panel, titles="all", law="masked")
    assert scorer.work.trunk == prompts + trunk
    assert scorer.work.nodes == panel.num_rows * (len(inner) + len(forks))
    assert len(forks) < len(inner) / 3
    nodes = scorer.work.nodes
    scorer.score(panel)
    rows = panel.transitions()
    moved = rows.previous[~rows.first & (rows.previous != rows.occupation)]
    assert scorer.work.trunk == prompts + 2 * trunk
    assert scorer.work.nodes - nodes == sum(len(scorer.units.ids[title]) - 1 for title in moved)
    scorer.log_p_observed(panel, (windows, tokens))
    assert scorer.work.trunk == prompts + 3 * trunk  # and no nodes, where no other title is asked for
    assert scorer.work.nodes - nodes == sum(len(scorer.units.ids[title]) - 1 for title in moved)


def test_any_budget_and_any_order_of_workers_give_the_same_law():
    scorer, panel = make(workers=7, dtype=torch.float32)
    order = np.random.default_rng(1).permutation(panel.num_workers)
    table = panel.table.to_pandas()
    table["worker_id"] = order[table["worker_id"].to_numpy()]
    permuted = Panel.from_arrow(
        type(panel.table).from_pandas(table.sort_values(["worker_id", "year"]), preserve_index=False),
        occupations=panel.occupations,
    )
    back = np.lexsort([permuted.years(), np.argsort(order)[permuted.table["worker_id"].to_numpy()]])
    for titles, law in (("observed", "raw"), ("observed", "masked"), ("all", "raw"), ("all", "masked")):
        expected = scorer.score(panel, titles=titles, law=law)
        for max_rows in (1, 7, 64, 1000):
            other = TitleScorer(
                scorer.model,
                scorer.tokenizer,
                occupations=panel.occupations,
                template=scorer.template,
                max_rows=max_rows,
            )
            found = other.score(permuted, titles=titles, law=law)
            np.testing.assert_allclose(found.log_p[back], expected.log_p, rtol=0, atol=1e-5)
            np.testing.assert_allclose(found.log_p_previous[back], expected.log_p_previous, rtol=0, atol=1e-5)


@contextmanager
def room_for(rows: int, scorer: TitleScorer) -> Iterator[list[int]]:
    """A device that has memory for so many rows; gives the sizes of the passes it refused."""
    refused = []

    def limited(kwargs: dict) -> None:
        if kwargs["input_ids"].shape[1] > rows:
            refused.append(kwargs["input_ids"].shape[1])
            raise torch.OutOfMemoryError("no room")

    with before_each_pass(scorer, limited):
        yield refused


@pytest.mark.parametrize("rows", [300, 120])
@pytest.mark.parametrize(("titles", "law"), [("observed", "raw"), ("all", "raw"), ("all", "masked")])
def test_where_memory_runs_out_the_budget_is_halved_and_nothing_is_lost(rows, titles, law):
    scorer, panel = make(years=7, workers=6)
    expected = scorer.score(panel, titles=titles, law=law)
    work = (scorer.work.trunk, scorer.work.nodes)
    with room_for(rows, scorer) as refused:
        found = scorer.score(panel, titles=titles, law=law)
    assert refused
    np.testing.assert_allclose(found.log_p, expected.log_p, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.log_p_previous, expected.log_p_previous, rtol=0, atol=1e-10)
    assert (scorer.work.trunk, scorer.work.nodes) == (2 * work[0], 2 * work[1])


def test_memory_may_run_out_while_a_branch_goes_in_pieces():
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    titles = tuple(sorted({"".join(name) for name in np.random.default_rng(0).choice(letters, size=(60, 9))}))
    scorer, panel = make(titles=titles, workers=1, years=2)
    expected = scorer.score(panel, titles="all", keep_law=True)
    work = (scorer.work.trunk, scorer.work.nodes)
    inner, _ = inner_and_forks(scorer)
    with room_for(120, scorer) as refused:
        found = scorer.score(panel, titles="all", keep_law=True)
    assert [size for size in refused if size < len(inner)]  # pieces, not only the whole branch, were refused
    np.testing.assert_allclose(found.log_p_all, expected.log_p_all, rtol=1e-6)
    assert (scorer.work.trunk, scorer.work.nodes) == (2 * work[0], 2 * work[1])


def test_a_device_without_memory_for_a_single_text_is_an_error():
    scorer, panel = make()

    def none_left(_: object) -> None:
        raise torch.OutOfMemoryError("no room")

    with before_each_pass(scorer, none_left), pytest.raises(ModelError, match="no memory for"):
        scorer.score(panel)


def test_a_model_in_half_precision_is_checked_in_float32_and_keeps_its_weights_to_the_bit(monkeypatch):
    seen = []
    gap = check.gap

    def watched(model: Any, *args: Any, **options: Any) -> float:
        seen.append({weights.dtype for weights in model.parameters()})
        return gap(model, *args, **options)

    monkeypatch.setattr(check, "gap", watched)
    model = random_model("llama", 600, dtype=torch.bfloat16)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    scorer, panel = make(workers=2)
    seen.clear()
    half = TitleScorer(model, scorer.tokenizer, occupations=panel.occupations, template=scorer.template)
    assert seen == [{torch.float32}]
    half.score(panel, titles="all")
    after = model.state_dict()
    assert all(weights.dtype == torch.bfloat16 for weights in after.values())
    assert all(torch.equal(weights, after[name]) for name, weights in before.items())


def test_an_adapter_that_is_not_merged_is_part_of_the_model():
    scorer, panel = make(workers=3, dtype=torch.float32)
    plain = scorer.score(panel, titles="all").log_p
    model = peft.get_peft_model(
        scorer.model, peft.LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.5, task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_" in name:
                weights.normal_(0, 0.3)
    adapted = TitleScorer(
        model, scorer.tokenizer, occupations=panel.occupations, template=scorer.template, method="tree"
    )
    raw, masked = oracle(adapted, panel)
    assert np.abs(raw[np.arange(len(raw)), panel.states()] - plain).max() > 0.5
    for law, expected in (("raw", raw), ("masked", masked)):
        found = adapted.score(panel, titles="all", law=law, keep_law=True)
        np.testing.assert_allclose(found.log_p_all, expected, rtol=0, atol=1e-4)


def test_an_adapter_of_tokens_before_the_prompt_is_refused():
    scorer, panel = make(workers=1, dtype=torch.float32)
    model = peft.get_peft_model(scorer.model, peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"))
    with pytest.raises(ModelError, match="tokens of its own"):
        TitleScorer(model, scorer.tokenizer, occupations=panel.occupations, template=scorer.template)


def test_a_model_in_training_with_more_tokens_than_its_tokenizer_is_scored_as_it_would_be_used():
    scorer, panel = make(workers=3)
    model = random_model("opt", scorer.tokenizer.get_vocab_size() + 300)
    model.config.dropout = 0.5
    model.train()
    trained = TitleScorer(model, scorer.tokenizer, occupations=panel.occupations, template=scorer.template)
    assert trained.method == "tree"
    raw, masked = oracle(trained, panel)
    for law, expected in (("raw", raw), ("masked", masked)):
        found = trained.score(panel, titles="all", law=law, keep_law=True)
        np.testing.assert_allclose(found.log_p_all, expected, rtol=1e-6)
    assert all(weights.requires_grad for weights in model.parameters())


@pytest.mark.parametrize("method", ["tree", "cache", "naive"])
def test_a_panel_without_targets_has_no_rows_and_is_no_error(method):
    scorer, panel = make(workers=2, method=method)
    nobody = panel.with_targets(np.zeros(panel.num_rows, bool))
    for titles in ("observed", "all"):
        assert len(scorer.score(nobody, titles=titles, top=3).log_p) == 0
    assert np.isnan(scorer.log_p_observed(nobody, scorer.texts(nobody))[0]).all()
    assert scorer.log_p_of(nobody, []) == ([], [])
    assert scorer.topk(nobody, 3) == scorer.bounds(nobody, eps=0.1) == []
    assert scorer.sample(nobody, 3).shape == (0, 3)


@pytest.mark.parametrize("method", ["tree", "cache"])
@pytest.mark.parametrize("window", [None, 90])
def test_any_titles_can_be_asked_for_at_each_target_row(method, window):
    scorer, panel = make(years=12, method=method, window=window)
    random = np.random.default_rng(0)
    titles = [random.choice(len(HARD_TITLES), size=random.integers(4), replace=False) for _ in range(panel.num_rows)]
    for found, law in zip(scorer.log_p_of(panel, titles), oracle(scorer, panel), strict=True):
        for row, asked, here in zip(law, titles, found, strict=True):
            np.testing.assert_allclose(here, row[asked], rtol=0, atol=1e-10)


def test_titles_longer_than_the_window_are_an_error_about_the_window():
    scorer, panel = make(workers=2)
    small = random_model("gpt2", scorer.tokenizer.get_vocab_size(), window=scorer.units.longest - 1)
    with pytest.warns(UserWarning, match="one text per title"):
        none = TitleScorer(small, scorer.tokenizer, occupations=panel.occupations, template=scorer.template)
    with pytest.raises(TokenizerError, match="exceed the model's window"):
        none.score(panel)


def test_rotary_angles_that_change_with_the_length_of_a_text_are_those_of_the_prompt_alone():
    scorer, panel = make(family="phi3, longrope", years=12, workers=4)
    assert scorer.method == "tree"
    assert scorer.score(panel).table["n_rows_dropped"].to_numpy().max() > 0
    raw, _ = oracle(scorer, panel)
    found = scorer.score(panel, titles="all")
    np.testing.assert_allclose(found.log_p, raw[np.arange(len(raw)), panel.states()], rtol=0, atol=1e-10)


@pytest.mark.parametrize("block", [1, 7, 100])
def test_the_vocabulary_may_be_read_in_blocks_of_any_size(monkeypatch, block):
    monkeypatch.setattr("laborllm.score.head.LEAST_BLOCK", block)
    scorer, panel = make(workers=3)
    assert scorer.method == "tree"
    raw, _ = oracle(scorer, panel)
    found = scorer.score(panel, titles="all", keep_law=True)
    np.testing.assert_allclose(found.log_p_all, raw, rtol=1e-6)
    np.testing.assert_allclose(found.log_p, raw[np.arange(len(raw)), panel.states()], rtol=0, atol=1e-10)


def test_any_budget_bounds_the_rows_of_a_pass_but_for_a_single_longer_text():
    scorer, panel = make(years=7, workers=6)
    _, tokens = scorer.texts(panel)
    longest = int((tokens.stops[tokens.rows[1:] - 1] - 1).max())
    for max_rows in (64, 150, 400):
        other = TitleScorer(
            scorer.model,
            scorer.tokenizer,
            occupations=panel.occupations,
            template=scorer.template,
            max_rows=max_rows,
        )
        sizes: list[int] = []
        with before_each_pass(other, lambda kwargs, sizes=sizes: sizes.append(kwargs["input_ids"].shape[1])):
            for titles, law in (("observed", "raw"), ("all", "raw"), ("all", "masked")):
                other.score(panel, titles=titles, law=law)
        assert max(sizes) <= max(max_rows, longest)
        assert np.mean(sizes) > max_rows / 8  # trunks whose keys are kept fill a quarter
