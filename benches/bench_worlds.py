"""Career worlds: rows a second beside bare draws, and peak memory for growing numbers of workers.

The peer makes as many Philox draws and looks each up in one law of first occupations with np.searchsorted: what any
simulator in numpy does at the least, without workers, years, memory or Arrow. Rounds are interleaved; that the rows are
the same for one and two threads is checked on their digest. Each number of workers runs in a fresh process, in which
batches are taken and let go of; what is shown is the growth of VmHWM after the imports and the first small batch.

    python benches/bench_worlds.py [--rows 4_000_000] [--workers 10_000 1_000_000 10_000_000]

writes benches/results/worlds.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from measured import circumstances, growth, interleaved

from laborllm.synth import World

RESULT = Path(__file__).parent / "results" / "worlds.json"
YEARS = 16
PIECE = 1 << 16
WORLDS = ("markov-50", "two-types", "occupations-330-words")
MEMORY_WORLD = "occupations-330-words"


def draws(world: World, rows: int) -> int:
    """Draw and look up as many states in one law; gives the rows."""
    generator = np.random.Generator(np.random.Philox(0))
    cumulative = np.cumsum(world.initial[0])
    done = 0
    while done < rows:
        found = np.searchsorted(cumulative, generator.random(min(PIECE, rows - done)), side="right")
        done += len(found.astype(np.int32))
    return done


def careers(world: World, rows: int, *, threads: int) -> int:
    """Take a stream's batches and let them go; gives the rows."""
    return sum(batch.num_rows for batch in world.stream(rows // YEARS, YEARS, threads=threads))


def digest(world: World, rows: int, *, threads: int) -> str:
    """SHA-256 of all columns."""
    whole = hashlib.sha256()
    for batch in world.stream(rows // YEARS, YEARS, threads=threads):
        for column in batch.columns:
            numbers = column.indices if hasattr(column, "indices") else column
            whole.update(numbers.to_numpy().tobytes())
    return whole.hexdigest()


def speed(name: str, *, rows: int, rounds: int) -> dict[str, Any]:
    """Rows a second of the peer and of one and two threads, over interleaved rounds."""
    world = World.named(name)
    rows -= rows % YEARS
    seconds = interleaved(
        {
            "draws and searchsorted": lambda: draws(world, rows),
            "careers, 1 thread": lambda: careers(world, rows, threads=1),
            "careers, 2 threads": lambda: careers(world, rows, threads=2),
        },
        rounds=rounds,
        slow=60.0,
    )
    peer = seconds["draws and searchsorted"]
    return {
        "world": name,
        "rows": rows,
        "rounds": rounds,
        "same_rows_for_1_and_2_threads": digest(world, rows, threads=1) == digest(world, rows, threads=2),
        "variants": {
            variant: {
                "rows_per_second": rows / statistics.median(times),
                "range": [rows / max(times), rows / min(times)],
                "x_draws": statistics.median(a / b for a, b in zip(peer, times, strict=True)),
            }
            for variant, times in seconds.items()
        },
    }


def memory(workers: int) -> dict[str, Any]:
    """Growth of peak memory and the seconds of one stream, in this process."""
    world = World.named(MEMORY_WORLD)
    careers(world, 16 * YEARS, threads=2)
    begin = time.perf_counter()
    peak = growth(lambda: careers(world, workers * YEARS, threads=2))
    seconds = time.perf_counter() - begin
    return {"workers": workers, "rows": workers * YEARS, "peak_mb": peak, "seconds": seconds}


def main() -> None:
    """Print the two tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(json.dumps(memory(options.memory)))
        return
    record: dict[str, Any] = circumstances()
    print(f"worlds: {record['machine']}, {record['date']}, commit {record['commit']}, {options.rounds} rounds")
    record["speed"] = [speed(name, rows=options.rows, rounds=options.rounds) for name in WORLDS]
    for facts in record["speed"]:
        same = "the same rows" if facts["same_rows_for_1_and_2_threads"] else "OTHER ROWS"
        print(f"{facts['world']}: {facts['rows']:,} rows; 1 and 2 threads give {same}")
        for variant, numbers in facts["variants"].items():
            low, high = (value / 1e6 for value in numbers["range"])
            rate = numbers["rows_per_second"] / 1e6
            print(f"  {variant:24s}{rate:8.1f} M rows/s ({low:.1f}..{high:.1f}){numbers['x_draws']:7.2f} x draws")
    record["memory"] = []
    print(f"{'workers':>12}{'rows':>14}{'peak MB':>9}{'seconds':>9}   ({MEMORY_WORLD}, 2 threads)")
    for workers in options.workers:
        command = [sys.executable, __file__, "--memory", str(workers)]
        run = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        record["memory"].append(run)
        print(f"{run['workers']:>12,}{run['rows']:>14,}{run['peak_mb']:>9.0f}{run['seconds']:>9.1f}")
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
