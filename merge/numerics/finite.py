"""Checks that numbers are finite.

Large tensors on the CPU are checked by their bit patterns, in the calling thread. torch would hand them to its other
threads, which wait for more work by spinning and so slow down the hashing of a file that runs at the same time.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..errors import LoraError

# torch's integer type of the same size, numpy's unsigned one, the bits other than the sign, and the smallest value of
# those bits that means Inf or NaN.
_BITS = {
    torch.float64: (torch.int64, np.uint64, 0x7FFF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000),
    torch.float32: (torch.int32, np.uint32, 0x7FFF_FFFF, 0x7F80_0000),
    torch.float16: (torch.int16, np.uint16, 0x7FFF, 0x7C00),
    torch.bfloat16: (torch.int16, np.uint16, 0x7FFF, 0x7F80),
    torch.float8_e5m2: (torch.uint8, np.uint8, 0x7F, 0x7C),
    torch.float8_e4m3fn: (torch.uint8, np.uint8, 0x7F, 0x7F),
}
# Elements checked at a time, so that they stay in the cache.
_BLOCK_ELEMENTS = 2**15
# Up to this size torch is faster, and works in the calling thread too.
_MOST_FOR_TORCH = 2**14


def require_finite(tensor: Tensor, what: str) -> None:
    """Raise LoraError naming ``what`` if a tensor read from a file holds NaN or Inf."""
    if tensor.is_floating_point() and not is_finite(tensor):
        raise LoraError(
            f"{what} holds NaN or infinite values. The file is damaged or its training diverged: "
            "get another copy, or leave it out."
        )


def require_fits(tensor: Tensor, what: str) -> None:
    """Raise LoraError naming ``what`` if a computed or converted tensor holds NaN or Inf."""
    if tensor.is_floating_point() and not is_finite(tensor):
        name = str(tensor.dtype).removeprefix("torch.")
        wide = torch.finfo(tensor.dtype).max >= torch.finfo(torch.bfloat16).max
        advice = "Lower its strength." if wide else "Choose float32 or bfloat16, or lower its strength."
        raise LoraError(f"{what} holds values too large for {name}. {advice}")


def require_no_overflow(norm: float) -> None:
    """Raise OverflowError if a norm is NaN or Inf, because the numbers it was computed from overflowed."""
    if not math.isfinite(norm):
        raise OverflowError("numbers too large for float32")


def is_finite(tensor: Tensor) -> bool:
    """Whether a floating-point tensor holds neither NaN nor Inf."""
    if tensor.numel() == 0:
        return True
    by_bits = tensor.device.type == "cpu" and tensor.is_contiguous() and tensor.dtype in _BITS
    if not by_bits or tensor.numel() <= _MOST_FOR_TORCH:
        least, most = torch.aminmax(tensor.float() if tensor.element_size() == 1 else tensor)
        return math.isfinite(least) and math.isfinite(most)
    integer, unsigned, not_sign, infinite = _BITS[tensor.dtype]
    bits = tensor.detach().reshape(-1).view(integer).numpy().view(unsigned)
    magnitudes = np.empty(min(_BLOCK_ELEMENTS, len(bits)), unsigned)
    for start in range(0, len(bits), _BLOCK_ELEMENTS):
        block = bits[start : start + _BLOCK_ELEMENTS]
        if np.bitwise_and(block, unsigned(not_sign), out=magnitudes[: len(block)]).max() >= infinite:
            return False
    return True
