"""Puts scenes on ComfyUI's page, and writes them as example workflows and pictures."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from lora_pack.tests.browser.canvas import CLASSIC, NODES2, SCREENSHOTS, Canvas
from lora_pack.tests.browser.layout import NOTE_WIDTH, arrange, keep_seed, note_height
from lora_pack.tests.browser.scenes import CHECKPOINT, FAST, MODELS, ORBIT, TUNED, VISION, A, B, Node
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.workflows import CHECKPOINT as SMALL
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "example_workflows"
SIZES = {"CLIPTextEncode": (320, 150), "PreviewAny": (440, 700)}


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
    page.page.evaluate("app.nodeOutputs = {}")  # pictures of an earlier scene's nodes, which had the same ids
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
