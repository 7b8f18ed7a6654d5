"""The pack under another folder name, next to packs with packages of the same names or nodes with the same ids."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from lora_pack.tools.comfy_server import PACK_FOLDER, Server, link_folder, prepare_base, start, unlink_folder

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "Merger-of_LoRAs"  # no spaces: ComfyUI doesn't serve scripts from such a folder

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
    CATEGORY = "LoRA Power-Merger/Merge"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def merge(self):
        return (None,)

NODE_CLASS_MAPPINGS = {"PM LoRA Merger": LoraMerger, "PM LoRA Save": LoraMerger}
"""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory, comfyui_folder: Path, comfyui_python: Path) -> Iterator[Server]:
    """A ComfyUI with the pack under another name, and with such neighbours."""
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


def test_all_packs_are_loaded(crowded: Server):
    assert "(IMPORT FAILED)" not in crowded.log()  # without brackets it is about ComfyUI's own nodes
    assert crowded.object_info("PM LoRA Resizer")["python_module"] == f"custom_nodes.{FOLDER}"


def test_scripts_and_help_are_served_under_another_folder_name(crowded: Server):
    assert quote(f"/extensions/{FOLDER}/lora_power_merger.js") in crowded.get("/extensions")
    page = quote(f"/extensions/{FOLDER}/docs/PM LoRA Merger.md")
    with urllib.request.urlopen(crowded.url + page) as response:
        assert response.read().startswith(b"# PM Merge LoRA")


def test_a_pack_with_duplicate_node_ids_is_logged(crowded: Server):
    warnings = [line for line in crowded.log().splitlines() if "registers the same nodes" in line]
    assert len(warnings) == 1
    assert "custom_nodes/older-pack" in warnings[0]
    assert "PM LoRA Merger" in warnings[0] and "PM LoRA Save" in warnings[0]


def test_nothing_is_logged_without_duplicate_node_ids(server: Server):
    assert "registers the same nodes" not in server.log()
