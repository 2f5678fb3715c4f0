"""Training learns what it is shown, nothing else, and gives the same weights for the same seed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from laborllm.errors import FileError, ModelError, PanelError
from laborllm.models.counts import Markov
from laborllm.models.language import LanguageModel
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.resume import Template, render
from laborllm.synth import World
from laborllm.tokens import TitleUnits, Tokens, encode, title_units
from laborllm.train import Schedule, TrainingOptions, load_base, make_base, train
from laborllm.train.loop import label_weights
from laborllm.train.loss import weighted_loss
from laborllm.windows import Windows, training_windows, whole_careers
from tests.models import byte_level
from tests.samples import HARD_TITLES, careers

TEMPLATE = Template.load("labor-llm")


@pytest.fixture(scope="module")
def panel() -> Panel:
    table = careers(HARD_TITLES, workers=40, years=4)
    whole = Panel.from_arrow(table, occupations=Occupations.from_titles(HARD_TITLES), dataset="TEST")
    return whole.with_split({"train": 0.6, "val": 0.2, "test": 0.2})


@pytest.fixture(scope="module")
def base(panel, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    make_base([panel.part("train")], folder, template=TEMPLATE)
    return str(folder)


def tune(
    base: str, panel: Panel, *, lora_rank: int | None = 4, weighted: bool = False, **options: object
) -> LanguageModel:
    settings = TrainingOptions(**{"epochs": 1, "learning_rate": 3e-3, "batch_size": 8, **options})
    model = LanguageModel(base, options=settings, lora_rank=lora_rank)
    return model.fit(panel.part("train"), panel.part("val"), weighted=weighted)


def test_the_schedule_rises_then_falls_to_zero_at_the_planned_end():
    for kind in ("linear", "cosine"):
        factors = [Schedule(total=100, warmup=0.1, kind=kind).factor(step) for step in range(101)]
        assert factors[9] == 1
        assert factors[:10] == sorted(factors[:10])
        assert factors[10:] == sorted(factors[10:], reverse=True)
        assert factors[100] == pytest.approx(0, abs=1e-12)


def test_three_epochs_of_a_plan_of_five_are_no_plan_of_three():
    assert Schedule(total=50).factor(29) > Schedule(total=30).factor(29)


def test_the_loss_is_the_sum_over_labels_whatever_the_batch():
    torch.manual_seed(0)
    logits, ids = torch.randn(6, 9, 20, dtype=torch.float64), torch.randint(20, (6, 9))
    weights = torch.rand(6, 9, dtype=torch.float64) * (torch.rand(6, 9) > 0.5)
    whole = weighted_loss(logits, ids, weights)
    parts = sum(weighted_loss(logits[i : i + 1], ids[i : i + 1], weights[i : i + 1]) for i in range(6))
    log_p = torch.log_softmax(logits, -1)[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)
    assert float(whole) == pytest.approx(float(parts), rel=1e-6)
    assert float(whole) == pytest.approx(float(-(log_p * weights[:, 1:]).sum()), rel=1e-6)


def labelled(panel: Panel, targets: np.ndarray, *, loss_on: str) -> list[str]:
    template = TEMPLATE.bind(panel.table.column_names)
    texts = render(panel, template).read_all()
    tokenizer = byte_level(texts["resume"].to_pylist())
    tokens = encode(texts, tokenizer, units=title_units(tokenizer, panel.occupations, template))
    weights = label_weights(tokens, whole_careers(panel), targets, None, loss_on=loss_on)
    bounds = zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    return [tokenizer.decode(tokens.ids[a:b][weights[a:b] > 0].tolist(), skip_special_tokens=False) for a, b in bounds]


def test_labels_on_titles_are_the_titles_and_their_newlines(panel):
    shown = labelled(panel, panel.targets, loss_on="titles")
    titles = np.array(panel.occupations.titles)[panel.states()]
    for text, a, b in zip(shown, panel.starts[:-1], panel.starts[1:], strict=True):
        assert text == "".join(f" {title}\n" for title in titles[a:b])


def test_labels_on_all_tokens_are_the_resume_without_its_first_token(panel):
    template = TEMPLATE.bind(panel.table.column_names)
    assert labelled(panel, panel.targets, loss_on="all") == render(panel, template).read_all()["resume"].to_pylist()


def test_rows_that_are_no_targets_carry_no_label(panel):
    targets = np.zeros(panel.num_rows, bool)
    targets[panel.starts[1:] - 1] = True
    years = panel.years()
    for text, a, b in zip(labelled(panel, targets, loss_on="all"), panel.starts[:-1], panel.starts[1:], strict=True):
        assert str(years[b - 1]) in text
        assert all(f"\n{year} (" not in f"\n{text}" for year in years[a : b - 1])


def long_careers(titles: tuple[str, ...], *, workers: int = 5, years: int = 20) -> Panel:
    table = careers(titles, workers=workers, years=years)
    return Panel.from_arrow(table, occupations=Occupations.from_titles(titles), dataset="TEST")


def windowed(panel: Panel, *, limit: int, texts: list[str] | None = None) -> tuple[Windows, Tokens, TitleUnits]:
    """The training texts under a window, by a tokenizer of the panel's resumes or of other texts."""
    template = TEMPLATE.bind(panel.table.column_names)
    tokenizer = byte_level(texts or render(panel, template).read_all()["resume"].to_pylist())
    units = title_units(tokenizer, panel.occupations, template)

    def encoded(first: np.ndarray, stop: np.ndarray) -> Tokens:
        return encode(render(panel, template, windows=(first, stop)), tokenizer, units=units)

    whole = encoded(panel.starts[:-1], panel.starts[1:])
    windows, tokens = training_windows(panel, whole, encoded, limit=limit)
    return windows, tokens, units


