"""Nothing half-written stands under a final name, and readers say what is wrong with a file."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from laborllm.errors import FileError
from laborllm.files import (
    output_directory,
    output_file,
    read_parquet,
    read_table,
    unreadable,
    write_parquet,
    write_text,
)

TABLE = pa.table({"a": list(range(1000))})


def test_a_table_comes_back_as_it_was_written(tmp_path):
    write_parquet(TABLE, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").equals(TABLE)
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_a_stream_that_fails_half_way_leaves_no_file(tmp_path):
    def batches():
        yield TABLE.to_batches()[0]
        raise ZeroDivisionError

    stream = pa.RecordBatchReader.from_batches(TABLE.schema, batches())
    with pytest.raises(ZeroDivisionError):
        write_parquet(stream, tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_refused_and_kept(tmp_path):
    write_text("old", tmp_path / "note")
    with pytest.raises(FileError, match=r"note exists.*--overwrite"):
        write_text("new", tmp_path / "note")
    assert (tmp_path / "note").read_text() == "old"
    write_text("new", tmp_path / "note", overwrite=True)
    assert (tmp_path / "note").read_text() == "new"


def fail_while_writing(path, context) -> None:
    with context(path, overwrite=True) as temporary:
        (temporary / "laborllm.json" if temporary.is_dir() else temporary).write_text("half")
        raise ZeroDivisionError


def test_a_failed_overwrite_keeps_the_old_file_and_the_old_directory(tmp_path):
    write_text("old", tmp_path / "note")
    with pytest.raises(ZeroDivisionError):
        fail_while_writing(tmp_path / "note", output_file)
    with output_directory(tmp_path / "model") as folder:
        (folder / "laborllm.json").write_text("old")
    with pytest.raises(ZeroDivisionError):
        fail_while_writing(tmp_path / "model", output_directory)
    assert (tmp_path / "note").read_text() == "old"
    assert (tmp_path / "model" / "laborllm.json").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "note"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileError, match=r"folder .*nowhere does not exist"):
        write_text("x", tmp_path / "nowhere" / "x")


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.csv"])
def test_what_is_no_such_file_is_said_in_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"a,b\n1,2,3\nPAR0\x00\xff")
    with pytest.raises(FileError, match=name) as error:
        read_table(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_damaged_page_is_noticed(tmp_path):
    path = tmp_path / "t.parquet"
    write_parquet(TABLE, path)
    raw = bytearray(path.read_bytes())
    raw[60] ^= 1
    path.write_bytes(raw)
    with pytest.raises(FileError, match=r"t\.parquet"):
        read_parquet(path)


def test_a_path_without_a_file_and_an_unknown_ending_are_named(tmp_path):
    with pytest.raises(FileError, match="is no file"):
        read_table(tmp_path / "absent.parquet")
    (tmp_path / "panel.dta").write_text("")
    with pytest.raises(FileError, match=r"\.dta.*readable are"):
        read_table(tmp_path / "panel.dta")


def test_a_directory_of_somebody_else_is_never_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("mine", "file"):
        with (
            pytest.raises(FileError, match=r"not overwritten|is no dir"),
            output_directory(tmp_path / name, overwrite=True),
        ):
            pass
    assert (tmp_path / "mine" / "thesis.tex").read_text() == (tmp_path / "file").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


def test_a_pipe_a_device_and_a_directory_are_never_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(FileError, match=f"{name} is no regular file"):
            write_text("new", tmp_path / name, overwrite=True)
    assert (tmp_path / "pipe").is_fifo()
    write_text("a file", tmp_path / "note")
    with pytest.raises(FileError, match="note is no directory"), output_directory(tmp_path / "note", overwrite=True):
        pass


def test_a_name_that_is_too_long_is_refused_in_one_line(tmp_path):
    with pytest.raises(FileError, match="could not be written"):
        write_parquet(TABLE, tmp_path / ("x" * 250))


def test_memory_that_does_not_suffice_is_no_fault_of_the_file():
    error = unreadable(Path("big.parquet"), pa.ArrowMemoryError("malloc of size 445120 failed"))
    assert "memory does not suffice to read big.parquet" in str(error)
    assert "write it anew" not in str(error)


def test_numbers_of_a_csv_are_numbers_only_where_nothing_is_lost(tmp_path):
    lines = ["id,plain,code,flag,day,weight,none", "007,1,12,true,2020-01-01,1.5,", "7,,012,,2020-01-02,2,"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    assert read_table(tmp_path / "t.csv").to_pydict() == {
        "id": ["007", "7"],
        "plain": [1, None],
        "code": ["12", "012"],
        "flag": ["true", None],
        "day": ["2020-01-01", "2020-01-02"],
        "weight": [1.5, 2.0],
        "none": [None, None],
    }


def test_a_csv_in_another_encoding_is_refused_with_its_column(tmp_path):
    (tmp_path / "t.csv").write_bytes("id,title\n1,Café\n".encode("latin-1"))
    with pytest.raises(FileError, match="no UTF-8 in column 'title'; save it as UTF-8"):
        read_table(tmp_path / "t.csv")
