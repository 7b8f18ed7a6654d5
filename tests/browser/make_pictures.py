"""Generates example_workflows/ and the pictures of the help pages, in a real browser on a real ComfyUI.

    COMFYUI_PATH=... COMFYUI_PYTHON=... python -m pytest tests/browser/make_pictures.py

Run it by hand when the nodes look different; pytest collects it only if it is named.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lora_pack.tests.browser.canvas import Canvas
from lora_pack.tests.browser.scene_files import build, pages, picture, run_if_it_shows_a_picture, write_example
from lora_pack.tests.browser.scenes import (
    CHECKPOINT,
    COLUMN,
    FAST,
    LEFT,
    NEGATIVE,
    ORBIT,
    POSITIVE,
    ROW,
    TOP,
    TUNED,
    A,
    B,
    Node,
    at,
    loader,
    note,
)

__all__ = ["pages"]  # the fixture
PICTURES = Path(__file__).resolve().parents[2] / "web" / "docs" / "pictures"


def merger(column: int, widgets: dict[str, Any], kind: str = "PM LoRA Merger") -> Node:
    return ("merge", kind, (at(column), TOP), widgets, {"lora1": ("a", 0), "lora2": ("b", 0)})


def options(row: int, mode: str, **values: float) -> Node:
    return ("options", "PM LoRA Merge Options", (at(1), TOP + ROW * row), {"mode": mode, **values}, {})


def with_options(merge: Node) -> Node:
    name, kind, place, widgets, links = merge
    return (name, kind, place, widgets, {**links, "options": ("options", 0)})


def saver(column: int, source: str, name: str, row: int = 0, **widgets: Any) -> Node:
    widgets = {"file_name": name} | widgets
    return ("save", "PM LoRA Save", (at(column), TOP + ROW * row), widgets, {"lora": (source, 0)})


def row(file: str, **settings: Any) -> dict[str, Any]:
    return {"lora": file, "on": True, "strength": 1, "strength_clip": None, "lbw": ""} | settings


def power_loader(column: int, *rows: dict[str, Any], top: int = TOP) -> Node:
    return ("power", "PM LoRA Power Loader", (LEFT + column * COLUMN, top), {"rows": json.dumps(rows)}, {})


def merged_pair(noise: str, row: int) -> list[Node]:
    """One half of the example of Wan 2.2's pair: the LoRAs of one of its models, merged and saved."""
    merge = ("PM LoRA Merger", (at(2), TOP + ROW * row), {"mode": "concat"})
    loras = {"lora1": (f"fast_{noise}", 0), "lora2": (f"orbit_{noise}", 0)}
    widgets = {"file_name": f"wan22_i2v_4steps_orbit_{noise}_noise"}
    return [
        loader(f"fast_{noise}", FAST[noise], row),
        loader(f"orbit_{noise}", ORBIT[noise], row + 1, strength=0.8),
        (f"merge_{noise}", *merge, loras),
        (f"save_{noise}", "PM LoRA Save", (at(3), TOP + ROW * row), widgets, {"lora": (f"merge_{noise}", 0)}),
    ]


