"""PM Reference Pictures in a real ComfyUI over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from lora_pack.tests.comfy.events import Events
from lora_pack.tests.comfy.pictures import pixels
from lora_pack.tests.comfy.test_scores import SAMPLED, encoder, find, report
from lora_pack.tests.comfy.xy_prompts import difference, grid, loader, strengths
from lora_pack.tools.comfy_server import NodeError, Server
from lora_pack.tools.workflows import CLIP, MODEL, VAE, Node, checkpoint, node
from safetensors.torch import load_file, save_file

PROMPT, WORDS = "a red house by a lake", "inky, ink"
REFUSED = [
    ({"clip": None}, "No text encoder is connected, .* Connect clip"),
    ({"lora1": None, "lora2": None}, "No LoRA is connected. Connect PM Load LoRA to lora1"),
    ({"prompts": "\nonly b"}, "a has no prompt: line 1 of prompts is empty, and its file names no trigger words"),
    ({"strength": 0.0}, "strength is 0"),
]


def references(**settings: Any) -> dict[str, Node]:
    """The node ("refs") for a and for b with trigger words, two pictures of each. "all" saves its batch."""
    sampling = {name: value for name, value in grid()["grid"]["inputs"].items() if name not in ("clip", "positive")}
    own = {"prompts": PROMPT, "pictures": 2, "seed": 40, "strength": 0.5, "clip": CLIP}
    links = {"lora1": ["lora1", 0], "lora2": ["lora2", 0]}
    inputs = sampling | {"model": MODEL, "vae": VAE} | own | links | settings
    return {
        **checkpoint(),
        "latent": grid()["latent"],
        "lora1": loader("a.safetensors"),
        "lora2": loader("with_words.safetensors"),
        "refs": node("PM LoRA References", **{name: value for name, value in inputs.items() if value is not None}),
        "all": node("SaveImage", images=["refs", 0], filename_prefix="references"),
    }


@pytest.fixture(scope="module")
def with_words(server: Server) -> None:
    save_file(
        load_file(server.loras / "b.safetensors"),
        server.loras / "with_words.safetensors",
        {"modelspec.trigger_phrase": WORDS},
    )


def a_cell(name: str, prompt: str, seed: int, **axis: Any) -> dict[str, Node]:
    """A grid of one cell, saved by the node ``name``."""
    nodes = grid(positive=prompt, seed=seed, **axis)
    saved = node("SaveImage", images=[f"{name} grid", 1], filename_prefix=name)
    return {f"{name} grid": nodes["grid"], name: saved}


def test_the_batch_is_what_a_grid_samples_and_both_scoring_nodes_take_it(
    server: Server, with_words: None, events: Events
):
    scored = find(budget=4, steps=1, references=["refs", 0])
    prompt = {
        **scored,
        **references(),
        "lora a": strengths(lora_b="a.safetensors", min_strength=0.5, steps=1),
        "lora b": strengths(lora_a="b.safetensors", min_strength=0.5, steps=1),
        **a_cell("none", WORDS, 41),
        **a_cell("a alone", PROMPT, 41, X=["lora a", 0]),
        **a_cell("b alone", WORDS, 40, X=["lora b", 0]),
        "axes": strengths(min_strength=1.0, steps=1),
        **encoder(),
        "plot": node(
            "PM XY Grid",
            **grid(X=["axes", 0], Y=["axes", 1], steps=1)["grid"]["inputs"],
            clip_vision=["encoder", 0],
            references=["refs", 0],
        ),
        "report": node("PreviewAny", source=["plot", 3]),
    }
    outputs = server.wait(events.queue(prompt))["outputs"]
    assert outputs["refs"]["text"][0].splitlines() == [
        "6 pictures, 2 of each:",
        "no LoRA: the prompts below, in turn",
        f"a: {PROMPT}",
        f"with_words: {WORDS} (trigger words of its file)",
    ]
    pictures = [pixels(file) for file in server.images(outputs, "all")]
    assert len(pictures) == 6 and len(server.images(outputs, "refs")) == 1
    for place, name in ((1, "none"), (3, "a alone"), (4, "b alone")):
        (expected,) = server.images(outputs, name)
        assert difference(pictures[place], pixels(expected)) == 0, name
    assert all(difference(one, other) > 2 for n, one in enumerate(pictures) for other in pictures[:n])
    assert report(outputs)[-1].startswith("best: ")
    told = "\n".join([*report(outputs), outputs["find"]["text"][0]])
    assert SAMPLED not in told and "\nbest: a " in told

    before = len(events.data("progress"))
    again = server.wait(events.queue(references(pictures=1)))["outputs"]
    values = [data["value"] for data in events.data("progress")[before:] if data["node"] == "refs"]
    assert values and all(value % 2 == 0 for value in values), "a picture was sampled again"
    kept = [pixels(file) for file in server.images(again, "all")]
    assert [difference(one, pictures[2 * n]) for n, one in enumerate(kept)] == [0, 0, 0]
    assert again["refs"]["text"][0].splitlines()[-1].startswith("No picture without LoRAs has the prompt of with_words")


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=[" ".join(settings) for settings, _ in REFUSED])
def test_what_cannot_be_sampled_is_refused(server: Server, with_words: None, settings: dict[str, Any], message: str):
    with pytest.raises(NodeError, match=message) as caught:
        server.run(references(**settings))
    assert caught.value.node_id == "refs"


def test_the_inputs_and_outputs_never_change(server: Server):
    info = server.object_info("PM LoRA References")
    assert info["display_name"] == "PM Reference Pictures" and info["output"] == ["IMAGE", "STRING"]
    own = ["prompts", "negative", "pictures", "seed"]
    sampling = ["steps", "cfg", "sampler_name", "scheduler", "denoise"]
    assert info["input_order"]["required"] == ["model", "vae", "latent_image", *own, *sampling, "strength"]
    assert info["input_order"]["optional"] == ["clip", "lora_stack", "lora1"]
    inputs = info["input"]["required"]
    assert inputs["pictures"][1].items() >= {"default": 4, "min": 1, "max": 64}.items()
    assert inputs["strength"][1].items() >= {"default": 1.0, "min": -10.0, "max": 10.0}.items()
    assert inputs["seed"][1]["control_after_generate"] is False


def test_a_lora_that_is_switched_off_is_left_out_with_its_line(server: Server, with_words: None):
    prompt = references(pictures=1, prompts=f"a line of a\n{PROMPT}")
    prompt["lora1"]["inputs"]["on"] = False
    outputs = server.run(prompt)
    assert outputs["refs"]["text"][0].splitlines() == [
        "2 pictures, 1 of each:",
        "no LoRA: the prompts below, in turn",
        f"with_words: {PROMPT}",
        "a is switched off or at strength 0, and left out.",
    ]
    first, second = (pixels(file) for file in server.images(outputs, "all"))
    assert difference(first, second) > 2
