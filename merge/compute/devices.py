"""What each device can compute, and moving tensors to it.

Every device handles float32 matrices, so dense deltas stay on it. Exact algebra needs float64 and decompositions, which
Metal, DirectML and some Intel GPUs lack or run slowly. It runs on ``float64_device``: the device itself if it passes a
probe, which runs once, else the CPU.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor

log = logging.getLogger(__name__)

CPU_DEVICE = torch.device("cpu")

# Metal and DirectML (privateuseone) have no float64. They are not probed: DirectML may compute in float32 instead
# (github.com/microsoft/DirectML/issues/398).
_WITHOUT_FLOAT64 = ("mps", "privateuseone")
# Floating-point types that every device can store. CUDA stores every type that a file can have. The others are not
# probed: bfloat16 makes DirectML end the process (github.com/microsoft/DirectML/issues/688).
_STORED_EVERYWHERE = frozenset({torch.float32, torch.float16})
_STORED = {"xpu": _STORED_EVERYWHERE | {torch.bfloat16}}
# Devices with a fast bincount. Metal's takes seconds (github.com/pytorch/pytorch/pull/184779).
_FAST_BINCOUNT = ("cuda", "xpu")


def with_index(device: torch.device) -> torch.device:
    """The device with its index; a bare "cuda" or "xpu" is the current one.

    To torch, "cuda" and "cuda:0" are not equal, and ComfyUI frees memory only on devices equal to the one it is given.
    """
    if device.index is None and device.type in ("cuda", "xpu"):
        return torch.device(device.type, getattr(torch, device.type).current_device())
    return device


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a floating-point tensor to a device: in its own type, to move fewer bytes, or as float32 if the device can't
    store that. Converts before the move, since not every device can do both in one step."""
    if device.type not in ("cpu", "cuda") and tensor.dtype not in _STORED.get(device.type, _STORED_EVERYWHERE):
        tensor = tensor.float()
    return tensor.to(device)


def on_cpu(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Move a tensor to the CPU, then convert it: its device may not have the type."""
    return tensor.cpu().to(dtype)


def in_float64(tensor: Tensor) -> Tensor:
    """A tensor in float64, on the float64_device of its own device."""
    return tensor.to(float64_device(tensor.device)).to(torch.float64)


def orthonormal(columns: Tensor) -> Tensor:
    """An orthonormal basis (m, l) of the span of columns (m, l), on their device."""
    place = float64_device(columns.device)
    return torch.linalg.qr(columns.to(place))[0].to(columns.device)


def float64_device(device: torch.device) -> torch.device:
    """Where exact algebra runs for a device: the device itself if it has float64 and decompositions, else the CPU."""
    if device.type == "cpu" or (device.type not in _WITHOUT_FLOAT64 and _has_float64_algebra(device)):
        return device
    return CPU_DEVICE


def has_fast_bincount(device: torch.device) -> bool:
    """Whether counting on the device is faster than moving the values to the CPU."""
    return device.type in _FAST_BINCOUNT


@cache
def _has_float64_algebra(device: torch.device) -> bool:
    """Whether a device computes in true float64 and has the decompositions that the core uses.

    Raises torch's error if the device's memory is full; the answer is not cached then.
    """
    columns = torch.tensor([[3.0, 1.0], [1.0, 2.0], [1.0, 1e-10]], dtype=torch.float64, device="cpu")
    columns.float().to(device)  # raises torch's own error if there is no such device
    try:
        there = columns.to(device)
        gram = there.mT @ there
        triangle, failed = torch.linalg.cholesky_ex(gram)
        solved = torch.linalg.solve_triangular(triangle.mT, triangle.mT @ gram, upper=True)
        q, r = torch.linalg.qr(there)
        found = [gram.cpu(), (triangle @ triangle.mT).cpu(), solved.cpu(), (q @ r).cpu()]
        good = int(failed) == 0
    except (RuntimeError, TypeError) as error:  # RuntimeError for missing operators, TypeError for missing types
        if is_out_of_memory(error):
            raise
        log.info("Exact algebra for %s runs on the CPU: %s", device, str(error).splitlines()[0])
        return False
    gram = columns.mT @ columns
    good &= all(
        torch.allclose(one, other, rtol=1e-13, atol=1e-14)
        for one, other in zip(found, (gram, gram, gram, columns), strict=True)
    )
    if not good:
        log.info("Exact algebra for %s runs on the CPU: its float64 results are not accurate.", device)
    return good


# Phrases in the out-of-memory errors of CUDA and its libraries, Metal, Intel, DirectML and the CPU.
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "alloc_failed",
    "out of device memory",
    "out of host memory",
    "out of resources",
    "not enough gpu video memory",
    "invalid buffer size",
    "cublas_status_not_initialized",
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch or Python means that the memory of a device or of the machine ran out."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(phrase in text or phrase in text.replace("_", " ") for phrase in _OUT_OF_MEMORY)
