"""Panels larger than memory: the resumes are those of the panel in memory, whatever the rows came from and in."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from laborllm.errors import FileError, PanelError, TemplateError
from laborllm.files import read_parquet, write_parquet
from laborllm.resume import Template, render
from laborllm.stream import PanelStream
from tests.panels import OCCUPATIONS, TITLES, careers, panel_of, rows_of, shuffled

TEMPLATE = Template.load("labor-llm")
PLAIN = Template("plain", 1, "worker {worker_id}\n", "{year}: {title}\n", "end\n")
TINY = 300
"""Bytes of memory under which a few rows are sorted on disk."""


def stream_of(source, **options) -> PanelStream:
    return PanelStream.read(source, occupations=OCCUPATIONS, **options)


def texts(stream: PanelStream, template: Template = TEMPLATE) -> list[dict[str, object]]:
    return render(stream, template).read_all().to_pylist()


def whole(table: pa.Table, template: Template = TEMPLATE, **options) -> list[dict[str, object]]:
    return render(panel_of(table, **options), template).read_all().to_pylist()


def in_batches(table: pa.Table, rows: int) -> pa.RecordBatchReader:
    return table.combine_chunks().to_reader(max_chunksize=rows)


def some_careers(workers: int, *, years: int = 4, seed: int = 0) -> pa.Table:
    """Rows in order, with the columns of the standard template."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(workers), years)
    return pa.table(
        {
            "worker_id": ids,
            "year": np.tile(np.arange(1980, 1980 + years), workers),
            "occupation": np.array(TITLES)[rng.integers(0, len(TITLES), len(ids))],
            "gender": np.array(["female", "male"])[ids % 2],
            "race": np.array(["white", "Bläck"])[ids // 2 % 2],
        }
    )


# --- the same resumes from any source, in any order, under any limit of memory


@given(careers(max_workers=12), st.integers(1, 9))
def test_a_stream_in_batches_of_any_size_gives_the_resumes_of_the_panel(table, rows):
    assert texts(stream_of(in_batches(table, rows))) == whole(table)


@settings(deadline=None)
@given(careers(max_workers=12), st.integers(1, 5), st.integers(1, 9), st.randoms(use_true_random=False), st.booleans())
def test_files_in_any_order_give_the_resumes_of_the_panel(table, files, group, random_, tiny):
    rows = shuffled(table, random_)
    bounds = [rows.num_rows * i // files for i in range(files + 1)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.parquet" for i in range(files)]
        for path, first, stop in zip(paths, bounds, bounds[1:], strict=False):
            pq.write_table(rows.slice(first, stop - first), path, row_group_size=group)
        stream = stream_of(paths, memory=TINY if tiny else None)
        assert stream.rows == table.num_rows
        assert texts(stream) == texts(stream) == whole(rows)
        assert stream.rows_read == table.num_rows


@given(careers(max_workers=12), st.randoms(use_true_random=False))
def test_the_panels_of_a_stream_are_the_panel_and_so_is_its_report(table, random_):
    rows = shuffled(table, random_)
    expected = panel_of(rows)
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(rows, Path(folder) / "rows.parquet")
        for source, memory in ((rows, None), (in_batches(table, 3), None), (Path(folder) / "rows.parquet", TINY)):
            stream = stream_of(source, memory=memory)
            parts = list(stream.panels())
            assert [row for part in parts for row in part.table.to_pylist()] == expected.table.to_pylist()
            assert stream.report == expected.report
            assert all(part.complete.all() and part.starts[0] == 0 for part in parts)


@given(careers(max_workers=12), st.integers(1, 4), st.booleans())
def test_the_shards_of_a_stream_are_those_of_the_panel(table, count, ordered):
    rows = table if ordered else shuffled(table, random.Random(0))  # noqa: S311
    for index in range(count):
        expected = panel_of(rows).shard(index, count)
        parts = stream_of(rows, shard=(index, count)).panels()
        assert [row for part in parts for row in part.table.to_pylist()] == expected.table.to_pylist()


@pytest.mark.parametrize("drop", [False, True])
def test_pieces_of_many_workers_are_the_panel(tmp_path, drop):
    table = some_careers(120_000)
    if drop:
        column = pa.array([None if row % 7 == 0 else TITLES[row % 8] for row in range(table.num_rows)])
        table = table.set_column(2, "occupation", column)
    mixed = table.take(np.random.default_rng(1).permutation(table.num_rows))
    pq.write_table(mixed, tmp_path / "mixed.parquet")
    options = {"dataset": "T", "drop_null_occupations": drop}
    expected = panel_of(table, **options)
    for source, memory in ((table, None), (tmp_path / "mixed.parquet", None), (tmp_path / "mixed.parquet", 1 << 20)):
        stream = stream_of(source, memory=memory, **options)
        parts = list(stream.panels())
        assert len(parts) > 2
        assert pa.concat_tables([part.table for part in parts]).equals(expected.table)
        assert stream.report == expected.report


THREADS = """
import hashlib, sys
from laborllm.resume import Template, render
from tests.test_stream import some_careers, stream_of
stream = stream_of(some_careers(40_000), dataset="T")
print(hashlib.sha256("".join(t for b in render(stream, Template.load("labor-llm")) for t in b["resume"].to_pylist())
      .encode()).hexdigest())
"""


def test_the_number_of_threads_does_not_matter():
    found = set()
    for threads in ("1", "3"):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run([sys.executable, "-c", THREADS], env=environment, check=True, capture_output=True)
        found.add(run.stdout)
    assert len(found) == 1


def test_only_the_columns_that_are_printed_or_checked_are_read(tmp_path):
    table = some_careers(5).append_column("notes", pa.array([["x"]] * 20))
    pq.write_table(table, tmp_path / "t.parquet")
    stream = stream_of(tmp_path / "t.parquet", dataset="T")
    assert texts(stream) == whole(table, dataset="T")
    assert "notes" in stream.column_names
    mapped = table.rename_columns({"worker_id": "who", "gender": "sex"})
    stream = stream_of(mapped, dataset="T", columns={"worker_id": "who", "gender": "sex"})
    assert texts(stream) == whole(table, dataset="T")


# --- layouts

TEXT = [pa.string(), pa.large_string(), pa.string_view()]
KEYS = [pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64()]
LAYOUTS = [
    *TEXT,
    *(pa.dictionary(key, text) for key in KEYS for text in TEXT),
    pa.dictionary(KEYS[1], TEXT[1], ordered=True),
]
INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]


def laid_out(values: list[str], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).cast(kind)
    plain = pa.array(values, pa.string()).dictionary_encode()
    indices, dictionary = plain.indices.cast(kind.index_type), plain.dictionary.cast(kind.value_type)
    return pa.DictionaryArray.from_arrays(indices, dictionary, ordered=kind.ordered)


@pytest.mark.parametrize("kind", LAYOUTS, ids=str)
def test_text_of_every_layout_is_read_and_batches_may_carry_different_dictionaries(kind):
    table = some_careers(6)
    names = ("occupation", "gender", "race")
    batches = [
        pa.record_batch(
            {
                c: laid_out(part[c].to_pylist(), kind) if c in names else part[c].combine_chunks()
                for c in part.column_names
            }
        )
        for part in (table.slice(0, 7), table.slice(7, 10), table.slice(17))
    ]
    stream = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
    assert texts(stream_of(stream, dataset="T")) == whole(table, dataset="T")
    held = pa.Table.from_batches(list(reversed(batches)))
    assert texts(stream_of(held, dataset="T")) == whole(table, dataset="T")


@pytest.mark.parametrize("kind", [*INTEGERS, *LAYOUTS, pa.dictionary(pa.int8(), pa.uint64())], ids=str)
@pytest.mark.parametrize("ordered", [True, False])
def test_ids_of_every_type_are_read(tmp_path, kind, ordered):
    table = some_careers(6)
    table = table if ordered else table.take(list(reversed(range(table.num_rows))))
    ids = [str(one) for one in table["worker_id"].to_pylist()]
    text = kind in LAYOUTS
    if text:
        column = laid_out(ids, kind)
    elif pa.types.is_dictionary(kind):
        column = table["worker_id"].combine_chunks().cast(pa.uint64()).dictionary_encode().cast(kind)
    else:
        column = table["worker_id"].cast(kind)
    rows = table.set_column(0, "worker_id", column)
    expected = whole(rows, PLAIN)
    assert texts(stream_of(rows), PLAIN) == expected
    if not pa.types.is_dictionary(kind):
        pq.write_table(rows, tmp_path / "rows.parquet")
        assert texts(stream_of(tmp_path / "rows.parquet", memory=TINY), PLAIN) == expected


@pytest.mark.parametrize("kind", [kind for kind in INTEGERS if kind.bit_width > 8], ids=str)
def test_years_of_any_width_are_read(kind):
    table = some_careers(3)
    wide = table.set_column(1, "year", table["year"].cast(kind))
    assert texts(stream_of(wide, dataset="T")) == whole(table, dataset="T")


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64(), pa.timestamp("us"), pa.timestamp("ns", "UTC")], ids=str)
def test_dates_and_timestamps_are_refused_and_the_conversion_is_named(kind):
    table = some_careers(2).set_column(1, "year", pa.array(range(8), pa.int64()).cast(pa.timestamp("us")).cast(kind))
    for source in (table, in_batches(table, 3)):
        with pytest.raises(PanelError, match=r"'year' has type .*pyarrow\.compute\.year.*\.dt\.year"):
            list(stream_of(source).panels())


