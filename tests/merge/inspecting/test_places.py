"""Blocks are named as in block weights, in model order, text encoders last."""

from __future__ import annotations

import pytest
import torch
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.block_weights.layouts import LAYOUTS
from lora_pack.merge.inspecting.places import Place, places_in
from lora_pack.merge.merging.key_resolver import resolver_for
from lora_pack.merge.names import ARCHITECTURES, resolve
from lora_pack.tests.support.block_loras import make_lora

SD15 = [
    "lora_te_text_model_encoder_layers_11_mlp_fc1",
    "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn1_to_q",
    "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q",
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    "lora_unet_conv_in",
]
EXPECTED = {
    **dict(zip(SD15, ("TE1-11", "OUT11", "MID", "IN01", "IN00"), strict=True)),
    "lora_unet_double_blocks_18_img_attn_qkv": "DOUBLE18",
    "lora_unet_single_blocks_37_linear1": "SINGLE37",
    "diffusion_model.blocks.39.self_attn.q": "BLOCK39",
    "transformer_blocks.59.attn.to_q": "BLOCK59",
    "lora_te2_text_model_encoder_layers_31_mlp_fc1": "TE2-31",
}


def place_of(*names: str) -> list[Place]:
    lora = make_lora(*names)
    find = places_in(lora, resolver_for([lora]))
    return [find(name) for name in names]


@pytest.mark.parametrize(("name", "block"), EXPECTED.items())
def test_the_block_of_a_module(name: str, block: str):
    assert place_of(name, *([SD15[1]] if name in SD15 else []))[0].block == block


def test_blocks_are_in_model_order_and_text_encoders_last():
    found = sorted(place_of(*SD15), key=lambda place: place.order)
    assert [place.block for place in found] == ["IN00", "IN01", "MID", "OUT11", "TE1-11"]
    assert [place.is_text_encoder for place in found] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("transformer.imagined_blocks.3.attn.to_q", "IMAGINED03"),
        ("transformer.blocks.12.imagined", "BLOCK12"),
        ("lora_unet_down_blocks_1_imagined", "DOWN01"),
        ("lora_unet_mid_block_imagined", "MID"),
        ("lora_unet_imagined", "BASE"),
    ],
)
def test_unknown_models_have_blocks_too(name: str, block: str):
    lora = Lora("x", {name: LoraModule.of(name, torch.ones(7, 1), torch.ones(1, 5), 1.0)})
    place = places_in(lora, resolver_for([lora]))(name)
    assert (place.block, place.is_text_encoder) == (block, False)


def test_every_layout_names_its_blocks_alike():
    for layout in LAYOUTS:
        for architecture in layout.architectures:
            assert architecture in ARCHITECTURES
    # the name of a block here is one that block weights take
    assert resolve(SD15[1], LAYOUTS[0].architectures[0]).weight.startswith("model:output_blocks_11")
    assert place_of(SD15[1])[0].block in LAYOUTS[0].full
