"""Roles of weights: the rows of PM Inspect LoRA's maps."""

from __future__ import annotations

import pytest
from lora_pack.merge.names import ARCHITECTURES
from lora_pack.merge.names.patterns import expand, flat
from lora_pack.merge.names.roles import OTHER, role_of, role_order

ROLES = {
    "input_blocks_4_1_transformer_blocks_0_attn1_to_q": "self q",
    "input_blocks_4_1_transformer_blocks_0_attn2_to_out_0": "cross out",
    "input_blocks_4_1_transformer_blocks_0_ff_net_0_proj": "ff in",
    "input_blocks_4_1_transformer_blocks_0_ff_net_2": "ff out",
    "input_blocks_4_1_transformer_blocks_0_norm2": "norm",
    "input_blocks_4_1_proj_in": "proj in",
    "output_blocks_3_0_in_layers_2": "conv",
    "output_blocks_3_0_emb_layers_1": "time",
    "double_blocks_7_img_attn_qkv": "img qkv",
    "double_blocks_7_txt_attn_proj": "txt out",
    "double_blocks_7_img_mlp_0": "img ff in",
    "double_blocks_7_txt_mod_lin": "txt mod",
    "single_blocks_7_linear1": "linear1",
    "single_blocks_7_modulation_lin": "mod",
    "joint_blocks_3_x_block_attn2_qkv": "img qkv",
    "joint_blocks_3_context_block_mlp_fc2": "txt ff out",
    "transformer_blocks_3_attn_add_k_proj": "txt k",
    "transformer_blocks_3_attn_to_add_out": "txt out",
    "blocks_3_self_attn_o": "self out",
    "blocks_3_cross_attn_k_img": "img cross k",
    "blocks_3_ffn_2": "ff out",
    "layers_3_attention_qkv": "qkv",
    "layers_3_feed_forward_w2": "ff out",
    "layers_3_adaLN_modulation_1": "mod",
    "text_model_encoder_layers_3_self_attn_out_proj": "self out",
    "text_model_encoder_layers_3_mlp_fc1": "ff in",
    "encoder_block_3_layer_0_SelfAttention_v": "self v",
    "encoder_block_3_layer_1_DenseReluDense_wo": "ff out",
    "imagined": OTHER,
}


@pytest.mark.parametrize(("path", "role"), ROLES.items())
def test_the_role_of_a_weight(path: str, role: str):
    assert role_of(path) == role


def test_roles_are_sorted_as_they_are_read():
    roles = ["norm", "ff out", "txt q", "cross out", "other", "img q", "self v", "conv", "ff in", "self q", "cross q"]
    assert sorted(roles, key=role_order) == [
        *("img q", "txt q", "self q", "self v", "cross q", "cross out", "ff in", "ff out", "conv", "norm", "other"),
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.name)
def test_most_weights_in_blocks_have_a_role(architecture):
    """A model whose names the patterns don't know would be one row `other`, without a word that helps."""
    in_blocks = [flat(path.format(b=3, n=1, m=1)) for path in expand(*architecture.weights) if "{b}" in path]
    others = [path for path in in_blocks if role_of(path) == OTHER]
    assert len(others) <= 0.35 * len(in_blocks), others
    assert len({role_of(path) for path in in_blocks}) <= 26
