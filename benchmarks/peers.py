"""How other tools merge: one plain function each, from the terms of a module to the factors of the result.

Reimplemented from the behaviour of their programs, not copied; docs/benchmarks.md cites the sources. They compute in
float32, as their programs do. Everything around the merge (progress, keys, metadata) is left out, so they are if
anything faster here.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .inputs import Term, modules_of
from .works import WORKS, Setting, Work

# sd-scripts' svd_merge_lora.py clamps both factors to this quantile of their values. None: no clamp.
CLAMP_QUANTILE: float | None = 0.99
# Default of --svd_lowrank_niter in sd-scripts' resize_lora.py, which computes twice the rank.
LOWRANK_ITERATIONS = 2

Merge = Callable[[Work, Sequence[Term], Setting], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Peer:
    """``slow``: works that take so long that they are extrapolated from one module of each shape."""

    name: str
    works: tuple[str, ...]
    merge: Merge | None  # None: only reads and writes the files
    slow: tuple[str, ...] = ()
    needs_peft: tuple[str, ...] = ()


def _delta(term: Term, device: str) -> Tensor:
    """The dense delta without the strength, like PEFT's get_delta_weight."""
    return (term.up.to(device).float() @ term.down.to(device).float()) * term.scale


def _full_svd(delta: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    u, s, vh = torch.linalg.svd(delta)  # full_matrices=True, torch's default, is what they use
    return u[:, :rank], s[:rank], vh[:rank]


def _merged_delta(work: Work, terms: Sequence[Term], setting: Setting) -> Tensor:
    if work.mode == "add":  # in sequence, as sd-scripts adds them
        total = _delta(terms[0], setting.device) * terms[0].strength
        for term in terms[1:]:
            total = total + _delta(term, setting.device) * term.strength
        return total
    weights = torch.tensor([term.strength for term in terms], device=setting.device)
    return _task(work.mode, [_delta(term, setting.device) for term in terms], weights, setting.density)


def has_peft() -> bool:
    return importlib.util.find_spec("peft") is not None


def _task(mode: str, tensors: list[Tensor], weights: Tensor, density: float) -> Tensor:
    from peft.utils import merge_utils as peft  # here because it takes seconds and not every tool needs it

    with warnings.catch_warnings():  # it warns about density 1
        warnings.simplefilter("ignore")
        if mode == "add":
            return peft.task_arithmetic(tensors, weights)
        return getattr(peft, mode)(tensors, weights, density)


def by_peft(work: Work, terms: Sequence[Term], setting: Setting) -> tuple[Tensor, Tensor]:
    """PEFT's add_weighted_adapter: svd and *_svd, cat, and the modes on factors."""
    device = setting.device
    if work.kind == "deltas":
        weights = torch.tensor([term.strength for term in terms], device=device)
        delta = _task(work.mode, [_delta(term, device) for term in terms], weights, setting.density)
        u, s, vh = _full_svd(delta, setting.rank)
        return u @ torch.diag(s), vh
    ups = [term.up.to(device).float() for term in terms]
    downs = [term.down.to(device).float() for term in terms]
    if work.kind == "concat":
        return torch.cat(ups, 1), torch.cat(
            [down * term.effective_weight for down, term in zip(downs, terms, strict=True)]
        )
    roots = [math.sqrt(abs(term.effective_weight)) for term in terms]
    signed = [math.copysign(root, term.effective_weight) for root, term in zip(roots, terms, strict=True)]
    down = _task(work.mode, downs, torch.tensor(signed, device=device), setting.density)
    up = _task(work.mode, ups, torch.tensor(roots, device=device), setting.density)
    return up, down


def by_dense_svd(work: Work, terms: Sequence[Term], setting: Setting) -> tuple[Tensor, Tensor]:
    """sd-scripts' svd_merge_lora.py with its clamp, or resize_lora.py (before it had svd_lowrank) for a resize."""
    u, s, vh = _full_svd(_merged_delta(work, terms, setting), setting.rank)
    u = u @ torch.diag(s)
    if work.kind == "resize" or CLAMP_QUANTILE is None:
        return u, vh
    limit = torch.quantile(torch.cat([u.flatten(), vh.flatten()]), CLAMP_QUANTILE)
    return u.clamp(-limit, limit), vh.clamp(-limit, limit)


def by_svd_lowrank(work: Work, terms: Sequence[Term], setting: Setting) -> tuple[Tensor, Tensor]:
    """torch's randomised SVD of the dense delta, as sd-scripts' resize_lora.py does above 2048 rows and columns."""
    delta = _merged_delta(work, terms, setting)
    q = min(2 * setting.rank, *delta.shape)
    u, s, v = torch.svd_lowrank(delta, q=q, niter=LOWRANK_ITERATIONS)
    rank = setting.rank
    return u[:, :rank] @ torch.diag(s[:rank]), v[:, :rank].mT


def _by_qr(terms: Sequence[Term], setting: Setting, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """elias-gaeros/resize_lora: QR of the stacked factors, SVD of the core."""
    ups, downs = [], []
    for term in terms:
        root = math.sqrt(abs(term.effective_weight))
        ups.append(term.up.to(setting.device, dtype) * root)
        downs.append(term.down.to(setting.device, dtype) * math.copysign(root, term.effective_weight))
    q_up, r_up = torch.linalg.qr(torch.cat(ups, 1))
    q_down, r_down = torch.linalg.qr(torch.cat(downs).mT)
    u, s, vh = torch.linalg.svd(r_up @ r_down.mT)
    up, down = q_up @ u, vh @ q_down.mT
    root = s[: setting.rank].sqrt()
    return up[:, : setting.rank] * root, down[: setting.rank] * root[:, None]


def by_qr32(work: Work, terms: Sequence[Term], setting: Setting) -> tuple[Tensor, Tensor]:
    return _by_qr(terms, setting, torch.float32)


def by_qr64(work: Work, terms: Sequence[Term], setting: Setting) -> tuple[Tensor, Tensor]:
    return _by_qr(terms, setting, torch.float64)


def side_by_side(work: Work, terms: Sequence[Term], setting: Setting) -> tuple[Tensor, Tensor]:
    """ethanfel/ComfyUI-LoRA-Optimizer, _build_exact_linear_patch: the whole weight goes into the up."""
    ups = [term.up.to(setting.device, setting.torch_dtype) * term.effective_weight for term in terms]
    return torch.cat(ups, 1), torch.cat([term.down.to(setting.device, setting.torch_dtype) for term in terms])


_ON_DELTAS = tuple(name for name, work in WORKS.items() if work.forms_delta)
_ON_FACTORS = tuple(name for name, work in WORKS.items() if work.kind == "factors")

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "PEFT",
            ("add_svd", "concat", *_ON_DELTAS, *_ON_FACTORS),
            by_peft,
            slow=("add_svd", *_ON_DELTAS),
            needs_peft=("add_svd", *_ON_DELTAS, *_ON_FACTORS),
        ),
        Peer("dense SVD", ("add_svd", "resize"), by_dense_svd, slow=("add_svd", "resize")),
        Peer(
            "svd_lowrank",
            ("add_svd", "resize", *_ON_DELTAS),
            by_svd_lowrank,
            slow=_ON_DELTAS,
            needs_peft=_ON_DELTAS,
        ),
        Peer("QR float32", ("add_svd", "resize"), by_qr32),
        Peer("QR float64", ("add_svd", "resize"), by_qr64),
        Peer("naive concat", ("concat",), side_by_side),
        Peer("read and write", ("concat",), None),
    )
}


