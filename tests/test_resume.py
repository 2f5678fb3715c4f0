"""Resumes: the fast renderer against its slow twin, title spans, windows, and what a prompt may not show."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from laborllm import _core, resume
from laborllm.errors import PanelError, TemplateError
from laborllm.panel import Panel
from laborllm.resume import Template, render, render_plain
from tests.panels import careers, panel_of, panels, real_panel, rows_of, shuffled

SOME = settings(max_examples=30, deadline=None)
PAPER = Template.load("labor-llm")
GOLDEN = Path(__file__).parent / "golden"
WORDS = {name: f"no {name}" for name in ("gender", "race", "birth_year", "region", "education", "wage_class", "hours")}
YEARLY = Template(
    name="yearly",
    version=1,
    header="{dataset}[[ é {gender}/{race}]][[ {region}]]: {birth_year}, {worker_id}\n",
    row="{year}[[ ({education})]] ¶ {title}\n[[paid {wage_class}, ]]{hours} h, {year}, {education}\n",
    end="– ende –",
    missing=WORDS,
)
TEMPLATES = st.sampled_from([PAPER, YEARLY]).flatmap(
    lambda template: st.sampled_from(
        [Template(**{**vars(template), "education": education}) for education in ("target", "previous")]
    )
)
HEAD = re.compile(
    r"<A worker from the (?P<dataset>.*) dataset>\n"
    r"The following information is available about the work history of a (?P<person>.*) US worker"
    r"(?: residing in the (?P<region>.*) region)?\.\n"
    r"(?:The worker was born in (?P<birth_year>.*)\.\n)?"
)
LINE = re.compile(r"(\d{4})(?: \((.*)\))?: (.*)")


def texts_of(panel: Panel, template: Template, **options: object) -> list[str]:
    return render(panel, template, **options).read_all()["resume"].to_pylist()


# ---- the twin


@SOME
@given(panels(), TEMPLATES, st.integers(1, 400))
def test_the_renderer_prints_what_its_slow_twin_prints(panel: Panel, template: Template, batch_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "BATCH_BYTES", batch_bytes)
        batches = list(render(panel, template))
    plain = render_plain(panel, template)
    assert [text for batch in batches for text in batch["resume"].to_pylist()] == plain
    assert all(sum(len(text.encode()) for text in batch["resume"].to_pylist()[:-1]) < batch_bytes for batch in batches)


@SOME
@given(panels(), TEMPLATES, st.data())
def test_windows_are_printed_as_the_slow_twin_prints_them(
    panel: Panel, template: Template, data: st.DataObject
) -> None:
    workers = data.draw(st.lists(st.integers(0, panel.num_workers - 1), max_size=8))
    first = [data.draw(st.integers(panel.starts[one], panel.starts[one + 1] - 1)) for one in workers]
    stop = [data.draw(st.integers(row, panel.starts[one + 1])) for one, row in zip(workers, first, strict=True)]
    windows = (np.array(first, np.int64), np.array(stop, np.int32))
    table = render(panel, template, windows=windows).read_all()
    assert table["resume"].to_pylist() == render_plain(panel, template, windows=windows)
    assert table["year"].to_pylist() == [panel.years()[a:b].tolist() for a, b in zip(first, stop, strict=True)]
    assert table["worker_id"].to_pylist() == panel.column("worker_id").take(pa.array(first, pa.int64())).to_pylist()


@SOME
@given(panels(), st.data())
def test_slices_parts_and_shards_print_as_the_slow_twin_does(panel: Panel, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, panel.num_workers))
    for some in (panel.slice_workers(start, panel.num_workers), panel.shard(0, 2)):
        assert texts_of(some, YEARLY) == render_plain(some, YEARLY)
    part = panel.with_split({"a": 0.5, "b": 0.5})
    for split in set(part.column("split").to_pylist()):
        assert texts_of(part.part(split), PAPER) == render_plain(part.part(split), PAPER)


@SOME
@given(careers(), st.randoms(use_true_random=False))
def test_resumes_do_not_depend_on_row_order_or_chunks(table: pa.Table, random_: random.Random) -> None:
    expected = render(panel_of(table), YEARLY).read_all()
    assert render(panel_of(shuffled(table, random_)), YEARLY).read_all().equals(expected)


# ---- spans and columns


@SOME
@given(panels(), TEMPLATES)
def test_every_span_is_its_title(panel: Panel, template: Template) -> None:
    rows = 0
    for entry in render(panel, template).read_all().to_pylist():
        text = entry["resume"].encode()
        spans = zip(entry["title_start"], entry["title_end"], entry["occupation"], strict=True)
        for start, end, title in spans:
            assert text[start:end].decode() == title
            assert text[start - 1 : start] == b" " != text[start - 2 : start - 1]
            assert text[end : end + 1] == b"\n"
            rows += 1
        assert entry["title_start"] == sorted(entry["title_start"])
    assert rows == panel.num_rows


@SOME
@given(panels())
def test_a_resume_carries_the_rows_it_shows(panel: Panel) -> None:
    found = render(panel, PAPER).read_all()
    rows = [
        (entry["dataset"], entry["worker_id"], year, title)
        for entry in found.to_pylist()
        for year, title in zip(entry["year"], entry["occupation"], strict=True)
    ]
    names = ["dataset", "worker_id", "year", "occupation"]
    assert rows == [tuple(row[name] for name in names) for row in panel.table.select(names).to_pylist()]


def test_the_schema_is_the_contract() -> None:
    panel = panel_of(rows_of(("a", 1990, "Cooks"), gender=["male"], race=["white"]), dataset="PSID")
    schema = render(panel, PAPER).schema
    coded = pa.dictionary(pa.int32(), pa.large_string())
    assert dict(zip(schema.names, schema.types, strict=True)) == {
        "dataset": coded,
        "worker_id": pa.large_string(),
        "resume": pa.large_string(),
        "title_start": pa.large_list(pa.int64()),
        "title_end": pa.large_list(pa.int64()),
        "year": pa.list_(pa.int32()),
        "occupation": pa.list_(coded),
    }
    described = json.loads(schema.metadata[b"laborllm.template"])
    bound = PAPER.bind(panel.table.column_names)
    assert described["hash"] == bound.hash
    assert Template.from_json(schema.metadata[b"laborllm.template"].decode()) == bound
    assert schema.metadata[b"laborllm.occupations"].decode() == panel.occupations.hash
    assert schema.metadata[b"laborllm.version"]


# ---- what the text says


def test_the_text_of_the_paper_stands() -> None:
    rows = [(17, 1984, "Cooks"), (17, 1985, "料理人"), (17, 1987, "Physicians' assistants"), (18, 1984, "Cooks")]
    panel = panel_of(
        rows_of(
            *rows,
            gender=["female"] * 3 + [None],
            race=["black or african american"] * 3 + [None],
            region=["south", "west", None, None],
            birth_year=[1963, None, 1963, None],
            education=["some college", None, "college", "high school"],
        ),
        dataset="PSID",
    )
    assert "\n---\n".join(texts_of(panel, PAPER)).encode() == (GOLDEN / "labor-llm.txt").read_bytes()


def parse(text: str) -> tuple[dict[str, str], list[tuple[str, str | None, str]]]:
    """Read a resume of the paper's template back: header values, and (year, education, title) of each row."""
    head, _, body = text.removesuffix("<END OF DATA>").partition("the job title:\n")
    found = HEAD.match(head)
    assert found is not None
    rows = [LINE.fullmatch(line) for line in body.splitlines()]
    assert all(rows)
    return found.groupdict(), [row.groups() for row in rows if row]


