"""Scores of PM XY Grid and PM Find Strengths in a real ComfyUI over HTTP."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lora_pack.tests.comfy.events import Events
from lora_pack.tests.comfy.pictures import pixels
from lora_pack.tests.comfy.xy_prompts import (
    cells,
    difference,
    grid,
    loader,
    merged,
    merged_picture,
    sampling,
    strengths,
    sweep,
)
from lora_pack.tests.support.oracles import scores as oracle
from lora_pack.tools.comfy_server import Interrupted, NodeError, Server
from lora_pack.tools.workflows import CLIP, MODEL, VAE, Node, checkpoint, node
from safetensors.torch import load_file, save_file

LINE = re.compile(r"(\d+),(\d+): (.+): score (-?\d\.\d{3})(?: \+- (\d\.\d{3}))?")
POINT = re.compile(r"a (\d\.\d+), b (\d\.\d+): score (-?\d\.\d{3})(?: \((\d) seeds\))?")
BEST = re.compile(r"best: a (\d\.\d+), b (\d\.\d+): score (-?\d\.\d{3})(?: \+- (\d\.\d{3}))?")
SAMPLED = "The LoRAs were compared with pictures of the plot's own prompt."


def encoder(kind: str = "pixels") -> dict[str, Node]:
    return {"encoder": node("Small Image Encoder", kind=kind)}


def scored_grid(**settings: Any) -> dict[str, Node]:
    """A grid with scores; "report" shows them, "best" saves the LoRA of ``picked``."""
    return {
        **checkpoint(),
        **encoder(settings.pop("kind", "pixels")),
        **grid(clip_vision=["encoder", 0], **settings),
        "report": node("PreviewAny", source=["grid", 3]),
    }


def report(outputs: dict[str, Any]) -> list[str]:
    return outputs["report"]["text"][0].splitlines()


def embedding(picture: np.ndarray) -> np.ndarray:
    """What the encoder "pixels" makes of a picture, in float64."""
    height, width, _ = picture.shape
    fields = (picture / 255).reshape(8, height // 8, 8, width // 8, 3)
    return fields.mean(axis=(1, 3)).transpose(2, 0, 1).ravel()


def expected(picture: np.ndarray, none: np.ndarray, *alone: np.ndarray) -> float:
    return oracle.score(embedding(picture), embedding(none), [embedding(one) for one in alone])


def test_a_grid_scores_its_cells_and_gives_the_lora_of_the_best(server: Server):
    prompt = {**scored_grid(X=["xy", 0], Y=["xy", 1]), "xy": strengths(steps=3)}
    prompt["save"] = node("PM LoRA Save", lora=["grid", 2], file_name="scored_best", extension="safetensors")
    outputs = server.run(prompt)
    found = cells(server, outputs, 3)
    # the references are cells of this plot: at 0 and 0, and each LoRA alone at 1
    references = found[0, 0], found[2, 0], found[0, 2]
    lines = report(outputs)
    scores: dict[tuple[int, int], float] = {}
    assert lines[-2].startswith(SAMPLED)
    for line in lines[:-2]:
        column, row, labels, number, doubt = LINE.fullmatch(line).groups()  # type: ignore[union-attr]
        assert labels.count(" | ") == 1 and doubt is None
        place = int(column) - 1, int(row) - 1
        scores[place] = float(number)
        assert scores[place] == pytest.approx(expected(found[place], *references), abs=2e-3), place
    best = max(scores, key=lambda place: scores[place])
    assert lines[-1] == f"best: {best[0] + 1},{best[1] + 1}" and len(scores) == 9
    again = {name: one for name, one in merged("concat", best[0] / 2, best[1] / 2)[0].items() if name != "apply"}
    save = node("PM LoRA Save", lora=["merge", 0], file_name="scored_same", extension="safetensors")
    server.run({**again, "save": save})
    saved = [next(server.loras.glob(f"{name}*")).read_bytes() for name in ("scored_best", "scored_same")]
    assert saved[0] == saved[1]


def test_scores_and_a_frame_stand_in_the_picture(server: Server):
    prompt = {"xy": strengths(steps=2), **scored_grid(X=["xy", 0], Y=["xy", 1])}
    (with_scores,) = server.images(server.run(prompt), "grid")
    plain = {name: one for name, one in prompt.items() if name not in ("report", "encoder")}
    plain["grid"] = node("PM XY Grid", **{k: v for k, v in prompt["grid"]["inputs"].items() if k != "clip_vision"})
    (without,) = server.images(server.run(plain), "grid")
    assert pixels(with_scores).shape[0] > pixels(without).shape[0] + 20  # two rows of captions
    assert pixels(with_scores).shape[1] == pixels(without).shape[1]


def test_seeds_give_scores_a_doubt_and_their_references_are_averaged(server: Server):
    prompt = {
        "xy": strengths(steps=3),
        "seeds": sampling("seed +", "0, 1, 2"),
        **scored_grid(X=["xy", 0], Y=["seeds", 0]),
    }
    outputs = server.run(prompt)
    found = cells(server, outputs, 3)
    lines = [LINE.fullmatch(line) for line in report(outputs)]
    parsed = {(int(line[1]) - 1, int(line[2]) - 1): (float(line[4]), float(line[5])) for line in lines if line}
    assert len(parsed) == 9
    none, first = ([embedding(merged_picture_of(server, row, a, 0.0)) for row in range(3)] for a in (0.0, 1.0))
    second = [embedding(found[0, row]) for row in range(3)]
    for column in range(3):
        assert len({parsed[column, row] for row in range(3)}) == 1  # one merge, one score
        scores = [oracle.score(embedding(found[column, row]), none, [first, second]) for row in range(3)]
        assert parsed[column, 0][0] == pytest.approx(np.mean(scores), abs=3e-3)
    assert report(outputs)[-1] == "no difference" or report(outputs)[-1].startswith("best: ")


def merged_picture_of(server: Server, seed: int, a: float, b: float) -> np.ndarray:
    """The picture of a merge with this seed, by a grid of one cell."""
    values = {"min_strength": a, "max_strength": a, "steps": 1}, {"min_strength": b, "max_strength": b, "steps": 1}
    nodes = {"x": strengths(**values[0]), "y": strengths(**values[1])}
    # the same file twice, so that an axis alone shows one LoRA
    nodes["x"]["inputs"]["lora_b"] = "a.safetensors"
    nodes["y"]["inputs"]["lora_a"] = "b.safetensors"
    outputs = server.run({**checkpoint(), **nodes, **grid(X=["x", 0], Y=["y", 1], seed=seed)})
    return cells(server, outputs, 1)[0, 0]


def test_equal_cells_make_no_difference_and_nothing_runs_behind_picked(server: Server):
    xy = node(
        "XY: PM LoRA Modes",
        lora_a="a.safetensors",
        lora_b="b.safetensors",
        modes="concat",
        min_density=0.3,
        max_density=0.8,
        density_steps=2,
        device="cpu",
        dtype="float32",
    )
    prompt = {"xy": xy, **scored_grid(Y=["xy", 1])}
    prompt["save"] = node("PM LoRA Save", lora=["grid", 2], file_name="no_best", extension="safetensors")
    outputs = server.run(prompt)
    assert report(outputs)[-1] == "no difference"
    assert not list(server.loras.glob("no_best*"))


def test_cells_and_references_are_sampled_once(server: Server, events: Events):
    prompt = {"xy": strengths(steps=2, min_strength=0.1), **scored_grid(X=["xy", 0], Y=["xy", 1], seed=31)}
    outputs = server.wait(events.queue(prompt))["outputs"]
    again = {**prompt, "grid": {**prompt["grid"], "inputs": prompt["grid"]["inputs"] | {"pick": "1,2"}}}
    before = len(events.data("progress"))
    repeated = server.wait(events.queue(again))["outputs"]
    steps = {data["value"] for data in events.data("progress")[before:] if data["node"] == "grid"}
    assert {data["max"] for data in events.data("progress") if data["node"] == "grid"} == {(4 + 3) * 2}
    assert steps <= {0, *range(0, 15, 2)}, "a kept picture was sampled again"
    assert report(repeated) == report(outputs)


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "dinov3", "siglip2 naflex"])
def test_comfyuis_own_encoders_score_a_grid(server: Server, kind: str):
    if kind not in server.object_info("Small Image Encoder")["input"]["required"]["kind"][0]:
        pytest.skip(f"This version of ComfyUI has no {kind}.")
    prompt = {"xy": strengths(steps=2), **scored_grid(X=["xy", 0], Y=["xy", 1], kind=kind)}
    lines = report(server.run(prompt))
    assert all(LINE.fullmatch(line) for line in lines[:4])
    assert LINE.fullmatch(lines[0])[4] == "0.000"  # type: ignore[index]
    assert lines[-1].startswith("best: ")


def test_given_references_are_used_in_their_order(server: Server):
    nodes: dict[str, Node] = {"xy": strengths(steps=2), **scored_grid(X=["xy", 0], Y=["xy", 1])}
    found = cells(server, server.run(nodes), 2)
    for name, place in {"none": (0, 0), "a": (1, 0), "b": (0, 1)}.items():
        write_picture(server.input / f"reference_{name}.png", found[place])
        nodes[name] = node("LoadImage", image=f"reference_{name}.png")
    nodes["first"] = node("ImageBatch", image1=["none", 0], image2=["a", 0])
    nodes["references"] = node("ImageBatch", image1=["first", 0], image2=["b", 0])
    sampled = report(server.run(nodes))
    sampled = [line for line in sampled if not line.startswith(SAMPLED)]
    nodes["grid"]["inputs"]["references"] = ["references", 0]
    assert report(server.run(nodes)) == sampled
    nodes["references"]["inputs"] = {"image1": ["b", 0], "image2": ["first", 0]}
    assert report(server.run(nodes)) != sampled
    # two of each: none none, a a, b b
    for name in ("none", "a", "b"):
        nodes[f"two {name}"] = node("ImageBatch", image1=[name, 0], image2=[name, 0])
    nodes["first"]["inputs"] = {"image1": ["two none", 0], "image2": ["two a", 0]}
    nodes["references"]["inputs"] = {"image1": ["first", 0], "image2": ["two b", 0]}
    assert report(server.run(nodes)) == sampled
    nodes["grid"]["inputs"]["references"] = ["two a", 0]
    with pytest.raises(NodeError, match="references has 2 pictures; this plot needs 3.*in this order: a, b"):
        server.run(nodes)


def write_picture(path: Path, picture: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(picture.astype(np.uint8)).save(path)


def test_a_plot_without_loras_says_why_it_has_no_scores(server: Server):
    outputs = server.run({"seeds": sampling("seed +", "0, 1"), **scored_grid(X=["seeds", 0])})
    assert report(outputs)[-1] == "No scores: no axis merges LoRAs."


def test_the_inputs_and_outputs_of_the_search_never_change(server: Server):
    info = server.object_info("PM LoRA Find Strengths")
    assert info["display_name"] == "PM Find Strengths" and info["output"] == ["LoRA", "IMAGE", "STRING"]
    sampling_inputs = ["model", "vae", "latent_image", "positive", "negative"]
    sampling_inputs += ["seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"]
    own = ["clip_vision", "budget", "min_strength", "max_strength"]
    merging = ["mode", "density", "svd_rank", "svd_conv_rank", "device", "dtype"]
    assert info["input_order"]["required"] == [*sampling_inputs, *own, *merging]
    sockets = ["clip", "positive_cond", "negative_cond", "lora_stack", "options", "references", "lora1"]
    assert info["input_order"]["optional"] == [*sockets, "merge_seed", "strength_rule", "weights"]
    inputs = info["input"]["required"] | info["input"]["optional"]
    defaults = {"budget": 40, "min_strength": 0.0, "max_strength": 1.0, "mode": "concat", "density": 0.6}
    assert {name: inputs[name][1]["default"] for name in defaults} == defaults
    assert inputs["seed"][1]["control_after_generate"] is False


def find(**settings: Any) -> dict[str, Node]:
    """PM Find Strengths for a and b, with the sampling of grid()."""
    inputs = {name: value for name, value in grid()["grid"]["inputs"].items() if name not in ("model", "vae", "clip")}
    files = {"lora1": "a.safetensors", "lora2": "b.safetensors"}
    loaders = {
        name: node("PM LoRA Loader", lora_name=file, strength_model=1.0, strength_clip=1.0, lbw="")
        for name, file in files.items()
    }
    defaults = {
        "budget": 12,
        "min_strength": 0.0,
        "max_strength": 1.0,
        "mode": "concat",
        "density": 1.0,
        "svd_rank": 8,
        "svd_conv_rank": 0,
        "device": "cpu",
        "dtype": "float32",
        "clip_vision": ["encoder", 0],
    }
    models = {"model": MODEL, "vae": VAE, "clip": CLIP}
    links = {name: [name, 0] for name in files}
    found = node("PM LoRA Find Strengths", **models | inputs | defaults | links | settings)
    return {
        **checkpoint(),
        **encoder(),
        **loaders,
        "latent": grid()["latent"],
        "find": found,
        "picture": node("SaveImage", images=["find", 1], filename_prefix="found"),
    }


def test_the_found_strengths_give_the_picture_the_report_and_the_merged_lora(server: Server):
    prompt = find()
    prompt["save"] = node("PM LoRA Save", lora=["find", 0], file_name="found", extension="safetensors")
    outputs = server.run(prompt)
    lines = outputs["find"]["text"][0].splitlines()
    assert lines[-2].startswith(SAMPLED)
    points = [POINT.fullmatch(line) for line in lines[:-2]]
    assert all(points) and lines[0].startswith("a 1.00, b 1.00: score ")
    a, b, score = BEST.fullmatch(lines[-1]).groups()[:3]  # type: ignore[union-attr]
    same = [point for point in points if point and point.groups()[:2] == (a, b)]
    assert len(same) == 1 and same[0][3] == score
    (picture,) = server.images(outputs, "picture")
    assert difference(pixels(picture), merged_picture(server, "concat", float(a), float(b))) == 0
    again = {name: one for name, one in merged("concat", float(a), float(b))[0].items() if name != "apply"}
    server.run({**again, "save": node("PM LoRA Save", lora=["merge", 0], file_name="fixed", extension="safetensors")})
    saved = [next(server.loras.glob(f"{name}*")).read_bytes() for name in ("found", "fixed")]
    assert saved[0] == saved[1]
    assert len(server.images(outputs, "find")) == 1  # all pictures as one


def test_the_search_scores_like_the_grid(server: Server):
    lines = server.run(find(budget=5, seed=3))["find"]["text"][0].splitlines()
    prompt = {"xy": strengths(steps=1, min_strength=1.0), **scored_grid(X=["xy", 0], Y=["xy", 1], seed=3)}
    of_grid = LINE.fullmatch(report(server.run(prompt))[0])
    assert of_grid and lines[0] == f"a 1.00, b 1.00: score {of_grid[4]}"


def test_a_stopped_search_gives_its_best_and_goes_on_where_it_was(server: Server, events: Events):
    prompt = find(budget=12, seed=50, steps=6)
    prompt_id = events.queue(prompt)
    events.wait_for("progress", lambda data: data["node"] == "find" and data["value"] >= 7 * 6)
    server.interrupt()
    outputs = server.wait(prompt_id, deadline=60)["outputs"]
    lines = outputs["find"]["text"][0].splitlines()
    stopped = next(line for line in lines if line.startswith("stopped after"))
    pictures = int(stopped.split()[2])
    assert 6 <= pictures < 12 and BEST.fullmatch(lines[-1])
    assert server.images(outputs, "picture")

    before = len(events.data("progress"))
    whole = server.wait(events.queue(prompt))["outputs"]["find"]["text"][0].splitlines()
    steps = 12 * 6  # of the sampling; merging has a progress of its own
    values = [data["value"] for data in events.data("progress")[before:] if data["max"] == steps]
    sampled_in_part = [value for value in values if value % 6]
    assert min(sampled_in_part) >= 6 * pictures, "a picture was sampled again"
    assert not any(line.startswith("stopped") for line in whole)
    assert whole[0].split(":")[0] == lines[0].split(":")[0] and len(whole) >= len(lines) - 1


def test_a_stop_before_the_first_score_is_an_ordinary_stop(server: Server, events: Events):
    prompt_id = events.queue(find(seed=60, steps=200))
    events.wait_for("progress", lambda data: data["node"] == "find" and data["value"] >= 2)
    server.interrupt()
    with pytest.raises(Interrupted):
        server.wait(prompt_id, deadline=60)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 4}, "The budget is 4 pictures; 2 LoRAs need 5 or more"),
        ({"min_strength": 1.0}, r"min_strength \(1\) must be below max_strength \(1\)"),
        ({"mode": "ties", "density": 0.0}, "density"),
        ({"lora1": None, "lora2": None}, "No LoRA is connected"),
        ({"lora2": ["nothing", 0]}, "nothing alone looks like no LoRA to the image encoder"),
        ({"lora1": ["off", 0], "lora2": ["off", 0]}, "Every connected LoRA is switched off or at strength 0"),
    ],
)
def test_impossible_searches_are_refused(server: Server, settings: dict[str, Any], message: str):
    without_effect(server)
    prompt = find(**settings)
    prompt["find"]["inputs"] = {name: value for name, value in prompt["find"]["inputs"].items() if value is not None}
    prompt["nothing"] = loader("nothing.safetensors")
    prompt["off"] = node("PM LoRA Strength", lora=["lora2", 0], strength_model=0.0, strength_clip=0.0)
    with pytest.raises(NodeError, match=message) as caught:
        server.run(prompt)
    assert caught.value.node_id == "find"


def without_effect(server: Server) -> None:
    """Writes a LoRA that changes nothing, though it has a strength."""
    zeros = {name: torch.zeros_like(one) if "up" in name else one for name, one in a_lora(server).items()}
    save_file(zeros, server.loras / "nothing.safetensors")


def a_lora(server: Server) -> dict[str, torch.Tensor]:
    return load_file(server.loras / "a.safetensors")


def test_a_search_leaves_a_lora_out_that_is_switched_off(server: Server):
    prompt = find(budget=6, seed=70)
    prompt["lora1"]["inputs"]["on"] = False
    lines = server.run(prompt)["find"]["text"][0].splitlines()
    assert "a is switched off or at strength 0, and left out." in lines
    assert lines[0].startswith("b 1.00: score ") and lines[-1].startswith("best: b ")
    assert len([line for line in lines if line.startswith("b ")]) == 4  # 2 are references


def test_a_grid_is_scored_by_the_loras_that_are_switched_on(server: Server):
    nodes = {**sweep(("strength 2", "0, 0.5, 1")), **scored_grid(X=["sweep", 0], seed=71)}
    nodes["load a"]["inputs"]["on"] = False
    lines = report(server.run(nodes))
    assert [LINE.fullmatch(line)[4] for line in lines[:3]][::2] == ["0.000", "1.000"]  # type: ignore[index]
    assert lines[-1] == "best: 3,1"
