"""Names that lead out of the loras folder, given to a real ComfyUI and to its nodes: nothing outside is touched."""

from __future__ import annotations

import http.client
import os
import urllib.parse
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lora_pack.merge.errors import LoraError
from lora_pack.tests.comfy.test_nodes import files_under, loader, merger, saver
from lora_pack.tools.comfy_server import PACK_FOLDER, NodeError, PromptRejected, Server
from lora_pack.tools.make_lora import small_modules, write_lora
from lora_pack.tools.workflows import node

OUTSIDE = [
    *(
        "..",
        "../../out",
        "a/../../out",
        "..\\..\\out",
        "styles/..\\../out",
        "/a/out",
        "\\out",
        "//server/share/out",
    ),
    *("\\\\server\\share\\out", "\\\\?\\C:\\out", "C:\\out", "C:out", "c:/out", "a:b", "a.safetensors:b", "a::$DATA"),
    *("a\0b", "a\0/../../out", "a\nb", "a\x7fb", "a\x9bb", "\ud800", "a\udc80/b", "x" * 300, "a/" + "x" * 300),
    *("CON", "con.safetensors", "COM1", "com¹", "LPT1", "AUX", "nul .x", "styles/prn/a", "a.", "a./b", "a /b", ""),
]


@pytest.fixture(scope="module")
def secret(server: Server) -> Path:
    """A LoRA next to the loras folder, which the names below would reach."""
    path = server.loras.parent / "secret.safetensors"
    write_lora(path, rank=2, modules=small_modules()[:2])
    return path


def test_save_refuses_file_names_that_lead_elsewhere(server: Server):
    before = files_under(server.base)
    for name in OUTSIDE:
        with pytest.raises(NodeError, match="file name") as caught:
            server.run({"a": loader("a.safetensors"), "save": saver("a", name)})
        assert caught.value.exception_type.endswith("LoraError"), ascii(name)
    assert files_under(server.base) == before


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_save_does_not_follow_a_link_out_of_its_folder(server: Server, tmp_path: Path):
    link = server.loras / "linked"
    link.symlink_to(tmp_path, target_is_directory=True)
    try:
        with pytest.raises(NodeError, match="leads out of loras through a link"):
            server.run({"a": loader("a.safetensors"), "save": saver("a", "linked/out")})
    finally:
        link.unlink()
    assert list(tmp_path.iterdir()) == []


def test_look_alikes_of_slashes_do_not_lead_out_of_the_folder(server: Server):
    outputs = server.run({"a": loader("a.safetensors", 0.9), "save": saver("a", "..\uff0f..\u2215alike")})
    written = server.loras / outputs["save"]["text"][0]
    assert written.parent == server.loras
    written.unlink()


@pytest.mark.parametrize("extension", ["../../out", "safetensors/../../../out", "py", "a\\b", ""])
def test_save_refuses_other_extensions(server: Server, extension: str):
    before = files_under(server.base)
    with pytest.raises(PromptRejected, match="extension"):
        server.run({"a": loader("a.safetensors"), "save": saver("a", "a") | {"inputs": extended("a", extension)}})
    # not every ComfyUI checks a linked value against the list of choices
    linked = {"text": node("PrimitiveString", value=extension), "a": loader("a.safetensors")}
    with pytest.raises((PromptRejected, NodeError), match="(?i)extension"):
        server.run({**linked, "save": saver("a", "a") | {"inputs": extended("a", ["text", 0])}})
    assert files_under(server.base) == before


def extended(link: str, extension: Any) -> dict[str, Any]:
    return {"lora": [link, 0], "file_name": "a", "extension": extension}


NAMES = ["../secret.safetensors", "..\\secret.safetensors", "a/../../secret.safetensors", "{absolute}", "//x/secret"]


@pytest.mark.parametrize("name", NAMES)
def test_prompts_can_not_read_outside_the_loras_folders(server: Server, secret: Path, name: str):
    name = name.format(absolute=secret)
    nodes = [
        {"m": loader(name)},
        {"s": stack(name), "m": node("PM LoRA Merger", **merger()["inputs"], lora_stack=["s", 0])},
    ]
    for each in nodes:
        with pytest.raises(PromptRejected, match="not in list"):
            server.run({**each, "save": saver("m", "stolen")})
    assert not list(server.loras.glob("stolen*"))


def stack(name: str) -> dict[str, Any]:
    rows = {f"lora_{row}": name if row == 1 else "None" for row in range(1, 5)}
    strengths = {f"strength_{part}_{row}": 1.0 for row in range(1, 5) for part in ("model", "clip")}
    return node("PM LoRA Stack", **rows, **strengths)


@pytest.mark.parametrize("name", NAMES)
def test_node_functions_refuse_paths_outside_the_loras_folders(
    comfy: ModuleType, server: Server, secret: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    """Without ComfyUI's check against the list of choices, as for a stack of another pack."""
    import folder_paths
    from lora_pack.nodes.load import LoadLora
    from lora_pack.nodes.stack import stacked_loras

    name = name.format(absolute=secret)
    known = folder_paths.folder_names_and_paths["loras"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(server.loras)], known))
    assert len(LoadLora().load_lora("a.safetensors", 1.0, 1.0)[0].modules) == len(small_modules())
    with pytest.raises((LoraError, FileNotFoundError, ValueError), match="secret|not found"):
        LoadLora().load_lora(name, 1.0, 1.0)
    with pytest.raises(LoraError, match="folders have no file"):
        stacked_loras([(name, 1.0, 1.0)])


HELP = f"/extensions/{PACK_FOLDER}/docs/"
PAGES = [
    *("x:/../../../README.md", "x:%2F..%2F..%2F..%2FREADME.md", ":..%2F..%2FREADME.md", "..:/..:/README.md"),
    *(":../:../README.md", ":%2e%2e/%2e%2e/README.md", ":..%5C..%5CREADME.md", ":%2Fetc%2Fpasswd.md"),
    *(":%00.md", ":README.md%00.md", "C:%5CWindows%5Cwin.md", ":%5C%5Cserver%5Cshare%5Ca.md", ":.md"),
    *(":" + "x" * 3000 + ".md", ":" + "a/" * 1000 + ".md"),
]


@pytest.mark.parametrize("page", PAGES)
def test_the_help_route_serves_only_help_pages(server: Server, page: str):
    address = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    try:
        connection.request("GET", HELP + page)  # unchanged: urllib and browsers resolve ..
        answer = connection.getresponse()
        assert answer.status == 404, page
        assert b"Power-Merger" not in answer.read()
    finally:
        connection.close()
