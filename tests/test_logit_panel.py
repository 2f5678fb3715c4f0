"""The regression of the next occupation: what it reads of a panel, what it gives, what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from sklearn.linear_model import LogisticRegression

from laborllm.errors import LaborLLMError, ModelError, PanelError
from laborllm.models.counts import Markov
from laborllm.models.histories import Histories
from laborllm.models.logit import Logit, MultinomialLogit, estimator, features
from laborllm.models.logit.features import STATE_SCALE, Features
from laborllm.models.logit.law import TitleLaw
from laborllm.models.logit.penalty import Rows, follow
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.synth import World
from tests.panels import panels, real_panel

QUICK = settings(deadline=None, max_examples=40)
WORLD = World.random(5, stay=0.6, zipf=1.0, spread=1.5, seed=1)
SPLIT = np.array(["train"] * 6 + ["val"] * 2 + ["test"] * 2)


def simulated(num_workers=200, num_years=6, *, world=WORLD, seed=0):
    """Careers with traits that fix or change, in three splits of workers."""
    traits = {"gender": {"female": 0.5, "male": 0.5}, "birth_year": {"1960": 0.5, "1965": 0.5}}
    table = world.simulate(num_workers, num_years, seed=seed, covariates=traits)
    rng = np.random.default_rng(seed)
    level = np.maximum.accumulate(rng.random((num_workers, num_years)) < 0.2, axis=1).ravel()
    region = rng.choice(["North", "South"], table.num_rows)
    table = table.append_column("education", pa.array(np.where(level, "college", "school")))
    table = table.append_column("region", pa.array(region))
    table = table.append_column("hourly_wage", pa.array(rng.random(table.num_rows)))
    table = table.append_column("weight", pa.array(np.repeat(rng.integers(0, 3, num_workers), num_years)))
    return table.append_column("split", pa.array(np.repeat(SPLIT[np.arange(num_workers) % 10], num_years)))


def parts(table, occupations=WORLD.occupations):
    whole = Panel.from_arrow(table, occupations=occupations)
    return tuple(whole.part(split) for split in ("train", "val", "test"))


def replaced(table, name, values):
    column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return table.set_column(table.column_names.index(name), name, column)


def fitted(*, l2=1.0, **options):
    train, val, _ = parts(simulated(**options))
    return Logit(l2=l2).fit(train, val)


def career(years_and_states, num_titles=3, **columns):
    """One worker; states by number."""
    occupations = Occupations.from_titles([f"Job {j}" for j in range(num_titles)])
    years, states = zip(*years_and_states, strict=True)
    table = pa.table({"worker_id": [1] * len(years), "year": years, "occupation": [f"Job {j}" for j in states]})
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return Panel.from_arrow(table, occupations=occupations)


def twin(panel, index, names):
    """The regressors of row `index` as their definition reads, from Python lists; names without a column are left."""
    columns = panel.table.to_pydict()
    states, keys = panel.states().tolist(), list(zip(columns["dataset"], columns["worker_id"], strict=True))
    first = keys.index(keys[index])
    year, history = columns["year"][index], list(range(first, index))
    found = {f"year={year}": 1.0}
    if history:
        current = states[index - 1]
        other = [row for row in history if states[row] != current]
        begin = other[-1] + 1 if other else first
        tenure = columns["year"][index - 1] - columns["year"][begin]
        found[f"previous={current}"] = STATE_SCALE
        found[f"tenure:previous={current}"] = STATE_SCALE * np.log(1 + tenure)
        found["tenure"], found["experience"] = tenure / 10, (year - columns["year"][first]) / 10
        found["gap"] = float(year - columns["year"][index - 1] > 1)
        found["education_changed"] = float(columns["education"][index] != columns["education"][index - 1])
        if other:
            found[f"before={states[other[-1]]}"] = 1.0
    else:
        found["first"] = 1.0
    for name in ("gender", "race"):
        known = [columns[name][row] for row in range(len(keys)) if keys[row] == keys[index] and columns[name][row]]
        found[f"{name}={known[0] if known else 'missing'}"] = 1.0
    found[f"region={columns['region'][first] or 'missing'}"] = 1.0
    found[f"education={columns['education'][index] or 'missing'}"] = 1.0
    born = [columns["birth_year"][row] for row in range(len(keys)) if keys[row] == keys[index]]
    born = [value for value in born if value is not None]
    found[f"age={(year - born[0]) // 4 * 4}" if born else "age=missing"] = 1.0
    return {name: value for name, value in found.items() if value and name in names}


@QUICK
@given(panel=panels())
def test_every_row_of_features_is_what_its_definition_reads(panel):
    histories = Histories(panel)
    made = Features.of(histories, np.arange(0, len(histories), 2))
    matrix = made.matrix(histories)
    assert matrix.shape == (len(histories), len(made.names))
    dense = matrix.toarray()
    for index in range(panel.num_rows):
        found = {name: value for name, value in zip(made.names, dense[index], strict=True) if value}
        assert found == pytest.approx(twin(panel, index, set(made.names)))


def test_features_of_a_career_worked_out_by_hand():
    panel = career(
        [(2000, 0), (2001, 1), (2004, 1), (2005, 2)], birth_year=[1979] * 4, education=["school", "school", "ba", "ba"]
    )
    made = Features.of(Histories(panel), np.arange(4))
    dense = made.matrix(Histories(panel)).toarray()
    rows = [{name: value for name, value in zip(made.names, row, strict=True) if value} for row in dense]
    assert rows[0] == {"first": 1, "year=2000": 1, "education=school": 1, "age=20": 1}
    assert rows[2] == pytest.approx(
        {
            "previous=1": 3,
            "before=0": 1,
            "gap": 1,
            "experience": 0.4,
            "education_changed": 1,
            "year=2004": 1,
            "education=ba": 1,
            "age=24": 1,
        }
    )
    assert rows[3]["tenure"] == pytest.approx(0.3)
    assert rows[3]["tenure:previous=1"] == pytest.approx(3 * np.log(4))


def test_the_law_sums_to_one_and_gives_every_title_a_probability_also_those_that_nobody_held():
    table = simulated()
    wider = Occupations.from_titles([*WORLD.titles, "Never held", "Nor this"])
    train, val, test = parts(table, wider)
    model = Logit(l2=1.0).fit(train, val)
    law = np.exp(model.law(test))
    assert law.sum(axis=1) == pytest.approx(np.ones(len(law)), abs=1e-12)
    rows = train.targets.sum()
    assert law[:, -2:] == pytest.approx(np.full((len(law), 2), 0.5 / (rows + 3.5)), rel=1e-12)
    plain = np.exp(fitted().law(parts(table)[2]))
    assert law[:, :-2] == pytest.approx(plain * (1 - 1 / (rows + 3.5)), rel=1e-4)
    assert np.isnan(model.coefficients[-2:]).all()
    assert np.isfinite(model.coefficients[:-2]).all()


def test_a_boundless_penalty_leaves_the_shares_of_the_titles():
    train, val, test = parts(simulated())
    law = np.exp(Logit(l2=1e10).fit(train, val).law(test))
    shares = np.bincount(train.states()[train.targets], minlength=5) / train.targets.sum()
    assert law == pytest.approx(np.tile(shares, (len(law), 1)), abs=1e-4)


def test_the_coefficients_are_those_of_scikit_learn_on_the_same_features():
    train, val, _ = parts(simulated())
    model = Logit(l2=0.5).fit(train, val)
    histories = Histories(train)
    x = Features.of(histories, np.arange(len(histories))).matrix(histories).toarray()
    peer = LogisticRegression(C=2.0, solver="newton-cholesky", tol=1e-10).fit(x, histories.occupation)
    assert len(model.features) == x.shape[1]
    assert np.exp(model.law(train)) == pytest.approx(peer.predict_proba(x), abs=5e-3)
    tight = MultinomialLogit(l2=0.5, tol=1e-14).fit(x, histories.occupation)
    assert tight.coef_ == pytest.approx(peer.coef_, abs=1e-5)


def test_in_a_markov_world_the_regression_comes_within_two_per_cent_of_the_best_that_can_be_done():
    train, val, test = parts(simulated(3000, 8))
    found = np.exp(-Logit().fit(train, val).predict(test).log_p.mean())
    assert 0.99 < found / np.exp(-WORLD.optimum(test).log_p.mean()) < 1.02


def test_where_men_and_women_move_by_other_laws_it_knows_what_counts_of_states_cannot():
    laws = {
        "female": WORLD,
        "male": World.markov(WORLD.titles, WORLD.initial[0], WORLD.transition()[:, [1, 0, 2, 3, 4]]),
    }
    tables = []
    for number, (gender, world) in enumerate(laws.items()):
        table = world.simulate(800, 6, seed=number, first_worker=1000 * number)
        table = table.append_column("gender", pa.array([gender] * table.num_rows))
        tables.append(table.append_column("split", pa.array(np.repeat(SPLIT[np.arange(800) % 10], 6))))
    train, val, test = parts(pa.concat_tables(tables).unify_dictionaries())
    loss = {model.kind: -model.fit(train, val).predict(test).log_p.mean() for model in (Logit(), Markov())}
    assert loss["logit"] < loss["markov"] - 0.02


@pytest.mark.parametrize("tenure_matters", [True, False])
def test_staying_may_depend_on_the_years_in_the_state(tenure_matters):
    rng = np.random.default_rng(0)
    careers = np.zeros((1500, 10), int)
    tenure = np.zeros(1500)
    for year in range(1, 10):
        leaves = rng.random(1500) < (0.7 * 0.5**tenure if tenure_matters else 0.3)
        careers[:, year] = (careers[:, year - 1] + leaves) % 2
        tenure = np.where(leaves, 0, tenure + 1)
    table = pa.table(
        {
            "worker_id": np.repeat(np.arange(1500), 10),
            "year": np.tile(np.arange(2000, 2010), 1500),
            "occupation": [f"Job {j}" for j in careers.ravel()],
        }
    )
    panel = Panel.from_arrow(table, occupations=Occupations.from_titles(["Job 0", "Job 1"]))
    law = np.exp(Logit(l2=0.1).fit(panel, panel).law(panel))
    rows = Histories(panel)
    stays = law[np.arange(len(law)), rows.previous]
    longer = [stays[(rows.previous >= 0) & (rows.tenure == years)].mean() for years in (1, 3)]
    assert (longer[1] - longer[0] > 0.25) == tenure_matters
    assert longer[0] == pytest.approx(0.3 if tenure_matters else 0.7, abs=0.06)


def test_fit_reads_no_row_of_test():
    table = simulated()
    one, other = (Logit().fit(*parts(t)[:2]) for t in (table, poison(table, "test")))
    assert one.hash == other.hash
    assert (one.path, one.val_perplexity) == (other.path, other.val_perplexity)


@pytest.mark.filterwarnings("ignore:the penalty chosen on val")
def test_val_rows_choose_the_penalty_and_nothing_else():
    table = simulated()
    one, other = (Logit().fit(*parts(t)[:2]) for t in (table, poison(table, "val")))
    assert one.l2 != other.l2
    kept = Logit(l2=one.l2).fit(*parts(poison(table, "val"))[:2])
    assert kept.coefficients == pytest.approx(one.coefficients, abs=0.02)
    assert kept.path == {}
    assert kept.features == one.features


def poison(table, split):
    """Everybody in the split moves to the next title every year, and has traits that nobody else has."""
    where = np.array(table["split"].to_pylist()) == split
    titles = np.array(table["occupation"].to_pylist(), object)
    titles[where] = np.array(WORLD.titles, object)[table["year"].to_numpy()[where] % len(WORLD.titles)]
    table = replaced(table, "occupation", pa.array(titles.tolist(), pa.large_string()))
    region = np.array(table["region"].to_pylist(), object)
    region[where] = "Moon"
    return replaced(table, "region", region.tolist())


def test_the_chosen_penalty_is_the_best_of_its_path_and_its_neighbours_were_tried():
    train, val, _ = parts(simulated())
    model = Logit().fit(train, val)
    tried = list(model.path)
    assert tried == sorted(tried, reverse=True)
    assert model.path[model.l2] == min(model.path.values())
    assert tried[0] > model.l2 > tried[-1]
    for l2, found in model.path.items():
        log_p = Logit(l2=l2).fit(train, val).predict(val).log_p
        assert np.exp(-log_p.mean()) == pytest.approx(found, rel=1e-3)


def test_the_path_leaves_the_best_of_its_fits():
    train, val, _ = parts(simulated())
    rows = [Histories(panel) for panel in (train, val)]
    made = Features.of(rows[0], np.arange(len(rows[0])))
    samples = [Rows.of(histories, made, np.ones(len(histories))) for histories in rows]
    law = TitleLaw(MultinomialLogit(warm_start=True), 5, float(len(rows[0])))
    path = follow(law, *samples)
    assert samples[1].perplexity(law)["all"] == min(path.values())


def test_rows_of_weight_zero_leave_no_level_behind():
    table = simulated()
    zero = table["weight"].to_numpy() == 0
    table = replaced(table, "region", np.where(zero, "Moon", table["region"].to_pylist()))
    train, val, _ = parts(table)
    assert "region=Moon" in Logit(l2=1.0).fit(train, val).features
    assert "region=Moon" not in Logit(l2=1.0).fit(train, val, weighted=True).features


def test_val_perplexity_is_that_of_the_predictions():
    train, val, _ = parts(simulated())
    for weighted in (False, True):
        model = Logit(l2=2.0).fit(train, val, weighted=weighted)
        predictions = model.predict(val)
        weights = val.row_weights(Histories(val).row) if weighted else np.ones(len(predictions))
        every = np.ones(len(predictions), bool)
        for name, rows in (("first", predictions.first), ("history", ~predictions.first), ("all", every)):
            expected = np.exp(-np.average(predictions.log_p[rows], weights=weights[rows]))
            assert model.val_perplexity[name] == pytest.approx(expected, rel=1e-12)


def test_of_the_row_to_be_predicted_only_year_and_education_matter():
    table = simulated()
    model = fitted()
    before = model.predict(parts(table)[2], titles="all")
    first = table["year"].to_numpy() == 1980
    other = {
        "region": np.where(first, table["region"].to_pylist(), "Moon"),
        "hourly_wage": np.where(first, table["hourly_wage"].to_numpy(), 99.0),
    }
    changed = table
    for name, values in other.items():
        changed = replaced(changed, name, values)
    assert np.array_equal(model.predict(parts(changed)[2], titles="all").log_p_all, before.log_p_all)
    education = replaced(table, "education", np.where(first, table["education"].to_pylist(), "college"))
    assert not np.array_equal(model.predict(parts(education)[2], titles="all").log_p_all, before.log_p_all)


def test_the_occupation_to_be_predicted_is_not_looked_at():
    states = [0, 1, 1, 2, 3]
    train, val, _ = parts(simulated())
    model = Logit(l2=1.0).fit(train, val)
    laws = []
    for last in range(5):
        years = pa.array(range(1980, 1986), pa.int32())
        titles = [WORLD.titles[j] for j in [*states, last]]
        table = pa.table({"worker_id": [1] * 6, "year": years, "occupation": titles})
        for name in ("gender", "education", "region"):
            table = table.append_column(name, pa.array([train.column(name)[0].as_py()] * 6))
        table = table.append_column("birth_year", pa.array(["1960"] * 6))
        laws.append(model.law(Panel.from_arrow(table, occupations=WORLD.occupations))[-1])
    assert all(np.array_equal(law, laws[0]) for law in laws)


def test_deleting_later_rows_of_a_worker_changes_no_prediction():
    table = simulated()
    model = fitted()
    full = model.predict(parts(table)[2])
    early = model.predict(parts(table.filter(pa.compute.less(table["year"], 1983)))[2])
    assert early.log_p == pytest.approx(full.log_p[full.year < 1983], abs=1e-14)


def test_the_names_of_workers_and_the_order_of_rows_do_not_matter():
    table = simulated()
    one = fitted()
    ids = np.random.default_rng(0).permutation(200)[table["worker_id"].to_numpy()]
    renamed = replaced(table, "worker_id", ids).take(np.random.default_rng(1).permutation(table.num_rows))
    other = Logit(l2=1.0).fit(*parts(renamed)[:2])
    assert other.coefficients == pytest.approx(one.coefficients, abs=0.01)


def test_weights_of_one_change_nothing_and_weights_of_more_are_copies_of_workers():
    table = simulated()
    ones = replaced(table, "weight", np.ones(table.num_rows))
    train, val, _ = parts(ones)
    plain, weighted = (Logit().fit(train, val, weighted=w) for w in (False, True))
    assert plain.hash == weighted.hash
    copies = table["weight"].to_numpy()
    repeated = table.take(np.repeat(np.arange(table.num_rows), copies))
    number = np.concatenate([np.arange(n) for n in copies])
    repeated = replaced(repeated, "worker_id", repeated["worker_id"].to_numpy() + 1000 * number)
    one = Logit().fit(*parts(table)[:2], weighted=True)
    other = Logit().fit(*parts(repeated)[:2])
    assert one.l2 == other.l2
    assert list(one.path.values()) == pytest.approx(list(other.path.values()), rel=1e-4)
    assert one.coefficients == pytest.approx(other.coefficients, abs=0.01)


def test_predictions_hold_the_law_of_the_row_and_of_its_previous_title():
    test = parts(simulated())[2]
    model = fitted()
    short, full = model.predict(test), model.predict(test, titles="all", top=2)
    laws, rows = model.law(test), np.arange(len(full))
    assert np.array_equal(short.log_p, laws[rows, full.observed])
    history = ~full.first
    assert np.array_equal(short.log_p_previous[history], laws[rows, full.previous][history])
    assert full.log_p_all == pytest.approx(laws, abs=1e-6)
    assert full.metadata["covariates"] == ["education", "gender", "region", "birth_year"]
    assert (full.metadata["kind"], full.metadata["seed"], full.metadata["model_hash"]) == ("logit", None, model.hash)


def test_what_training_never_saw_has_no_effect_is_counted_and_is_said():
    table = simulated()
    model = fitted()
    test = np.array(table["split"].to_pylist()) == "test"
    moon = replaced(table, "region", np.where(test, "Moon", table["region"].to_pylist()))
    late = replaced(moon, "year", pa.array(table["year"].to_numpy() + np.where(test, 40, 0), pa.int32()))
    late_test, plain_test = parts(late)[2], parts(table)[2]
    with pytest.warns(UserWarning, match="240 of 240 rows hold a value that training never saw") as said:
        model.predict(late_test)
    assert [str(warning.message).split(":")[0] for warning in said] == ["year", "region", "age"]
    assert model.unseen(Histories(late_test)) == {"year": 240, "region": 240, "age": 240}
    assert model.unseen(Histories(plain_test)) == {}
    with pytest.warns(UserWarning, match="region"):
        found = model.predict(parts(moon)[2], titles="all").log_p_all
    x = model._features.matrix(Histories(plain_test)).toarray()
    x[:, [name.startswith("region=") for name in model.features]] = 0
    assert found == pytest.approx(model._law.logit.predict_log_proba(x), abs=1e-6)


def test_a_column_that_the_fit_used_is_asked_for_by_name():
    table = simulated().drop_columns(["region"])
    with pytest.raises(ModelError, match="no column 'region', which the logit model was fitted with"):
        fitted().predict(parts(table)[2])
    with pytest.raises(PanelError, match="no column 'region'"):
        fitted().law(parts(table)[2])
    with pytest.raises(PanelError, match="no column 'region'"):
        Logit().fit(parts(simulated())[0], parts(table)[1])
    assert Logit(l2=1.0).fit(*parts(table)[:2]).covariates == ["education", "gender", "birth_year"]


def test_a_birth_year_that_is_no_number_is_refused():
    table = replaced(simulated(), "birth_year", ["once"] * 1200)
    with pytest.raises(PanelError, match="'birth_year' does not hold years"):
        Logit().fit(*parts(table)[:2])


@pytest.mark.parametrize("l2", [0, -1.0, float("nan"), float("inf")])
def test_a_penalty_that_is_none_is_refused_with_a_reason(l2):
    with pytest.raises(ModelError, match="have no finite optimum; give a positive number"):
        Logit(l2=l2)
    with pytest.raises(ModelError, match="no finite optimum"):
        Logit().set_params(l2=l2)


def test_params_are_read_and_changed_by_name():
    assert Logit(l2=2.0).get_params() == {"l2": 2.0}
    assert Logit().set_params(l2=3.0).get_params() == {"l2": 3.0}
    with pytest.raises(ModelError, match="no parameter 'C'; it has l2"):
        Logit().set_params(C=1.0)


def test_what_cannot_be_fitted_is_refused_with_a_reason():
    train, val, test = parts(simulated())
    one = career([(2000, 0), (2001, 0)])
    with pytest.raises(ModelError, match="fewer than two states"):
        Logit().fit(one, one)
    with pytest.raises(ModelError, match="different occupations"):
        Logit().fit(train, one)
    with pytest.raises(PanelError, match="no column 'weight'"):
        Logit().fit(career([(2000, 0), (2001, 1)]), career([(2000, 0)]), weighted=True)
    negative = parts(replaced(simulated(), "weight", np.full(1200, -1)))
    with pytest.raises(PanelError, match="weight of worker 0 in 1980"):
        Logit().fit(negative[0], negative[1], weighted=True)
    nothing = val.with_targets(np.zeros(val.num_rows, bool))
    with pytest.raises(ModelError, match="val has no row of positive weight to choose the penalty on"):
        Logit().fit(train, nothing)
    assert Logit(l2=1.0).fit(train, nothing).val_perplexity == dict.fromkeys(("history", "first", "all"))
    with pytest.raises(LaborLLMError, match="not fitted"):
        Logit().predict(test)


def test_held_out_rows_in_the_history_of_training_rows_are_refused():
    table = simulated()
    by_row = replaced(table, "split", SPLIT[np.arange(table.num_rows) * 7 % 10])
    with pytest.raises(PanelError, match="held-out row"):
        Logit().fit(*parts(by_row)[:2])


def test_there_are_no_standard_errors_and_the_model_says_why():
    model = fitted()
    size = 5 * len(model.features)
    with pytest.raises(ModelError, match=rf"biased towards zero by a penalty.*all {size} of them") as refused:
        _ = model.standard_errors
    assert str(refused.value) in model.summary()
    assert model.parameters()["coefficients"] == size
    assert "l2: 1" in model.summary()


def test_a_saved_model_comes_back_exactly(tmp_path):
    train, val, test = parts(simulated(), Occupations.from_titles([*WORLD.titles, "Never held"]))
    model = Logit().fit(train, val)
    model.save(tmp_path / "model")
    back = Logit.load(tmp_path / "model")
    for name in ("hash", "l2", "path", "val_perplexity", "weighted", "datasets", "covariates", "features"):
        assert getattr(back, name) == getattr(model, name), name
    assert (back.get_params(), back.summary()) == (model.get_params(), model.summary())
    assert np.array_equal(back.law(test), model.law(test))
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["coefficients.safetensors", "laborllm.json"]
    about = json.loads((tmp_path / "model" / "laborllm.json").read_text())
    assert (about["kind"], about["redistributable"]) == ("logit", False)


def test_a_directory_that_holds_something_else_is_refused(tmp_path, monkeypatch):
    fitted().save(tmp_path / "model")
    Markov().fit(*parts(simulated())[:2]).save(tmp_path / "counts")
    fitted(l2=2.0).save(tmp_path / "other")
    with pytest.raises(ModelError, match="'markov', not logit"):
        Logit.load(tmp_path / "counts")
    with monkeypatch.context() as patch:
        patch.setattr(features, "STATE_SCALE", 2.0)
        with pytest.raises(ModelError, match="is not the one"):
            Logit.load(tmp_path / "model")
    (tmp_path / "other" / estimator.FILE).replace(tmp_path / "model" / estimator.FILE)
    with pytest.raises(ModelError, match="is not the one"):
        Logit.load(tmp_path / "model")
    about = json.loads((tmp_path / "model" / "laborllm.json").read_text())
    del about["hash"]
    (tmp_path / "model" / "laborllm.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match="no readable logit"):
        Logit.load(tmp_path / "model")
    (tmp_path / "model" / estimator.FILE).write_bytes(b"no longer")
    with pytest.raises(ModelError, match="no readable logit"):
        Logit.load(tmp_path / "model")
    with pytest.raises(ModelError, match="nowhere"):
        Logit.load(tmp_path / "nowhere")


def test_on_real_careers_the_objective_is_scikit_learns():
    train = real_panel("nlsy97").part("train").slice_workers(0, 8)
    histories = Histories(train)
    x = Features.of(histories, np.arange(len(histories))).matrix(histories)
    ours = MultinomialLogit(l2=1.0, tol=1e-9).fit(x, histories.occupation)
    peer = LogisticRegression(C=1.0, tol=1e-8, max_iter=2000).fit(x, histories.occupation)
    peer_loss = -peer.predict_log_proba(x)[
        np.arange(len(histories)), np.searchsorted(peer.classes_, histories.occupation)
    ]
    theirs = peer_loss.sum() + (peer.coef_**2).sum() / 2
    assert ours.objective_ == pytest.approx(theirs, rel=1e-8)
