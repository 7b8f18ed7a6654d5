"""Generates the XY examples in example_workflows/; see make_pictures.py.

    COMFYUI_PATH=... COMFYUI_PYTHON=... EFFICIENCY_NODES_PATH=... python -m pytest tests/browser/make_xy_pictures.py

Only the examples for KSampler (Efficient) need efficiency-nodes-comfyui.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from lora_pack.tests.browser.scene_files import pages, write_example
from lora_pack.tests.browser.scenes import (
    CHECKPOINT,
    COLUMN,
    LEFT,
    MODELS,
    PROMPTS,
    SAMPLING,
    SOURCES,
    TOP,
    A,
    B,
    Node,
    checkpoint,
    latent,
    loader,
    note,
)

__all__ = ["pages"]  # the fixture
FILES = {"lora_a": A, "lora_b": B}

AXES: dict[str, tuple[str, dict[str, Any], list[str], str]] = {
    "XY plot of strengths": (
        "XY: PM LoRA Strengths",
        {"mode": "concat", "max_strength": 1.0, "steps": 3},
        ["X", "Y"],
        "## Strengths of two LoRAs\n\nColumns: the first LoRA from 0 to 1. Rows: the second. The cell at 0 and 0 is "
        "the picture without LoRAs.\n\nFind the cell you like best and merge with its strengths.",
    ),
    "XY plot of modes": (
        "XY: PM LoRA Modes",
        {"modes": "concat, ties, dare_linear, magnitude_prune", "density_steps": 3},
        ["X", "Y"],
        "## Modes and densities\n\nColumns: how the two LoRAs are merged. Rows: the share of their values that is "
        "kept. **concat** ignores the density, so its column shows one picture.",
    ),
    "XY plot of SVD ranks": (
        "XY: PM LoRA SVD Rank",
        {"mode": "add_svd", "min_rank": 4, "max_rank": 64, "rank_steps": 4},
        ["X"],
        "## How much rank a merge needs\n\nThe same merge at increasing ranks. Choose the smallest rank that looks "
        "like the last one: a smaller file with no visible loss.",
    ),
}


# The nodes of the axes, the outputs to plot, and the note. The last node has the axes.
SWEEPS: dict[str, tuple[list[Node], list[str], str]] = {
    "XY sweep of a merge": (
        [
            loader("a", A, 0),
            loader("b", B, 1),
            (
                "axes",
                "XY: PM LoRA Sweep",
                (LEFT + 2 * COLUMN, TOP),
                {
                    "strength_rule": "of the sum",
                    "x_parameter": "mode",
                    "x_values": "concat, ties_svd, np_svd",
                    "y_parameter": "strength 2",
                    "y_values": "0.5..1.5 x 3",
                },
                {"lora1": ("a", 0), "lora2": ("b", 0)},
            ),
        ],
        ["X", "Y"],
        "## Sweep any setting of a merge\n\nColumns: three modes of both mergers. Rows: the strength of the second "
        "LoRA.\n\nChoose another **x_parameter** or **y_parameter**: density, svd_rank, seed, all strengths, or what a "
        "mode takes. Values are lists, ranges such as `0..1 x 5`, or names. Connect a third LoRA and another input "
        "appears.",
    ),
    "XY plot of files": (
        [("axes", "XY: PM LoRA Files", (LEFT + COLUMN, TOP), {"files": f"{A[:-12]}\n{B[:-12]}"}, {})],
        ["X"],
        "## The epochs of a training run\n\nEach column has another file. Two public LoRAs stand for the epochs: "
        f"[{A[:12]}...](https://huggingface.co/{MODELS[A][1]}) and [{B[:-12]}](https://huggingface.co/{MODELS[B][1]})."
        "\n\nWrite the names of yours in their place, such as `my_lora-00000*`, or choose their folder and leave "
        "**files** empty. A LoRA that you connect to **base** is in every cell.",
    ),
}


def axes_of(name: str) -> tuple[list[Node], list[str], str]:
    if name in SWEEPS:
        return SWEEPS[name]
    kind, widgets, outputs, text = AXES[name]
    return [("axes", kind, (LEFT + COLUMN, TOP), FILES | widgets, {})], outputs, text


def own_grid(name: str) -> list[Node]:
    axes, outputs, text = axes_of(name)
    right = axes[-1][2][0]
    return [
        note(text),
        checkpoint(380),
        *axes,
        latent(right, 600),
        (
            "grid",
            "PM XY Grid",
            (right + COLUMN + 170, TOP),
            PROMPTS | SAMPLING,
            SOURCES | {axis: ("axes", output) for output, axis in enumerate(outputs)},
        ),
        (
            "save",
            "SaveImage",
            (right + 2 * COLUMN + 340, TOP),
            {"filename_prefix": name.replace(" ", "_")},
            {"images": ("grid", 0)},
        ),
    ]


def efficiency_grid(name: str) -> list[Node]:
    kind, widgets, outputs, text = AXES[name]
    loading = {"ckpt_name": CHECKPOINT} | PROMPTS
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
            SAMPLING,
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
def test_example(pages: Any, name: str, efficiency: bool) -> None:  # noqa: F811
    if efficiency and "EFFICIENCY_NODES_PATH" not in os.environ:
        pytest.skip("EFFICIENCY_NODES_PATH is not set")
    scene = efficiency_grid(name) if efficiency else own_grid(name)
    write_example(pages, scene, f"{name} (Efficiency)" if efficiency else name)


@pytest.mark.parametrize("name", SWEEPS)
def test_example_of_a_sweep(pages: Any, name: str) -> None:  # noqa: F811
    write_example(pages, own_grid(name), name)


def picking() -> list[Node]:
    text = (
        "## Pick the best cell and save it\n\n1. Run. The grid grows on its node.\n2. Click the cell you like best: "
        "its place appears in **pick**, its settings below the grid.\n3. Run again. Nothing is sampled: **picked** "
        "gives the cell's LoRA, and PM Save LoRA writes it.\n\nWithout a pick, nothing is saved."
    )
    grid = own_grid("XY plot of strengths")
    save = ("save", "PM LoRA Save", (LEFT + 3 * COLUMN + 340, TOP), {"file_name": "best"}, {"lora": ("grid", 2)})
    return [note(text), *grid[1:-1], save]


def test_pick_example(pages: Any) -> None:  # noqa: F811
    write_example(pages, picking(), "Pick the best cell and save it")
