"""Extracting: each weight's difference within 1.01 of the best, and back to the tuned model by baking."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lora_pack.merge.adapters.base import Difference, Lora, LoraModule
from lora_pack.merge.compute.context import Compute
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save
from lora_pack.merge.models.bake import bake
from lora_pack.merge.models.extract import extract
from lora_pack.tests.support.models import (
    CLIP_G,
    CLIP_L,
    IN_UNET,
    UNET,
    VAE,
    State,
    contents,
    flux,
    normal,
    sdxl,
    write,
)
from torch import Tensor

TO_Q = f"{UNET}{IN_UNET}attn1.to_q.weight"
OPEN_CLIP = f"{CLIP_G}transformer.resblocks.0.attn.in_proj_weight"


def tuned(model: State, *keys: str, scale: float = 0.1) -> State:
    """The model with noise added to these tensors, or to all but the VAE's."""
    keys = keys or tuple(key for key in model if key != VAE)
    noise = {key: (normal(1000 + i, *model[key].shape) * scale).to(model[key].dtype) for i, key in enumerate(keys)}
    return {key: tensor + noise[key] if key in noise else tensor for key, tensor in model.items()}


def files(folder: Path, ours: State, theirs: State) -> tuple[Path, Path]:
    return write(folder / "tuned.safetensors", ours), write(folder / "base.safetensors", theirs)


def matrix(module: LoraModule) -> Tensor:
    up, down = module.factors()
    return module.scale * up.double() @ down.double()


def difference(ours: State, theirs: State, key: str) -> Tensor:
    return (ours[key].double() - theirs[key].double()).flatten(1)


def assert_near_the_best(found: Tensor, exact: Tensor, rank: int) -> None:
    values = np.linalg.svd(exact.numpy(), compute_uv=False)
    best = np.sqrt((values[rank:] ** 2).sum())
    assert float((exact - found).norm()) <= 1.01 * best + 1e-5 * float(exact.norm())


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_each_weight_is_truncated_near_the_best_error(rank: int, tmp_path: Path):
    base = sdxl(torch.float32)
    ours = tuned(base)
    lora = extract(*files(tmp_path, ours, base), rank, 2 * rank)
    places = {
        f"diffusion_model.{IN_UNET}attn1.to_q": (TO_Q, rank),
        f"diffusion_model.{IN_UNET}attn2.to_k": (f"{UNET}{IN_UNET}attn2.to_k.weight", rank),
        "diffusion_model.input_blocks.0.0": (f"{UNET}input_blocks.0.0.weight", min(8, 2 * rank)),
        "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1": (f"{CLIP_L}mlp.fc1.weight", rank),
    }
    for name, (key, expected) in places.items():
        module = lora.modules[name]
        assert isinstance(module, LoraModule)
        assert (module.rank, module.alpha) == (expected, expected)
        assert module.weight_shape == tuple(base[key].shape)
        assert_near_the_best(matrix(module), difference(ours, base, key), expected)


def test_a_slowly_falling_difference_is_truncated_by_iteration_near_the_best_error(tmp_path: Path):
    """As training leaves it, in half precision: a slow fall and a floor of noise."""
    base = {f"{UNET}{IN_UNET}ff.net.{n}.weight": normal(n, 400, 300) * 0.05 for n in range(8)}
    slow = (torch.arange(100.0) + 1) ** -0.7
    ours = {
        key: tensor + (normal(30 + n, 400, 100) * slow @ normal(60 + n, 100, 300).float() * 0.001).half()
        for n, (key, tensor) in enumerate(base.items())
    }
    for module in extract(*files(tmp_path, ours, base), 12).modules.values():
        assert isinstance(module, LoraModule) and module.rank == 12
        key = f"{UNET}{module.name.removeprefix('diffusion_model.')}.weight"
        assert_near_the_best(matrix(module), difference(ours, base, key), 12)


