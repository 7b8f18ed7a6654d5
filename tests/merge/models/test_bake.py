"""Baking: sums against float64, and everything else in the file as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load
from lora_pack.merge.models.bake import bake
from lora_pack.tests.support.models import (
    CLIP_G,
    CLIP_L,
    IN_UNET,
    UNET,
    VAE,
    State,
    contents,
    delta_of,
    flux,
    lora_of,
    normal,
    sdxl,
    write,
)
from torch import Tensor

TO_Q = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
DIFFUSERS_TO_K = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
CONV = "lora_unet_input_blocks_0_0"
TE1 = "lora_te1_text_model_encoder_layers_0_mlp_fc1"
TE2 = "lora_te2_text_model_encoder_layers_0_"
MODULES = {
    TO_Q: (16, 16),
    DIFFUSERS_TO_K: (16, 24),
    CONV: (8, 4, 3, 3),
    TE1: (20, 10),
    f"{TE2}self_attn_k_proj": (12, 12),
    f"{TE2}mlp_fc1": (24, 12),
}


def lora(folder: Path, tensors: State, name: str = "a", **metadata: str) -> Lora:
    return load(write(folder / f"{name}.safetensors", tensors, **metadata))


def baked(folder: Path, model: State, *loras: Lora, **options: Any) -> State:
    bake(write(folder / "model.safetensors", model), loras, folder / "out.safetensors", **options)
    return contents(folder / "out.safetensors")[0]


def same_bytes(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def assert_rounded_once(found: Tensor, exact: Tensor) -> None:
    """Equal to the float64 sum rounded to the dtype, but for sums that a float32's rounding moves across a tie."""
    assert (
        found.double()
        .sub(exact.reshape(found.shape))
        .abs()
        .le(torch.finfo(found.dtype).eps * exact.reshape(found.shape).abs() * 0.5001 + 1e-6)
        .all()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_part_of_a_checkpoint_gets_the_sum_and_the_rest_keeps_its_bytes(dtype: torch.dtype, tmp_path: Path):
    model, first, second = sdxl(dtype), lora_of(MODULES), lora_of({TO_Q: (16, 16)}, rank=3, seed=300)
    loras = lora(tmp_path, first).with_strengths(0.8, 0.5), lora(tmp_path, second, "b").with_strengths(-0.3, 1.0)
    found = baked(tmp_path, model, *loras)
    expected = {key: tensor.double() for key, tensor in model.items()}
    places = {
        f"{UNET}{IN_UNET}attn1.to_q.weight": delta_of(first, TO_Q, 0.8) + delta_of(second, TO_Q, -0.3),
        f"{UNET}{IN_UNET}attn2.to_k.weight": delta_of(first, DIFFUSERS_TO_K, 0.8),
        f"{UNET}input_blocks.0.0.weight": delta_of(first, CONV, 0.8).reshape(8, 4, 3, 3),
        f"{CLIP_L}mlp.fc1.weight": delta_of(first, TE1, 0.5),
        f"{CLIP_G}transformer.resblocks.0.mlp.c_fc.weight": delta_of(first, f"{TE2}mlp_fc1", 0.5),
    }
    for key, delta in places.items():
        expected[key] += delta
    # OpenCLIP has q, k and v in one tensor
    expected[f"{CLIP_G}transformer.resblocks.0.attn.in_proj_weight"][12:24] += delta_of(
        first, f"{TE2}self_attn_k_proj", 0.5
    )
    changed = {*places, f"{CLIP_G}transformer.resblocks.0.attn.in_proj_weight"}
    for key, tensor in model.items():
        assert found[key].dtype == dtype
        if key in changed:
            assert_rounded_once(found[key], expected[key])
            assert not torch.equal(found[key], tensor)
        else:
            assert same_bytes(found[key], tensor), key


def test_keys_keep_their_order_and_the_metadata_gets_a_recipe_only(tmp_path: Path):
    metadata = {"modelspec.title": "Base", "modelspec.hash_sha256": "0xold", "sshs_model_hash": "old", "other": "x"}
    path = write(tmp_path / "model.safetensors", sdxl(), **metadata)
    added = lora(tmp_path, lora_of({TO_Q: (16, 16)})).with_strengths(0.8, 0.8)
    written = bake(path, [added], tmp_path / "out.safetensors")
    assert written.changed == 1 and written.notes == ()
    (before, _), (after, found) = contents(path), contents(written.path)
    assert list(before) == list(after)
    recipe = json.loads(found.pop("lora_power_merger"))
    assert found.pop("modelspec.hash_sha256") not in ("0xold", "")
    assert found == {"modelspec.title": "Base", "other": "x"}
    assert recipe["operation"] == "bake"
    assert [entry["name"] for entry in recipe["inputs"]] == ["model", "a"]
    assert recipe["inputs"][0]["size"] == path.stat().st_size
    assert recipe["inputs"][1]["strength_model"] == 0.8
    assert str(tmp_path) not in json.dumps(recipe)


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path):
    path, added = write(tmp_path / "model.safetensors", sdxl()), lora(tmp_path, lora_of(MODULES))
    written = [bake(path, [added], tmp_path / f"out{n}.safetensors").path.read_bytes() for n in (1, 2)]
    assert written[0] == written[1]


