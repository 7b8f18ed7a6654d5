"""What PM Inspect LoRA must show, from dense deltas in float64 numpy. Shares no code with merge/."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

Array = np.ndarray
TINY = 1e-6


def deltas(state: Mapping[str, Tensor]) -> dict[str, Array]:
    """The delta of each module of a state dict, as a matrix; a vector has one column."""
    modules: dict[str, dict[str, Array]] = {}
    for key, tensor in state.items():
        name, suffix = key.split(".", 1)
        modules.setdefault(name, {})[suffix] = tensor.double().numpy()
    return {name: delta(parts) for name, parts in modules.items()}


def delta(parts: Mapping[str, Array]) -> Array:
    alpha = float(parts.get("alpha", math.nan))
    if "lora_up.weight" in parts:
        up, down, mid = parts["lora_up.weight"], parts["lora_down.weight"], parts.get("lora_mid.weight")
        scale = 1.0 if math.isnan(alpha) else alpha / down.shape[0]
        if mid is not None:
            full = np.einsum("orxy,rskl,siab->oikl", up, mid, down)
            return scale * full.reshape(full.shape[0], -1)
        return scale * flat(up) @ flat(down)
    if "hada_w1_a" in parts:
        scale = alpha / parts["hada_w1_b"].shape[0]
        first, second = (product(parts, f"hada_w{n}_a", f"hada_w{n}_b", f"hada_t{n}") for n in (1, 2))
        return scale * flat(first * second)
    if any(key.startswith("lokr") for key in parts):
        first = parts["lokr_w1"]
        if "lokr_w2" in parts:
            return np.kron(first, parts["lokr_w2"])
        scale = alpha / parts["lokr_w2_b"].shape[0]
        second = product(parts, "lokr_w2_a", "lokr_w2_b", "lokr_t2")
        return scale * np.kron(first, flat(second))
    (value,) = parts.values()
    return value.reshape(value.shape[0], -1)


def product(parts: Mapping[str, Array], a: str, b: str, core: str) -> Array:
    if core not in parts:
        return parts[a] @ parts[b]
    return np.einsum("ijkl,jr,ip->prkl", parts[core], parts[b], parts[a])


def flat(array: Array) -> Array:
    return array.reshape(array.shape[0], -1)


def energies(matrix: Array) -> Array:
    return np.linalg.svd(matrix, compute_uv=False) ** 2


def numerical_rank(matrix: Array) -> int:
    values = np.linalg.svd(matrix, compute_uv=False)
    return int((values > TINY * values[0]).sum())


def effective_rank(matrix: Array) -> float:
    shares = energies(matrix)
    shares = shares[shares > 0] / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def rank_for(matrices: Sequence[Array], share: float) -> int:
    """The smallest k such that all matrices truncated to rank k hold this share of their energy."""
    spectra = [energies(matrix) for matrix in matrices]
    total = sum(spectrum.sum() for spectrum in spectra)
    return next(
        k for k in range(1, 10_000) if sum(spectrum[:k].sum() for spectrum in spectra) >= share * total * (1 - 1e-12)
    )


def cosine(a: Array, b: Array) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def shared_input(a: Array, b: Array) -> tuple[float, float]:
    """The share of b's energy inside a's input directions, and by chance."""
    _, _, vh = np.linalg.svd(a, full_matrices=False)
    rank = numerical_rank(a)
    return float(np.linalg.norm(b @ vh[:rank].T) ** 2 / np.linalg.norm(b) ** 2), rank / a.shape[1]


def shared_output(a: Array, b: Array) -> tuple[float, float]:
    return shared_input(a.T, b.T)


def sign_conflict(a: Array, b: Array) -> float:
    return float((np.sign(a) != np.sign(b)).mean())