def test_openclips_fused_tensors_become_a_module_for_each_of_q_k_and_v(tmp_path: Path):
    base = sdxl(torch.float32)
    ours = tuned(base)
    lora = extract(*files(tmp_path, ours, base), 12)
    exact, bias = difference(ours, base, OPEN_CLIP), ours[f"{OPEN_CLIP[:-6]}bias"] - base[f"{OPEN_CLIP[:-6]}bias"]
    for number, letter in enumerate("qkv"):
        name = f"text_encoders.clip_g.transformer.text_model.encoder.layers.0.self_attn.{letter}_proj"
        module, its_bias = lora.modules[name], lora.modules[f"{name}.bias"]
        assert isinstance(module, LoraModule) and isinstance(its_bias, Difference)
        assert torch.allclose(matrix(module), exact[12 * number : 12 * number + 12], atol=1e-5)
        assert torch.equal(its_bias.value.materialize(), bias[12 * number : 12 * number + 12])
    projection = lora.modules["text_encoders.clip_g.transformer.text_projection"]
    assert isinstance(projection, LoraModule)
    assert torch.allclose(matrix(projection).T, difference(ours, base, f"{CLIP_G}text_projection"), atol=1e-5)


@pytest.mark.parametrize("model", [sdxl, flux])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_baking_the_extract_at_full_rank_gives_the_tuned_model_back(model, dtype: torch.dtype, tmp_path: Path):
    base = model(dtype)
    ours = tuned(base)
    paths = files(tmp_path, ours, base)
    written = save(extract(*paths, 1000), tmp_path / "lora.safetensors")
    bake(paths[1], [load(written)], tmp_path / "again.safetensors")
    again, _ = contents(tmp_path / "again.safetensors")
    for key, tensor in ours.items():
        assert again[key].dtype == dtype
        allowed = 2 * torch.finfo(dtype).eps * tensor.abs().double() + 1e-5
        assert ((again[key].double() - tensor.double()).abs() <= allowed).all(), key


def test_equal_tensors_are_left_out_and_no_rank_is_spent_on_nothing(tmp_path: Path):
    base = {key: (tensor * 8).round() for key, tensor in sdxl(torch.float32).items()}
    ours = dict(base)
    up, down = (
        normal(seed, *shape, dtype=torch.float32).mul(4).round() for seed, shape in ((1, (16, 2)), (2, (2, 16)))
    )
    ours[TO_Q] = base[TO_Q] + up @ down
    (module,) = extract(*files(tmp_path, ours, base), 8).modules.values()
    assert isinstance(module, LoraModule)
    assert (module.name, module.rank) == (f"diffusion_model.{IN_UNET}attn1.to_q", 2)


def test_the_share_that_was_kept_is_reported(tmp_path: Path):
    base = sdxl(torch.float32)
    ours, reports = tuned(base, TO_Q), []
    compute = replace(Compute(), report_truncation=lambda *norms: reports.append(norms))
    (module,) = extract(*files(tmp_path, ours, base), 3, compute=compute).modules.values()
    assert isinstance(module, LoraModule)
    ((kept, total),) = reports
    assert kept == pytest.approx(float(matrix(module).square().sum()), rel=1e-4)
    assert total == pytest.approx(float(difference(ours, base, TO_Q).square().sum()), rel=1e-4)


@pytest.mark.parametrize("method, value", [("sv_fro", 0.8), ("sv_ratio", 3.0), ("sv_cumulative", 0.7)])
def test_the_rank_rules_pick_the_rank_of_each_weight(method: str, value: float, tmp_path: Path):
    base = {f"{UNET}{IN_UNET}ff.net.{n}.weight": normal(n, 300, 200, dtype=torch.float32) for n in range(8)}
    scales = torch.diag(0.9 ** torch.arange(200.0))
    ours = {key: tensor + normal(50, 300, 200, dtype=torch.float32) @ scales for key, tensor in base.items()}
    lora = extract(*files(tmp_path, ours, base), 20, method=method, value=value)
    for module in lora.modules.values():
        key = f"{UNET}{module.name.removeprefix('diffusion_model.')}.weight"
        values = np.linalg.svd(difference(ours, base, key).numpy(), compute_uv=False)
        if method == "sv_fro":
            wanted = int((np.cumsum(values**2) < value**2 * (values**2).sum()).sum()) + 1
        elif method == "sv_ratio":
            wanted = int((values > values[0] / value).sum())
        else:
            wanted = int((np.cumsum(values) < value * values.sum()).sum()) + 1
        assert 1 < wanted < 20 and abs(module.rank - wanted) <= 1


