"""Building blocks for prompts with XY plots, and comparisons of their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from lora_pack.tests.comfy.pictures import pixels
from lora_pack.tools.comfy_server import Outputs, Server
from lora_pack.tools.workflows import CLIP, MODEL, VAE, Link, Node, checkpoint, lora_chain, node, picture

SIZE = 64
FILES = {"lora_a": "a.safetensors", "lora_b": "b.safetensors", "device": "cpu", "dtype": "float32"}


def strengths(**settings: Any) -> Node:
    defaults = {
        "mode": "concat",
        "density": 1.0,
        "min_strength": 0.0,
        "max_strength": 1.0,
        "apply_strength": "model + clip",
        "steps": 2,
    }
    return node("XY: PM LoRA Strengths", **FILES | defaults | settings)


def modes(**settings: Any) -> Node:
    defaults = {"modes": "add, dare_ties", "min_density": 0.3, "max_density": 0.8, "density_steps": 2}
    return node("XY: PM LoRA Modes", **FILES | defaults | settings)


def ranks(**settings: Any) -> Node:
    defaults = {"mode": "add_svd", "density": 1.0, "min_rank": 1, "max_rank": 8, "rank_steps": 2}
    return node("XY: PM LoRA SVD Rank", **FILES | defaults | settings)


def sweep(x: tuple[str, str], y: tuple[str, str] = ("none", ""), **settings: Any) -> dict[str, Node]:
    """XY: PM LoRA Sweep ("sweep") of a and b, with their loaders."""
    axes = dict(zip(("x_parameter", "x_values", "y_parameter", "y_values"), (*x, *y), strict=True))
    defaults = {
        "mode": "concat",
        "density": 1.0,
        "svd_rank": 0,
        "svd_conv_rank": 0,
        "device": "cpu",
        "dtype": "float32",
    }
    links = {"lora1": ["load a", 0], "lora2": ["load b", 0]}
    return {
        **{f"load {name}": loader(f"{name}.safetensors") for name in "ab"},
        "sweep": node("XY: PM LoRA Sweep", **defaults | axes | links | settings),
    }


def files(text: str, **settings: Any) -> Node:
    defaults = {"folder": "/", "order": "name", "limit": 0, "strength_model": 1.0, "strength_clip": 1.0}
    return node("XY: PM LoRA Files", files=text, **defaults | settings)


def loader(file: str, strength: float = 1.0) -> Node:
    return node("PM LoRA Loader", lora_name=file, strength_model=strength, strength_clip=strength, lbw="")


def sampling(axis: str, values: str) -> Node:
    return node("XY: PM Sampling", axis=axis, values=values)


def grid(model: Link = MODEL, vae: Link = VAE, **settings: Any) -> dict[str, Node]:
    """PM XY Grid with the settings of workflows.picture(), so that pictures match. "cells" is a SaveImage node."""
    defaults = {
        "clip": CLIP,
        "latent_image": ["latent", 0],
        "positive": "a lighthouse at dawn",
        "negative": "blurry",
        "seed": 0,
        "steps": 2,
        "cfg": 4.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
    }
    inputs = {name: value for name, value in (defaults | settings).items() if value is not None}
    return {
        "latent": node("EmptyLatentImage", width=SIZE, height=SIZE, batch_size=1),
        "grid": node("PM XY Grid", model=model, vae=vae, **inputs),
        "cells": node("SaveImage", images=["grid", 1], filename_prefix="cells"),
    }


def merged(mode: str, a: float = 1.0, b: float = 1.0, **settings: Any) -> tuple[dict[str, Node], Link, Link]:
    """The loaders, the merge node for the mode and PM Apply LoRA, and links to the resulting model and text encoder."""
    loras = {"lora1": ("a.safetensors", a), "lora2": ("b.safetensors", b)}
    nodes = {name: loader(file, strength) for name, (file, strength) in loras.items()}
    merger = "PM LoRA SVD Merger" if mode.endswith("_svd") else "PM LoRA Merger"
    links = {name: [name, 0] for name in loras}
    options = {"mode": mode, "density": 1.0, "device": "cpu", "dtype": "float32"} | settings
    nodes["merge"] = node(merger, **options, **links)
    nodes["apply"] = node("PM LoRA Apply", model=MODEL, clip=CLIP, lora=["merge", 0])
    return nodes, ["apply", 0], ["apply", 1]


def cells(server: Server, outputs: Outputs, columns: int, output: str = "cells") -> dict[tuple[int, int], np.ndarray]:
    """The saved cells by (column, row)."""
    files = server.images(outputs, output)
    return {(n % columns, n // columns): pixels(file) for n, file in enumerate(files)}


def own_picture(
    server: Server, loras: Sequence[tuple[str, float, float]], clip_skip: int = -1, **settings: Any
) -> np.ndarray:
    """ComfyUI's own picture, with the LoRAs applied by its chained loaders."""
    nodes, model, clip = lora_chain(loras)
    if clip_skip != -1:
        nodes["skip"] = node("CLIPSetLastLayer", clip=clip, stop_at_clip_layer=clip_skip)
        clip = ["skip", 0]
    outputs = server.run({**checkpoint(), **nodes, **picture(model, clip, **settings)})
    return pixels(server.images(outputs, "picture")[0])


def merged_picture(server: Server, mode: str, a: float = 1.0, b: float = 1.0, **settings: Any) -> np.ndarray:
    """The picture with the merge that the merger node makes."""
    nodes, model, clip = merged(mode, a, b, **settings)
    outputs = server.run({**checkpoint(), **nodes, **picture(model, clip)})
    return pixels(server.images(outputs, "picture")[0])


def difference(first: np.ndarray, second: np.ndarray) -> int:
    """The largest difference of a pixel's colour, out of 255."""
    assert first.shape == second.shape
    return int(np.abs(first - second).max())
