from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laborllm.errors import FileError, LaborLLMError, ModelError, PanelError
from laborllm.models.counts import MODELS, CountModel, Laplace, Marginal, Markov, TwoStage, Uniform
from laborllm.models.pairs import PairCounts
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.synth import World

DATA = Path(__file__).parents[2] / "shared" / "data"
GIVEN = {
    "uniform": {},
    "marginal": {"first_backoff": 3.0},
    "laplace": {},
    "markov": {"backoff": 2.5, "first_backoff": 3.0},
    "two-stage": {"stay_backoff": 0.7, "move_backoff": 2.5, "first_backoff": 3.0},
}
WORLD = World.random(6, stay=0.6, zipf=1.0, spread=1.5, seed=1)
QUICK = settings(deadline=None, max_examples=60)
every_model = pytest.mark.parametrize("kind", list(MODELS))


def occupations(num_titles):
    return Occupations.from_titles([f"Job {j}" for j in range(num_titles)])


def panel(careers, num_titles, *, weights=None, ids=None):
    """One worker per list of states, weighted by worker; years count from 2000."""
    states = occupations(num_titles)
    rows = [
        (
            worker if ids is None else ids[worker],
            2000 + t,
            states.titles[j],
            1.0 if weights is None else weights[worker],
        )
        for worker, career in enumerate(careers)
        for t, j in enumerate(career)
    ]
    worker, year, title, weight = zip(*rows, strict=True)
    table = pa.table({"worker_id": worker, "year": pa.array(year, pa.int32()), "occupation": title, "weight": weight})
    return Panel.from_arrow(table, occupations=states)


def all_pairs(num_titles):
    """Every previous state, -1 included, with every next one."""
    return np.repeat(np.arange(-1, num_titles), num_titles), np.tile(np.arange(num_titles), num_titles + 1)


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


def twin(kind, careers, num_titles, weights):
    """Probabilities as a reader of the definitions would work them out, one dictionary look-up at a time."""
    firsts = Counter(career[0] for career in careers)
    pairs = Counter((career[t - 1], career[t]) for career in careers for t in range(1, len(career)))
    rows = Counter(j for career in careers for j in career)
    titles = range(num_titles)
    marginal = {k: (rows[k] + 0.5) / (sum(rows.values()) + num_titles / 2) for k in titles}
    moved_to = {k: 0.5 + sum(n for (j, arrival), n in pairs.items() if arrival == k != j) for k in titles}
    stays = sum(n for (j, k), n in pairs.items() if j == k)
    share = (stays + 0.5) / (sum(pairs.values()) + 1) if num_titles > 1 else 1.0

    def first(k):
        if kind == "uniform":
            return 1 / num_titles
        if kind == "laplace":
            return (firsts[k] + 1) / (len(careers) + num_titles)
        b = weights["first_backoff"]
        return (firsts[k] + b * marginal[k]) / (len(careers) + b)

    def after(j, k):
        leaving = sum(pairs[j, arrival] for arrival in titles)
        if kind == "uniform":
            return 1 / num_titles
        if kind == "marginal":
            return marginal[k]
        if kind == "laplace":
            return (pairs[j, k] + 1) / (leaving + num_titles)
        if kind == "markov":
            return (pairs[j, k] + weights["backoff"] * marginal[k]) / (leaving + weights["backoff"])
        stay = (pairs[j, j] + weights["stay_backoff"] * share) / (leaving + weights["stay_backoff"])
        if j == k:
            return stay
        b, total = weights["move_backoff"], sum(moved_to.values())
        moves = {other: pairs[j, other] + b * moved_to[other] / total for other in titles if other != j}
        return (1 - stay) * moves[k] / sum(moves.values())

    return lambda j, k: first(k) if j < 0 else after(j, k)


@every_model
@QUICK
@given(world=careers_of())
def test_every_model_equals_its_slow_twin_of_dictionaries(kind, world):
    num_titles, train, val = world
    model = MODELS[kind](**GIVEN[kind]).fit(panel(train, num_titles), panel(val, num_titles))
    probability = twin(kind, train, num_titles, GIVEN[kind])
    previous, occupation = all_pairs(num_titles)
    expected = [probability(j, k) for j, k in zip(previous, occupation, strict=True)]
    assert np.exp(model.log_p(previous, occupation)) == pytest.approx(expected, rel=1e-11)


