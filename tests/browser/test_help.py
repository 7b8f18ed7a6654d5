"""Every node has a help page, and pages and texts appear in the user's language."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from lora_pack.tests.browser.canvas import CLASSIC, SCREENSHOTS, Canvas
from lora_pack.tools.comfy_server import Server

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "web" / "docs"
EXAMPLES = ROOT / "example_workflows"
# Page files are named after node ids, without the colon of "XY: ...".
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))
LANGUAGES = sorted(path.name for path in (ROOT / "locales").iterdir())


def node_id(page: str) -> str:
    return page.replace("XY PM", "XY: PM")


def test_every_node_has_a_help_page(server: Server):
    ours = {name for name, info in server.object_info().items() if info["category"].startswith("LoRA Power-Merger")}
    pages = {node_id(page) for page in PAGES}
    assert pages <= ours
    assert {name for name in ours - pages if "XY" not in name} == set()


def text_of(page: str, language: str) -> str:
    return (DOCS / (f"{page}.md" if language == "en" else f"{page}/{language}.md")).read_text("utf-8")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("page", PAGES)
def test_a_help_page_describes_every_input(server: Server, page: str, language: str):
    text = text_of(page, language)
    info = server.object_info(node_id(page))
    names = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    assert text.startswith(f"# {names[node_id(page)]['display_name']}\n")
    inputs = [name for section in ("required", "optional") for name in info["input"].get(section, {})]
    assert [name for name in inputs if name not in text and name.rstrip("234") not in text] == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("page", PAGES)
def test_a_help_page_fits_a_narrow_panel_and_leads_on(page: str, language: str):
    """Lists in place of tables, examples that show the node, and pages of the docs."""
    text = text_of(page, language)
    assert not re.search(r"^\|", text, re.MULTILINE)
    line = re.search(r"^- .*(?:, in Workflow|，位于“工作流).*", text, re.MULTILINE)
    examples = re.findall(r"\*\*([^*]+)\*\*", line[0]) if line else []
    shown = any(f'"{node_id(page)}"' in file.read_text("utf-8") for file in EXAMPLES.glob("*.json"))
    assert examples or not shown
    assert all((EXAMPLES / f"{example}.json").is_file() for example in examples)
    linked = re.findall(r"/lora-power-merger/blob/main/([\w./-]+)", text)
    assert linked and all((ROOT / file).is_file() for file in linked)


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
@pytest.mark.parametrize("page", PAGES)
def test_a_translated_page_has_the_structure_of_the_english_one(page: str, language: str):
    headings_lists_tables_pictures = re.compile(r"^(?:#+ |- |[|]|!)", re.MULTILINE)
    here, english = (headings_lists_tables_pictures.findall(text_of(page, name)) for name in (language, "en"))
    assert here == english


@pytest.mark.parametrize("page", ["PM LoRA Merger", *[page for page in PAGES if page == "XY PM LoRA Strengths"]])
def test_the_help_panel_shows_the_page_and_its_pictures(canvas: Canvas, page: str):
    node = canvas.call("add", node_id(page), 700, 300)
    shown = canvas.open_help(node)
    title = text_of(page, "en").splitlines()[0].removeprefix("# ")
    assert shown.startswith(title)
    pictures = canvas.page.locator(".node-help-content img").evaluate_all("all => all.map(image => image.src)")
    assert len(pictures) == text_of(page, "en").count("![")
    canvas.screenshot(SCREENSHOTS / f"help-{canvas.kind}-{page.replace(' ', '_')}.png")


@pytest.fixture
def chinese(browser, server: Server) -> Iterator[Canvas]:
    """An empty page with Chinese as its language."""
    canvas = Canvas.open(browser, server, CLASSIC, **{"Comfy.Locale": "zh"})
    try:
        canvas.clear()  # for a new user the page opens with one of ComfyUI's examples
        yield canvas
    finally:
        canvas.page.context.close()
        server.post("/settings", {"Comfy.Locale": "en"})


@pytest.mark.parametrize("page", ["PM LoRA Merger", "XY PM LoRA Strengths"])
def test_the_help_panel_shows_the_chinese_page(chinese: Canvas, page: str):
    node = chinese.call("add", node_id(page), 700, 300)
    assert chinese.open_help(node).startswith(text_of(page, "zh").splitlines()[0].removeprefix("# "))
    assert chinese.page.locator(".node-help-content img").count() == text_of(page, "zh").count("![")
    chinese.screenshot(SCREENSHOTS / f"help-chinese-{page.replace(' ', '_')}.png")


def test_titles_and_labels_are_translated_but_prompts_are_not(chinese: Canvas, server: Server):
    version = server.get("/system_stats")["system"]["comfyui_version"]
    if version.startswith("0.3."):
        pytest.skip("Its front end (1.26, 1.32) replaces the Chinese texts of packs with its own.")
    merger = chinese.call("add", "PM LoRA Merger", 700, 150)
    loader = chinese.call("add", "PM LoRA Loader", 300, 150)
    grid = chinese.call("add", "XY: PM LoRA Strengths", 300, 500)
    titles = {chinese.page.evaluate("id => pm.node(id).title", node) for node in (merger, loader, grid)}
    assert titles == {"PM 合并 LoRA", "PM 加载 LoRA", "XY：LoRA 合并强度"}
    labels = chinese.page.evaluate("id => pm.node(id).widgets.map(widget => widget.label ?? widget.name)", merger)
    assert labels[:2] == ["模式", "密度"]
    chinese.call("connect", loader, merger, "lora1")
    chinese.until("pm.loras(argument).length === 2", merger)
    inputs = chinese.prompt()[str(merger)]["inputs"]
    assert {"lora1", "mode", "density", "seed"} <= set(inputs)
    chinese.screenshot(SCREENSHOTS / "chinese.png")
