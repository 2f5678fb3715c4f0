"""Panel → resumes: laborllm against pyarrow compute, polars and plain Python; same rows, same texts.

    python benches/bench_resumes.py [--workers 100000] [--rounds 9] [--threads 2]

Every peer gets its own columns prepared outside the clock, in the layout it is fastest with. `sorted` prints a panel
that stands in order already (laborllm: a checked Panel, spans of all titles included). `shuffled` begins with rows in
random order (laborllm: all checks of Panel.from_arrow are inside the clock; the peers sort and check nothing). The
consumer reads a byte of every page and lets go of each array before it asks for the next; `kept` holds all until the
end. Sorted peers run whole and in batches of whole workers, and their better time counts. Variants are interleaved,
three runs of each a round: the first is cold, the best of the others warm. Texts are compared by SHA-256; peak memory
is that of a fresh process, above its prepared input.
Results go to benches/results/resumes.json.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "resumes.json"
LEVELS = ["less than high school", "high school", "some college", "college", "graduate degree"]
HEAD = (
    "<A worker from the PSID dataset>\nThe following information is available about the work history of a ",
    " US worker.\nThe worker was born in ",
    ".\nThe worker has the following records of work experience, one entry per line, including year, education level, "
    "and the job title:\n",
)
END = "<END OF DATA>"
Texts = Iterable[Any]
Variant = Callable[[], Texts]


def make_rows(workers: int, *, shuffle: bool) -> tuple[Any, Any]:
    """Poisson(12) rows a worker, 330 titles by Zipf's law, 15 % of years missing, ids with holes."""
    import numpy as np
    import pyarrow as pa

    from laborllm.occupations import Occupations

    rng = np.random.default_rng(20240617)
    occupations = Occupations.occ1990dd()
    counts = np.maximum(1, rng.poisson(12, workers))
    rows = int(counts.sum())
    first = np.repeat(np.cumsum(counts) - counts, counts)
    steps = 1 + (rng.random(rows) < 0.15)
    cumulated = np.cumsum(steps)
    year = 1968 + np.repeat(rng.integers(0, 20, workers), counts) + cumulated - cumulated[first]
    weights = 1 / np.arange(1, len(occupations) + 1)
    columns = {
        "worker_id": np.repeat(np.cumsum(rng.integers(1, 4, workers)), counts),
        "year": year.astype(np.int32),
        "occupation": np.array(occupations.titles)[rng.choice(len(occupations), rows, p=weights / weights.sum())],
        "gender": np.repeat(rng.choice(["female", "male"], workers), counts),
        "race": np.repeat(rng.choice(["white", "black", "hispanic", "other"], workers), counts),
        "birth_year": np.repeat(rng.integers(1940, 1960, workers).astype(np.int32), counts),
        "education": np.array(LEVELS)[np.repeat(rng.integers(0, 5, workers), counts)],
    }
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    return (table.take(rng.permutation(rows)) if shuffle else table), occupations


def laborllm_variant(table: Any, occupations: Any, *, shuffle: bool) -> Variant:
    """The panel checked before the clock starts, or inside of it where rows are shuffled."""
    from laborllm.panel import Panel
    from laborllm.resume import Template, render

    template = Template.load("labor-llm")

    def read() -> Panel:
        return Panel.from_arrow(table, occupations=occupations, dataset="PSID")

    if shuffle:
        return lambda: (batch["resume"] for batch in render(read(), template))
    panel = read()
    return lambda: (batch["resume"] for batch in render(panel, template))


def in_batches(variant: Callable[..., Variant], table: Any, *, workers: int) -> Variant:
    """A peer that prints so many whole workers at a time, on slices prepared outside the clock."""
    import numpy as np

    ids = table["worker_id"].to_numpy()
    starts = np.concatenate([[0], np.flatnonzero(ids[1:] != ids[:-1]) + 1, [len(ids)]])
    bounds = [*starts[:-1:workers].tolist(), len(ids)]
    runs = [variant(table.slice(a, b - a), shuffle=False) for a, b in itertools.pairwise(bounds)]
    return lambda: (chunk for run in runs for chunk in run())


def kept(run: Variant) -> Variant:
    """The same with all arrays held until the last one is there."""
    return lambda: list(run())


