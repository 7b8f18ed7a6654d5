"""LoRAs that name one weight differently, or have parts of a fused weight where another has the whole."""

from __future__ import annotations

import logging
from fractions import Fraction

import pytest
import torch
from lora_pack.merge.adapters.base import Lora, LoraModule, LowRank
from lora_pack.merge.errors import LoraError
from lora_pack.merge.formats import from_state_dict, to_state_dict
from lora_pack.merge.merging.key_resolver import ModelNames
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.names import Target
from torch import Tensor

# One attention layer of SD 1.5 and one of its text encoder, as trainers and ComfyUI spell them.
SPELLINGS = {
    "kohya": "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",
    "kohya, original paths": "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k",
    "diffusers": "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
    "PEFT": "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
    "attention processors": "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k",
    "ComfyUI": "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k",
    "LyCORIS": "lycoris_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",
}
ENCODER_SPELLINGS = (
    "lora_te_text_model_encoder_layers_0_mlp_fc1",
    "text_encoder.text_model.encoder.layers.0.mlp.fc1",
    "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1",
)
SD15 = {"shape": (320, 768), "encoder": (3072, 768)}
H = 3072  # Flux


def module(name: str, rows: int, columns: int, seed: int, rank: int = 2) -> LoraModule:
    noise = torch.Generator().manual_seed(seed)
    return LoraModule(
        name, torch.randn(rows, rank, generator=noise), torch.randn(rank, columns, generator=noise), rank * 0.5
    )


def lora(name: str, *modules: LoraModule, strength: float = 1.0) -> Lora:
    return Lora(name, {m.name: m for m in modules}, strength, strength)


