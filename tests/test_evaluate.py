from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
from careers import Law, Rows, as_rows, predict, random_law, simulate, some_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from laborllm.errors import PredictionsError
from laborllm.evaluate import evaluate
from laborllm.metrics import move_auc, move_auc_draws, perplexity_draws, spread, worker_draws
from laborllm.panel import Panel
from laborllm.predictions import Predictions

LAW, OTHER = random_law(5, seed=0), random_law(5, seed=2)  # the first is that of some_rows
NUMBERS = (
    "perplexity",
    "perplexity_history",
    "perplexity_first",
    "perplexity_stay",
    "perplexity_move",
    "move_auc",
    "move_log_loss",
    "title_mass",
)
HEAD = ["model", "law", "covariates", "titles", "template_hash", "model_hash", "transitions", "workers"]
TAIL = ["transitions_first", "transitions_stay", "transitions_move", "zero_weights", "move_score", "infinite"]


@pytest.fixture
def rows():
    return some_rows(workers=40, years=6)


def only(predictions, **options):
    return evaluate([predictions], **({"draws": 100} | options)).models[0]


# What comes out


def test_the_object_of_a_model_has_exactly_the_promised_keys(rows):
    found = only(predict(rows, LAW, covariates=("gender",), seed=1))
    errors = [f"{name}{ending}" for name in NUMBERS for ending in ("", "_se", "_low", "_high")]
    assert list(found) == [*HEAD, *errors, *TAIL, "weight", "draws", "seed"]
    assert found["covariates"] == ["gender"]
    assert (found["draws"], found["seed"], found["weight"], found["zero_weights"]) == (100, 0, None, 0)


def test_the_json_is_strict_and_a_list_with_one_object_per_file(rows):
    impossible = np.full(len(rows), -np.inf)
    evaluation = evaluate([predict(rows, LAW), predict(rows, LAW, log_p=impossible)], draws=20)
    listed = json.loads(evaluation.to_json(), parse_constant=lambda token: pytest.fail(f"{token} is no JSON"))
    assert listed == evaluation.models
    assert [one["model"] for one in listed] == ["known", "known"]
    assert (listed[1]["perplexity"], listed[1]["perplexity_se"]) == (None, None)
    assert listed[1]["infinite"] == list(NUMBERS[:5])
    assert listed[0]["infinite"] == []
    assert [d["difference"] for d in listed[1]["differences"][:2]] == [None, None]
    assert [d["p_value"] for d in listed[1]["differences"][:2]] == [None, None]


def test_every_number_of_a_small_panel_by_hand():
    rows = Rows(
        worker=np.array([1, 1, 1, 1, 2, 2, 2]),
        year=np.array([1990, 1991, 1992, 1995, 1990, 1991, 1992]),
        occupation=np.array([0, 0, 1, 1, 2, 0, 2]),
        num_titles=3,
    )
    happened = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 4, 1 / 8, 1 / 2, 1 / 4])
    previous = np.array([0.9, 1 / 4, 1 / 2, 1 / 4, 0.9, 1 / 8, 1 / 4])
    found = only(
        predict(rows, random_law(3, seed=0), log_p=np.log(happened), log_p_previous=np.log(previous), log_p_all=None)
    )
    assert (found["transitions"], found["workers"]) == (7, 2)
    assert [found[f"transitions_{kind}"] for kind in ("first", "stay", "move")] == [2, 2, 3]
    assert found["perplexity"] == pytest.approx(2 ** ((1 + 2 + 3 + 2 + 3 + 1 + 2) / 7))
    assert found["perplexity_history"] == pytest.approx(2 ** ((2 + 3 + 2 + 1 + 2) / 5))
    assert found["perplexity_first"] == pytest.approx(2 ** ((1 + 3) / 2))
    assert found["perplexity_stay"] == pytest.approx(4)
    assert found["perplexity_move"] == pytest.approx(2 ** ((3 + 1 + 2) / 3))
    # moves score 1/2, 7/8, 3/4; both stays 3/4: of six pairs one move loses twice, one wins twice, one ties twice
    assert found["move_auc"] == pytest.approx((0 + 2 + 2 * 0.5) / 6)
    assert found["move_log_loss"] == pytest.approx(-np.log([1 / 4, 1 / 4, 1 / 2, 7 / 8, 3 / 4]).mean())
    assert found["title_mass"] is None


