"""The inputs of PM XY Grid."""

from __future__ import annotations

import comfy.samplers

from ..nodes.inputs import MAX_SEED
from .capsule import XY

MAX_CELLS = 400


def grid_inputs() -> dict:
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
            "seed": noise_seed_input(
                "The noise seed, the same for every cell unless an axis changes it.", changes=True
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
            "clip_vision": (
                "CLIP_VISION",
                {
                    "tooltip": "An image encoder, from Load CLIP Vision, that scores the cells: how much of every LoRA "
                    "they show, and nothing else. The best cell gets a frame."
                },
            ),
            "references": references_input("the grid"),
            "pick": (
                "STRING",
                {
                    "default": "",
                    "placeholder": "column,row",
                    "tooltip": "The cell whose LoRA the output picked gives: column and row from 1, such as 2,1. "
                    "A click on a cell of the grid writes it. Cells that are finished aren't sampled again.",
                },
            ),
            "max_cells": (
                "INT",
                {
                    "default": MAX_CELLS,
                    "min": 1,
                    "max": 1_000_000,
                    "tooltip": "A grid with more cells is refused before anything is sampled.",
                },
            ),
        },
        "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO", "node": "UNIQUE_ID"},
    }


def noise_seed_input(tooltip: str, changes: bool = False) -> tuple[str, dict]:
    """``changes``: the page offers to change it after each run, which samples all pictures again."""
    about = {"default": 0, "min": 0, "max": MAX_SEED, "control_after_generate": changes, "tooltip": tooltip}
    return ("INT", about)


def references_input(sampler: str) -> tuple[str, dict]:
    tooltip = (
        "For the scores: pictures without LoRAs, then as many of each LoRA alone, in the LoRAs' order. Best are "
        "several of each with the prompt that the LoRA was trained for, which PM Reference Pictures samples, or "
        f"pictures it was trained on. Unconnected: {sampler} samples them with the plot's own prompt, which says less "
        "about a LoRA."
    )
    return ("IMAGE", {"tooltip": tooltip})


def _text(tooltip: str) -> tuple[str, dict]:
    return ("STRING", {"default": "", "multiline": True, "dynamicPrompts": True, "tooltip": tooltip})


def _conditioning(prompt: str) -> tuple[str, dict]:
    tooltip = (
        f"Replaces the {prompt} text, for what text alone can't give (ControlNet, guidance, references). "
        "The LoRAs' text encoder parts have no effect on it."
    )
    return ("CONDITIONING", {"tooltip": tooltip})