def test_a_checkpoint_and_a_diffusion_model_without_a_prefix_can_be_compared(tmp_path: Path):
    base = {key.removeprefix(UNET): tensor for key, tensor in sdxl().items() if key.startswith(UNET)}
    ours = tuned(sdxl(), TO_Q)
    lora = extract(*files(tmp_path, ours, base), 4)
    assert list(lora.modules) == [f"diffusion_model.{IN_UNET}attn1.to_q"]
    (note,) = lora.notes
    assert note.startswith(f"Only tuned.safetensors has {CLIP_L}mlp.fc1.weight and 4 more")


def test_scaled_float8_is_compared_by_its_values(tmp_path: Path):
    key = "double_blocks.0.img_attn.qkv"
    base, scale = flux(torch.float32), torch.tensor(0.02)
    ours = dict(base)
    ours[f"{key}.weight"] = (base[f"{key}.weight"] / 0.02).to(torch.float8_e4m3fn)
    ours[f"{key}.scale_weight"] = scale
    (module,) = extract(*files(tmp_path, ours, base), 8).modules.values()
    assert isinstance(module, LoraModule)
    exact = ours[f"{key}.weight"].double() * float(scale) - base[f"{key}.weight"].double()
    assert torch.allclose(matrix(module), exact, atol=1e-5)


def refusal(folder: Path, ours: State, theirs: State) -> str:
    with pytest.raises(LoraError) as caught:
        extract(*files(folder, ours, theirs), 4)
    return str(caught.value)


def test_models_that_cannot_be_compared_are_refused(tmp_path: Path):
    base = sdxl()
    assert "tuned.safetensors is SDXL, but base.safetensors is Flux" in refusal(tmp_path, base, flux())
    assert "the same weights" in refusal(tmp_path, base, base)
    other = base | {TO_Q: normal(1, 16, 20)}
    assert "has shape 16x16 in tuned.safetensors and 16x20 in base.safetensors" in refusal(tmp_path, base, other)
    integers = base | {TO_Q: torch.ones(16, 16, dtype=torch.int8)}
    assert "is quantised (int8)" in refusal(tmp_path, integers, base)
    broken = base | {TO_Q: torch.full((16, 16), torch.inf).half()}
    assert "the difference of the two models holds values too large" in refusal(tmp_path, broken, base)
    cut = files(tmp_path, base, base)[1]
    cut.write_bytes(cut.read_bytes()[:-1])
    with pytest.raises(LoraError, match="not a complete safetensors file"):
        extract(tmp_path / "tuned.safetensors", cut, 4)
    with pytest.raises(LoraError, match="must be at least 1"):
        extract(tmp_path / "tuned.safetensors", cut, 0)


def test_the_recipe_names_both_files_and_settings(tmp_path: Path):
    base = sdxl()
    lora = extract(*files(tmp_path, tuned(base), base), 4, 2, "sv_fro", 0.9)
    _, metadata = contents(save(lora, tmp_path / "lora.safetensors"))
    recipe = json.loads(metadata["lora_power_merger"])
    assert {key: recipe[key] for key in ("operation", "rank", "conv_rank", "method", "value")} == {
        "operation": "extract",
        "rank": 4,
        "conv_rank": 2,
        "method": "sv_fro",
        "value": 0.9,
    }
    assert [entry["file"] for entry in recipe["inputs"]] == ["tuned.safetensors", "base.safetensors"]
    assert metadata["modelspec.architecture"].startswith("stable-diffusion-xl")


def test_the_same_files_give_the_same_bytes(tmp_path: Path):
    base = sdxl()
    paths = files(tmp_path, tuned(base), base)
    written = [save(extract(*paths, 4), tmp_path / f"{n}.safetensors").read_bytes() for n in (1, 2)]
    assert written[0] == written[1]


def test_names_are_those_that_every_comfyui_loads_or_a_style(tmp_path: Path):
    base = flux()
    lora: Lora = extract(*files(tmp_path, tuned(base, "img_in.weight"), base), 4)
    tensors, _ = contents(save(lora, tmp_path / "lora.safetensors"))
    assert list(tensors)[0].startswith("diffusion_model.img_in.")
    tensors, _ = contents(save(lora, tmp_path / "kohya.safetensors", style="kohya"))
    assert list(tensors)[0].startswith("lora_unet_img_in.")