def check_parses_back(panel: Panel, names: list[str]) -> None:
    records = panel.table.select(names).to_pylist()
    for worker, text in enumerate(texts_of(panel, PAPER)):
        first = int(panel.starts[worker])
        header, rows = parse(text)
        head = records[first]
        said = {
            name: PAPER.missing[name] if head.get(name) is None else str(head[name])
            for name in PAPER.missing
            if name in names
        }
        assert header["dataset"] == head["dataset"]
        assert header["person"] == f"{said['gender']} {said['race']}"
        for name in ("region", "birth_year"):
            assert header[name] == said.get(name)
        for (year, education, title), record in zip(rows, records[first : panel.starts[worker + 1]], strict=True):
            assert int(year) == record["year"]
            assert title == record["occupation"]
            assert education == (record["education"] or PAPER.missing["education"])


@SOME
@given(panels())
def test_a_parser_gives_the_panel_back(panel: Panel) -> None:
    check_parses_back(panel, ["dataset", "worker_id", "year", "occupation", *PAPER.missing])


@pytest.mark.parametrize("name", ["nlsy97", "nlsy79"])
def test_the_real_panels_come_back_from_their_text_with_every_title_in_its_span(name: str) -> None:
    panel = real_panel(name)
    rows = 0
    for batch in render(panel, PAPER):
        lists = [batch[column].to_pylist() for column in ("resume", "title_start", "title_end", "occupation")]
        for text, starts, ends, titles in zip(*lists, strict=True):
            data = text.encode()
            assert [data[start:end].decode() for start, end in zip(starts, ends, strict=True)] == titles
            rows += len(titles)
    assert rows == panel.num_rows
    wanted = ["dataset", "worker_id", "year", "occupation", *PAPER.missing]
    check_parses_back(panel, [name for name in wanted if name in panel.table.column_names])


