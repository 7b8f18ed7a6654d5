"""LoRA files written as trainers write them, and read without the pack, so that it isn't its own judge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

# The forms that the benchmark trains: names of sd-scripts, names of PEFT, and LyCORIS' Kronecker products.
FORMS = ("kohya", "peft", "lokr")
WEIGHT = ".weight"
KOHYA, PEFT = "lora_unet_", "diffusion_model."

Factors = Mapping[str, Mapping[str, Tensor]]  # weight of the model -> {"up", "down"} or {"w1", "w2_a", "w2_b"}


def write_lora(path: Path, factors: Factors, alpha: float, form: str, metadata: Mapping[str, str]) -> None:
    """Write trained factors with the names of ``form``, in float16, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    for weight, parts in factors.items():
        module = weight.removesuffix(WEIGHT)
        name = PEFT + module if form == "peft" else KOHYA + module.replace(".", "_")
        for part, tensor in parts.items():
            tensors[f"{name}.{_suffix(part, form)}"] = tensor.detach().to(torch.float16).contiguous()
        tensors[f"{name}.alpha"] = torch.tensor(float(alpha))
    unfinished = path.with_suffix(".unfinished")
    save_file(tensors, unfinished, metadata=dict(metadata))
    unfinished.replace(path)


def read_deltas(path: Path, weights: Iterable[str]) -> dict[str, Tensor]:
    """What a file adds to each of the model's ``weights``, at strength 1, in float32.

    Reads LoRA and LoKr with the names of kohya and of PEFT. Raises ValueError for tensors that it doesn't know: a
    merge that was applied in part would count as a bad merge.
    """
    modules: dict[str, dict[str, Tensor]] = {}
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118 - safe_open is no dict
            name, part = _split(key)
            modules.setdefault(name, {})[part] = file.get_tensor(key).float()
    targets = {weight.removesuffix(WEIGHT): weight for weight in weights if weight.endswith(WEIGHT)}
    names = {KOHYA + module.replace(".", "_"): weight for module, weight in targets.items()}
    names |= {PEFT + module: weight for module, weight in targets.items()}
    unknown = sorted(set(modules) - set(names))
    if unknown:
        raise ValueError(f"{path.name}: the model has no weight for {unknown[0]}.")
    return {names[name]: _delta(parts, path, name) for name, parts in modules.items()}


def _suffix(part: str, form: str) -> str:
    if form == "lokr":
        return f"lokr_{part}"
    up, down = ("lora_B", "lora_A") if form == "peft" else ("lora_up", "lora_down")
    return f"{up if part == 'up' else down}.weight"


_PARTS = {
    ".lora_up.weight": "up",
    ".lora_B.weight": "up",
    ".lora_down.weight": "down",
    ".lora_A.weight": "down",
    ".alpha": "alpha",
    ".lokr_w1": "w1",
    ".lokr_w2_a": "w2_a",
    ".lokr_w2_b": "w2_b",
}


def _split(key: str) -> tuple[str, str]:
    for ending, part in _PARTS.items():
        if key.endswith(ending):
            return key.removesuffix(ending), part
    return key, "unknown"


def _delta(parts: Mapping[str, Tensor], path: Path, name: str) -> Tensor:
    if {"up", "down"} <= set(parts) <= {"up", "down", "alpha"}:
        rank = parts["down"].shape[0]
        return parts["up"] @ parts["down"] * _scale(parts, rank)
    if {"w1", "w2_a", "w2_b"} <= set(parts) <= {"w1", "w2_a", "w2_b", "alpha"}:
        rank = parts["w2_b"].shape[0]
        return torch.kron(parts["w1"], parts["w2_a"] @ parts["w2_b"]) * _scale(parts, rank)
    raise ValueError(f"{path.name}: {name} is neither a LoRA nor a LoKr: {', '.join(sorted(parts))}.")


def _scale(parts: Mapping[str, Tensor], rank: int) -> float:
    return float(parts["alpha"]) / rank if "alpha" in parts else 1.0