EXAMPLE_SCENES: dict[str, list[Node]] = {
    "Merge two LoRAs and save": [
        note(
            "## Merge two LoRAs and save\n\nChoose two LoRAs and their strengths, then run. **concat** is exact: the "
            "saved file has the same effect as loading both LoRAs one after the other.\n\nConnect a third LoRA to the "
            "free input and another input appears. The file is saved to ComfyUI's loras folder."
        ),
        loader("a", A, 0),
        loader("b", B, 1, strength=0.7),
        merger(2, {"mode": "concat"}),
        saver(3, "merge", "merged"),
    ],
    "SVD merge and resize": [
        note(
            "## SVD merge and resize\n\n**add_svd** adds the LoRAs exactly, whatever their ranks, and truncates the "
            "sum to svd_rank with the least possible loss. The node shows how much was lost.\n\n**PM Resize LoRA** "
            "then gives each module just the rank it needs to keep 95 % of its norm."
        ),
        loader("a", A, 0),
        loader("b", B, 1),
        merger(2, {"mode": "add_svd", "svd_rank": 64}, "PM LoRA SVD Merger"),
        (
            "resize",
            "PM LoRA Resizer",
            (at(3), TOP),
            {"new_rank": 32, "method": "sv_fro", "method_value": 0.95},
            {"lora": ("merge", 0)},
        ),
        saver(4, "resize", "merged_small", save_dtype="float16"),
    ],
    "Merge with block weights": [
        note(
            "## Merge with block weights\n\nOne LoRA for composition, one for style: the first is active in the input "
            "and middle blocks, the second in the output blocks.\n\nChoose presets with **lbw preset** (these are for "
            "SD 1.5; use the SDXL or FLUX ones for other models) and adjust the numbers in **lbw**."
        ),
        loader("a", A, 0, "%default=0,base=1,in=1,mid=1"),
        loader("b", B, 1, "SD-OUT:1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1"),
        merger(2, {"mode": "concat"}),
        saver(3, "merge", "merged_blocks"),
    ],
    "Many LoRAs in one node": [
        note(
            "## Many LoRAs in one node\n\nPress **Add LoRA**, type part of a name and press Enter. Switch rows on and "
            "off, weight them, change their order. Click a name for block weights and trigger words.\n\n**concat** is "
            "exact: the saved file has the same effect as loading all rows one after the other."
        ),
        power_loader(1, row(A), row(B, strength=0.7)),
        ("merge", "PM LoRA Merger", (LEFT + 2 * COLUMN + 120, TOP), {"mode": "concat"}, {"lora_stack": ("power", 0)}),
        ("save", "PM LoRA Save", (LEFT + 3 * COLUMN + 120, TOP), {"file_name": "merged"}, {"lora": ("merge", 0)}),
    ],
    "Keep the strength": [
        note(
            "## Keep the strength\n\nA mean of two LoRAs leaves both too weak. With **strength_rule** *of the sum* the "
            "merge is as strong as the plain sum, so that concept and style both come through.\n\n**karcher_svd** is "
            "the mean direction. Try **np_svd** too, which protects the first LoRA (the style): **PM Merge Options** "
            "has its parameter."
        ),
        loader("a", A, 0),
        loader("b", B, 1),
        options(2, "np_svd"),
        with_options(merger(2, {"mode": "karcher_svd", "strength_rule": "of the sum"}, "PM LoRA SVD Merger")),
        saver(3, "merge", "merged_strong"),
    ],
    "Look into two LoRAs": [
        note(
            "## Look into two LoRAs\n\nRun it before a merge: the picture shows where each LoRA is strong, which rank "
            "it needs, and whether the two overlap. The sentence on top says what to do.\n\nThe report has all "
            "numbers. Connect a third LoRA to the free input and another input appears."
        ),
        loader("a", A, 0),
        loader("b", B, 1),
        ("look", "PM LoRA Inspect", (at(2), TOP), {}, {"lora1": ("a", 0), "lora2": ("b", 0)}),
        ("report", "PreviewAny", (at(4) - 100, TOP), {}, {"source": ("look", 1)}),
    ],
    "Merge Wan 2.2 pairs": [
        note(
            "## Merge Wan 2.2 pairs\n\nWan 2.2 has two models, for high and for low noise, and a LoRA for each. Merge "
            "them in pairs: **high noise** above, **low noise** below, with the same mode, strengths and seed in both "
            "mergers, so that both halves of a video get the same mix.\n\nLoad the two new files where you load a pair "
            "of LoRAs now.\n\nThe command line does it in one go: `python -m merge merge A_high.safetensors "
            "B_high.safetensors --pair high=low -o mix_high.safetensors`"
        ),
        *merged_pair("high", 0),
        *merged_pair("low", 2),
    ],
    "Merge and apply": [
        note(
            "## Merge and apply\n\nThe merged LoRA is applied directly, without saving it first.\n\n**ties** is for "
            "LoRAs that conflict: it keeps the largest values of each LoRA (**density**), and where signs disagree the "
            "majority wins."
        ),
        ("checkpoint", "CheckpointLoaderSimple", (LEFT, TOP + 380), {"ckpt_name": CHECKPOINT}, {}),
        loader("a", A, 0),
        loader("b", B, 1),
        merger(2, {"mode": "ties", "density": 0.6}),
        (
            "apply",
            "PM LoRA Apply",
            (at(2), TOP + 500),
            {},
            {"model": ("checkpoint", 0), "clip": ("checkpoint", 1), "lora": ("merge", 0)},
        ),
        (
            "positive",
            "CLIPTextEncode",
            (at(3), TOP),
            {"text": POSITIVE},
            {"clip": ("apply", 1)},
        ),
        (
            "negative",
            "CLIPTextEncode",
            (at(3), TOP + 210),
            {"text": NEGATIVE},
            {"clip": ("apply", 1)},
        ),
        ("latent", "EmptyLatentImage", (at(3), TOP + 430), {"width": 512, "height": 512}, {}),
        (
            "sampler",
            "KSampler",
            (at(4) + 100, TOP),
            {"seed": 1, "steps": 20, "cfg": 7, "sampler_name": "dpmpp_2m", "scheduler": "karras"},
            {
                "model": ("apply", 0),
                "positive": ("positive", 0),
                "negative": ("negative", 0),
                "latent_image": ("latent", 0),
            },
        ),
        (
            "decode",
            "VAEDecode",
            (at(4) + 100, TOP + 310),
            {},
            {"samples": ("sampler", 0), "vae": ("checkpoint", 2)},
        ),
        (
            "picture",
            "SaveImage",
            (at(5) + 100, TOP),
            {"filename_prefix": "merged"},
            {"images": ("decode", 0)},
        ),
    ],
}

