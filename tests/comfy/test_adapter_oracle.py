"""What ComfyUI's own adapters add to weights: for inputs the oracle's delta, for merged files the mode's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import safetensors.torch
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.files import load, save
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import CONV1, SHAPES, as_matrix, at, each_module, make_lora, state_dict
from lora_pack.tests.support.merging import ALL_MODES, SUMS, assert_best, expected_delta, merge
from torch import Tensor

# [(state dict, strength), ...] -> what ComfyUI adds to each weight of SHAPES, as matrices.
Added = Callable[[list[tuple[dict[str, Tensor], float]]], dict[str, np.ndarray]]


@pytest.fixture
def added(comfy: ModuleType, caplog: pytest.LogCaptureFixture) -> Added:
    def add(files: list[tuple[dict[str, Tensor], float]]) -> dict[str, np.ndarray]:
        patches: dict[str, list] = {name: [] for name in SHAPES}
        for tensors, strength in files:
            for name, adapter in comfy.lora.load_lora(dict(tensors), {name: name for name in SHAPES}).items():
                patches[name].append((strength, adapter, 1.0, None, None))
        weights = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
        for name, weight in weights.items():
            weights[name] = comfy.lora.calculate_weight(patches[name], weight, name)
        assert "lora key not loaded" not in caplog.text and "ERROR" not in caplog.text
        return {name: weight.flatten(1).double().numpy() for name, weight in weights.items()}

    return add


def loras() -> list[Lora]:
    first = make_lora(1, ranks=[3, 4], alphas=[1.5, None, -2.0])
    second = make_lora(2, ranks=[5], alphas=[8.0], dtype=torch.float16)
    mixed = each_module(second, lambda m: as_matrix(m) if m.name == CONV1 else m)
    return [at(first, 0.8), at(mixed, -0.6)]


def test_comfyui_adds_the_oracles_delta(added: Added):
    for lora in loras():
        for name, delta in added([(state_dict(lora), 0.7)]).items():
            assert oracle.distance(delta, 0.7 * oracle.module_delta(lora.modules[name])) < 1e-5


@pytest.mark.parametrize("mode", ALL_MODES)
def test_a_merged_file_adds_the_modes_delta(mode: str, added: Added, tmp_path: Path):
    path = save(merge(mode, loras(), 0.5, rank=4, conv_rank=5, seed=3), tmp_path / "merged.safetensors")
    ranks = {name: module.rank for name, module in load(path).modules.items()}
    for name, delta in added([(safetensors.torch.load_file(path), 1.0)]).items():
        expected = expected_delta(mode, loras(), name, 0.5, seed=3)
        if mode.endswith("_svd"):
            assert_best(delta, ranks[name], expected, "add_svd" if mode in SUMS else mode)
        else:
            assert oracle.distance(delta, expected) < 1e-5


def test_concat_adds_what_stacked_loaders_add(added: Added, tmp_path: Path):
    path = save(merge("concat", loras()), tmp_path / "merged.safetensors")
    stacked = added([(state_dict(lora), lora.strength_model) for lora in loras()])
    for name, delta in added([(safetensors.torch.load_file(path), 1.0)]).items():
        assert oracle.distance(delta, stacked[name]) < 5e-6


def test_a_saved_strength_equals_the_loaders_strength(added: Added, tmp_path: Path):
    for lora in loras():
        path = save(lora, tmp_path / "baked.safetensors")
        baked, loader = (
            added([(safetensors.torch.load_file(path), 1.0)]),
            added([(state_dict(lora), lora.strength_model)]),
        )
        assert all(oracle.distance(baked[name], loader[name]) < 1e-6 for name in SHAPES)
