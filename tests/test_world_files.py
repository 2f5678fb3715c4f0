"""Worlds as files: what they say, and one clear line for each that is wrong."""

from __future__ import annotations

import re

import numpy as np
import pytest

from laborllm.errors import WorldError
from laborllm.occupations import Occupations
from laborllm.synth import World, likeness, recipes

EXPLICIT = """
titles = ["Cooks", "Clerks", "Managers"]
initial = [0.5, 0.5, 0.0]
transition = [
  [[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]],
  [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.25, 0.75, 0.0]],
]
stay = [[0.5, 0.6, 0.7], [0.4, 0.3, 0.2]]
duration = [0.0, 0.1]
returns = 0.25
restarts = 0.125
"""
TWO = EXPLICIT.replace("initial = [0.5, 0.5, 0.0]", "initial = [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]")
CLASSES = """
[covariates.gender]
female = 1
male = 3
[covariates.race]
x = 0.5
y = 0.5
[classes]
given = ["gender"]
law = [[0.9, 0.1], [0.25, 0.75]]
"""
DRAWN = """
titles = 6
[random_careers]
seed = 1
stay = [0.5, 0.25]
"""


def written(tmp_path, text):
    path = tmp_path / "world.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_gives_the_laws_as_they_stand(tmp_path):
    world = World.read(written(tmp_path, TWO + CLASSES))
    assert world.titles == ("Cooks", "Clerks", "Managers")
    assert world.initial.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    assert world.kernel[1].tolist() == [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.25, 0.75, 0.0]]
    assert world.stay.tolist() == [[0.5, 0.6, 0.7], [0.4, 0.3, 0.2]]
    assert (world.duration.tolist(), world.returns, world.restarts) == ([0.0, 0.1], 0.25, 0.125)
    assert world.covariates == {"gender": {"female": 1.0, "male": 3.0}, "race": {"x": 0.5, "y": 0.5}}
    assert world.class_law.tolist() == [[[0.9, 0.1]], [[0.25, 0.75]]]


def test_what_classes_share_may_be_written_once(tmp_path):
    rows = "[[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]"
    once = re.sub(r"transition = \[\n.*?\n\]", f"transition = {rows}", TWO, flags=re.S)
    world = World.read(written(tmp_path, re.sub(r"stay = .*", "stay = 0.5", once)))
    assert world.kernel.shape == (1, 3, 3)
    assert world.stay.tolist() == [[0.5] * 3] * 2
    assert world.class_law.tolist() == [0.5, 0.5]
    alone = World.read(written(tmp_path, f'titles = ["a", "b", "c"]\ninitial = [1.0, 0.0, 0.0]\ntransition = {rows}'))
    assert alone.first_order
    assert alone.transition().tolist() == world.kernel[0].tolist()


def test_titles_come_from_a_list_a_number_a_file_or_occ1990dd(tmp_path):
    (tmp_path / "own.csv").write_text("code,title,status\n7,Cooks,employed\n9,Idle,not_employed\n")
    own = World.read(written(tmp_path, DRAWN.replace("titles = 6", 'titles = "own.csv"')))
    assert own.occupations == Occupations(("7", "9"), ("Cooks", "Idle"), ("employed", "not_employed"))
    assert World.read(written(tmp_path, DRAWN)).titles[0] == "Occupation 1"
    jobs = World.read(written(tmp_path, DRAWN.replace("titles = 6", 'titles = "occ1990dd"'))).occupations
    assert len(jobs) == 330
    assert set(jobs.statuses) == {"employed"}


def test_a_drawn_world_keeps_to_its_neighbours_and_its_classes_differ(tmp_path):
    world = World.read(written(tmp_path, DRAWN.replace("seed = 1", "seed = 1\nneighbours = 3\nstay_width = 0.2")))
    assert world.neighbours.shape == (6, 3)
    assert all(j not in row for j, row in enumerate(world.neighbours))
    assert not np.allclose(world.kernel[0], world.kernel[1])
    assert (np.abs(world.stay - [[0.5], [0.25]]) <= 0.1).all()
    assert World.read(written(tmp_path, DRAWN)).neighbours.tolist() == [
        [k for k in range(6) if k != j] for j in range(6)
    ]
    alike = DRAWN.replace("seed = 1", "seed = 1\nclass_spread = 0.0")
    assert np.allclose(*World.read(written(tmp_path, alike)).kernel)


