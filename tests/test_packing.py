"""Bins hold every career whole, once and apart from the others, whatever the layout, the chunks or the method."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from laborllm import pack, read_packed, write_packed
from laborllm.errors import FileError, PackingError

PAD = 7
SPAN = pa.struct([("start", pa.int32()), ("stop", pa.int32())])
Career = dict[str, Any]


@st.composite
def careers(draw: st.DrawFn, *, longest: int = 12, most: int = 40) -> list[Career]:
    """Careers of 1 to `longest` random tokens, some of them titles."""
    found = []
    for worker in range(draw(st.integers(0, most))):
        length = draw(st.integers(1, longest))
        cuts = sorted(draw(st.sets(st.integers(0, length), max_size=4)))
        spans = [{"start": a, "stop": b} for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
        ids = [100 * worker + token for token in range(length)]
        tag = draw(st.sampled_from(["PSID", "NLSY79", ""]))
        found.append({"dataset": tag, "worker_id": worker, "input_ids": ids, "spans": spans})
    return found


def table_of(rows: list[Career], *, ids: pa.DataType | None = None, worker: pa.DataType | None = None) -> pa.Table:
    columns = {
        "dataset": pa.array([row["dataset"] for row in rows], pa.large_string()).dictionary_encode(),
        "worker_id": pa.array([row["worker_id"] for row in rows], pa.int64()).cast(worker or pa.int64()),
        "year": pa.array([[1979]] * len(rows), pa.list_(pa.int32())),
        "spans": pa.array([row["spans"] for row in rows], pa.list_(SPAN)),
        "input_ids": pa.array([row["input_ids"] for row in rows], ids or pa.large_list(pa.int32())),
    }
    return pa.table(columns).replace_schema_metadata({"laborllm.template": "t", "pandas": "p", "huggingface": "h"})


def of_lengths(*lengths: int, start: int = 0) -> pa.Table:
    rows = [{"dataset": "A", "worker_id": start + i, "input_ids": [i] * n, "spans": []} for i, n in enumerate(lengths)]
    return table_of(rows)


def best_fit_plainly(lengths: list[int], capacity: int) -> list[list[int]]:
    """Of the bins with the least sufficient room, the one that has had it longest; quadratic."""
    bins: list[list[int]] = []
    room: list[int] = []
    touched: list[int] = []
    for step, career in enumerate(sorted(range(len(lengths)), key=lambda i: -lengths[i])):
        fits = [b for b in range(len(bins)) if room[b] >= lengths[career]]
        if not fits:
            bins.append([])
            room.append(capacity)
            touched.append(step)
            fits = [len(bins) - 1]
        best = min(fits, key=lambda b: (room[b], touched[b]))
        bins[best].append(career)
        room[best] -= lengths[career]
        touched[best] = step
    return [sorted(bin_) for bin_ in bins]


def first_fit_plainly(lengths: list[int], capacity: int, open_bins: int) -> list[list[int]]:
    bins: list[list[int]] = []
    for career, length in enumerate(lengths):
        still_open = bins[-open_bins:]
        fitting = [b for b in still_open if sum(lengths[i] for i in b) + length <= capacity]
        if fitting:
            fitting[0].append(career)
        else:
            bins.append([career])
    return bins


def shuffled_plainly(bins: list[Any], seed: int) -> list[Any]:
    """Fisher–Yates over SplitMix64."""
    mask, state = (1 << 64) - 1, seed
    to = list(range(len(bins)))
    for at in range(len(bins) - 1, 0, -1):
        state = (state + 0x9E3779B97F4A7C15) & mask
        bits = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & mask
        other = ((bits ^ (bits >> 31)) * (at + 1)) >> 64
        to[at], to[other] = to[other], to[at]
    return [bins[to.index(place)] for place in range(len(bins))]


def printed_plainly(rows: list[Career], members: list[int], length: int, labels: str) -> dict[str, Any]:
    """One bin, token by token."""
    ids: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    for career in (rows[i] for i in members):
        titles = {t for span in career["spans"] for t in range(span["start"], span["stop"])}
        for place, token in enumerate(career["input_ids"]):
            ids.append(token)
            positions.append(place)
            targets.append(token if place > 0 and (labels == "all" or place in titles) else -100)
    padding = length - len(ids)
    return {
        "input_ids": ids + [PAD] * padding,
        "position_ids": positions + list(range(padding)),
        "labels": targets + [-100] * padding,
        "seq_lengths": [len(rows[i]["input_ids"]) for i in members] + ([padding] if padding else []),
        "dataset": [rows[i]["dataset"] for i in members],
        "worker_id": [rows[i]["worker_id"] for i in members],
    }


lengths_of_bins = st.integers(12, 40)
label_choices = st.sampled_from(["all", "titles"])


@given(careers(), lengths_of_bins, label_choices, st.none() | st.integers(0, 2**64 - 1))
def test_best_fit_gives_the_bins_of_its_slow_twin(rows, length, labels, seed):
    found = pack(table_of(rows), length=length, pad_id=PAD, labels=labels, seed=seed).read_all()
    bins = best_fit_plainly([len(row["input_ids"]) for row in rows], length)
    bins = bins if seed is None else shuffled_plainly(bins, seed)
    assert found.to_pylist() == [printed_plainly(rows, bin_, length, labels) for bin_ in bins]


@given(careers(), lengths_of_bins, label_choices, st.integers(1, 6))
def test_first_fit_gives_the_bins_of_its_slow_twin(rows, length, labels, open_bins):
    options = {"length": length, "pad_id": PAD, "labels": labels, "method": "first_fit", "open_bins": open_bins}
    found = pack(table_of(rows), **options).read_all()
    bins = first_fit_plainly([len(row["input_ids"]) for row in rows], length, open_bins)
    assert found.to_pylist() == [printed_plainly(rows, bin_, length, labels) for bin_ in bins]


@given(st.data(), st.sampled_from(["best_fit", "first_fit"]))
def test_every_career_is_in_one_bin_whole_and_no_bin_is_overfull(data, method):
    rows = data.draw(careers(longest=40, most=60))
    found = pack(table_of(rows), length=40, pad_id=PAD, method=method).read_all().to_pylist()
    seen = []
    for bin_ in found:
        assert sum(bin_["seq_lengths"]) == len(bin_["input_ids"]) == 40
        ends = np.cumsum(bin_["seq_lengths"])[: len(bin_["worker_id"])]
        pieces = np.split(np.array(bin_["input_ids"]), ends)[: len(bin_["worker_id"])]
        seen += [(worker, piece.tolist()) for worker, piece in zip(bin_["worker_id"], pieces, strict=True)]
        assert bin_["worker_id"] == sorted(bin_["worker_id"])
    assert sorted(seen) == [(row["worker_id"], row["input_ids"]) for row in rows]


@given(st.lists(st.integers(1, 64), min_size=1, max_size=200))
def test_best_fit_wastes_no_more_than_its_bound_and_leaves_at_most_one_bin_half_empty(lengths):
    found = pack(of_lengths(*lengths), length=64, pad_id=PAD).read_all()
    assert found.num_rows <= 11 / 9 * -(-sum(lengths) // 64) + 4  # bound of best fit decreasing: 11/9 OPT + 4
    filled = [sum(bin_["seq_lengths"][: len(bin_["worker_id"])]) for bin_ in found.to_pylist()]
    assert sum(2 * tokens <= 64 for tokens in filled) <= 1


LAYOUTS = {
    "list": pa.list_(pa.int32()),
    "large_list of uint32": pa.large_list(pa.uint32()),
    "list of int64": pa.list_(pa.int64()),
    "list_view": pa.list_view(pa.int32()),
    "large_list_view of uint16": pa.large_list_view(pa.uint16()),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@given(careers(), st.lists(st.integers(0, 40), max_size=4), st.booleans())
@settings(max_examples=25)
def test_layouts_chunks_and_slices_change_nothing(layout, rows, cuts, streamed):
    table, ids = table_of(rows), LAYOUTS[layout]
    doubled = pa.concat_tables([table, table]).slice(len(rows))  # offsets that do not begin at zero
    cuts = sorted(min(cut, len(rows)) for cut in cuts)
    ranges = list(zip([0, *cuts], [*cuts, len(rows)], strict=True))
    chunks = [pa.array([[9], *(row["input_ids"] for row in rows[a:b])], ids).slice(1) for a, b in ranges]
    other = pa.concat_tables([doubled.slice(a, b - a) for a, b in ranges])
    other = other.set_column(other.column_names.index("input_ids"), "input_ids", pa.chunked_array(chunks, ids))
    for method in ("best_fit", "first_fit"):
        options = {"length": 20, "pad_id": PAD, "method": method, "labels": "titles"}
        source = other.to_reader() if streamed else other
        assert pack(source, **options).read_all() == pack(table, **options).read_all()


def test_polars_frames_fixed_size_lists_and_text_ids_are_read():
    table = of_lengths(3, 3, 3)
    expected = pack(table, length=6, pad_id=PAD).read_all()
    frame = pl.DataFrame(table.select(["dataset", "worker_id", "input_ids"]))
    assert pack(frame, length=6, pad_id=PAD).read_all() == expected
    fixed = table.set_column(4, "input_ids", table["input_ids"].cast(pa.list_(pa.int32(), 3)))
    assert pack(fixed.slice(1), length=3, pad_id=PAD).read_all()["input_ids"].to_pylist() == [[1, 1, 1], [2, 2, 2]]
    text = table.set_column(1, "worker_id", pa.array(["a", "b", "c"], pa.string_view()))
    packed = pack(text, length=6, pad_id=PAD)
    assert packed.schema.field("worker_id").type == pa.list_(pa.large_string())
    assert packed.read_all()["worker_id"].to_pylist() == [["a", "b"], ["c"]]


def test_spans_are_read_by_name_whatever_their_order_and_width():
    table = of_lengths(5)
    swapped = pa.list_(pa.struct([("stop", pa.int64()), ("start", pa.uint8())]))
    spans = pa.array([[{"stop": 4, "start": 2}]], swapped)
    other = table.set_column(table.column_names.index("spans"), "spans", spans)
    packed = pack(other, length=6, pad_id=PAD, labels="titles").read_all()
    assert packed["labels"].to_pylist() == [[-100, -100, 0, 0, -100, -100]]


def test_neither_bins_nor_batches_depend_on_how_a_stream_is_cut():
    lengths = np.random.default_rng(0).integers(1, 2_048, 3_000)
    table = of_lengths(*lengths.tolist())
    options = {"length": 2_048, "pad_id": PAD, "method": "first_fit", "open_bins": 16}
    whole = list(pack(table, **options))
    cut = list(pack(pa.Table.from_batches(table.to_batches(max_chunksize=77)), **options))
    assert len(whole) > 2
    assert whole == cut


THREADS = """
import hashlib, sys
import numpy as np, pyarrow as pa
from laborllm import pack
lengths = np.random.default_rng(0).integers(1, 2_048, 4_000)
offsets = np.concatenate([[0], np.cumsum(lengths)])
ids = pa.LargeListArray.from_arrays(offsets, np.arange(offsets[-1], dtype=np.int32))
table = pa.table({"dataset": ["A"] * 4_000, "worker_id": np.arange(4_000), "input_ids": ids})
state = hashlib.sha256()
for method in ("best_fit", "first_fit"):
    for batch in pack(table, length=2_048, pad_id=0, method=method):
        state.update(batch.serialize())
