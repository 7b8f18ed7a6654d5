"""ComfyUI as plain callables: devices, progress, the stop button, files and the key map of a model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import comfy.lora
import comfy.model_management
import comfy.utils
import folder_paths
import torch

from ..merge.compute import Compute

log = logging.getLogger(__name__)


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
    """The device that a choice means here; the CPU, with a line in the log, for cuda where there is none."""
    if name == "auto":
        return comfy.model_management.get_torch_device()
    if name.startswith("cuda") and not torch.cuda.is_available():
        log.warning("This machine has no CUDA device: LoRA Power-Merger computes on the CPU instead of %s.", name)
        return torch.device("cpu")
    return torch.device(name)


def check_interrupt() -> None:
    """Raise ComfyUI's interrupt when the user pressed stop."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def compute(device: str, dtype: str) -> Compute:
    """What the core needs to run inside a node: it draws the progress bar of the node that is executing."""
    return Compute(resolve_device(device), getattr(torch, dtype), _progress(), check_interrupt)


def _progress() -> Callable[[int, int], None]:
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


def save_folder() -> Path:
    """The first of ComfyUI's loras folders."""
    return Path(folder_paths.get_folder_paths("loras")[0])


def mapped_names(model: object | None, clip: object | None) -> set[str]:
    """The module names that ComfyUI can apply to this model and this text encoder."""
    names: dict[str, object] = {}
    if model is not None:
        names = comfy.lora.model_lora_keys_unet(model.model, names)  # type: ignore[attr-defined]
    if clip is not None:
        names = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, names)  # type: ignore[attr-defined]
    return set(names)