class Unknown(pa.ExtensionType):
    def __init__(self):
        super().__init__(pa.binary(2), "laborllm.test.unknown")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        return cls()


@pytest.mark.parametrize("column", ["worker_id", "year", "occupation", "gender"])
def test_an_unknown_extension_type_is_one_error_that_names_the_column(column):
    table = some_careers(2)
    odd = pa.ExtensionArray.from_storage(Unknown(), pa.array([b"ab"] * 8, pa.binary(2)))
    table = table.set_column(table.column_names.index(column), column, odd)
    for source in (table, in_batches(table, 3)):
        with pytest.raises((PanelError, TemplateError), match=column) as error:
            texts(stream_of(source, dataset="T"))
        assert "\n" not in str(error.value)


# --- who gives the rows


def test_frames_of_polars_and_pandas_and_tables_of_arrow_are_the_same_rows():
    table = some_careers(20)
    expected = whole(table, dataset="T")
    mixed = table.take(np.random.default_rng(2).permutation(table.num_rows))
    frames = [pl.DataFrame(mixed), mixed.to_pandas(), mixed, mixed.combine_chunks().to_batches()[0]]
    for frame in frames:
        assert texts(stream_of(frame, dataset="T")) == expected
    assert (
        render(pl.DataFrame(mixed), TEMPLATE, occupations=OCCUPATIONS, dataset="T").read_all().to_pylist() == expected
    )