def test_rows_of_fused_and_swapped_weights_are_found_in_a_diffusion_model(tmp_path: Path):
    block, final = "transformer.transformer_blocks.0.attn.", "transformer.norm_out.linear"
    modules = {f"{block}to_k": (8, 8), "transformer.single_transformer_blocks.0.proj_mlp": (32, 8), final: (16, 8)}
    model, tensors = flux(torch.float32), lora_of(modules)
    found = baked(tmp_path, model, lora(tmp_path, tensors))
    expected = {key: tensor.double() for key, tensor in model.items()}
    expected["double_blocks.0.img_attn.qkv.weight"][8:16] += delta_of(tensors, f"{block}to_k")
    expected["single_blocks.0.linear1.weight"][24:] += delta_of(
        tensors, "transformer.single_transformer_blocks.0.proj_mlp"
    )
    expected["final_layer.adaLN_modulation.1.weight"] += delta_of(tensors, final).roll(8, 0)
    for key, exact in expected.items():
        assert_rounded_once(found[key], exact)


def test_a_model_in_diffusers_names_gets_its_rows_of_a_fused_module(tmp_path: Path):
    names = ["transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_k", "transformer_blocks.18.attn.to_v"]
    names += ["single_transformer_blocks.37.attn.to_q", "single_transformer_blocks.0.proj_mlp"]
    model = {f"{name}.weight": normal(i, 8, 8, dtype=torch.float32) for i, name in enumerate(names)}
    tensors = lora_of({"lora_unet_double_blocks_0_img_attn_qkv": (24, 8)})
    found = baked(tmp_path, model, lora(tmp_path, tensors))
    delta = delta_of(tensors, "lora_unet_double_blocks_0_img_attn_qkv")
    assert_rounded_once(found[f"{names[0]}.weight"], model[f"{names[0]}.weight"].double() + delta[:8])
    assert_rounded_once(found[f"{names[1]}.weight"], model[f"{names[1]}.weight"].double() + delta[8:16])
    assert same_bytes(found[f"{names[2]}.weight"], model[f"{names[2]}.weight"])


def test_openclips_projection_is_stored_transposed(tmp_path: Path):
    model, tensors = sdxl(torch.float32), lora_of({"lora_te2_text_projection": (15, 12), TO_Q: (16, 16)})
    found = baked(tmp_path, model, lora(tmp_path, tensors))[f"{CLIP_G}text_projection"]
    assert_rounded_once(
        found, model[f"{CLIP_G}text_projection"].double() + delta_of(tensors, "lora_te2_text_projection").T
    )


