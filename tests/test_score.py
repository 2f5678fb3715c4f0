"""The law over titles: every fast path equals the naive one, and the three laws are what their names say."""

from __future__ import annotations

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from laborllm.errors import PredictionsError
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.resume import Template, render
from laborllm.score import TitleScorer, reference
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


def test_a_model_whose_cache_cannot_be_cut_is_scored_text_by_text_with_a_warning(monkeypatch):
    scorer, panel = make(workers=3)
    expected = scorer.score(panel).log_p

    def broken(*_: object) -> None:
        raise AttributeError("no keys")

    monkeypatch.setattr("laborllm.score.passes.DynamicCache", broken)
    with pytest.warns(UserWarning, match="one text per title"):
        slow = TitleScorer(scorer.model, scorer.tokenizer, occupations=scorer.occupations, template=scorer.template)
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
