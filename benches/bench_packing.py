"""Token table → bins of one length: laborllm against TRL's `pack_dataset` "bfd"; same careers, same fill or better.

    pip install trl datasets seqpacker
    python benches/bench_packing.py [--careers 200000] [--rounds 9] [--threads 2]

Careers have 60 tokens and 22 a row, with Poisson(12) rows: 330 tokens on average, as resumes have. All variants move
`input_ids` and write `seq_lengths` (laborllm the worker keys too); "all columns" adds labels and position ids, and is
set against TRL with a column of labels. TRL runs as one `map` batch, in batches of 1000 (its default, which fills
less), and as the function under `map` called on the Arrow table alone, which spares it all of `datasets`; `num_proc=2`
took three times as long and is left out. Its best time counts among those that fill as well as its best. The consumer
reads a byte of every page; laborllm lets go of each batch, "kept" holds all bins until the end, as TRL does.
seqpacker assigns careers to bins and moves nothing, so it stands beside laborllm's assignment alone.

Variants are interleaved, two runs of each a round: the first is cold (the others have run since), the second warm.
The careers in the bins are compared as multisets by SHA-256; peak memory is that of a fresh process, above its
prepared input. Results go to benches/results/packing.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measured import circumstances, growth

RESULTS = Path(__file__).parent / "results" / "packing.json"
LENGTHS = (2_048, 4_096)
PACK_DATASET = ("TRL, one map batch", "TRL, map batches of 1000")
TRL = (*PACK_DATASET, "TRL, without datasets")
OURS = ("laborllm", "laborllm, kept", "laborllm, first fit")
ALL_COLUMNS = ("laborllm, all columns", "laborllm, all columns, kept", "TRL, without datasets, with labels")
MOVING = (*OURS, *TRL, *ALL_COLUMNS)
ASSIGNING = ("laborllm, assignment alone", "seqpacker obfd, assignment alone", "seqpacker ffd, assignment alone")
SAME_FILL = 5e-4
"""How far a TRL variant may stay below TRL's best fill and still count."""
Variant = Callable[[], Iterable[Any]]


def make_tokens(careers: int) -> Any:
    """A token table of random ids; every career is another."""
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(20240617)
    lengths = 60 + 22 * np.maximum(1, rng.poisson(12, careers)) + rng.integers(0, 14, careers)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(0, 32_000, offsets[-1], dtype=np.int32)
    return pa.table(
        {
            "dataset": pa.array(["PSID"] * careers).dictionary_encode(),
            "worker_id": pa.array(np.arange(careers)),
            "input_ids": pa.LargeListArray.from_arrays(offsets, pa.array(ids)),
        }
    )


def make(name: str, tokens: Any, length: int) -> Variant:
    """The variant of this name, with its input prepared: TRL gets lists with 32-bit offsets, its faster layout."""
    import pyarrow as pa

    if name.startswith("laborllm"):
        return laborllm_variant(name, tokens, length)
    if name.startswith("seqpacker"):
        import seqpacker

        lengths = tokens["input_ids"].chunk(0).value_lengths().to_numpy()
        strategy = name.split()[1].removesuffix(",")
        return lambda: [seqpacker.pack_sequences(lengths, length, strategy).num_bins]
    import datasets
    from trl import data_utils

    datasets.disable_progress_bars()
    lists = tokens["input_ids"].chunk(0)
    narrow = pa.ListArray.from_arrays(lists.offsets.cast(pa.int32()), lists.values)
    table = pa.table({"input_ids": narrow} | ({"labels": narrow} if name.endswith("labels") else {}))
    if name.startswith("TRL, without datasets"):
        return lambda: data_utils._pack_bfd(table, length).to_batches()
    options = {"keep_in_memory": True} | ({"batch_size": None} if name == "TRL, one map batch" else {})
    source = datasets.Dataset(table)

    def run() -> Iterable[Any]:
        return data_utils.pack_dataset(source, length, "bfd", options).data.to_batches()

    return run


def laborllm_variant(name: str, tokens: Any, length: int) -> Variant:
    """Best fit, unless first fit is in the name; a stream, unless it is kept."""
    from laborllm.packing import pack

    options: dict[str, Any] = {"length": length, "pad_id": 0}
    if "all columns" not in name:
        options |= {"labels": None, "position_ids": False}
    if "first fit" in name:
        options["method"] = "first_fit"

    def run() -> Iterable[Any]:
        bins = pack(tokens, **options)
        if "assignment" in name:
            return []
        return list(bins) if "kept" in name else bins

    return run


def consume(bins: Iterable[Any]) -> int:
    """Read one byte of every page of every wide column."""
    import numpy as np

    wide = ("input_ids", "position_ids", "labels")
    found = 0
    for batch in bins:
        if not isinstance(batch, int):
            columns = (batch.column(name) for name in wide if name in batch.schema.names)
            found += sum(int(column.flatten().to_numpy().view(np.uint8)[::4096].sum()) for column in columns)
    return found


def clock(run: Variant) -> float:
    """Seconds until the consumer has all bins."""
    start = time.perf_counter()
    consume(run())
    return time.perf_counter() - start


def contents(bins: Iterable[Any], length: int) -> tuple[str, float]:
    """SHA-256 of the sorted SHA-256 of all careers, and the share of the bins' tokens that is no padding."""
    import numpy as np

    careers, count, tokens = [], 0, 0
    for batch in bins:
        ids, lengths = batch.column("input_ids").flatten().to_numpy(), batch.column("seq_lengths")
        careers_only = np.ones(len(lengths.flatten()), bool)
        if "worker_id" in batch.schema.names:  # the last of seq_lengths may be padding
            padded = np.diff(lengths.offsets) > np.diff(batch.column("worker_id").offsets)
            careers_only[lengths.offsets.to_numpy()[1:][padded] - 1] = False
        pieces = np.split(ids, np.cumsum(lengths.flatten().to_numpy())[:-1])
        own = [piece for piece, career in zip(pieces, careers_only, strict=True) if career]
        careers += [hashlib.sha256(piece).digest() for piece in own]
        tokens += sum(map(len, own))
        count += batch.num_rows
    return hashlib.sha256(b"".join(sorted(careers))).hexdigest(), tokens / (count * length)


