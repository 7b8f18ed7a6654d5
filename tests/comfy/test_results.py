"""What nodes show after a run, and how they refuse: results, warnings and errors as the page gets them."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import pytest
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.errors import LoraError
from lora_pack.merge.formats import from_state_dict
from lora_pack.tests.comfy import empty_models
from lora_pack.tests.comfy.test_nodes import apply, loader, merger, saver, svd_merger
from lora_pack.tests.comfy.xy_prompts import strengths
from lora_pack.tools.comfy_server import NodeError, Server
from lora_pack.tools.workflows import checkpoint, node
from safetensors.torch import load_file, save_file

XY_FILES = {"lora_a": "a.safetensors", "lora_b": "b.safetensors", "device": "cpu", "dtype": "float32"}


def lines(server: Server, nodes: dict[str, Any], which: str) -> list[str]:
    """The lines of a node's text box after a run."""
    shown = {} if nodes[which]["class_type"] == "PM LoRA Save" else {"shown": node("PreviewAny", source=[which, 0])}
    return "\n".join(server.run({**nodes, **shown})[which]["text"]).splitlines()


def error(server: Server, nodes: dict[str, Any], which: str) -> NodeError:
    with pytest.raises(NodeError) as caught:
        server.run({**nodes, "shown": node("PreviewAny", source=[which, 0])})
    assert caught.value.node_id == which
    return caught.value


def test_a_merge_names_what_went_in(server: Server):
    loaders = {
        "a": loader("a.safetensors", 0.85, 0.5),
        "b": loader("b.safetensors", -0.25, -0.25, lbw="%default=0.5"),
        "c": loader("b.safetensors", 0.0, 0.0),
    }
    result, inputs = lines(server, {**loaders, "m": merger("a", "b", "c")}, "m")
    assert re.fullmatch(r"SD 1\.5, 84 modules, rank 12, \d+\.\d s(, a about \d+\.\d times stronger)?", result)
    assert inputs == "3 LoRAs: a x 0.85 (text encoder 0.5), b x -0.25 (block weights), b x 0.0"
    # what a bypassed second loader leaves of the prompt
    assert lines(server, {**loaders, "m": merger("a")}, "m")[1] == "1 LoRA: a x 0.85 (text encoder 0.5)"


def test_a_merge_that_makes_loras_equally_strong_names_no_imbalance(server: Server):
    loaders = {"a": loader("a.safetensors", 20.0), "b": loader("b.safetensors", 0.01)}
    for weights, is_said in (("as given", True), ("equal energy", False)):
        nodes = {**loaders, "m": merger("a", "b")}
        nodes["m"]["inputs"]["weights"] = weights
        assert ("times stronger" in lines(server, nodes, "m")[0]) is is_said


def test_a_merge_of_loras_at_strength_0_says_which(server: Server):
    nodes = {"a": loader("a.safetensors", 0.0, 0.0), "m": merger("a")}
    assert lines(server, nodes, "m") == ["Empty result: every LoRA is empty or at strength 0.", "1 LoRA: a x 0.0"]


@pytest.mark.parametrize("make, mode", [(merger, "ties"), (svd_merger, "dare_linear_svd")])
def test_density_1_says_that_nothing_is_dropped(server: Server, make: Any, mode: str):
    nodes = {"a": loader("a.safetensors", 0.31), "b": loader("b.safetensors", 0.32)}
    at_1 = lines(server, {**nodes, "m": make("a", "b", mode=mode, density=1.0)}, "m")[0]
    assert at_1.endswith("density 1: nothing dropped")
    assert "density" not in lines(server, {**nodes, "m": make("a", "b", mode=mode, density=0.9)}, "m")[0]
    exact = "concat" if make is merger else "add_svd"
    assert "density" not in lines(server, {**nodes, "m": make("a", "b", mode=exact, density=1.0)}, "m")[0]


def test_density_0_is_refused_by_the_modes_that_use_it(server: Server):
    nodes = {"a": loader("a.safetensors", 0.41), "b": loader("b.safetensors")}
    for make, mode in ((merger, "ties"), (svd_merger, "dare_ties_svd")):
        found = error(server, {**nodes, "m": make("a", "b", mode=mode, density=0.0)}, "m")
        name = mode.removesuffix("_svd")
        assert found.exception_message.startswith(f"density is 0, at which {name} keeps nothing of any LoRA.")
    assert len(lines(server, {**nodes, "m": merger("a", "b", density=0.0)}, "m")) == 2


@pytest.mark.parametrize("bound", ["density", "min_density", "max_density"])
def test_the_xy_nodes_refuse_density_0_by_name(server: Server, bound: str):
    settings: dict[str, Any] = {"min_density": 0.0, "max_density": 0.0 if bound == "max_density" else 1.0}
    if bound == "max_density":
        settings["min_density"] = 0.1
    modes = node("XY: PM LoRA Modes", **XY_FILES, modes="concat, ties_svd", density_steps=3, **settings)
    svd = {"mode": "ties_svd", "min_rank": 1, "max_rank": 4, "rank_steps": 2, "density": 0.0}
    nodes = {
        "density": [strengths(mode="ties", density=0.0), node("XY: PM LoRA SVD Rank", **XY_FILES, **svd)],
    }.get(bound, [modes])
    for xy in nodes:
        assert error(server, {"xy": xy}, "xy").exception_message.startswith(f"{bound} is 0, at which ties keeps")


def test_modes_without_a_density_plot_from_0(server: Server):
    modes = node(
        "XY: PM LoRA Modes", **XY_FILES, modes="concat, add_svd", min_density=0.0, max_density=1.0, density_steps=2
    )
    server.run({"xy": modes, "shown": node("PreviewAny", source=["xy", 0])})


