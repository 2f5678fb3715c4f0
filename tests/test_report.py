"""The page says what the evaluation says, holds every text as text, and asks for nothing outside itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from careers import Rows, predict, random_law, some_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from laborllm.errors import FileError, MissingDependencyError, PredictionsError
from laborllm.evaluate import evaluate
from laborllm.occupations import Occupations
from laborllm.predictions import Predictions
from laborllm.report import WorkedCareer, write_report
from laborllm.report import text as texts
from laborllm.report.charts import PALETTE, Bar, Dots, Point, bar_chart, dot_chart, rebuilt
from laborllm.report.tables import difference_rows, model_rows

HOSTILE = (
    "</script><script>alert(1)</script>",
    """<img src=x onerror="alert(2)">""",
    "\" onmouseover='alert(3)' x=\"",
    "]]><b>&lt;script&gt; {{ 7 * 7 }} {% raw %} R&D",
    "</svg></title></style><style>@import url(http://evil.invalid)</style>",
)
SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Titled(Rows):
    """Rows over titles of one's choice."""

    titles: tuple[str, ...] = ()

    @property
    def occupations(self) -> Occupations:
        return Occupations.from_titles(self.titles)


@dataclass
class Page(HTMLParser):
    """The elements, attributes and texts of a page as a browser would build them."""

    html: str
    elements: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    cells: list[tuple[str, str]] = field(default_factory=list)  # (data-label, text)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open_cell = False
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "td":
            self.open_cell = True
            self.cells.append((dict(attrs)["data-label"], ""))

    def handle_endtag(self, tag):
        self.open_cell = self.open_cell and tag != "td"

    def handle_data(self, data):
        self.texts.append(data)
        if self.open_cell:
            label, text = self.cells[-1]
            self.cells[-1] = (label, text + data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def rows_over(titles: Sequence[str]) -> Titled:
    rows = some_rows(num_titles=len(titles), workers=20, years=5)
    return Titled(
        rows.worker, rows.year, rows.occupation, rows.num_titles, np.full(len(rows), "NLSY79"), {}, tuple(titles)
    )


def two_models(titles: Sequence[str] = ("Cooks", "Clerks", "Judges", "Not employed"), **changed) -> list[Predictions]:
    rows = rows_over(titles)
    return [
        predict(rows, random_law(len(titles), seed=1), model="first model", covariates=["gender"], seed=3, **changed),
        predict(rows, random_law(len(titles), seed=0), model="second model", model_hash="c0ffee", **changed),
    ]


def page_of(predictions: Sequence[Predictions], folder: Path, **options) -> Page:
    write_report(predictions, folder / "report.html", draws=50, overwrite=True, **options)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Page:
    rows = rows_over(HOSTILE)
    laws = [random_law(len(HOSTILE), seed=seed) for seed in range(2)]
    models = [
        predict(rows, law, model=name, covariates=[HOSTILE[0]]) for law, name in zip(laws, HOSTILE[:2], strict=True)
    ]
    groups = np.array(HOSTILE)[rows.worker % len(HOSTILE)]
    panel = Titled(rows.worker, rows.year, rows.occupation, 5, rows.dataset, {"gender": groups.tolist()}, HOSTILE)
    folder = tmp_path_factory.mktemp("hostile")
    return page_of(models, folder, title=HOSTILE[2], notes=HOSTILE, by="gender", panel=panel, date=HOSTILE[4])


def test_hostile_titles_models_groups_and_notes_make_no_element_and_no_attribute(hostile):
    assert not {"script", "img", "b onerror", "iframe", "object", "link", "base", "form"} & set(hostile.elements)
    assert hostile.elements.count("style") == 1
    assert [name for _, name, _ in hostile.attributes if name.startswith("on")] == []
    opened = {tag for tag, _, value in hostile.attributes if "alert" in value}
    assert opened <= {"svg", "td"}  # as the text of aria-label and data-label alone
    assert {name for _, name, value in hostile.attributes if "alert" in value} <= {"aria-label", "data-label"}


def test_hostile_texts_are_read_as_they_were_given(hostile):
    for text in HOSTILE:
        assert text in hostile.text
    labels = [value for tag, name, value in hostile.attributes if (tag, name) == ("svg", "aria-label")]
    assert all(any(title in label for label in labels) for title in HOSTILE)


def test_the_page_asks_for_nothing_outside_itself(hostile):
    assert [
        (t, n) for t, n, _ in hostile.attributes if n in {"src", "srcset", "href", "xlink:href", "data", "action"}
    ] == []
    style = re.search(r"<style>(.*?)</style>", hostile.html, flags=re.DOTALL)
    assert style is not None
    assert "@import" not in style[1]
    assert "url(" not in style[1]
    policy = [v for t, n, v in hostile.attributes if t == "meta" and n == "content" and "default-src" in v]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert [v for _, n, v in hostile.attributes if n == "style"] == []


def test_the_same_input_gives_the_same_bytes(tmp_path):
    first, second = (page_of(two_models(), tmp_path).html for _ in range(2))
    assert first == second


def test_a_date_is_shown_only_when_given(tmp_path):
    assert "Date" not in page_of(two_models(), tmp_path).texts
    assert "2026-11-20" in page_of(two_models(), tmp_path, date="2026-11-20").texts


def test_the_numbers_on_the_page_are_those_of_the_evaluation(tmp_path):
    models = two_models()
    columns = {f"perplexity_{kind}": f"Perplexity, {kind}s" for kind in ("stay", "move")}
    columns |= {"perplexity_history": "Perplexity, with a history", "perplexity_first": "Perplexity, first rows"}
    columns |= {"perplexity": "Perplexity, all rows", "move_log_loss": "Move log loss"}
    cells = page_of(models, tmp_path).cells
    for place, numbers in enumerate(evaluate(models, draws=50, seed=0).models):
        for key, label in columns.items():
            text = [text for name, text in cells if name == label][place]
            value, error = (float(part) for part in re.findall(r"[\d.]+", text)[:2])
            unit = 10.0 ** -len(text.split()[0].partition(".")[2])
            assert abs(value - numbers[key]) <= unit / 2 + 1e-12
            assert abs(error - numbers[f"{key}_se"]) <= unit / 2 + 1e-12
            assert 10 <= round(error / unit) <= 99  # two significant digits
            if key == "perplexity":
                ends = [float(end) for end in re.findall(r"\[([\d.]+), ([\d.]+)\]", text)[0]]
                assert ends == pytest.approx([numbers["perplexity_low"], numbers["perplexity_high"]], abs=unit)


def test_a_paired_difference_is_the_model_of_the_row_minus_the_one_it_stands_against(tmp_path):
    models = two_models()
    cells = dict(page_of(models, tmp_path).cells)
    later, earlier = (evaluate([model], draws=2).models[0]["perplexity"] for model in reversed(models))
    shown = float(cells["Perplexity"].split()[0].replace("−", "-"))
    assert shown == pytest.approx(later - earlier, rel=0.02)
    entry = evaluate(models, draws=50).differences[0]
    assert float(cells["Perplexity"].split()[2]) == pytest.approx(entry["se"], rel=0.05)
    assert cells["Perplexity, p"] == ("≤ 0.039" if entry["p_value"] < 0.04 else f"{entry['p_value']:.3f}")


def test_an_evaluation_that_is_passed_is_the_one_that_is_shown(tmp_path):
    evaluation = evaluate(two_models(), draws=77, seed=5)
    page = page_of(two_models(), tmp_path, evaluation=evaluation)
    assert "77 draws of 20 workers, seed 5" in page.texts
    rows = [*model_rows(evaluation)[1], *difference_rows(evaluation)[1]]
    printed = [" ".join(text.split()) for _, text in page.cells]
    assert all(cell in printed for row in rows for cell in row if "±" in cell)


def test_the_terminal_gets_one_row_per_model_and_one_per_pair():
    evaluation = evaluate(two_models(), draws=50)
    for header, rows in (model_rows(evaluation), difference_rows(evaluation)):
        assert all(len(row) == len(header) for row in rows)
    assert [row[0] for row in model_rows(evaluation)[1]] == ["first model", "second model"]
    assert [row[:2] for row in difference_rows(evaluation)[1]] == [["second model", "first model"]]


def test_a_number_that_does_not_exist_is_a_dash_and_an_infinite_one_says_so(tmp_path):
    rows = rows_over(("Cooks", "Clerks", "Judges"))
    law = random_law(3, seed=0)
    log_p = np.log(law.over_titles(rows)[rows.row, rows.occupation])
    log_p[3] = -np.inf
    raw = predict(rows, law, law="raw", titles="observed", log_p=log_p, log_p_all=None)
    page = page_of([raw], tmp_path)
    values = {label: " ".join(text.split()) for label, text in page.cells}
    assert values["Title mass"] == values["Move log loss"] == "–"
    assert values["Perplexity, all rows"] == "∞"
    assert "*" in values["Move AUC"]
    assert "* AUC of −log P(previous occupation)" in page.text
    assert not re.search(r"\b(nan|inf|None|NaN|undefined)\b", page.text)
    assert "Paired differences" not in page.text
    assert "One career, worked" not in page.text


def test_numbers_of_different_laws_stand_under_different_headings(tmp_path):
    first, second = two_models()
    raw = predict(rows_over(first.occupations.titles), random_law(4, seed=1), model="third", law="raw")
    page = page_of([first, raw, second], tmp_path)
    order = [
        page.html.index(mark) for mark in ("<b>normalized</b> law", ">first model<", ">second model<", "<b>raw</b> law")
    ]
    assert order == sorted(order)
    assert page.html.index(">third<") > order[-1]
    assert "third (raw)" in page.text


def test_one_worker_has_numbers_without_errors(tmp_path):
    rows = some_rows(workers=1, num_titles=3)
    page = page_of([predict(rows, random_law(3, seed=0))], tmp_path)
    assert dict(page.cells)["Perplexity, all rows"].strip().replace(".", "").isdigit()
    assert "One model gave" in page.text


def test_the_worked_career_shows_history_prediction_and_what_happened(tmp_path):
    model = two_models()[1]
    career = WorkedCareer.from_predictions(
        model, dataset="NLSY79", worker_id=4, year=1983, facts={"race": "white"}, top=2
    )
    rows = np.flatnonzero(model.worker == 4)
    titles = model.occupations.titles
    assert career.history == tuple((1980 + i, titles[model.observed[rows[i]]]) for i in range(3))
    assert career.happened == titles[model.observed[rows[3]]]
    law = np.exp(model.log_p_all[rows[3]])
    likely = [titles[j] for j in np.argsort(-law)[:2]]
    assert [title for title, _ in career.predicted[:2]] == likely
    assert dict(career.predicted)[career.happened] == pytest.approx(law[model.observed[rows[3]]], rel=1e-6)
    page = page_of([model], tmp_path, worked=career)
    for shown in ("race", "white", "1980", career.happened):
        assert shown in page.texts
    assert page.text.count("· happened") == 2  # wide and phone


def test_a_long_history_is_shown_as_spells(tmp_path):
    history = [(None, "Clerks"), *((year, "Cooks" if year < 1990 else "Judges") for year in range(1980, 1996))]
    career = WorkedCareer("m", "raw", 1996, "Judges", [("Judges", 0.9)], [*history[:-1], (1995, "Cooks")])
    page = page_of(two_models(), tmp_path, worked=career)
    lines = re.findall(r"<li><span>(.*?)</span>(.*?)</li>", page.html)
    assert lines == [("before", "Clerks"), ("1980–89", "Cooks"), ("1990–94", "Judges"), ("1995", "Cooks")]


def test_a_title_that_happened_beyond_the_best_is_shown_last():
    model = two_models()[0]
    row = int(np.argmax(-model.log_p))
    key = {"dataset": "NLSY79", "worker_id": int(model.table["worker_id"][row].as_py()), "year": int(model.year[row])}
    career = WorkedCareer.from_predictions(model, **key, top=1)
    assert len(career.predicted) == 2
    assert career.predicted[-1][0] == career.happened == model.occupations.titles[model.observed[row]]


def test_a_history_that_was_not_predicted_shows_the_last_title_without_a_year():
    rows = rows_over(("Cooks", "Clerks", "Judges"))
    whole = predict(rows, random_law(3, seed=0))
    late = Predictions(whole.table.filter(whole.year >= 1983), occupations=whole.occupations, metadata=whole.metadata)
    career = WorkedCareer.from_predictions(late, dataset="NLSY79", worker_id=0, year=1984)
    before, seen = (whole.occupations.titles[whole.observed[i]] for i in (2, 3))
    assert career.history == ((None, before), (1983, seen))


def test_by_default_the_best_model_with_a_whole_law_shows_the_first_longest_career(tmp_path):
    worse, better = sorted(two_models(), key=lambda model: model.log_p.mean())
    blind = Predictions(
        better.table.drop_columns("log_p_all"),
        occupations=better.occupations,
        metadata=better.metadata | {"model": "blind"},
    )
    career = WorkedCareer.longest([worse, blind, better])
    assert career is not None
    assert (career.model, career.year) == (better.model, 1984)
    assert career.history[0][1] == better.occupations.titles[better.observed[0]]
    assert WorkedCareer.longest([blind]) is None
    assert f"“{better.model}”" in page_of([worse, blind, better], tmp_path).text


def test_a_career_that_was_not_predicted_is_refused_with_the_years_that_were():
    model = two_models()[0]
    with pytest.raises(PredictionsError, match=r"no row of worker 4 of 'NLSY79' in 1999; predicted years: 1980, 1981"):
        WorkedCareer.from_predictions(model, dataset="NLSY79", worker_id=4, year=1999)
    with pytest.raises(PredictionsError, match=r"worker ids are int64 here, '4' is none"):
        WorkedCareer.from_predictions(model, dataset="NLSY79", worker_id="4", year=1981)
    observed = Predictions(
        model.table.drop_columns("log_p_all"), occupations=model.occupations, metadata=model.metadata
    )
    with pytest.raises(PredictionsError, match="no whole law"):
        WorkedCareer.from_predictions(observed, dataset="NLSY79", worker_id=4, year=1981)


def test_an_existing_page_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(FileError, match="--overwrite"):
        write_report(two_models(), path, draws=10)
    assert path.read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_no_predictions_make_no_page(tmp_path):
    with pytest.raises(PredictionsError, match="at least one model"):
        write_report([], tmp_path / "report.html")


@pytest.mark.parametrize("module", ["jinja2", "altair", "vl_convert"])
def test_without_the_extra_the_message_names_it(module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=re.escape('pip install "laborllm[report]"')):
        write_report(two_models(), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_importing_reports_and_their_tables_loads_nothing_of_the_extra():
    code = "import sys, laborllm.report.tables; print({'jinja2', 'altair', 'vl_convert'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def svgs(chart: str) -> list[ET.Element]:
    """The wide and the phone form of a chart."""
    forms = re.findall(r"<svg.*?</svg>", str(chart), flags=re.DOTALL)
    return [ET.fromstring(form) for form in forms]  # noqa: S314  what is under test


def words(text: str) -> str:
    return "".join(text.split())


@settings(max_examples=20, deadline=None)
@given(st.text(min_size=1, max_size=30))
def test_any_title_becomes_text_in_a_chart_and_nothing_else(title):
    wide, phone = svgs(bar_chart([Bar("Cooks", 0.5, title), Bar(title, 1.0, "1")], alt_text=title))
    for svg in (wide, phone):
        assert {element.tag for element in svg.iter()} <= {"svg", "g", "path", "line", "rect", "text", "tspan"}
        assert words(svg.get("aria-label")) == words(texts.plain(title))
        shown = ["".join(element.itertext()) for element in svg.iter("text")]
        assert shown[0] == "Cooks"
        assert words(texts.plain(title)) in [*map(words, shown), ""]


def test_a_chart_has_a_wide_and_a_phone_form_in_colours_that_the_page_maps():
    lines = [Dots("a", [Point(2.0, 1.5, 2.5)], "2"), Dots("b", [Point(30.0, None, None, 1)], "30"), Dots("c", [], "–")]
    wide, phone = svgs(dot_chart(lines, axis="Perplexity", alt_text="two models"))
    assert (wide.get("class"), phone.get("class")) == ("wide", "phone")
    for svg in (wide, phone):
        assert svg.get("role") == "img"
        assert svg.get("aria-label") == "two models"
        colours = {e.get(name) for e in svg.iter() for name in ("fill", "stroke")} - {None, "none"}
        assert {PALETTE["first"], PALETTE["second"]} <= colours <= set(PALETTE.values())
        assert "Perplexity, log scale" in [e.text for e in svg.iter()]
    assert int(phone.get("width")) <= 360


def test_an_svg_keeps_shapes_and_texts_and_loses_whatever_could_act():
    drawn = (
        '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script><image href="x"/>'
        '<g onclick="alert(1)" style="fill:url(x)"><text fill="#1d1c1a" onfocus="x">Cooks</text></g></svg>'
    )
    svg = rebuilt(drawn, name="wide", size=(10, 10), alt_text="x")
    assert svg.partition(">")[2] == '<g><text fill="#1d1c1a">Cooks</text></g></svg>'
    assert "onload" not in svg


def test_a_chart_without_any_number_is_still_a_chart():
    wide, _ = svgs(dot_chart([Dots("a", [], "–")], axis="Perplexity", alt_text="nothing known"))
    assert "a" in [e.text for e in wide.iter("text")]


def test_perplexities_close_to_each_other_stand_on_a_linear_scale():
    chart = dot_chart([Dots("a", [Point(4.0)], "4"), Dots("b", [Point(5.0)], "5")], axis="Perplexity", alt_text="x")
    assert ">Perplexity<" in chart
    assert "log scale" not in chart


@given(st.floats(1e-3, 1e6), st.floats(1e-5, 1e3))
def test_a_value_is_shown_to_the_two_digits_of_its_error(value, error):
    shown, shown_error = texts.with_error(value, error)
    assert shown_error is not None
    unit = 10.0 ** -len(shown.partition(".")[2])
    assert len(shown_error.partition(".")[2]) == len(shown.partition(".")[2])
    assert abs(float(shown) - value) <= unit * (0.5 + 1e-6)
    if unit < 1:
        assert 10 <= round(float(shown_error) / unit) <= 99


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (4.5678, 0.0996, ("4.57", "0.10")),
        (9.0, 1e-15, ("9.00", "0")),
        (4.5678, None, ("4.57", None)),
        (123.4, 45.6, ("123", "46")),
        (-0.1264, 0.0312, ("−0.126", "0.031")),
        (-0.0001, 0.031, ("0.000", "0.031")),
        (None, None, ("–", None)),
        (float("nan"), 0.1, ("–", None)),
        (float("inf"), float("nan"), ("∞", None)),
    ],
)
def test_numbers_are_shown_with_sense(value, error, expected):
    assert texts.with_error(value, error) == expected


