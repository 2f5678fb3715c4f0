"""What a GPU reaches, where it spends its time, and what was compiled."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch


def wait(device: torch.device) -> None:
    """Until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds from an idle device to an idle device."""
    wait(device)
    begin = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - begin


def product_rate(device: torch.device) -> float:
    """TFLOP/s of a square product of random matrices, in bfloat16 and 8,192 wide on CUDA; the best of four tens."""
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (512, torch.float32)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def ten() -> None:
        for _ in range(10):
            a @ b

    return float(2 * size**3 * 10 / min(timed(ten, device) for _ in range(4)) / 1e12)


def busiest(
    run: Callable[[], Any], device: torch.device, *, most: int = 8
) -> tuple[float, list[tuple[str, float, int]]]:
    """The share of the time in which the device was busy, and its busiest kernels."""
    from torch.profiler import ProfilerActivity, profile

    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as trace:
        seconds = timed(run, device)
    took = [
        (event.self_device_time_total if cuda else event.self_cpu_time_total, event) for event in trace.key_averages()
    ]
    took.sort(key=lambda pair: -pair[0])
    total = sum(time for time, _ in took)
    return total / 1e6 / seconds, [(event.key[:80], time / total, event.count) for time, event in took[:most]]


def compiled() -> int:
    """Graphs that torch has compiled in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
