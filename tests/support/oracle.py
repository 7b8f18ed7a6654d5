"""The expected result of merges, in float64 numpy, written from PEFT's rules and sharing no code with merge/.

A weight in a merge is a list of `Part`s, one for each LoRA that adapts it at a strength other than 0. Modes go by their
plain names ("ties" for ties and ties_svd). `Masks` gives the elements that a random mask keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from lora_pack.merge.adapters.base import Lora, LoraModule

Array = np.ndarray
# (input index of the LoRA, from 1; side: "up", "down" or "delta"; shape) -> boolean mask of the kept elements
Masks = Callable[[int, str, tuple[int, ...]], Array]


@dataclass(frozen=True)
class Part:
    input_index: int
    up: Array  # (out, rank)
    down: Array  # (rank, in * kernel)
    scale: float  # alpha / rank
    strength: float


def part(module: LoraModule, strength: float = 1.0, input_index: int = 1) -> Part:
    up = module.up.materialize().detach().cpu().double().numpy()
    down = module.down.materialize().detach().cpu().double().numpy()
    rank = down.shape[0]
    return Part(input_index, up.reshape(len(up), rank), down.reshape(rank, -1), module.alpha / rank, strength)


def parts(loras: Sequence[Lora]) -> dict[str, list[Part]]:
    """The parts of each module, in order of first appearance; the LoRAs must use the same names."""
    found: dict[str, list[Part]] = {}
    for input_index, lora in enumerate(loras, 1):
        for name, module in lora.modules.items():
            of_part = lora.strength_clip if name.startswith("lora_te") else lora.strength_model
            strength = of_part * module.block_weight
            if strength != 0:
                found.setdefault(name, []).append(part(module, strength, input_index))
    return found


def delta(adapter: Part) -> Array:
    """alpha / rank * up @ down, as the sum of the outer products."""
    total = np.zeros((adapter.up.shape[0], adapter.down.shape[1]))
    for r in range(adapter.down.shape[0]):
        total += np.multiply.outer(adapter.up[:, r], adapter.down[r])
    return adapter.scale * total


def module_delta(module: LoraModule) -> Array:
    """What a module adds at strength 1, including its block weight."""
    return module.block_weight * delta(part(module))


def largest(x: Array, density: float) -> Array:
    """PEFT's magnitude pruning: keep the floor(density * n + 1e-9) largest magnitudes, of tied ones the first."""
    flat = x.ravel()
    order = np.argsort(-np.abs(flat), kind="stable")  # stable: of equal magnitudes the first come first
    kept = np.zeros(flat.size)
    for i in order[: math.floor(density * flat.size + 1e-9)]:
        kept[i] = flat[i]
    return kept.reshape(x.shape)


def drop(x: Array, density: float, keep: Array) -> Array:
    """DARE: the kept elements divided by the density; zeros at density 0."""
    return np.where(keep, x, 0.0) / density if density > 0 else np.zeros_like(x)


def disjoint_mean(xs: Sequence[Array], weights: Sequence[float]) -> Array:
    """TIES: elect the sign of the unweighted sum (0: plus), then average the weighted values that have it."""
    votes = np.sum(xs, axis=0)
    elected = np.where(votes >= 0, 1.0, -1.0)
    total = np.zeros_like(votes)
    count = np.zeros_like(votes)
    for x, weight in zip(xs, weights, strict=True):
        agrees = np.sign(x) == elected
        total[agrees] += weight * x[agrees]
        count[agrees] += 1
    return total / np.maximum(count, 1)


def combine(
    mode: str, xs: Sequence[Array], weights: Sequence[float], density: float, keeps: Sequence[Array] | None = None
) -> Array:
    """A mode on tensors: sparsify each, then sum or elect. `keeps` are the random masks."""
    xs = sparsify(mode, xs, density, keeps)
    if mode in ("ties", "dare_ties"):
        return disjoint_mean(xs, weights)
    return np.sum([weight * x for x, weight in zip(xs, weights, strict=True)], axis=0)


def sparsify(mode: str, xs: Sequence[Array], density: float, keeps: Sequence[Array] | None = None) -> list[Array]:
    if mode in ("add", "concat"):
        return list(xs)
    if mode in ("ties", "magnitude_prune"):
        return [largest(x, density) for x in xs]
    assert mode in ("dare_linear", "dare_ties") and keeps is not None
    return [drop(x, density, keep) for x, keep in zip(xs, keeps, strict=True)]


def merged_factors(mode: str, adapters: Sequence[Part], density: float = 1.0, masks: Masks | None = None):
    """PM Merge LoRA on one weight: up scaled by sqrt|w|, down by sign(w) sqrt|w|, where w = strength * scale."""
    weights = [a.strength * a.scale for a in adapters]
    on_up = [math.sqrt(abs(w)) for w in weights]
    on_down = [math.copysign(math.sqrt(abs(w)), w) for w in weights]
    if mode == "concat":
        ups = [w * a.up for a, w in zip(adapters, on_up, strict=True)]
        downs = [w * a.down for a, w in zip(adapters, on_down, strict=True)]
        return np.concatenate(ups, axis=1), np.concatenate(downs, axis=0)
    rank = max(a.down.shape[0] for a in adapters)

    def side(name: str, xs: Sequence[Array], weights: Sequence[float]) -> Array:
        keeps = [masks(a.input_index, name, x.shape) for a, x in zip(adapters, xs, strict=True)] if masks else None
        sparse = sparsify(mode, xs, density, keeps)  # at its own rank, before it is padded
        grow = [(0, rank - x.shape[name == "up"]) for x in sparse]
        padded = [np.pad(x, [(0, 0), g] if name == "up" else [g, (0, 0)]) for x, g in zip(sparse, grow, strict=True)]
        return combine("ties" if mode.endswith("ties") else "add", padded, weights, 1.0)

    return side("up", [a.up for a in adapters], on_up), side("down", [a.down for a in adapters], on_down)


def merged_delta(mode: str, adapters: Sequence[Part], density: float = 1.0, masks: Masks | None = None) -> Array:
    """PM Merge LoRA SVD on one weight, before truncation: the mode on the deltas, weighted by the strengths."""
    deltas = [delta(a) for a in adapters]
    keeps = [masks(a.input_index, "delta", d.shape) for a, d in zip(adapters, deltas, strict=True)] if masks else None
    return combine(mode, deltas, [a.strength for a in adapters], density, keeps)


def best_error(x: Array, rank: int) -> float:
    """The least possible Frobenius error of an approximation of this rank (Eckart-Young)."""
    values = np.linalg.svd(x, compute_uv=False)
    return float(np.sqrt(np.sum(values[rank:] ** 2)))


def distance(got: Array, expected: Array) -> float:
    """||got - expected|| relative to ||expected||, or absolute if zero is expected."""
    error = float(np.linalg.norm(got - expected))
    size = float(np.linalg.norm(expected))
    return error / size if size > 0 else error
