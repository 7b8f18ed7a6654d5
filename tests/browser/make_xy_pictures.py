"""Generates the XY examples in example_workflows/ and the grids of the XY help pages; see make_pictures.py.

    COMFYUI_PATH=... COMFYUI_PYTHON=... EFFICIENCY_NODES_PATH=... python -m pytest tests/browser/make_xy_pictures.py

Only the examples for KSampler (Efficient) need efficiency-nodes-comfyui.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lora_pack.tests.browser.make_pictures import (
    CHECKPOINT,
    COLUMN,
    EXAMPLES,
    LEFT,
    PICTURES,
    TOP,
    A,
    B,
    Node,
    build,
    laid_out,
    note,
    page,
    picture,
)
from lora_pack.tests.comfy.xy_prompts import grid, modes, ranks, sampling, strengths
from lora_pack.tools.comfy_server import Prompt, Server
from lora_pack.tools.make_lora import write_lora
from lora_pack.tools.make_sd3_checkpoint import sd3_modules
from lora_pack.tools.workflows import CLIP, checkpoint, node
from PIL import Image

__all__ = ["page"]  # the fixture
ROOT = Path(__file__).resolve().parents[2]
FILES = {"lora_a": A, "lora_b": B}
POSITIVE, NEGATIVE = "a lighthouse on a cliff at dawn", "blurry, watermark"

AXES: dict[str, tuple[str, dict[str, Any], list[str], str]] = {
    "xy_strengths": (
        "XY: PM LoRA Strengths",
        {"mode": "concat", "max_strength": 1.0, "steps": 3},
        ["X", "Y"],
        "## Strengths of two LoRAs\n\nColumns: the first LoRA from 0 to 1. Rows: the second. The cell at 0 and 0 is "
        "the picture without LoRAs.\n\nFind the cell you like best and merge with its strengths.",
    ),
    "xy_modes": (
        "XY: PM LoRA Modes",
        {"modes": "concat, ties, dare_linear, magnitude_prune", "density_steps": 3},
        ["X", "Y"],
        "## Modes and densities\n\nColumns: how the two LoRAs are merged. Rows: the share of their values that is "
        "kept. **concat** ignores the density, so its column shows one picture.",
    ),
    "xy_svd_rank": (
        "XY: PM LoRA SVD Rank",
        {"mode": "add_svd", "min_rank": 4, "max_rank": 64, "rank_steps": 4},
        ["X"],
        "## How much rank a merge needs\n\nThe same merge at increasing ranks. Choose the smallest rank that looks "
        "like the last one: a smaller file with no visible loss.",
    ),
}


def own_grid(name: str) -> list[Node]:
    kind, widgets, outputs, text = AXES[name]
    settings = {
        "positive": POSITIVE,
        "negative": NEGATIVE,
        "seed": 1,
        "control_after_generate": "fixed",
        "steps": 20,
        "cfg": 7,
        "sampler_name": "dpmpp_2m",
        "scheduler": "karras",
    }
    links = {
        "model": ("checkpoint", 0),
        "clip": ("checkpoint", 1),
        "vae": ("checkpoint", 2),
        "latent_image": ("latent", 0),
    }
    return [
        note(text),
        ("checkpoint", "CheckpointLoaderSimple", (LEFT, TOP + 380), {"ckpt_name": CHECKPOINT}, {}),
        ("axes", kind, (LEFT + COLUMN, TOP), FILES | widgets, {}),
        ("latent", "EmptyLatentImage", (LEFT + COLUMN, TOP + 600), {"width": 512, "height": 512}, {}),
        (
            "grid",
            "PM XY Grid",
            (LEFT + 2 * COLUMN + 170, TOP),
            settings,
            links | {axis: ("axes", output) for output, axis in enumerate(outputs)},
        ),
        ("save", "SaveImage", (LEFT + 3 * COLUMN + 340, TOP), {"filename_prefix": name}, {"images": ("grid", 0)}),
    ]


def efficiency_grid(name: str) -> list[Node]:
    kind, widgets, outputs, text = AXES[name]
    loading = {"ckpt_name": CHECKPOINT, "positive": POSITIVE, "negative": NEGATIVE}
    sampling = {"seed": 1, "steps": 20, "cfg": 7, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
    return [
        note(text + "\n\nRequires efficiency-nodes-comfyui, whose loader supports SD 1.5 and SDXL."),
        ("axes", kind, (LEFT + COLUMN, TOP), FILES | widgets, {}),
        ("loader", "Efficient Loader", (LEFT + 2 * COLUMN + 90, TOP), loading, {}),
        (
            "plot",
            "XY Plot",
            (LEFT + 2 * COLUMN + 90, TOP + 720),
            {"ksampler_output_image": "Plot"},
            {"dependencies": ("loader", 6)} | {axis: ("axes", output) for output, axis in enumerate(outputs)},
        ),
        (
            "sampler",
            "KSampler (Efficient)",
            (LEFT + 3 * COLUMN + 210, TOP),
            sampling,
            {
                "model": ("loader", 0),
                "positive": ("loader", 1),
                "negative": ("loader", 2),
                "latent_image": ("loader", 3),
                "optional_vae": ("loader", 4),
                "script": ("plot", 0),
            },
        ),
    ]


@pytest.mark.parametrize("efficiency", [False, True], ids=["own grid", "Efficiency"])
@pytest.mark.parametrize("name", AXES)
def test_example(page: Any, name: str, efficiency: bool) -> None:  # noqa: F811
    if efficiency and "EFFICIENCY_NODES_PATH" not in os.environ:
        pytest.skip("EFFICIENCY_NODES_PATH is not set")
    build(page, efficiency_grid(name) if efficiency else own_grid(name))
    file = f"{name}_efficiency" if efficiency else name
    (EXAMPLES / f"{file}.json").write_text(laid_out(page.call("serialize")), "utf-8", newline="\n")
    picture(page).resize((960, 540), Image.Resampling.LANCZOS).save(EXAMPLES / f"{file}.jpg", quality=80)


GRIDS: dict[str, Prompt] = {
    "XY_PM_LoRA_Strengths": {
        "xy": strengths(steps=3),
        **grid(X=["xy", 0], Y=["xy", 1], steps=6),
    },
    "XY_PM_LoRA_Modes": {
        "xy": modes(modes="concat, ties, dare_linear, magnitude_prune", density_steps=3),
        **grid(X=["xy", 0], Y=["xy", 1], steps=6),
    },
    "XY_PM_LoRA_SVD_Rank": {
        "xy": ranks(rank_steps=5, max_rank=12),
        **grid(X=["xy", 0], steps=6),
    },
    "XY_PM_Sampling": {
        "xy": modes(modes="concat, ties, add", density_steps=1),
        "seeds": sampling("seed +", "0, 1"),
        **grid(X=["xy", 0], Y=["seeds", 0], steps=6),
    },
}


@pytest.mark.parametrize("name", GRIDS)
def test_grid(server: Server, name: str) -> None:
    prompt = {**checkpoint(), **GRIDS[name]}
    prompt["latent"]["inputs"] |= {"width": 128, "height": 128}
    save(server, prompt, name)


def test_grid_of_another_architecture(server: Server, comfyui_folder: Path, comfyui_python: Path) -> None:
    files = [server.base / "models" / kind / "small_sd3.safetensors" for kind in ("diffusion_models", "vae")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([comfyui_python, ROOT / "tools" / "make_sd3_checkpoint.py", comfyui_folder, *files], check=True)
    for seed, name in enumerate(("style", "subject")):
        write_lora(server.loras / f"{name}.safetensors", rank=4, seed=seed, modules=sd3_modules())
    prompt = {
        **checkpoint(),
        "model": node("UNETLoader", unet_name="small_sd3.safetensors", weight_dtype="default"),
        "vae": node("VAELoader", vae_name="small_sd3.safetensors"),
        "text": node("CLIPTextEncode", clip=CLIP, text=POSITIVE),
        "xy": strengths(lora_a="style.safetensors", lora_b="subject.safetensors", steps=3),
    }
    conditioning = {"clip": None, "positive_cond": ["text", 0], "negative_cond": ["text", 0]}
    prompt |= grid(["model", 0], ["vae", 0], X=["xy", 0], Y=["xy", 1], steps=6, **conditioning)
    prompt["latent"] = node("EmptySD3LatentImage", width=128, height=128, batch_size=1)
    save(server, prompt, "PM_XY_Grid")


def save(server: Server, prompt: Prompt, name: str) -> None:
    (file,) = server.images(server.run(prompt), "grid")
    with Image.open(file) as image:
        image.convert("RGB").save(PICTURES / f"{name}.webp", quality=60)
