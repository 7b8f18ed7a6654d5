"""Weights stored in fewer bits. Those in float8, with or without a scale, can be added to; others are named.

ComfyUI stores a scaled float8 weight as `X.weight` and a factor that it is multiplied by: `X.scale_weight`, or
`X.weight_scale` together with `X.comfy_quant`, a JSON text with the format (convert_old_quants, comfy/utils.py;
comfy/ops.py). Scales of rows or blocks, and formats of integers or 4 bits, need the code of their own kernels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import LoraError
from ..io import safetensors_file
from ..io.safetensors_file import StoredTensor
from .model_file import ModelFile

SCALES = (".scale_weight", ".weight_scale")
# Other tensors that belong to a quantised weight.
_COMPANIONS = {
    ".weight_scale_2": "NVFP4",
    ".absmax": "bitsandbytes",
    ".weight.absmax": "bitsandbytes",
    ".SCB": "bitsandbytes int8",
    ".qzeros": "GPTQ or AWQ",
    ".wscales": "Nunchaku",
}
_FORMAT = ".comfy_quant"
_FLOAT8 = ("float8_e4m3fn", "float8_e5m2")
# Tensors that quantised layers have besides their weight, and that are never converted.
NOT_WEIGHTS = (*SCALES, *_COMPANIONS, _FORMAT, ".scale_input", ".input_scale", "scaled_fp8")


@dataclass(frozen=True)
class Scaled:
    """The key of a float8 weight's scale, which is one number, and that number."""

    key: str
    scale: float


def scale_of(model: ModelFile, key: str) -> Scaled | None:
    """The scale of a float8 weight that is to be computed with; None if it, or a wider tensor, has none.

    Raises LoraError, naming the kind, if the weight is quantised in another way.
    """
    tensor, stem = model.tensors[key], key.removesuffix(".weight")
    stored_as = _format(model.tensors, stem)
    if not tensor.dtype.is_floating_point or (stored_as is not None and stored_as not in _FLOAT8):
        companion = next((kind for end, kind in _COMPANIONS.items() if stem + end in model.tensors), None)
        raise _refused(model, key, stored_as or companion or str(tensor.dtype).removeprefix("torch."))
    scales = [stem + ending for ending in SCALES if stem + ending in model.tensors]
    if tensor.dtype.itemsize > 1 or not scales:
        return None
    values = safetensors_file.read([model.tensors[scales[0]]])[0].float().reshape(-1)
    if len(values) != 1:
        raise _refused(model, key, f"float8 with {len(values)} scales")
    return Scaled(scales[0], float(values[0]))


def rescaled(values: Tensor, dtype: torch.dtype, scale_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Float32 values in float8, divided by the scale that makes the largest of them float8's largest, and the scale.

    The values are changed in place; the scale is a number in its own precision.
    """
    most = torch.finfo(dtype).max
    scale = (
        (values.abs().max().double() / most).to(scale_dtype) if values.numel() else torch.ones((), dtype=scale_dtype)
    )
    if float(scale) == 0:
        scale = torch.ones((), dtype=scale_dtype)
    # a rounded scale can be a little too small
    return values.div_(float(scale)).clamp_(-most, most).to(dtype), scale


def in_dtype(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Values rounded to a dtype once; what is too large for float8 becomes NaN, where some versions of torch clip."""
    if dtype.itemsize == 1:
        values = values.masked_fill(values.abs() > torch.finfo(dtype).max, torch.nan)
    return values.to(dtype)


def _format(tensors: Mapping[str, StoredTensor], stem: str) -> str | None:
    """The name of ComfyUI's format for a layer, if the file has it."""
    if stem + _FORMAT not in tensors:
        return None
    text = bytes(safetensors_file.read([tensors[stem + _FORMAT]])[0].reshape(-1).tolist())
    try:
        found = json.loads(text)
    except ValueError:
        return "an unreadable format"
    return str(found.get("format")) if isinstance(found, dict) else "an unreadable format"


def _refused(model: ModelFile, key: str, kind: str) -> LoraError:
    return LoraError(
        f"{model.name}: {key} is quantised ({kind}), so nothing can be added to it or subtracted from it. Use the "
        "model in float16, bfloat16 or float8, and quantise the result."
    )
