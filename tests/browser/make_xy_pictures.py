"""Make the example workflows with XY plots, and the pictures of real grids in the help pages.

    COMFYUI_PATH=... COMFYUI_PYTHON=... EFFICIENCY_NODES_PATH=... python -m pytest tests/browser/make_xy_pictures.py

To be run by hand, as make_pictures.py. The workflows for KSampler (Efficient) need efficiency-nodes-comfyui.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lora_pack.tests.browser.canvas import CLASSIC, Canvas
from lora_pack.tests.browser.make_pictures import (
    CHECKPOINT,
    COLUMN,
    EXAMPLES,
    LEFT,
    PICTURES,
    SIZES,
    TOP,
    A,
    B,
    Node,
    build,
    laid_out,
    note,
    picture,
)
from lora_pack.tests.comfy.xy_prompts import grid, modes, ranks, sampling, strengths
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.make_lora import write_lora
from lora_pack.tools.make_sd3_checkpoint import sd3_modules
from lora_pack.tools.workflows import Node as PromptNode
from lora_pack.tools.workflows import checkpoint, node
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

POSITIVE, NEGATIVE = "a lighthouse on a cliff at dawn", "blurry, watermark"
SAMPLER = {"seed": 1, "steps": 20, "cfg": 7, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
SIZES |= {"PM XY Grid": (400, 620), "XY: PM LoRA Modes": (300, 400), "XY: PM Sampling": (300, 160)}

STRENGTHS: Node = (
    "xy",
    "XY: PM LoRA Strengths",
    (LEFT + COLUMN, TOP),
    {"lora_a": A, "lora_b": B, "mode": "concat", "steps": 4},
    {},
)
MODES: Node = (
    "xy",
    "XY: PM LoRA Modes",
    (LEFT + COLUMN, TOP),
    {"lora_a": A, "lora_b": B, "modes": "concat, ties, dare_ties, magnitude_prune", "density_steps": 3},
    {},
)
RANKS: Node = (
    "xy",
    "XY: PM LoRA SVD Rank",
    (LEFT + COLUMN, TOP),
    {"lora_a": A, "lora_b": B, "mode": "add_svd", "min_rank": 4, "max_rank": 64, "rank_steps": 4},
    {},
)
SEEDS: Node = (
    "seeds",
    "XY: PM Sampling",
    (LEFT + COLUMN, TOP + 420),
    {"axis": "seed +", "values": "0, 1, 2"},
    {},
)

TELL = {
    "strengths": "## Strengths of two LoRAs\n\nEvery pair of strengths of LoRA a (columns) and LoRA b (rows), merged "
    "with **concat**: what loading both would do. Choose your two LoRAs and the range, then run.",
    "modes": "## Merge modes and densities\n\nThe same two LoRAs in several modes (columns), at several densities "
    "(rows). **concat** is the plain sum and has no density.",
    "rank": "## How much rank does the merge need?\n\nThe exact sum of two LoRAs, cut to a few ranks (columns), for "
    "three seeds (rows). Take the smallest rank that looks like the last.",
}
FOR_EFFICIENCY = (
    "\n\nNeeds **efficiency-nodes-comfyui**, whose sampler draws plots for SD 1.x and SDXL. Keep the loader's "
    "DEPENDENCIES connected to XY Plot. The same with any model: the workflow for PM XY Grid."
)
AXES: dict[str, tuple[list[Node], tuple[str, int], tuple[str, int]]] = {
    "strengths": ([STRENGTHS], ("xy", 0), ("xy", 1)),
    "modes": ([MODES], ("xy", 0), ("xy", 1)),
    "rank": ([RANKS, SEEDS], ("xy", 0), ("seeds", 0)),
}


def for_the_grid(what: str) -> list[Node]:
    axes, x, y = AXES[what]
    right = LEFT + 2 * COLUMN
    links = {
        "model": ("checkpoint", 0),
        "clip": ("checkpoint", 1),
        "vae": ("checkpoint", 2),
        "latent_image": ("latent", 0),
        "X": x,
        "Y": y,
    }
    return [
        note(TELL[what]),
        ("checkpoint", "CheckpointLoaderSimple", (LEFT, TOP + 380), {"ckpt_name": CHECKPOINT}, {}),
        ("latent", "EmptyLatentImage", (LEFT, TOP + 530), {"width": 512, "height": 512}, {}),
        *axes,
        ("grid", "PM XY Grid", (right, TOP), {"positive": POSITIVE, "negative": NEGATIVE, **SAMPLER}, links),
        ("save", "SaveImage", (right + 450, TOP), {"filename_prefix": f"xy_{what}"}, {"images": ("grid", 0)}),
    ]


def for_efficiency(what: str) -> list[Node]:
    axes, x, y = AXES[what]
    right = LEFT + 2 * COLUMN
    links = {
        "model": ("loader", 0),
        "positive": ("loader", 1),
        "negative": ("loader", 2),
        "latent_image": ("loader", 3),
        "optional_vae": ("loader", 4),
        "script": ("plot", 0),
    }
    loader = {"ckpt_name": CHECKPOINT, "positive": POSITIVE, "negative": NEGATIVE}
    return [
        note(TELL[what] + FOR_EFFICIENCY),
        ("loader", "Efficient Loader", (LEFT, TOP + 380), loader, {}),
        *axes,
        ("plot", "XY Plot", (right, TOP), {}, {"dependencies": ("loader", 6), "X": x, "Y": y}),
        ("sampler", "KSampler (Efficient)", (right + COLUMN, TOP), {**SAMPLER, "preview_method": "none"}, links),
    ]


EXAMPLE_SCENES = {f"xy_{what}_grid": for_the_grid(what) for what in AXES}
EFFICIENCY_SCENES = {f"xy_{what}_efficiency": for_efficiency(what) for what in AXES}


@pytest.fixture(scope="module")
def page(browser: Any, server: Server) -> Canvas:
    for file, name in (
        (server.loras / "a.safetensors", A),
        (server.loras / "b.safetensors", B),
        (next(server.checkpoints.iterdir()), CHECKPOINT),
    ):
        (file.parent / name).symlink_to(file)
    quiet = {"Comfy.Minimap.Visible": False, "Comfy.NodeBadge.NodeSourceBadgeMode": "None"}
    return Canvas.open(browser, server, CLASSIC, **quiet)


@pytest.mark.parametrize("name", [*EXAMPLE_SCENES, *EFFICIENCY_SCENES])
def test_example(page: Canvas, name: str) -> None:
    if name in EFFICIENCY_SCENES and "EFFICIENCY_NODES_PATH" not in os.environ:
        pytest.skip("needs efficiency-nodes-comfyui")
    build(page, {**EXAMPLE_SCENES, **EFFICIENCY_SCENES}[name])
    workflow = page.call("serialize")
    (EXAMPLES / f"{name}.json").write_text(laid_out(workflow), "utf-8", newline="\n")
    picture(page).resize((960, 540), Image.Resampling.LANCZOS).save(EXAMPLES / f"{name}.jpg", quality=80)


WIDER = {"steps": 6, "cfg": 6.0}
GRIDS: dict[str, dict[str, PromptNode]] = {
    "XY_PM_LoRA_Strengths": {
        "xy": strengths(min_strength=-1.0, max_strength=2.0, steps=4),
        **grid(X=["xy", 0], Y=["xy", 1], **WIDER),
    },
    "XY_PM_LoRA_Modes": {
        "xy": modes(
            modes="concat, ties, dare_linear, magnitude_prune", density_steps=3, min_density=0.2, max_density=1.0
        ),
        **grid(X=["xy", 0], Y=["xy", 1], **WIDER),
    },
    "XY_PM_LoRA_SVD_Rank": {
        "xy": ranks(max_rank=12, rank_steps=4),
        "seeds": sampling("seed +", "0, 1"),
        **grid(X=["xy", 0], Y=["seeds", 0], **WIDER),
    },
    "XY_PM_Sampling": {
        "xy": modes(modes="concat, ties, dare_ties", density_steps=1, min_density=0.6),
        "seeds": sampling("seed +", "0, 1, 2"),
        **grid(X=["xy", 0], Y=["seeds", 0], **WIDER),
    },
}


@pytest.mark.parametrize("name", GRIDS)
def test_grid(server: Server, name: str) -> None:
    nodes = {**checkpoint(), **GRIDS[name]}
    nodes["latent"] = node("EmptyLatentImage", width=128, height=128, batch_size=1)
    save(server, name, nodes)


def test_grid_of_sd3(server: Server, comfyui_folder: Path, comfyui_python: Path) -> None:
    files = [server.base / "models" / kind / "small_sd3.safetensors" for kind in ("diffusion_models", "vae")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
    subprocess.run([comfyui_python, ROOT / "tools" / "make_sd3_checkpoint.py", comfyui_folder, *files], check=True)
    for seed, name in enumerate(("style", "subject")):
        write_lora(server.loras / f"{name}.safetensors", rank=4, seed=seed, modules=sd3_modules())
    nodes = {
        **checkpoint(),
        "model": node("UNETLoader", unet_name="small_sd3.safetensors", weight_dtype="default"),
        "vae": node("VAELoader", vae_name="small_sd3.safetensors"),
        "xy": strengths(lora_a="style.safetensors", lora_b="subject.safetensors", steps=3, max_strength=1.5),
        **grid(["model", 0], ["vae", 0], X=["xy", 0], Y=["xy", 1], **WIDER),
    }
    nodes["latent"] = node("EmptySD3LatentImage", width=128, height=128, batch_size=1)
    save(server, "PM_XY_Grid", nodes)


def save(server: Server, name: str, nodes: dict[str, PromptNode]) -> None:
    (shown,) = server.images(server.run(nodes), "grid")
    with Image.open(shown) as image:
        image.save(PICTURES / f"{name}.webp", quality=70, method=6)
    assert (PICTURES / f"{name}.webp").stat().st_size < 100_000