# ---- prompts


@SOME
@given(panels(), TEMPLATES, st.one_of(st.none(), st.integers(0, 4)), st.data())
def test_prompts_are_the_text_before_each_title(
    panel: Panel, template: Template, history: int | None, data: st.DataObject
) -> None:
    targets = np.array(data.draw(st.lists(st.booleans(), min_size=panel.num_rows, max_size=panel.num_rows)), bool)
    rows = np.flatnonzero(targets)
    begin = panel.starts[panel.workers()[rows]]
    first = begin if history is None else np.maximum(begin, rows - history)
    windows = render(panel, template, windows=(first, rows + 1)).read_all()
    starts = [spans[-1] for spans in windows["title_start"].to_pylist()]
    texts = zip(windows["resume"].to_pylist(), starts, strict=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "BATCH_BYTES", 300)
        found = resume.prompts(panel.with_targets(targets), template, history=history).read_all()
    assert found["prompt"].to_pylist() == [text.encode()[: start - 1].decode() for text, start in texts]
    expected = panel.table.select(["dataset", "worker_id", "year", "occupation"]).take(pa.array(rows, pa.int64()))
    assert found.drop_columns(["prompt"]).to_pylist() == expected.to_pylist()


def test_prompts_of_one_career_share_its_text() -> None:
    years = range(1980, 1992)
    rows = [(worker, year, "Cooks") for worker in range(100) for year in years]
    panel = panel_of(rows_of(*rows, gender=["f"] * len(rows), race=["w"] * len(rows)), dataset="PSID")
    (batch,) = resume.prompts(panel, PAPER)
    _, views, *text = batch["prompt"].buffers()
    assert len(views) <= 16 * len(rows) + 64
    assert sum(map(len, text)) == sum(len(text) for text in render_plain(panel, PAPER))


def test_a_negative_history_is_refused() -> None:
    panel = panel_of(rows_of((1, 1990, "Cooks"), gender=["f"], race=["w"]), dataset="X")
    with pytest.raises(PanelError, match="history=-1 is negative"):
        resume.prompts(panel, PAPER, history=-1)


# ---- what a prompt may show


def prompts(panel: Panel, template: Template) -> list[bytes]:
    """The prompt of every row: the text before the space that leads its title."""
    found = render(panel, template).read_all()
    pairs = zip(found["resume"].to_pylist(), found["title_start"].to_pylist(), strict=True)
    return [text.encode()[: start - 1] for text, starts in pairs for start in starts]