print(state.hexdigest())
"""


def test_neither_bins_nor_batches_depend_on_the_number_of_threads():
    seen = set()
    for threads in ("1", "3"):
        environment = os.environ | {"RAYON_NUM_THREADS": threads}
        command = [sys.executable, "-c", THREADS]
        seen.add(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(seen) == 1


def test_a_long_stream_by_first_fit_holds_its_open_bins_only():
    released = []
    table = of_lengths(*[700] * 4_000)

    def batches():
        for start in range(0, 4_000, 100):
            released.append(start)
            yield from table.slice(start, 100).to_batches()

    source = pa.RecordBatchReader.from_batches(table.schema, batches())
    packed = pack(source, length=2_048, pad_id=PAD, method="first_fit", open_bins=8)
    packed.read_next_batch()
    batches_at_once = os.cpu_count() or 1
    assert len(released) <= 2 * 5.12 * batches_at_once + 2  # batches of 512 bins, each of two careers


def test_only_what_is_asked_for_is_written_and_only_own_metadata_travels():
    packed = pack(of_lengths(2, 2), length=4, pad_id=PAD, labels=None, position_ids=False, seed=3)
    assert packed.schema.names == ["input_ids", "seq_lengths", "dataset", "worker_id"]
    metadata = packed.schema.metadata
    assert set(metadata) == {b"laborllm.template", b"laborllm.packing"}
    described = {"method": "best_fit", "length": 4, "pad_id": PAD, "labels": None, "seed": 3}
    assert json.loads(metadata[b"laborllm.packing"]) == described
    assert packed.schema.field("input_ids").type == pa.list_(pa.int32(), 4)


def test_no_careers_make_no_bins():
    for method in ("best_fit", "first_fit"):
        assert pack(of_lengths(), length=8, pad_id=PAD, method=method).read_all().num_rows == 0


@pytest.mark.parametrize("method", ["best_fit", "first_fit"])
def test_a_career_that_no_bin_can_hold_is_named_with_the_way_out(method):
    table = of_lengths(3, 9, 2, start=1_041)
    with pytest.raises(PackingError, match=r"worker 1042 of A has 9 tokens .* length of 9 or more"):
        pack(table, length=8, pad_id=PAD, method=method).read_all()
    with pytest.raises(PackingError, match="worker 1042 of A has no tokens"):
        pack(of_lengths(3, 0, start=1_041), length=8, pad_id=PAD, method=method).read_all()


def replaced(name: str, values: pa.Array) -> pa.Table:
    table = of_lengths(3, 3)
    return table.set_column(table.column_names.index(name), name, values)


def lists(values: list[Any], item: pa.DataType | None = None) -> pa.Array:
    return pa.array(values, pa.large_list(item or pa.int32()))


BROKEN = {
    "'input_ids' of the token table cannot be read: it holds nulls": replaced("input_ids", lists([[1], None])),
    "'input_ids' .* holds nulls; every career has its list": replaced("input_ids", lists([[1], [None]])),
    "'input_ids' .* it has type Int64; it must be a list": replaced("input_ids", pa.array([1, 2])),
    "'input_ids' .* 4294967295": replaced("input_ids", lists([[1], [2**32 - 1]], pa.uint32())),
    "'spans' .* holds nulls": replaced("spans", pa.array([[], [{"start": 1, "stop": None}]], pa.list_(SPAN))),
    "'spans' .* cannot be read": replaced("spans", lists([[1], [2]])),
    r"worker 1 of A has 3 tokens and a title span from 1 to 4": replaced(
        "spans", pa.array([[], [{"start": 1, "stop": 4}]], pa.list_(SPAN))
    ),
    "no column 'spans'.*labels=\"all\"": of_lengths(3).drop_columns(["spans"]),
    "no column 'worker_id'; present are 'dataset', 'year'": of_lengths(3).drop_columns(["worker_id"]),
}


@pytest.mark.parametrize("message", BROKEN)
@pytest.mark.parametrize("method", ["best_fit", "first_fit"])
def test_a_broken_column_is_named(message, method):
    with pytest.raises(PackingError, match=message):
        pack(BROKEN[message], length=8, pad_id=PAD, labels="titles", method=method).read_all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length is 0; it must be from 1 to 16777216"),
        ({"length": 2**40}, "length is 1099511627776"),
        ({"pad_id": -1}, "pad_id is -1"),
        ({"method": "first_fit", "open_bins": 0}, "open_bins is 0"),
        ({"method": "first_fit", "seed": 1}, "a stream cannot be shuffled"),
        ({"method": "next_fit"}, "choose 'best_fit'"),
        ({"labels": "title"}, "labels='title' is unknown"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_an_argument_that_cannot_be_is_refused(options, message):
    with pytest.raises(PackingError, match=message):
        pack(of_lengths(3), **({"length": 8, "pad_id": PAD} | options))


@pytest.mark.parametrize("ending", [".arrow", ".parquet"])
def test_what_is_written_is_read_again_with_its_metadata_and_counted(tmp_path, ending):
    rows = [5, 9, 3, 12, 1, 7]
    packed = pack(of_lengths(*rows), length=12, pad_id=PAD, labels="titles").read_all()
    counted = write_packed(pack(of_lengths(*rows), length=12, pad_id=PAD, labels="titles"), tmp_path / f"bins{ending}")
    found = read_packed(tmp_path / f"bins{ending}")
    assert found == packed
    assert found.schema.metadata == packed.schema.metadata
    assert (counted.bins, counted.careers, counted.tokens) == (packed.num_rows, 6, sum(rows))
    assert counted.fill == sum(rows) / (12 * packed.num_rows)
    with pytest.raises(FileError, match="exists"):
        write_packed(packed, tmp_path / f"bins{ending}")


def test_a_mapped_file_is_a_matrix_and_takes_no_memory(tmp_path):
    write_packed(pack(of_lengths(*[500] * 4_000), length=1_000, pad_id=PAD), tmp_path / "bins.arrow")
    before = pa.total_allocated_bytes()
    found = read_packed(tmp_path / "bins.arrow")
    matrix = found["input_ids"].chunk(0).flatten().to_numpy(zero_copy_only=True).reshape(-1, 1_000)
    assert matrix[3].tolist() == [6] * 500 + [7] * 500
    assert pa.total_allocated_bytes() - before < 100_000


@pytest.mark.parametrize("method", ["best_fit", "first_fit"])
@given(careers(longest=8), label_choices)
@settings(max_examples=10)
def test_a_parquet_file_is_packed_as_its_table(tmp_path_factory, method, rows, labels):
    path = tmp_path_factory.mktemp("tokens") / "tokens.parquet"
    pq.write_table(table_of(rows), path, row_group_size=7, write_page_checksum=True)
    options = {"length": 10, "pad_id": PAD, "method": method, "labels": labels}
    assert pack(path, **options).read_all() == pack(table_of(rows), **options).read_all()


@pytest.mark.parametrize("ending", [".arrow", ".parquet"])
def test_a_stream_that_fails_half_way_leaves_no_file(tmp_path, ending):
    table = of_lengths(*[600] * 5_000, 1_000)
    with pytest.raises(PackingError, match="worker 5000 of A has 1000 tokens"):
        write_packed(pack(table, length=999, pad_id=PAD, method="first_fit", open_bins=4), tmp_path / f"bins{ending}")
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_tokens_or_no_bins_are_refused(tmp_path):
    damaged = tmp_path / "tokens.parquet"
    pq.write_table(of_lengths(*range(1, 500)), damaged, write_page_checksum=True, compression="none")
    raw = bytearray(damaged.read_bytes())
    raw[len(raw) // 2] ^= 255
    damaged.write_bytes(raw)
    for method in ("best_fit", "first_fit"):
        with pytest.raises(FileError, match=r"tokens\.parquet cannot be read"):
            pack(damaged, length=512, pad_id=PAD, method=method).read_all()
    with pytest.raises(FileError, match=r"none\.parquet cannot be read"):
        pack(tmp_path / "none.parquet", length=8, pad_id=PAD)
    with pytest.raises(FileError, match=r"none\.arrow cannot be read"):
        read_packed(tmp_path / "none.arrow")
    pq.write_table(of_lengths(3), tmp_path / "other.parquet")
    with pytest.raises(FileError, match="holds no bins"):
        read_packed(tmp_path / "other.parquet")
    with pytest.raises(FileError, match=r"ending '\.csv'"):
        write_packed(pack(of_lengths(3), length=8, pad_id=PAD), tmp_path / "bins.csv")


@pytest.mark.parametrize("ending", [".arrow", ".parquet"])
def test_datasets_opens_what_is_written(tmp_path, ending):
    datasets = pytest.importorskip("datasets")
    path = tmp_path / f"bins{ending}"
    write_packed(pack(of_lengths(5, 9, 3, 12), length=12, pad_id=PAD), path)
    table = read_packed(path)
    if ending == ".arrow":
        opened = datasets.Dataset.from_file(str(path))
        assert isinstance(opened.data, datasets.table.MemoryMappedTable)
    else:
        opened = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path))
    assert opened.with_format(None)[:] == table.to_pydict()
    assert opened.with_format("numpy")["input_ids"][:].shape == (table.num_rows, 12)


@pytest.mark.torch
def test_labels_of_encoded_careers_spell_their_titles():
    pytest.importorskip("torch")
    from laborllm.occupations import Occupations
    from laborllm.panel import Panel
    from laborllm.resume import Template, render
    from laborllm.tokens import encode, title_units, to_arrow
    from tests import models, samples

    titles = samples.HARD_TITLES
    rows = samples.careers(titles, workers=20)
    panel = Panel.from_arrow(rows, occupations=Occupations.from_titles(titles), dataset="TEST")
    template = Template.load("labor-llm")
    (resumes,) = render(panel, template)
    tokenizer = models.byte_level(resumes["resume"].to_pylist())
    units = title_units(tokenizer, panel.occupations, template.bind(panel.table.column_names))
    table = pa.Table.from_batches([to_arrow(resumes, encode([resumes], tokenizer, units=units))])
    length = 2 * max(map(len, table["input_ids"].to_pylist()))
    packed = pack(table, length=length, pad_id=0, labels="titles").read_all()
    histories = dict(zip(table["worker_id"].to_pylist(), table["occupation"].to_pylist(), strict=True))
    assert packed.num_rows < panel.num_workers
    for bin_ in packed.to_pylist():
        shown = tokenizer.decode([token for token in bin_["labels"] if token != -100])
        assert shown == "".join(f" {title}\n" for worker in bin_["worker_id"] for title in histories[worker])


@pytest.mark.torch
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_model_sees_each_career_alone(attention):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    generator = np.random.default_rng(0)
    rows = [
        {"dataset": "A", "worker_id": i, "input_ids": generator.integers(50, size=n).tolist(), "spans": []}
        for i, n in enumerate([5, 9, 3, 12, 1, 7])
    ]
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, attn_implementation=attention,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    bins = pack(table_of(rows), length=15, pad_id=PAD).read_all().to_pylist()
    batch = {name: torch.tensor([b[name] for b in bins]) for name in ("input_ids", "position_ids", "labels")}
    with torch.no_grad():
        together = model(**batch, use_cache=False)
        alone = [model(torch.tensor([row["input_ids"]]), labels=torch.tensor([row["input_ids"]])) for row in rows]
    counts = [len(row["input_ids"]) - 1 for row in rows]
    total = sum(n * float(one.loss) for n, one in zip(counts, alone, strict=True) if n)
    assert float(together.loss) == pytest.approx(total / sum(counts), abs=1e-5)
    for b, bin_ in enumerate(bins):
        at = 0
        for worker in bin_["worker_id"]:
            expected = alone[worker].logits[0]
            torch.testing.assert_close(together.logits[b, at : at + len(expected)], expected, atol=1e-5, rtol=1e-4)
            at += len(expected)


@pytest.mark.torch
def test_the_collator_of_trl_gives_the_same_positions_and_labels():
    trainer = pytest.importorskip("trl.trainer.sft_trainer")
    bins = pack(of_lengths(5, 9, 3, 12), length=12, pad_id=PAD).read_all().to_pylist()
    batch = trainer.DataCollatorForLanguageModeling(pad_token_id=PAD, padding_free=True)(bins)
    for name in ("input_ids", "position_ids", "labels"):
        assert batch[name][0].tolist() == [value for bin_ in bins for value in bin_[name]]
    assert batch["cu_seq_lens_q"].diff().tolist() == [n for bin_ in bins for n in bin_["seq_lengths"]]
