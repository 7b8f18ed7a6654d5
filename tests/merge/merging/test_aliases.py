"""Merging LoRAs that have different names for one weight, or some rows of a fused weight and all of it."""

from __future__ import annotations

import logging
from fractions import Fraction

import pytest
import torch
from lora_pack.merge.adapters.base import Difference, Lora, LoraModule
from lora_pack.merge.errors import LoraError
from lora_pack.merge.formats import from_state_dict, to_state_dict
from lora_pack.merge.merging.key_resolver import ModelNames
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.names import RowRange, Target
from lora_pack.tests.support.makers import down_of, up_of
from torch import Tensor

# Names that trainers and ComfyUI have for one attention layer of SD 1.5, and for one layer of its text encoder.
UNET_NAMES = {
    "kohya": "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",
    "kohya, original paths": "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k",
    "diffusers": "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
    "PEFT": "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
    "attention processors": "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k",
    "ComfyUI": "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k",
    "LyCORIS": "lycoris_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",
}
ENCODER_NAMES = (
    "lora_te_text_model_encoder_layers_0_mlp_fc1",
    "text_encoder.text_model.encoder.layers.0.mlp.fc1",
    "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1",
)
SD15 = {"shape": (320, 768), "encoder": (3072, 768)}
H = 3072  # width of Flux


def module(name: str, rows: int, columns: int, seed: int, rank: int = 2) -> LoraModule:
    noise = torch.Generator().manual_seed(seed)
    return LoraModule.of(
        name, torch.randn(rows, rank, generator=noise), torch.randn(rank, columns, generator=noise), rank * 0.5
    )


def lora(name: str, *modules: LoraModule, strength: float = 1.0) -> Lora:
    return Lora(name, {m.name: m for m in modules}, strength, strength)


