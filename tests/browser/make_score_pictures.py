"""Generates the examples with an image encoder in example_workflows/; see make_pictures.py.

COMFYUI_PATH=... COMFYUI_PYTHON=... python -m pytest tests/browser/make_score_pictures.py
"""

from __future__ import annotations

from typing import Any

import pytest
from lora_pack.tests.browser.scene_files import pages, write_example
from lora_pack.tests.browser.scenes import (
    COLUMN,
    LEFT,
    NEGATIVE,
    PROMPTS,
    SAMPLING,
    SOURCES,
    TOP,
    VISION,
    A,
    B,
    Node,
    checkpoint,
    latent,
    loader,
    note,
)
from lora_pack.tools.comfy_server import Server

__all__ = ["pages"]  # the fixture
LINKS = SOURCES | {"clip_vision": ("vision", 0)}
MODELS: list[Node] = [
    checkpoint(480),
    ("vision", "CLIPVisionLoader", (LEFT, TOP + 640), {"clip_name": VISION}, {}),
    latent(LEFT, 760),
]
MIDDLE, RIGHT = LEFT + 3 * COLUMN, LEFT + 4 * COLUMN
# what each LoRA was trained for: its trigger words, and ordinary things besides
OF_A, OF_B = "Pixel Art, PixArFK, a cat on a sofa", "a detailed photo of an old clock tower, intricate"
REFERENCES: Node = (
    "references",
    "PM LoRA References",
    (LEFT + 2 * COLUMN, TOP),
    {"prompts": f"{OF_A}\n{OF_B}", "negative": NEGATIVE, **SAMPLING},
    SOURCES | {"lora1": ("a", 0), "lora2": ("b", 0)},
)
COMPARED = (
    "**PM Reference Pictures** samples what they are compared with: pictures of each LoRA alone with the prompt that "
    "it was trained for. Write yours, a line for each"
)

SCENES: dict[str, list[Node]] = {
    "Find the best strengths": [
        note(
            "## Find the best strengths\n\nThe node samples 40 pictures at ever better strengths. The image encoder "
            "scores how much of both LoRAs each one shows, compared with each LoRA alone, and how much else has "
            f"changed.\n\n{COMPARED}.\n\nStop it when you have seen enough: the best so far is saved, and the next run "
            "goes on from there."
        ),
        *MODELS,
        loader("a", A, 0),
        loader("b", B, 1),
        REFERENCES,
        (
            "find",
            "PM LoRA Find Strengths",
            (MIDDLE, TOP),
            {**PROMPTS, **SAMPLING, "budget": 40},
            {**LINKS, "references": ("references", 0), "lora1": ("a", 0), "lora2": ("b", 0)},
        ),
        ("save", "PM LoRA Save", (RIGHT, TOP), {"file_name": "merged_best"}, {"lora": ("find", 0)}),
        ("report", "PreviewAny", (RIGHT, TOP + 330), {}, {"source": ("find", 2)}),
    ],
    "XY plot with scores": [
        note(
            "## Scores\n\nThe image encoder scores every cell: how much of both LoRAs it shows, compared with each "
            "LoRA alone. The best cell has a frame, and its merge is saved; click another cell to pick that "
            f"instead.\n\n{COMPARED}. The plot takes its LoRAs from the same loaders, in the same order.\n\nOne "
            "picture says little: connect **XY: Sampling Values** with a few seeds to Y, and the scores get a doubt."
        ),
        *MODELS,
        loader("a", A, 0),
        loader("b", B, 1),
        REFERENCES,
        (
            "axes",
            "XY: PM LoRA Strengths",
            (LEFT + 2 * COLUMN, TOP + 600),
            {"lora_a": A, "lora_b": B, "mode": "concat", "max_strength": 1.0, "steps": 3},
            {"lora_a_override": ("a", 0), "lora_b_override": ("b", 0)},
        ),
        (
            "grid",
            "PM XY Grid",
            (MIDDLE, TOP),
            PROMPTS | SAMPLING,
            {**LINKS, "references": ("references", 0), "X": ("axes", 0), "Y": ("axes", 1)},
        ),
        ("save", "PM LoRA Save", (RIGHT, TOP), {"file_name": "merged_best"}, {"lora": ("grid", 2)}),
        ("report", "PreviewAny", (RIGHT, TOP + 330), {}, {"source": ("grid", 3)}),
    ],
}


@pytest.mark.parametrize("name", SCENES)
def test_example(server: Server, pages: Any, name: str) -> None:  # noqa: F811
    write_example(pages, SCENES[name], name)