def chromium(page: Path, log: Path) -> str:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not on PATH; Debian's package chromium brings it")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    folder = f"--user-data-dir={log.parent / 'profile'}"
    command = [browser, *options, folder, f"--log-net-log={log}", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def asked_by_pages(log: Path) -> set[str]:
    """Hosts of all requests but those of the browser's own services."""
    events = json.loads(log.read_text())["events"]
    urls = [event["params"]["url"] for event in events if "url" in event.get("params", {})]
    hosts = {url.split("/")[2].split(":")[0] for url in urls if url.startswith(("http:", "https:", "ws:", "wss:"))}
    return {host for host in hosts if not re.search(r"(^|\.)(google|googleapis|gvt1|gstatic)\.com$", host)}


def test_a_real_browser_runs_no_script_of_the_page_and_asks_the_network_for_nothing(hostile, tmp_path):
    page = tmp_path / "report.html"
    page.write_text(hostile.html, encoding="utf-8")
    dom = Page(chromium(page, tmp_path / "page.json"))
    assert "script" not in dom.elements
    assert "img" not in dom.elements
    assert [name for _, name, _ in dom.attributes if name.startswith("on")] == []
    assert dom.elements.count("svg") == hostile.elements.count("svg") == 6
    assert all(text in dom.text for text in HOSTILE)
    assert asked_by_pages(tmp_path / "page.json") == set()


def test_the_browser_test_would_see_a_request_and_a_script(tmp_path):
    page = tmp_path / "leaky.html"
    page.write_text("<img src='http://leak.invalid/x.png'><script>document.body.innerHTML += 'ran'</script>")
    dom = Page(chromium(page, tmp_path / "leaky.json"))
    assert "script" in dom.elements
    assert "ran" in dom.text
    assert asked_by_pages(tmp_path / "leaky.json") == {"leak.invalid"}
