from __future__ import annotations

import json
import tracemalloc
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laborllm.errors import FileError, LaborLLMError, ModelError, PanelError
from laborllm.models import load_model
from laborllm.models.choosing import GRIDS, untuned
from laborllm.models.counts import (
    MODELS,
    Covariates,
    Laplace,
    Marginal,
    Markov,
    Markov2,
    OwnHistory,
    Tenure,
    TwoStage,
    Uniform,
)
from laborllm.models.counts_files import ladders_from_table, ladders_to_table
from laborllm.models.ladder import Exclusion, Rung, bound
from laborllm.models.tallies import Tally
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.synth import World
from tests.count_twin import Twin, events
from tests.panels import real_panel

GIVEN = {  # odd values, so that no two can be confused
    kind: {
        name: {"backoff": 2.5, "discount": 0.3, "retention": 0.6}[name.rsplit("_", 1)[1]] * (1 + place / 100)
        for place, name in enumerate(model().get_params())
    }
    for kind, model in MODELS.items()
}
WORLD = World.random(6, stay=0.6, zipf=1.0, spread=1.5, seed=1)
QUICK = settings(deadline=None, max_examples=15)
pytestmark = pytest.mark.filterwarnings("ignore:.*hold a value that training never saw")
every_model = pytest.mark.parametrize("kind", list(MODELS))


def occupations(num_titles):
    return Occupations.from_titles([f"Job {j}" for j in range(num_titles)])


def panel(careers, num_titles, *, weights=None, ids=None, gaps=0):
    """One worker per list of states, weighted by worker; traits and years follow from the worker's number."""
    states = occupations(num_titles)
    rows = []
    for place, career in enumerate(careers):
        worker = place if ids is None else ids[place]
        kind = len(career) + sum(career)  # so that a worker's traits do not depend on the order of workers
        for t, j in enumerate(career):
            rows.append(
                {
                    "worker_id": worker,
                    "year": 2000 + t + gaps * (t > 1),
                    "occupation": states.titles[j],
                    "weight": 1.0 if weights is None else weights[place],
                    "gender": ["female", "male", None][kind % 3] if t or kind % 2 else None,
                    "birth_year": [1970, None, 1982][kind % 3] if t or kind % 2 else None,
                    "education": ["school", "college", None, "school"][(kind + t) % 4],
                }
            )
    return Panel.from_arrow(pa.Table.from_pylist(rows), occupations=states)


def every_history(num_titles):
    """Every pair of states as a history, every state as a first row: the law after each is asked for."""
    careers = [[k] for k in range(num_titles)]
    careers += [[i, j, k] for i in range(num_titles) for j in range(num_titles) for k in range(num_titles)]
    return panel(careers, num_titles)