def test_differences_of_weights_norms_and_biases_and_replacements_are_added(tmp_path: Path):
    model = sdxl(torch.float32)
    ff, norm = "diffusion_model." + IN_UNET + "ff.net.0.proj", "diffusion_model." + IN_UNET + "norm1"
    tensors = {
        f"{ff}.diff": normal(1, 64, 16, dtype=torch.float32),
        f"{ff}.diff_b": normal(2, 64, dtype=torch.float32),
        f"{norm}.diff": normal(3, 16, dtype=torch.float32),
        "diffusion_model.label_emb.0.0.set_weight": normal(4, 16, 12, dtype=torch.float32),
    }
    found = baked(tmp_path, model, lora(tmp_path, tensors).with_strengths(0.5, 1))
    for key, name in (
        (f"{ff}.weight", f"{ff}.diff"),
        (f"{ff}.bias", f"{ff}.diff_b"),
        (f"{norm}.weight", f"{norm}.diff"),
    ):
        assert_rounded_once(found[f"model.{key}"], model[f"model.{key}"].double() + 0.5 * tensors[name].double())
    assert torch.equal(found[f"{UNET}label_emb.0.0.weight"], tensors["diffusion_model.label_emb.0.0.set_weight"])


def test_a_norm_whose_parameter_is_called_scale_is_found(tmp_path: Path):
    model = flux(torch.float32)
    tensors = {"diffusion_model.double_blocks.0.img_attn.norm.query_norm.diff": torch.ones(4)}
    key = "double_blocks.0.img_attn.norm.query_norm.scale"
    assert_rounded_once(baked(tmp_path, model, lora(tmp_path, tensors))[key], model[key].double() + 1)


def test_modules_that_the_file_lacks_are_named_and_the_others_added(tmp_path: Path):
    path = write(tmp_path / "model.safetensors", flux())
    tensors = lora_of({"lora_unet_img_in": (8, 4), TE1: (20, 10)})
    written = bake(path, [lora(tmp_path, tensors)], tmp_path / "out.safetensors")
    assert written.changed == 1
    assert written.notes == (
        f"1 of 2 modules change weights that model.safetensors doesn't have, and were left out: a: {TE1}.",
    )


def refusal(folder: Path, path: Path, *loras: Lora, **options: Any) -> str:
    """The message of a refusal, after which the folder is as it was."""
    before = sorted(folder.iterdir())
    with pytest.raises(LoraError) as caught:
        bake(path, loras, folder / "out.safetensors", **options)
    assert sorted(folder.iterdir()) == before
    return str(caught.value)


def test_nothing_is_written_if_the_file_has_none_of_the_weights(tmp_path: Path):
    path = write(tmp_path / "model.safetensors", flux())
    text = refusal(tmp_path, path, lora(tmp_path, lora_of({TE1: (20, 10)})))
    assert "has none of the 1 weights" in text and TE1 in text
    assert "strengths are all 0" in refusal(
        tmp_path, path, lora(tmp_path, lora_of({TE1: (20, 10)})).with_strengths(0, 0)
    )


def test_a_lora_for_another_model_or_shape_is_refused_by_name(tmp_path: Path):
    path = write(tmp_path / "model.safetensors", flux())
    other = lora_of({"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k": (640, 2048)})
    text = refusal(tmp_path, path, lora(tmp_path, other))
    assert "a is for SDXL, but model.safetensors is Flux" in text
    text = refusal(tmp_path, path, lora(tmp_path, lora_of({"lora_unet_img_in": (8, 5)})))
    assert (
        "lora_unet_img_in changes a weight of shape 8x5" in text
        and "img_in.weight in model.safetensors has shape 8x4" in text
    )


def test_weight_dependent_and_widening_modules_are_refused_with_a_way_out(tmp_path: Path):
    path = write(tmp_path / "model.safetensors", sdxl())
    dora = lora_of({TO_Q: (16, 16)}) | {f"{TO_Q}.dora_scale": torch.ones(16, 1)}
    assert "depends on the model's weight" in refusal(tmp_path, path, lora(tmp_path, dora))
    wide = lora_of({"lora_unet_img_in": (8, 8)}) | {"lora_unet_img_in.reshape_weight": torch.tensor([8, 8])}
    path = write(tmp_path / "flux.safetensors", flux())
    assert "widens its layer to 8x8" in refusal(tmp_path, path, lora(tmp_path, wide, "b"))


