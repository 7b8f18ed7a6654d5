"""Plain functions over ComfyUI: devices, progress, the stop button, files, and a model's weights and key map."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import get_key_weight

from ..merge.compute.context import Compute, Progress
from ..merge.compute.devices import with_index
from ..merge.files import adapter_config
from ..merge.names import Architecture, recognise

log = logging.getLogger(__name__)

# Prefix of a diffusion model's own weights in its state dict.
MODEL_PREFIX = "diffusion_model."

# (dim, start, length) as for Tensor.narrow: the part of a fused weight that a module changes.
RowRange = tuple[int, int, int]


def device_names() -> list[str]:
    """Choices for the device widget. cuda is always listed, so that workflows can move between machines."""
    names = ["auto", "cpu", "cuda"]
    names += [f"cuda:{n}" for n in range(1, torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        names.append("xpu")
    return names


def resolve_device(name: str) -> torch.device:
    """The torch device for a widget choice. cuda falls back to the CPU, with a warning, if there is none.

    A device without an index resolves to ComfyUI's own: ComfyUI frees memory on exactly the device it is given, and
    asking for "cuda" would unload nothing from "cuda:0".
    """
    own = comfy.model_management.get_torch_device()
    if name in ("auto", own.type):
        return own
    if name.startswith("cuda") and not torch.cuda.is_available():
        log.warning("This machine has no CUDA device: the CPU is used instead of %s.", name)
        return torch.device("cpu")
    return with_index(torch.device(name))


def check_interrupt() -> None:
    """Raise ComfyUI's interrupt exception if the user has pressed stop."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def compute(device: str, dtype: str) -> Compute:
    """The core's execution context inside a running node: device, dtype, progress bar, stop button, memory."""
    resolved = resolve_device(device)
    return Compute(resolved, getattr(torch, dtype), progress(), check_interrupt, make_room=_freeing_memory_on(resolved))


def _freeing_memory_on(device: torch.device) -> Callable[[int], None]:
    """A function that has ComfyUI unload models until the given number of bytes is free on the device."""
    return lambda needed: comfy.model_management.free_memory(needed, device)


def progress() -> Progress:
    """A callback that moves the running node's progress bar."""
    bars: list[comfy.utils.ProgressBar] = []  # created by the first call, which knows the total

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(comfy.utils.ProgressBar(total))
        bars[0].update_absolute(done, total)

    return show


def lora_names() -> list[str]:
    return folder_paths.get_filename_list("loras")


def lora_path(name: str) -> Path:
    return Path(folder_paths.get_full_path_or_raise("loras", name))


def find_lora(name: str) -> Path | None:
    """The file with this name in ComfyUI's loras folders, with slashes of either kind; None if there isn't one."""
    path = folder_paths.get_full_path("loras", name) or folder_paths.get_full_path("loras", name.replace("\\", "/"))
    return Path(path) if path else None


def listed_lora(name: str) -> str | None:
    """ComfyUI's own name for a file that it lists in the loras folders, given with slashes of either kind."""
    wanted = name.replace("\\", "/")
    return next((listed for listed in lora_names() if listed.replace("\\", "/") == wanted), None)


def file_state(name: str) -> tuple[int, ...] | None:
    """Size and modification time of a LoRA file and of its PEFT configuration, if any; None if the file is gone."""
    path = find_lora(name)
    return None if path is None else tuple(number for file in read_with(path) for number in state_of(file))


def read_with(path: Path) -> list[Path]:
    """The files that loading a LoRA reads: the LoRA itself and its PEFT configuration, if it has one."""
    config = adapter_config(path)
    return [path] if config is None else [path, config]


def state_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def save_folder() -> Path:
    """The first of ComfyUI's loras folders."""
    return Path(folder_paths.get_folder_paths("loras")[0])


def user_folder() -> Path:
    """Where the user's own presets live: in ComfyUI's user folder, which survives a reinstallation of the pack."""
    return Path(folder_paths.get_user_directory()) / "default" / "lora_power_merger"


def key_map(model: Any, clip: Any) -> dict[str, Any]:
    """ComfyUI's map from module names to their targets in this model and text encoder (either may be None).

    A target is a weight's key, or (key, RowRange | None[, function]) for part of a fused or reordered weight.
    """
    names: dict[str, Any] = {}
    if model is not None:
        names = comfy.lora.model_lora_keys_unet(model.model, names)
    if clip is not None:
        names = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, names)
    return names


@dataclass(frozen=True)
class BaseWeight:
    """An unpatched parameter of a model. ``read`` returns a float32 copy on the CPU."""

    shape: torch.Size
    read: Callable[[], torch.Tensor]


def base_weights(model: Any, clip: Any) -> dict[str, BaseWeight]:
    """The parameters of a model and a text encoder by key, read on demand. Either model may be None."""
    weights: dict[str, BaseWeight] = {}
    for patcher in (model, getattr(clip, "patcher", None)):
        if patcher is not None:
            weights |= {key: _base_weight(*weight) for key, weight in _unpatched(patcher)}
    return weights


def _unpatched(patcher: Any) -> Iterator[tuple[str, tuple[torch.Tensor, Callable[..., torch.Tensor]]]]:
    """The unpatched parameters by key, each with the function that dequantises it.

    ComfyUI 0.33's own get_key_patches fails for quantised models, whose scales are keys without a parameter.
    """
    for key in patcher.model_state_dict():
        try:
            weight, _, convert = get_key_weight(patcher.model, key)
        except AttributeError:
            continue
        if key in patcher.hook_backup:
            weight = patcher.hook_backup[key][0]
        elif key in patcher.backup:
            weight = patcher.backup[key].weight
        if weight is not None:
            yield key, (weight, convert or (lambda values, **_: values))


def _base_weight(weight: torch.Tensor, convert: Callable[..., torch.Tensor]) -> BaseWeight:
    # convert dequantises; it works on a copy so that the model's own weight stays untouched
    return BaseWeight(weight.shape, lambda: convert(weight.to("cpu", copy=True), inplace=False).to(torch.float32))


def architecture_of_model(model: Any) -> Architecture | None:
    """The architecture that a model's weight names and shapes identify; None if it is unknown or no model is given."""
    if model is None:
        return None
    shapes = {key: tuple(weight.shape) for key, (weight, _) in _unpatched(model) if key.startswith(MODEL_PREFIX)}
    return recognise({key.removesuffix(".weight"): s for key, s in shapes.items() if key.endswith(".weight")})


def target_parts(target: Any) -> tuple[str, RowRange | None, Callable[[torch.Tensor], torch.Tensor] | None]:
    """Splits a target of ComfyUI's key map into the weight's key, its row range and the function applied to deltas."""
    if isinstance(target, tuple):
        return target[0], target[1], target[2] if len(target) > 2 else None
    return target, None, None
