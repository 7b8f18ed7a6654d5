"""Block weights: the block of each module, both forms of the notation, and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.block_weights.apply import with_block_weights
from lora_pack.merge.block_weights.layouts import BASE, LAYOUTS, BlockLayout
from lora_pack.merge.errors import LoraError
from lora_pack.merge.names import ARCHITECTURES, Architecture, candidates, likely
from lora_pack.tests.support.block_loras import (
    BLOCKS,
    FLUX,
    FLUX_ALL,
    LAYOUT,
    LENGTHS,
    QWEN,
    SD,
    SD3,
    SD_ATTENTION,
    SD_CONV,
    SDXL,
    SDXL_ATTENTION,
    SDXL_CONV,
    TEXT_ENCODER,
    UNKNOWN,
    WAN,
    WAN_14B,
    Z_IMAGE,
    kohya,
    make_lora,
    message,
    notation,
    path_of,
    weigh,
    weights,
)
from lora_pack.tests.support.makers import up_of


@pytest.mark.parametrize(("layout", "modules"), BLOCKS, ids=lambda x: x.name if isinstance(x, BlockLayout) else "")
def test_block_of_both_names_of_a_layer_in_every_block(layout: BlockLayout, modules: list[tuple[str, str, str]]):
    for block, *paths in modules:
        assert [layout.block_of(path_of(kohya(path), layout)) for path in paths] == [block, block], paths
    assert {block for block, *_ in modules} | {BASE} == set(layout.full)


WITH_BLOCKS = [architecture for architecture in ARCHITECTURES if architecture.blocks or "SD " in architecture.name]


@pytest.mark.parametrize("architecture", WITH_BLOCKS, ids=lambda architecture: architecture.name)
def test_every_architecture_has_one_layout_and_every_block_has_weights(architecture: Architecture):
    (layout,) = [layout for layout in LAYOUTS if architecture in layout.architectures]
    found = {BASE}
    for weight in architecture.weights:
        for b in range(max(architecture.blocks.values(), default=1)):
            numbers = {"b": str(b), "n": "0", "m": "0"}
            if architecture.has_block(weight, numbers if "{b}" in weight else {}):
                found.add(layout.block_of(weight.format_map(numbers).replace(".", "_")) or BASE)
    assert found == set(layout.full)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_layouts_have_inspires_lengths_and_the_blocks_of_the_tables(layout: BlockLayout):
    from_table = 1 + sum(layout.architectures[0].blocks.values())  # for layouts that Inspire's notation doesn't cover
    assert (len(layout.short), len(layout.full)) == LENGTHS.get(layout.name, (from_table, from_table))
    assert len(set(layout.full)) == len(layout.full)
    assert [block for block in layout.full if block in layout.short] == list(layout.short)


# by hand, from diagrams of the models
@pytest.mark.parametrize(
    ("layout", "path", "block"),
    [
        (SD, "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", "IN01"),
        (SD, "down_blocks_2_attentions_1_transformer_blocks_0_attn1_to_q", "IN08"),
        (SD, "down_blocks_2_downsamplers_0_conv", "IN09"),
        (SD, "down_blocks_3_resnets_1_conv2", "IN11"),
        (SD, "up_blocks_0_upsamplers_0_conv", "OUT02"),
        (SD, "output_blocks_2_1_conv", "OUT02"),
        (SD, "up_blocks_1_attentions_0_proj_in", "OUT03"),
        (SD, "up_blocks_3_attentions_2_proj_out", "OUT11"),
        (SD, "output_blocks_11_1_transformer_blocks_0_attn2_to_v", "OUT11"),
        (SD, "input_blocks_1_1_proj_in", "IN01"),
        (SD, "input_blocks_11_0_in_layers_2", "IN11"),
        (SD, "middle_block_1_proj_in", "MID"),
        (SD, "time_embedding_linear_1", None),
        (SD, "conv_out", None),
        (SD, "out_2", None),
        (SDXL, "down_blocks_1_attentions_0_transformer_blocks_1_attn1_to_q", "IN04"),
        (SDXL, "down_blocks_2_attentions_1_transformer_blocks_9_attn1_to_q", "IN08"),
        (SDXL, "up_blocks_0_attentions_2_transformer_blocks_9_attn1_to_q", "OUT02"),
        (SDXL, "output_blocks_2_1_transformer_blocks_9_attn1_to_q", "OUT02"),
        (SDXL, "output_blocks_2_2_conv", "OUT02"),
        (SDXL, "up_blocks_1_upsamplers_0_conv", "OUT05"),
        (SDXL, "up_blocks_2_resnets_2_conv1", "OUT08"),
        (SDXL, "add_embedding_linear_1", None),
        (SDXL, "label_emb_0_0", None),
        (FLUX, "double_blocks_1_img_attn_qkv", "DOUBLE01"),
        (FLUX, "double_blocks_18_txt_mlp_2", "DOUBLE18"),
        (FLUX, "single_blocks_3_linear1", "SINGLE03"),
        (FLUX, "single_blocks_37_modulation_lin", "SINGLE37"),
        (FLUX, "transformer_blocks_10_attn_to_q", "DOUBLE10"),
        (FLUX, "transformer_blocks_1_norm1_context_linear", "DOUBLE01"),
        (FLUX, "transformer_blocks_1_ff_context_net_0_proj", "DOUBLE01"),
        (FLUX, "single_transformer_blocks_2_attn_to_q", "SINGLE02"),
        (FLUX, "img_in", None),
        (FLUX, "final_layer_linear", None),
    ],
)
def test_block_of(layout: BlockLayout, path: str, block: str | None):
    assert layout.block_of(path_of(kohya(path), layout)) == block


@pytest.mark.parametrize(
    ("name", "layout", "block"),
    [
        ("transformer.transformer_blocks.23.attn.to_q", "SD 3", "BLOCK23"),
        ("lora_unet_joint_blocks_4_x_block_attn_qkv", "SD 3", "BLOCK04"),
        ("transformer.norm_out.linear", "SD 3", None),
        ("lora_unet_joint_blocks_37_x_block_mlp_fc1", "SD 3.5 Large", "BLOCK37"),
        ("diffusion_model.blocks.39.self_attn.q", "Wan 2.1/2.2 14B", "BLOCK39"),
        ("transformer.blocks.3.attn2.to_k", "Wan 2.1/2.2 14B", "BLOCK03"),
        ("diffusion_model.vace_blocks.0.self_attn.q", "Wan 2.1/2.2 14B", None),
        ("lora_unet_blocks_29_ffn_0", "Wan 1.3B/5B", "BLOCK29"),
        ("transformer_blocks.59.attn.add_q_proj", "Qwen-Image", "BLOCK59"),
        ("diffusion_model.img_in", "Qwen-Image", None),
        ("diffusion_model.layers.29.attention.to_q", "Z-Image", "BLOCK29"),
        ("lora_unet_layers_3_feed_forward_w1", "Z-Image", "BLOCK03"),
        ("diffusion_model.noise_refiner.1.attention.to_q", "Z-Image", None),
        ("diffusion_model.context_refiner.0.attention.out", "Z-Image", None),
        ("transformer.single_transformer_blocks.47.attn.to_out", "Flux 2", "SINGLE47"),
        ("transformer.double_blocks.19.img_attn_qkv", "HunyuanVideo", "DOUBLE19"),
        ("transformer.txt_in.individual_token_refiner.blocks.1.mlp.fc1", "HunyuanVideo", None),
        ("transformer.transformer_blocks.27.attn1.to_q", "LTX-Video", "BLOCK27"),
        ("transformer.distilled_guidance_layer.layers.0.linear_1", "Flux", None),
    ],
)
def test_block_of_other_models(name: str, layout: str, block: str | None):
    assert LAYOUT[layout].block_of(path_of(name, LAYOUT[layout])) == block


@pytest.mark.parametrize(
    "prefix", ["lora_unet_", "lycoris_", "unet.", "diffusion_model.", "base_model.model.unet.", ""]
)
@pytest.mark.parametrize(("layout", "modules"), BLOCKS, ids=lambda x: x.name if isinstance(x, BlockLayout) else "")
def test_a_vector_reaches_each_block_under_every_naming(
    layout: BlockLayout, modules: list[tuple[str, str, str]], prefix: str
):
    vector = {block: i + 1.0 for i, block in enumerate(layout.full)}
    spec = ",".join(str(weight) for weight in vector.values())
    for naming in (1, 2):
        paths = [module[naming] for module in modules]
        names = [prefix + (path.replace(".", "_") if prefix.endswith("_") else path) for path in paths]
        assert weigh([*names, TEXT_ENCODER], spec) == [*(vector[block] for block, *_ in modules), 1.0]


@pytest.mark.parametrize(("layout", "modules"), BLOCKS, ids=lambda x: x.name if isinstance(x, BlockLayout) else "")
def test_modules_in_blocks_outside_the_short_vector_get_the_base_weight(
    layout: BlockLayout, modules: list[tuple[str, str, str]]
):
    vector = {block: i + 1.0 for i, block in enumerate(layout.short)}
    spec = " , ".join(str(weight) for weight in vector.values())
    names = [kohya(original) for _, _, original in modules]
    assert weigh(names, spec) == [vector.get(block, 1.0) for block, *_ in modules]


def test_names_with_the_attention_processors_of_old_diffusers_have_a_block():
    name = "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out"
    assert weigh([name, SD_ATTENTION[0]], "%out1=0.5") == [0.5, 1.0]


# ---- which architecture

# the layouts that Inspire's notation covers
LISTED = [layout for layout in LAYOUTS if layout.name in LENGTHS]
FITS = {
    "attention only": (SD_ATTENTION, ["SD 1.5/2"]),
    "attention of level 0": (["lora_unet_down_blocks_0_attentions_0_proj_in"], ["SD 1.5/2"]),
    "attention of level 0, original": (["diffusion_model.input_blocks.1.1.proj_in"], ["SD 1.5/2"]),
    "fourth level": (["lora_unet_up_blocks_3_attentions_0_proj_in"], ["SD 1.5/2"]),
    "upsampler at SD's level": (["lora_unet_output_blocks_2_1_conv"], ["SD 1.5/2"]),
    "downsampler of the third level": (["lora_unet_input_blocks_9_0_op"], ["SD 1.5/2"]),
    "sdxl": (SDXL_ATTENTION, ["SDXL"]),
    "deep transformer": (["lora_unet_mid_block_attentions_0_transformer_blocks_9_ff_net_2"], ["SDXL"]),
    "attention in the first up block": (["lora_unet_output_blocks_0_1_proj_in"], ["SDXL"]),
    "second text encoder": (["lora_unet_mid_block_attentions_0_proj_in", SDXL_ATTENTION[-1]], ["SDXL"]),
    "size embedding": (["lora_unet_mid_block_resnets_0_conv1", "lora_unet_add_embedding_linear_1"], ["SDXL"]),
    "middle only": (["lora_unet_mid_block_attentions_0_proj_in"], ["SD 1.5/2", "SDXL"]),
    "shared attention": (
        ["lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_ff_net_2"],
        ["SD 1.5/2", "SDXL"],
    ),
    "text encoder only": ([TEXT_ENCODER], ["SD 1.5/2", "SDXL", "SD 3", "SD 3.5 Large", "Flux"]),
    "second text encoder only": (SDXL_ATTENTION[-1:], ["SDXL", "SD 3", "SD 3.5 Large", "HunyuanVideo"]),
    "nothing": ([], [layout.name for layout in LISTED if not layout.architectures[0].defers_to]),
    "flux": (FLUX_ALL, ["Flux"]),
    "flux or another, double only": (
        ["transformer.transformer_blocks.0.attn.add_q_proj"],
        ["SD 3", "SD 3.5 Large", "Flux", "Qwen-Image"],
    ),
    "flux or sd3, context norms": (
        ["transformer.transformer_blocks.18.norm1_context.linear"],
        ["SD 3", "SD 3.5 Large", "Flux"],
    ),
    "flux, context norms and one single": (
        ["transformer.transformer_blocks.18.norm1_context.linear", "transformer.single_transformer_blocks.0.proj_out"],
        ["Flux"],
    ),
    "flux, single only": (["transformer.single_transformer_blocks.37.attn.to_q"], ["Flux"]),
    "flux, with both text encoders": (
        [*FLUX_ALL, TEXT_ENCODER, "lora_te2_encoder_block_0_layer_0_SelfAttention_q"],
        ["Flux"],
    ),
    "chroma": ([*FLUX_ALL, "lora_unet_distilled_guidance_layer_layers_0_in_layer"], ["Flux"]),
    "too many double blocks": (["lora_unet_double_blocks_19_img_attn_qkv"], ["HunyuanVideo", "HunyuanVideo 1.5"]),
    "too many single blocks": (
        ["lora_unet_single_blocks_0_linear1", "lora_unet_single_blocks_38_linear1"],
        ["Flux 2", "HunyuanVideo"],
    ),
    "far too many blocks": (["lora_unet_double_blocks_99_img_attn_qkv"], []),
    "sd3": (
        [f"transformer.transformer_blocks.{i}.norm1_context.linear" for i in range(24)],
        ["SD 3", "SD 3.5 Large", "HunyuanVideo 1.5"],
    ),
    "sd3 large": (["lora_unet_joint_blocks_24_x_block_attn_qkv"], ["SD 3.5 Large"]),
    "auraflow": (
        ["transformer.joint_transformer_blocks.0.attn.to_q", "single_transformer_blocks.0.attn.to_q"],
        [],
    ),
    "qwen": (QWEN, ["Qwen-Image"]),
    "qwen, few blocks": (
        ["transformer_blocks.0.attn.add_q_proj", "transformer_blocks.0.img_mlp.net.2"],
        ["Qwen-Image"],
    ),
    "transformer blocks of several models": (
        ["transformer_blocks.0.attn.to_q"],
        ["SD 3", "SD 3.5 Large", "Flux", "Qwen-Image"],
    ),
    "wan": (WAN, ["Wan 2.1/2.2 14B", "Wan 1.3B/5B"]),
    "wan, all blocks": (WAN_14B, ["Wan 2.1/2.2 14B"]),
    "z-image": (["diffusion_model.layers.0.attention.to_q"], ["Z-Image", "Lumina 2"]),
    "z-image, all blocks": (Z_IMAGE, ["Z-Image"]),
    "sdxl refiner": (
        [
            "lora_unet_up_blocks_2_attentions_0_proj_in",
            "lora_unet_mid_block_attentions_0_transformer_blocks_3_ff_net_2",
        ],
        ["SDXL Refiner"],
    ),
    "animatediff": (["down_blocks.0.motion_modules.0.temporal_transformer.proj_in"], []),
}


@pytest.mark.parametrize(("names", "expected"), FITS.values(), ids=FITS.keys())
def test_layouts_that_fit(names: list[str], expected: list[str]):
    found = likely(candidates(dict.fromkeys(names, ())))
    assert [layout.name for layout in LISTED if any(a in found for a in layout.architectures)] == expected


@pytest.mark.parametrize(
    ("names", "length", "fitting"),
    [
        (SD_ATTENTION, 12, "17 or 26 for SD 1.5/2"),
        (SD_ATTENTION, 18, "17 or 26 for SD 1.5/2"),
        (SD_CONV, 27, "17 or 26 for SD 1.5/2"),
        (SDXL_ATTENTION, 17, "12 or 20 for SDXL"),
        (SDXL_ATTENTION, 1, "12 or 20 for SDXL"),
        (FLUX_ALL, 57, "20 or 58 for Flux"),
        (FLUX_ALL, 12, "20 or 58 for Flux"),
        (["lora_unet_mid_block_attentions_0_proj_in"], 58, "17 or 26 for SD 1.5/2, 12 or 20 for SDXL"),
        (WAN, 58, "41 for Wan 2.1/2.2 14B"),
        (QWEN, 58, "61 for Qwen-Image"),
    ],
)
def test_a_vector_of_the_wrong_length_is_refused_with_the_lengths_that_fit(names: list[str], length: int, fitting: str):
    text = message(names, ",".join(["1"] * length))
    assert f"it has {length} weights, and this LoRA takes {fitting} (including the base)." in text
    assert "some.safetensors" in text


@pytest.mark.parametrize("length", [17, 26, 12, 20])
def test_a_lora_of_the_middle_block_takes_vectors_for_sd_and_for_sdxl(length: int):
    short_mid, full_mid = {17: 7, 12: 5}, {26: 13, 20: 10}
    vector = [0.0] * length
    vector[(short_mid | full_mid)[length]] = 0.25
    names = ["lora_unet_mid_block_attentions_0_proj_in"]
    assert weigh(names, ",".join(map(str, vector))) == [0.25]


@pytest.mark.parametrize("length", [17, 26, 12, 20, 58])
def test_a_lora_of_the_text_encoder_gets_the_base_weight_of_any_vector(length: int):
    assert weigh([TEXT_ENCODER], "0.5" + ",0" * (length - 1)) == [0.5]


def test_a_lora_of_the_text_encoder_gets_the_base_weight_of_the_percent_form():
    for spec in ("%base=0.5,in1=0,out9=2", "%base=0.5,single38=0"):
        assert weigh([TEXT_ENCODER], spec) == [0.5]


def test_blocks_of_a_text_encoder_do_not_count_as_blocks_of_the_model():
    t5 = "lora_te3_encoder_block_0_layer_0_SelfAttention_q"
    named_alike = "lora_te_mid_block_attentions_0_proj_in"
    assert weigh([*SD_ATTENTION, named_alike], "%base=0.5,default=2,mid=3")[-1] == 0.5
    assert weigh([*FLUX_ALL, t5], "%base=0.5,default=2")[-1] == 0.5
    assert UNKNOWN[0] in message([t5, *UNKNOWN], "%in=0")


@pytest.mark.parametrize(("names", "blocks"), [(SD3, 24), (QWEN, 60), (Z_IMAGE, 30), (WAN_14B, 40)])
def test_models_with_one_list_of_blocks(names: list[str], blocks: int):
    vector = [i / 8 for i in range(1, blocks + 2)]
    assert weigh(names, ",".join(map(str, vector))) == vector[1:]
    expected = [0.5 if 2 <= i <= 4 else 3.0 for i in range(1, blocks + 1)]
    assert weigh(names, "%default=3,block2-4=0.5") == expected
    text = message(names, f"%block{blocks + 1}=1")
    assert f"This LoRA has block1 (BLOCK00) to block{blocks} (BLOCK{blocks - 1})." in text
    assert "in1 matches no block of this LoRA: it is for" in message(names, "%in1=0")
    assert message(names, "%in1=0").endswith("which has block.")


def test_the_shape_decides_between_sizes_of_one_family():
    for width, length in ((5120, 41), (1536, 31), (3072, 31)):
        module = LoraModule.of(WAN[0], torch.zeros(width, 1), torch.zeros(1, width), alpha=1.0)
        lora = Lora("wan", {WAN[0]: module})
        assert weights(with_block_weights(lora, "1,0.5" + ",0" * (length - 2), {})) == {WAN[0]: 0.5}
        with pytest.raises(LoraError, match=f"takes {length} for Wan"):
            with_block_weights(lora, "1,0.5", {})


def test_known_names_with_other_shapes_have_no_known_blocks():
    module = LoraModule.of(WAN[0], torch.zeros(999, 1), torch.zeros(1, 999), alpha=1.0)
    with pytest.raises(LoraError, match=r"block weights are known for .* and this is not one of them"):
        with_block_weights(Lora("wan", {WAN[0]: module}), "%block1=0.5", {})


@pytest.mark.parametrize("names", [UNKNOWN], ids=["imagined"])
def test_unknown_models_take_one_weight_and_refuse_blocks(names: list[str]):
    for spec in ("1" + ",1" * 16, "%in=0", "%default=0,base=1", "%default=0,base=1,single=1"):
        text = message(names, spec)
        assert "block weights are known for SD 1.5/2, SDXL, " in text
        assert names[0] in text
    assert weigh(names, "%default=0.5") == [0.5] * len(names)
    assert weigh(names, "%base=0.5") == [0.5] * len(names)
    assert weigh(names, "%default=0.5,base=0.5") == [0.5] * len(names)


# ---- the resulting LoRA


@pytest.mark.parametrize("spec", ["", "  ", "\n"])
def test_an_empty_text_returns_the_same_lora(spec: str):
    lora = make_lora(*WAN)
    assert with_block_weights(lora, spec) is lora


def test_weights_multiply_and_change_nothing_else():
    lora = make_lora(*SD_ATTENTION, TEXT_ENCODER)
    half = with_block_weights(lora, "%default=0.5,base=1", {})
    result = with_block_weights(half, "%default=-0.5,base=0.25", {})
    assert weights(result) == {**dict.fromkeys(SD_ATTENTION, -0.25), TEXT_ENCODER: 0.25}
    assert weights(lora) == dict.fromkeys([*SD_ATTENTION, TEXT_ENCODER], 1.0)
    assert (result.name, result.strength_model, result.strength_clip) == (lora.name, 0.7, 0.6)
    assert result.metadata == {"k": "v"}
    assert all(up_of(result.modules[name]) is up_of(module) for name, module in lora.modules.items())


def test_a_weight_of_zero_removes_the_module_and_keeps_the_order():
    lora = make_lora(*SD_ATTENTION, TEXT_ENCODER)
    for zero in ("0", "0.0", "-0", "+.0", "0e5"):
        kept = with_block_weights(lora, f"%default={zero},base=2,mid=1,in2=3", {})
        assert weights(kept) == {
            "lora_unet_down_blocks_0_attentions_1_proj_in": 3.0,
            "lora_unet_mid_block_attentions_0_proj_in": 1.0,
            TEXT_ENCODER: 2.0,
        }
        assert list(kept.modules) == [name for name in lora.modules if name in kept.modules]
    assert not with_block_weights(lora, "%default=0", {}).modules


@pytest.mark.parametrize("number", ["1", "-1", "+0.5", ".5", "5.", "1e-3", "-2.5E+1", "007"])
def test_numbers(number: str):
    assert weigh(SD_ATTENTION, ",".join([number] * 17)) == [float(number)] * 16
    assert weigh(SD_ATTENTION, f"%default={number}") == [float(number)] * 16


# ---- the % form


def vector_of(default: float, base: float, **blocks: float) -> dict[str, float]:
    return {"default": default, BASE: base, **blocks}


@pytest.mark.parametrize(
    ("names", "layout", "spec", "expected"),
    [
        (SD_ATTENTION, SD, "%default=0.5", vector_of(0.5, 0.5)),
        (SD_ATTENTION, SD, "%base=0.5", vector_of(1, 0.5)),
        (SD_ATTENTION, SD, "%in=0", vector_of(1, 1, IN01=0, IN02=0, IN04=0, IN05=0, IN07=0, IN08=0)),
        (SD_ATTENTION, SD, "%in1=2", vector_of(1, 1, IN01=2)),
        (SD_ATTENTION, SD, "%in3=2", vector_of(1, 1, IN04=2)),
        (SD_ATTENTION, SD, "%in6=2,out1=3,out9=4", vector_of(1, 1, IN08=2, OUT03=3, OUT11=4)),
        (SD_ATTENTION, SD, "%default=0,base=1,in2-3=0.5,mid=2", vector_of(0, 1, IN02=0.5, IN04=0.5, MID=2)),
        (SD_ATTENTION, SD, "% in1-2 = 0.5 , in2=-1, default=3,base=4", vector_of(3, 4, IN01=0.5, IN02=-1)),
        (
            SD_ATTENTION,
            SD,
            "%in2=9,in=0,in1=7,default=1,default=2",
            vector_of(2, 2, IN01=7, IN02=0, IN04=0, IN05=0, IN07=0, IN08=0),
        ),
        ([SD_ATTENTION[0], *SD_ATTENTION[3:5]], SD, "%in4=2", vector_of(1, 1, IN05=2)),  # the numbers don't shift
        (SD_CONV, SD, "%in1=5,in2=2,in12=3", vector_of(1, 1, IN00=5, IN01=2, IN11=3)),
        (SD_CONV, SD, "%out4=2,mid1=3", vector_of(1, 1, OUT03=2, MID=3)),
        ([*SD_ATTENTION, "lora_unet_conv_in"], SD, "%in1=5", vector_of(1, 1, IN00=5)),
        ([*SD_ATTENTION, "lora_unet_time_embedding_linear_1"], SD, "%in1=5,base=2", vector_of(1, 2, IN01=5)),
        (
            SDXL_ATTENTION,
            SDXL,
            "%in1=2,in4=3,out1=4,out6=5",
            vector_of(1, 1, IN04=2, IN08=3, OUT00=4, OUT05=5),
        ),
        (
            SDXL_CONV,
            SDXL,
            "%in1=2,in5=3,in9=6,out1=4,out9=5",
            vector_of(1, 1, IN00=2, IN04=3, IN08=6, OUT00=4, OUT08=5),
        ),
        (FLUX_ALL, FLUX, "%double1-2=0.2,single=0,single38=2", None),
        (FLUX_ALL[:3], FLUX, "%double2=0.2,single=0", vector_of(1, 1, DOUBLE01=0.2)),
        (FLUX_ALL[40:], FLUX, "%single22=0.2,double=0", vector_of(1, 1, SINGLE21=0.2)),
    ],
)
def test_the_percent_form(names: list[str], layout: BlockLayout, spec: str, expected: dict[str, float] | None):
    if expected is None:
        singles = {f"SINGLE{i:02}": 0.0 for i in range(37)}
        expected = vector_of(1, 1, DOUBLE00=0.2, DOUBLE01=0.2, **singles, SINGLE37=2)
    found = weigh([*names, TEXT_ENCODER], spec)
    located = [*(layout.block_of(path_of(name, layout)) or BASE for name in names), BASE]
    assert found == [expected.get(block, expected["default"]) for block in located]


@pytest.mark.parametrize(
    ("names", "spec", "problem"),
    [
        (SD_ATTENTION, "%in7=1", "in7 goes past the last block. This LoRA has in1 (IN01) to in6 (IN08)."),
        (SD_CONV, "%in12-13=1", "in12-13 goes past the last block. This LoRA has in1 (IN00) to in12 (IN11)."),
        (SDXL_ATTENTION, "%out1-9=1", "This LoRA has out1 (OUT00) to out6 (OUT05)."),
        (SD_ATTENTION, "%mid2=1", "mid2 goes past the last block. This LoRA has only mid1 (MID)."),
        (FLUX_ALL, "%double20=1", "This LoRA has double1 (DOUBLE00) to double19 (DOUBLE18)."),
        (FLUX_ALL, "%single39=1", "This LoRA has single1 (SINGLE00) to single38 (SINGLE37)."),
        (SD_ATTENTION, "%in0=1", "in0 has a block 0. Blocks are numbered from 1."),
        (SD_ATTENTION, "%in0-2=1", "in0-2 has a block 0."),
        (SD_ATTENTION, "%in3-1=1", "in3-1 runs backwards. Write in1-3."),
        (
            SD_ATTENTION,
            "%double=0",
            "double matches no block of this LoRA: it is for SD 1.5/2, which has in, mid and out.",
        ),
        (
            FLUX_ALL,
            "%in1=0",
            "in1 matches no block of this LoRA: it is for Flux, which has double and single.",
        ),
        (SD_ATTENTION, "%inn=1", "'inn' is not a key of the % form. The keys are default, base, in, mid, out,"),
        (SD_ATTENTION, "%IN01=1", "'IN01' is not a key"),
        (SD_ATTENTION, "%default1=1", "'default1' is not a key"),
        (SD_ATTENTION, "%in1-=1", "'in1-' is not a key"),
        (SD_ATTENTION, "%in9999999=1", "'in9999999' is not a key"),
        (SD_ATTENTION, "%", "'' is not a key"),
        (SD_ATTENTION, "%in=1,", "'' is not a key"),
        (SD_ATTENTION, "%in", "the value of in is missing"),
        (SD_ATTENTION, "%in=", "the value of in is missing"),
        (SD_ATTENTION, "%in=x", "the value of in, 'x', is not a number."),
        (SD_ATTENTION, "%in=1=2", "is not a number."),
        (SD_ATTENTION, "%in=nan", "the value of in is 'nan'. It must be a finite number."),
        (SD_ATTENTION, "%in=R", "the value of in is R, which stands for a random number"),
    ],
)
def test_the_percent_form_refuses(names: list[str], spec: str, problem: str):
    text = message(names, spec)
    assert problem in text
    assert "some.safetensors" in text and repr(spec) in text


def test_an_ambiguous_lora_takes_the_percent_form_only_if_all_layouts_agree():
    shared = ["lora_unet_down_blocks_1_attentions_0_proj_in", "lora_unet_mid_block_attentions_0_proj_in"]
    assert weigh(shared, "%in=0.5,mid=2") == [0.5, 2.0]
    assert weigh(shared, "%in6=0.5,in3=0.25") == [0.25, 1.0]  # SDXL has no sixth: this is SD's IN04
    text = message(shared, "%in1=0.5")  # SD's IN01, or SDXL's IN04
    assert "the LoRA could be for SD 1.5/2 or SDXL, which number these blocks differently" in text


# ---- refused values in a vector


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        *((letter, f"weight 2 is {letter}, which stands for a random number") for letter in "RrUu"),
        *((letter, f"weight 2 is {letter}, which stands for a widget of Inspire's node") for letter in "AaBb"),
        ("0.5 0.3", "weight 2 has several values (0.5 0.3). Write one number for the whole block."),
        ("R 0.3", "weight 2 has several values (R 0.3)."),
        ("nan", "weight 2 is 'nan'. It must be a finite number."),
        ("-inf", "weight 2 is '-inf'. It must be a finite number."),
        ("1e999", "weight 2 is '1e999'. It must be a finite number."),
        ("", "weight 2 is missing."),
        ("x", "weight 2, 'x', is not a number."),
        ("1_0", "is not a number."),
        ("0x1", "is not a number."),
        ("١", "is not a number."),
        ("1;0", "is not a number."),
    ],
)
def test_a_vector_refuses(item: str, problem: str):
    assert problem in message(SD_ATTENTION, f"1,{item}" + ",1" * 15)


@pytest.mark.parametrize("item", ["R", "b", "0.5 0.3", "inf"])
def test_a_single_refused_value_is_not_mistaken_for_a_preset(item: str):
    assert "weight 1" in message(SD_ATTENTION, item)


# ---- properties

finite = st.floats(allow_nan=False, allow_infinity=False)
LORAS = [SD_ATTENTION, SD_CONV, SDXL_ATTENTION, FLUX_ALL[:2], WAN, Z_IMAGE[:2], UNKNOWN, [TEXT_ENCODER], []]


@pytest.mark.fuzz
@settings(max_examples=400, deadline=None)
@given(
    spec=st.one_of(st.text(), notation, notation.map("%".__add__)),
    names=st.sampled_from(LORAS),
)
def test_any_text_gives_a_lora_or_a_lora_error(spec: str, names: list[str]):
    lora = make_lora(*names)
    try:
        result = with_block_weights(lora, spec, {"SD-ALL": "1" + ",1" * 16, "IN": "%in=1", "BAD": spec})
    except LoraError as error:
        assert "some.safetensors" in str(error)
    else:
        assert set(result.modules) <= set(lora.modules)


@pytest.mark.fuzz
@settings(max_examples=100, deadline=None)
@given(vector=st.lists(finite, min_size=17, max_size=17))
def test_a_vector_of_any_numbers_is_applied_exactly(vector: list[float]):
    spec = ",".join(map(repr, vector))
    order = SD.short[1:]
    blocks_in_order = [SD.block_of(path_of(name, SD)) for name in SD_ATTENTION]
    found = weigh([*SD_ATTENTION, TEXT_ENCODER], spec)
    expected = dict(zip(order, vector[1:], strict=True))
    assert found == [*(expected[block] for block in blocks_in_order if block), vector[0]]


@settings(max_examples=100, deadline=None)
@given(first=st.integers(1, 9), length=st.integers(0, 8), weight=finite, default=finite)
def test_a_range_equals_the_vector_with_its_blocks(first: int, length: int, weight: float, default: float):
    last = min(first + length, 9)
    vector = [default] * 17
    vector[7 + first : 8 + last] = [weight] * (last - first + 1)
    by_range = weigh(SD_ATTENTION, f"%default={default!r},out{first}-{last}={weight!r}")
    assert by_range == weigh(SD_ATTENTION, ",".join(map(repr, vector)))
