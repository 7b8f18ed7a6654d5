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
from lora_pack.tests.browser.canvas import CLASSIC, NODES2, SCREENSHOTS, Canvas
from lora_pack.tests.browser.layout import NOTE_WIDTH, arrange, keep_seed, note_height
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.workflows import CHECKPOINT as SMALL
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "example_workflows"
PICTURES = ROOT / "web" / "docs" / "pictures"

# Public files, small ones for the LoRAs, that ComfyUI offers to download with the examples: name -> folder, address.
# The checkpoint is that of ComfyUI's own default workflow.
A, B = "PixelArtRedmond15V-PixelArt-PIXARFK.safetensors", "add_detail.safetensors"
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
VISION = "clip_vision_h.safetensors"
MODELS = {
    A: ("loras", f"artificialguybr/pixelartredmond-1-5v-pixel-art-loras-for-sd-1-5/resolve/main/{A}"),
    B: ("loras", f"OedoSoldier/detail-tweaker-lora/resolve/main/{B}"),
    CHECKPOINT: ("checkpoints", f"Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/{CHECKPOINT}"),
    VISION: ("clip_vision", f"Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/clip_vision/{VISION}"),
}
# A pair of Wan 2.2's image-to-video LoRAs for each model: few steps, and a camera that circles the subject.
FAST = {noise: f"wan2.2_i2v_lightx2v_4steps_lora_v1_{noise}_noise.safetensors" for noise in ("high", "low")}
ORBIT = {noise: f"wan22_14b_i2v_orbit_{noise}_noise.safetensors" for noise in ("high", "low")}
FAST_REPOSITORY = "Comfy-Org/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files/loras"
MODELS |= {file: ("loras", f"{FAST_REPOSITORY}/{file}") for file in FAST.values()}
MODELS |= {file: ("loras", f"ostris/wan22_i2v_14b_orbit_shot_lora/resolve/main/{file}") for file in ORBIT.values()}
POSITIVE, NEGATIVE = "Pixel Art, PixArFK, a lighthouse on a cliff at dawn", "blurry, watermark"
TUNED = "my_tuned_model.safetensors"
Node = tuple[str, str, tuple[int, int], dict[str, Any], dict[str, tuple[str, int]]]

LEFT, TOP, COLUMN, ROW = 140, 160, 340, 300
SIZES = {"CLIPTextEncode": (320, 150), "PreviewAny": (440, 700)}


def at(column: int) -> int:
    """The x of a column. Mergers and PM Resize LoRA, from the second on, are wider than loaders."""
    return LEFT + column * COLUMN + max(0, column - 2) * 90


def note(text: str, place: tuple[int, int] = (LEFT, TOP)) -> Node:
    return ("note", "MarkdownNote", place, {"": text}, {})  # the widget's name differs between front ends


def loader(name: str, file: str, row: float, lbw: str = "", strength: float = 1.0, column: int = 1) -> Node:
    widgets = {"lora_name": file, "strength_model": strength, "strength_clip": strength, "lbw": lbw}
    return (name, "PM LoRA Loader", (at(column), TOP + round(ROW * row)), widgets, {})


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


@pytest.fixture(scope="module")
def pages(browser: Any, server: Server) -> list[Canvas]:
    """The classic canvas, which draws the pictures, and Nodes 2.0, whose sizes count for the layout too."""
    for file, name in (
        (server.loras / "a.safetensors", A),
        (server.loras / "b.safetensors", B),
        (server.checkpoints / SMALL, CHECKPOINT),
        (server.checkpoints / SMALL, TUNED),
        *((server.loras / "a.safetensors", name) for name in (*FAST.values(), *ORBIT.values())),
    ):
        if not (file.parent / name).exists():
            (file.parent / name).symlink_to(file)
    encoders = server.base / "models" / "clip_vision"
    encoders.mkdir(exist_ok=True)
    (encoders / VISION).touch()
    quiet = {"Comfy.Minimap.Visible": False, "Comfy.NodeBadge.NodeSourceBadgeMode": "None"}
    return [Canvas.open(browser, server, kind, **quiet) for kind in (NODES2, CLASSIC)][::-1]