def test_a_relation_of_duckdb_is_read_as_a_table_and_its_reader_as_a_stream():
    duckdb = pytest.importorskip("duckdb")
    table = some_careers(20)
    expected = whole(table, dataset="T")
    connection = duckdb.connect()
    connection.register("careers", table)
    relation = connection.sql("select * from careers order by hash(worker_id, year)")
    assert texts(stream_of(relation, dataset="T")) == expected
    ordered = connection.sql("select * from careers order by worker_id")
    assert texts(stream_of(ordered.to_arrow_reader(16), dataset="T")) == expected


def test_arrow_files_and_csv_are_read_and_kinds_may_be_mixed(tmp_path):
    table = some_careers(12)
    pq.write_table(table.slice(30), tmp_path / "c.parquet")
    pa.feather.write_feather(table.slice(0, 20), tmp_path / "a.feather", chunksize=3)
    pa.csv.write_csv(table.slice(20, 10), tmp_path / "b.csv")
    paths = [str(tmp_path / name) for name in ("b.csv", "c.parquet", "a.feather")]
    views = table.set_column(2, "occupation", table["occupation"].cast(pa.string_view()))
    pa.feather.write_feather(views.slice(0, 20), tmp_path / "v.feather", chunksize=3)
    assert texts(stream_of(tmp_path / "v.feather", dataset="T")) == whole(table.slice(0, 20), dataset="T")
    for memory in (None, TINY):
        assert texts(stream_of(paths, dataset="T", memory=memory)) == whole(table, dataset="T")
    assert texts(stream_of(sorted(paths), dataset="T")) == whole(table, dataset="T")