@pytest.mark.parametrize("titles", [2, 9])
def test_a_uniform_law_scores_the_number_of_titles_everywhere(titles):
    rows = some_rows(num_titles=titles)
    flat = Law(np.full(titles, 1 / titles), np.full((titles, titles), 1 / titles))
    found = only(predict(rows, flat))
    for name in NUMBERS[:5]:
        assert found[name] == pytest.approx(titles, rel=1e-12)
        assert found[f"{name}_se"] == pytest.approx(0, abs=1e-12)
    assert found["move_auc"] == 0.5


def test_transitions_are_first_rows_stays_and_moves_and_nothing_else(rows):
    found = only(predict(rows, LAW))
    kinds = [found[f"transitions_{kind}"] for kind in ("first", "stay", "move")]
    assert kinds[0] == found["workers"] == 40
    assert sum(kinds) == found["transitions"] == len(rows)
    logs = [found[f"transitions_{kind}"] * np.log(found[f"perplexity_{kind}"]) for kind in ("first", "stay", "move")]
    assert np.log(found["perplexity"]) == pytest.approx(sum(logs) / len(rows))


def test_first_rows_count_in_the_perplexity_and_in_nothing_of_stays_and_moves(rows):
    before = predict(rows, LAW)
    after = predict(rows, LAW, log_p=np.where(before.first, -9.0, before.log_p))
    changed = {name for name in NUMBERS if only(before)[name] != only(after)[name]}
    assert changed == {"perplexity", "perplexity_first"}


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(12)), st.booleans())
def test_permuting_workers_changes_no_number(order, tags):
    base = some_rows(workers=12, years=4, seed=2)
    if tags:
        base = replace(base, dataset=np.where(base.worker < 5, "b", "a"))
    permuted = base.take(np.concatenate([np.flatnonzero(base.worker == worker) for worker in order]))
    one, other = only(predict(base, LAW), draws=0), only(predict(permuted, LAW), draws=0)
    assert [one[name] for name in NUMBERS] == pytest.approx([other[name] for name in NUMBERS], nan_ok=True)


def test_copying_every_row_of_every_worker_leaves_the_errors_unchanged(rows):
    once = predict(rows, LAW)
    twice = predict(
        replace(
            as_rows(np.zeros((40, 12), int), 5),  # the copies stand behind the originals, in years of their own
            occupation=np.tile(rows.occupation.reshape(40, 6), 2).ravel(),
        ),
        LAW,
    )
    copied = {name: np.tile(getattr(once, name).reshape(40, 6), 2).ravel() for name in ("log_p", "title_mass")}
    found, again = (
        only(once),
        only(
            type(twice)(
                twice.table.set_column(twice.table.column_names.index("log_p"), "log_p", pa.array(copied["log_p"])),
                occupations=twice.occupations,
                metadata=twice.metadata,
            )
        ),
    )
    for name in ("perplexity", "perplexity_se", "perplexity_low", "perplexity_high"):
        assert again[name] == pytest.approx(found[name], rel=1e-12)
    assert again["transitions"] == 2 * found["transitions"]


def test_one_seed_gives_one_answer(rows):
    predictions = predict(rows, LAW)
    assert only(predictions, seed=4) == only(predictions, seed=4)
    assert only(predictions, seed=4)["perplexity_se"] != only(predictions, seed=5)["perplexity_se"]


def test_errors_are_those_of_workers_drawn_with_all_their_rows(rows):
    predictions = predict(rows, LAW)
    counts = worker_draws(40, draws=100, seed=0)
    found = only(predictions)
    history = ~predictions.first
    draws = {
        "perplexity": perplexity_draws(predictions.log_p, worker=rows.worker, counts=counts),
        "perplexity_move": perplexity_draws(
            predictions.log_p[predictions.move], worker=rows.worker[predictions.move], counts=counts
        ),
        "move_auc": move_auc_draws(
            -predictions.log_p_previous[history],
            predictions.move[history],
            worker=rows.worker[history],
            counts=counts,
        ),
    }
    for name, drawn in draws.items():
        assert (found[f"{name}_se"], found[f"{name}_low"], found[f"{name}_high"]) == pytest.approx(spread(drawn))


