"""PM XY Grid."""

from __future__ import annotations

import logging
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ..merge.errors import LoraError
from ..nodes.inputs import MAX_SEED, XY_CATEGORY
from ..pictures.labelled_grid import labelled_grid
from . import comfy_sampling
from .capsule import XY, Axis
from .grid_axis import GridAxis, read_axis, samplings
from .grid_run import Inputs, sample_cells
from .sampling import Sampling

log = logging.getLogger(__name__)


class XyGrid:
    DESCRIPTION = (
        "Samples a picture for every combination of values on two axes, with any model that ComfyUI can sample, and "
        "shows them as one labelled grid."
    )
    CATEGORY = XY_CATEGORY
    SEARCH_ALIASES = ["xy plot", "xyz plot", "compare loras", "lora grid", "power merge"]
    RETURN_TYPES = ("IMAGE", "IMAGE")
    RETURN_NAMES = ("grid", "cells")
    OUTPUT_TOOLTIPS = ("The labelled grid as one picture.", "The cells as a batch of pictures, row by row.")
    OUTPUT_NODE = True
    FUNCTION = "draw"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        axis = (
            "Connect an XY node of this pack, XY capsules from another pack, or an axis of efficiency-nodes-comfyui "
            "(seeds, steps, cfg, samplers, schedulers, denoise, prompts)."
        )
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The model to sample with. Each cell applies its own LoRA to it."}),
                "vae": ("VAE", {"tooltip": "The VAE that decodes the pictures."}),
                "latent_image": (
                    "LATENT",
                    {"tooltip": "The latent every cell starts from. Only the first of a batch is used."},
                ),
                "positive": _text(
                    "What the pictures should show. Each cell encodes it with its own LoRA applied to the text encoder."
                ),
                "negative": _text("What the pictures should not show."),
                "seed": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": MAX_SEED,
                        "control_after_generate": True,
                        "tooltip": "The noise seed, the same for every cell unless an axis changes it.",
                    },
                ),
                "steps": (
                    "INT",
                    {"default": 20, "min": 1, "max": 10000, "tooltip": "The number of sampling steps per cell."},
                ),
                "cfg": (
                    "FLOAT",
                    {
                        "default": 7.0,
                        "min": 0.0,
                        "max": 100.0,
                        "step": 0.1,
                        "tooltip": "How closely to follow the prompt.",
                    },
                ),
                "sampler_name": (comfy.samplers.KSampler.SAMPLERS, {"tooltip": "The sampler, as in KSampler."}),
                "scheduler": (comfy.samplers.KSampler.SCHEDULERS, {"tooltip": "The scheduler, as in KSampler."}),
                "denoise": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "1 for an empty latent. Lower values keep more of the picture in the latent.",
                    },
                ),
            },
            "optional": {
                "clip": (
                    "CLIP",
                    {"tooltip": "The text encoder. Not needed if both conditionings below are connected."},
                ),
                "X": (XY, {"tooltip": f"The columns. {axis}"}),
                "Y": (XY, {"tooltip": f"The rows. {axis}"}),
                "positive_cond": _conditioning("positive"),
                "negative_cond": _conditioning("negative"),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def draw(
        self,
        model: Any,
        vae: Any,
        latent_image: dict[str, Any],
        positive: str,
        negative: str,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        clip: Any = None,
        X: Axis | None = None,
        Y: Axis | None = None,
        positive_cond: Any = None,
        negative_cond: Any = None,
        prompt: Any = None,
        extra_pnginfo: Any = None,
    ) -> dict[str, Any]:
        x, y = read_axis("X", X), read_axis("Y", Y)
        base = Sampling(seed, steps, cfg, sampler_name, scheduler, denoise, positive, negative)
        conditioning = {"positive": positive_cond, "negative": negative_cond}
        _require_prompts_in_use(x, y, conditioning)
        inputs = Inputs(model, clip, vae, _first(latent_image), conditioning)
        grid, cells = draw_grid(inputs, x, y, base)
        return {"ui": comfy_sampling.show(grid, prompt, extra_pnginfo), "result": (grid, cells)}


def draw_grid(inputs: Inputs, x: GridAxis, y: GridAxis, base: Sampling) -> tuple[Tensor, Tensor]:
    """Sample all cells: the labelled grid (1, height, width, 3), and the cells (n, height, width, 3) row by row."""
    plan = samplings(base, x, y)
    pictures: dict[tuple[int, int], Tensor] = {}
    for place, picture in sample_cells(inputs, x, y, plan):
        if pictures and picture.shape != next(iter(pictures.values())).shape:
            raise LoraError("The cells of this plot have different sizes and can't form a grid.")
        pictures[place] = picture
    cells = torch.cat([pictures[place] for place in plan])
    return labelled_grid(cells, len(x.values), x.labels(base), y.labels(base)), cells


def _require_prompts_in_use(x: GridAxis, y: GridAxis, conditioning: dict[str, Any]) -> None:
    """Raise LoraError if an axis replaces words in a prompt that a connected conditioning overrides."""
    for name, axis in (("X", x), ("Y", y)):
        text = axis.sampling.prompt if axis.sampling else None
        if text and conditioning[text] is not None:
            raise LoraError(
                f"{name} replaces words in the {text} prompt, but a conditioning is connected to {text}_cond, so "
                "that prompt isn't used. Disconnect one of them."
            )


def _first(latent: dict[str, Any]) -> dict[str, Any]:
    """Only the first latent of a batch, since a cell is one picture."""
    samples = latent["samples"]
    if samples.is_nested or samples.shape[0] == 1:
        return latent
    log.info("PM XY Grid samples only the first of %d latents.", samples.shape[0])
    first = {**latent, "samples": samples[:1]}
    for per_picture in ("noise_mask", "batch_index"):
        if first.get(per_picture) is not None:
            first[per_picture] = first[per_picture][:1]
    return first


def _text(tooltip: str) -> tuple[str, dict]:
    return ("STRING", {"default": "", "multiline": True, "dynamicPrompts": True, "tooltip": tooltip})


def _conditioning(prompt: str) -> tuple[str, dict]:
    tooltip = (
        f"Replaces the {prompt} text, for what text alone can't give (ControlNet, guidance, references). "
        "The LoRAs' text encoder parts have no effect on it."
    )
    return ("CONDITIONING", {"tooltip": tooltip})
