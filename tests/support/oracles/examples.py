"""Small deltas for the tests of the oracles, and a short way to merge them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from lora_pack.tests.support import oracle

from . import modes
from .canonical import joint_bases

Array = np.ndarray
NO_LOSS = 1e-12


def close(got: Array, expected: Sequence | Array, within: float = NO_LOSS) -> bool:
    return oracle.distance(np.asarray(got), np.asarray(expected, dtype=float)) <= within


def merge(
    mode: str,
    deltas: Sequence[Sequence | Array],
    strengths: Sequence[float] | None = None,
    density: float = 1.0,
    draws: Sequence | None = None,
    settings: Mapping[str, float] = MappingProxyType({}),
    **parameters: float,
) -> Array:
    """``draws`` are the numbers for each LoRA; without them every entry is kept whose probability isn't 0."""
    arrays = [np.asarray(delta, dtype=float) for delta in deltas]

    def draw(t: int, shape: tuple[int, ...]) -> Array:
        return np.zeros(shape) if draws is None else np.asarray(draws[t], dtype=float).reshape(shape)

    weights = [1.0] * len(arrays) if strengths is None else strengths
    return modes.merge(mode, arrays, weights, density=density, parameters={**settings, **parameters}, draw=draw)


def low_rank(seed: int, rank: int = 3, shape: tuple[int, int] = (9, 7)) -> Array:
    noise = np.random.Generator(np.random.PCG64(seed))
    return noise.standard_normal((shape[0], rank)) @ noise.standard_normal((rank, shape[1]))


def random_draws(seed: int, mode: str, deltas: Sequence[Array]) -> list[Array]:
    noise = np.random.Generator(np.random.PCG64(seed))
    shape = deltas[0].shape
    if mode == "core_dare_ties_svd":
        q_b, q_a = joint_bases(deltas)
        shape = (q_b.shape[1], q_a.shape[1])
    return [noise.random(shape) for _ in deltas]


def apart(*ranks: int) -> list[Array]:
    """LoRAs that write to and read from directions of their own, orthogonal to all others'."""
    size = sum(ranks) + 1
    noise = np.random.Generator(np.random.PCG64(5))
    left, right = (np.linalg.qr(noise.standard_normal((n, n)))[0] for n in (size, size + 2))
    deltas, start = [], 0
    for r in ranks:
        values = np.diag(1.0 + np.arange(r) + 0.1 * start)
        deltas.append(left[:, start : start + r] @ values @ right[:, start : start + r].T)
        start += r
    return deltas
