"""Generates example_workflows/ and the pictures of the help pages, in a real browser on a real ComfyUI.

    COMFYUI_PATH=... COMFYUI_PYTHON=... python -m pytest tests/browser/make_pictures.py

Run it by hand when the nodes look different; pytest collects it only if it is named. A scene is a list of nodes (name,
id, position, widgets, links), where links map an input to (name, output).
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from lora_pack.tests.browser.canvas import CLASSIC, Canvas
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.workflows import CHECKPOINT as SMALL
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "example_workflows"
PICTURES = ROOT / "web" / "docs" / "pictures"

A, B = "lora_a.safetensors", "lora_b.safetensors"
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
TUNED = "my_tuned_model.safetensors"
Node = tuple[str, str, tuple[int, int], dict[str, Any], dict[str, tuple[str, int]]]

LEFT, TOP, COLUMN, ROW = 140, 160, 340, 250
SIZES = {"MarkdownNote": (300, 330), "CLIPTextEncode": (320, 150)}


def note(text: str, place: tuple[int, int] = (LEFT, TOP)) -> Node:
    return ("note", "MarkdownNote", place, {"": text}, {})  # the widget's name differs between front ends


def loader(name: str, file: str, row: int, lbw: str = "", strength: float = 1.0, column: int = 1) -> Node:
    widgets = {"lora_name": file, "strength_model": strength, "strength_clip": strength, "lbw": lbw}
    return (name, "PM LoRA Loader", (LEFT + column * COLUMN, TOP + ROW * row), widgets, {})


def merger(column: int, widgets: dict[str, Any], kind: str = "PM LoRA Merger") -> Node:
    return ("merge", kind, (LEFT + column * COLUMN, TOP), widgets, {"lora1": ("a", 0), "lora2": ("b", 0)})


def saver(column: int, source: str, name: str, row: int = 0, **widgets: Any) -> Node:
    widgets = {"file_name": name} | widgets
    return ("save", "PM LoRA Save", (LEFT + column * COLUMN, TOP + ROW * row), widgets, {"lora": (source, 0)})


EXAMPLE_SCENES: dict[str, list[Node]] = {
    "merge_two_and_save": [
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
    "svd_merge_and_resize": [
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
            (LEFT + 3 * COLUMN, TOP),
            {"new_rank": 32, "method": "sv_fro", "method_value": 0.95},
            {"lora": ("merge", 0)},
        ),
        saver(4, "resize", "merged_small", save_dtype="float16"),
    ],
    "block_weighted_merge": [
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
    "inspect_two": [
        note(
            "## Look into two LoRAs\n\nRun it before a merge: the picture shows where each LoRA is strong, which rank "
            "it needs, and whether the two overlap. The sentence on top says what to do.\n\nThe report has all "
            "numbers. Connect a third LoRA to the free input and another input appears."
        ),
        loader("a", A, 0),
        loader("b", B, 1),
        ("look", "PM LoRA Inspect", (LEFT + 2 * COLUMN, TOP), {}, {"lora1": ("a", 0), "lora2": ("b", 0)}),
        ("report", "PreviewAny", (LEFT + 4 * COLUMN - 100, TOP), {}, {"source": ("look", 1)}),
    ],
    "merge_and_apply": [
        note(
            "## Merge and preview\n\nThe merged LoRA is applied directly, without saving it first.\n\n**ties** is for "
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
            (LEFT + 2 * COLUMN, TOP + 390),
            {},
            {"model": ("checkpoint", 0), "clip": ("checkpoint", 1), "lora": ("merge", 0)},
        ),
        (
            "positive",
            "CLIPTextEncode",
            (LEFT + 3 * COLUMN, TOP),
            {"text": "a lighthouse on a cliff at dawn"},
            {"clip": ("apply", 1)},
        ),
        (
            "negative",
            "CLIPTextEncode",
            (LEFT + 3 * COLUMN, TOP + 210),
            {"text": "blurry, watermark"},
            {"clip": ("apply", 1)},
        ),
        ("latent", "EmptyLatentImage", (LEFT + 3 * COLUMN, TOP + 430), {"width": 512, "height": 512}, {}),
        (
            "sampler",
            "KSampler",
            (LEFT + 4 * COLUMN + 100, TOP),
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
            (LEFT + 4 * COLUMN + 100, TOP + 310),
            {},
            {"samples": ("sampler", 0), "vae": ("checkpoint", 2)},
        ),
        (
            "picture",
            "SaveImage",
            (LEFT + 5 * COLUMN + 100, TOP),
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
            (LEFT + 2 * COLUMN, TOP),
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
    "PM LoRA Resizer": [
        loader("a", A, 0),
        (
            "resize",
            "PM LoRA Resizer",
            (LEFT + 2 * COLUMN, TOP),
            {"new_rank": 32, "method": "sv_fro", "method_value": 0.95},
            {"lora": ("a", 0)},
        ),
    ],
    "PM LoRA Inspect": [
        loader("a", A, 0),
        loader("b", B, 1, strength=0.7),
        ("look", "PM LoRA Inspect", (LEFT + 2 * COLUMN, TOP), {}, {"lora1": ("a", 0), "lora2": ("b", 0)}),
    ],
    "PM LoRA Apply": [
        ("checkpoint", "CheckpointLoaderSimple", (LEFT + COLUMN, TOP), {"ckpt_name": CHECKPOINT}, {}),
        loader("a", A, 1),
        (
            "apply",
            "PM LoRA Apply",
            (LEFT + 2 * COLUMN, TOP),
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
        ("stack", "PM LoRA Stack", (LEFT + COLUMN, TOP), ROWS, {}),
        ("merge", "PM LoRA Merger", (LEFT + 2 * COLUMN, TOP), {}, {"lora_stack": ("stack", 0)}),
    ],
    "PM LoRA from Folder": [
        ("folder", "PM LoRA from Folder", (LEFT + COLUMN, TOP), {"pattern": "epoch-*", "order": "newest first"}, {}),
        ("merge", "PM LoRA Merger", (LEFT + 2 * COLUMN, TOP), {}, {"lora_stack": ("folder", 0)}),
    ],
}


@pytest.fixture(scope="module")
def page(browser: Any, server: Server) -> Canvas:
    for file, name in (
        (server.loras / "a.safetensors", A),
        (server.loras / "b.safetensors", B),
        (server.checkpoints / SMALL, CHECKPOINT),
        (server.checkpoints / SMALL, TUNED),
    ):
        (file.parent / name).symlink_to(file)
    quiet = {"Comfy.Minimap.Visible": False, "Comfy.NodeBadge.NodeSourceBadgeMode": "None"}
    return Canvas.open(browser, server, CLASSIC, **quiet)


@pytest.mark.parametrize("name", EXAMPLE_SCENES)
def test_example(page: Canvas, name: str) -> None:
    build(page, EXAMPLE_SCENES[name])
    workflow = page.call("serialize")
    (EXAMPLES / f"{name}.json").write_text(laid_out(workflow), "utf-8", newline="\n")
    run_if_it_shows_a_picture(page, EXAMPLE_SCENES[name])
    picture(page).resize((960, 540), Image.Resampling.LANCZOS).save(EXAMPLES / f"{name}.jpg", quality=80)


@pytest.mark.parametrize("name", HELP_SCENES)
def test_help(page: Canvas, name: str) -> None:
    build(page, HELP_SCENES[name])
    run_if_it_shows_a_picture(page, HELP_SCENES[name])
    shot = picture(page, wide=False)
    shot.save(PICTURES / f"{name.replace(' ', '_')}.webp", quality=80)


# Scenes that are run first, because the node shows its result as a picture: the condition for having it.
SHOWS_PICTURE = "(app.rootGraph ?? app.graph).nodes.some(n => n.type === 'PM LoRA Inspect' && n.imgs?.length)"


def run_if_it_shows_a_picture(page: Canvas, nodes: list[Node]) -> None:
    if any(kind == "PM LoRA Inspect" for _, kind, *_ in nodes):
        page.call("queue")
        page.until(SHOWS_PICTURE)
        page.page.wait_for_timeout(500)


def build(page: Canvas, nodes: list[Node]) -> None:
    page.clear()
    ids: dict[str, int] = {}
    for name, kind, place, widgets, links in nodes:
        ids[name] = page.call("add", kind, *place)
        for widget, value in widgets.items():
            page.call("choose", ids[name], widget or page.call("firstWidget", ids[name]), value)
        if kind in SIZES:
            page.page.evaluate("([id, size]) => pm.node(id).setSize(size)", [ids[name], SIZES[kind]])
        for entry, (source, output) in links.items():
            page.until("pm.node(argument[0]).inputs.some(i => i.name === argument[1])", [ids[name], entry])
            page.call("connect", ids[source], ids[name], entry, output)
    page.page.evaluate("app.canvas.deselectAll()")


def picture(page: Canvas, wide: bool = True) -> Image.Image:
    """A screenshot of the nodes, in 16:9 if ``wide``."""
    bounds = "[...(app.rootGraph ?? app.graph).nodes].map(n => [n.pos[0], n.pos[1] - 34, n.size[0], n.size[1] + 34])"
    boxes = page.page.evaluate(bounds)
    x, y = min(box[0] for box in boxes) - 20, min(box[1] for box in boxes) - 16
    width = max(box[0] + box[2] for box in boxes) + 20 - x
    height = max(box[1] + box[3] for box in boxes) + 16 - y
    if wide:
        whole = max(width, height * 16 / 9), max(width * 9 / 16, height)
        x, y = x - (whole[0] - width) / 2, y - (whole[1] - height) / 2
        width, height = whole
    page.page.set_viewport_size({"width": int(x + width) + 400, "height": int(y + height) + 700})
    page.page.add_style_tag(content=".comfyui-body-left, .comfyui-body-top, .side-tool-bar-container { display: none }")
    page.page.evaluate("app.canvas.ds.reset(); app.canvas.ds.offset = [300, 600]; app.canvas.setDirty(true, true)")
    page.call("frame")
    page.call("frame")
    canvas_x, canvas_y = page.page.evaluate("app.canvasPosToClientPos([0, 0])")
    shot = page.page.screenshot(
        clip={"x": x + canvas_x, "y": y + canvas_y, "width": width, "height": height},
    )
    return Image.open(io.BytesIO(shot)).convert("RGB")


def laid_out(workflow: dict[str, Any]) -> str:
    """The workflow as JSON with one node or link per line, without session-specific properties."""
    for node in workflow["nodes"]:
        node["properties"] = {"Node name for S&R": node["type"]}
    head = {key: workflow[key] for key in ("last_node_id", "last_link_id")}
    tail = {key: workflow[key] for key in ("groups", "config", "version") if key in workflow} | {"extra": {}}
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    for key in ("nodes", "links"):
        rows = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in workflow[key])
        lines.append(f"  {json.dumps(key)}: [\n{rows}\n  ],")
    lines.append(",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in tail.items()))
    return "{\n" + "\n".join(lines) + "\n}\n"