@pytest.mark.parametrize("name", EXAMPLE_SCENES)
def test_example(pages: list[Canvas], name: str) -> None:
    write_example(pages, EXAMPLE_SCENES[name], name)


@pytest.mark.parametrize("name", HELP_SCENES)
def test_help(pages: list[Canvas], name: str) -> None:
    """The node alone: the help panel is 272 pixels wide."""
    page = pages[0]
    ids = build(page, HELP_SCENES[name])
    run_if_it_shows_a_picture(page, HELP_SCENES[name])
    (id,) = (ids[scene[0]] for scene in HELP_SCENES[name] if scene[1] == name)
    shot = picture(page, only=id)
    shot.save(PICTURES / f"{name.replace(':', '').replace(' ', '_')}.webp", quality=85)


def write_example(pages: list[Canvas], nodes: list[Node], name: str) -> None:
    ids = [build(page, nodes) for page in pages]
    run_if_it_shows_a_picture(pages[0], nodes)
    arrange(pages, ids, {scene[0]: scene[2] for scene in nodes})
    workflow = pages[0].call("serialize")
    (EXAMPLES / f"{name}.json").write_text(laid_out(workflow), "utf-8", newline="\n")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    picture(pages[0]).save(SCREENSHOTS / f"{name}.png")  # to look at


# Scenes that are run first, because the node shows its result as a picture: the condition for having it.
SHOWS_PICTURE = "(app.rootGraph ?? app.graph).nodes.some(n => n.type === 'PM LoRA Inspect' && n.imgs?.length)"


def run_if_it_shows_a_picture(page: Canvas, nodes: list[Node]) -> None:
    if any(kind == "PM LoRA Inspect" for _, kind, *_ in nodes):
        page.call("queue")
        page.until(SHOWS_PICTURE)
        page.page.wait_for_timeout(500)


def build(page: Canvas, nodes: list[Node]) -> dict[str, int]:
    """Put a scene on the page; returns the ids of its nodes by name."""
    page.clear()
    ids: dict[str, int] = {}
    for name, kind, place, widgets, links in nodes:
        ids[name] = page.call("add", kind, *place)
        widgets = keep_seed(page.call("widgets", ids[name])) | widgets
        for widget, value in widgets.items():
            page.call("choose", ids[name], widget or page.call("firstWidget", ids[name]), value)
        size = (NOTE_WIDTH, note_height(widgets[""])) if kind == "MarkdownNote" else SIZES.get(kind)
        if size:
            page.page.evaluate("([id, size]) => pm.node(id).setSize(size)", [ids[name], size])
        for entry, (source, output) in links.items():
            page.until("pm.node(argument[0]).inputs.some(i => i.name === argument[1])", [ids[name], entry])
            page.call("connect", ids[source], ids[name], entry, output)
    facts = "[...document.querySelectorAll('.pm-about, .pm-line-about')].every(e => /MB|kB/.test(e.textContent))"
    page.until(facts)  # what the nodes say about their files
    page.page.evaluate("app.canvas.deselectAll()")
    return ids


def picture(page: Canvas, only: int | None = None) -> Image.Image:
    """A screenshot of all nodes, or of one."""
    boxes = [box[2:] for box in page.call("boxes") if only in (None, box[0])]
    edge = 6 if only else 20
    x, y = min(box[0] for box in boxes) - edge, min(box[1] for box in boxes) - edge
    width = max(box[0] + box[2] for box in boxes) + edge - x
    height = max(box[1] + box[3] for box in boxes) + edge - y
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
        files = [value for value in node.get("widgets_values") or () if value in MODELS]
        if files:
            node["properties"]["models"] = [
                {"name": file, "url": f"https://huggingface.co/{MODELS[file][1]}", "directory": MODELS[file][0]}
                for file in files
            ]
        node.pop("widgets_values_named", None)  # of newer front ends, and the same as widgets_values
    head = {key: workflow[key] for key in ("last_node_id", "last_link_id")}
    tail = {key: workflow[key] for key in ("groups", "config", "version") if key in workflow} | {"extra": {}}
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    for key in ("nodes", "links"):
        rows = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in workflow[key])
        lines.append(f"  {json.dumps(key)}: [\n{rows}\n  ],")
    lines.append(",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in tail.items()))
    return "{\n" + "\n".join(lines) + "\n}\n"
