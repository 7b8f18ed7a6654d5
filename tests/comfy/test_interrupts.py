"""The stop button during long work in a real ComfyUI: the prompt ends soon and leaves nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lora_pack.merge.io import safetensors_file
from lora_pack.merge.lazy import LazyTensor
from lora_pack.tests.comfy.events import Events
from lora_pack.tests.comfy.test_nodes import files_under, loader, merger, run_and_save, saver, svd_merger
from lora_pack.tests.comfy.xy_prompts import grid, modes
from lora_pack.tools.comfy_server import Interrupted, Server
from lora_pack.tools.workflows import checkpoint, node

FILES = {"a": loader("stop_a.safetensors"), "b": loader("stop_b.safetensors")}
MODULES, SIZE, RANK = 160, 1600, 64
SOON = 4.0  # seconds, for one LAPACK call on a busy machine; the work itself takes far longer


@pytest.fixture(scope="module", autouse=True)
def large_loras(server: Server):
    """Two files of 66 MB; their sum has 260 MB, and its merges take many seconds."""
    paths = []
    for seed, links in enumerate(FILES.values()):
        noise = torch.Generator().manual_seed(seed)
        up = LazyTensor.of(torch.randn(SIZE, RANK, generator=noise).half())
        down = LazyTensor.of(torch.randn(RANK, SIZE, generator=noise).half())
        tensors = {}
        for number in range(MODULES):
            tensors[f"lora_unet_large_{number}.lora_up.weight"] = up
            tensors[f"lora_unet_large_{number}.lora_down.weight"] = down
        paths.append(server.loras / links["inputs"]["lora_name"])
        with paths[-1].open("wb") as file:
            safetensors_file.write(file, tensors, {}, lambda: None)
    yield
    for path in paths:
        path.unlink()


def executing(name: str) -> Callable[[Events], Any]:
    return lambda events: events.wait_for("executing", lambda data: data["node"] == name)


def module_done(name: str) -> Callable[[Events], Any]:
    return lambda events: events.wait_for("progress", lambda data: data["node"] == name and data["value"] >= 1)


def resizer(link: str) -> dict[str, Any]:
    return node("PM LoRA Resizer", lora=[link, 0], new_rank=32, device="cpu", dtype="float32")


MERGES = {
    "concat": merger("a", "b"),
    "ties": merger("a", "b", mode="ties", density=0.5),
    "add_svd": svd_merger("a", "b", rank=64),
    "ties_svd": svd_merger("a", "b", mode="ties_svd", density=0.5),
}
GRID = {
    **checkpoint(),
    "xy": modes(modes="ties", lora_a="stop_a.safetensors", lora_b="stop_b.safetensors"),
    **grid(X=["xy", 0], Y=["xy", 1]),
}


def merging_a_cell(events: Events) -> None:
    executing("grid")(events)
    time.sleep(0.5)  # ComfyUI sends no message for it


def merged(mode: str) -> dict[str, Any]:
    return {**FILES, "m": MERGES[mode], "save": saver("m", "stopped")}


# what is running -> its prompt, and what to wait for before pressing stop
WORK: dict[str, tuple[dict[str, Any], Callable[[Events], Any]]] = {
    "load": (merged("ties"), executing("a")),
    **{mode: (merged(mode), module_done("m")) for mode in MERGES},
    "resize": ({"a": FILES["a"], "r": resizer("a"), "save": saver("r", "stopped")}, module_done("r")),
    "save": (merged("concat"), executing("save")),
    "XY grid": (GRID, merging_a_cell),
}


@pytest.mark.parametrize("work", WORK)
def test_stop_ends_the_prompt_soon_and_leaves_nothing(server: Server, events: Events, undisturbed: bytes, work: str):
    server.post("/free", {"unload_models": False, "free_memory": True})  # nothing is cached
    prompt, under_way = WORK[work]
    before = files_under(server.base)
    prompt_id = events.queue(prompt)
    under_way(events)
    pressed = time.monotonic()
    server.interrupt()
    events.wait_for("execution_interrupted", lambda data: data["prompt_id"] == prompt_id)
    took = time.monotonic() - pressed
    with pytest.raises(Interrupted):
        server.wait(prompt_id)
    assert took < SOON
    print(f"{work}: stopped after {took:.2f} s")
    assert files_under(server.base) == before
    assert small_merge(server, f"after_{work}") == undisturbed


@pytest.fixture(scope="module")
def undisturbed(server: Server) -> bytes:
    return small_merge(server, "after_nothing")


def small_merge(server: Server, name: str) -> bytes:
    """The bytes of a merge that runs anew."""
    server.post("/free", {"unload_models": False, "free_memory": True})
    nodes = {
        "a": loader("a.safetensors"),
        "b": loader("b.safetensors", 0.5),
        "m": svd_merger("a", "b", rank=10),
        "r": resizer("m"),
    }
    return run_and_save(server, nodes, "r", name).read_bytes()