def test_one_id_in_two_datasets_is_two_workers(rows):
    halves = replace(rows, worker=rows.worker % 20, dataset=np.where(rows.worker < 20, "NLSY79", "NLSY97"))
    apart, together = only(predict(halves, LAW)), only(predict(rows, LAW))
    assert apart["workers"] == 40
    assert [apart[f"{name}_se"] for name in NUMBERS] == [together[f"{name}_se"] for name in NUMBERS]


def test_the_spread_of_one_worker_is_unknown():
    found = only(predict(some_rows(workers=1), LAW))
    assert found["perplexity"] > 1
    assert [found[f"{name}_se"] for name in NUMBERS] == [None] * len(NUMBERS)
    assert found["perplexity_low"] is found["perplexity_high"] is None


def test_what_never_happened_has_no_number():
    found = only(predict(as_rows(np.zeros((5, 3), int), 5), LAW))
    assert (found["transitions_move"], found["perplexity_move"], found["move_auc"]) == (0, None, None)
    assert found["infinite"] == []
    assert found["perplexity_stay"] == found["perplexity_history"]


# The law behind the move task


def raw(rows, mass, **changed):
    """LAW with a part of its mass off the list of titles."""
    whole = LAW.over_titles(rows)
    log_p, log_p_previous = (
        np.log(whole[rows.row, rows.occupation] * mass),
        np.log(whole[rows.row, rows.previous] * mass),
    )
    given = {"law": "raw", "log_p": log_p, "log_p_previous": log_p_previous, "log_p_all": None}
    return predict(rows, LAW, **(given | changed))


def test_a_raw_law_is_normalised_by_its_title_mass_for_the_move_task_only(rows):
    mass = np.random.default_rng(0).uniform(0.2, 1.0, size=len(rows))
    normalized, found = only(predict(rows, LAW)), only(raw(rows, mass, title_mass=mass))
    for name in ("move_auc", "move_auc_se", "move_log_loss", "move_log_loss_se", "move_log_loss_low"):
        assert found[name] == pytest.approx(normalized[name], rel=1e-9)
    assert found["move_score"] == normalized["move_score"] == "1 - P(previous)"
    assert found["perplexity"] == pytest.approx(normalized["perplexity"] / np.exp(np.log(mass).mean()))
    assert found["title_mass"] == pytest.approx(mass.mean())
    assert found["title_mass_se"] > 0


def test_a_raw_law_without_its_mass_only_ranks(rows):
    mass = np.random.default_rng(0).uniform(0.2, 1.0, size=len(rows))
    predictions = raw(rows, mass, titles="observed")
    found, history = only(predictions), ~predictions.first
    assert found["move_score"] == "-log_p_previous"
    assert (found["move_log_loss"], found["move_log_loss_se"], found["title_mass"]) == (None, None, None)
    assert found["move_auc"] == move_auc(-predictions.log_p_previous[history], predictions.move[history])


def test_the_masked_law_needs_no_title_mass(rows):
    masked = only(predict(rows, LAW, law="masked", title_mass=np.full(len(rows), 0.5)))
    assert masked["move_log_loss"] == only(predict(rows, LAW))["move_log_loss"]


def test_without_the_probability_of_staying_there_is_no_move_task(rows):
    found = only(predict(rows, LAW, log_p_previous=None))
    assert (found["move_auc"], found["move_log_loss"], found["move_score"]) == (None, None, None)


# Pairs of models


def test_a_model_does_not_differ_from_itself(rows):
    one, other = predict(rows, LAW), predict(rows, LAW, model="copy")
    for difference in evaluate([one, other], draws=200).differences:
        assert (difference["difference"], difference["se"], difference["p_value"]) == (0, 0, 1)
        assert (difference["model_a"], difference["model_b"]) == ("copy", "known")


