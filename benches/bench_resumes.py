"""Panel → resumes: laborllm against pyarrow compute, polars, DuckDB, pandas, datasets and plain Python; same texts.

    python benches/bench_resumes.py [--workers 100000] [--rounds 9] [--threads 2] [--cases sorted,shuffled]

Every peer gets its own columns prepared outside the clock, in the layout it is fastest with. `sorted` prints a panel
that stands in order already (laborllm: a checked Panel, spans of all titles included). `shuffled` begins with rows in
random order (laborllm: all checks of Panel.from_arrow are inside the clock; the peers sort and check nothing). The
consumer reads a byte of every page and lets go of each array before it asks for the next; `kept` holds all until the
end, `one array` is a single contiguous one. Sorted peers run whole and in batches of whole workers, and their better
time counts. Variants are interleaved, three runs of each a round: the first is cold (the others have run since), the
best of the others warm. The slow ones run on a tenth of the workers, where all texts are compared again. Texts are
compared by SHA-256; peak memory is that of a fresh process, above its prepared input.
`scaling` compares two threads with one, in processes of their own, beside memcpy on as many threads.
Results go to benches/results/resumes.json, of other numbers of workers to resumes-N.json.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LEVELS = ["less than high school", "high school", "some college", "college", "graduate degree"]
HEAD = (
    "<A worker from the PSID dataset>\nThe following information is available about the work history of a ",
    " US worker.\nThe worker was born in ",
    ".\nThe worker has the following records of work experience, one entry per line, including year, education level, "
    "and the job title:\n",
)
END = "<END OF DATA>"
BATCH_BYTES = 2 << 20
"""The default of laborllm."""
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


def laborllm_variant(table: Any, occupations: Any, *, shuffle: bool, batch_bytes: int | None = None) -> Variant:
    """The panel checked before the clock starts, or inside of it where rows are shuffled."""
    from laborllm import resume
    from laborllm.panel import Panel
    from laborllm.resume import Template

    template = Template.load("labor-llm")

    def read() -> Panel:
        return Panel.from_arrow(table, occupations=occupations, dataset="PSID")

    def texts(panel: Panel) -> Texts:
        resume.BATCH_BYTES = batch_bytes or BATCH_BYTES
        return (batch["resume"] for batch in resume.render(panel, template))

    if shuffle:
        return lambda: texts(read())
    panel = read()
    return lambda: texts(panel)


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


def duckdb_variant(table: Any, *, shuffle: bool) -> Variant:  # noqa: ARG001  it has no order either way
    """One query over a table of its own: lines, gathered by worker in the order of years."""
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect(config={"threads": int(os.environ["OMP_NUM_THREADS"])})
    connection.register("rows", table)
    connection.execute("create table panel as select * from rows")
    heads = [f"any_value({name})" for name in ("gender", "race", "birth_year")]
    parts = [repr(HEAD[0]), heads[0], "' '", heads[1], repr(HEAD[1]), heads[2], repr(HEAD[2])]
    literal = [part if not part.startswith("'") else "E" + part for part in parts]
    line = "concat(year, ' (', education, '): ', occupation, E'\\n'), '' order by year"
    text = f"concat({', '.join(literal)}, string_agg({line}), '{END}')"
    query = f"select {text} as resume from panel group by worker_id order by worker_id"  # noqa: S608  our own words

    def run() -> Texts:
        found = connection.sql(query).to_arrow_table()["resume"]
        return found.cast(pa.large_string()).chunks

    return run


def pandas_variant(table: Any, *, shuffle: bool) -> Variant:
    """Whole columns joined as strings, then by worker."""
    import pyarrow as pa

    frame = table.to_pandas()

    def run() -> Texts:
        rows = frame.sort_values(["worker_id", "year"]) if shuffle else frame
        line = rows["year"].astype(str) + " (" + rows["education"] + "): " + rows["occupation"] + "\n"
        by = rows["worker_id"]
        first = rows.groupby(by, sort=True)[["gender", "race", "birth_year"]].first()
        body = line.groupby(by, sort=True).agg("".join)
        head = HEAD[0] + first["gender"] + " " + first["race"] + HEAD[1] + first["birth_year"].astype(str) + HEAD[2]
        return [pa.array(head + body + END, pa.large_string())]

    return run


def datasets_variant(table: Any, *, shuffle: bool) -> Variant:
    """`map` over one row per worker, lists of years and titles prepared outside the clock."""
    import datasets
    import pyarrow as pa

    datasets.disable_caching()
    datasets.disable_progress_bars()
    rows = table.sort_by([("worker_id", "ascending"), ("year", "ascending")]) if shuffle else table
    lists = [("year", "list"), ("education", "list"), ("occupation", "list")]
    heads = [(name, "first") for name in ("gender", "race", "birth_year")]
    grouped = rows.group_by("worker_id", use_threads=False).aggregate([*lists, *heads])
    grouped = grouped.sort_by("worker_id")  # groups of many chunks come out of order
    data = datasets.Dataset(grouped)

    def texts(batch: dict[str, list[Any]]) -> dict[str, list[str]]:
        columns = (batch[name] for name in ("gender_first", "race_first", "birth_year_first"))
        lines = zip(batch["year_list"], batch["education_list"], batch["occupation_list"], strict=True)
        bodies = ("".join(f"{y} ({e}): {t}\n" for y, e, t in zip(*line, strict=True)) for line in lines)
        return {
            "resume": [
                f"{HEAD[0]}{gender} {race}{HEAD[1]}{born}{HEAD[2]}{body}{END}"
                for gender, race, born, body in zip(*columns, bodies, strict=True)
            ]
        }

    def run() -> Texts:
        made = data.map(texts, batched=True, remove_columns=data.column_names, keep_in_memory=True)
        return [chunk.cast(pa.large_string()) for chunk in made.data.table["resume"].chunks]

    return run


BATCH_WORKERS = 8_000
"""About 8 MB of text."""
PEERS = {"pyarrow compute": pyarrow_variant, "polars lazy": polars_variant, "DuckDB": duckdb_variant}
SLOW = {"plain Python": python_variant, "pandas": pandas_variant, "datasets.map": datasets_variant}
SLOW_SHARE = 10


def make(name: str, workers: int, *, shuffle: bool) -> Variant:
    """Prepare one variant on its own columns."""
    table, occupations = make_rows(workers, shuffle=shuffle)
    base, _, form = name.partition(", ")
    if base == "laborllm":
        run = laborllm_variant(
            table, occupations, shuffle=shuffle, batch_bytes=1 << 40 if form == "one array" else None
        )
        return kept(run) if form == "kept" else run
    if form == "batches":
        return in_batches(PEERS[base], table, workers=BATCH_WORKERS)
    return {**PEERS, **SLOW}[base](table, shuffle=shuffle)


def names_of(case: str) -> list[str]:
    """The variants of a case; the slow ones come apart."""
    batches = [f"{peer}, batches" for peer in PEERS if peer != "DuckDB"] if case == "sorted" else []
    return ["laborllm", "laborllm, kept", "laborllm, one array", *PEERS, *batches]


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
    from measured import growth

    run = make(name, workers, shuffle=case == "shuffled")
    print(growth(lambda: consume(run())))


def measure(case: str, workers: int, rounds: int) -> dict[str, Any]:
    """Interleave all variants; the slow ones run on a tenth of the workers, where all texts are compared again."""
    names, slow = names_of(case), workers // SLOW_SHARE
    runs = {name: make(name, workers, shuffle=case == "shuffled") for name in names}
    small = {name: make(name, slow, shuffle=case == "shuffled") for name in [*names, *SLOW]}
    seen = {name: digest(run()) for name, run in runs.items()}
    seen_small = {name: digest(run()) for name, run in small.items()}
    same = len(set(seen.values())) == 1 and len(set(seen_small.values())) == 1
    runs |= {name: small[name] for name in SLOW}
    cold: dict[str, list[float]] = {name: [] for name in runs}
    warm: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times = [clock(run) for _ in range(REPEATS)]
            cold[name].append(times[0])
            warm[name].append(min(times[1:]))
    found = {}
    for name, times in warm.items():
        size = (seen_small if name in SLOW else seen)[name][1]
        low, median, high = statistics.quantiles((size / time / 1e6 for time in times), n=4)
        found[name] = {
            "mb_per_s": median,
            "mb_per_s_quartiles": [low, high],
            "mb_per_s_cold": size / statistics.median(cold[name]) / 1e6,
            "seconds": times,
            "seconds_cold": cold[name],
            "peak_mb": peak(name, slow if name in SLOW else workers, case),
        }
    best = {
        key: max(found[name][key] for name in found if "laborllm" not in name) for key in ("mb_per_s", "mb_per_s_cold")
    }
    own = [name for name in names if "laborllm" in name]
    return {
        "case": case,
        "text_mb": seen["laborllm"][1] / 1e6,
        "same": same,
        "ratios": {name: found[name]["mb_per_s"] / best["mb_per_s"] for name in own},
        "ratios_cold": {name: found[name]["mb_per_s_cold"] / best["mb_per_s_cold"] for name in own},
        "variants": found,
    }


def speed(workers: int) -> None:
    """Print the best of ten runs of laborllm and of memcpy on as many threads, in GB/s."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    threads = int(os.environ["RAYON_NUM_THREADS"])
    run = make("laborllm", workers, shuffle=False)
    size = digest(run())[1]
    source = np.ones(256 << 20, np.uint8)
    rings = [[np.ones(BATCH_BYTES, np.uint8) for _ in range(3)] for _ in range(threads)]

    def copy(thread: int) -> None:
        for turn, start in enumerate(range(thread * BATCH_BYTES, size - BATCH_BYTES, threads * BATCH_BYTES)):
            from_ = start % (len(source) - BATCH_BYTES)
            np.copyto(rings[thread][turn % 3], source[from_ : from_ + BATCH_BYTES])

    def memcpy() -> float:
        start = time.perf_counter()
        list(pool.map(copy, range(threads)))
        return time.perf_counter() - start

    with ThreadPoolExecutor(threads) as pool:
        best = min(clock(run) for _ in range(10)), min(memcpy() for _ in range(10))
    print(*(size / seconds / 1e9 for seconds in best))


