"""The server validates lora2, lora3, ... as if INPUT_TYPES declared them, although it only declares lora1.

This relies on how ComfyUI iterates over the dictionary of optional inputs (nodes/inputs.py) and breaks if that changes.
"""

from __future__ import annotations

from typing import Any

import pytest
from lora_pack.tools.comfy_server import NodeError, Prompt, PromptRejected, Server
from lora_pack.tools.workflows import node

MERGERS = {
    "PM LoRA Merger": {"mode": "concat", "density": 1.0, "device": "cpu", "dtype": "float32"},
    "PM LoRA SVD Merger": {
        "mode": "add_svd",
        "density": 1.0,
        "svd_rank": 4,
        "svd_conv_rank": 0,
        "device": "cpu",
        "dtype": "float32",
    },
}


def loader(name: str, strength: float = 1.0) -> dict[str, Any]:
    return node("PM LoRA Loader", lora_name=name, strength_model=strength, strength_clip=1.0, lbw="")


def prompt_of(kind: str, seventh: Any = None, nodes: Prompt | None = None, **loras: Any) -> Prompt:
    """A merge of LoRAs at lora1 and lora7, or with the link ``seventh`` at lora7."""
    links = {"lora1": ["a", 0], "lora7": seventh or ["b", 0], **loras}
    return {
        "a": loader("a.safetensors"),
        "b": loader("b.safetensors"),
        "merger": node(kind, **MERGERS[kind], **{name: link for name, link in links.items() if link is not None}),
        "save": node("PM LoRA Save", lora=["merger", 0], file_name="grown/merged", extension="safetensors"),
        **(nodes or {}),
    }


def rejected(server: Server, prompt: Prompt) -> dict[str, list[str]]:
    """The error types the server found before running the prompt, by node."""
    with pytest.raises(PromptRejected) as caught:
        server.queue(prompt)
    return {name: [error["type"] for error in found["errors"]] for name, found in caught.value.node_errors.items()}


@pytest.fixture(autouse=True)
def queue_keeps_working(server: Server):
    """After every rejection, the next prompt must still run."""
    yield
    assert "picture" in server.run(
        {
            "empty": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
            "picture": node("PreviewImage", images=["empty", 0]),
        }
    )


@pytest.mark.parametrize("kind", MERGERS)
def test_loras_beyond_lora1_are_merged(server: Server, kind: str):
    (written,) = server.run(prompt_of(kind, lora12=["a", 0]))["save"]["text"]
    assert written.endswith(".safetensors")


@pytest.mark.parametrize("kind", MERGERS)
def test_a_link_of_the_wrong_type_at_lora7_is_rejected(server: Server, kind: str):
    latent = {"latent": node("EmptyLatentImage", width=64, height=64, batch_size=1)}
    assert rejected(server, prompt_of(kind, ["latent", 0], latent)) == {"merger": ["return_type_mismatch"]}


@pytest.mark.parametrize("kind", MERGERS)
def test_a_missing_file_upstream_of_lora7_is_rejected(server: Server, kind: str):
    missing = {"missing": loader("no-such-file.safetensors")}
    assert rejected(server, prompt_of(kind, ["missing", 0], missing))["missing"] == ["value_not_in_list"]


@pytest.mark.parametrize("kind", MERGERS)
def test_a_value_out_of_range_upstream_of_lora7_is_rejected(server: Server, kind: str):
    strong = {"strong": loader("b.safetensors", strength=1e6)}
    assert rejected(server, prompt_of(kind, ["strong", 0], strong))["strong"] == ["value_bigger_than_max"]


@pytest.mark.parametrize("kind", MERGERS)
def test_a_link_from_a_missing_node_at_lora7_is_rejected(server: Server, kind: str):
    errors = rejected(server, prompt_of(kind, ["nowhere", 0]))
    assert errors["merger"] == ["exception_during_inner_validation"]


@pytest.mark.parametrize("kind", MERGERS)
def test_text_at_lora7_is_refused_by_the_node(server: Server, kind: str):
    with pytest.raises(NodeError, match="lora7: expected a LoRA from this pack, got str"):
        server.run(prompt_of(kind, "text"))


@pytest.mark.parametrize("kind", MERGERS)
def test_a_merge_without_loras_is_refused(server: Server, kind: str):
    prompt = prompt_of(kind)
    del prompt["merger"]["inputs"]["lora1"], prompt["merger"]["inputs"]["lora7"]
    with pytest.raises(NodeError, match="No LoRA is connected") as caught:
        server.run(prompt)
    assert caught.value.node_id == "merger"


def test_object_info_lists_only_lora1(server: Server):
    for kind in MERGERS:
        optional = server.object_info(kind)["input"]["optional"]
        assert [name for name in optional if name.startswith("lora") and name[4:].isdigit()] == ["lora1"]
