"""What the page asks about files: facts, previews, and that nothing outside the loras folders is ever answered."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from urllib.parse import quote

import pytest
from lora_pack.tests.comfy.test_stacks import loader as lora_loader
from lora_pack.tests.comfy.test_stacks import merger, rewrite
from lora_pack.tools.comfy_server import Server, ServerError


def facts(server: Server, name: str, more: str = "") -> dict:
    return server.get(f"/lora_power_merger/facts?name={quote(name, safe='')}{more}")


def preview(server: Server, name: str) -> tuple[str, bytes]:
    with urllib.request.urlopen(f"{server.url}/lora_power_merger/preview?name={quote(name, safe='')}") as answer:
        return answer.headers["Content-Type"], answer.read()


def test_the_facts_of_a_file(server: Server):
    found = facts(server, "a.safetensors")
    assert found["family"] == "SD 1.5" and found["modules"] == 84
    assert found["summary"].startswith("SD 1.5, rank 8, ")
    assert "SD-OUT" in found["presets"] and "FLUX-SINGLE" not in found["presets"]
    assert "norm" not in found
    assert facts(server, "a.safetensors", "&details=1")["norm"] > 0


def test_the_recipe_of_a_saved_merge(server: Server):
    server.run({"a": lora_loader("a.safetensors", 0.5), **merger("facts/made", lora1=["a", 0])})
    found = facts(server, "facts/made.safetensors", "&details=1")
    assert found["has_recipe"]
    assert json.loads(found["recipe"])["inputs"][0]["file"] == "a.safetensors"


def test_the_overview_has_every_file(server: Server):
    (server.loras / "facts_torn.safetensors").write_bytes(b"torn")
    found = server.get("/lora_power_merger/facts")
    assert found["a.safetensors"]["family"] == "SD 1.5"
    assert "too short" in found["facts_torn.safetensors"]["error"]


def test_facts_follow_the_file(server: Server):
    rewrite(server, "facts/changing.safetensors", 1)
    assert facts(server, "facts/changing.safetensors")["trigger_words"] == []
    (server.loras / "facts/changing.json").write_text('{"activation text": "ink, wash"}')
    (server.loras / "facts/changing.preview.png").write_bytes(b"\x89PNG picture")
    found = facts(server, "facts/changing.safetensors")
    assert found["trigger_words"] == ["ink", "wash"] and found["has_preview"]
    assert preview(server, "facts/changing.safetensors") == ("image/png", b"\x89PNG picture")
    (server.loras / "facts/changing.safetensors").unlink()
    assert "not in ComfyUI's loras folders" in facts(server, "facts/changing.safetensors")["error"]


OUTSIDE = [
    "../checkpoints/small.safetensors",
    "facts/../a.safetensors",
    "/etc/passwd",
    "C:\\a.safetensors",
    "",
    "\0",
    ".",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_files_that_comfyui_does_not_list_are_never_read(server: Server, name: str):
    assert "not in ComfyUI's loras folders" in facts(server, name)["error"]
    assert "not in ComfyUI's loras folders" in facts(server, name, "&details=1")["error"]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        preview(server, name)
    absolute = str(server.checkpoints / "small.safetensors")
    assert "error" in facts(server, absolute)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_preview_that_links_out_of_the_folder_is_not_served(server: Server):
    secret = server.base / "secret.png"
    secret.write_bytes(b"secret")
    link = server.loras / "a.png"
    os.symlink(secret, link)
    try:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            preview(server, "a.safetensors")
    finally:
        link.unlink()


def test_a_name_without_end_is_refused(server: Server):
    with pytest.raises(ServerError, match="400"):
        facts(server, "x" * 5000)