def pyarrow_variant(table: Any, *, shuffle: bool) -> Variant:
    """Row prefixes and titles joined element by element, then by worker through list offsets."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pa.large_string()
    wide = {name: pa.large_string() for name in table.column_names if pa.types.is_string(table.schema.field(name).type)}
    schema = pa.schema([(field.name, wide.get(field.name, field.type)) for field in table.schema])
    table = table.cast(schema).combine_chunks()

    def join(*parts: Any) -> Any:
        parts = tuple(pa.scalar(part, text) if isinstance(part, str) else part for part in parts)
        return pc.binary_join_element_wise(*parts, pa.scalar("", text))

    def run() -> Texts:
        rows = table.sort_by([("worker_id", "ascending"), ("year", "ascending")]) if shuffle else table
        column = {name: rows[name].chunk(0) for name in rows.column_names}
        ids = column["worker_id"].to_numpy()
        starts = np.concatenate([[0], np.flatnonzero(ids[1:] != ids[:-1]) + 1, [len(ids)]])
        year = column["year"].cast(text)
        lines = join(year, " (", column["education"], "): ", column["occupation"], "\n")
        bodies = pc.binary_join(pa.LargeListArray.from_arrays(starts, lines), pa.scalar("", text))
        first = pa.array(starts[:-1])
        gender, race, born = (column[name].take(first) for name in ("gender", "race", "birth_year"))
        return [join(HEAD[0], gender, " ", race, HEAD[1], born.cast(text), HEAD[2], bodies, END)]

    return run


def polars_variant(table: Any, *, shuffle: bool) -> Variant:
    """One lazy query: lines, joined by worker."""
    import polars as pl

    frame = pl.DataFrame(table).rechunk()
    if not shuffle:
        frame = frame.with_columns(pl.col("worker_id").set_sorted())

    def run() -> Texts:
        lazy = frame.lazy()
        if shuffle:
            lazy = lazy.sort("worker_id", "year")
        line = pl.format("{} ({}): {}\n", "year", "education", "occupation")
        head = [pl.col(name).first() for name in ("gender", "race", "birth_year")]
        query = lazy.group_by("worker_id", maintain_order=True).agg(line.str.join("").alias("body"), *head)
        whole = pl.format(
            HEAD[0] + "{} {}" + HEAD[1] + "{}" + HEAD[2] + "{}" + END, "gender", "race", "birth_year", "body"
        )
        return [query.select(whole.alias("resume")).collect()["resume"].to_arrow()]

    return run


def python_variant(table: Any, *, shuffle: bool) -> Variant:
    """Columns as lists, an f-string per row."""
    import pyarrow as pa

    columns = [table[name].to_pylist() for name in ("worker_id", "year", "education", "occupation")]
    heads = [table[name].to_pylist() for name in ("gender", "race", "birth_year")]

    def run() -> Texts:
        order = range(len(columns[0]))
        if shuffle:
            order = sorted(order, key=lambda row: (columns[0][row], columns[1][row]))
        ids, years, levels, titles = columns
        texts: list[str] = []
        lines: list[str] = []
        last = None
        for row in order:
            if ids[row] != last:
                if lines:
                    texts.append("".join([*lines, END]))
                last = ids[row]
                lines = [f"{HEAD[0]}{heads[0][row]} {heads[1][row]}{HEAD[1]}{heads[2][row]}{HEAD[2]}"]
            lines.append(f"{years[row]} ({levels[row]}): {titles[row]}\n")
        texts.append("".join([*lines, END]))
        return [pa.array(texts, pa.large_string())]

    return run


BATCH_WORKERS = 8_000
"""About the 8 MB of text in a batch of laborllm."""
PEERS = {"pyarrow compute": pyarrow_variant, "polars lazy": polars_variant}


def make(name: str, workers: int, *, shuffle: bool) -> Variant:
    """Prepare one variant on its own columns."""
    table, occupations = make_rows(workers, shuffle=shuffle)
    base, _, form = name.partition(", ")
    if base == "laborllm":
        run = laborllm_variant(table, occupations, shuffle=shuffle)
        return kept(run) if form == "kept" else run
    if form == "batches":
        return in_batches(PEERS[base], table, workers=BATCH_WORKERS)
    return {**PEERS, "plain Python": python_variant}[base](table, shuffle=shuffle)


def names_of(case: str) -> list[str]:
    """The variants of a case; plain Python comes apart."""
    batches = [f"{peer}, batches" for peer in PEERS] if case == "sorted" else []
    return ["laborllm", "laborllm, kept", *PEERS, *batches]


REPEATS = 3
"""Runs of a variant in a round: the first is cold (the others have run since), the best of the rest is warm."""


def clock(run: Variant) -> float:
    """Seconds until the consumer has all texts."""
    start = time.perf_counter()
    consume(run())
    return time.perf_counter() - start


def consume(texts: Texts) -> int:
    """Read one byte of every page of every array."""
    import numpy as np

    return sum(int(np.frombuffer(chunk.buffers()[-1], np.uint8)[::4096].sum()) for chunk in texts)


def digest(texts: Texts) -> tuple[str, int]:
    """SHA-256 of all texts with a separator, and their bytes."""
    state, size = hashlib.sha256(), 0
    for chunk in texts:
        for text in chunk.to_pylist():
            data = text.encode()
            state.update(data + b"\0")
            size += len(data)
    return state.hexdigest(), size


def peak(name: str, workers: int, case: str) -> float:
    """Peak memory of one run in a fresh process, above what the prepared input took, in MB."""
    command = [sys.executable, __file__, "--workers", str(workers), "--one", name, case]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def one(name: str, workers: int, case: str) -> None:
    """Print the growth of peak memory while a variant runs once."""
    run = make(name, workers, shuffle=case == "shuffled")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, see proc(5)
    before = resident_peak()
    consume(run())
    print(resident_peak() - before)


def resident_peak() -> float:
    """Peak resident memory of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure(case: str, workers: int, rounds: int) -> dict[str, Any]:
    """Interleave all variants; plain Python runs on a tenth of the workers, where all texts are compared again."""
    names = names_of(case)
    runs = {name: make(name, workers, shuffle=case == "shuffled") for name in names}
    small = {name: make(name, workers // 10, shuffle=case == "shuffled") for name in [*names, "plain Python"]}
    seen = {name: digest(run()) for name, run in runs.items()}
    seen_small = {name: digest(run()) for name, run in small.items()}
    same = len(set(seen.values())) == 1 and len(set(seen_small.values())) == 1
    size, size_small = seen["laborllm"][1], seen_small["laborllm"][1]
    cold: dict[str, list[float]] = {name: [] for name in [*names, "plain Python"]}
    warm: dict[str, list[float]] = {name: [] for name in cold}
    for _ in range(rounds):
        for name, run in [*runs.items(), ("plain Python", small["plain Python"])]:
            times = [clock(run) for _ in range(REPEATS)]
            cold[name].append(times[0])
            warm[name].append(min(times[1:]))
    found = {}
    for name, times in warm.items():
        bytes_ = size_small if name == "plain Python" else size
        found[name] = {
            "mb_per_s": bytes_ / statistics.median(times) / 1e6,
            "mb_per_s_range": [bytes_ / max(times) / 1e6, bytes_ / min(times) / 1e6],
            "mb_per_s_cold": bytes_ / statistics.median(cold[name]) / 1e6,
            "seconds": times,
            "seconds_cold": cold[name],
            "peak_mb": peak(name, workers // 10 if name == "plain Python" else workers, case),
        }
    best, best_cold = (max(found[name][key] for name in names[2:]) for key in ("mb_per_s", "mb_per_s_cold"))
    return {
        "case": case,
        "text_mb": size / 1e6,
        "same": same,
        "ratio": found["laborllm"]["mb_per_s"] / best,
        "ratio_kept": found["laborllm, kept"]["mb_per_s"] / best,
        "ratio_cold": found["laborllm"]["mb_per_s_cold"] / best_cold,
        "variants": found,
    }


def show(record: dict[str, Any]) -> None:
    """Print one table per case."""
    facts = [f"{record['workers']} workers", record["machine"], f"{record['threads']} threads", record["date"]]
    print("resumes:", ", ".join([*facts, f"commit {record['commit']}", f"{record['rounds']} interleaved rounds"]))
    for case in record["cases"]:
        plain = case["variants"]["plain Python"]["mb_per_s"]
        same = "yes" if case["same"] else "NO"
        print(f"\n{case['case']}: {case['text_mb']:.0f} MB of text, texts identical: {same}")
        print(f"{'variant':<26}{'MB/s (warm)':>13}{'min..max':>14}{'cold':>7}{'x plain':>9}{'peak MB':>9}")
        for name, row in case["variants"].items():
            spread = "{:.0f}..{:.0f}".format(*row["mb_per_s_range"])
            speed = row["mb_per_s"]
            cold = f"{row['mb_per_s_cold']:.0f}"
            print(f"{name:<26}{speed:>13.0f}{spread:>14}{cold:>7}{speed / plain:>9.1f}{row['peak_mb']:>9.0f}")
        print("laborllm / best peer: {ratio:.2f}, kept {ratio_kept:.2f}, cold {ratio_cold:.2f}".format(**case))
    print("\nplain Python ran on a tenth of the workers")


def main() -> None:
    """Measure both cases, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    for variable in ("RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, str(options.threads))
    import pyarrow as pa

    pa.set_cpu_count(int(os.environ["OMP_NUM_THREADS"]))
    if options.one:
        one(options.one[0], options.workers, options.one[1])
        return
    cases = [measure(case, options.workers, options.rounds) for case in ("sorted", "shuffled")]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    record = {
        "workers": options.workers,
        "rounds": options.rounds,
        "threads": options.threads,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit or None,
        "cases": cases,
    }
    show(record)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if not all(case["same"] for case in cases):
        sys.exit("the texts differ")


if __name__ == "__main__":
    main()