@SOME
@given(careers(), TEMPLATES, st.data())
def test_a_prompt_does_not_change_when_the_rest_of_its_row_does(
    table: pa.Table, template: Template, data: st.DataObject
) -> None:
    panel = panel_of(table)
    row = data.draw(st.integers(0, table.num_rows - 1))
    before = prompts(panel, template)[row]
    shown = {"dataset", "worker_id", "year", "gender", "race", "birth_year"}
    if template.education == "target":
        shown.add("education")
    if row in panel.starts:
        shown.add("region")
    changed = table.to_pylist()
    for later in range(row, len(changed)):
        if (changed[later]["dataset"], changed[later]["worker_id"]) != (
            changed[row]["dataset"],
            changed[row]["worker_id"],
        ):
            break
        other = {"occupation": "料理人", "region": "other", "education": "other", "wage_class": "other", "hours": 99}
        changed[later] |= {name: value for name, value in other.items() if later > row or name not in shown}
    assert prompts(panel_of(pa.Table.from_pylist(changed, schema=table.schema)), template)[row] == before


@SOME
@given(panels(), TEMPLATES)
def test_prompts_end_at_a_colon_or_sign_and_are_prefixes_of_windows(panel: Panel, template: Template) -> None:
    rows = np.arange(panel.num_rows)
    firsts = panel.starts[:-1][panel.workers()]
    histories = render(panel, template, windows=(firsts, rows)).read_all()["resume"].to_pylist()
    bound = template.bind(panel.table.column_names)
    for history, prompt, year in zip(histories, prompts(panel, template), panel.years(), strict=True):
        assert not prompt.endswith(b" ")
        assert prompt.startswith(history.encode())
        assert prompt[len(history.encode()) :].startswith(str(year).encode())
        assert not history.endswith(bound.end)


@SOME
@given(panels())
def test_a_window_never_shows_another_row(panel: Panel) -> None:
    rows = np.arange(panel.num_rows)
    for row, text in zip(rows, texts_of(panel, PAPER, windows=(rows, rows + 1)), strict=True):
        worker = panel.workers()[row]
        whole = panel.starts[worker + 1] - panel.starts[worker] == 1
        assert [int(year) for year, _, _ in parse(text)[1]] == [panel.years()[row]]
        assert text.endswith("<END OF DATA>") is bool(whole)
        assert parse(text)[0] == parse(texts_of(panel, PAPER)[worker])[0]


@pytest.mark.parametrize("starts", [[], [0], [0, 9], [2, 1, 3], [-1, 3], [0, 3, 1], [1, 3], [0, 2], [0, 0, 3]])
def test_first_rows_that_are_not_those_of_the_panel_are_refused(starts: list[int]) -> None:
    panel = panel_of(rows_of((1, 1990, "Cooks"), (1, 1991, "Cooks"), (2, 1990, "Cooks")), dataset="PSID")
    made = replace(panel, starts=np.array(starts, np.int64), complete=np.ones(max(len(starts) - 1, 0), bool))
    with pytest.raises(PanelError, match=r"do not ascend from 0 to 3, the number of rows"):
        render(made, Template("plain", 1, "", "{year}: {title}\n", "end"))
    with pytest.raises(PanelError, match=r"do not ascend from 0 to 3, the number of rows"):
        _core.draws(panel.table.select([0, 1]), pa.array(starts, pa.int64()), "shard")


def test_a_career_cut_short_has_no_end() -> None:
    rows = [(1, 1990, "Cooks"), (1, 1991, "Cooks"), (2, 1990, "Cooks")]
    panel = panel_of(rows_of(*rows, gender=["f"] * 3, race=["w"] * 3, split=["a", "b", "a"]), dataset="PSID")
    assert [text.endswith("<END OF DATA>") for text in texts_of(panel, PAPER)] == [True, True]
    assert [text.endswith("<END OF DATA>") for text in texts_of(panel.part("a"), PAPER)] == [False, True]


