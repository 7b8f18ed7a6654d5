"""Parity with PEFT: merge_utils on fixed tensors, and add_weighted_adapter on a small model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.methods.blocked_matrix import Block, in_blocks
from lora_pack.merge.methods.kernels import Elementwise, Settings
from lora_pack.merge.methods.mask_stream import MaskStream
from lora_pack.merge.methods.registry import factor_method
from lora_pack.merge.names.prefixes import canonical
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import at, of_modules
from lora_pack.tests.support.merging import EXACT, FACTORS, merge
from torch import Tensor, nn

peft = pytest.importorskip("peft")
merge_utils = pytest.importorskip("peft.utils.merge_utils")

# PEFT's int(density * n) is one too few at some sizes (0.29 of 100), but not at these.
SHAPES = [(7, 31), (16, 16), (3, 5, 3, 3)]
DENSITIES = [0.1, 0.29, 0.5, 1.0]
WEIGHTS = [0.7, -1.3, 0.4]

PEFT_MODES: dict[str, Callable[[list[Tensor], Tensor, float], Tensor]] = {
    "add": lambda tensors, weights, density: merge_utils.task_arithmetic(tensors, weights),
    "magnitude_prune": merge_utils.magnitude_prune,
    "ties": merge_utils.ties,
    "dare_linear": merge_utils.dare_linear,
    "dare_ties": merge_utils.dare_ties,
}
SVD_TYPES = {
    "add_svd": "svd",
    "ties_svd": "ties_svd",
    "dare_linear_svd": "dare_linear_svd",
    "dare_ties_svd": "dare_ties_svd",
    "magnitude_prune_svd": "magnitude_prune_svd",
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """PEFT warns about densities of 1 and about merged adapters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def feed(masks: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make PEFT use these masks, in this order."""

    def bernoulli(probabilities: Tensor) -> Tensor:
        mask = masks.pop(0)
        assert mask.numel() == probabilities.numel()
        return mask.reshape(probabilities.shape).to(probabilities)

    monkeypatch.setattr(merge_utils.torch, "bernoulli", bernoulli)


def drawn(seed: int, weight: str, number: int, side: str, size: int, density: float) -> Tensor:
    return torch.from_numpy(MaskStream(seed, canonical(weight), number, side).integers(0, size) < density * 2**32)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", PEFT_MODES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_modes_equal_peft_s_merge_utils(
    mode: str, shape: tuple[int, ...], density: float, count: int, monkeypatch: pytest.MonkeyPatch
):
    noise = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=noise) for _ in range(count)]
    size = tensors[0].numel()
    streams = [MaskStream(5, "model:x", number, "delta") for number in range(1, count + 1)]
    feed([drawn(5, "lora_unet_x", stream.input_index, "delta", size, density) for stream in streams], monkeypatch)
    expected = PEFT_MODES[mode](tensors, torch.tensor(WEIGHTS[:count]), density)
    kernel = factor_method(mode).kernel
    assert isinstance(kernel, Elementwise)
    matrices = [tensor.flatten(1) for tensor in tensors]
    merge_blocks = kernel.fit([in_blocks(one) for one in matrices], WEIGHTS[:count], Settings(density), streams)
    found = merge_blocks([Block(one) for one in matrices]).reshape(shape)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)


class Small(nn.Module):
    """The smaller side of every weight is 9, so an SVD at rank 9 truncates nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(9, 18, bias=False)
        self.tall = nn.Linear(18, 9, bias=False)
        self.conv = nn.Conv2d(6, 9, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.tall(self.wide(x))


FULL_RANK = 9
TARGETS = ["wide", "tall", "conv"]
# adapter -> rank, alpha
ADAPTERS = {"a": (4, 8), "b": (4, 2), "c": (4, 4)}


def peft_model(adapters: dict[str, tuple[int, int]]) -> Any:
    torch.manual_seed(0)
    model = Small()
    for name, (rank, alpha) in adapters.items():
        config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS, init_lora_weights=False)
        if isinstance(model, peft.PeftModel):
            model.add_adapter(name, config)  # pyright: ignore[reportCallIssue]
        else:
            model = peft.get_peft_model(model, config, adapter_name=name)
    return model


def layer(model: Any, target: str) -> Any:
    return getattr(model.base_model.model, target)


def as_lora(model: Any, name: str) -> Lora:
    """An adapter as a LoRA: PEFT's A is down, its B is up."""
    modules = []
    for target in TARGETS:
        at_target = layer(model, target)
        up, down = at_target.lora_B[name].weight.detach(), at_target.lora_A[name].weight.detach()
        scale = at_target.scaling[name]
        modules.append(LoraModule.of(f"lora_unet_{target}", up.clone(), down.clone(), scale * down.shape[0]))
    return of_modules(modules, name)


def combined(model: Any, weights: dict[str, float], kind: str, density: float, svd_rank: int | None = None) -> Lora:
    model.add_weighted_adapter(
        list(weights), list(weights.values()), "merged", combination_type=kind, density=density, svd_rank=svd_rank,
        svd_full_matrices=False,
    )  # fmt: skip
    return as_lora(model, "merged")


SEED = 3


def feed_factor_masks(adapters: list[str], density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT visits the modules in the model's order, and in each all A before all B."""
    sizes = {"wide": (4 * 9, 18 * 4), "tall": (4 * 18, 9 * 4), "conv": (4 * 6 * 9, 9 * 4)}
    masks = [
        drawn(SEED, f"lora_unet_{target}", number, side, sizes[target][i], density)
        for target in TARGETS
        for i, side in enumerate(("down", "up"))
        for number in range(1, len(adapters) + 1)
    ]
    feed(masks, monkeypatch)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("mode", ["add", "ties", "dare_linear", "dare_ties", "magnitude_prune"])
@pytest.mark.parametrize("weights", [{"a": 0.7, "b": -1.3}, {"a": 1.0, "b": 0.5, "c": -0.25}])
def test_factor_modes_equal_add_weighted_adapter(
    mode: str, density: float, weights: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    model = peft_model({name: ADAPTERS[name] for name in weights})
    loras = [at(as_lora(model, name), weight) for name, weight in weights.items()]
    feed_factor_masks(list(weights), density, monkeypatch)
    expected = combined(model, weights, "linear" if mode == "add" else mode, density)
    found = merge(mode, loras, density, seed=SEED)
    for name, module in expected.modules.items():
        for side in ("up", "down"):
            ours, theirs = (
                getattr(lora.modules[name], side).materialize().double().numpy() for lora in (found, expected)
            )
            assert oracle.distance(ours, theirs) <= FACTORS, (name, side)
        assert found.modules[name].scale == module.scale


def test_concat_equals_peft_s_cat():
    weights = {"a": 0.7, "b": -1.3}
    model = peft_model({"a": (4, 8), "b": (3, 2)})
    loras = [at(as_lora(model, name), weight) for name, weight in weights.items()]
    expected = combined(model, weights, "cat", 1.0)
    found = merge("concat", loras)
    for name, module in expected.modules.items():
        assert found.modules[name].rank == module.rank == 7
        assert oracle.distance(oracle.module_delta(found.modules[name]), oracle.module_delta(module)) <= EXACT


def scales_twice() -> bool:
    """Whether the *_svd types of this PEFT apply alpha / r twice (fixed by its pull request 3111)."""
    model = peft_model({"a": (4, 8), "b": (4, 8)})
    delta = layer(model, "wide").get_delta_weight("a").detach().double().numpy()
    found = combined(model, {"a": 1.0, "b": 1e-12}, "svd", 1.0, FULL_RANK)
    ratio = np.linalg.norm(oracle.module_delta(found.modules["lora_unet_wide"])) / np.linalg.norm(delta)
    assert min(abs(ratio - 1), abs(ratio - 2)) < 1e-4, ratio
    return bool(ratio > 1.5)


def feed_delta_masks(adapters: list[str], density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"wide": 18 * 9, "tall": 9 * 18, "conv": 9 * 6 * 9}
    masks = [
        drawn(SEED, f"lora_unet_{target}", number, "delta", sizes[target], density)
        for target in TARGETS
        for number in range(1, len(adapters) + 1)
    ]
    feed(masks, monkeypatch)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("mode", SVD_TYPES)
@pytest.mark.parametrize("alphas", [(4, 4), (8, 2)], ids=["alpha is the rank", "different alphas"])
def test_delta_modes_equal_add_weighted_adapter(
    mode: str, density: float, alphas: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    """At full rank, where the SVD changes nothing; strengths make up for a PEFT that applies alpha twice."""
    twice = scales_twice()
    model = peft_model({"a": (4, alphas[0]), "b": (4, alphas[1])})
    weights = {"a": 0.7, "b": -1.3}
    scales = [alpha / 4 if twice else 1.0 for alpha in alphas]
    loras = [at(as_lora(model, n), w * s) for (n, w), s in zip(weights.items(), scales, strict=True)]
    feed_delta_masks(list(weights), density, monkeypatch)
    expected = combined(model, weights, SVD_TYPES[mode], density, FULL_RANK)
    found = merge(mode, loras, density, rank=FULL_RANK, conv_rank=FULL_RANK, seed=SEED)
    for name, module in expected.modules.items():
        assert oracle.distance(oracle.module_delta(found.modules[name]), oracle.module_delta(module)) <= 1e-5, name
