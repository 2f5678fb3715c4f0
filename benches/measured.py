"""What the benches share: interleaved rounds, the growth of peak memory, where and when something was measured."""

from __future__ import annotations

import gc
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def growth(run: Callable[[], Any]) -> float:
    """MB by which this process's peak of resident memory grows while `run` is called."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, see proc(5)
    before = resident_peak()
    run()
    return resident_peak() - before


def interleaved(
    variants: Mapping[str, Callable[[], Any]], *, rounds: int, least: float = 0.005, slow: float = 2.0
) -> dict[str, list[float]]:
    """Seconds of one call of each variant, one figure a round; every round begins with another variant.

    A variant is called as often in a round as `least` seconds ask for, with Python's collector off; the last result is
    let go of after the clock. One that takes longer than `slow` seconds has three rounds only, the first ones.
    """
    calls: dict[str, int] = {}
    rounds_of: dict[str, int] = {}
    found: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    gc.disable()
    try:
        for name, run in variants.items():
            seconds = _clock(run, 1)
            if seconds < slow:  # the first call was cold
                seconds = min(_clock(run, 1), _clock(run, 1))
            calls[name] = max(1, min(10_000, int(least / max(seconds, 1e-7))))
            rounds_of[name] = rounds if seconds < slow else min(rounds, 3)
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                if number < rounds_of[name]:
                    found[name].append(_clock(variants[name], calls[name]))
    finally:
        gc.enable()
    return found


def in_turn(call: Callable[[Any], Any], inputs: Iterable[Any]) -> Callable[[], None]:
    """A variant that calls on one input after another; each result is let go of before the next is made."""
    kept = list(inputs)

    def run() -> None:
        for one in kept:
            call(one)

    return run


def _clock(run: Callable[[], Any], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls - 1):
        run()
    kept = run()
    seconds = time.perf_counter() - begin
    del kept
    return seconds / calls


def resident_peak() -> float:
    """Peak resident memory of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def circumstances() -> dict[str, str | None]:
    """Machine, date and commit."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = None
    if shutil.which("git"):
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit or None,
    }
