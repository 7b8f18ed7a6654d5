"""What a sweep says about a cell: its merged LoRA, whether two cells are the same, and its settings in plain JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from lora_pack.merge.files import save
from lora_pack.tests.comfy.test_xy_capsules import A, Axis, B, Pack, pack
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.make_lora import write_lora
from safetensors.torch import load_file, save_file

__all__ = ["pack"]  # the fixture


def identity(axis: Axis, place: int, **more: Any) -> tuple[object, ...]:
    capsule = axis[1][place]
    return capsule.sweep.identity(capsule.settings | more)


def test_a_cells_lora_is_saved_with_the_same_bytes_as_the_merge_nodes(pack: Pack, tmp_path: Any):
    x, y = pack.modes(seed=7)
    for mode, density in ((0, 0), (1, 0), (1, 1)):
        settings = x[1][mode].settings | y[1][density].settings
        found = x[1][0].sweep.lora(settings, pack.model, pack.clip)
        expected = pack.merge(1.0, 1.0, settings["mode"], density=settings["density"], seed=7)
        files = [save(lora, tmp_path / f"{name}.safetensors") for name, lora in (("cell", found), ("node", expected))]
        assert files[0].read_bytes() == files[1].read_bytes(), settings


def test_cells_with_the_same_merge_have_the_same_identity(pack: Pack):
    x, y = pack.modes(modes="add, ties")
    assert identity(x, 0, density=0.3) == identity(y, 1, mode="add")  # add ignores density
    assert identity(x, 1, density=0.3) != identity(x, 1, density=0.8)
    again, _ = pack.modes(modes="ties")
    assert identity(again, 0) == identity(x, 1)  # from another run of the node
    assert hash(identity(x, 0)) == hash(identity(again, 0, mode="add"))
    assert identity(pack.strengths()[0], 0) != identity(pack.strengths(lora_b=A)[0], 0)
    assert identity(pack.ranks(), 0) != identity(pack.ranks(dtype="float16"), 0)


def test_the_identity_follows_the_weights_of_given_loras(pack: Pack):
    def given(strength: float, override: Any) -> tuple[object, ...]:
        return identity(pack.strengths(lora_a_override=override, min_strength=strength, steps=1)[0], 0)

    merged = [pack.merge(1.0, b, "ties") for b in (1.0, 1.0, 0.5)]
    first, same, other = (given(0.5, lora) for lora in merged)
    assert first == same != other
    assert given(0.5, pack.load(A)) == identity(pack.strengths(min_strength=0.5, steps=1)[0], 0)
    halved = pack.nodes["PM LoRA Loader"]().load_lora(A, 1.0, 1.0, "%default=0.5")[0]
    assert given(0.5, halved) != given(0.5, pack.load(A))


def test_a_changed_file_has_another_identity(pack: Pack, server: Server):
    path = server.loras / "identity.safetensors"
    found = []
    for seed in (1, 2):
        write_lora(
            path, rank=2 * seed, seed=seed, modules=[("lora_unet_mid_block_attentions_0_proj_in", 1280, 1280, True)]
        )
        found.append(identity(pack.strengths(lora_a="identity.safetensors", lora_b="identity.safetensors")[0], 0))
    assert found[0] != found[1]


def test_a_cell_describes_the_settings_that_count(pack: Pack):
    x, y = pack.modes(modes="add, della_svd", seed=5)
    add, della = (x[1][i].sweep.describe(x[1][i].settings | y[1][0].settings) for i in (0, 1))
    for settings in (add, della):
        assert json.loads(json.dumps(settings)) == settings
        assert [lora["file"] for lora in settings["loras"]] == [A, B]
        assert [(lora["strength_model"], lora["strength"]) for lora in settings["loras"]] == [(1.0, 1.0)] * 2
    common = {"strength_rule": "of the mode", "weights": "as given", "device": "cpu", "dtype": "float32"}
    assert {name: value for name, value in add.items() if name != "loras"} == {"mode": "add", **common}
    assert {name: value for name, value in della.items() if name != "loras"} == {
        "mode": "della_svd",
        "density": 0.3,
        "svd_rank": 0,
        "svd_conv_rank": 0,
        "seed": 5,
        "parameters": {"della_epsilon": 0.1},
        **common,
    }


@pytest.mark.parametrize("part", ["model", "clip"])
def test_a_description_has_the_strengths_of_the_cell(pack: Pack, part: str):
    x, _ = pack.strengths(lora_a_override=pack.load(B, (0.5, 2.0)), steps=1, min_strength=0.5, apply_strength=part)
    loras = x[1][0].sweep.describe(x[1][0].settings)["loras"]
    strengths = (0.25, 0.0) if part == "model" else (0.0, 1.0)
    assert (loras[0]["strength_model"], loras[0]["strength_clip"], loras[0]["strength"]) == (*strengths, 0.5)


@pytest.mark.parametrize("kind", ["DoRA", "unknown names"])
def test_a_cell_that_takes_the_model_is_what_the_merge_node_makes_with_it(pack: Pack, server: Server, kind: str):
    """Its description says so, since the nodes that make the same LoRA need the model, too."""
    from lora_pack.xy.grid_axis import read_axis
    from lora_pack.xy.pick import picked_lora

    tensors = load_file(server.loras / B)
    if kind == "DoRA":
        tensors |= {
            key.replace(".lora_up.weight", ".dora_scale"): 1.0 + torch.rand(up.shape[0], 1)
            for key, up in tensors.items()
            if key.endswith(".lora_up.weight")
        }
    else:  # a text encoder is in many models
        tensors = {key: tensor for key, tensor in tensors.items() if key.startswith("lora_te_")}
    name = f"capsules/{kind}.safetensors"
    save_file(tensors, server.loras / name)
    loras = {"lora1": pack.load(name, 0.5), "lora2": pack.load(name, -1.0)}
    settings = {
        "mode": "ties_svd",
        "density": 0.6,
        "svd_rank": 2,
        "svd_conv_rank": 0,
        "device": "cpu",
        "dtype": "float32",
    }
    x, _ = pack.xy["XY: PM LoRA Sweep"]().plot(**settings, x_values="1", **loras)
    found = picked_lora(pack.model, pack.clip, read_axis("X", x), read_axis("Y", None), (0, 0))
    merger = pack.nodes["PM LoRA SVD Merger"]()
    expected = merger.merge(**settings, model=pack.model, clip=pack.clip, **loras)["result"][0]
    saved = [save(lora, server.loras / f"capsules/{place}.safetensors") for place, lora in enumerate((found, expected))]
    assert saved[0].read_bytes() == saved[1].read_bytes()
    described = x[1][0].sweep.describe(x[1][0].settings)
    whole, parts = described.get("from_model_weights"), [lora.get("from_model_weights") for lora in described["loras"]]
    assert (whole, parts) == (None, [True, True]) if kind == "DoRA" else (True, [None, None])


def test_a_description_has_no_prompt_that_a_conditioning_replaces(pack: Pack):
    from lora_pack.xy.grid_axis import read_axis
    from lora_pack.xy.pick import describe
    from lora_pack.xy.sampling import Sampling

    x, none = read_axis("X", pack.strengths()[0]), read_axis("Y", None)
    sampling = Sampling(1, 20, 7.0, "euler", "normal", 1.0, "unused", "blurry")
    found = describe(x, none, (0, 0), sampling, {"positive": [], "negative": None})["sampling"]
    assert "positive" not in found and found["negative"] == "blurry" and found["seed"] == 1
