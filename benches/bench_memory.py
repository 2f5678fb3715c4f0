"""Peak memory of printing a stream of rows that no memory would hold.

A generator makes rows (10 a worker, 330 titles by Zipf's law), `render` prints them, and the sink reads one byte of
every page of every batch and lets it go. Each size runs in a fresh process; what is shown is the growth of VmHWM after
the imports (proc(5): the peak is set back by writing 5 to clear_refs), of which the generator's own rows are a part.

    python benches/bench_memory.py --rows 1_000_000 10_000_000 100_000_000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measured import circumstances, resident_peak

RESULTS = Path(__file__).parent / "results" / "memory.json"
BATCH_ROWS = 65_000
YEARS = 10


def stream(rows: int, titles: tuple[str, ...]) -> Any:
    """Careers of ten years, ids ascending; every batch has the same columns under other ids."""
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(20240617)
    workers = BATCH_ROWS // YEARS
    weights = 1 / np.arange(1, len(titles) + 1)

    def coded(values: list[str], codes: Any) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values))

    def each(count: int) -> Any:
        return np.repeat(rng.integers(0, count, workers), YEARS)

    columns = {
        "year": pa.array(np.tile(np.arange(1980, 1980 + YEARS, dtype=np.int32), workers)),
        "occupation": coded(list(titles), rng.choice(len(titles), BATCH_ROWS, p=weights / weights.sum())),
        "gender": coded(["female", "male"], each(2)),
        "race": coded(["white", "black", "hispanic"], each(3)),
        "birth_year": pa.array((1940 + each(20)).astype(np.int32)),
        "education": coded(["high school", "some college", "college"], each(3)),
    }

    def batches() -> Iterator[Any]:
        for first in range(0, rows, BATCH_ROWS):
            ids = np.repeat(np.arange(first // YEARS, first // YEARS + workers), YEARS)
            batch = pa.record_batch({"worker_id": ids, **columns})
            yield batch.slice(0, min(BATCH_ROWS, rows - first))

    schema = pa.record_batch({"worker_id": pa.array([], pa.int64()), **{k: v[:0] for k, v in columns.items()}}).schema
    return pa.RecordBatchReader.from_batches(schema, batches())


def one(rows: int) -> dict[str, Any]:
    """Print so many rows and measure."""
    import numpy as np

    from laborllm.occupations import Occupations
    from laborllm.resume import Template, render

    occupations = Occupations.occ1990dd()
    template = Template.load("labor-llm")
    Path("/proc/self/clear_refs").write_text("5")
    before, start = resident_peak(), time.perf_counter()
    workers = size = touched = 0
    for batch in render(stream(rows, occupations.titles), template, occupations=occupations, dataset="PSID"):
        text = np.frombuffer(batch["resume"].buffers()[-1], np.uint8)
        touched += int(text[::4096].sum())
        workers, size = workers + batch.num_rows, size + batch["resume"].nbytes
    return {
        "rows": rows,
        "workers": workers,
        "text_mb": size / 1e6,
        "peak_mb": resident_peak() - before,
        "imports_mb": before,
        "seconds": time.perf_counter() - start,
        "touched": touched,
    }


def main() -> None:
    """Run every size in its own process, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000, 100_000_000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one)))
        return
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    runs = []
    for rows in options.rows:
        command = [sys.executable, __file__, "--one", str(rows)]
        runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    record = {
        "threads": options.threads,
        **circumstances(),
        "runs": runs,
    }
    print(f"memory: {record['machine']}, {options.threads} threads, {record['date']}, commit {record['commit']}")
    print(f"{'rows':>13}{'workers':>12}{'text MB':>10}{'peak MB':>9}{'imports MB':>12}{'seconds':>9}")
    for run in runs:
        print(
            f"{run['rows']:>13,}{run['workers']:>12,}{run['text_mb']:>10.0f}{run['peak_mb']:>9.0f}"
            f"{run['imports_mb']:>12.0f}{run['seconds']:>9.1f}"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