def acts(found: LowRank, seed: int = 9) -> Tensor:
    """What the delta makes of some inputs, in float64: large deltas are never formed."""
    inputs = torch.randn(found.down.shape[1], 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return found.scale * found.up.flatten(1).double() @ (found.down.flatten(1).double() @ inputs)


def close(got: Tensor, want: Tensor) -> bool:
    return bool(torch.linalg.norm(got - want) <= 1e-5 * torch.linalg.norm(want))


def only(merged: Lora) -> LowRank:
    (found,) = merged.modules.values()
    assert isinstance(found, LowRank)
    return found


@pytest.mark.parametrize("second", SPELLINGS)
@pytest.mark.parametrize("first", SPELLINGS)
def test_spellings_of_a_unet_weight_meet(first: str, second: str):
    a, b = module(SPELLINGS[first], *SD15["shape"], 1), module(SPELLINGS[second], *SD15["shape"], 2)
    merged = only(merge_factors([lora("a", a), lora("b", b, strength=-0.5)]))
    assert merged.name == a.name
    assert close(acts(merged), acts(a) - 0.5 * acts(b))


@pytest.mark.parametrize("second", ENCODER_SPELLINGS)
@pytest.mark.parametrize("first", ENCODER_SPELLINGS)
def test_spellings_of_a_text_encoder_weight_meet(first: str, second: str):
    a, b = module(first, *SD15["encoder"], 1), module(second, *SD15["encoder"], 2)
    merged = only(merge_deltas([lora("a", a), lora("b", b)], "add_svd", rank=4))
    assert close(acts(merged), acts(a) + acts(b))


def fused(seed: int) -> list[LoraModule]:
    """qkv of all double blocks, as a trainer of Flux in BFL's names writes them."""
    return [module(f"lora_unet_double_blocks_{n}_img_attn_qkv", 3 * H, H, seed + n, rank=1) for n in range(19)]


def split(seed: int, parts: str = "qkv") -> list[LoraModule]:
    names = [f"transformer.transformer_blocks.{n}.attn.to_{part}" for n in range(19) for part in parts]
    single = module("transformer.single_transformer_blocks.0.attn.to_q", H, H, seed, rank=1)
    return [*(module(name, H, H, seed + n, rank=1) for n, name in enumerate(names, 1)), single]


def rows_of(modules: list[LoraModule], block: int, parts: str = "qkv") -> Tensor:
    """What the parts of one block make of the inputs, as rows of the fused weight; nothing where a part is missing."""
    found = {m.name: m for m in modules}
    zero = torch.zeros(H, 3, dtype=torch.float64)
    names = [f"transformer.transformer_blocks.{block}.attn.to_{part}" for part in "qkv"]
    return torch.cat([acts(found[name]) if name in found else zero for name in names])


@pytest.mark.parametrize("parts", ["qkv", "qv", "k"])
def test_parts_join_a_fused_weight(parts: str):
    a, b = fused(1), split(50, parts)
    merged = merge_factors([lora("a", *a), lora("b", *b, strength=0.5)])
    for block in (0, 18):
        whole = merged.modules[a[block].name]
        assert isinstance(whole, LowRank)
        assert whole.rank == 1 + len(parts)
        assert close(acts(whole), acts(a[block]) + 0.5 * rows_of(b, block))
    assert len(merged.modules) == 19 + 1


def test_a_fused_weight_is_cut_for_one_that_comes_in_parts():
    a, b = split(50), fused(1)
    merged = merge_factors([lora("a", *a), lora("b", *b, strength=0.5)])
    assert set(merged.modules) == {m.name for m in a}
    got = [m for m in merged.modules.values() if isinstance(m, LowRank)]
    assert {m.rank for m in got} == {1, 2}
    for block in (0, 18):
        assert close(rows_of(got, block), rows_of(a, block) + 0.5 * acts(b[block]))


def test_what_has_only_some_parts_first_makes_a_fused_weight():
    a, b = split(50, "k"), fused(1)
    merged = merge_deltas([lora("a", *a), lora("b", *b)], "add_svd", rank=8)
    for block in (0, 18):
        whole = merged.modules[b[block].name]
        assert isinstance(whole, LowRank)
        assert close(acts(whole), rows_of(a, block) + acts(b[block]))


@pytest.mark.parametrize("mode", ["ties", "dare_ties", "magnitude_prune", "add"])
def test_other_modes_take_the_parts_of_a_lora_as_one(mode: str):
    merged = merge_factors([lora("a", *fused(1)), lora("b", *split(50))], mode, 0.5)
    assert len(merged.modules) == 20


def test_swapped_halves_are_put_in_order():
    """diffusers keeps shift and scale of the last modulation in the other order."""
    own, theirs = "lora_unet_final_layer_adaLN_modulation_1", "transformer.norm_out.linear"
    a, b = [*fused(1), module(own, 2 * H, H, 7)], [*split(50), module(theirs, 2 * H, H, 8)]
    swapped = acts(b[-1]).roll(H, 0)
    merged = merge_factors([lora("a", *a), lora("b", *b)])
    first = merged.modules[own]
    assert isinstance(first, LowRank) and close(acts(first), acts(a[-1]) + swapped)
    again = merge_factors([lora("b", *b), lora("a", *a)]).modules[theirs]
    assert isinstance(again, LowRank) and close(acts(again).roll(H, 0), acts(a[-1]) + swapped)


def test_two_kinds_of_models_are_named():
    sd15 = lora("one", module(SPELLINGS["kohya"], 320, 768, 1))
    sdxl = lora(
        "two",
        *(
            module(f"lora_unet_down_blocks_2_attentions_0_transformer_blocks_{n}_attn2_to_k", 1280, 2048, n)
            for n in range(10)
        ),
    )
    with pytest.raises(LoraError, match="one is for SD 1.5 and two for SDXL"):
        merge_factors([sd15, sdxl])


def test_two_names_of_one_weight_in_a_file_are_joined(caplog: pytest.LogCaptureFixture):
    a, b = module(SPELLINGS["kohya"], 320, 768, 1), module(SPELLINGS["ComfyUI"], 320, 768, 2)
    state = to_state_dict(lora("a", a)) | to_state_dict(lora("b", b))
    with caplog.at_level(logging.WARNING):
        joined = only(from_state_dict(state, "both"))
    assert joined.name == a.name and close(acts(joined), acts(a) + acts(b))
    assert "ComfyUI's own loader keeps one" in caplog.text


def test_a_model_at_hand_says_what_unknown_names_mean():
    a, b = module("lora_unet_body_1_qkv", 24, 8, 1), module("net.body.1.to_k", 8, 8, 2)
    known = {a.name: Target("body.1.qkv"), b.name: Target("body.1.qkv", Fraction(1, 3), Fraction(2, 3))}
    apart = merge_factors([lora("a", a), lora("b", b)])
    assert len(apart.modules) == 2
    merged = only(merge_factors([lora("a", a), lora("b", b)], model=ModelNames(None, known.get)))
    wanted = acts(a)
    wanted[8:16] += acts(b)
    assert close(acts(merged), wanted)
