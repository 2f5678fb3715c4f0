"""What the benches share: the growth of peak memory, and where and when something was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def growth(run: Callable[[], Any]) -> float:
    """MB by which this process's peak of resident memory grows while `run` is called."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, see proc(5)
    before = resident_peak()
    run()
    return resident_peak() - before


def resident_peak() -> float:
    """Peak resident memory of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def circumstances() -> dict[str, str | None]:
    """Machine, date and commit."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit or None,
    }