@pytest.mark.parametrize("limit", [90, 120, 200])
def test_a_career_longer_than_the_window_becomes_texts_in_which_each_title_is_a_label_once(limit):
    panel = long_careers(HARD_TITLES)
    windows, tokens, units = windowed(panel, limit=limit)
    fresh = np.concatenate([np.arange(a, b) for a, b in zip(windows.fresh, windows.stop, strict=True)])
    assert fresh.tolist() == list(range(panel.num_rows))
    assert tokens.lengths.max() <= limit
    assert len(windows) > panel.num_workers
    weights = label_weights(tokens, windows, panel.targets, None, loss_on="titles")
    assert (weights > 0).sum() == sum(len(units.ids[state]) for state in panel.states())


def test_a_base_can_be_loaded_by_anyone_and_the_same_seed_gives_the_same_bytes(base, panel, tmp_path):
    make_base([panel.part("train")], tmp_path / "again", template=TEMPLATE)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        with open(f"{base}/{name}", "rb") as file:
            assert file.read() == (tmp_path / "again" / name).read_bytes()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoModelForCausalLM.from_pretrained(base).config.vocab_size == len(AutoTokenizer.from_pretrained(base))


@pytest.mark.parametrize("lora_rank", [4, None])
def test_training_twice_with_one_seed_gives_the_same_predictions_and_another_seed_others(base, panel, lora_rank):
    first, second, third = (tune(base, panel, lora_rank=lora_rank, seed=seed) for seed in (1, 1, 2))
    test = panel.part("test")
    np.testing.assert_array_equal(first.predict(test).log_p, second.predict(test).log_p)
    assert np.abs(first.predict(test).log_p - third.predict(test).log_p).max() > 1e-6


@pytest.mark.parametrize("lora_rank", [4, None])
def test_a_saved_model_predicts_the_same_after_loading(base, panel, lora_rank, tmp_path):
    model = tune(base, panel, lora_rank=lora_rank)
    model.save(tmp_path / "model")
    test = panel.part("test")
    loaded = LanguageModel.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(test).log_p, model.predict(test).log_p)
    assert loaded.predict(test).metadata == model.predict(test).metadata
    assert not list((tmp_path / "model").rglob("*.bin"))
    with pytest.raises(FileError, match="exists"):
        model.save(tmp_path / "model")


def test_the_adapter_is_a_plain_peft_directory(base, panel, tmp_path):
    from peft import PeftModel

    model = tune(base, panel)
    model.save(tmp_path / "model")
    alone = PeftModel.from_pretrained(load_base(base), str(tmp_path / "model" / "adapter")).eval()
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        torch.testing.assert_close(alone(ids).logits, model.scorer.model(ids).logits)


def test_an_exported_model_is_a_base_with_the_adapters_merged(base, panel, tmp_path):
    model = tune(base, panel)
    model.export(tmp_path / "merged")
    again = tune(str(tmp_path / "merged"), panel, lora_rank=None, epochs=0)
    test = panel.part("test")
    np.testing.assert_allclose(again.predict(test).log_p, model.predict(test).log_p, atol=1e-4)


def test_the_best_epoch_is_kept_and_no_epoch_leaves_the_base_as_it_was(base, panel):
    wild = tune(base, panel, epochs=3, learning_rate=0.5, clip=1e9)
    test = panel.part("val")
    assert -wild.predict(test).log_p.mean() == pytest.approx(min(epoch.val_nll for epoch in wild.history), rel=1e-6)
    untouched = tune(base, panel, epochs=0)
    assert len(untouched.history) == 1


def test_fit_reads_no_row_of_another_split(base, panel):
    table = panel.table
    position = table.column_names.index("occupation")
    elsewhere = np.array([value == "test" for value in table["split"].to_pylist()])
    titles = np.array(table["occupation"].to_pylist())
    titles[elsewhere] = HARD_TITLES[0]
    import pyarrow as pa

    poisoned = Panel.from_arrow(
        table.set_column(position, "occupation", pa.array(titles.tolist())), occupations=panel.occupations
    )
    assert elsewhere.any()
    first, second = tune(base, panel), tune(base, poisoned)
    assert first._weights_hash == second._weights_hash