def test_files_with_other_columns_and_things_that_are_no_rows_are_named(tmp_path):
    table = some_careers(2)
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(table.drop_columns(["race"]), tmp_path / "b.parquet")
    with pytest.raises(PanelError, match=r"a\.parquet and .*b\.parquet differ in their columns \(race\)"):
        stream_of([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    with pytest.raises(FileError, match=r"absent\.parquet is no file"):
        stream_of([tmp_path / "a.parquet", tmp_path / "absent.parquet"])
    with pytest.raises(PanelError, match="from int; give a path"):
        stream_of(3)
    with pytest.raises(PanelError, match="no column 'year'"):
        stream_of(table.drop_columns(["year"]))
    with pytest.raises(PanelError, match="no shard 2 of 2"):
        stream_of(table, shard=(2, 2))
    with pytest.raises(PanelError, match="windows"):
        render(table, TEMPLATE, windows=(np.zeros(1, int), np.ones(1, int)), occupations=OCCUPATIONS)
    with pytest.raises(TemplateError, match="gender"):
        render(table.drop_columns(["gender"]), TEMPLATE, occupations=OCCUPATIONS)


# --- what goes wrong


def test_a_stream_that_falls_is_refused_at_its_first_row_and_worker():
    table = some_careers(3, years=2)
    fallen = pa.concat_tables([table.slice(2), table.slice(0, 2)])
    with pytest.raises(PanelError, match=r"worker 0 \(T\) in row 4 .* comes after worker 2 \(T\).*any order"):
        texts(stream_of(in_batches(fallen, 2), dataset="T"))


def test_a_stream_is_read_once_and_a_table_again():
    table = some_careers(3)
    stream = stream_of(in_batches(table, 5), dataset="T")
    assert texts(stream) == whole(table, dataset="T")
    with pytest.raises(PanelError, match="read once"):
        stream.panels()
    again = stream_of(table, dataset="T")
    assert texts(again) == texts(again)


def broken(table: pa.Table, rows: int) -> pa.RecordBatchReader:
    def batches():
        yield from in_batches(table, rows)
        raise ValueError("the server\nis gone")

    return pa.RecordBatchReader.from_batches(table.schema, batches())


def test_a_stream_that_breaks_off_says_after_which_row_and_why_and_leaves_no_file(tmp_path):
    table = some_careers(70_000)
    words = r"^the stream of rows broke off after row 280000: ValueError: the server is gone$"
    with pytest.raises(PanelError, match=words) as error:
        list(stream_of(broken(table, 10_000), dataset="T").panels())
    assert isinstance(error.value.__cause__, ValueError)
    with pytest.raises(PanelError, match=words):
        write_parquet(render(stream_of(broken(table, 10_000), dataset="T"), TEMPLATE), tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_a_damaged_file_is_named(tmp_path, ordered):
    table = some_careers(70_000)
    rows = table if ordered else table.take(list(reversed(range(table.num_rows))))
    path = tmp_path / "t.parquet"
    pq.write_table(rows, path, row_group_size=100_000, compression="none", write_page_checksum=True)
    raw = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(2).column(2)
    raw[column.data_page_offset + 60] ^= 1
    path.write_bytes(raw)
    with pytest.raises(FileError, match=r"t\.parquet is no readable Parquet file"):
        texts(stream_of(path, dataset="T"))


BREACHES = {
    "occupation": ("Cook", r"unknown state 'Cook' of worker 7 \(T\) in 1982 \(row {}, "),
    "year": (1981, r"two rows for worker 7 \(T\) in 1981 \(rows {} and {}, "),
    "gender": ("female'", r"gender of worker 7 .* \(rows {} and {}, "),
    "worker_id": (None, r"null worker_id in row {} \(counted"),
}


@pytest.mark.parametrize("column", BREACHES)
@pytest.mark.parametrize("memory", [None, 2_000])
def test_an_error_names_the_row_of_the_input_whatever_way_it_was_read(tmp_path, column, memory):
    value, words = BREACHES[column]
    table = some_careers(40)
    rows = table.to_pylist()
    rows[4 * 7 + 2][column] = value
    order = np.random.default_rng(3).permutation(len(rows)).tolist()
    pq.write_table(pa.Table.from_pylist([rows[i] for i in order], schema=table.schema), tmp_path / "t.parquet")
    at = {row: order.index(row) for row in range(28, 32)}
    with pytest.raises(PanelError) as error:
        texts(stream_of(tmp_path / "t.parquet", dataset="T", memory=memory))
    named = [int(word) for word in str(error.value).replace(",", " ").split() if word.isdigit()]
    assert at[30] in named or column == "gender"
    assert error.match(words.format(r"\d+", r"\d+"))
    with pytest.raises(PanelError) as expected:
        panel_of(pq.read_table(tmp_path / "t.parquet"), dataset="T")
    assert str(error.value) == str(expected.value)


@pytest.mark.parametrize("memory", [None, TINY])
def test_rows_that_are_all_dropped_are_no_panel_and_some_are_counted(tmp_path, memory):
    table = rows_of((3, 1990, None), (2, 1990, "Cooks"), (1, 1990, None), (1, 1991, ""))
    pq.write_table(table, tmp_path / "t.parquet")
    stream = stream_of(tmp_path / "t.parquet", drop_null_occupations=True, memory=memory)
    assert [one["resume"] for one in texts(stream, PLAIN)] == ["worker 2\n1990: Cooks\nend\n"]
    assert (stream.report.rows_in, stream.report.rows_out, stream.report.dropped) == (4, 1, {"null occupation": 3})
    nothing = table.set_column(2, "occupation", pa.nulls(4, pa.string()))
    pq.write_table(nothing, tmp_path / "t.parquet")
    with pytest.raises(PanelError, match=r"no rows \(4 came in, 4 were dropped"):
        texts(stream_of(tmp_path / "t.parquet", drop_null_occupations=True, memory=memory), PLAIN)


def test_nothing_is_left_of_what_was_sorted_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    table = some_careers(50)
    pq.write_table(table.take(list(reversed(range(200)))), tmp_path / "t.parquet")
    stream = stream_of(tmp_path / "t.parquet", dataset="T", memory=TINY)
    parts = stream.panels()
    next(parts)
    assert list((tmp_path / "tmp").iterdir()) == []
    parts.close()
    (tmp_path / "tmp").rmdir()
    with pytest.raises(FileError, match="TMPDIR"):
        list(stream.panels())


# --- files, killed at any moment, and full disks


@pytest.fixture
def files(tmp_path):
    table = some_careers(120_000)
    pq.write_table(table.take(np.random.default_rng(4).permutation(table.num_rows)), tmp_path / "panel.parquet")
    pq.write_table(OCCUPATIONS.to_table(), tmp_path / "occupations.parquet")
    return tmp_path


def command(files: Path, output: str, *options: object) -> list[str]:
    """`laborllm resumes` in a process of its own."""
    code = "from laborllm.cli import main; main()"
    arguments = ("--occupations", files / "occupations.parquet", "--dataset", "T", "-o", files / output, *options)
    return [sys.executable, "-c", code, "resumes", *map(str, (files / "panel.parquet", *arguments))]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def kill_at_random(files: Path, times: int) -> None:
    start = time.perf_counter()
    subprocess.run(command(files, "whole.parquet"), env=environment(), check=True, capture_output=True)
    seconds = time.perf_counter() - start
    expected = (files / "whole.parquet").read_bytes()
    random_ = random.Random(5)  # noqa: S311
    killed = 0
    while killed < times:
        process = subprocess.Popen(command(files, "out.parquet"), env=environment(), stderr=subprocess.DEVNULL)
        moment = random_.uniform(0, seconds)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            killed += 1
        else:
            seconds = moment  # it had ended by then
        out = files / "out.parquet"
        assert not out.exists() or out.read_bytes() == expected
        out.unlink(missing_ok=True)
    subprocess.run(command(files, "out.parquet"), env=environment(), check=True, capture_output=True)
    assert (files / "out.parquet").read_bytes() == expected


def test_a_run_that_is_killed_leaves_no_half_file_and_the_next_gives_the_same_bytes(files):
    kill_at_random(files, 4)


@pytest.mark.long
def test_fifty_runs_that_are_killed_leave_no_half_file(files):
    kill_at_random(files, 50)


def test_a_file_that_grows_beyond_the_limit_of_the_process_is_one_line_and_no_file(files):
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    run = subprocess.run(
        command(files, "out.parquet"), env=environment(), capture_output=True, text=True, preexec_fn=limit, check=False
    )
    assert run.returncode == 1
    assert "out.parquet could not be written" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    assert sorted(path.name for path in files.iterdir()) == ["occupations.parquet", "panel.parquet"]


def test_a_disk_that_fills_is_one_line_and_no_file(files):
    disk = files / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("a small disk cannot be mounted here: " + mount.stderr.decode().strip())
    try:
        run = subprocess.run(
            command(files, "disk/out.parquet"), env=environment(), capture_output=True, text=True, check=False
        )
        assert run.returncode == 1
        assert "out.parquet could not be written" in run.stderr
        assert len(run.stderr.strip().splitlines()) == 1
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_the_command_line_knows_its_size_and_the_shards_are_the_whole_row_for_row(files, run):
    table = pq.read_table(files / "panel.parquet").sort_by([("worker_id", "ascending")])
    pq.write_table(table.slice(0, 1000), files / "one.parquet")
    pq.write_table(table.slice(1000, 1000), files / "two.parquet")
    parts = (files / "two.parquet", files / "one.parquet")
    options = ("--occupations", files / "occupations.parquet", "--dataset", "T", "--json", "--overwrite")
    code, out, err = run("resumes", *parts, *options, "-o", files / "all.parquet")
    assert code == 0, err
    assert json.loads(out) == {"output": str(files / "all.parquet"), "workers": 500, "rows": 2000}
    expected = pq.read_table(files / "all.parquet")
    assert expected["resume"].to_pylist() == [one["resume"] for one in whole(table.slice(0, 2000), dataset="T")]
    shards = []
    for index in range(3):
        assert run("resumes", *parts, *options, "--shard", f"{index}/3", "-o", files / "shard.parquet")[0] == 0
        shards.append(pq.read_table(files / "shard.parquet"))
    together = pa.concat_tables(shards).sort_by("worker_id")
    assert together.equals(expected)


def test_a_table_written_in_row_groups_comes_back_and_progress_sees_every_batch(tmp_path, monkeypatch):
    monkeypatch.setattr("laborllm.files.ROW_GROUP_BYTES", 50_000)
    table = some_careers(3_000)
    seen: list[int] = []
    resumes = render(stream_of(table, dataset="T"), TEMPLATE).read_all()
    batches = pa.RecordBatchReader.from_batches(resumes.schema, resumes.to_batches(max_chunksize=100))
    write_parquet(batches, tmp_path / "r.parquet", progress=lambda batch: seen.append(batch.num_rows))
    assert sum(seen) == 3_000
    assert pq.read_metadata(tmp_path / "r.parquet").num_row_groups > 3
    assert read_parquet(tmp_path / "r.parquet").to_pylist() == resumes.to_pylist()
    with pq.ParquetFile(tmp_path / "r.parquet") as file:
        assert pa.Table.from_batches(file.iter_batches(100)).to_pylist() == resumes.to_pylist()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, lambda: SystemExit(3)])
def test_an_interrupt_while_rows_come_is_no_error_of_the_data(stop):
    rows = rows_of(*((worker, year, TITLES[0]) for worker in range(20) for year in (1990, 1991, 1992)))

    def batches():
        yield from rows.slice(0, 30).to_batches()
        raise stop()

    stream = stream_of(pa.RecordBatchReader.from_batches(rows.schema, batches()), dataset="WORLD")
    with pytest.raises(type(stop())):
        render(stream, PLAIN).read_all()


AFTER_A_FORK = """
import os, sys
from laborllm import Occupations, Panel, TitleTrie, render, Template
from laborllm.errors import LaborLLMError
import pyarrow as pa
jobs = Occupations.from_titles(["Cooks"])
rows = pa.table({"worker_id": [1], "year": [1990], "occupation": ["Cooks"]})
template = Template("plain", 1, "{worker_id}\\n", "{year}: {title}\\n", "end\\n")
panel = Panel.from_arrow(rows, occupations=jobs)
trie = TitleTrie([[1, 2]])
open_stream = render(panel, template)
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
refused = 0
for work in (
    lambda: Panel.from_arrow(rows, occupations=jobs),
    lambda: render(panel, template).read_all(),
    lambda: open_stream.read_all(),
    lambda: TitleTrie([[1, 2]]),
):
    try:
        work()
    except LaborLLMError as error:
        refused += "forked" in str(error) and "spawn" in str(error)
assert trie.walk([[1, 2]]).tolist() == [2]
os._exit(0 if refused == 4 else 1)
"""


def test_a_forked_process_is_told_to_be_spawned_instead_of_waiting_for_ever():
    done = subprocess.run([sys.executable, "-c", AFTER_A_FORK], timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