def assert_close(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value is other[name] is None or value == pytest.approx(other[name], rel=1e-10)


def laws_after(model, num_titles):
    """Probabilities on first rows, then after each state with nothing before it, shape (J + 1, J)."""
    law = np.exp(model.law(panel([[j, 0] for j in range(num_titles)], num_titles)))
    return np.vstack([law[:1], law[1::2]])


def simulated(num_workers, num_years=8, *, world=WORLD, seed=0):
    table = world.simulate(num_workers, num_years, seed=seed)
    split = np.array(["train"] * 6 + ["val"] * 2 + ["test"] * 2)[np.arange(num_workers) % 10]
    return table.append_column("split", pa.array(np.repeat(split, num_years)))


def parts(table, world=WORLD):
    whole = Panel.from_arrow(table, occupations=world.occupations)
    return tuple(whole.part(split) for split in ("train", "val", "test"))


def fitted(kind, *, num_workers=300):
    train, val, _ = parts(simulated(num_workers))
    return MODELS[kind]().fit(train, val)


@st.composite
def careers_of(draw, *, min_titles=1):
    num_titles = draw(st.integers(min_titles, 5))
    career = st.lists(st.integers(0, num_titles - 1), min_size=1, max_size=6)
    return num_titles, draw(st.lists(career, min_size=1, max_size=8)), draw(st.lists(career, min_size=1, max_size=4))


@every_model
@QUICK
@given(world=careers_of(), gaps=st.integers(0, 3))
def test_every_model_equals_its_slow_twin_of_dictionaries(kind, world, gaps):
    num_titles, train, val = world
    data, asked = panel(train, num_titles, gaps=gaps), panel([*train, *val], num_titles, gaps=1)
    model = MODELS[kind](**GIVEN[kind]).fit(data, asked)
    titles = data.occupations.titles
    twin = Twin(kind, data, model.weights, titles)
    expected = np.array([[law[k] for k in titles] for law in map(twin.law, events(asked))])
    assert np.exp(model.law(asked)) == pytest.approx(expected, rel=1e-10, abs=1e-14)
    predictions = model.predict(asked)
    happened = [titles.index(e["occupation"]) for e in events(asked)]
    assert np.exp(predictions.log_p) == pytest.approx(expected[np.arange(len(expected)), happened], rel=1e-10)


@every_model
@QUICK
@given(world=careers_of())
def test_every_law_sums_to_one_and_gives_no_title_zero_first_rows_and_unseen_states_included(kind, world):
    num_titles, train, val = world
    for params in ({}, GIVEN[kind]):
        model = MODELS[kind](**params).fit(panel(train, num_titles), panel(val, num_titles))
        law = model.law(every_history(num_titles))
        assert np.isfinite(law).all()
        assert np.exp(law).sum(axis=1) == pytest.approx(np.ones(len(law)), abs=1e-12)


def test_a_state_nobody_held_gets_a_law_and_a_probability():
    train = panel([[0, 1, 1, 0]], 4)
    for kind, model in MODELS.items():
        law = laws_after(model().fit(train, train), 4)
        assert (law > 0).all(), kind


@QUICK
@given(world=careers_of(min_titles=2))
def test_vanishing_back_off_gives_raw_frequencies(world):
    num_titles, train, val = world
    data = panel(train, num_titles), panel(val, num_titles)
    pairs = Counter((career[t - 1], career[t]) for career in train for t in range(1, len(career)))
    for model in (
        Markov(next_backoff=1e-12, first_backoff=1e-12),
        TwoStage(stay_backoff=1e-12, move_backoff=1e-12, move_discount=0, first_backoff=1e-12),
    ):
        law = laws_after(model.fit(*data), num_titles)
        assert law[0] == pytest.approx(
            [sum(c[0] == k for c in train) / len(train) for k in range(num_titles)], abs=1e-9
        )
        for j in range(num_titles):
            leaving = sum(pairs[j, k] for k in range(num_titles))
            if leaving:
                raw = [pairs[j, k] / leaving for k in range(num_titles)]
                assert law[j + 1] == pytest.approx(raw, abs=1e-9)


@QUICK
@given(world=careers_of(min_titles=2))
def test_boundless_back_off_gives_what_all_states_share(world):
    num_titles, train, val = world
    data = panel(train, num_titles), panel(val, num_titles)
    marginal = laws_after(Marginal(first_backoff=1e15).fit(*data), num_titles)
    markov = laws_after(Markov(next_backoff=1e15, first_backoff=1e15).fit(*data), num_titles)
    assert markov == pytest.approx(np.tile(marginal[0], (num_titles + 1, 1)), rel=1e-9)
    assert marginal == pytest.approx(markov, rel=1e-9)
    two = laws_after(TwoStage(stay_backoff=1e15, move_backoff=1e15, move_discount=0).fit(*data), num_titles)[1:]
    assert np.diag(two) == pytest.approx(np.full(num_titles, two[0, 0]), rel=1e-9)
    moved_to = Counter(k for _, k in {(c[t - 1], c[t]) for c in train for t in range(1, len(c)) if c[t] != c[t - 1]})
    for j in range(num_titles):
        others = [k for k in range(num_titles) if k != j]
        shares = np.array([moved_to[k] + 0.5 for k in others])
        assert two[j, others] / (1 - two[j, j]) == pytest.approx(shares / shares.sum(), rel=1e-9)


@every_model
@QUICK
@given(world=careers_of(), seed=st.randoms(use_true_random=False))
def test_the_order_and_the_names_of_workers_do_not_matter(kind, world, seed):
    num_titles, train, val = world
    shuffled = list(train)
    seed.shuffle(shuffled)
    ids = seed.sample(range(1000), len(train))
    one = MODELS[kind]().fit(panel(train, num_titles), panel(val, num_titles))
    other = MODELS[kind]().fit(panel(shuffled, num_titles, ids=ids), panel(val, num_titles))
    assert one.hash == other.hash
    assert_close(one.val_perplexity, other.val_perplexity)


@every_model
@QUICK
@given(world=careers_of())
def test_weights_of_one_change_nothing(kind, world):
    num_titles, train, val = world
    data = panel(train, num_titles), panel(val, num_titles)
    plain, weighted = MODELS[kind]().fit(*data), MODELS[kind]().fit(*data, weighted=True)
    asked = every_history(num_titles)
    assert plain.law(asked) == pytest.approx(weighted.law(asked), abs=1e-10)


@every_model
@QUICK
@given(world=careers_of(), copies=st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_an_integer_weight_equals_that_many_copies_of_the_worker(kind, world, copies):
    num_titles, train, val = world
    n_train, n_val = [1, *copies[1 : len(train)]], [1, *copies[8 : 7 + len(val)]]
    copied_train, copied_val = (
        panel([c for c, n in zip(cs, ns, strict=True) for _ in range(n)], num_titles)
        for cs, ns in ((train, n_train), (val, n_val))
    )
    data = panel(train, num_titles, weights=n_train), panel(val, num_titles, weights=n_val)
    weighted, copied = MODELS[kind]().fit(*data, weighted=True), MODELS[kind]().fit(copied_train, copied_val)
    assert_close(weighted.val_perplexity, copied.val_perplexity)
    weighted = MODELS[kind](**GIVEN[kind]).fit(*data, weighted=True)  # beside equal choices there may be others
    copied = MODELS[kind](**GIVEN[kind]).fit(copied_train, copied_val)
    asked = every_history(num_titles)
    assert weighted.law(asked) == pytest.approx(copied.law(asked), abs=1e-10)


@every_model
def test_fit_reads_no_row_of_test(kind):
    table = simulated(300)
    poisoned = poison(table, "test")
    one, other = (MODELS[kind]().fit(*parts(t)[:2]) for t in (table, poisoned))
    assert one.hash == other.hash
    assert_close(one.val_perplexity, other.val_perplexity)


def test_a_whole_panel_is_not_fitted_on_for_its_rows_of_test():
    table = simulated(30)
    whole = Panel.from_arrow(table, occupations=WORLD.occupations)
    with pytest.raises(PanelError, match=r"worker 8 has a row of the split 'test' in 1980 .* give panel.part"):
        Markov().fit(whole, whole.part("val"))
    unsplit = Panel.from_arrow(table.drop_columns("split"), occupations=WORLD.occupations)
    assert Markov().fit(unsplit, unsplit).parameters()["first_rows"] == 30


@every_model
def test_val_rows_choose_the_weights_and_enter_no_count(kind):
    table = simulated(300)
    one, other = (MODELS[kind]().fit(*parts(t)[:2]) for t in (table, poison(table, "val")))
    sizes = ("transitions", "first_rows", "pairs")
    assert [one.parameters()[name] for name in sizes] == [other.parameters()[name] for name in sizes]
    chosen = {name: value for name, value in one.weights.items() if name in GIVEN[kind]}
    assert (one.weights != other.weights) == bool(chosen)
    kept = MODELS[kind](**chosen).fit(*parts(poison(table, "val"))[:2])
    assert kept.hash == one.hash


def poison(table, split):
    """Everybody in the split moves to the next title every year: what no other worker does."""
    where = np.array(table["split"].to_pylist()) == split
    titles = np.array(table["occupation"].to_pylist(), object)
    years = table["year"].to_numpy()
    titles[where] = np.array(WORLD.titles, object)[years[where] % len(WORLD.titles)]
    column = pa.array(titles.tolist(), pa.large_string())
    return table.set_column(table.column_names.index("occupation"), "occupation", column)


def test_rows_before_the_first_target_are_history_and_no_counts():
    table = simulated(20)
    late = np.where(table["year"].to_numpy() >= 1986, "train", "earlier")
    table = table.set_column(table.column_names.index("split"), "split", pa.array(late))
    train, val = (Panel.from_arrow(table, occupations=WORLD.occupations).part(name) for name in ("train", "earlier"))
    sizes = Markov().fit(train, val).parameters()
    assert (sizes["transitions"], sizes["first_rows"]) == (40, 0)


def test_the_weight_of_a_transition_is_that_of_its_target_row():
    states = occupations(2)
    table = pa.table(
        {
            "worker_id": [1, 1, 1, 1],
            "year": pa.array([2000, 2001, 2002, 2003], pa.int32()),
            "occupation": [states.titles[j] for j in (0, 1, 1, 0)],
            "weight": [8.0, 0.5, 2.0, 16.0],
            "split": ["earlier", "train", "train", "val"],
        }
    )
    whole = Panel.from_arrow(table, occupations=states)
    model = Laplace().fit(whole.part("train"), whole.part("val"), weighted=True)
    law = laws_after(model, 2)[1:]
    assert law == pytest.approx(np.array([[1 / 2.5, 1.5 / 2.5], [1 / 4, 3 / 4]]), rel=1e-12)


def test_the_hash_tells_models_apart_that_differ_in_one_count_or_weight():
    careers = [[[0, 1]], [[0, 1], [0]], [[0, 1], [1]], [[0, 1], [0, 1]], [[0, 1, 1]]]
    val = panel([[0, 1]], 2)
    models = [Markov(next_backoff=1, first_backoff=1).fit(panel(c, 2), val) for c in careers]
    models += [Markov(next_backoff=2, first_backoff=1).fit(val, val), Marginal(first_backoff=1).fit(val, val)]
    assert len({model.hash for model in models}) == len(models)


@pytest.mark.parametrize("kind", ["marginal", "markov", "two-stage", "markov-2", "own-history"])
def test_no_other_value_of_one_parameter_on_its_grid_is_better_on_val(kind):
    train, val, _ = parts(simulated(200))
    model = MODELS[kind]().fit(train, val)

    def val_loss(weights):
        other = MODELS[kind](**weights).fit(train, val)
        return -other.predict(val).log_p.mean()

    best = val_loss(model.weights)
    rng = np.random.default_rng(0)
    for name in rng.choice(list(model.weights), 60):
        grid = GRIDS[name.rsplit("_", 1)[1]]
        assert val_loss({**model.weights, name: float(rng.choice(grid))}) >= best - 1e-8, name


def test_val_perplexity_is_that_of_the_predictions_tuned_and_untuned():
    train, val, _ = parts(simulated(300))
    for kind in MODELS:
        model = MODELS[kind]().fit(train, val)
        plain = MODELS[kind](**{name: untuned(name) for name in model.get_params()}).fit(train, val)
        for suffix, used in (("", model), ("_untuned", plain)):
            predictions = used.predict(val)
            for name, rows in (("history", ~predictions.first), ("first", predictions.first)):
                expected = np.exp(-predictions.log_p[rows].mean())
                assert model.val_perplexity[name + suffix] == pytest.approx(expected, rel=1e-12)


def test_a_weight_without_a_val_row_to_choose_it_on_stays_at_one():
    model = TwoStage().fit(panel([[0, 1, 1], [1]], 3), panel([[0], [2]], 3))
    assert model.weights["stay_backoff"] == model.weights["move_backoff"] == 1.0
    assert model.val_perplexity["history"] is None


@every_model
def test_predictions_hold_the_normalized_law_of_the_row_and_of_its_previous_title(kind):
    _, _, test = parts(simulated(100))
    model = fitted(kind)
    short, full = model.predict(test), model.predict(test, titles="all")
    rows = np.arange(len(full))
    laws = model.law(test)
    assert full.law == "normalized"
    assert (full.title_mass == 1).all()
    assert full.log_p == pytest.approx(laws[rows, full.observed], rel=1e-12)
    assert np.array_equal(full.log_p_raw, full.log_p)
    assert np.array_equal(np.isnan(full.log_p_previous), full.first)
    history = ~full.first
    assert full.log_p_previous[history] == pytest.approx(laws[rows, full.previous][history], rel=1e-12)
    assert full.log_p_all == pytest.approx(laws, abs=1e-6)
    assert short.log_p_all is None
    assert short.log_p == pytest.approx(full.log_p, rel=1e-12)
    assert short.metadata["model_hash"] == model.hash
    assert [full.metadata[name] for name in ("kind", "covariates", "seed")] == [kind, [], None]


def test_deleting_later_rows_of_a_worker_changes_no_prediction():
    model = fitted("two-stage")
    table = simulated(40)
    full = model.predict(parts(table)[2])
    early = model.predict(parts(table.filter(pa.compute.less(table["year"], 1984)))[2])
    assert np.array_equal(early.log_p, full.log_p[full.year < 1984])


def test_uniform_perplexity_is_exactly_the_number_of_titles():
    _, _, test = parts(simulated(50))
    log_p = fitted("uniform").predict(test).log_p
    assert np.exp(-log_p.mean()) == pytest.approx(6, rel=1e-14)


@every_model
def test_a_saved_model_comes_back_exactly(kind, tmp_path):
    model = fitted(kind)
    model.save(tmp_path / "model")
    for back in (MODELS[kind].load(tmp_path / "model"), load_model(tmp_path / "model")):
        assert type(back) is MODELS[kind]
        assert back.hash == model.hash
        assert (back.weights, back.val_perplexity, back.weighted) == (model.weights, model.val_perplexity, False)
        assert (back.parameters(), back.get_params()) == (model.parameters(), model.get_params())
        assert back.occupations == model.occupations
        assert np.array_equal(back.law(every_history(6)), model.law(every_history(6)))
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["counts.parquet", "laborllm.json"]
    assert json.loads((tmp_path / "model" / "laborllm.json").read_text())["redistributable"] is False


def test_a_model_directory_is_not_overwritten_unasked(tmp_path):
    fitted("markov").save(tmp_path / "model")
    with pytest.raises(FileError, match="exists"):
        fitted("laplace").save(tmp_path / "model")
    fitted("laplace").save(tmp_path / "model", overwrite=True)
    assert load_model(tmp_path / "model").kind == "laplace"


def test_a_directory_that_holds_another_model_or_strange_counts_is_refused(tmp_path):
    fitted("markov").save(tmp_path / "model")
    with pytest.raises(ModelError, match="'markov', not two-stage"):
        TwoStage.load(tmp_path / "model")
    fitted("laplace").save(tmp_path / "laplace")
    with pytest.raises(ModelError, match="'laplace', not uniform"):
        Uniform.load(tmp_path / "laplace")
    fitted("markov", num_workers=20).save(tmp_path / "other")
    (tmp_path / "other" / "counts.parquet").replace(tmp_path / "model" / "counts.parquet")
    with pytest.raises(ModelError, match="is not the one"):
        Markov.load(tmp_path / "model")
    (tmp_path / "model" / "counts.parquet").write_bytes(b"PAR1 no longer")
    with pytest.raises(FileError, match=r"counts\.parquet"):
        Markov.load(tmp_path / "model")
    about = json.loads((tmp_path / "model" / "laborllm.json").read_text())
    del about["hash"]
    for text in (json.dumps(about), "{}"):
        (tmp_path / "model" / "laborllm.json").write_text(text)
        with pytest.raises(ModelError, match="describes no count model"):
            Markov.load(tmp_path / "model")
    (tmp_path / "model" / "laborllm.json").write_text('{"kind": "mystery"}')
    with pytest.raises(ModelError, match="'mystery', which this package does not know"):
        load_model(tmp_path / "model")
    with pytest.raises(ModelError, match="nowhere"):
        Markov.load(tmp_path / "nowhere")


def test_params_are_read_changed_and_checked_by_name():
    model = TwoStage(stay_backoff=4)
    assert model.get_params() == {
        "first_backoff": None,
        "stay_backoff": 4,
        "move_backoff": None,
        "move_discount": None,
    }
    assert model.set_params(move_backoff=2.0).get_params()["move_backoff"] == 2.0
    train, val, _ = parts(simulated(100))
    assert model.fit(train, val).weights["stay_backoff"] == 4
    assert model.get_params()["first_backoff"] is None


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda: Markov().law(panel([[0]], 2)), ModelError, "call fit"),
        (lambda: Markov(next_backoff=-1.0), ModelError, "next_backoff=-1.0 is no backoff"),
        (lambda: Markov(next_backoff=float("nan")), ModelError, "give a positive number"),
        (lambda: TwoStage(move_discount=1.0), ModelError, "from 0 up, below 1"),
        (lambda: OwnHistory(own_retention=0.0), ModelError, "above 0, 1 at most"),
        (lambda: Markov().set_params(smoothing=1.0), ModelError, "it has first_backoff, next_backoff"),
        (lambda: Markov().fit(panel([[0]], 2), panel([[0]], 3)), ModelError, "different occupations"),
        (lambda: fitted("markov").predict(panel([[0]], 2)), ModelError, "2 occupations are not the 6"),
        (lambda: fitted("markov").predict(panel([[0]], 6), titles="some"), ModelError, "'observed' or 'all'"),
        (lambda: fitted("markov").predict(panel([[0]], 6), top=0), ModelError, "top=0 names no title"),
        (
            lambda: Markov().fit(panel([[0], [1, 1]], 2, weights=[1, None]), panel([[0]], 2), weighted=True),
            LaborLLMError,
            "worker 1",
        ),
        (
            lambda: Markov().fit(panel([[0], [1, 1]], 2, weights=[1, -2.0]), panel([[0]], 2), weighted=True),
            PanelError,
            "weight",
        ),
        (
            lambda: Markov().fit(panel([[0]], 2, weights=["much"]), panel([[0]], 2), weighted=True),
            PanelError,
            "cast it to numbers",
        ),
        (
            lambda: Markov().fit(panel([[0]], 2, weights=[0.0]), panel([[0]], 2), weighted=True),
            ModelError,
            "no row of positive weight",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(act, error, words):
    with pytest.raises(error, match=words) as caught:
        act()
    assert "\n" not in str(caught.value)


@QUICK
@given(
    data=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6), st.integers(0, 5)), max_size=60),
    asked=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), max_size=20),
    discount=st.floats(0, 0.95),
)
def test_pairs_are_counted_as_a_dictionary_counts_them(data, asked, discount):
    rows, wanted = np.array(data, np.int64).reshape(-1, 3), np.array(asked, np.int64).reshape(-1, 2)
    expected = Counter()
    for j, k, n in data:
        expected[j, k] += n
    tally = Tally.of([(rows[:, 0].copy(), 10)], rows[:, 1].copy(), num_outcomes=7, weights=rows[:, 2].astype(float))
    places = tally.places(wanted[:, 0])
    assert tally.at(places, wanted[:, 1:])[:, 0].tolist() == [expected[pair] for pair in asked]
    assert tally.dense(places).tolist() == [[expected[j, k] for k in range(7)] for j, _ in asked]
    assert tally.totals[places].tolist() == [sum(expected[j, k] for k in range(7)) for j, _ in asked]
    removed = [sum(min(expected[j, k], discount) for k in range(7)) for j, _ in asked]
    assert tally.removed(discount)[places] == pytest.approx(removed, rel=1e-12)