def test_a_difference_is_later_minus_earlier_in_the_same_draws(rows):
    one, other = predict(rows, LAW), predict(rows, OTHER, model="other")
    counts = worker_draws(40, draws=300, seed=2)
    first, second = (perplexity_draws(p.log_p, worker=rows.worker, counts=counts) for p in (one, other))
    evaluation = evaluate([one, other], draws=300, seed=2)
    found = {d["metric"]: d for d in evaluation.differences}
    assert list(found) == ["perplexity", "perplexity_history", "move_auc"]
    total = found["perplexity"]
    assert (total["model_a"], total["law_a"], total["model_b"]) == ("other", "normalized", "known")
    assert total["difference"] == evaluation.models[1]["perplexity"] - evaluation.models[0]["perplexity"]
    assert (total["se"], total["low"], total["high"]) == pytest.approx(spread(second - first))
    assert total["difference"] > 0
    assert total["p_value"] == pytest.approx(2 / 301)


def test_a_constant_gap_in_logs_is_certain_though_both_levels_are_not(rows):
    one = predict(rows, LAW)
    other = predict(rows, LAW, law="raw", log_p=one.log_p - 0.01, log_p_all=None)
    evaluation = evaluate([one, other])
    gap = evaluation.differences[0]
    assert gap["p_value"] == pytest.approx(2 / 1001)
    assert gap["se"] < 0.02 * evaluation.models[0]["perplexity_se"]


def test_every_pair_is_compared_and_each_later_object_carries_its_own_against_the_first(rows):
    models = [predict(rows, law, model=name) for name, law in (("a", LAW), ("b", OTHER), ("c", random_law(5, seed=8)))]
    models[2] = predict(rows, OTHER, model="c", log_p_previous=None)
    evaluation = evaluate(models, draws=50)
    pairs = [(d["model_a"], d["model_b"], d["metric"]) for d in evaluation.differences]
    assert pairs == [
        ("b", "a", "perplexity"),
        ("b", "a", "perplexity_history"),
        ("b", "a", "move_auc"),
        ("c", "a", "perplexity"),
        ("c", "a", "perplexity_history"),
        ("c", "b", "perplexity"),
        ("c", "b", "perplexity_history"),
    ]
    assert "differences" not in evaluation.models[0]
    assert evaluation.models[1]["differences"] == evaluation.differences[:3]
    assert evaluation.models[2]["differences"] == evaluation.differences[3:5]


def test_models_of_other_rows_are_not_compared(rows):
    with pytest.raises(PredictionsError, match=r"row 0 .* to 'Title"):
        evaluate([predict(rows, LAW), predict(replace(rows, occupation=4 - rows.occupation), LAW)])


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_cannot_be_evaluated(rows, count):
    with pytest.raises(PredictionsError, match="no predictions to evaluate"):
        evaluate([predict(rows.take(np.arange(0)), LAW)] * count)


# Groups and weights, looked up in the panel


def test_a_panel_its_predictions_and_their_file_give_one_answer(tmp_path, rows):
    frame = {
        "dataset": np.where(rows.worker < 20, "NLSY79", "NLSY97"),
        "worker_id": rows.worker % 20,
        "year": rows.year,
        "occupation": [f"Title {state}" for state in rows.occupation],
        "gender": np.where(rows.worker % 3, "men", "women"),
        "weight": rows.worker % 4 + 0.5,
    }
    order = np.random.default_rng(0).permutation(len(rows))
    panel = Panel.from_arrow(pa.table(frame).take(order), occupations=rows.occupations)
    transitions = panel.transitions()
    whole = np.where(transitions.first[:, None], LAW.first, LAW.next[transitions.previous])
    predictions = Predictions.from_transitions(
        panel,
        transitions,
        model="known",
        law="normalized",
        titles="all",
        log_p=np.log(whole[np.arange(len(rows)), transitions.occupation]),
        log_p_previous=np.log(whole[np.arange(len(rows)), transitions.previous]),
        log_p_all=np.log(whole),
    )
    tagged = predict(replace(rows, worker=rows.worker % 20, dataset=frame["dataset"]), LAW)
    assert predictions.table.equals(tagged.table)
    predictions.write(tmp_path / "p.parquet")
    found = evaluate([Predictions.read(tmp_path / "p.parquet")], by="gender", panel=panel, weight="weight", draws=50)
    same = {name: pa.array(frame[name]) for name in ("gender", "weight")}
    assert found == evaluate(
        [predict(rows, LAW)], by="gender", panel=with_column(rows, **same), weight="weight", draws=50
    )
    assert [group["group"] for group in found.models[0]["groups"]] == ["men", "women"]


