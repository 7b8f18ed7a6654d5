"""What each kind of device can't do, as far as the core could meet it: the one table that the stand-in goes by.

A line holds what some version of torch since 2.4 lacks there, with a source to check it against; newer versions have
more. What falls back to the CPU by itself counts as missing: it would move every matrix there and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


@dataclass(frozen=True)
class Limits:
    """A device, the floating-point types it holds, and the operators of torch it lacks, by their names in ATen."""

    device: torch.device
    floats: frozenset[torch.dtype] = frozenset(FLOATS)
    lacks: frozenset[str] = field(default_factory=frozenset)
    # Asking for these ends the process instead of raising an error.
    deadly: frozenset[torch.dtype] = field(default_factory=frozenset)

    @property
    def has_float64(self) -> bool:
        return torch.float64 in self.floats


DECOMPOSITIONS = frozenset({"linalg_qr", "geqrf", "_linalg_svd", "_linalg_eigh", "linalg_eigh", "linalg_cholesky_ex"})
SOLVE_TRIANGULAR = "linalg_solve_triangular"

LIMITS: dict[str, Limits] = {
    # NVIDIA, and AMD by ROCm. All that the core uses is there.
    "cuda": Limits(torch.device("cuda", 0)),
    # Metal.
    # float64: github.com/pytorch/pytorch/issues/122602 (a limit of Metal itself). float8: issues/132624.
    # bfloat16: pull/119641 (from macOS 14, and not on Macs with Intel: issues/141864).
    # QR: issues/177370; where it is there, 25 to 250 times slower than on the CPU: issues/187567.
    # SVD, eigenvectors: pull/185954. Cholesky: pull/144193. float32's bits as whole numbers: counted as missing,
    # since bincount of them took seconds: pull/184779.
    # hardshrink: pull/111116; its scalar is part of a graph's name with six decimals only, as clamp's: issues/167767.
    "mps": Limits(
        torch.device("mps", 0),
        frozenset({torch.float32, torch.float16}),
        DECOMPOSITIONS | {SOLVE_TRIANGULAR, "bincount", "hardshrink"},
    ),
    # Intel's Data Center GPU Max, and Battlemage.
    # float8: not known to work, so counted as missing. hardshrink: github.com/intel/torch-xpu-ops/pull/947 (torch 2.6).
    "xpu": Limits(
        torch.device("xpu", 0),
        frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16}),
        frozenset({"hardshrink"}),
    ),
    # The same before torch 2.9 or so: intel/torch-xpu-ops/pull/1988 (triangular solves), issues/1900 (QR falls back).
    "xpu without QR": Limits(
        torch.device("xpu", 0),
        frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16}),
        DECOMPOSITIONS | {SOLVE_TRIANGULAR, "hardshrink"},
    ),
    # Intel's Arc of the A series: github.com/intel/torch-xpu-ops/issues/1742, pytorch/pytorch/issues/147731.
    "xpu without float64": Limits(
        torch.device("xpu", 0),
        frozenset({torch.float32, torch.float16, torch.bfloat16}),
        DECOMPOSITIONS | {SOLVE_TRIANGULAR, "hardshrink"},
    ),
    # DirectML. float64: github.com/microsoft/DirectML/issues/430. bfloat16 ends the process: issues/688.
    # What it lacks falls back to the CPU with a warning: issues/671 (SVD), the rest by its list of operators,
    # github.com/microsoft/DirectML/wiki/PyTorch-DirectML-Operator-Roadmap.
    "DirectML": Limits(
        torch.device("privateuseone", 0),
        frozenset({torch.float32, torch.float16}),
        DECOMPOSITIONS | {SOLVE_TRIANGULAR, "bincount", "hardshrink"},
        deadly=frozenset({torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2}),
    ),
}