def test_a_table_of_counts_with_strange_columns_or_outcomes_is_refused(tmp_path):
    ladders = fitted("markov")._ladders
    table, plans = ladders_to_table(ladders), {name: ladder.plan for name, ladder in ladders.items()}
    with pytest.raises(ModelError, match="outside the 3"):
        ladders_from_table(table, plans, num_titles=3)
    with pytest.raises(ModelError, match="not ladder, rung, context, outcome, count"):
        ladders_from_table(table.rename_columns(list("abcde")), plans, num_titles=6)


def test_covariates_that_the_training_panel_lacks_are_left_out_of_the_model():
    train, val, test = parts(simulated(100))
    bare, own = Covariates().fit(train, val), OwnHistory().fit(train, val)
    assert bare.covariates == []
    assert bare.predict(test).metadata["covariates"] == []
    assert set(own.weights) <= set(bare.weights)  # what is left is the own-history model by gap and period
    assert not [name for name in bare.weights if "gender" in name or "education" in name or "age" in name]


def test_a_column_that_the_model_was_fitted_with_is_missed_by_name():
    model = Covariates().fit(panel([[0, 1, 1]], 2), panel([[0, 1]], 2))
    assert model.covariates == ["birth_year", "education", "gender"]
    bare = panel([[0, 1]], 2)
    bare = Panel.from_arrow(bare.table.drop_columns(["education"]), occupations=bare.occupations)
    with pytest.raises(ModelError, match="no column 'education'"):
        model.predict(bare)