def test_a_resize_shows_ranks_sizes_and_loss(server: Server):
    def resized(rank: int) -> dict[str, Any]:
        return node("PM LoRA Resizer", lora=["m", 0], new_rank=rank, device="cpu", dtype="float16")

    # rank 8 in the text encoder, from a alone, and 12 in the model
    nodes = {"a": loader("a.safetensors"), "b": loader("b.safetensors", 1.0, 0.0), "m": merger("a", "b")}
    number = r"[\d.]+"
    (line,) = lines(server, {**nodes, "r": resized(10)}, "r")
    found = re.fullmatch(
        rf"84 modules, rank 8 to 12 -> 8 to 10 \(mean ({number})\), "
        rf"({number}) -> ({number}) MB, ({number}) % of the norm lost",
        line,
    )
    assert found, line
    mean, before, after, lost = map(float, found.groups())
    assert 8 < mean < 10 and after < before and 0 < lost < 50
    (line,) = lines(server, {**nodes, "r": resized(4)}, "r")
    assert re.fullmatch(rf"84 modules, rank 8 to 12 -> 4, {number} -> {number} MB, {number} % of the norm lost", line)
    (line,) = lines(server, {**nodes, "r": resized(16)}, "r")
    assert line.endswith(" MB, 0 % of the norm lost")


def test_save_shows_the_path_below_the_loras_folder(server: Server):
    nodes = {"a": loader("a.safetensors"), "save": saver("a", "shown here/of mine")}
    first, second = server.run(nodes)["save"], server.run(nodes | {"a": loader("a.safetensors", 0.5)})["save"]
    assert first["text"] == first["saved"] == ["shown here/of mine.safetensors"]
    assert second["text"] == ["shown here/of mine_00002.safetensors"]
    assert (server.loras / second["text"][0]).is_file()
    log = server.log().splitlines()
    assert any(line.endswith(f"LoRA Power-Merger: Saved a as {server.loras / second['text'][0]}") for line in log)


def test_lines_of_the_core_in_the_log_carry_the_packs_name_once(server: Server):
    before = len(server.log())
    save_file(
        {f"net.odd.lora_{side}.weight": torch.ones(4, 4) for side in ("up", "down")}, server.loras / "odd.safetensors"
    )
    lines(server, {"a": loader("odd.safetensors"), "m": merger("a")}, "m")
    (line,) = [line for line in server.log()[before:].splitlines() if "module names are unknown" in line]
    assert line.count("LoRA Power-Merger: ") == 1 and "LoRA Power-Merger: odd: 1 of 1 module names" in line


def test_errors_carry_their_plain_name(server: Server):
    (server.loras / "no_lora.safetensors").write_bytes(b"no file of tensors")
    found = error(server, {"a": loader("no_lora.safetensors")}, "a")
    assert found.exception_type == "LoraError"
    assert found.exception_message.startswith("no_lora.safetensors is not a complete")
    assert "LoraError: no_lora.safetensors is not" in server.log() and "errors.LoraError" not in server.log()


def test_modules_that_do_not_fit_are_a_warning(server: Server):
    state = load_file(server.loras / "a.safetensors")
    for name in ("up", "down"):
        state[f"lora_unet_imagined.lora_{name}.weight"] = torch.ones(4, 4)
    save_file(state, server.loras / "partial.safetensors")
    shown = {"shown": node("PreviewAny", source=["p", 0])}
    output = server.run({**checkpoint(), "a": loader("partial.safetensors"), "p": apply("a"), **shown})["p"]
    assert output["warnings"] == [f"partial: {output['text'][0]}"]
    assert output["text"][0].startswith("84 of 85 modules applied. 1 has no matching weight")
    output = server.run({**checkpoint(), "a": loader("a.safetensors", 0.77), "p": apply("a"), **shown})["p"]
    assert "warnings" not in output


def lora_for(comfy: ModuleType, name: str) -> Lora:
    """A LoRA of one module in each attention of a model."""
    names = empty_models.names_of_model(comfy, name)
    assert names is not None
    keys = [
        key for key in names.key_map if key.startswith("lora_unet_") and key.endswith(("to_q", "to_k", "img_mod_lin"))
    ]
    state = {}
    for key in keys:
        rows, columns = names.shapes[names.key_map[key]][:2]
        state[f"{key}.lora_up.weight"], state[f"{key}.lora_down.weight"] = torch.ones(rows, 1), torch.ones(1, columns)
    return from_state_dict(state, f"made for {name}")


def patcher(comfy: ModuleType, name: str) -> Any:
    from comfy.model_patcher import ModelPatcher

    return ModelPatcher(empty_models.model(comfy, name), torch.device("cpu"), torch.device("cpu"))


def test_a_lora_for_another_family_is_refused_with_both_names(comfy: ModuleType):
    from lora_pack.nodes.apply import ApplyLora

    sdxl, model = lora_for(comfy, "SDXL"), patcher(comfy, "SD 1.5")
    with pytest.raises(LoraError, match=r"^made for SDXL is for SDXL, but the connected model is SD 1\.5\."):
        ApplyLora().apply_merged_lora(model, sdxl)
    nothing = ApplyLora().apply_merged_lora(model, sdxl, strength_model=0.0, strength_clip=0.0)
    assert nothing["result"] == (model, None)
    fitting = lora_for(comfy, "SD 1.5")
    output = ApplyLora().apply_merged_lora(model, fitting)
    total = len(fitting.modules)
    assert output["ui"] == {"text": [f"{total} of {total} modules applied."]}
    assert len(output["result"][0].patches) == total > 20
