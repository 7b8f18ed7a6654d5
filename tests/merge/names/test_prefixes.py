"""Module names of any model: component and path, canonical form, loadable name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.names.prefixes import PEFT, PREFIXES, canonical, flatten, is_text_encoder, loadable, split
from lora_pack.tests.support.makers import examples

# name, component, path
SPLIT = [
    ("lora_unet_mid_block_attentions_0_proj_in", "model", "mid_block_attentions_0_proj_in"),
    ("unet.mid_block.attentions.0.proj_in", "model", "mid_block.attentions.0.proj_in"),
    ("base_model.model.unet.mid_block.x", "model", "mid_block.x"),
    ("unet.base_model.model.mid_block.x", "model", "mid_block.x"),
    ("transformer.base_model.model.x", "model", "x"),
    ("base_model.model.x", "model", "x"),
    ("diffusion_model.x", "model", "x"),
    ("model.diffusion_model.x", "model", "x"),
    ("transformer.transformer_blocks.0.x", "model", "transformer_blocks.0.x"),
    (
        "diffusion_model.transformer.layers.0.x",
        "model",
        "transformer.layers.0.x",
    ),  # Stable Audio: transformer. is not a second prefix
    ("lora_transformer_x", "model", "x"),
    ("lycoris_x", "model", "x"),
    ("lora_prior_unet_x", "model", "x"),
    ("pipe.dit.blocks.0.x", "model", "blocks.0.x"),
    ("conditional_transformer.layers.0.x", "model", "layers.0.x"),
    ("prior.down_blocks.0.2.x", "model", "down_blocks.0.2.x"),
    ("blocks.0.x", "model", "blocks.0.x"),
    ("lora_te_text_model_x", "te1", "text_model_x"),
    ("lora_te1_text_model_x", "te1", "text_model_x"),
    ("lora_te2_text_model_x", "te2", "text_model_x"),
    ("lora_te3_encoder_x", "te3", "encoder_x"),
    ("lora_prior_te_text_model_x", "te1", "text_model_x"),
    ("text_encoder.text_model.x", "te1", "text_model.x"),
    ("text_encoder_2.text_model.x", "te2", "text_model.x"),
    ("text_encoder_3.encoder.x", "te3", "encoder.x"),
    ("base_model.model.text_encoder_2.text_model.x", "te2", "text_model.x"),
    ("text_encoder.base_model.model.text_model.x", "te1", "text_model.x"),
    ("text_encoders.clip_l.transformer.text_model.x", "te1", "text_model.x"),
    ("text_encoders.clip_h.transformer.text_model.x", "te1", "text_model.x"),
    ("text_encoders.clip_g.transformer.text_model.x", "te2", "text_model.x"),
    ("text_encoders.t5xxl.transformer.encoder.x", "te", "t5xxl.transformer.encoder.x"),
    ("text_encoders.transformer.encoder.x", "te", "transformer.encoder.x"),
    ("t5xxl.transformer.encoder.x", "te", "t5xxl.transformer.encoder.x"),
    ("clip_l.transformer.text_model.x", "te1", "text_model.x"),
    ("clip_g.text_model.x", "te2", "text_model.x"),
    ("te1.text_model.x", "te1", "text_model.x"),
    ("te2.text_model.x", "te2", "text_model.x"),
    ("text_model.encoder.x", "te1", "text_model.encoder.x"),
    ("base_model.model.text_model.encoder.x", "te1", "text_model.encoder.x"),
    ("lycoris_text_model_encoder_x", "te1", "text_model_encoder_x"),
]


@pytest.mark.parametrize(("name", "component", "path"), SPLIT)
def test_split(name: str, component: str, path: str):
    assert split(name) == (component, path)
    assert is_text_encoder(name) == (component != "model")
    assert canonical(name) == f"{component}:{path.replace('.', '_')}"


@pytest.mark.parametrize(
    "path", ["text_embedding.0", "txt_in", "context_embedder", "time_text_embed.x", "text_embedder"]
)
def test_text_layers_of_the_model_are_not_a_text_encoder(path: str):
    assert not is_text_encoder(path)
    assert not is_text_encoder("lora_unet_" + path.replace(".", "_"))


def test_flatten_normalises_attention_processors_and_leading_underscores():
    assert flatten("attn1.processor.to_q") == "attn1_to_q"
    assert flatten("attn1.processor.to_out") == flatten("attn1.to_out.0") == "attn1_to_out_0"
    assert flatten("img_attn.processor.img_to_q") == "img_attn_processor_img_to_q"  # Boogu: belongs to the path
    assert canonical("lora_unet__blocks_0_cross_attn_k") == canonical("lora_unet_blocks_0_cross_attn_k")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        *((name, name) for name in ("lora_unet_x", "diffusion_model.x.y", "transformer.x.y", "x.y", "lycoris_x")),
        *((name, name) for name in ("lora_te1_text_model_x", "text_encoder.x.y", "text_encoders.t5xxl.transformer.x")),
        ("unet.down_blocks.0.resnets.0.conv1", "lora_unet_down_blocks_0_resnets_0_conv1"),
        ("base_model.model.unet.up_blocks.0.x", "lora_unet_up_blocks_0_x"),
        ("unet.mid_block.attn1.processor.to_out", "lora_unet_mid_block_attn1_to_out_0"),
        ("unet.time_embedding.linear_1", "lora_unet_time_embedding_linear_1"),
        ("diffusion_model.time_embedding.0.bias", "diffusion_model.time_embedding.0.bias"),  # Wan's own path
        ("lora_unet__blocks_0_x", "lora_unet_blocks_0_x"),
        ("base_model.model.transformer.x.y", "transformer.x.y"),
        ("base_model.model.x.y", "base_model.model.x.y"),  # SD 3, PixArt
        ("model.diffusion_model.x.y", "diffusion_model.x.y"),
        ("pipe.dit.blocks.0.x", "diffusion_model.blocks.0.x"),
        ("conditional_transformer.layers.0.x", "diffusion_model.layers.0.x"),
        ("base_model.model.text_encoder_2.text_model.x", "text_encoder_2.text_model.x"),
        ("base_model.model.text_model.x", "text_encoder.text_model.x"),
        ("text_model.x", "text_encoder.text_model.x"),
        ("lycoris_text_model_x", "lora_te_text_model_x"),
        ("clip_g.text_model.x", "lora_te2_text_model_x"),
        ("te1.text_model.x", "lora_te1_text_model_x"),
        ("t5xxl.transformer.x", "text_encoders.t5xxl.transformer.x"),
    ],
)
def test_loadable_name_without_an_architecture(name: str, written: str):
    assert loadable(name) == written
    assert loadable(written) == written
    assert split(written)[0] == split(name)[0]


words = st.sampled_from(["transformer", "unet", "blocks", "0", "12", "to_q", "text_model", "attn1", "processor", "x"])


@examples(300)
@given(
    prefix=st.sampled_from(["", PEFT, *PREFIXES]),
    path=st.lists(words, min_size=1, max_size=5).map(".".join),
)
def test_loadable_name_keeps_the_canonical_name(prefix: str, path: str):
    name = prefix + path
    _, rest = split(name)
    assert name.endswith(rest)
    assert "." not in canonical(name)
    assert canonical(loadable(name)) == canonical(name)