@every_model
@QUICK
@given(world=careers_of())
def test_every_law_sums_to_one_and_gives_no_title_zero_first_rows_and_unseen_states_included(kind, world):
    num_titles, train, val = world
    model = MODELS[kind]().fit(panel(train, num_titles), panel(val, num_titles))
    law = model.law(np.arange(-1, num_titles))
    assert np.isfinite(law).all()
    assert np.exp(law).sum(axis=1) == pytest.approx(np.ones(num_titles + 1), abs=1e-12)


def test_a_state_nobody_held_gets_a_law_and_a_probability():
    train = panel([[0, 1, 1, 0]], 4)
    for kind, model in MODELS.items():
        law = np.exp(model().fit(train, train).law(np.array([-1, 0, 3])))
        assert (law > 0).all(), kind


@QUICK
@given(world=careers_of(min_titles=2))
def test_vanishing_back_off_gives_raw_frequencies(world):
    num_titles, train, val = world
    data = panel(train, num_titles), panel(val, num_titles)
    pairs = Counter((career[t - 1], career[t]) for career in train for t in range(1, len(career)))
    for model in (
        Markov(backoff=1e-12, first_backoff=1e-12),
        TwoStage(stay_backoff=1e-12, move_backoff=1e-12, first_backoff=1e-12),
    ):
        law = np.exp(model.fit(*data).law(np.arange(-1, num_titles)))
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
    marginal = np.exp(Marginal(first_backoff=1e15).fit(*data).law(np.arange(-1, num_titles)))
    markov = np.exp(Markov(backoff=1e15, first_backoff=1e15).fit(*data).law(np.arange(-1, num_titles)))
    assert markov == pytest.approx(np.tile(marginal[0], (num_titles + 1, 1)), rel=1e-9)
    assert marginal == pytest.approx(markov, rel=1e-9)
    two = np.exp(TwoStage(stay_backoff=1e15, move_backoff=1e15).fit(*data).law(np.arange(num_titles)))
    assert np.diag(two) == pytest.approx(np.full(num_titles, two[0, 0]), rel=1e-9)
    moved_to = Counter(c[t] for c in train for t in range(1, len(c)) if c[t] != c[t - 1])
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
    assert one.val_perplexity == other.val_perplexity


@every_model
@QUICK
@given(world=careers_of())
def test_weights_of_one_change_nothing(kind, world):
    num_titles, train, val = world
    data = panel(train, num_titles), panel(val, num_titles)
    plain, weighted = MODELS[kind]().fit(*data), MODELS[kind]().fit(*data, weighted=True)
    assert plain.weights == weighted.weights
    pairs = all_pairs(num_titles)
    assert plain.log_p(*pairs) == pytest.approx(weighted.log_p(*pairs), abs=1e-10)


