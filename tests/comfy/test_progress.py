"""Progress bars and the stop button during a merge, in a real ComfyUI."""

from __future__ import annotations

import time

import pytest
import torch
from lora_pack.tests.comfy.events import Events
from lora_pack.tests.comfy.test_nodes import apply, load_named, loader, merger, run_and_save, saver, svd_merger
from lora_pack.tools.comfy_server import Interrupted, Server
from lora_pack.tools.make_lora import write_lora
from lora_pack.tools.workflows import checkpoint, picture


def test_merge_progress_counts_modules(server: Server, events: Events):
    nodes = {"a": loader("a.safetensors", 0.31), "b": loader("b.safetensors", 0.32), "m": merger("a", "b", mode="ties")}
    server.wait(events.queue({**nodes, "save": saver("m", "progress")}))
    last = events.wait_for("progress", lambda data: data["node"] == "m" and data["value"] == data["max"])
    assert last["max"] == len(load_named(server, "a").modules)


def test_save_progress_counts_bytes(server: Server, events: Events):
    nodes = {"a": loader("a.safetensors", 0.33), "b": loader("b.safetensors", 0.34), "m": merger("a", "b")}
    server.wait(events.queue({**nodes, "save": saver("m", "progress_of_save")}))
    last = events.wait_for("progress", lambda data: data["node"] == "save" and data["value"] == data["max"])
    (written,) = server.loras.glob("progress_of_save*")
    assert 0.9 * written.stat().st_size < last["max"] < written.stat().st_size


def test_apply_progress_counts_tensors(server: Server, events: Events):
    ours = {"a": loader("a.safetensors", 0.35), "b": loader("b.safetensors", 0.36), "m": merger("a", "b")}
    shown = picture(["apply", 0], ["apply", 1])
    server.wait(events.queue({**checkpoint(), **ours, "apply": apply("m"), **shown}))
    last = events.wait_for("progress", lambda data: data["node"] == "apply" and data["value"] == data["max"])
    assert last["max"] == 3 * len(load_named(server, "a").modules)  # up, down and alpha


@pytest.mark.parametrize("mode", ["ties_svd", "add_svd"])
def test_stop_interrupts_a_merge_and_leaves_no_files(server: Server, events: Events, mode: str):
    large = [(f"lora_unet_large_{n}", 1600, 1600, False) for n in range(400)]
    for number in (1, 2):
        path = server.loras / f"large{number}.safetensors"
        if not path.exists():
            write_lora(path, rank=16, seed=number, dtype=torch.float16, modules=large)
    nodes = {"a": loader("large1.safetensors"), "b": loader("large2.safetensors")}
    merge = svd_merger("a", "b", mode=mode, density=0.5, rank=24)
    prompt = {**nodes, "m": merge, "save": saver("m", f"stopped_{mode}")}
    prompt_id = events.queue(prompt)
    events.wait_for("progress", lambda data: data["node"] == "m" and data["value"] >= 1)
    pressed = time.monotonic()
    server.interrupt()
    with pytest.raises(Interrupted):
        server.wait(prompt_id)
    assert time.monotonic() - pressed < 30  # a generous bound: the full merge would take far longer
    assert not list(server.loras.glob("stopped_*")) and not list(server.loras.glob(".*"))
    run_and_save(server, {"b": loader("b.safetensors", 0.77)}, "b", "after_the_stop")
