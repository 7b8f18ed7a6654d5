"""What each kind of device can't do, as far as the core is concerned: the table that the stand-in follows.

An entry lists what some version of torch since 2.4 lacks on that device, with a source; newer versions lack less.
Operators that silently fall back to the CPU count as missing, because they would move every matrix there and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


@dataclass(frozen=True)
class Limits:
    """A device, the floating-point types it stores, and the torch operators it lacks, by their ATen names."""

    device: torch.device
    floats: frozenset[torch.dtype] = frozenset(FLOATS)
    lacks: frozenset[str] = field(default_factory=frozenset)
    # Using these ends the process instead of raising an error.
    deadly: frozenset[torch.dtype] = field(default_factory=frozenset)

    @property
    def has_float64(self) -> bool:
        return torch.float64 in self.floats


DECOMPOSITIONS = frozenset({"linalg_qr", "geqrf", "_linalg_svd", "_linalg_eigh", "linalg_eigh", "linalg_cholesky_ex"})
SOLVE_TRIANGULAR = "linalg_solve_triangular"

LIMITS: dict[str, Limits] = {
    # NVIDIA, and AMD through ROCm. Has everything that the core uses.
    "cuda": Limits(torch.device("cuda", 0)),
    # Metal.
    # float64: github.com/pytorch/pytorch/issues/122602 (a limit of Metal itself). float8: issues/132624.
    # bfloat16: pull/119641 (from macOS 14, and not on Macs with Intel: issues/141864).
    # QR: issues/177370; where it exists, 25 to 250 times slower than on the CPU: issues/187567.
    # SVD, eigenvectors: pull/185954. Cholesky: pull/144193. bincount takes seconds and counts as missing: pull/184779.
    # hardshrink: pull/111116; like clamp's, its bound is rounded to six decimals: issues/167767.
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
    # Missing operators fall back to the CPU with a warning: issues/671 (SVD); the rest from its list of operators,
    # github.com/microsoft/DirectML/wiki/PyTorch-DirectML-Operator-Roadmap.
    "DirectML": Limits(
        torch.device("privateuseone", 0),
        frozenset({torch.float32, torch.float16}),
        DECOMPOSITIONS | {SOLVE_TRIANGULAR, "bincount", "hardshrink"},
        deadly=frozenset({torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2}),
    ),
}