def test_neighbours_on_the_ring_are_the_nearest_on_either_side():
    order = np.array([3, 0, 4, 1, 2])
    near = recipes._ring(order, 3)
    for place, state in enumerate(order):
        expected = {order[(place + 1) % 5], order[place - 1], order[(place + 2) % 5]}
        assert set(near[state]) == expected
        assert list(near[state]) == sorted(near[state])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.25", "[0.0, 0.5, 0.6], [0.5, 0.0, 0.5], [0.25"),
            "after 'Cooks' in class 1",
        ),
        (("[[0.5, 0.5, 0.0]", "[[0.5, 0.6, -0.1]"), "of first occupations in class 0"),
        (("[0.25, 0.75, 0.0]", "[0.25, 0.75]"), r"transition\[1\]\[2\] has 2 entries; give a list of 3"),
        (("[[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]", "1"), "initial is 1; give a list of 3"),
        (("[covariates.race]", "[covariates.year]"), "no covariate can be called 'year'"),
        (("[covariates.race]", "[covariates.split]"), "no covariate can be called 'split'"),
        (("[0.25, 0.75, 0.0]", '[0.25, "x", 0.0]'), r"transition\[1\]\[2\]\[1\] is 'x'; give a number"),
        (("[0.25, 0.75, 0.0]", "[0.25, true, 0.0]"), r"transition\[1\]\[2\]\[1\] is True"),
        (("[0.25, 0.75, 0.0]", "[0.25, nan, 0.0]"), r"transition\[1\]\[2\]\[1\] is nan"),
        (("[0.4, 0.3, 0.2]", "[0.4, 0.3, 1.2]"), "staying in 'Managers' in class 1 is 1.2 after 1 years"),
        (("[0.4, 0.3, 0.2]", "[0.4, 0.3]"), r"stay\[1\] has 2 entries"),
        (("duration = [0.0, 0.1]", "duration = [0.0, 0.9]"), "after 2 years"),
        (("duration = [0.0, 0.1]", "duration = 0.1"), "duration is 0.1; give a list"),
        (("duration = [0.0, 0.1]", "duration = []"), "duration has shape"),
        (("returns = 0.25", "returns = 1.25"), "returns is 1.25; give a probability"),
        (("returns = 0.25", 'returns = "often"'), "returns is 'often'; give a number"),
        (("restarts = 0.125", "restarts = -1"), "restarts is -1"),
        (("restarts", "restart"), "unknown key 'restart'"),
        (("transition", "transitions"), "unknown key 'transitions'"),
        (("initial = ", "# "), "the key 'initial' is missing"),
        (('titles = ["Cooks", "Clerks", "Managers"]', ""), "the key 'titles' is missing"),
        (('"Clerks"', '"Cooks"'), "titles: the title 'Cooks' stands in rows 0 and 1"),
        (('["Cooks", "Clerks", "Managers"]', "-3"), "titles is -3"),
        (('["Cooks", "Clerks", "Managers"]', '"absent.csv"'), "absent.csv is no file"),
        (("[0.9, 0.1]", "[0.9, 0.2]"), r"of the class in row \[0, 0\]"),
        (("[0.9, 0.1]", "[0.9]"), r"classes.law\[0\] has 1 entries"),
        (('["gender"]', '["sex"]'), r"classes.given is \['sex'\].*gender, race"),
        (('["gender"]', '["race", "gender"]'), "in the order of their tables"),
        (("law = [[0.9", "table = [[0.9"), "unknown key 'classes.table'"),
        (("female = 1", 'female = "many"'), "covariates.gender.female is 'many'"),
        (("female = 1", "female = -1"), "the shares of 'gender'"),
        (("[covariates.race]\nx = 0.5\ny = 0.5", "[covariates]\nrace = 1"), "covariates is"),
        (("titles = [", "titles = {"), "no TOML"),
    ],
)
def test_a_file_that_describes_no_world_is_one_line_with_file_and_key(change, words, tmp_path):
    assert change[0] in TWO + CLASSES
    path = written(tmp_path, (TWO + CLASSES).replace(*change))
    with pytest.raises(WorldError, match=words) as error:
        World.read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("transition", "words"),
    [
        ("3", "transition is 3; give a list of 2"),
        ("[0.5, 0.5]", r"transition\[0\] is 0.5; give a list of 2"),
        ("[[[[0.5, 0.5]]]]", r"transition\[0\] has 1 entries; give a list of 2"),
    ],
)
def test_moves_in_too_few_or_too_many_lists_are_one_line(transition, words, tmp_path):
    path = written(tmp_path, f'titles = ["a", "b"]\ninitial = [0.5, 0.5]\ntransition = {transition}')
    with pytest.raises(WorldError, match=words) as error:
        World.read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("seed = 1", ""), "'random_careers.seed' is missing"),
        (("seed = 1", "seed = 1.5"), "random_careers.seed is 1.5; give a whole number"),
        (("seed = 1", "seed = -1"), "random_careers.seed is -1"),
        (("seed = 1", "seed = 1\nneighbours = 6"), "neighbours is 6; each of 6 titles has 1 to 5 others"),
        (("seed = 1", "seed = 1\nzipff = 1"), "unknown key 'random_careers.zipff'"),
        (("stay = [0.5, 0.25]", "stay = 0.5"), "random_careers.stay is 0.5; give a list"),
        (("stay = [0.5, 0.25]", "stay = [0.5, 1.25]"), "in class 1 is 1.25"),
        (("stay = [0.5, 0.25]", "stay = []"), "stay is empty"),
        (("titles = 6", "titles = 6\ninitial = [1]"), "'random_careers' and 'initial' exclude each other"),
        (("[random_careers]\nseed = 1\nstay = [0.5, 0.25]", "random_careers = 1"), "make it a table"),
        (("titles = 6", "titles = 6\nclasses = 3"), "classes is 3; make it a table"),
        (("titles = 6", "titles = 6\n[classes]\nspread = 1.0"), "the key 'classes.seed' is missing"),
        (("titles = 6", "titles = 6\npermuted = true"), "permuted is True"),
        (("titles = 6", "titles = 1"), "neighbours is 0"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_one_line_with_file_and_key(change, words, tmp_path):
    path = written(tmp_path, DRAWN.replace(*change))
    with pytest.raises(WorldError, match=words) as error:
        World.read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_world_that_is_not_there_is_named_with_those_that_are(tmp_path):
    with pytest.raises(WorldError, match=f"no world 'nowhere'; named worlds are {', '.join(World.names())}"):
        World.named("nowhere")
    with pytest.raises(WorldError, match=r"absent\.toml: the file cannot be read"):
        World.read(tmp_path / "absent.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(WorldError, match=r"bytes\.toml: the file cannot be read"):
        World.read(tmp_path / "bytes.toml")


def test_alike_titles_share_words_or_their_parts():
    titles = ["Civil engineers", "Mechanical engineering technicians", "Cooks", "Cooks, short order", "Bakers", "—"]
    near, cosine = likeness.nearest(titles, 2)
    best = near[np.arange(6), cosine.argmax(axis=1)]
    assert best[[0, 1, 2, 3]].tolist() == [1, 0, 3, 2]
    assert (np.diff(near, axis=1) > 0).all()
    assert near[5].tolist() == [0, 1]
    assert cosine[5].tolist() == [0, 0]


def test_likeness_equals_its_slow_twin():
    titles = Occupations.occ1990dd().titles[:60]
    near, cosine = likeness.nearest(titles, 7)
    parts = [list(likeness._parts(title)) for title in titles]
    holders = {p: sum(p in other for other in parts) for one in parts for p in one}

    def weight(part):
        return max(1, round(float(np.log2(60 / holders[part])))) * (2 if part.startswith(" ") else 1)

    def dot(a, b):
        return sum(a.count(p) * b.count(p) * weight(p) ** 2 for p in set(a) & set(b))

    for j, one in enumerate(parts):
        norm = np.sqrt(1 + sum((one.count(p) * weight(p)) ** 2 for p in set(one)))
        norms = [np.sqrt(1 + sum((b.count(p) * weight(p)) ** 2 for p in set(b))) for b in parts]
        alike = [round(2**20 * dot(one, b) / (norm * n)) for b, n in zip(parts, norms, strict=True)]
        best = sorted((k for k in range(60) if k != j), key=lambda k: (-alike[k], k))[:7]
        assert near[j].tolist() == sorted(best)
        assert cosine[j].tolist() == [alike[k] / 2**20 for k in sorted(best)]


def test_features_beyond_the_columns_share_them_and_products_stay_near(monkeypatch):
    titles = Occupations.occ1990dd().titles
    exact, lengths = likeness.features(titles)
    monkeypatch.setattr(likeness, "COLUMNS", 512)
    folded, same = likeness.features(titles)
    assert np.array_equal(lengths, same)
    assert (exact.shape[1], folded.shape[1]) == (1176, 512)
    error = ((folded @ folded.T) - (exact @ exact.T)) / np.outer(lengths, lengths)
    assert np.abs(error).mean() < 0.01
