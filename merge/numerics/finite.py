"""Whether numbers are finite.

Many numbers on the CPU by their bits, in the calling thread: torch gives larger operations to its other threads, which
wait for more by spinning, and a file's hash is computed on their core meanwhile.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..errors import LoraError

# torch's whole number of the same size and numpy's without a sign; the bits beside the sign, and the least of them that
# stand for Inf or NaN
_BITS = {
    torch.float64: (torch.int64, np.uint64, 0x7FFF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000),
    torch.float32: (torch.int32, np.uint32, 0x7FFF_FFFF, 0x7F80_0000),
    torch.float16: (torch.int16, np.uint16, 0x7FFF, 0x7C00),
    torch.bfloat16: (torch.int16, np.uint16, 0x7FFF, 0x7F80),
    torch.float8_e5m2: (torch.uint8, np.uint8, 0x7F, 0x7C),
    torch.float8_e4m3fn: (torch.uint8, np.uint8, 0x7F, 0x7F),
}
# Numbers that stay in the cache between one pass and the next.
_BLOCK = 2**15
# Up to here torch is the faster one, and works in the calling thread too.
_FEW = 2**14


def require_finite(tensor: Tensor, what: str) -> None:
    """Raise LoraError naming ``what`` when the tensor holds NaN or Inf."""
    if tensor.is_floating_point() and not is_finite(tensor):
        raise LoraError(
            f"{what} holds NaN or infinite values. The file is damaged or its training diverged: "
            "get another copy, or leave it out."
        )


def require_fits(tensor: Tensor, what: str) -> None:
    """Raise LoraError naming ``what`` when numbers that were computed or converted are not finite."""
    if tensor.is_floating_point() and not is_finite(tensor):
        name = str(tensor.dtype).removeprefix("torch.")
        wide = torch.finfo(tensor.dtype).max >= torch.finfo(torch.bfloat16).max
        advice = "Lower its strength." if wide else "Choose float32 or bfloat16, or lower its strength."
        raise LoraError(f"{what} holds values too large for {name}. {advice}")


def is_finite(tensor: Tensor) -> bool:
    """Whether a floating-point tensor holds neither NaN nor Inf."""
    if tensor.numel() == 0:
        return True
    by_bits = tensor.device.type == "cpu" and tensor.is_contiguous() and tensor.dtype in _BITS
    if not by_bits or tensor.numel() <= _FEW:
        least, most = torch.aminmax(tensor.float() if tensor.element_size() == 1 else tensor)
        return math.isfinite(least) and math.isfinite(most)
    whole, kind, beside_sign, infinite = _BITS[tensor.dtype]
    bits = tensor.detach().reshape(-1).view(whole).numpy().view(kind)
    magnitudes = np.empty(min(_BLOCK, len(bits)), kind)
    for start in range(0, len(bits), _BLOCK):
        block = bits[start : start + _BLOCK]
        if np.bitwise_and(block, kind(beside_sign), out=magnitudes[: len(block)]).max() >= infinite:
            return False
    return True