def result(up: Tensor, down: Tensor, setting: Setting) -> tuple[Tensor, Tensor]:
    """The factors as they go into the file."""
    return up.to("cpu", setting.torch_dtype).contiguous(), down.to("cpu", setting.torch_dtype).contiguous()


def load_to_save(peer: Peer, work: Work, files: Sequence[Path], out: Path, setting: Setting) -> None:
    if peer.merge is None:
        copy(files, out, setting)
        return
    tensors: dict[str, Tensor] = {}
    for module in modules_of([load_file(file) for file in (files[:1] if work.kind == "resize" else files)]):
        terms = module.terms
        if work.kind == "resize":
            terms = (Term(terms[0].up, terms[0].down, terms[0].scale, 1.0, 1),)
        up, down = result(*peer.merge(work, terms, setting), setting)
        tensors[f"{module.name}.lora_up.weight"] = up
        tensors[f"{module.name}.lora_down.weight"] = down
        tensors[f"{module.name}.alpha"] = torch.tensor(float(up.shape[1]))
    save_file(tensors, out)


def copy(files: Sequence[Path], out: Path, setting: Setting) -> None:
    """Reads everything, casts it to the result's precision and writes it: a lower bound for any merge."""
    tensors = {}
    for number, file in enumerate(files, 1):
        for key, tensor in load_file(file).items():
            tensors[f"{number}.{key}"] = tensor.to(setting.torch_dtype).contiguous()
    save_file(tensors, out)


def masks(work: Work, setting: Setting) -> Callable[[Tensor, int, str], Tensor]:
    """The masks PEFT applies, drawn from torch's global random state in PEFT's order."""

    def mask(values: Tensor, input_index: int, side: str) -> Tensor:
        values = values.to(setting.device)
        if work.mode == "dare_linear":
            kept = torch.bernoulli(torch.full_like(values, setting.density)) / setting.density
        else:
            flat = values.abs().flatten()
            kept = torch.zeros_like(flat)
            kept[torch.topk(flat, int(setting.density * flat.numel())).indices] = 1
        return kept.reshape(values.shape).cpu()

    return mask