def acts(found: LoraModule, seed: int = 9) -> Tensor:
    """The delta times some random inputs, in float64: it stands for the delta, which would be large."""
    inputs = torch.randn(found.down.shape[1], 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return found.scale * up_of(found).flatten(1).double() @ (down_of(found).flatten(1).double() @ inputs)


def close(got: Tensor, want: Tensor) -> bool:
    return bool(torch.linalg.norm(got - want) <= 1e-5 * torch.linalg.norm(want))


def only(merged: Lora) -> LoraModule:
    (found,) = merged.modules.values()
    assert isinstance(found, LoraModule)
    return found


@pytest.mark.parametrize("second", UNET_NAMES)
@pytest.mark.parametrize("first", UNET_NAMES)
def test_names_of_one_unet_weight_are_merged(first: str, second: str):
    a, b = module(UNET_NAMES[first], *SD15["shape"], 1), module(UNET_NAMES[second], *SD15["shape"], 2)
    merged = only(merge_factors([lora("a", a), lora("b", b, strength=-0.5)]))
    assert merged.name == a.name
    assert close(acts(merged), acts(a) - 0.5 * acts(b))


@pytest.mark.parametrize("second", ENCODER_NAMES)
@pytest.mark.parametrize("first", ENCODER_NAMES)
def test_names_of_one_text_encoder_weight_are_merged(first: str, second: str):
    a, b = module(first, *SD15["encoder"], 1), module(second, *SD15["encoder"], 2)
    merged = only(merge_deltas([lora("a", a), lora("b", b)], "add_svd", rank=4))
    assert close(acts(merged), acts(a) + acts(b))


def fused(seed: int) -> list[LoraModule]:
    """qkv of all double blocks of Flux, under kohya's names."""
    return [module(f"lora_unet_double_blocks_{n}_img_attn_qkv", 3 * H, H, seed + n, rank=1) for n in range(19)]


def split(seed: int, parts: str = "qkv") -> list[LoraModule]:
    """The same as to_q, to_k and to_v, under diffusers' names, and a single block for Flux to be recognised."""
    names = [f"transformer.transformer_blocks.{n}.attn.to_{part}" for n in range(19) for part in parts]
    single = module("transformer.single_transformer_blocks.0.attn.to_q", H, H, seed, rank=1)
    return [*(module(name, H, H, seed + n, rank=1) for n, name in enumerate(names, 1)), single]


def rows_of(modules: list[LoraModule], block: int, parts: str = "qkv") -> Tensor:
    """``acts`` of the modules for one block, as rows of the fused weight; zeros if a part is missing."""
    found = {m.name: m for m in modules}
    zero = torch.zeros(H, 3, dtype=torch.float64)
    names = [f"transformer.transformer_blocks.{block}.attn.to_{part}" for part in "qkv"]
    return torch.cat([acts(found[name]) if name in found else zero for name in names])


@pytest.mark.parametrize("parts", ["qkv", "qv", "k"])
def test_rows_are_merged_into_a_fused_weight_that_comes_first(parts: str):
    a, b = fused(1), split(50, parts)
    merged = merge_factors([lora("a", *a), lora("b", *b, strength=0.5)])
    for block in (0, 18):
        whole = merged.modules[a[block].name]
        assert isinstance(whole, LoraModule)
        assert whole.rank == 1 + len(parts)
        assert close(acts(whole), acts(a[block]) + 0.5 * rows_of(b, block))
    assert len(merged.modules) == 19 + 1


def test_a_fused_weight_is_sliced_if_all_of_its_rows_come_first():
    a, b = split(50), fused(1)
    merged = merge_factors([lora("a", *a), lora("b", *b, strength=0.5)])
    assert set(merged.modules) == {m.name for m in a}
    got = [m for m in merged.modules.values() if isinstance(m, LoraModule)]
    assert {m.rank for m in got} == {1, 2}
    for block in (0, 18):
        assert close(rows_of(got, block), rows_of(a, block) + 0.5 * acts(b[block]))


def test_the_result_is_fused_if_only_some_rows_come_first():
    a, b = split(50, "k"), fused(1)
    merged = merge_deltas([lora("a", *a), lora("b", *b)], "add_svd", rank=8)
    for block in (0, 18):
        whole = merged.modules[b[block].name]
        assert isinstance(whole, LoraModule)
        assert close(acts(whole), rows_of(a, block) + acts(b[block]))


def bias_of(part: str, block: int = 0) -> Difference:
    """A bias of diffusers' to_q, to_k or to_v, or of the fused qkv, filled with a number of its own."""
    name = f"transformer.transformer_blocks.{block}.attn.to_{part}"
    if part == "qkv":
        return Difference.of(fused(1)[block].name, torch.full((3 * H,), 10.0), "bias")
    return Difference.of(name, torch.full((H,), 1.0 + "qkv".index(part)), "bias")


@pytest.mark.parametrize(
    ("first", "second", "rows"),
    [
        (["q", "k"], [], {"to_q.bias": [1], "to_k.bias": [2]}),
        (["k"], ["qkv"], {"qkv.bias": [10, 12, 10]}),
        (["qkv"], ["k"], {"qkv.bias": [10, 12, 10]}),
        (["q", "k", "v"], ["qkv"], {"to_q.bias": [11], "to_k.bias": [12], "to_v.bias": [13]}),
    ],
)
def test_biases_of_fused_layers_are_merged_row_by_row(first: list[str], second: list[str], rows: dict[str, list[int]]):
    loras = []
    for name, parts in (("a", first), ("b", second)):
        modules = [*split(50, "q"), *map(bias_of, parts)]
        loras.append(Lora(name, {m.key: m for m in modules}))
    merged = merge_factors(loras).modules
    got = {m.key: m.value.materialize() for m in merged.values() if isinstance(m, Difference)}
    assert len(got) == len(rows)
    for ending, values in rows.items():
        (value,) = (value for key, value in got.items() if key.endswith(ending))
        assert value.view(-1, H).mean(1).tolist() == values


@pytest.mark.parametrize("mode", ["ties", "dare_ties", "magnitude_prune", "add"])
def test_every_factor_mode_merges_rows_with_a_fused_weight(mode: str):
    merged = merge_factors([lora("a", *fused(1)), lora("b", *split(50))], mode, 0.5)
    assert len(merged.modules) == 20


def test_halves_that_diffusers_swaps_are_swapped_back():
    """diffusers stores shift and scale of the final modulation in the other order."""
    own, theirs = "lora_unet_final_layer_adaLN_modulation_1", "transformer.norm_out.linear"
    a, b = [*fused(1), module(own, 2 * H, H, 7)], [*split(50), module(theirs, 2 * H, H, 8)]
    swapped = acts(b[-1]).roll(H, 0)
    merged = merge_factors([lora("a", *a), lora("b", *b)])
    first = merged.modules[own]
    assert isinstance(first, LoraModule) and close(acts(first), acts(a[-1]) + swapped)
    again = merge_factors([lora("b", *b), lora("a", *a)]).modules[theirs]
    assert isinstance(again, LoraModule) and close(acts(again).roll(H, 0), acts(a[-1]) + swapped)


def test_merge_refuses_loras_for_two_architectures_and_names_both():
    sd15 = lora("one", module(UNET_NAMES["kohya"], 320, 768, 1))
    sdxl = lora(
        "two",
        *(
            module(f"lora_unet_down_blocks_2_attentions_0_transformer_blocks_{n}_attn2_to_k", 1280, 2048, n)
            for n in range(10)
        ),
    )
    with pytest.raises(LoraError, match="one is for SD 1.5 and two for SDXL"):
        merge_factors([sd15, sdxl])


def test_loading_adds_up_two_names_of_one_weight(caplog: pytest.LogCaptureFixture):
    a, b = module(UNET_NAMES["kohya"], 320, 768, 1), module(UNET_NAMES["ComfyUI"], 320, 768, 2)
    state = to_state_dict(lora("a", a)) | to_state_dict(lora("b", b))
    with caplog.at_level(logging.WARNING):
        joined = only(from_state_dict(state, "both"))
    assert joined.name == a.name and close(acts(joined), acts(a) + acts(b))
    assert "ComfyUI's own loader keeps one" in caplog.text


def test_a_connected_model_resolves_unknown_names():
    a, b = module("lora_unet_body_1_qkv", 24, 8, 1), module("net.body.1.to_k", 8, 8, 2)
    known = {a.name: Target("body.1.qkv"), b.name: Target("body.1.qkv", RowRange(Fraction(1, 3), Fraction(2, 3)))}
    apart = merge_factors([lora("a", a), lora("b", b)])
    assert len(apart.modules) == 2
    merged = only(merge_factors([lora("a", a), lora("b", b)], model=ModelNames(None, known.get)))
    wanted = acts(a)
    wanted[8:16] += acts(b)
    assert close(acts(merged), wanted)
