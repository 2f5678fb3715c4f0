"""A panel on disk to resumes on disk, Parquet to Parquet, end to end, against polars streaming and DuckDB.

Every run is a fresh process with the same number of threads; the clock starts after the imports and stops when the
output is synced. All write zstd of one level. `laborllm` writes all that `laborllm resumes` writes (spans, years,
occupations); `laborllm, ids and texts` writes the two columns that the peers write, and is the one compared. Only
laborllm checks the panel; polars keeps the order of rows within a group, DuckDB sorts them by year. CPU seconds, user
and system together, tell what a busy machine hides. Rounds are interleaved; ids and texts of the first round are
compared by a sum of hashes of rows, outside the clock.

    python benches/bench_parquet.py             (needs polars and duckdb; 16 million rows take about 2 GB of disk)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_resumes import END, HEAD, LEVELS
from measured import circumstances, growth

from laborllm.files import ZSTD_LEVEL

RESULTS = Path(__file__).parent / "results" / "parquet.json"
CHUNK_WORKERS = 50_000
NAMES = ("laborllm", "laborllm, ids and texts", "polars streaming", "polars streaming, sorted", "duckdb")


def write_rows(path: Path, rows: int) -> int:
    """Poisson(12) rows a worker, 330 titles by Zipf's law, 15 % of years missing, ids with holes; in order."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from laborllm.occupations import Occupations

    rng = np.random.default_rng(20240617)
    titles = Occupations.occ1990dd().titles
    weights = 1 / np.arange(1, len(titles) + 1)

    def coded(values: Any, codes: Any) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values)).cast(pa.string())

    writer, written, last_id = None, 0, 0
    while written < rows:
        counts = np.maximum(1, rng.poisson(12, CHUNK_WORKERS))
        counts = counts[: max(1, int(np.searchsorted(np.cumsum(counts), rows - written)) + 1)]
        workers, total = len(counts), int(counts.sum())
        first = np.repeat(np.cumsum(counts) - counts, counts)
        steps = np.cumsum(1 + (rng.random(total) < 0.15))
        ids = last_id + np.cumsum(rng.integers(1, 4, workers))
        year = 1968 + np.repeat(rng.integers(0, 20, workers), counts) + steps - steps[first]
        table = pa.table(
            {
                "worker_id": np.repeat(ids, counts),
                "year": year.astype(np.int32),
                "occupation": coded(list(titles), rng.choice(len(titles), total, p=weights / weights.sum())),
                "gender": coded(["female", "male"], np.repeat(rng.integers(0, 2, workers), counts)),
                "race": coded(["white", "black", "hispanic", "other"], np.repeat(rng.integers(0, 4, workers), counts)),
                "birth_year": np.repeat(rng.integers(1940, 1960, workers).astype(np.int32), counts),
                "education": coded(LEVELS, np.repeat(rng.integers(0, 5, workers), counts)),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
        written, last_id = written + total, int(ids[-1])
    assert writer is not None
    writer.close()
    return written


def laborllm_run(*, whole: bool) -> Callable[[Path, Path], None]:
    """What `laborllm resumes` does, or the same with two of its columns."""
    import pyarrow as pa

    from laborllm.files import keep_freed_pages, write_parquet
    from laborllm.occupations import Occupations
    from laborllm.resume import Template, render

    keep_freed_pages()
    occupations = Occupations.occ1990dd()
    template = Template.load("labor-llm")

    def run(source: Path, target: Path) -> None:
        resumes = render(source, template, occupations=occupations, dataset="PSID")
        if not whole:
            names = ["worker_id", "resume"]
            schema = pa.schema([resumes.schema.field(name) for name in names])
            resumes = pa.RecordBatchReader.from_batches(schema, (batch.select(names) for batch in resumes))
        write_parquet(resumes, target)

    return run


def polars_run(*, ordered: bool) -> Callable[[Path, Path], None]:
    """One lazy query on the streaming engine; `ordered` tells it that workers ascend."""
    import polars as pl

    def run(source: Path, target: Path) -> None:
        rows = pl.scan_parquet(source)
        rows = rows.set_sorted("worker_id") if ordered else rows
        line = pl.format("{} ({}): {}\n", "year", "education", "occupation")
        head = [pl.col(name).first() for name in ("gender", "race", "birth_year")]
        whole = pl.format(
            HEAD[0] + "{} {}" + HEAD[1] + "{}" + HEAD[2] + "{}" + END, "gender", "race", "birth_year", "body"
        )
        careers = rows.group_by("worker_id").agg(line.str.join("").alias("body"), *head)
        query = careers.select("worker_id", whole.alias("resume"))
        query.sink_parquet(target, compression="zstd", compression_level=ZSTD_LEVEL, engine="streaming")

    return run


def duckdb_run(*, threads: int) -> Callable[[Path, Path], None]:
    """One COPY."""
    import duckdb

    def quoted(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    def run(source: Path, target: Path) -> None:
        connection = duckdb.connect()
        connection.execute(f"SET threads = {threads}")
        connection.execute("SET preserve_insertion_order = false")
        line = "year || ' (' || education || '): ' || occupation || chr(10)"
        parts = [quoted(HEAD[0]), "any_value(gender)", "' '", "any_value(race)", quoted(HEAD[1])]
        parts += ["any_value(birth_year)", quoted(HEAD[2]), f"string_agg({line}, '' ORDER BY year)", quoted(END)]
        text = " || ".join(parts)
        query = f"SELECT worker_id, {text} AS resume FROM read_parquet('{source}') GROUP BY worker_id"  # noqa: S608
        options = f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {ZSTD_LEVEL}"
        connection.execute(f"COPY ({query}) TO '{target}' ({options})")
        connection.close()

    return run


def one(name: str, source: Path, target: Path, threads: int) -> dict[str, float]:
    """Seconds and growth of peak memory of one run in this process."""
    makers: dict[str, Callable[[], Callable[[Path, Path], None]]] = {
        NAMES[0]: lambda: laborllm_run(whole=True),
        NAMES[1]: lambda: laborllm_run(whole=False),
        NAMES[2]: lambda: polars_run(ordered=False),
        NAMES[3]: lambda: polars_run(ordered=True),
        NAMES[4]: lambda: duckdb_run(threads=threads),
    }
    run = makers[name]()
    import pyarrow as pa

    pa.set_cpu_count(threads)
    seconds = cpu = 0.0

    def synced() -> None:
        nonlocal seconds, cpu
        start, start_cpu = time.perf_counter(), time.process_time()
        run(source, target)
        descriptor = os.open(target, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu

    return {"peak_mb": growth(synced), "seconds": seconds, "cpu_seconds": cpu}


def digest(path: Path) -> list[int]:
    """Rows, bytes of text, and the sum of the rows' hashes modulo 2**64."""
    import polars as pl
    import pyarrow.parquet as pq

    rows = size = total = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(50_000, columns=["worker_id", "resume"]):
            frame = pl.DataFrame(batch).select(pl.col("worker_id").cast(pl.Int64), pl.col("resume").cast(pl.String))
            rows, size = rows + len(frame), size + int(frame["resume"].str.len_bytes().sum())
            total += sum(frame.hash_rows(seed=1).to_list())
    return [rows, size, total % 2**64]


def call(*arguments: object) -> Any:
    """Run this script in a fresh process and read its one line."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Interleave all variants."""
    source = folder / "panel.parquet"
    rows = write_rows(source, options.rows)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    seen, sizes = {}, {}
    for step in range(options.rounds):
        for name in NAMES:
            target = folder / "resumes.parquet"
            runs[name].append(call("--one", name, "--folder", folder, "--threads", options.threads))
            if step == 0:
                seen[name], sizes[name] = call("--digest", target), target.stat().st_size
            target.unlink()
    variants = {}
    for name, found in runs.items():
        seconds = sorted(run["seconds"] for run in found)
        variants[name] = {
            "seconds": seconds,
            "median": statistics.median(seconds),
            "cpu": statistics.median(run["cpu_seconds"] for run in found),
            "peak_mb": statistics.median(run["peak_mb"] for run in found),
            "file_mb": sizes[name] / 1e6,
        }
    best, best_cpu = (min(variants[name][key] for name in NAMES[2:]) for key in ("median", "cpu"))
    return {
        "rows": rows,
        "workers": seen[NAMES[0]][0],
        "text_mb": seen[NAMES[0]][1] / 1e6,
        "same": len({tuple(value) for value in seen.values()}) == 1,
        "ratio": best / variants[NAMES[1]]["median"],
        "ratio_all_columns": best / variants[NAMES[0]]["median"],
        "ratio_cpu": best_cpu / variants[NAMES[1]]["cpu"],
        "variants": variants,
    }


def show(record: dict[str, Any]) -> None:
    """Print the table."""
    facts = [f"{record['rows']:,} rows", f"{record['workers']:,} workers", f"{record['text_mb']:.0f} MB of text"]
    facts += [record["machine"], f"{record['threads']} threads", record["date"], f"commit {record['commit']}"]
    print("parquet to parquet:", ", ".join([*facts, f"{record['rounds']} interleaved rounds"]))
    print(f"{'variant':<26}{'seconds':>9}{'min..max':>15}{'CPU s':>8}{'peak MB':>9}{'file MB':>9}")
    for name, row in record["variants"].items():
        spread = f"{row['seconds'][0]:.2f}..{row['seconds'][-1]:.2f}"
        print(
            f"{name:<26}{row['median']:>9.2f}{spread:>15}{row['cpu']:>8.2f}{row['peak_mb']:>9.0f}{row['file_mb']:>9.1f}"
        )
    ratios = "{ratio:.2f} (same columns), {ratio_all_columns:.2f} (all columns), {ratio_cpu:.2f} (CPU, same columns)"
    print("best peer / laborllm:", ratios.format(**record))
    print(f"ids and texts identical: {'yes' if record['same'] else 'NO'}")


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--digest", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for variable in ("RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "OMP_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    if options.digest:
        print(json.dumps(digest(options.digest)))
    elif options.one:
        folder = options.folder
        print(json.dumps(one(options.one, folder / "panel.parquet", folder / "resumes.parquet", options.threads)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(options, Path(folder))
        record = {
            "rounds": options.rounds,
            "threads": options.threads,
            **circumstances(),
            **found,
        }
        show(record)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        if not record["same"]:
            sys.exit("the texts differ")


if __name__ == "__main__":
    main()