def test_previous_education_is_that_of_the_row_before() -> None:
    rows = [(1, 1990, "Cooks"), (1, 1991, "Cooks"), (1, 1993, "Cooks"), (2, 1990, "Cooks")]
    table = rows_of(*rows, gender=["f"] * 4, race=["w"] * 4, education=["a", "b", None, "c"])
    panel = panel_of(table, dataset="PSID")
    template = Template(**{**vars(PAPER), "education": "previous"})
    shown = [[education for _, education, _ in parse(text)[1]] for text in texts_of(panel, template)]
    assert shown == [["unknown education", "a", "b"], ["unknown education"]]
    windows = (np.array([2]), np.array([3]))
    assert parse(texts_of(panel, template, windows=windows)[0])[1] == [("1993", "b", "Cooks")]


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.large_string()])
def test_neighbours_with_one_id_in_two_datasets_are_two_resumes(kind: pa.DataType) -> None:
    rows = rows_of((1, 1990, "Cooks"), (1, 1991, "Physicians"), dataset=["NLSY79", "NLSY97"], gender=["f", "m"])
    panel = panel_of(rows.set_column(0, "worker_id", rows["worker_id"].cast(kind)))
    template = Template("t", 1, "{dataset} {gender}\n", "{year}: {title}\n", "end", missing=WORDS)
    assert texts_of(panel, template) == ["NLSY79 f\n1990: Cooks\nend", "NLSY97 m\n1991: Physicians\nend"]


@pytest.mark.parametrize(("first", "stop"), [(-1, 1), (0, 3), (2, 1), (3, 3), (1, 4)])
def test_windows_stay_inside_one_worker(first: int, stop: int) -> None:
    panel = panel_of(
        rows_of((1, 1990, "Cooks"), (1, 1991, "Cooks"), (2, 1990, "Cooks"), gender=["f"] * 3, race=["w"] * 3),
        dataset="X",
    )
    with pytest.raises(PanelError, match=rf"window 1 \(rows {first} to {stop}\) is no range of rows of one worker"):
        render(panel, PAPER, windows=(np.array([0, first]), np.array([1, stop])))


def test_windows_are_two_vectors_of_integers() -> None:
    panel = panel_of(rows_of((1, 1990, "Cooks"), gender=["f"], race=["w"]), dataset="X")
    with pytest.raises(PanelError, match="two vectors of integers, not float64"):
        render(panel, PAPER, windows=(np.array([0.5]), np.array([1])))
    with pytest.raises(PanelError, match="differ in number"):
        render(panel, PAPER, windows=(np.array([0, 0]), np.array([1])))


# ---- templates


def test_phrases_follow_the_columns_and_change_the_hash() -> None:
    columns = ["dataset", "worker_id", "year", "occupation", "gender", "race"]
    plain = PAPER.bind(columns)
    assert plain.covariates == ("gender", "race")
    assert "residing" not in plain.header
    assert "education" not in plain.header
    assert plain.row == "{year}: {title}\n"
    full = PAPER.bind([*columns, "region", "birth_year", "education"])
    assert full.covariates == ("gender", "race", "region", "birth_year", "education")
    assert "including year, education level, and the job title:\n" in full.header
    assert full.row == "{year} ({education}): {title}\n"
    assert len({plain.hash, full.hash, PAPER.without("education").bind([*columns, "region", "birth_year"]).hash}) == 3
    assert plain.bind([*columns, "region"]).hash == plain.hash
    assert PAPER.without("education", "birth_year", "region").bind([*columns, "region"]) == plain


def test_the_hash_is_of_the_canonical_json_of_the_bound_template() -> None:
    bound = PAPER.bind(["dataset", "year", "gender", "race"])
    assert Template.from_json(bound.to_json()) == bound
    assert bound.hash == "1d7462bdcdda79c9d6cabdb7f00f7f3621d6afb0bd1569937184bb2827954a95"
    with pytest.raises(TemplateError, match="call bind first"):
        _ = PAPER.hash
    assert PAPER.bound is False
    assert bound.bound is True