def test_weights_of_one_change_nothing_and_rows_of_weight_zero_are_not_learned(base, panel):
    import pyarrow as pa

    def weighted(values: np.ndarray) -> LanguageModel:
        table = panel.table.append_column("weight", pa.array(values))
        return tune(base, Panel.from_arrow(table, occupations=panel.occupations), weighted=True)

    test = panel.part("test")
    plain = tune(base, panel).predict(test).log_p
    np.testing.assert_allclose(weighted(np.ones(panel.num_rows)).predict(test).log_p, plain, atol=1e-5)
    random = np.random.default_rng(0).random(panel.num_rows)
    assert np.abs(weighted(random).predict(test).log_p - plain).max() > 1e-4
    with pytest.raises(ModelError, match="no token carries a label"):
        weighted(np.zeros(panel.num_rows))


def test_a_model_learns_a_world_whose_next_occupation_is_certain(tmp_path):
    cycle = np.roll(np.eye(4), 1, axis=1)
    world = World.markov(("Cooks", "Clerks", "Managers", "Physicians"), np.full(4, 0.25), cycle)
    panel = Panel.from_arrow(world.simulate(400, 6), occupations=world.occupations, dataset="W")
    panel = panel.with_split({"train": 0.8, "val": 0.1, "test": 0.1})
    template = Template(name="plain", version=1, header="{dataset}\n", row="{year}: {title}\n", end="", missing={})
    make_base([panel.part("train")], tmp_path / "base", template=template)
    options = TrainingOptions(epochs=4, learning_rate=2e-3, batch_size=8)
    model = LanguageModel(tmp_path / "base", options=options, lora_rank=None, template=template)
    found = model.fit(panel.part("train"), panel.part("val")).predict(panel.part("test"))
    assert np.exp(-found.log_p[~found.first].mean()) < 1.05
    assert 3.8 < np.exp(-found.log_p[found.first].mean()) < 4.4


def test_a_base_without_weights_a_missing_base_and_a_changed_base_are_named(base, panel, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"empty holds no weights \(\*\.safetensors\)"):
        load_base(tmp_path / "empty")
    with pytest.raises(ModelError, match=r"no base directory .*nowhere"):
        load_base(tmp_path / "nowhere")
    copied = tmp_path / "copied"
    shutil.copytree(base, copied)
    tune(str(copied), panel).save(tmp_path / "model")
    make_base([panel.part("train")], copied, template=TEMPLATE, seed=9, overwrite=True)
    with pytest.raises(ModelError, match=r"copied has changed since"):
        LanguageModel.load(tmp_path / "model")


def test_weights_that_were_swapped_after_saving_are_noticed(base, panel, tmp_path):
    tune(base, panel, seed=1).save(tmp_path / "one")
    tune(base, panel, seed=2).save(tmp_path / "two")
    (tmp_path / "two" / "adapter" / "adapter_model.safetensors").replace(
        tmp_path / "one" / "adapter" / "adapter_model.safetensors"
    )
    with pytest.raises(ModelError, match="not those that were saved"):
        LanguageModel.load(tmp_path / "one")


def test_a_model_directory_says_what_it_was_made_of(base, panel, tmp_path):
    model = tune(base, panel)
    model.save(tmp_path / "model")
    facts = json.loads((tmp_path / "model" / "laborllm.json").read_text())
    assert facts["kind"] == "language"
    assert facts["occupations_hash"] == panel.occupations.hash
    assert facts["template_hash"] == model.scorer.template.hash
    assert facts["datasets"] == ["TEST"]
    assert facts["redistributable"] is False


def test_the_history_of_another_split_is_shown_and_not_learned(base, panel):
    import pyarrow as pa

    split = np.array(panel.column("split").to_pylist())
    early = (panel.years() < 1984) & (split == "train")
    divided = pa.array(np.where(early, "earlier", split).tolist())
    table = panel.table.drop_columns(["split"]).append_column("split", divided)

    def hash_with(weight: float) -> str:
        weights = pa.array(np.where(early, weight, 1.0))
        divided = Panel.from_arrow(table.append_column("weight", weights), occupations=panel.occupations)
        assert not divided.part("train").targets.all()
        return tune(base, divided, weighted=True)._weights_hash

    assert hash_with(1.0) == hash_with(50.0)


