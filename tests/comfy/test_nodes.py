"""The nodes in a real ComfyUI over HTTP: their interface, results, files and failures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.files import load, save, tensors_equal
from lora_pack.merge.formats import to_state_dict
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.merging.resize import resize
from lora_pack.merge.provenance.recipe import KEY
from lora_pack.tests.comfy.pictures import pixels
from lora_pack.tools.comfy_server import NodeError, PromptRejected, Server
from lora_pack.tools.make_lora import small_modules, write_lora
from lora_pack.tools.workflows import CLIP, MODEL, checkpoint, lora_chain, node, picture
from safetensors.torch import load_file, save_file

# id -> display name, required inputs, optional inputs, outputs. Saved workflows depend on these, order included.
NODES: dict[str, tuple[str, list[str], list[str], list[str]]] = {
    "PM LoRA Loader": (
        "PM Load LoRA",
        ["lora_name", "strength_model", "strength_clip", "lbw"],
        ["alpha_from"],
        ["LoRA"],
    ),
    "PM LoRA Strength": ("PM LoRA Strength", ["lora", "strength_model", "strength_clip"], [], ["LoRA"]),
    "PM LoRA Merger": (
        "PM Merge LoRA",
        ["mode", "density", "device", "dtype"],
        # lora1 is the last socket: the front end appends lora2, ...
        ["model", "clip", "lora_stack", "options", "lora1", "seed", "strength_rule", "weights"],
        ["LoRA"],
    ),
    "PM LoRA SVD Merger": (
        "PM Merge LoRA SVD",
        ["mode", "density", "svd_rank", "svd_conv_rank", "device", "dtype"],
        ["model", "clip", "lora_stack", "options", "lora1", "seed", "strength_rule", "weights"],
        ["LoRA"],
    ),
    "PM LoRA Merge Options": (
        "PM Merge Options",
        ["mode", "np_mu", "iso_blend", "route_ridge", "della_epsilon", "breadcrumbs_gamma"],
        [],
        ["PM_MERGE_OPTIONS"],
    ),
    "PM LoRA Resizer": (
        "PM Resize LoRA",
        ["lora", "new_rank", "device", "dtype"],
        ["conv_rank", "method", "method_value"],
        ["LoRA"],
    ),
    "PM LoRA Apply": (
        "PM Apply LoRA",
        ["model"],
        ["lora", "clip", "strength_model", "strength_clip", "lora_stack", "how"],
        ["MODEL", "CLIP"],
    ),
    "PM LoRA Save": (
        "PM Save LoRA",
        ["lora", "file_name", "extension"],
        ["save_dtype", "overwrite", "save_format"],
        [],
    ),
    "PM LoRA Bake": (
        "PM Bake LoRA",
        ["lora", "model_file", "strength_model", "strength_clip", "file_name", "dtype"],
        ["overwrite"],
        [],
    ),
    "PM LoRA Extract": (
        "PM Extract LoRA",
        ["tuned", "base", "rank", "conv_rank", "method", "method_value", "device", "dtype"],
        [],
        ["LoRA"],
    ),
    "PM LoRA Stack": (
        "PM LoRA Stack",
        [f"{part}_{row}" for row in range(1, 5) for part in ("lora", "strength_model", "strength_clip")],
        ["lora_stack"],
        ["LORA_STACK"],
    ),
    "PM LoRA from Folder": (
        "PM LoRA from Folder",
        ["folder", "pattern", "order", "limit", "strength_model", "strength_clip"],
        [],
        ["LORA_STACK"],
    ),
    "PM LoRA Inspect": ("PM Inspect LoRA", [], ["model", "clip", "lora_stack", "lora1"], ["IMAGE", "STRING"]),
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "PM LoRA Loader": {"strength_model": 1.0, "strength_clip": 1.0, "lbw": "", "alpha_from": "trainer"},
    "PM LoRA Merger": {"mode": "concat", "density": 0.6, "device": "auto", "dtype": "float32", "seed": 0},
    "PM LoRA SVD Merger": {"mode": "add_svd", "density": 0.6, "svd_rank": 32, "svd_conv_rank": 0, "device": "auto"},
    "PM LoRA Merge Options": {"mode": "np_svd", "np_mu": 0.5, "iso_blend": 0.3},
    "PM LoRA Resizer": {"new_rank": 16, "conv_rank": 0, "method": "fixed"},
    "PM LoRA Apply": {"strength_model": 1.0, "strength_clip": 1.0, "how": "patch weights"},
    "PM LoRA Save": {"file_name": "merged", "save_dtype": "as merged", "overwrite": False},
    "PM LoRA Extract": {"rank": 32, "conv_rank": 0, "method": "fixed", "device": "auto", "dtype": "float32"},
    "PM LoRA Bake": {"strength_model": 1.0, "file_name": "baked", "dtype": "as the file", "overwrite": False},
}


def loader(name: str, model: float = 1.0, clip: float = 1.0, lbw: str = "") -> dict[str, Any]:
    return node("PM LoRA Loader", lora_name=name, strength_model=model, strength_clip=clip, lbw=lbw)


def merger(*links: str, mode: str = "concat", density: float = 1.0, **more: Any) -> dict[str, Any]:
    inputs = {f"lora{n}": [link, 0] for n, link in enumerate(links, 1)}
    return node(
        "PM LoRA Merger", **{"mode": mode, "density": density, "device": "auto", "dtype": "float32"} | more, **inputs
    )


def svd_merger(*links: str, mode: str = "add_svd", density: float = 1.0, rank: int = 32, **more: Any) -> dict[str, Any]:
    inputs = {f"lora{n}": [link, 0] for n, link in enumerate(links, 1)}
    settings = {
        "mode": mode,
        "density": density,
        "svd_rank": rank,
        "svd_conv_rank": 0,
        "device": "cpu",
        "dtype": "float32",
    }
    return node("PM LoRA SVD Merger", **settings | more, **inputs)


def saver(link: str, name: str, **more: Any) -> dict[str, Any]:
    return node("PM LoRA Save", lora=[link, 0], file_name=name, extension="safetensors", **more)


def apply(link: str, **more: Any) -> dict[str, Any]:
    return node("PM LoRA Apply", **{"model": MODEL, "clip": CLIP, "lora": [link, 0]} | more)


def run_and_save(server: Server, nodes: dict[str, Any], link: str, name: str, **more: Any) -> Path:
    outputs = server.run({**nodes, "save": saver(link, name, **more)})
    return server.loras / outputs["save"]["text"][0]


def sampled(server: Server, prompt: dict[str, Any]) -> np.ndarray:
    (file,) = server.images(server.run(prompt), "picture")
    return pixels(file)


def same_picture(first: np.ndarray, second: np.ndarray) -> bool:
    # a different order of summation can change the rounding to 8 bits
    return np.abs(first - second).max() <= 2 and np.abs(first - second).mean() < 0.05


@pytest.mark.parametrize("name", NODES)
def test_node_names_inputs_defaults_and_outputs_never_change(server: Server, name: str):
    display, required, optional, outputs = NODES[name]
    info = server.object_info(name)
    assert info["display_name"] == display
    assert info["category"].startswith("LoRA Power-Merger/")
    assert info["input_order"].get("required", []) == required
    assert info["input_order"].get("optional", [])[: len(optional)] == optional
    assert info["output"] == outputs
    specs = info["input"].get("required", {}) | info["input"].get("optional", {})
    for input_name, spec in specs.items():
        assert spec[1].get("tooltip"), f"{input_name} has no tooltip"
    assert len(info["output_tooltips"] or []) == len(outputs) if outputs else True
    assert info["description"]
    for input_name, value in DEFAULTS.get(name, {}).items():
        assert specs[input_name][1]["default"] == value


def test_strengths_range_from_minus_20_to_20_and_seeds_stay_fixed(server: Server):
    spec = server.object_info("PM LoRA Loader")["input"]["required"]["strength_model"][1]
    assert (spec["min"], spec["max"]) == (-20.0, 20.0)
    for name in ("PM LoRA Merger", "PM LoRA SVD Merger"):
        info = server.object_info(name)["input"]
        assert info["optional"]["seed"][1]["control_after_generate"] is False
        assert {"auto", "cpu", "cuda"} <= set(info["required"]["device"][0])


def test_loading_and_saving_keeps_every_tensor(server: Server):
    written = run_and_save(server, {"a": loader("a.safetensors")}, "a", "same")
    assert written == server.loras / "same.safetensors"
    assert f"LoRA Power-Merger: Loaded a: {len(load(written).modules)} modules, for SD 1.5." in server.log()
    assert_same_tensors(load_file(written), load_file(server.loras / "a.safetensors"))


def assert_same_tensors(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert list(first) == list(second) or set(first) == set(second)
    for key, tensor in second.items():
        assert first[key].dtype == tensor.dtype, key
        assert torch.equal(first[key], tensor), key


@pytest.mark.parametrize("mode", ["concat", "add", "ties", "dare_linear", "dare_ties", "magnitude_prune"])
def test_merge_node_writes_the_cores_merge(server: Server, mode: str):
    nodes = {
        "a": loader("a.safetensors", 0.8, 0.5),
        "b": loader("b.safetensors", -0.4, 1.0),
        "m": merger("a", "b", mode=mode, density=0.5, seed=7),
    }
    written = run_and_save(server, nodes, "m", f"core/{mode}")
    loras = [load_named(server, "a").with_strengths(0.8, 0.5), load_named(server, "b").with_strengths(-0.4, 1.0)]
    assert_same_file(written, merge_factors(loras, mode, 0.5, 7))


@pytest.mark.parametrize("mode", ["add_svd", "ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd"])
def test_svd_merge_node_writes_the_cores_merge(server: Server, mode: str):
    nodes = {
        "a": loader("a.safetensors", 0.8, 0.5),
        "b": loader("b.safetensors", -0.4, 1.0),
        "m": svd_merger("a", "b", mode=mode, density=0.5, seed=7, rank=6),
    }
    written = run_and_save(server, nodes, "m", f"core/{mode}")
    loras = [load_named(server, "a").with_strengths(0.8, 0.5), load_named(server, "b").with_strengths(-0.4, 1.0)]
    assert_same_file(written, merge_deltas(loras, mode, 0.5, 6, 0, 7), exact=mode == "add_svd")


def load_named(server: Server, name: str) -> Lora:
    return load(server.loras / f"{name}.safetensors")


def assert_same_file(written: Path, expected: Lora, exact: bool = True) -> None:
    """The same names, dtypes and metadata, and deltas within the tolerance between processes."""
    got, want = load(written), expected.baked()
    assert list(got.modules) == list(want.modules)
    assert written.stat().st_size > 0
    for name, module in want.modules.items():
        other = got.modules[name]
        assert other.up.dtype == module.up.dtype and other.alpha == module.alpha * module.block_weight
        (up, down), (other_up, other_down) = module.factors(), other.factors()
        delta = up @ down
        error = torch.linalg.norm(other_up @ other_down - delta)
        assert float(error) <= (1e-6 if exact else 1e-3) * float(torch.linalg.norm(delta)) + 1e-12, name
    assert {**want.metadata, KEY: got.metadata[KEY]}.items() <= got.metadata.items()


def test_concat_gives_the_same_picture_as_chained_loaders(server: Server):
    strengths = [("a.safetensors", 0.9, 0.7), ("b.safetensors", -0.6, 0.5)]
    nodes, model, clip = lora_chain(strengths)
    stacked = sampled(server, {**checkpoint(), **nodes, **picture(model, clip)})
    plain = sampled(server, {**checkpoint(), **picture()})
    assert np.abs(stacked - plain).mean() > 2
    ours = {
        "a": loader(*strengths[0]),
        "b": loader(*strengths[1]),
        "m": merger("a", "b"),
        "apply": apply("m"),
    }
    assert same_picture(stacked, sampled(server, {**checkpoint(), **ours, **picture(["apply", 0], ["apply", 1])}))


def test_a_merged_file_gives_the_same_picture_in_comfyuis_loader(server: Server):
    strengths = [("a.safetensors", 0.9, 0.7), ("b.safetensors", -0.6, 0.5)]
    nodes, model, clip = lora_chain(strengths)
    stacked = sampled(server, {**checkpoint(), **nodes, **picture(model, clip)})
    merged = {
        "a": loader(*strengths[0]),
        "b": loader(*strengths[1]),
        "m": svd_merger("a", "b", rank=12),  # the sum of the ranks: nothing is truncated
    }
    written = run_and_save(server, merged, "m", "for_the_core_loader")
    before = len(server.log())
    nodes, model, clip = lora_chain([(written.name, 1.0, 1.0)])
    assert same_picture(stacked, sampled(server, {**checkpoint(), **nodes, **picture(model, clip)}))
    assert "not loaded" not in server.log()[before:]


def test_apply_scales_strengths_and_works_without_clip(server: Server):
    nodes, model, clip = lora_chain([("a.safetensors", 0.35, 0.0)])
    wanted = sampled(server, {**checkpoint(), **nodes, **picture(model, clip)})
    inputs = node("PM LoRA Apply", model=MODEL, lora=["a", 0], strength_model=0.5)
    ours = {"a": loader("a.safetensors", 0.7), "apply": inputs}
    assert same_picture(wanted, sampled(server, {**checkpoint(), **ours, **picture(["apply", 0], CLIP)}))


def test_strength_node_multiplies_and_negative_values_subtract(server: Server):
    nodes, model, clip = lora_chain([("b.safetensors", -0.5, -0.3)])
    wanted = sampled(server, {**checkpoint(), **nodes, **picture(model, clip)})
    ours = {
        "b": loader("b.safetensors", 0.5, 0.6),
        "s": node("PM LoRA Strength", lora=["b", 0], strength_model=-1.0, strength_clip=-0.5),
        "apply": apply("s"),
    }
    assert same_picture(wanted, sampled(server, {**checkpoint(), **ours, **picture(["apply", 0], ["apply", 1])}))


def test_merged_and_resized_loras_can_be_merged_and_applied_again(server: Server):
    nodes = {
        "a": loader("a.safetensors", 0.5, 0.5, lbw="%default=1,in=0.5"),
        "b": loader("b.safetensors", 0.8, 0.8),
        "m": merger("a", "b", mode="ties", density=0.7),
        "s": node("PM LoRA Strength", lora=["m", 0], strength_model=0.7, strength_clip=0.7),
        "v": svd_merger("s", "a", mode="dare_ties_svd", density=0.8, rank=5),
        "r": node("PM LoRA Resizer", lora=["v", 0], new_rank=3, device="cpu", dtype="bfloat16"),
        "c": merger("r", "s", "v"),
        "m2": merger("c", mode="magnitude_prune", density=0.9),
        "apply": apply("m2"),
    }
    written = run_and_save(server, nodes | {"x": checkpoint()["checkpoint"]}, "m2", "deep")
    assert len(load(written).modules) == len(load_named(server, "a").modules)
    image = sampled(server, {**checkpoint(), **nodes, **picture(["apply", 0], ["apply", 1])})
    assert image.std() > 5


def test_resize_keeps_strengths_and_truncates(server: Server):
    nodes = {
        "a": loader("a.safetensors", 0.5, -0.25),
        "r": node(
            *["PM LoRA Resizer"],
            **{"lora": ["a", 0], "new_rank": 8, "device": "cpu", "dtype": "float32"},
            **{"conv_rank": 2, "method": "sv_fro", "method_value": 0.8},
        ),
    }
    written = run_and_save(server, nodes, "r", "resized")
    wanted = resize(load_named(server, "a").with_strengths(0.5, -0.25), 8, 2, "sv_fro", 0.8)
    assert_same_file(written, wanted)
    assert max(module.rank for module in wanted.modules.values()) < 8


def test_blocks_with_weight_0_are_removed(server: Server):
    written = run_and_save(server, {"a": loader("a.safetensors", lbw="SD-OUT")}, "a", "out_blocks")
    names = [name for name in load(written).modules if "lora_te" not in name]
    assert names and all("up_blocks" in name for name in names)


def test_user_presets_are_used_and_reloaded_when_changed(server: Server):
    user = server.base / "user" / "default" / "lora_power_merger" / "block_presets.user.txt"
    user.parent.mkdir(parents=True, exist_ok=True)
    prompt = {"a": loader("a.safetensors", lbw="MY-OWN")}
    try:
        scales = []
        for weight in (0.5, 0.25):
            user.write_text(f"MY-OWN:%default={weight}\n", "utf-8")
            lbw = server.object_info("PM LoRA Loader")["input"]["required"]["lbw"][1]
            assert lbw["presets"]["MY-OWN"] == f"%default={weight}" and "SD-OUT" in lbw["presets"]
            modules = load(run_and_save(server, prompt, "a", "out_user_presets")).modules.values()
            scales.append({module.scale for module in modules})
    finally:
        user.unlink()
    (unweighted,) = {module.scale for module in load(server.loras / "a.safetensors").modules.values()}
    assert scales == [{unweighted * 0.5}, {unweighted * 0.25}]
    with pytest.raises(NodeError, match="there is no preset 'MY-OWN'"):
        server.run({**prompt, "save": node("PM LoRA Save", lora=["a", 0], file_name="x", extension="safetensors")})


def test_save_appends_a_number_and_overwrites_only_on_request(server: Server):
    first = run_and_save(server, {"a": loader("a.safetensors", 1.0)}, "a", "kept/style")
    content = first.read_bytes()
    second = run_and_save(server, {"a": loader("a.safetensors", 0.5)}, "a", "kept/style")
    assert second.name == "style_00002.safetensors" and first.read_bytes() == content
    third = run_and_save(server, {"a": loader("a.safetensors", 0.25)}, "a", "kept/style", overwrite=True)
    assert third == first and first.read_bytes() != content
    assert sorted(file.name for file in first.parent.iterdir()) == ["style.safetensors", "style_00002.safetensors"]
    listed = server.object_info("PM LoRA Loader")["input"]["required"]["lora_name"][0]
    assert os.path.join("kept", "style_00002.safetensors") in listed


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_save_dtype_applies_to_factors_and_alpha_stays_float32(server: Server, dtype: str):
    written = run_and_save(server, {"b": loader("b.safetensors", 0.3)}, "b", f"as_{dtype}", save_dtype=dtype)
    for key, tensor in load_file(written).items():
        assert tensor.dtype == (torch.float32 if key.endswith(".alpha") else getattr(torch, dtype)), key


@pytest.mark.parametrize(
    ("style", "prefixes"),
    [
        ("as first input", {"lora_unet_", "lora_te_"}),
        ("kohya", {"lora_unet_", "lora_te_"}),
        ("PEFT / diffusers", {"unet.", "text_encoder."}),
    ],
)
def test_every_save_format_gives_the_same_picture(server: Server, style: str, prefixes: set[str]):
    """Not ComfyUI's own style: the small model has fewer layers per block than SD 1.5, so its block numbers differ."""
    nodes, model, clip = lora_chain([("a.safetensors", 0.8, 0.8)])
    wanted = sampled(server, {**checkpoint(), **nodes, **picture(model, clip)})
    name = f"names_{sorted(prefixes)[0].strip('._')}_{style[:2]}"
    written = run_and_save(server, {"a": loader("a.safetensors", 0.8, 0.8)}, "a", name, save_format=style)
    assert {
        key[: len(prefix)] for key in load_file(written) for prefix in prefixes if key.startswith(prefix)
    } == prefixes
    ours = {"a": loader(written.name), "apply": apply("a")}
    assert same_picture(wanted, sampled(server, {**checkpoint(), **ours, **picture(["apply", 0], ["apply", 1])}))
    if "PEFT" not in style:  # ComfyUI's key map lacks some of diffusers' dotted names
        before = len(server.log())
        nodes, model, clip = lora_chain([(written.name, 1.0, 1.0)])
        assert same_picture(wanted, sampled(server, {**checkpoint(), **nodes, **picture(model, clip)}))
        assert "not loaded" not in server.log()[before:]


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/out", "C:\\out", "..\\out", "con", "a:b", ""])
def test_save_refuses_names_outside_the_loras_folder(server: Server, name: str):
    before = files_under(server.base)
    with pytest.raises(NodeError, match="file name") as caught:
        server.run({"a": loader("a.safetensors"), "save": saver("a", name)})
    assert caught.value.node_type == "PM LoRA Save"
    assert files_under(server.base) == before