@every_model
@QUICK
@given(world=careers_of(), copies=st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_an_integer_weight_equals_that_many_copies_of_the_worker(kind, world, copies):
    num_titles, train, val = world
    n_train, n_val = [1, *copies[1 : len(train)]], [1, *copies[8 : 7 + len(val)]]
    weighted = MODELS[kind]().fit(
        panel(train, num_titles, weights=n_train), panel(val, num_titles, weights=n_val), weighted=True
    )
    copied = MODELS[kind]().fit(
        *(
            panel([c for c, n in zip(cs, ns, strict=True) for _ in range(n)], num_titles)
            for cs, ns in ((train, n_train), (val, n_val))
        )
    )
    pairs = all_pairs(num_titles)
    assert weighted.log_p(*pairs) == pytest.approx(copied.log_p(*pairs), abs=1e-10)
    assert weighted.weights == copied.weights
    assert weighted.val_perplexity == copied.val_perplexity


@every_model
def test_fit_reads_no_row_of_test(kind):
    table = simulated(300)
    poisoned = poison(table, "test")
    one, other = (MODELS[kind]().fit(*parts(t)[:2]) for t in (table, poisoned))
    assert one.hash == other.hash
    assert one.val_perplexity == other.val_perplexity


@every_model
def test_val_rows_choose_the_weights_and_enter_no_count(kind):
    table = simulated(300)
    one, other = (MODELS[kind]().fit(*parts(t)[:2]) for t in (table, poison(table, "val")))
    sizes = ("transitions", "first_rows", "pairs")
    assert [one.parameters()[name] for name in sizes] == [other.parameters()[name] for name in sizes]
    assert set(one.weights) == set(GIVEN[kind])
    for name in one.weights:
        assert one.weights[name] != other.weights[name], name
    kept = MODELS[kind](**one.weights).fit(*parts(poison(table, "val"))[:2])
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
    law = np.exp(model.law(np.array([0, 1])))
    assert law == pytest.approx(np.array([[1 / 2.5, 1.5 / 2.5], [1 / 4, 3 / 4]]), rel=1e-12)


def test_the_hash_tells_models_apart_that_differ_in_one_count_or_weight():
    careers = [[[0, 1]], [[0, 1], [0]], [[0, 1], [1]], [[0, 1], [0, 1]], [[0, 1, 1]]]
    val = panel([[0, 1]], 2)
    models = [Markov(backoff=1, first_backoff=1).fit(panel(c, 2), val) for c in careers]
    models += [Markov(backoff=2, first_backoff=1).fit(val, val), Marginal(first_backoff=1).fit(val, val)]
    assert len({model.hash for model in models}) == len(models)


@pytest.mark.parametrize("kind", ["marginal", "markov", "two-stage"])
def test_no_other_combination_of_weights_on_the_grid_is_better_on_val(kind):
    train, val, _ = parts(simulated(200))
    model = MODELS[kind]().fit(train, val)

    def val_loss(weights):
        other = MODELS[kind](**weights).fit(train, val)
        return -other.predict(val).log_p.mean()

    best = val_loss(model.weights)
    rng = np.random.default_rng(0)
    for _ in range(60):
        factors = 10.0 ** (rng.integers(-8, 9, len(model.weights)) / 8)
        tried = {name: value * f for (name, value), f in zip(model.weights.items(), factors, strict=True)}
        assert val_loss(tried) >= best - 1e-12


def test_val_perplexity_is_that_of_the_predictions_tuned_and_untuned():
    train, val, _ = parts(simulated(300))
    for kind in MODELS:
        model = MODELS[kind]().fit(train, val)
        untuned = MODELS[kind](**dict.fromkeys(model.weights, 1.0)).fit(train, val)
        for suffix, used in (("", model), ("_untuned", untuned)):
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
    laws = model.law(full.previous)
    assert full.law == "normalized"
    assert (full.title_mass == 1).all()
    assert np.array_equal(full.log_p, laws[rows, full.observed])
    assert np.array_equal(full.log_p_raw, full.log_p)
    assert np.array_equal(np.isnan(full.log_p_previous), full.first)
    history = ~full.first
    assert np.array_equal(full.log_p_previous[history], laws[rows, full.previous][history])
    assert full.log_p_all == pytest.approx(laws, abs=1e-6)
    assert short.log_p_all is None
    assert np.array_equal(short.log_p, full.log_p)
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
    for back in (MODELS[kind].load(tmp_path / "model"), CountModel.load(tmp_path / "model")):
        assert type(back) is MODELS[kind]
        assert back.hash == model.hash
        assert (back.weights, back.val_perplexity, back.weighted) == (model.weights, model.val_perplexity, False)
        assert (back.parameters(), back.get_params()) == (model.parameters(), model.get_params())
        assert back.occupations == model.occupations
        assert np.array_equal(back.log_p(*all_pairs(6)), model.log_p(*all_pairs(6)))
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["counts.parquet", "laborllm.json"]
    assert json.loads((tmp_path / "model" / "laborllm.json").read_text())["redistributable"] is False


def test_a_model_directory_is_not_overwritten_unasked(tmp_path):
    fitted("markov").save(tmp_path / "model")
    with pytest.raises(FileError, match="exists"):
        fitted("laplace").save(tmp_path / "model")
    fitted("laplace").save(tmp_path / "model", overwrite=True)
    assert CountModel.load(tmp_path / "model").kind == "laplace"


def test_a_directory_that_holds_another_model_or_strange_counts_is_refused(tmp_path):
    fitted("markov").save(tmp_path / "model")
    with pytest.raises(ModelError, match="'markov', not two-stage"):
        TwoStage.load(tmp_path / "model")
    fitted("markov", num_workers=20).save(tmp_path / "other")
    (tmp_path / "other" / "counts.parquet").replace(tmp_path / "model" / "counts.parquet")
    with pytest.raises(ModelError, match="is not the one"):
        Markov.load(tmp_path / "model")
    (tmp_path / "model" / "counts.parquet").write_bytes(b"PAR1 no longer")
    with pytest.raises(FileError, match=r"counts\.parquet"):
        Markov.load(tmp_path / "model")
    (tmp_path / "model" / "laborllm.json").write_text("{}")
    with pytest.raises(ModelError, match="describes no count model"):
        Markov.load(tmp_path / "model")
    with pytest.raises(ModelError, match="nowhere"):
        Markov.load(tmp_path / "nowhere")


def test_params_are_read_changed_and_checked_by_name():
    model = TwoStage(stay_backoff=4)
    assert model.get_params() == {"stay_backoff": 4, "move_backoff": None, "first_backoff": None}
    assert model.set_params(move_backoff=2.0).get_params()["move_backoff"] == 2.0
    train, val, _ = parts(simulated(100))
    assert model.fit(train, val).weights["stay_backoff"] == 4
    assert model.get_params()["first_backoff"] is None


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda: Markov().law(np.array([0])), ModelError, "call fit"),
        (lambda: Markov(backoff=-1.0), ModelError, "backoff=-1.0"),
        (lambda: Markov(backoff=float("nan")), ModelError, "give a positive number"),
        (lambda: Markov().set_params(smoothing=1.0), ModelError, "it has backoff, first_backoff"),
        (lambda: Markov().fit(panel([[0]], 2), panel([[0]], 3)), ModelError, "different occupations"),
        (lambda: fitted("markov").predict(panel([[0]], 2)), ModelError, "2 occupations are not the 6"),
        (lambda: fitted("markov").predict(panel([[0]], 6), titles="some"), ModelError, "'observed' or 'all'"),
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
    data=st.lists(st.tuples(st.integers(-1, 9), st.integers(0, 9), st.integers(0, 5)), max_size=60),
    asked=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20),
)
def test_pairs_are_counted_as_a_dictionary_counts_them(data, asked):
    rows = np.array(data, np.int64).reshape(-1, 3)
    expected = Counter()
    for j, k, n in data:
        expected[j, k] += n
    counts = PairCounts.of(rows[:, 0], rows[:, 1], num_titles=10, weights=rows[:, 2].astype(float))
    wanted = np.array(asked, np.int64).reshape(-1, 2)
    assert counts.pairs(wanted[:, 0], wanted[:, 1]).tolist() == [expected[pair] for pair in asked]
    assert counts.first.tolist() == [expected[-1, k] for k in range(10)]
    back = PairCounts.from_table(counts.to_table(), num_titles=10)
    assert all(np.array_equal(getattr(back, n), getattr(counts, n)) for n in ("first", "keys", "values"))


