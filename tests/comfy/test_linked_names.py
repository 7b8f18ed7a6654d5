"""File names that come to a node by a link: what ComfyUI takes from its cache, and what runs again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lora_pack.tests.comfy.xy_prompts import strengths
from lora_pack.tools.comfy_server import Prompt, Server
from lora_pack.tools.make_lora import small_modules, write_lora
from lora_pack.tools.workflows import CHECKPOINT, node

CONCAT = {"mode": "concat", "density": 1.0, "device": "cpu", "dtype": "float32"}
LINKED = ["name", 0]


def rewrite(server: Server, name: str, seed: int) -> None:
    path = server.loras / name
    path.parent.mkdir(exist_ok=True)
    write_lora(path, rank=2, seed=seed, modules=small_modules()[:3])


def named(text: str) -> Prompt:
    return {"name": node("Third-Party Text", text=text)}


def saved(link: str) -> Prompt:
    # into a folder that the pattern doesn't list
    return {"save": node("PM LoRA Save", lora=[link, 0], file_name="by_link_out/x", extension="safetensors")}


def loading(file: str) -> Prompt:
    tested = node("PM LoRA Loader", lora_name=LINKED, strength_model=1.0, strength_clip=1.0, lbw="")
    return named(file) | {"tested": tested} | saved("tested")


def listing(pattern: str) -> Prompt:
    settings = {"folder": "by_link", "order": "name", "limit": 0, "strength_model": 1.0, "strength_clip": 1.0}
    merger = node("PM LoRA Merger", **CONCAT, lora_stack=["tested", 0])
    listed = node("PM LoRA from Folder", pattern=LINKED, **settings)
    return named(pattern) | {"tested": listed, "merger": merger} | saved("merger")


def plotting(files: str) -> Prompt:
    settings = {"folder": "/", "order": "name", "limit": 0, "strength_model": 1.0, "strength_clip": 1.0}
    return named(files) | {"tested": node("XY: PM LoRA Files", files=LINKED, **settings)} | shown()


def plotting_two(file: str) -> Prompt:
    return named(file) | {"tested": strengths(lora_a=LINKED)} | shown()


def shown() -> Prompt:
    """A node that runs with an axis, without sampling."""
    return {"save": node("PreviewAny", source=["tested", 0])}


def baking() -> Prompt:
    lora = node("PM LoRA Loader", lora_name="a.safetensors", strength_model=1.0, strength_clip=1.0, lbw="")
    settings = {"strength_model": 1.0, "strength_clip": 1.0, "file_name": "linked", "dtype": "as the file"}
    baked = node("PM LoRA Bake", lora=["lora", 0], model_file=LINKED, **settings)
    return named(f"checkpoints/{CHECKPOINT}") | {"lora": lora, "tested": baked}


def cached(server: Server, prompt: Prompt) -> list[str]:
    """Runs a prompt and returns the nodes that ComfyUI took from its cache."""
    messages = server.wait(server.queue(prompt))["status"]["messages"]
    return next(data["nodes"] for name, data in messages if name == "execution_cached")


@pytest.mark.parametrize("make", [loading, listing, plotting, plotting_two])
def test_a_node_with_a_linked_name_runs_again_only_for_a_changed_file(server: Server, make: Callable[[str], Prompt]):
    rewrite(server, "by_link/one.safetensors", 1)
    prompt = make("one*" if make in (listing, plotting) else "by_link/one.safetensors")
    cached(server, prompt)
    assert {"tested", "save"} <= set(cached(server, prompt))
    rewrite(server, "by_link/one.safetensors", 2)
    assert not {"tested", "save"} & set(cached(server, prompt))
    assert {"tested", "save"} <= set(cached(server, prompt))


def test_a_linked_model_is_baked_once(server: Server):
    prompt = baking()
    try:
        cached(server, prompt)
        assert "tested" in cached(server, prompt)
    finally:
        for path in server.checkpoints.glob("linked*"):
            path.unlink()


def test_a_pattern_finds_brackets_as_they_are(server: Server):
    for name in ("[v1] ink", "v ink"):
        rewrite(server, f"brackets/{name}.safetensors", 1)
    prompt = listing("[v1]*")
    prompt["tested"]["inputs"]["folder"] = "brackets"
    text = server.run(prompt | saved("merger"))
    assert (server.loras / text["save"]["text"][0]).is_file()
    assert "brackets/[v1] ink x 1.0" in text["merger"]["text"][0]
    assert "brackets/v ink" not in text["merger"]["text"][0]
