"""The device's memory: moving arrays there without waiting, and what is said when it runs out."""

from __future__ import annotations

import numpy as np
import torch


def is_out_of_memory(error: RuntimeError) -> bool:
    """Did the device's memory run out? torch has no class for that of the processor."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def upload(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array on the device; on CUDA the host goes on while work is queued there.

    A plain copy waits for all work that was queued before it.
    """
    tensor = torch.from_numpy(array)
    if device.type != "cuda" or not tensor.numel():
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