def with_column(rows, **columns):
    return replace(rows, columns=columns)


def test_a_group_has_the_numbers_of_its_rows_and_the_errors_of_the_same_draws(rows):
    gender = np.where(rows.worker % 3 == 0, "women", "men").astype(object)
    gender[rows.worker >= 35] = None
    predictions = predict(rows, LAW)
    found = only(predictions, by="gender", panel=with_column(rows, gender=pa.array(gender.tolist())))
    assert found["by"] == "gender"
    assert [group["group"] for group in found["groups"]] == ["men", "women", "(missing)"]
    assert sum(group["transitions"] for group in found["groups"]) == len(rows)
    assert sum(group["workers"] for group in found["groups"]) == 40
    women = gender == "women"
    group = found["groups"][1]
    draws = perplexity_draws(
        predictions.log_p[women], worker=rows.worker[women], counts=worker_draws(40, draws=100, seed=0)
    )
    assert group["perplexity"] == pytest.approx(np.exp(-predictions.log_p[women].mean()))
    assert (group["perplexity_se"], group["perplexity_low"], group["perplexity_high"]) == pytest.approx(spread(draws))
    assert list(group) == ["group", *list(found)[6:-5]]


def test_the_one_group_of_everyone_is_the_whole(rows):
    found = only(predict(rows, LAW), by="all", panel=with_column(rows, all=pa.array([1] * len(rows))))
    assert found["groups"][0]["group"] == "1"
    assert all(found["groups"][0][name] == found[name] for name in list(found)[6:-5])


def test_a_group_may_change_within_a_career_and_numbers_keep_their_order(rows):
    found = only(predict(rows, LAW), by="year", panel=rows)
    assert [group["group"] for group in found["groups"]] == [str(year) for year in range(1980, 1986)]
    assert found["groups"][0]["perplexity_history"] is None
    assert [group["workers"] for group in found["groups"]] == [40] * 6
    number = pa.array([[10, 9, None][worker % 3] for worker in rows.worker])
    found = only(predict(rows, LAW), by="n", panel=with_column(rows, n=number))
    assert [group["group"] for group in found["groups"]] == ["9", "10", "(missing)"]


def test_a_group_of_one_worker_has_no_error(rows):
    found = only(predict(rows, LAW), by="n", panel=with_column(rows, n=pa.array(rows.worker == 3)))
    assert [(g["group"], g["workers"], g["perplexity_se"] is None) for g in found["groups"]] == [
        ("False", 39, False),
        ("True", 1, True),
    ]


@pytest.mark.parametrize("kind", [np.int64, np.uint64, str])
def test_rows_are_found_by_dataset_worker_and_year_wherever_they_stand(rows, kind):
    tagged = replace(rows, worker=(rows.worker % 20).astype(kind), dataset=np.where(rows.worker < 20, "b", "a"))
    columns = {"gender": pa.array(np.where(rows.worker % 2, "x", "y").tolist()), "w": pa.array(rows.row * 1.0)}
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = replace(tagged.take(order), columns={n: c.take(pa.array(order)) for n, c in columns.items()})
    predictions = predict(tagged, LAW)
    straight = evaluate([predictions], by="gender", panel=replace(tagged, columns=columns), weight="w", draws=20)
    assert evaluate([predictions], by="gender", panel=shuffled, weight="w", draws=20) == straight
    expected = np.exp(-np.average(predictions.log_p, weights=rows.row))
    assert straight.models[0]["perplexity"] == pytest.approx(expected)
    part = tagged.take(np.arange(60, 200))
    found = evaluate([predict(part, LAW)], by="gender", panel=shuffled, draws=5).models[0]
    assert sum(group["transitions"] for group in found["groups"]) == 140


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.take(np.delete(rows.row, 9)), r"no row for worker 1 in 1983 \(1 of 240 predictions"),
        (lambda rows: replace(rows, year=rows.year + 1), r"no row for worker 0 in 1980 \(40 of 240"),
        (lambda rows: replace(rows, year=rows.year - 99), r"no row for worker 0 in 1980 \(240 of 240"),
        (lambda rows: rows.take(np.arange(0)), r"no row for worker 0 in 1980 \(240 of 240"),
        (lambda rows: replace(rows, dataset=np.full(len(rows), "PSID")), "its datasets are 'PSID'"),
        (lambda rows: replace(rows, worker=rows.worker.astype(str)), "worker_id is int64 .* large_string in the panel"),
    ],
)
def test_a_prediction_that_the_panel_lacks_is_named(rows, change, message):
    panel = change(rows)
    if panel.worker.dtype.kind == "U":
        panel = replace(panel, columns={"worker_id": pa.array(panel.worker.tolist(), pa.large_string())})
    with pytest.raises(PredictionsError, match=message) as error:
        evaluate([predict(rows, LAW)], by="year", panel=panel)
    assert "\n" not in str(error.value)