def files_under(folder: Path) -> set[Path]:
    return {Path(root, name) for root, _, names in os.walk(folder) for name in names if "server" not in name}


def test_an_empty_merge_changes_nothing_and_cannot_be_saved(server: Server):
    nodes = {"a": loader("a.safetensors", 0.0, 0.0), "m": merger("a"), "apply": apply("m")}
    plain = sampled(server, {**checkpoint(), **picture()})
    assert same_picture(plain, sampled(server, {**checkpoint(), **nodes, **picture(["apply", 0], ["apply", 1])}))
    with pytest.raises(NodeError, match="no weights to save"):
        server.run({**nodes, **checkpoint(), "save": saver("m", "nothing")})
    assert not (server.loras / "nothing.safetensors").exists()


def test_a_truncated_file_fails_at_its_loader_and_the_queue_continues(server: Server):
    whole = (server.loras / "a.safetensors").read_bytes()
    (server.loras / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NodeError, match="truncated.* is not a complete safetensors file") as caught:
        nodes = {"a": loader("truncated.safetensors"), "b": loader("b.safetensors"), "m": merger("a", "b")}
        server.run({**nodes, "s": saver("m", "x")})
    assert caught.value.node_type == "PM LoRA Loader" and caught.value.node_id == "a"
    assert not (server.loras / "x.safetensors").exists()
    run_and_save(server, {"b": loader("b.safetensors", 0.9)}, "b", "after_the_error")


