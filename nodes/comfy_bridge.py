"""ComfyUI as plain callables: devices, progress, the stop button, files and the key map of a model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.utils
import folder_paths
import torch

from ..merge.compute.context import Compute, Progress
from ..merge.compute.devices import with_index
from ..merge.files import adapter_config
from ..merge.names import Architecture, recognise

log = logging.getLogger(__name__)

# What the keys of a diffusion model's own weights begin with.
MODEL_PREFIX = "diffusion_model."


def device_names() -> list[str]:
    """The choices of the device widget: cuda always, so that workflows move between machines."""
    names = ["auto", "cpu", "cuda"]
    names += [f"cuda:{n}" for n in range(1, torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        names.append("xpu")
    return names


def resolve_device(name: str) -> torch.device:
    """The device that a choice means here; the CPU, with a line in the log, for cuda if there is none.

    A bare kind of device means ComfyUI's own one: asked for memory on "cuda", ComfyUI unloads nothing from "cuda:0".
    """
    own = comfy.model_management.get_torch_device()
    if name in ("auto", own.type):
        return own
    if name.startswith("cuda") and not torch.cuda.is_available():
        log.warning("This machine has no CUDA device: LoRA Power-Merger computes on the CPU instead of %s.", name)
        return torch.device("cpu")
    return with_index(torch.device(name))


def check_interrupt() -> None:
    """Raise ComfyUI's interrupt when the user pressed stop."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def compute(device: str, dtype: str) -> Compute:
    """What the core needs to run inside a node: it draws the progress bar of the node that is executing."""
    place = resolve_device(device)
    return Compute(place, getattr(torch, dtype), progress(), check_interrupt, make_room=_room_on(place))


def _room_on(device: torch.device) -> Callable[[int], None]:
    """Has ComfyUI unload models where less memory than needed is free on the device."""
    return lambda needed: comfy.model_management.free_memory(needed, device)


def progress() -> Progress:
    """What draws the progress bar of the node that is executing."""
    bars: list[comfy.utils.ProgressBar] = []

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
    """The file of a name in ComfyUI's loras folders, whatever the slashes in it; None where there is none."""
    path = folder_paths.get_full_path("loras", name) or folder_paths.get_full_path("loras", name.replace("\\", "/"))
    return Path(path) if path else None


def file_state(name: str) -> tuple[int, ...] | None:
    """The size and time of the last change of a file of the loras list, and of the configuration that PEFT gave it."""
    path = find_lora(name)
    return None if path is None else tuple(number for file in read_with(path) for number in state_of(file))


def read_with(path: Path) -> list[Path]:
    """All files that are read when a LoRA file is: itself, and its PEFT configuration if it has one."""
    config = adapter_config(path)
    return [path] if config is None else [path, config]


def state_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def save_folder() -> Path:
    """The first of ComfyUI's loras folders."""
    return Path(folder_paths.get_folder_paths("loras")[0])


def user_folder() -> Path:
    """Where the pack's settings of the user lie, as those of other packs do: updates and new installations leave it."""
    return Path(folder_paths.get_user_directory()) / "default" / "lora_power_merger"


def key_map(model: Any, clip: Any) -> dict[str, Any]:
    """ComfyUI's map from module names to what they change in this model and this text encoder (either may be None).

    A target is a weight's key, or (key, slice[, function]) for a part of a fused weight.
    """
    names: dict[str, Any] = {}
    if model is not None:
        names = comfy.lora.model_lora_keys_unet(model.model, names)
    if clip is not None:
        names = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, names)
    return names


@dataclass(frozen=True)
class BaseWeight:
    """An unpatched parameter of a model; ``read`` gives it as a float32 copy on the CPU."""

    shape: torch.Size
    read: Callable[[], torch.Tensor]


def base_weights(model: Any, clip: Any) -> dict[str, BaseWeight]:
    """The parameters of a model and a text encoder by key; nothing is read before it is asked for."""
    weights: dict[str, BaseWeight] = {}
    for patcher in (model, getattr(clip, "patcher", None)):
        if patcher is not None:
            weights |= {key: _base_weight(*patches[0]) for key, patches in patcher.get_key_patches().items()}
    return weights


def _base_weight(weight: torch.Tensor, convert: Callable[..., torch.Tensor]) -> BaseWeight:
    # convert turns a quantised weight into a plain one; the copy keeps the model's own weight from being written to
    return BaseWeight(weight.shape, lambda: convert(weight.to("cpu", copy=True), inplace=False).to(torch.float32))


def architecture_of_model(model: Any) -> Architecture | None:
    """What a model is, told by the names and shapes of its weights; None without one, and for an unknown one."""
    if model is None:
        return None
    shapes = {key: tuple(patches[0][0].shape) for key, patches in model.get_key_patches(MODEL_PREFIX).items()}
    return recognise({key.removesuffix(".weight"): s for key, s in shapes.items() if key.endswith(".weight")})


def target_parts(target: Any) -> tuple[str, tuple[int, int, int] | None, Callable[[torch.Tensor], torch.Tensor] | None]:
    """A target of ComfyUI's key map as the weight's key, and its slice and the function on it where it has them."""
    if isinstance(target, tuple):
        return target[0], target[1], target[2] if len(target) > 2 else None
    return target, None, None