ROWS = {"lora_1": A, "strength_model_1": 0.8, "strength_clip_1": 0.8, "lora_2": B}
HELP_SCENES: dict[str, list[Node]] = {
    "PM LoRA Loader": [loader("a", A, 0, "SD-OUT:1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1", 0.8)],
    "PM LoRA Strength": [
        loader("a", A, 0),
        (
            "strength",
            "PM LoRA Strength",
            (at(2), TOP),
            {"strength_model": 0.5, "strength_clip": 0},
            {"lora": ("a", 0)},
        ),
    ],
    "PM LoRA Merger": [
        loader("a", A, 0),
        loader("b", B, 1, strength=0.7),
        merger(2, {"mode": "ties", "density": 0.6}),
    ],
    "PM LoRA SVD Merger": [
        loader("a", A, 0),
        loader("b", B, 1, strength=0.7),
        merger(2, {"mode": "add_svd", "svd_rank": 32}, "PM LoRA SVD Merger"),
    ],
    "PM LoRA Merge Options": [
        options(0, "np_svd", np_mu=1.0),
        loader("a", A, 0.45),
        loader("b", B, 1.25),
        with_options(merger(2, {"mode": "np_svd", "strength_rule": "of the sum"}, "PM LoRA SVD Merger")),
    ],
    "PM LoRA Resizer": [
        loader("a", A, 0),
        (
            "resize",
            "PM LoRA Resizer",
            (at(2), TOP),
            {"new_rank": 32, "method": "sv_fro", "method_value": 0.95},
            {"lora": ("a", 0)},
        ),
    ],
    "PM LoRA Inspect": [
        loader("a", A, 0),
        loader("b", B, 1, strength=0.7),
        ("look", "PM LoRA Inspect", (at(2), TOP), {}, {"lora1": ("a", 0), "lora2": ("b", 0)}),
    ],
    "PM LoRA Apply": [
        ("checkpoint", "CheckpointLoaderSimple", (at(1), TOP), {"ckpt_name": CHECKPOINT}, {}),
        loader("a", A, 1),
        (
            "apply",
            "PM LoRA Apply",
            (at(2), TOP),
            {},
            {"model": ("checkpoint", 0), "clip": ("checkpoint", 1), "lora": ("a", 0)},
        ),
    ],
    "PM LoRA Save": [loader("a", A, 0), saver(2, "a", "styles/merged", save_dtype="float16")],
    "PM LoRA Bake": [
        loader("a", A, 0),
        (
            "bake",
            "PM LoRA Bake",
            (LEFT + 2 * COLUMN, TOP),
            {"model_file": f"checkpoints/{CHECKPOINT}", "file_name": "styles/baked"},
            {"lora": ("a", 0)},
        ),
    ],
    "PM LoRA Extract": [
        (
            "extract",
            "PM LoRA Extract",
            (LEFT + COLUMN + 140, TOP),  # wider than others
            {"tuned": f"checkpoints/{TUNED}", "base": f"checkpoints/{CHECKPOINT}", "rank": 64},
            {},
        ),
        saver(3, "extract", "extracted", save_dtype="float16"),
    ],
    "PM LoRA Stack": [
        ("stack", "PM LoRA Stack", (at(1), TOP), ROWS, {}),
        ("merge", "PM LoRA Merger", (at(2), TOP), {}, {"lora_stack": ("stack", 0)}),
    ],
    "PM LoRA Power Loader": [
        power_loader(1, row(A, strength=0.8), row(B, lbw="SD-OUT"), row("a.safetensors", on=False)),
    ],
    "PM LoRA from Folder": [
        ("folder", "PM LoRA from Folder", (at(1), TOP), {"pattern": "epoch-*", "order": "newest first"}, {}),
        ("merge", "PM LoRA Merger", (at(2), TOP), {}, {"lora_stack": ("folder", 0)}),
    ],
    "XY: PM LoRA Sweep": [
        loader("a", A, 0),
        loader("b", B, 1),
        (
            "axes",
            "XY: PM LoRA Sweep",
            (at(2), TOP),
            {
                "strength_rule": "of the sum",
                "x_parameter": "mode",
                "x_values": "concat, ties_svd, np_svd",
                "y_parameter": "strength 2",
                "y_values": "0..1 x 5",
            },
            {"lora1": ("a", 0), "lora2": ("b", 0)},
        ),
    ],
    "XY: PM LoRA Files": [
        ("axis", "XY: PM LoRA Files", (LEFT, TOP), {"files": "my_lora-00000*\nmy_lora", "order": "name"}, {}),
    ],
    "XY: PM Sampling": [("axis", "XY: PM Sampling", (LEFT, TOP), {"axis": "seed +", "values": "0, 1, 2, 3"}, {})],
}


@pytest.mark.parametrize("name", EXAMPLE_SCENES)
def test_example(pages: list[Canvas], name: str) -> None:  # noqa: F811
    write_example(pages, EXAMPLE_SCENES[name], name)


@pytest.mark.parametrize("name", HELP_SCENES)
def test_help(pages: list[Canvas], name: str) -> None:  # noqa: F811
    """The node alone: the help panel is 272 pixels wide."""
    page = pages[0]
    ids = build(page, HELP_SCENES[name])
    run_if_it_shows_a_picture(page, HELP_SCENES[name])
    (id,) = (ids[scene[0]] for scene in HELP_SCENES[name] if scene[1] == name)
    shot = picture(page, only=id)
    shot.save(PICTURES / f"{name.replace(':', '').replace(' ', '_')}.webp", quality=85)
