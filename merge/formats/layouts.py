"""Files whose keys follow rules of their own: converted to usual keys when read, and back where ComfyUI needs that.

Three layouts are those of comfy/lora_convert.py. The fourth is PEFT's, which puts an adapter's name between lora_A and
weight, and after a magnitude.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import torch

from ..errors import LoraError
from ..lazy import LazyTensor

# ComfyUI recognises Flux control LoRAs of Black Forest Labs by these two keys.
BFL_MARKERS = ("img_in.lora_A.weight", "single_blocks.0.norm.key_norm.scale")
BFL_PREFIX = "diffusion_model."

Content = TypeVar("Content")

_PEFT_NAMED = re.compile(r"\.lora_([AB])\.(?!default\.)([^.]+)\.weight$")
_MAGNITUDE = re.compile(r"(\.lora_magnitude_vector)(?:\.(?!weight$)[^.]+)?(?:\.weight)?$")
_ADAPTER_NAME = re.compile(r"\.lora_(?:[AB]\.([^.]+)\.weight|magnitude_vector\.(?!weight$)([^.]+)(?:\.weight)?)$")
_USO = re.compile(r"((?:double|single)_blocks\.\d+)\.processor\.(\w+)\.(down|up)\.weight")
_USO_MODULES = {
    "qkv_lora1": "img_attn.qkv",
    "qkv_lora2": "txt_attn.qkv",
    "proj_lora1": "img_attn.proj",
    "proj_lora2": "txt_attn.proj",
    "qkv_lora": "linear1_qkv",
    "proj_lora": "linear2",
}


def normalised(tensors: Mapping[str, LazyTensor], source: str) -> dict[str, LazyTensor]:
    """The tensors under usual keys, in the same order.

    Raises LoraError for a file with several PEFT adapters, which are several LoRAs, and for two keys of one tensor.
    """
    if all(marker in tensors for marker in BFL_MARKERS):
        return _from_bfl(tensors)
    names = {found[1] or found[2] for found in map(_ADAPTER_NAME.search, tensors) if found}
    if len(names) > 1:
        raise LoraError(f"{source} holds several adapters ({', '.join(sorted(names))}). Save and load each on its own.")
    normal = {_normal_key(key): (key, tensor) for key, tensor in tensors.items()}
    if len(normal) < len(tensors):
        hidden = next(key for key in tensors if normal[_normal_key(key)][0] != key)
        raise LoraError(
            f"{source} holds {hidden} and {normal[_normal_key(hidden)][0]}, two keys for one tensor. Remove one of "
            "the two adapters."
        )
    return {key: tensor for key, (_, tensor) in normal.items()}


def _normal_key(key: str) -> str:
    uso = _USO.fullmatch(key)
    if uso and uso[2] in _USO_MODULES:
        return f"{BFL_PREFIX}{uso[1]}.{_USO_MODULES[uso[2]]}.lora_{uso[3]}.weight"
    if key.startswith("lora_unet__"):  # Wan Fun
        return "lora_unet_" + key[len("lora_unet__") :]
    return _MAGNITUDE.sub(r"\1", _PEFT_NAMED.sub(r".lora_\1.weight", key))


def _from_bfl(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    plain: dict[str, LazyTensor] = {}
    for key, tensor in tensors.items():
        if key.endswith("_norm.scale"):
            key += ".set_weight"
        elif key.endswith(".lora_B.bias"):
            key = key.removesuffix(".lora_B.bias") + ".diff_b"
        plain[BFL_PREFIX + key] = tensor
    up, down = tensors.get("img_in.lora_B.weight"), tensors["img_in.lora_A.weight"]
    # anything else is refused by name where up and down are read
    if up is not None and len(up.shape) == len(down.shape) == 2:
        plain[BFL_PREFIX + "img_in.reshape_weight"] = LazyTensor.of(torch.tensor((up.shape[0], down.shape[1])))
    return plain


def for_file(tensors: Mapping[str, Content]) -> dict[str, Content]:
    """The tensors as a file stores them: usual keys, except for a Flux control LoRA, whose norms have no other key
    that both old and new versions of ComfyUI load."""
    bfl = BFL_PREFIX + BFL_MARKERS[1] + ".set_weight"
    if bfl not in tensors or BFL_PREFIX + "img_in.lora_down.weight" not in tensors:
        return dict(tensors)
    return {_bfl_key(key): tensor for key, tensor in tensors.items() if not key.endswith(".reshape_weight")}


def _bfl_key(key: str) -> str:
    endings = {
        ".lora_up.weight": ".lora_B.weight",
        ".lora_down.weight": ".lora_A.weight",
        ".diff_b": ".lora_B.bias",
        ".scale.set_weight": ".scale",
    }
    key = key.removeprefix(BFL_PREFIX)
    for ending, bfl in endings.items():
        if key.endswith(ending):
            return key.removesuffix(ending) + bfl
    return key