def test_a_column_that_cannot_be_used_is_refused(rows):
    predictions = predict(rows, LAW)
    with pytest.raises(PredictionsError, match=r"no column 'sex'; present are dataset, worker_id, year"):
        evaluate([predictions], by="sex", panel=rows)
    with pytest.raises(PredictionsError, match="'gender' is looked up in the panel; pass panel="):
        evaluate([predictions], by="gender")
    with pytest.raises(PredictionsError, match="'w' is looked up in the panel; pass panel="):
        evaluate([predictions], weight="w")
    with pytest.raises(PredictionsError, match="group by strings, numbers"):
        evaluate([predictions], by="n", panel=with_column(rows, n=pa.array([[1]] * len(rows))))
    with pytest.raises(PredictionsError, match="'n' is string; give a column of numbers"):
        evaluate([predictions], weight="n", panel=with_column(rows, n=pa.array(["1"] * len(rows))))


def test_equal_weights_are_no_weights(rows):
    predictions = predict(rows, LAW)
    weighted = only(predictions, weight="w", panel=with_column(rows, w=pa.array([1] * len(rows))))
    assert weighted | {"weight": None} == only(predictions)
    fourfold = only(predictions, weight="w", panel=with_column(rows, w=pa.array([4.0] * len(rows))))
    for name in NUMBERS[:7]:
        assert fourfold[name] == pytest.approx(weighted[name], rel=1e-12)
        assert fourfold[f"{name}_se"] == pytest.approx(weighted[f"{name}_se"], rel=1e-9)


def test_a_weight_of_zero_takes_a_row_out_and_is_counted(rows):
    happened = predict(rows, LAW).log_p.copy()
    happened[rows.worker < 4] = -np.inf
    weights = np.where(rows.worker < 4, 0.0, 2.0)
    found = only(predict(rows, LAW, log_p=happened), weight="w", panel=with_column(rows, w=pa.array(weights)))
    rest = only(predict(rows.take(np.flatnonzero(rows.worker >= 4)), LAW))
    assert (found["zero_weights"], found["transitions"], found["workers"], found["infinite"]) == (24, 240, 40, [])
    for name in NUMBERS[:7]:
        assert found[name] == pytest.approx(rest[name], rel=1e-12)


def test_two_workers_of_whom_one_weighs_nothing_have_no_error():
    rows = some_rows(workers=2)
    panel = with_column(rows, w=pa.array(rows.worker * 1.0))
    assert only(predict(rows, LAW), weight="w", panel=panel)["perplexity_se"] is None


@pytest.mark.parametrize(
    ("bad", "shown"), [(-1.0, "-1.0"), (None, "None"), (float("inf"), "inf"), (float("nan"), "nan")]
)
def test_a_weight_that_is_no_weight_is_named_by_worker(rows, bad, shown):
    weights = [1.0] * 9 + [bad] + [1.0] * (len(rows) - 10)
    with pytest.raises(PredictionsError, match=rf"weight 'w' of worker 1 in 1983 is {shown} \(1 of 240 rows\)"):
        evaluate([predict(rows, LAW)], weight="w", panel=with_column(rows, w=pa.array(weights)))


