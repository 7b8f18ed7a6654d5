"""Baking into float8 weights with and without scales, and refusing other quantised ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load
from lora_pack.merge.models.bake import bake
from lora_pack.tests.support.models import State, contents, delta_of, flux, lora_of, write
from torch import Tensor

KEY = "double_blocks.0.img_attn.qkv"
NAME = "lora_unet_double_blocks_0_img_attn_qkv"
LORA = lora_of({NAME: (24, 8)})


def formatted(**settings: object) -> Tensor:
    return torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8)


def scaled(scale_key: str, dtype: torch.dtype, scale: Tensor) -> tuple[State, Tensor]:
    """A Flux model with one scaled float8 weight, and that weight's values."""
    model = flux()
    weight = (model[f"{KEY}.weight"].float() / 40 / float(scale.reshape(-1)[0])).to(dtype)
    model |= {f"{KEY}.weight": weight, f"{KEY}.{scale_key}": scale, f"{KEY}.input_scale": torch.tensor(0.5)}
    return model, weight.double() * float(scale.reshape(-1)[0])


def bake_into(folder: Path, model: State) -> State:
    lora = load(write(folder / "a.safetensors", LORA))
    bake(write(folder / "model.safetensors", model), [lora], folder / "out.safetensors")
    return contents(folder / "out.safetensors")[0]


SCALES = {
    "old": ("scale_weight", torch.tensor([0.001])),
    "new": ("weight_scale", torch.tensor(0.02)),
    "bfloat16": ("scale_weight", torch.tensor(0.5, dtype=torch.bfloat16)),
}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("scale_key, scale", SCALES.values(), ids=SCALES)
def test_a_scaled_weight_is_scaled_again(scale_key: str, scale: Tensor, dtype: torch.dtype, tmp_path: Path):
    model, values = scaled(scale_key, dtype, scale)
    if scale_key == "weight_scale":
        model[f"{KEY}.comfy_quant"] = formatted(format=str(dtype).removeprefix("torch."))
    found = bake_into(tmp_path, model)
    weight, new_scale = found[f"{KEY}.weight"], found[f"{KEY}.{scale_key}"]
    assert (weight.dtype, new_scale.dtype, new_scale.shape) == (dtype, scale.dtype, scale.shape)
    exact = values + delta_of(LORA, NAME)
    # the largest value is float8's largest, so that the range is used; a bfloat16 scale is rounded
    assert float(weight.double().abs().max()) >= 0.98 * torch.finfo(dtype).max
    error = (weight.double() * float(new_scale) - exact).abs()
    assert (error <= exact.abs() * torch.finfo(dtype).eps * 0.51 + exact.abs().max() * 5e-3).all()
    assert {key for key in model if not torch.equal(model[key].float(), found[key].float())} == {
        f"{KEY}.weight",
        f"{KEY}.{scale_key}",
    }


def test_float8_without_a_scale_is_rounded_once(tmp_path: Path):
    model = flux()
    model[f"{KEY}.weight"] = model[f"{KEY}.weight"].to(torch.float8_e4m3fn)
    found = bake_into(tmp_path, model)[f"{KEY}.weight"]
    exact = model[f"{KEY}.weight"].double() + delta_of(LORA, NAME)
    assert torch.equal(found.float(), exact.float().to(torch.float8_e4m3fn).float())


def integers(dtype: torch.dtype, columns: int, **others: Tensor) -> State:
    """The weight in an integer type, with the other tensors of its layer."""
    return {f"{KEY}.weight": torch.zeros(24, columns, dtype=dtype)} | {
        f"{KEY}.{ending.replace('__', '.')}": tensor for ending, tensor in others.items()
    }


OTHERS = {
    "int8_tensorwise": integers(torch.int8, 8, comfy_quant=formatted(format="int8_tensorwise")),
    "NVFP4": integers(torch.uint8, 4, weight_scale_2=torch.ones(())),
    "bitsandbytes": integers(torch.uint8, 1, weight__absmax=torch.ones(3)),
    "int8": integers(torch.int8, 8),
    "float8 with 24 scales": {
        f"{KEY}.weight": torch.zeros(24, 8).to(torch.float8_e4m3fn),
        f"{KEY}.weight_scale": torch.ones(24, 1),
    },
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_quantised_weights_are_refused_by_name(kind: str, tmp_path: Path):
    with pytest.raises(LoraError, match=r"model.safetensors: .*img_attn.qkv.weight is quantised") as caught:
        bake_into(tmp_path, flux() | OTHERS[kind])
    assert kind in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_quantised_weights_that_nothing_is_added_to_are_copied(tmp_path: Path):
    other = "single_blocks.0.linear1"
    model = flux() | {f"{other}.weight": torch.ones(56, 8, dtype=torch.int8), f"{other}.weight_scale": torch.ones(56)}
    assert torch.equal(bake_into(tmp_path, model)[f"{other}.weight"], model[f"{other}.weight"])


def test_block_scales_in_a_type_of_their_own_are_named(tmp_path: Path):
    """MXFP8's, whose type safetensors has and older versions of torch don't."""
    path = write(tmp_path / "model.safetensors", flux() | {f"{KEY}.weight_scale": torch.zeros(24, 1).to(torch.uint8)})
    start = path.read_bytes()
    length = int.from_bytes(start[:8], "little")
    header = json.loads(start[8 : 8 + length])
    header[f"{KEY}.weight_scale"]["dtype"] = "F8_E8M0"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + start[8 + length :])
    lora = load(write(tmp_path / "a.safetensors", LORA))
    with pytest.raises(LoraError, match=r"model.safetensors: .*weight_scale.* quantised as MXFP8"):
        bake(path, [lora], tmp_path / "out.safetensors")