def peak(name: str, options: argparse.Namespace, length: int) -> float:
    """Peak memory of one run in a fresh process, above what the prepared input took, in MB."""
    command = [sys.executable, __file__, "--careers", str(options.careers), "--one", name, str(length)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def one(name: str, careers: int, length: int) -> None:
    """Print the growth of peak memory while a variant runs once."""
    run = make(name, make_tokens(careers), length)
    consume(make(name, make_tokens(100), length)())  # what is loaded on first use
    print(growth(lambda: consume(run())))


def measure(length: int, tokens: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Interleave all variants."""
    runs = {name: make(name, tokens, length) for name in (*MOVING, *ASSIGNING)}
    seen = {name: contents(runs[name](), length) for name in MOVING}
    cold: dict[str, list[float]] = {name: [] for name in runs}
    warm: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            cold[name].append(clock(run))
            warm[name].append(clock(run))
    found = {}
    for name in runs:
        found[name] = {
            "seconds": statistics.median(warm[name]),
            "quartiles": statistics.quantiles(warm[name], n=4)[::2],
            "seconds_cold": statistics.median(cold[name]),
            "all": warm[name],
            "all_cold": cold[name],
            "fill": seen[name][1] if name in seen else None,
            "peak_mb": peak(name, options, length) if name in seen else None,
        }
    best_fill = max(found[name]["fill"] for name in TRL)
    peers = [name for name in TRL if found[name]["fill"] >= best_fill - SAME_FILL]

    def ratio(ours: str, peers: Iterable[str], key: str = "seconds") -> float:
        return float(min(found[name][key] for name in peers) / found[ours][key])

    return {
        "length": length,
        "same": len({digest for digest, _ in seen.values()}) == 1,
        "fill_at_least": found["laborllm"]["fill"] >= best_fill,
        "counted": peers,
        "ratio": ratio("laborllm", peers),
        "ratio_pack_dataset": ratio("laborllm", [name for name in peers if name in PACK_DATASET]),
        "ratio_cold": ratio("laborllm", peers, "seconds_cold"),
        "ratio_kept": ratio("laborllm, kept", peers),
        "ratio_first_fit": ratio("laborllm, first fit", peers),
        "ratio_all_columns": ratio(ALL_COLUMNS[0], ALL_COLUMNS[2:]),
        "ratio_all_columns_kept": ratio(ALL_COLUMNS[1], ALL_COLUMNS[2:]),
        "ratio_assignment": ratio(ASSIGNING[0], ASSIGNING[1:]),
        "variants": found,
    }


def show(record: dict[str, Any]) -> None:
    """Print one table per length."""
    facts = [f"{record['careers']} careers", f"{record['tokens']} tokens", record["machine"], record["date"]]
    facts += [f"{record['threads']} threads", f"commit {record['commit']}", f"{record['rounds']} interleaved rounds"]
    print("packing:", ", ".join(facts), record["peers"])
    for case in record["cases"]:
        print(f"\nbins of {case['length']} tokens; careers identical: {'yes' if case['same'] else 'NO'}")
        print(f"{'variant':<36}{'ms (warm)':>11}{'quartiles':>17}{'cold':>8}{'Mtok/s':>9}{'fill %':>8}{'peak MB':>9}")
        for name, row in case["variants"].items():
            quartiles = "{:.1f}..{:.1f}".format(*(1e3 * value for value in row["quartiles"]))
            ms, speed = 1e3 * row["seconds"], record["tokens"] / row["seconds"] / 1e6
            rest = f"{100 * row['fill']:>8.2f}{row['peak_mb']:>9.0f}" if row["fill"] else ""
            print(f"{name:<36}{ms:>11.1f}{quartiles:>17}{1e3 * row['seconds_cold']:>8.1f}{speed:>9.0f}{rest}")
        ratios = (
            "laborllm / TRL at its fill: {ratio:.1f} (pack_dataset {ratio_pack_dataset:.1f}), cold {ratio_cold:.1f}, "
            "kept {ratio_kept:.1f}, first fit {ratio_first_fit:.1f}; all columns {ratio_all_columns:.1f}, "
            "kept {ratio_all_columns_kept:.1f}; assignment / seqpacker {ratio_assignment:.1f}"
        )
        print(ratios.format(**case))


def main() -> None:
    """Measure both lengths, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--careers", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "LENGTH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    for variable in ("RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, str(options.threads))
    warnings.simplefilter("ignore")
    import pyarrow as pa

    pa.set_cpu_count(int(os.environ["OMP_NUM_THREADS"]))
    if options.one:
        one(options.one[0], options.careers, int(options.one[1]))
        return
    tokens = make_tokens(options.careers)
    record = {
        "careers": options.careers,
        "tokens": len(tokens["input_ids"].chunk(0).values),
        "rounds": options.rounds,
        "threads": options.threads,
        **circumstances(),
        "peers": {name: version(name) for name in ("trl", "datasets", "pyarrow", "seqpacker")},
        "cases": [measure(length, tokens, options) for length in LENGTHS],
    }
    show(record)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if not all(case["same"] and case["fill_at_least"] for case in record["cases"]):
        sys.exit("the careers differ, or the bins are less full")


if __name__ == "__main__":
    main()
