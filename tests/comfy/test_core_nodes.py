"""The test harness itself: a real ComfyUI samples the small checkpoint with and without its own LoraLoader."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from lora_pack.tests.comfy.events import Events
from lora_pack.tests.comfy.pictures import pixels
from lora_pack.tools.comfy_server import Interrupted, NodeError, PromptRejected, Server
from lora_pack.tools.workflows import checkpoint, lora_chain, node, picture


def sample(server: Server, loras: list[tuple[str, float, float]], **settings) -> np.ndarray:
    nodes, model, clip = lora_chain(loras)
    outputs = server.run({**checkpoint(), **nodes, **picture(model, clip, **settings)})
    (file,) = server.images(outputs, "picture")
    return pixels(file)


def test_the_pack_is_loaded_from_custom_nodes(server: Server):
    log = server.log()
    assert "lora-power-merger" in log
    assert "(IMPORT FAILED)" not in log  # without brackets it is about ComfyUI's own nodes that require torchaudio


def test_pictures_have_contrast_and_depend_on_the_seed(server: Server):
    first = sample(server, [], seed=1)
    assert first.shape == (64, 64, 3)
    assert first.std() > 10
    assert np.abs(first - sample(server, [], seed=2)).mean() > 2


@pytest.mark.parametrize("strengths", [(1.0, 0.0), (0.0, 1.0)], ids=["model", "text encoder"])
def test_model_and_text_encoder_parts_each_change_the_picture(server: Server, strengths: tuple[float, float]):
    plain = sample(server, [])
    for name in ("a.safetensors", "b.safetensors"):
        assert np.abs(plain - sample(server, [(name, *strengths)])).mean() > 0.5


def test_every_module_of_the_generated_loras_is_loaded(server: Server):
    before = len(server.log())
    sample(server, [("a.safetensors", 0.3, 0.3), ("b.safetensors", 0.4, 0.4)])
    new = server.log()[before:]
    assert "lora key not loaded" not in new
    assert "ERROR" not in new


def test_an_invalid_prompt_is_rejected_with_a_reason(server: Server):
    with pytest.raises(PromptRejected, match="no-such-file") as caught:
        sample(server, [("no-such-file.safetensors", 1.0, 1.0)])
    assert list(caught.value.node_errors) == ["core_lora1"]


def test_an_error_in_a_node_is_raised_as_node_error(server: Server):
    (server.loras / "broken.safetensors").write_bytes(b"not a safetensors file")
    with pytest.raises(NodeError) as caught:
        sample(server, [("broken.safetensors", 1.0, 1.0)])
    assert caught.value.node_type == "LoraLoader"
    assert server.alive()


def test_progress_events_arrive_and_a_prompt_can_be_interrupted(server: Server, events: Events):
    prompt_id = events.queue({**checkpoint(), **picture(steps=10_000)})
    events.wait_for("progress", lambda data: data["node"] == "sampler" and data["value"] >= 2)
    server.interrupt()
    with pytest.raises(Interrupted):
        server.wait(prompt_id)
    events.wait_for("execution_interrupted", lambda data: data["node_id"] == "sampler")


def test_object_info_lists_new_files(server: Server):
    (server.loras / "fresh.safetensors").write_bytes(b"")
    assert "fresh.safetensors" in server.object_info("LoraLoader")["input"]["required"]["lora_name"][0]
    assert "KSampler" in server.object_info()


def test_comfyui_can_be_imported_while_the_server_runs(comfy: ModuleType):
    assert comfy.lora.load_lora({}, {}) == {}
    assert node("KSampler", seed=1) == {"class_type": "KSampler", "inputs": {"seed": 1}}