def test_unsupported_adapters_are_refused_by_name(server: Server):
    tensors = load_file(server.loras / "a.safetensors")
    tensors["lora_unet_mid_block_attentions_0_proj_in.oft_diag"] = torch.zeros(2, 4, 4)
    save_file(tensors, server.loras / "unsupported.safetensors")
    with pytest.raises(NodeError, match="OFT with a diagonal module lora_unet_mid_block_attentions_0_proj_in"):
        server.run({"a": loader("unsupported.safetensors"), "save": saver("a", "unsupported_out")})


def test_loras_for_different_models_are_refused(server: Server):
    other = load_file(server.loras / "a.safetensors")
    name = next(key for key in other if key.endswith("attn2_to_k.lora_down.weight"))
    other[name] = torch.zeros(other[name].shape[0], 2048)
    save_file(other, server.loras / "other_model.safetensors")
    with pytest.raises(NodeError, match="a and other_model are not for the same model: module .*768.*2048"):
        nodes = {"a": loader("a.safetensors"), "o": loader("other_model.safetensors"), "m": merger("a", "o")}
        server.run({**nodes, "save": saver("m", "mixed")})


def test_a_changed_file_is_reloaded(server: Server):
    path = server.loras / "changing.safetensors"
    write_lora(path, rank=2, seed=5, dtype=torch.float32, modules=small_modules())
    first = run_and_save(server, {"c": loader(path.name)}, "c", "changed")
    write_lora(path, rank=3, seed=6, dtype=torch.float32, modules=small_modules())
    second = run_and_save(server, {"c": loader(path.name)}, "c", "changed")
    assert {module.rank for module in load(first).modules.values()} == {2}
    assert {module.rank for module in load(second).modules.values()} == {3}


