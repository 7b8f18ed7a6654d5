"""How device names resolve in ComfyUI, and that infinite values never reach its models."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import pytest
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.errors import LoraError
from lora_pack.merge.formats import from_state_dict, to_state_dict
from lora_pack.merge.merging.resize import resize
from lora_pack.tests.support.families import MULTIPLIED, NAME, OVERFLOWING
from lora_pack.tests.support.merging import merge

CUDA_1 = torch.device("cuda", 1)


@pytest.fixture
def bridge(comfy: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """The bridge to a ComfyUI that computes on the second of two GPUs."""
    from lora_pack.nodes import comfy_bridge

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(comfy_bridge.comfy.model_management, "get_torch_device", lambda: CUDA_1)
    return comfy_bridge


def test_a_device_without_index_resolves_to_comfyuis_own(bridge):
    assert bridge.resolve_device("auto") == bridge.resolve_device("cuda") == CUDA_1
    assert bridge.resolve_device("cuda:0") == torch.device("cuda", 0)
    assert bridge.resolve_device("cpu") == torch.device("cpu")


def test_a_device_that_comfyui_does_not_use_gets_an_index(bridge, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bridge.comfy.model_management, "get_torch_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(torch, "xpu", SimpleNamespace(current_device=lambda: 3, is_available=lambda: True))
    assert bridge.resolve_device("cuda") == CUDA_1
    assert bridge.resolve_device("xpu") == torch.device("xpu", 3)
    assert bridge.resolve_device("mps") == torch.device("mps")


def test_memory_is_freed_on_the_device_of_comfyuis_models(bridge, monkeypatch: pytest.MonkeyPatch):
    """ComfyUI unloads models from exactly the device it is given; for "cuda" it would unload none."""
    unloaded: list[str] = []

    class Loaded:
        device = CUDA_1
        model = SimpleNamespace(model=object(), is_dynamic=lambda: False, loaded_size=lambda: 0)
        currently_used = False

        def model_unload(self, *arguments: object, **options: object) -> bool:
            unloaded.append("a model")
            return True

        def __getattr__(self, name: str):  # is_dead, model_memory, or whatever this version calls
            return lambda *arguments, **options: 0

    management = bridge.comfy.model_management
    monkeypatch.setattr(management, "current_loaded_models", [Loaded()])
    monkeypatch.setattr(management, "get_free_memory", lambda *arguments, **options: 10)
    monkeypatch.setattr(management, "soft_empty_cache", lambda *arguments, **options: None)
    bridge.compute("cuda", "float32").make_room(2**30)
    assert unloaded == ["a model"]


@pytest.mark.parametrize("family", MULTIPLIED)
def test_apply_refuses_values_that_overflow(comfy: ModuleType, family: str):
    from lora_pack.nodes.apply import apply_lora

    lora = from_state_dict(OVERFLOWING[family], "large").with_strengths(100, 100).baked()
    with pytest.raises(LoraError, match="large: module .* holds values too large for float16"):
        apply_lora(None, None, lora)


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_a_non_finite_delta_computed_from_a_model_is_refused(comfy: ModuleType, value: float):
    from lora_pack.nodes.base_weights import ResolvedModule

    change = torch.ones(6, 5)
    change[2, 3] = value
    lora = Lora("resolved", {NAME: ResolvedModule("DoRA", NAME, lambda: change, (6, 5))})
    with pytest.raises(LoraError, match=f"resolved: module {NAME} holds values too large for float32"):
        to_state_dict(lora)
    for mode in ("concat", "add_svd", "ties_svd"):
        with pytest.raises(LoraError, match=f"{NAME} gave values too large for float32"):
            merge(mode, [lora, lora], 0.5)
    with pytest.raises(LoraError, match=f"{NAME} gave values too large for float32"):
        resize(lora, 2)