def test_padding_carries_no_loss_so_that_the_size_of_a_batch_does_not_change_the_mean(base, panel):
    losses = [tune(base, panel, learning_rate=0.0, batch_size=size).history[1].train_loss for size in (1, 40)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_rate_of_every_step_follows_the_schedule(base, panel, monkeypatch):
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def recorded(optimizer: torch.optim.AdamW, *args: object) -> object:
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    tune(base, panel, epochs=2, learning_rate=1e-3, batch_size=4)
    schedule = Schedule(total=len(rates))
    assert len(rates) == 2 * -(-panel.part("train").num_workers // 4)
    assert rates == pytest.approx([1e-3 * schedule.factor(number) for number in range(len(rates))])


def test_later_windows_of_a_career_show_half_a_window_of_history_give_or_take_a_row():
    windows, tokens, _ = windowed(long_careers(HARD_TITLES), limit=200)
    later, shown = windows.dropped > 0, windows.fresh - windows.first
    assert later.any()
    assert (shown[later] > 0).all()
    history = tokens.stops[tokens.rows[:-1] + shown - 1][later]
    assert np.abs(history - 100).max() <= np.diff(tokens.stops).max()


@pytest.mark.parametrize("measured", [[5.0, 1.0, 3.0], [1.0, 5.0, 3.0], [5.0, 3.0, 1.0]])
def test_the_weights_kept_are_those_of_the_epoch_that_measured_lowest(base, panel, measured):
    model = tune(base, panel, epochs=0).scorer.model
    ids = np.arange(3, 23, dtype=np.int32)
    none = np.zeros(0, np.int32)
    tokens = Tokens(ids, np.array([0, 10, 20]), np.zeros(3, np.int64), none, none, none)
    seen: list[list[torch.Tensor]] = []

    def validate() -> float:
        seen.append([p.detach().clone() for p in model.parameters() if p.requires_grad])
        return measured[len(seen) - 1]

    options = TrainingOptions(epochs=2, learning_rate=1e-2, batch_size=1)
    history = train(model, tokens, np.ones(20, np.float32), options, validate=validate)
    assert [epoch.val_nll for epoch in history] == measured
    kept = [p for p in model.parameters() if p.requires_grad]
    same = [all(map(torch.equal, kept, weights)) for weights in seen]
    assert same == [value == 1.0 for value in measured]


@pytest.mark.parametrize("limit", range(160, 330, 6))
def test_a_window_is_refused_only_where_one_row_does_not_fit(limit):
    titles = ("Cooks " + "x9 " * 18 + "a", "Clerks " + "y7 " * 18 + "b")
    panel = long_careers(titles, workers=4, years=8)
    windows, tokens, _ = windowed(panel, limit=limit, texts=[TEMPLATE.header + "1984 (college): 0123456789 xyab"])
    assert tokens.lengths.max() <= limit
    fresh = np.concatenate([np.arange(a, b) for a, b in zip(windows.fresh, windows.stop, strict=True)])
    assert fresh.tolist() == list(range(panel.num_rows))


def test_held_out_rows_in_the_history_of_training_rows_are_refused_with_the_worker(base, panel):
    import pyarrow as pa

    split = np.where(np.arange(panel.num_rows) % 2 == 0, "test", "train")
    split[-1] = "val"
    table = panel.table.drop_columns(["split"]).append_column("split", pa.array(split.tolist()))
    divided = Panel.from_arrow(table, occupations=panel.occupations)
    with pytest.raises(PanelError, match=r"worker \d+ has a held-out row in \d+ before a row to be fitted on"):
        tune(base, divided)
    with pytest.raises(PanelError, match="split by worker"):
        Markov().fit(divided.part("train"), divided.part("val"))


def test_a_model_is_used_from_another_folder_and_says_when_its_base_or_adapter_is_gone(
    base, panel, tmp_path, monkeypatch
):
    shutil.copytree(base, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    tune("base", panel, epochs=0).save("model")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(LanguageModel.load(tmp_path / "model").predict(panel.part("test")))
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(ModelError, match=r"base of .*model, .*base, is no longer there"):
        LanguageModel.load(tmp_path / "model")
    (tmp_path / "moved").rename(tmp_path / "base")
    (tmp_path / "model" / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no adapter"):
        LanguageModel.load(tmp_path / "model")


@pytest.mark.parametrize("damage", ["missing", "no JSON", "no keys"])
def test_a_directory_that_is_no_whole_model_is_one_error(damage, tmp_path):
    if damage != "missing":
        (tmp_path / "laborllm.json").write_text("{" if damage == "no JSON" else '{"kind": "language"}')
    with pytest.raises(ModelError, match="is no whole language model directory"):
        LanguageModel.load(tmp_path)


def test_damaged_weights_are_one_error(base, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    weights = tmp_path / "base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_base(tmp_path / "base")


@pytest.mark.parametrize(
    "wrong", [{"learning_rate": float("nan")}, {"learning_rate": -1}, {"epochs": -1}, {"seed": -1}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ModelError, match="out of range"):
        TrainingOptions(**wrong)