def test_a_value_unseen_in_training_is_counted_and_the_coarser_law_used():
    train = panel([[0, 1, 1, 0], [1, 0, 1], [2, 2, 1, 0, 1]], 3)
    model = Covariates().fit(train, train)
    asked = panel([[0, 1, 0]], 3)
    column = pa.array(["a level nobody had"] * 3)
    strange = asked.table.set_column(asked.table.column_names.index("education"), "education", column)
    strange = Panel.from_arrow(strange, occupations=asked.occupations)
    with pytest.warns(UserWarning, match="education: 3 of 3 rows hold a value that training never saw"):
        predictions = model.predict(strange, titles="all")
    assert np.exp(predictions.log_p_all).sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_the_target_row_shows_its_year_and_education_and_nothing_else():
    train = panel([[0, 1, 1, 0], [1, 0, 1], [2, 2, 1, 0, 1]], 3)
    model = Covariates().fit(train, train)
    asked = panel([[0, 1, 2, 1]], 3)
    plain = model.predict(asked)
    for name, value in (("occupation", asked.occupations.titles[0]), ("weight", 9.0)):
        values = asked.table[name].to_pylist()
        column = pa.array([*values[:-1], value])
        changed = asked.table.set_column(asked.table.column_names.index(name), name, column)
        changed = Panel.from_arrow(changed, occupations=asked.occupations)
        assert model.law(changed)[-1] == pytest.approx(model.law(asked)[-1], abs=1e-15), name
    assert len(plain) == 4