def test_a_table_of_counts_with_strange_columns_or_states_is_refused():
    table = PairCounts.of(np.array([-1, 0]), np.array([0, 3]), num_titles=4).to_table()
    with pytest.raises(ModelError, match="outside the 3"):
        PairCounts.from_table(table, num_titles=3)
    with pytest.raises(ModelError, match="not previous, occupation, count"):
        PairCounts.from_table(table.rename_columns(["a", "b", "c"]), num_titles=4)


def test_forty_three_thousand_titles_need_no_matrix_of_them():
    size = 43_000
    rng = np.random.default_rng(0)
    previous, occupation = rng.integers(-1, size, 20_000), rng.integers(0, size, 20_000)
    states = occupations(size)
    careers = [[j, k] if j >= 0 else [k] for j, k in zip(previous.tolist(), occupation.tolist(), strict=True)]
    train, val = panel(careers[:15_000], size), panel(careers[15_000:], size)
    tracemalloc.start()
    for model in (Marginal(), Laplace(), Markov(), TwoStage()):
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
    folder = DATA / request.param
    if not folder.is_dir():
        pytest.skip(f"the panel in {folder} is not on this machine")
    whole = Panel.read(folder / "careers.parquet", occupations=Occupations.read(folder / "occupations.csv"))
    return request.param, tuple(whole.part(split) for split in ("train", "val", "test"))


def test_real_careers_give_the_reference_perplexities_on_test_rows_with_a_history(cohort):
    name, (train, val, test) = cohort
    goal = {
        "nlsy97": {"uniform": (333, 1e-9), "laplace": (10.3, 0.05), "two-stage": (7.72, 0.1)},
        "nlsy79": {"uniform": (332, 1e-9), "laplace": (27.1, 0.05), "two-stage": (21.8, 0.3)},
    }[name]
    for kind, (value, tolerance) in goal.items():
        predictions = MODELS[kind]().fit(train, val).predict(test)
        measured = np.exp(-predictions.log_p[~predictions.first].mean())
        assert measured == pytest.approx(value, abs=tolerance), kind


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