def scaling(workers: int, rounds: int) -> dict[str, Any]:
    """Two threads over one, for laborllm and for memcpy: medians over interleaved processes."""
    found: dict[str, list[list[float]]] = {"1": [], "2": []}
    for _ in range(rounds):
        for threads, results in found.items():
            environment = {**os.environ, "RAYON_NUM_THREADS": threads}
            command = [sys.executable, __file__, "--workers", str(workers), "--speed"]
            out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
            results.append([float(word) for word in out.split()])
    ours, memcpy = ([statistics.median(run[part] for run in found[t]) for t in ("1", "2")] for part in (0, 1))
    return {
        "laborllm_gb_per_s": ours,
        "memcpy_gb_per_s": memcpy,
        "laborllm": ours[1] / ours[0],
        "memcpy": memcpy[1] / memcpy[0],
    }


def show(record: dict[str, Any]) -> None:
    """Print one table per case."""
    facts = [f"{record['workers']} workers", record["machine"], f"{record['threads']} threads", record["date"]]
    print("resumes:", ", ".join([*facts, f"commit {record['commit']}", f"{record['rounds']} interleaved rounds"]))
    for case in record["cases"]:
        same = "yes" if case["same"] else "NO"
        print(f"\n{case['case']}: {case['text_mb']:.0f} MB of text, texts identical: {same}")
        print(f"{'variant':<26}{'MB/s (warm)':>13}{'quartiles':>14}{'cold':>7}{'peak MB':>9}")
        for name, row in case["variants"].items():
            spread = "{:.0f}..{:.0f}".format(*row["mb_per_s_quartiles"])
            cold = f"{row['mb_per_s_cold']:.0f}"
            print(f"{name:<26}{row['mb_per_s']:>13.0f}{spread:>14}{cold:>7}{row['peak_mb']:>9.0f}")
        for name, ratio in case["ratios"].items():
            print(f"{name} / best peer: {ratio:.2f}, cold {case['ratios_cold'][name]:.2f}")
    if record["scaling"]:
        print("\ntwo threads over one: laborllm {laborllm:.2f}, memcpy {memcpy:.2f}".format(**record["scaling"]))
    print(f"\non a tenth of the workers: {', '.join(SLOW)}")


def main() -> None:
    """Measure both cases, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cases", default="sorted,shuffled")
    parser.add_argument("--speed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    for variable in ("RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, str(options.threads))
    import pyarrow as pa
    from measured import circumstances

    pa.set_cpu_count(int(os.environ["OMP_NUM_THREADS"]))
    if options.one:
        one(options.one[0], options.workers, options.one[1])
        return
    if options.speed:
        speed(options.workers)
        return
    cases = [measure(case, options.workers, options.rounds) for case in options.cases.split(",")]
    record = {
        "workers": options.workers,
        "rounds": options.rounds,
        "threads": options.threads,
        **circumstances(),
        "cases": cases,
        "scaling": scaling(options.workers, 5) if "sorted" in options.cases else None,
    }
    show(record)
    RESULTS.mkdir(exist_ok=True)
    name = "resumes.json" if options.workers == 100_000 else f"resumes-{options.workers}.json"
    (RESULTS / name).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if not all(case["same"] for case in cases):
        sys.exit("the texts differ")


if __name__ == "__main__":
    main()