def test_weights_that_are_all_zero_are_refused(rows):
    with pytest.raises(PredictionsError, match="is 0 in all 240 rows"):
        evaluate([predict(rows, LAW)], weight="w", panel=with_column(rows, w=pa.array([0] * len(rows))))


# Errors that a referee would accept: 1,000 simulated panels of known law
#
# Half of the workers keep to the titles 0 and 1, half to 2 and 3, mirror images of each other. Model a knows the first
# half, model b is its mirror image: both have the same expected score, and each worker favours one of them in all rows.


@dataclass(frozen=True)
class Study:
    truth: float  # perplexity of either model
    low: np.ndarray
    high: np.ndarray
    low_of_difference: np.ndarray
    high_of_difference: np.ndarray
    p_values: np.ndarray

    @property
    def coverage(self) -> float:
        return float(((self.low <= self.truth) & (self.truth <= self.high)).mean())

    @property
    def coverage_of_no_difference(self) -> float:
        return float(((self.low_of_difference <= 0) & (self.high_of_difference >= 0)).mean())


MIRROR = np.array([2, 3, 0, 1])
KIND = Law(
    np.array([0.4, 0.3, 0.2, 0.1]),
    np.array([[0.6, 0.3, 0.05, 0.05], [0.4, 0.5, 0.05, 0.05], [0.3, 0.3, 0.3, 0.1], [0.3, 0.3, 0.1, 0.3]]),
)
MODEL = Law(
    np.array([0.3, 0.3, 0.2, 0.2]),
    np.array([[0.5, 0.3, 0.1, 0.1], [0.35, 0.45, 0.1, 0.1], [0.2, 0.2, 0.5, 0.1], [0.2, 0.2, 0.1, 0.5]]),
)


def expected_perplexity(kinds: list[Law], model: Law, *, years: int) -> float:
    """Exact: the law of the state in every year, by forward multiplication."""
    total = 0.0
    for kind in kinds:
        state = kind.first
        total += state @ np.log(model.first)
        for _ in range(1, years):
            total += (state[:, None] * kind.next * np.log(model.next)).sum()
            state = state @ kind.next
    return float(np.exp(-total / len(kinds) / years))


def study(*, panels: int, workers: int, years: int, draws: int) -> Study:
    kinds, found = [KIND, KIND.permuted(MIRROR)], []
    generator = np.random.default_rng(2024)
    states = simulate(kinds, workers=panels * workers, years=years, generator=generator)
    for panel, careers in enumerate(states.reshape(panels, workers, years)):
        rows = as_rows(careers, 4)
        options = {"log_p_previous": None, "log_p_all": None}
        models = [predict(rows, law, **options) for law in (MODEL, MODEL.permuted(MIRROR))]
        evaluation = evaluate(models, draws=draws, seed=panel)
        first, gap = evaluation.models[0], evaluation.differences[0]
        found.append([first["perplexity_low"], first["perplexity_high"], gap["low"], gap["high"], gap["p_value"]])
    return Study(expected_perplexity(kinds, MODEL, years=years), *np.array(found).T)


@pytest.fixture(scope="module")
def simulated():
    return study(panels=1000, workers=150, years=6, draws=1000)


def test_the_two_models_of_the_study_have_the_same_expected_score():
    kinds = [KIND, KIND.permuted(MIRROR)]
    truth = expected_perplexity(kinds, MODEL, years=6)
    assert expected_perplexity(kinds, MODEL.permuted(MIRROR), years=6) == pytest.approx(truth, rel=1e-14)
    rows = as_rows(simulate(kinds, workers=40_000, years=6, generator=np.random.default_rng(1)), 4)
    found = evaluate([predict(rows, MODEL, log_p_all=None)], draws=30).models[0]
    assert abs(found["perplexity"] - truth) < 4 * found["perplexity_se"]


def test_intervals_cover_the_truth_in_95_of_100_simulated_panels(simulated):
    assert 0.92 <= simulated.coverage <= 0.98


def test_intervals_of_a_paired_difference_cover_no_difference_in_95_of_100(simulated):
    assert 0.92 <= simulated.coverage_of_no_difference <= 0.98


def test_two_laws_of_equal_expected_score_are_told_apart_in_5_of_100(simulated):
    assert 0.03 <= (simulated.p_values < 0.05).mean() <= 0.07