def test_population_weights_are_told_before_they_outweigh_everything():
    train = panel([[0, 1, 1], [1, 0]], 2, weights=[240_000.0, 0.0])
    with pytest.warns(UserWarning, match="the weights average 240,000"):
        Markov().fit(train, train, weighted=True)
    Markov().fit(train, train)


def test_counts_made_in_other_bins_are_refused(tmp_path):
    fitted("tenure").save(tmp_path / "model")
    about = json.loads((tmp_path / "model" / "laborllm.json").read_text())
    about["bins"]["tenure"] = 4
    (tmp_path / "model" / "laborllm.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match="counts in bins of"):
        Tenure.load(tmp_path / "model")


def test_a_plan_drops_what_a_panel_cannot_give_and_rungs_that_then_say_nothing_new():
    plan = (Rung("a", ("age",)), Rung("b", ("age", "gap")), Rung("c", ("gap",)), Exclusion(), Rung("d", ("gap", "x")))
    assert bound(plan, lambda name: name not in {"age", "x"}) == (Rung("b", ("gap",)), Rung("c", ("gap",)), Exclusion())
    assert bound(plan, lambda _: True) == plan


def test_forty_three_thousand_titles_need_no_matrix_of_them():
    size = 43_000
    rng = np.random.default_rng(0)
    previous, occupation = rng.integers(-1, size, 20_000), rng.integers(0, size, 20_000)
    states = occupations(size)
    careers = [[j, k] if j >= 0 else [k] for j, k in zip(previous.tolist(), occupation.tolist(), strict=True)]
    train, val = panel(careers[:15_000], size), panel(careers[15_000:], size)
    tracemalloc.start()
    for model in (Marginal(), Laplace(), Markov(), TwoStage(), Markov2(), Tenure(), OwnHistory()):
        assert np.isfinite(model.fit(train, val).predict(val).log_p).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(states) == size
    assert peak < 200e6  # a dense matrix takes 14.8e9


@pytest.fixture(scope="module")
def big_world():
    """The named world, 20,000 workers x 16 years, six in ten of them for counting."""
    world = World.named("markov-50")
    return world, parts(simulated(20_000, 16, world=world), world)


def test_tuned_markov_comes_within_one_percent_of_the_optimum(big_world):
    world, (train, val, test) = big_world
    predictions = Markov().fit(train, val).predict(test)
    history = ~predictions.first
    ratio = np.exp((world.optimum(test).log_p - predictions.log_p)[history].mean())
    assert 1 <= ratio <= 1.01


@every_model
def test_no_model_beats_the_optimum_by_more_than_luck(big_world, kind):
    world, (train, val, test) = big_world
    predictions = MODELS[kind]().fit(train, val).predict(test)
    gain = predictions.log_p - world.optimum(test).log_p
    per_worker = np.bincount(predictions.worker, gain)
    error = per_worker.std() / np.sqrt(len(per_worker))
    assert per_worker.mean() < 3 * error
    if kind in {"uniform", "marginal"}:
        assert per_worker.mean() < -100 * error  # and the floor is no wall of glass: bad models are far below


@pytest.fixture(scope="module", params=["nlsy97", "nlsy79"])
def cohort(request):
    whole = real_panel(request.param)
    return request.param, tuple(whole.part(split) for split in ("train", "val", "test"))


def test_real_careers_give_the_reference_perplexities_on_test_rows_with_a_history(cohort):
    name, (train, val, test) = cohort
    goal = {
        "nlsy97": {"laplace": 10.35, "two-stage": 7.72, "markov-2": 7.61, "own-history": 7.18, "covariates": 7.15},
        "nlsy79": {"laplace": 27.15, "two-stage": 21.8, "markov-2": 20.9, "own-history": 18.2, "covariates": 18.2},
    }[name]
    measured = {}
    for kind in goal:
        predictions = MODELS[kind]().fit(train, val).predict(test)
        measured[kind] = np.exp(-predictions.log_p[~predictions.first].mean())
        assert measured[kind] <= goal[kind], kind
    assert measured["laplace"] > goal["laplace"] - 0.1  # the strawman is no better than it is
    assert list(measured.values()) == sorted(measured.values(), reverse=True)


def test_first_rows_of_real_careers_are_told_by_age_education_and_gender(cohort):
    name, (train, val, test) = cohort
    predictions = Covariates().fit(train, val).predict(test)
    assert np.exp(-predictions.log_p[predictions.first].mean()) <= {"nlsy97": 39, "nlsy79": 54}[name]


def test_first_rows_of_real_careers_are_told_better_by_first_rows_than_by_the_marginal(cohort):
    name, (train, val, test) = cohort
    ceiling, marginal = {"nlsy97": (42, 56.3), "nlsy79": (57, 64.7)}[name]
    for model in (Marginal(), Laplace(), Markov(), TwoStage()):
        predictions = model.fit(train, val).predict(test)
        assert np.exp(-predictions.log_p[predictions.first].mean()) <= ceiling, model.kind
    shared = Marginal(first_backoff=1e15).fit(train, val).predict(test)
    assert np.exp(-shared.log_p[shared.first].mean()) == pytest.approx(marginal, abs=0.05)


def test_tuning_is_worth_more_than_a_tenth_of_the_perplexity_of_laplace(cohort):
    _, (train, val, _) = cohort
    laplace, markov = Laplace().fit(train, val), Markov().fit(train, val)
    assert markov.val_perplexity["history"] < 0.9 * laplace.val_perplexity["history"]
    assert markov.val_perplexity["history"] < markov.val_perplexity["history_untuned"]


def test_the_uniform_model_has_nothing_to_choose():
    assert Uniform().get_params() == {}
    assert fitted("uniform").weights == {}