def test_an_unbracketed_field_needs_its_column() -> None:
    panel = panel_of(rows_of((1, 1990, "Cooks"), gender=["f"]), dataset="X")
    with pytest.raises(
        TemplateError, match=r"prints \{race\} in its header but the panel has no column 'race'; present are 'dataset'"
    ):
        render(panel, PAPER)


def test_a_printed_dataset_needs_a_tag() -> None:
    panel = panel_of(rows_of((1, 1990, "Cooks"), gender=["f"], race=["w"]))
    message = "the template prints {dataset} but the panel has no dataset tag; pass dataset=/--dataset"
    with pytest.raises(TemplateError, match=re.escape(message)):
        render(panel, PAPER)
    silent = Template(name="s", version=1, header="", row="{year}: {title}\n", end="")
    assert texts_of(panel, silent) == ["1990: Cooks\n"]


def test_numbers_without_one_text_are_refused() -> None:
    panel = panel_of(rows_of((1, 1990, "Cooks"), wage=[2.5]), dataset="X")
    template = Template(name="t", version=1, header="", row="{year}: {title}\n{wage}\n", end="", missing={"wage": "?"})
    with pytest.raises(TemplateError, match=r"prints \{wage\} but the column has type Float64; cast it to the text"):
        render(panel, template)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("[[a {gender}", "{year}: {title}\n", r"header cannot be read at character 0: '\[\[' without"),
        ("a]]", "{year}: {title}\n", "header cannot be read at character 1"),
        ("{gen der}", "{year}: {title}\n", "'{' opens no field"),
        ("[[tall stories]]", "{year}: {title}\n", "depend|does not begin with the name"),
        ("{title}", "{year}: {title}\n", "prints {title} in its header"),
        ("{occupation}", "{year}: {title}\n", "write {title}"),
        ("", "{year}\n", "prints no {title}"),
        ("", "{year}: {title} {title}\n", "twice"),
        ("", "{year}:{title}\n", "exactly one space"),
        ("", "{year}:  {title}\n", "exactly one space"),
        ("", "{year}: {title}.\n", "newline right after"),
        ("", ": {title}\n", "does not print {year} before"),
        ("", "{year} {hours}: {title}\n", "move it behind the title"),
        ("", "{year}: {title}\n{hours}", "does not end in a newline"),
        ("{height}", "{year}: {title}\n", "no word for a missing {height}"),
    ],
)
def test_text_that_is_no_template_is_refused(header: str, row: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message.replace("{", r"\{")) as caught:
        Template(name="bad", version=1, header=header, row=row, end="", missing=WORDS)
    assert "\n" not in str(caught.value)


def test_the_end_prints_no_field_and_education_is_one_of_two() -> None:
    with pytest.raises(TemplateError, match="in its end"):
        Template(name="bad", version=1, header="", row="{year}: {title}\n", end="{year}")
    with pytest.raises(TemplateError, match="choose 'target' or 'previous'"):
        Template(name="bad", version=1, header="", row="{year}: {title}\n", end="", education="next")
    with pytest.raises(
        TemplateError, match=r"no bracketed phrase with \{gender\}.*bracketed are 'birth_year', 'education', 'region'"
    ):
        PAPER.without("gender")


def test_templates_are_loaded_by_name_or_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nversion = 2\nheader = "é"\nrow = "{year}: {title}\\n"\nend = ""\n', "utf-8")
    assert Template.load(file) == Template.load(str(file)) == Template("mine", 2, "é", "{year}: {title}\n", "")
    with pytest.raises(TemplateError, match="no template 'mine'; known are labor-llm"):
        Template.load("mine")
    with pytest.raises(TemplateError, match="cannot be read"):
        Template.load(tmp_path / "absent.toml")
    file.write_text("name = ", "utf-8")
    with pytest.raises(TemplateError, match="cannot be read"):
        Template.load(file)
    file.write_text('name = "mine"\nversion = "2"\nend = ""\nrows = ""\n', "utf-8")
    with pytest.raises(
        TemplateError, match="lacks header, row, and has entries unknown or of a wrong type: version, rows"
    ):
        Template.load(file)