def test_a_merge_without_loras_says_what_to_connect(server: Server):
    with pytest.raises(NodeError, match="No LoRA is connected"):
        server.run({"m": merger(), "save": saver("m", "none")})
    with pytest.raises(PromptRejected):
        server.run(
            {"l": node("EmptyLatentImage", width=64, height=64, batch_size=1), "m": merger("l"), "s": saver("m", "x")}
        )


def test_the_same_merge_gives_the_same_bytes(server: Server, tmp_path: Path):
    nodes = {
        "a": loader("a.safetensors", 0.6),
        "b": loader("b.safetensors", 0.6),
        "m": svd_merger("a", "b", mode="dare_linear_svd", density=0.6, seed=3, rank=4),
    }
    first = run_and_save(server, nodes, "m", "bytes1")
    # another merge in between, and a load that isn't cached
    run_and_save(server, nodes | {"a": loader("a.safetensors", 0.61)}, "m", "bytes_between")
    server.post("/free", {"unload_models": True, "free_memory": True})
    second = run_and_save(server, nodes, "m", "bytes2")
    assert first.read_bytes() == second.read_bytes()
    again = save(load(first), tmp_path / "again.safetensors")
    assert tensors_equal(again, first)
    assert to_state_dict(load(first)).keys() == load_file(first).keys()
