"""Encoding, sampling, decoding and previewing with ComfyUI's own nodes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import folder_paths
from torch import Tensor

import nodes  # ComfyUI's; ours are ..nodes

from ..nodes.comfy_bridge import state_of
from .sampling import Sampling

comfy_nodes: Any = nodes

EMBEDDING = re.compile(r"embedding:\s*(\S+)")
# Where a weight, a bracket or the next word may follow a name without a space.
END_OF_NAME = re.compile(r"[,:()<>\[\]\\]")


def encode(clip: Any, text: str) -> Any:
    return comfy_nodes.CLIPTextEncode().encode(clip, text)[0]


def embeddings_in(text: str) -> tuple[tuple[str, int, int], ...]:
    """The embeddings that a text names (``embedding:name``): file, size and time. Encoding reads them each time.

    A name may also be meant for another file of that name in a subfolder: all of them count.
    """
    words = EMBEDDING.findall(text.replace("\\(", "(").replace("\\)", ")"))
    found = [name for one in words for name in (one.strip(","), END_OF_NAME.split(one)[0]) if name]
    if not found:
        return ()
    names = tuple("/" + _with_slashes(name) for name in found)
    paths = [
        (file, folder_paths.get_full_path("embeddings", file))
        for file in folder_paths.get_filename_list("embeddings")
        if _is_named("/" + _with_slashes(file), names)
    ]
    return tuple((file, *state_of(Path(path))) for file, path in paths if path is not None)


def _with_slashes(path: str) -> str:
    return os.path.normcase(path).replace("\\", "/")


def _is_named(file: str, names: tuple[str, ...]) -> bool:
    """Whether one of the names means this file: with or without its folder and its ending."""
    return file.endswith(names) or os.path.splitext(file)[0].endswith(names)


def sample(model: Any, sampling: Sampling, positive: Any, negative: Any, latent: dict[str, Any]) -> dict[str, Any]:
    return comfy_nodes.common_ksampler(
        model,
        sampling.seed,
        sampling.steps,
        sampling.cfg,
        sampling.sampler_name,
        sampling.scheduler,
        positive,
        negative,
        latent,
        denoise=sampling.denoise,
    )[0]


def decode(vae: Any, latent: dict[str, Any]) -> Tensor:
    return comfy_nodes.VAEDecode().decode(vae, latent)[0]


def show(image: Tensor, prompt: Any, extra_pnginfo: Any) -> dict[str, Any]:
    """Save the image, with its workflow, to ComfyUI's temp folder; returns the "ui" part of a node's result."""
    return comfy_nodes.PreviewImage().save_images(image, "PM.XY", prompt, extra_pnginfo)["ui"]
