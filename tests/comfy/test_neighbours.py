"""The pack under any folder name, beside packs that have packages of the same names, or nodes of the same ids."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from lora_pack.tools.comfy_server import PACK_FOLDER, Server, link_folder, prepare_base, start, unlink_folder

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "Merger-of_LoRAs"  # no space: with one ComfyUI serves no pack's scripts

NEIGHBOUR = """
from .merge import NAME as merge
from .nodes import NAME as nodes
from .xy import NAME as xy
assert (merge, nodes, xy) == ("{name} merge", "{name} nodes", "{name} xy")
NODE_CLASS_MAPPINGS = {{}}
"""
OLDER_PACK = """
class LoraMerger:
    RETURN_TYPES = ("LoRA",)
    FUNCTION = "merge"
    CATEGORY = "LoRA PowerMerge"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def merge(self):
        return (None,)

NODE_CLASS_MAPPINGS = {"PM LoRA Merger": LoraMerger, "PM LoRA Save": LoraMerger}
"""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory, comfyui_folder: Path, comfyui_python: Path) -> Iterator[Server]:
    """A ComfyUI with the pack under another name, and such neighbours."""
    base = tmp_path_factory.mktemp("crowded")
    prepare_base(base, ROOT)
    packs = base / "custom_nodes"
    unlink_folder(packs / PACK_FOLDER)
    link_folder(ROOT, packs / FOLDER)
    for name in ("aaa", "zzz"):
        write(packs / name / "__init__.py", NEIGHBOUR.format(name=name))
        for package in ("merge", "nodes", "xy"):
            write(packs / name / package / "__init__.py", f'NAME = "{name} {package}"\n')
    write(packs / "older-pack" / "__init__.py", OLDER_PACK)
    running = None
    try:
        running = start(comfyui_folder, comfyui_python, base, log_file=base / "server.log")
        yield running
    finally:
        if running is not None:
            running.stop()
        unlink_folder(packs / FOLDER)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def test_every_pack_is_loaded(crowded: Server):
    assert "(IMPORT FAILED)" not in crowded.log()  # without brackets: nodes of ComfyUI's own
    assert crowded.object_info("PM LoRA Resizer")["python_module"] == f"custom_nodes.{FOLDER}"


def test_the_page_gets_its_files(crowded: Server):
    assert quote(f"/extensions/{FOLDER}/lora_power_merger.js") in crowded.get("/extensions")
    page = quote(f"/extensions/{FOLDER}/docs/PM LoRA Merger.md")
    with urllib.request.urlopen(crowded.url + page) as response:
        assert response.read().startswith(b"# PM Merge LoRA")


def test_the_log_names_the_pack_with_the_same_ids(crowded: Server):
    warnings = [line for line in crowded.log().splitlines() if "registers the same nodes" in line]
    assert len(warnings) == 1
    assert "custom_nodes/older-pack" in warnings[0]
    assert "PM LoRA Merger" in warnings[0] and "PM LoRA Save" in warnings[0]


def test_no_such_line_where_no_such_pack_is(server: Server):
    assert "registers the same nodes" not in server.log()
