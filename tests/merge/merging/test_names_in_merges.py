"""Names of one weight that differ between the LoRAs of a merge, and notes on names that are unknown or ambiguous."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from lora_pack.merge.adapters.architecture import architecture_of
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.compute.context import CPU
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save, tensors_equal
from lora_pack.merge.formats import from_state_dict, to_state_dict
from lora_pack.merge.merging.key_resolver import ModelNames
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.names.recognition import architecture_named
from lora_pack.merge.replay import replay
from torch import Tensor

State = dict[str, Tensor]
Size = int | tuple[int, int]


def state(sizes: Mapping[str, Size], seed: int, rank: int = 1) -> State:
    noise = torch.Generator().manual_seed(seed)
    tensors: State = {}
    for name, size in sizes.items():
        rows, columns = (size, size) if isinstance(size, int) else size
        tensors[f"{name}.lora_up.weight"] = torch.randn(rows, rank, generator=noise)
        tensors[f"{name}.lora_down.weight"] = torch.randn(rank, columns, generator=noise)
    return tensors


def lora(sizes: Mapping[str, Size], seed: int, name: str) -> Lora:
    return from_state_dict(state(sizes, seed), name)


def acts(tensors: State, name: str) -> Tensor:
    """A module's delta times some random inputs."""
    up, down = tensors[f"{name}.lora_up.weight"].double(), tensors[f"{name}.lora_down.weight"].double()
    alpha = float(tensors.get(f"{name}.alpha", torch.tensor(float(down.shape[0]))))
    inputs = torch.randn(down.shape[1], 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return alpha / down.shape[0] * up @ (down @ inputs)


def close(got: Tensor, want: Tensor) -> bool:
    return bool(torch.linalg.norm(got - want) <= 1e-5 * torch.linalg.norm(want))


def modules(tensors: State) -> set[str]:
    return {key.removesuffix(".lora_up.weight") for key in tensors if key.endswith(".lora_up.weight")}


QKV = [f"lora_transformer_transformer_blocks_{n}_attn_to_{part}" for n in range(20) for part in "qkv"]
HUNYUAN_PARTS: dict[str, Size] = dict.fromkeys(QKV, 3072)
HUNYUAN_WHOLE: dict[str, Size] = {"diffusion_model.double_blocks.0.img_attn.qkv": (9216, 3072)}
FUSED = [f"lora_unet_double_blocks_{n}_img_attn_qkv" for n in range(20)]


@pytest.mark.parametrize("mode", ["concat", "add_svd"])
def test_rows_without_a_comfyui_name_are_merged_into_the_fused_weight(mode: str):
    a, b = lora(HUNYUAN_PARTS, 1, "a"), lora(HUNYUAN_WHOLE, 2, "b")
    merged = merge_factors([a, b]) if mode == "concat" else merge_deltas([a, b], rank=0)
    assert {module.name for module in merged.modules.values()} == set(FUSED)
    if mode == "concat":
        written = to_state_dict(merged)
        first, second = to_state_dict(a), to_state_dict(b)
        whole = acts(first, FUSED[0]) + acts(second, next(iter(HUNYUAN_WHOLE)))
        assert close(acts(written, FUSED[0]), whole)
        assert close(acts(written, FUSED[7]), acts(first, FUSED[7]))


def test_saving_fuses_rows_without_a_comfyui_name(tmp_path: Path):
    parts = state(HUNYUAN_PARTS, 1)
    written = to_state_dict(load(save(from_state_dict(parts, "a"), tmp_path / "a.safetensors")))
    assert modules(written) == set(FUSED)
    for number in (0, 19):
        rows = [acts(parts, name) for name in QKV[3 * number : 3 * number + 3]]
        assert close(acts(written, FUSED[number]), torch.cat(rows))


def test_a_single_part_keeps_its_rows_when_it_is_saved_as_the_fused_weight():
    only_k = {f"lora_transformer_transformer_blocks_{n}_attn_to_k": 3072 for n in range(20)}
    parts = state(only_k, 3)
    fused = acts(to_state_dict(from_state_dict(parts, "k")), FUSED[4])
    want = torch.zeros_like(fused)
    want[3072:6144] = acts(parts, "lora_transformer_transformer_blocks_4_attn_to_k")
    assert close(fused, want)


def test_a_result_is_saved_with_the_names_of_the_architecture_that_the_merge_found():
    unknown: dict[str, Size] = {f"lora_unet_imagined_blocks_{n}_mixer": 64 for n in range(9)}
    own = "diffusion_model.blocks.0.self_attn.q"
    merged = merge_factors([lora(unknown, 1, "unknown"), lora({own: 5120}, 2, "wan")])
    assert own in modules(to_state_dict(merged))
    theirs = "transformer.blocks.0.attn1.to_q"
    merged = merge_factors([lora(unknown, 1, "unknown"), lora({theirs: 5120}, 2, "wan")])
    assert "lora_unet_blocks_0_self_attn_q" in modules(to_state_dict(merged))
    assert getattr(architecture_of(merged), "name", None) == "Wan 2.1/2.2 14B"


def hunyuan_15() -> dict[str, Size]:
    parts = ("attn_q", "attn_k", "attn_v", "attn_proj")
    names: dict[str, Size] = {
        f"lora_unet_double_blocks_{n}_{side}_{part}": 2048 for n in (0, 1) for side in ("img", "txt") for part in parts
    }
    return names | {
        f"lora_unet_double_blocks_{n}_{side}_mlp_fc1": (8192, 2048) for n in (0, 1) for side in ("img", "txt")
    }


# the names in the two inputs, and how many modules the result has
NAMES: dict[str, tuple[dict[str, Size], dict[str, Size], int]] = {
    "HunyuanVideo 1.5's original names": (
        hunyuan_15(),
        {
            "diffusion_model.double_blocks.0.img_attn.qkv": (6144, 2048),
            "diffusion_model.double_blocks.0.img_mlp.0": (8192, 2048),
        },
        12,
    ),
    "LTX 2's connectors": (
        {"diffusion_model.connectors.audio_connector.transformer_blocks.0.attn1.to_k": 3840},
        {"diffusion_model.audio_embeddings_connector.transformer_1d_blocks.0.attn1.to_k": 3840},
        1,
    ),
    "Krea 2": (
        {"diffusion_model.blocks.0.attn.wq": 6144},
        {"transformer.transformer_blocks.0.attn.to_q": 6144},
        1,
    ),
    "ACE-Step 1.5": (
        {"lycoris_layers_0_self_attn_q_proj": 2048},
        {"diffusion_model.decoder.layers.0.self_attn.q_proj": 2048},
        1,
    ),
    "AuraFlow's single blocks": (
        {f"transformer.single_transformer_blocks.0.attn.to_{part}": 3072 for part in "qkv"},
        {"lora_unet_single_layers_0_attn_w1q": 3072},
        3,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("a", "b", "count"), NAMES.values(), ids=NAMES.keys())
def test_names_of_one_weight_are_merged_in_either_order(a: Mapping[str, Size], b: Mapping[str, Size], count: int):
    first, second = lora(a, 1, "a"), lora(b, 2, "b")
    merged = merge_factors([first, second])
    assert len(merged.modules) == count
    reversed_order = merge_factors([second, first])
    assert len(reversed_order.modules) == count
    results = (merged, reversed_order)
    squares = [sum(float(m.dense().square().sum()) for m in one.modules.values()) for one in results]
    assert squares[0] == pytest.approx(squares[1], rel=1e-4)
    assert not merged.notes


def test_a_bare_parameter_keeps_the_only_name_that_comfyui_maps():
    gamma = "diffusion_model.down_blocks.0.0.channelwise.2.gamma"
    written = to_state_dict(from_state_dict({f"{gamma}.diff": torch.ones(1, 1, 1, 8)}, "cascade"))
    assert set(written) == {f"{gamma}.diff"}


def test_an_unknown_prefix_is_replaced_if_the_rest_is_certain(caplog: pytest.LogCaptureFixture):
    odd = {f"Hunyuan_video_I2V_lora_double_blocks_{n}_img_attn_qkv": (9216, 3072) for n in range(20)}
    with caplog.at_level(logging.WARNING):
        read = lora(odd, 1, "i2v")
    assert {m.name for m in read.modules.values()} == set(FUSED)
    assert "Hunyuan_video_I2V_lora_double_blocks_0_img_attn_qkv as lora_unet_double_blocks_0" in caplog.text
    assert len(merge_factors([read, lora(HUNYUAN_WHOLE, 2, "b")]).modules) == 20


def test_separators_at_the_end_of_a_name_are_removed_if_the_rest_is_known():
    read = lora({f"{name}_": (9216, 3072) for name in FUSED}, 1, "a")
    assert {m.name for m in read.modules.values()} == set(FUSED)
    mixed = lora({**dict.fromkeys(FUSED[:19], (9216, 3072)), FUSED[19] + "_": (9216, 3072)}, 1, "a")
    assert {m.name for m in mixed.modules.values()} == set(FUSED)


# ---- notes on unknown and ambiguous names

UNKNOWN: dict[str, Size] = {f"net.imagined_blocks.{n}.mixer": 64 for n in range(4)}


def test_a_merge_notes_unknown_names(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        merged = merge_factors([lora(UNKNOWN, 1, "a"), lora(UNKNOWN, 2, "b")])
    assert [note.split(":")[0] for note in merged.notes] == ["a", "b"]
    assert "4 of 4 module names are unknown (net.imagined_blocks.0.mixer and 3 more)" in merged.notes[0]
    assert "Connect the model" in merged.notes[0] and merged.notes[0] in caplog.text


def test_a_merge_notes_loras_without_a_common_weight():
    flux = {f"lora_unet_double_blocks_{n}_img_attn_qkv": (9216, 3072) for n in range(19)}
    single = {f"lora_unet_single_blocks_{n}_linear1": (21504, 3072) for n in range(38)}
    apart = merge_factors([lora(flux, 1, "a"), lora(single, 2, "b")])
    assert any(note.startswith("a and b have no weight in common") for note in apart.notes)
    together = merge_factors([lora(flux, 1, "a"), lora(flux, 2, "b")])
    assert not together.notes


def test_loras_that_take_turns_by_their_strengths_do_have_weights_in_common():
    """One gives its text encoder and the other its model: their names leave nothing to ask a model for."""
    model: dict[str, Size] = {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": 320}
    both: dict[str, Size] = model | {"lora_te_text_model_encoder_layers_0_mlp_fc1": (3072, 768)}
    a, b = lora(both, 1, "a").with_strengths(0, 1), lora(both, 2, "b").with_strengths(1, 0)
    assert not merge_factors([a, b]).notes
    encoder = {name: size for name, size in both.items() if name not in model}
    apart = merge_factors([lora(encoder, 1, "a"), lora(model, 2, "b")])
    assert any(note.startswith("a and b have no weight in common") for note in apart.notes)


def test_a_merge_of_known_names_has_no_notes():
    encoder = {"lora_te_text_model_encoder_layers_0_mlp_fc1": (3072, 768)}
    unet = {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (320, 768)}
    assert not merge_factors([lora(unet | encoder, 1, "a"), lora(unet, 2, "b")]).notes
    assert not merge_factors([lora(encoder, 1, "a"), lora(encoder, 2, "b")]).notes


def test_a_merge_notes_names_that_two_families_resolve_differently():
    ambiguous = {"transformer.single_transformer_blocks.0.attn.to_q": 3072}
    merged = merge_factors([lora(ambiguous, 1, "a"), lora(ambiguous, 2, "b")])
    assert any("could be for" in note and "AuraFlow" in note and "Flux" in note for note in merged.notes)


def test_the_connected_model_decides_between_families(tmp_path: Path):
    names = {"transformer.single_transformer_blocks.0.attn.to_q": 3072}
    a, b = lora(names, 1, "a"), lora(names, 2, "b")
    saved = [save(one, tmp_path / f"{one.name}.safetensors") for one in (a, b)]
    model = ModelNames(architecture_named("AuraFlow"), lambda name: None)
    merged = merge_factors([load(path) for path in saved], model=model)
    assert architecture_of(merged) is architecture_named("AuraFlow") and not merged.notes
    made = save(merged, tmp_path / "made.safetensors")
    again = replay(load(made), tmp_path, tmp_path, CPU)
    assert architecture_of(again.lora) is architecture_named("AuraFlow")
    assert tensors_equal(made, save(again.lora, tmp_path / "again.safetensors"))


def test_the_connected_model_is_ignored_if_the_names_are_certain():
    flux = {f"lora_unet_double_blocks_{n}_img_attn_qkv": (9216, 3072) for n in range(19)}
    model = ModelNames(architecture_named("AuraFlow"), lambda name: None)
    assert architecture_of(merge_factors([lora(flux, 1, "a"), lora(flux, 2, "b")], model=model)) is architecture_named(
        "Flux"
    )


def test_an_unknown_family_is_refused_with_a_list_of_the_known_ones():
    with pytest.raises(LoraError, match="no model family 'Flux 9'. The families are: SD 1.5, SD 2, SDXL"):
        architecture_named("Flux 9")
    assert architecture_named("flux").name == "Flux" and architecture_named("wan").family == "Wan"