def test_bad_files_are_refused(tmp_path: Path):
    good, added = write(tmp_path / "model.safetensors", sdxl()), lora(tmp_path, lora_of({TO_Q: (16, 16)}))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-10])
    assert "not a complete safetensors file" in refusal(tmp_path, cut, added)
    assert "There is no file" in refusal(tmp_path, tmp_path / "gone.safetensors", added)
    assert "is a LoRA" in refusal(tmp_path, tmp_path / "a.safetensors", added)
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF")
    assert "model.gguf" in refusal(tmp_path, gguf, added)


def test_a_full_disk_is_noticed_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, added = write(tmp_path / "model.safetensors", sdxl()), lora(tmp_path, lora_of({TO_Q: (16, 16)}))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    assert "left. Free some space" in refusal(tmp_path, path, added)


def test_a_write_that_fails_halfway_leaves_nothing(tmp_path: Path):
    path, added = write(tmp_path / "model.safetensors", sdxl()), lora(tmp_path, lora_of({TO_Q: (16, 16)}))

    def fail(done: int, total: int) -> None:
        if done > total / 2:
            raise OSError(28, "No space left on device")

    assert "No space left on device" in refusal(tmp_path, path, added, progress=fail)


def test_an_existing_file_is_kept_unless_told(tmp_path: Path):
    path, added = write(tmp_path / "model.safetensors", sdxl()), lora(tmp_path, lora_of({TO_Q: (16, 16)}))
    output = tmp_path / "out.safetensors"
    output.write_bytes(b"mine")
    assert bake(path, [added], output).path.name == "out_00002.safetensors"
    assert output.read_bytes() == b"mine"
    assert bake(path, [added], output, overwrite=True).path == output
    assert output.stat().st_size > 4


def test_dtype_converts_the_weights_but_not_the_vae(tmp_path: Path):
    model = sdxl(torch.float32)
    found = baked(tmp_path, model, lora(tmp_path, lora_of({TO_Q: (16, 16)})), dtype=torch.float16)
    assert found[VAE].dtype == torch.float32
    assert {tensor.dtype for key, tensor in found.items() if key != VAE} == {torch.float16}
    assert torch.equal(found[f"{CLIP_L}mlp.fc1.weight"], model[f"{CLIP_L}mlp.fc1.weight"].half())


def test_values_too_large_for_the_dtype_are_refused(tmp_path: Path):
    path = write(tmp_path / "model.safetensors", sdxl())
    added = lora(tmp_path, lora_of({TO_Q: (16, 16)})).with_strengths(1e6, 1)
    assert "too large for float16" in refusal(tmp_path, path, added)


def test_diffusers_names_count_by_the_levels_and_resnets_of_the_file(tmp_path: Path):
    """A U-Net like SD 1.5's with one resnet a level: up_blocks.2 is output_blocks.4 and 5, not 6 to 8."""
    attended = ("input_blocks.1", "input_blocks.3", *(f"output_blocks.{n}" for n in (4, 5, 6, 7)))
    shapes = {f"input_blocks.{n}.0.out_layers.3.weight": (8, 8, 3, 3) for n in (1, 3, 5, 7)}
    shapes |= {f"input_blocks.{n}.0.op.weight": (8, 8, 3, 3) for n in (2, 4, 6)}
    shapes |= {f"output_blocks.{n}.0.out_layers.3.weight": (8, 8, 3, 3) for n in range(8)}
    shapes |= {f"{block}.1.proj_in.weight": (8, 8, 1, 1) for block in attended}
    shapes |= {f"{block}.1.transformer_blocks.0.norm1.weight": (8,) for block in attended}
    model = {f"{UNET}{path}": normal(i, *shape, dtype=torch.float32) for i, (path, shape) in enumerate(shapes.items())}
    name = "lora_unet_up_blocks_2_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = lora_of({name: (640, 768)})
    key = f"{UNET}output_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    model[key] = normal(99, 640, 768, dtype=torch.float32)
    found = baked(tmp_path, model, lora(tmp_path, tensors))
    assert [other for other in model if not torch.equal(model[other], found[other])] == [key]
    assert_rounded_once(found[key], model[key].double() + delta_of(tensors, name))
