"""Encoding, sampling, decoding and previewing with ComfyUI's own nodes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

import nodes  # ComfyUI's; ours are ..nodes

from .sampling import Sampling

comfy_nodes: Any = nodes


def encode(clip: Any, text: str) -> Any:
    return comfy_nodes.CLIPTextEncode().encode(clip, text)[0]


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
