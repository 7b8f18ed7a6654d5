"""Which architecture a LoRA's modules belong to, and which LoRAs fit together."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.names import (
    ARCHITECTURES,
    Architecture,
    candidates,
    compatible,
    find_clash,
    recognise,
    resolve,
    shared_architecture,
    style_names,
)
from lora_pack.tests.support.architectures import (
    BY_NAME,
    STYLES,
    Modules,
    candidates_of_all,
    each_architecture,
    modules_of,
)
from lora_pack.tests.support.makers import examples


def clip(prefix: str, width: int) -> Modules:
    return {
        f"{prefix}text_model_encoder_layers_0_{m}": (width, width) for m in ("self_attn_q_proj", "self_attn_v_proj")
    }


SD15: Modules = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (320, 768),
    "lora_unet_down_blocks_0_attentions_0_proj_in": (320, 320, 1, 1),
    **clip("lora_te_", 768),
}
SDXL: Modules = {
    "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q": (640, 640),
    "lora_unet_mid_block_attentions_0_transformer_blocks_9_attn1_to_q": (1280, 1280),
}
FLUX: Modules = {
    **{f"lora_unet_double_blocks_{i}_img_attn_qkv": (9216, 3072) for i in range(19)},
    **{f"lora_unet_single_blocks_{i}_linear1": (21504, 3072) for i in range(38)},
}
QWEN: Modules = {f"transformer_blocks.{i}.attn.add_k_proj": (3072, 3072) for i in range(60)}
WAN: Modules = {f"diffusion_model.blocks.{i}.self_attn.q": (5120, 5120) for i in range(40)}
Z_IMAGE: Modules = {
    **{f"diffusion_model.layers.{i}.attention.to_q": (3840, 3840) for i in range(30)},
    "diffusion_model.layers.0.feed_forward.w1": (10240, 3840),
    "diffusion_model.layers.0.adaLN_modulation.0": (15360, 256),
}

RECOGNISED: dict[str, tuple[Modules, str | None]] = {
    # as files of trainers are
    "SD 1.5 LoCon, kohya": (
        SD15
        | {
            "lora_unet_down_blocks_0_resnets_0_conv1": (320, 320, 3, 3),
            "lora_unet_down_blocks_0_downsamplers_0_conv": (320, 320, 3, 3),
            "lora_unet_down_blocks_0_resnets_0_time_emb_proj": (320, 1280),
        },
        "SD 1.5",
    ),
    "SDXL, kohya, down_blocks": (SDXL, "SDXL"),
    "SDXL, kohya, input_blocks": ({"lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k": (640, 2048)}, "SDXL"),
    "Flux, kohya": (FLUX, "Flux"),
    "Qwen-Image-Edit, bare": (QWEN, "Qwen-Image"),
    "Wan 2.2": (WAN, "Wan 2.1/2.2 14B"),
    "Z-Image": (Z_IMAGE, "Z-Image"),
    # U-Nets by the width of the text, then by the width and depth of a layer
    "SD 2": ({"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (1280, 1024)}, "SD 2"),
    "SD 1.5, one attention": ({"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (1280, 768)}, "SD 1.5"),
    "SDXL, one attention": ({"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (1280, 2048)}, "SDXL"),
    "SD 1.5 by the width of a layer": ({"lora_unet_up_blocks_1_attentions_0_proj_in": (1280, 1280)}, "SD 1.5"),
    "SDXL by the width of a layer": (
        {
            "lora_unet_up_blocks_1_attentions_0_proj_in": (640, 640),
            "lora_unet_up_blocks_1_attentions_2_proj_in": (640, 640),
        },
        "SDXL",
    ),
    "SDXL or KOALA, which number this layer differently": (
        {"lora_unet_up_blocks_1_attentions_0_proj_in": (640, 640)},
        None,
    ),
    "SDXL by its second text encoder": (
        {"lora_unet_mid_block_attentions_0_proj_in": (1280, 1280), **clip("lora_te2_", 1280)},
        "SDXL",
    ),
    "SD 1.5 or SDXL": ({"lora_unet_mid_block_attentions_0_proj_in": (1280, 1280)}, None),
    "SD 2 by its text encoder": (clip("lora_te_", 1024), "SD 2"),
    "the first text encoder alone": (clip("lora_te_", 768), None),
    "both text encoders": (clip("lora_te1_", 768) | clip("lora_te2_", 1280), None),
    "T5 as the second": ({"lora_te2_encoder_block_0_layer_0_SelfAttention_q": (4096, 4096)}, "Flux"),
    # diffusers' transformers, which share many names
    "SD 3 Medium": ({f"transformer.transformer_blocks.{i}.attn.to_q": (1536, 1536) for i in range(24)}, "SD 3"),
    "SD 3.5 Large": ({"transformer.transformer_blocks.0.attn.to_q": (2432, 2432)}, "SD 3.5 Large"),
    "Flux, diffusers": (
        {
            "transformer.transformer_blocks.0.attn.to_q": (3072, 3072),
            "transformer.single_transformer_blocks.37.attn.to_q": (3072, 3072),
        },
        "Flux",
    ),
    "LongCat-Image with its biases": (
        {
            f"diffusion_model.{block_list}.{i}.{layer}": shape
            for block_list, count, layer, shape in [
                ("double_blocks", 10, "img_attn.qkv", (9216, 3072)),
                ("double_blocks", 10, "img_attn.qkv.bias", (9216,)),
                ("single_blocks", 20, "linear1", (21504, 3072)),
                ("single_blocks", 20, "linear1.bias", (21504,)),
            ]
            for i in range(count)
        },
        "LongCat-Image",
    ),
    "Flux or Ovis-Image, which has more rows in linear1": (
        {"transformer.single_transformer_blocks.0.attn.to_q": (3072, 3072)},
        None,
    ),
    "Ovis-Image, diffusers": (
        {f"transformer.single_transformer_blocks.{i}.attn.to_q": (3072, 3072) for i in range(27)},
        "Ovis-Image",
    ),
    "Flux, two single blocks": (
        {f"transformer.single_transformer_blocks.{i}.proj_out": (3072, 15360) for i in (7, 20)},
        "Flux",
    ),
    "Flux, double blocks alone": (
        {f"transformer.transformer_blocks.{i}.attn.to_q": (3072, 3072) for i in range(19)},
        "Flux",
    ),
    "Flux, context": ({"transformer.transformer_blocks.18.ff_context.net.2": (3072, 12288)}, "Flux"),
    "Flux or Qwen-Image": ({"transformer.transformer_blocks.0.attn.to_q": (3072, 3072)}, None),
    "Flux, diffusers' prefix and ComfyUI's path": ({"transformer.double_blocks.0.img_attn.qkv": (9216, 3072)}, "Flux"),
    "Flux control": ({"double_blocks.0.img_mod.lin": (18432, 3072), "img_in": (3072, 128)}, "Flux"),
    "Chroma": (
        FLUX | {"lora_unet_distilled_guidance_layer_layers_0_in_layer": (5120, 5120)},
        "Chroma",
    ),
    "Flux 2": ({"transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj": (55296, 6144)}, "Flux 2"),
    "Flux 2 Klein 4B": (
        {"transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj": (27648, 3072)},
        "Flux 2 Klein 4B",
    ),
    "Flux 2 Klein 4B, own paths": ({"diffusion_model.single_blocks.0.linear1": (27648, 3072)}, "Flux 2 Klein 4B"),
    "Flux 2 Klein 9B": ({"diffusion_model.double_blocks.0.img_attn.qkv": (12288, 4096)}, "Flux 2 Klein 9B"),
    "Flux 2 Klein 9B, kohya": ({"lora_unet_double_blocks_0_img_attn_qkv": (12288, 4096)}, "Flux 2 Klein 9B"),
    "Joy-Image, the original's paths": ({"double_blocks.0.img_attn_qkv": (12288, 4096)}, "Joy-Image"),
    "HunyuanVideo by its number of blocks": ({"lora_unet_single_blocks_39_linear2": (3072, 15360)}, "HunyuanVideo"),
    "HunyuanVideo by diffusion-pipe's names": (
        {"transformer.double_blocks.0.img_attn_qkv": (9216, 3072)},
        "HunyuanVideo",
    ),
    "HunyuanVideo by Tencent's names of layers": (
        {"lora_unet_double_blocks_0_img_mlp_fc1": (12288, 3072)},
        "HunyuanVideo",
    ),
    "HunyuanVideo 1.5": ({"diffusion_model.double_blocks.0.img_attn.qkv": (6144, 2048)}, "HunyuanVideo 1.5"),
    "HunyuanImage": ({"diffusion_model.double_blocks.0.img_attn.qkv": (10752, 3584)}, "HunyuanImage 2.1"),
    "Wan 1.3B": ({"lora_unet_blocks_0_self_attn_q": (1536, 1536)}, "Wan 2.1 1.3B"),
    "Wan 5B": ({"lora_unet_blocks_0_self_attn_q": (3072, 3072)}, "Wan 2.2 5B"),
    "Wan, diffusers": ({"transformer.blocks.0.attn1.to_q": (5120, 5120)}, "Wan 2.1/2.2 14B"),
    "Lumina 2": ({"diffusion_model.layers.0.attention.qkv": (3840, 2304)}, "Lumina 2"),
    "Lumina 2, diffusers": ({"transformer.layers.0.attn.to_k": (768, 2304)}, "Lumina 2"),
    "Z-Image, own paths": ({"lora_unet_layers_0_attention_qkv": (11520, 3840)}, "Z-Image"),
    "LTX-Video": (
        {
            "transformer.transformer_blocks.0.attn1.to_q": (2048, 2048),
            "transformer.transformer_blocks.0.attn2.to_k": (2048, 2048),
        },
        "LTX-Video",
    ),
    "LTX-Video or Anima": ({"transformer.transformer_blocks.0.attn1.to_q": (2048, 2048)}, None),
    "Anima, kohya": ({"lora_unet_blocks_0_self_attn_q_proj": (2048, 2048)}, "Anima/Cosmos Predict2 2B"),
    "Anima, diffusers": (
        {"transformer.transformer_blocks.0.attn2.to_k": (2048, 1024)},
        "Anima/Cosmos Predict2 2B",
    ),
    "Anima by its adapter": ({"text_conditioner.blocks.0.self_attn.q_proj": (1024, 1024)}, "Anima/Cosmos Predict2 2B"),
    "Cosmos 1 or Predict2, with the same names in diffusers": (
        {"transformer.transformer_blocks.0.attn2.to_k": (5120, 1024)},
        None,
    ),
    "CogVideoX": ({"transformer.transformer_blocks.0.attn1.to_q": (1920, 1920)}, "CogVideoX 2B"),
    "Mochi": ({"transformer.transformer_blocks.0.attn1.add_q_proj": (3072, 1536)}, "Mochi"),
    "ACE-Step 1.5": ({"base_model.model.layers.0.self_attn.q_proj": (2048, 2048)}, "ACE-Step 1.5"),
    "ACE-Step 1.5 XL": ({"lycoris_layers_0_self_attn_q_proj": (4096, 2560)}, "ACE-Step 1.5 XL"),
    "MiniMax H3": ({"diffusion_model.blocks.0.attn.qkv_proj": (21504, 5376)}, "MiniMax H3"),
    "SeedVR2": ({"diffusion_model.blocks.0.attn.proj_qkv.vid": (9216, 3072)}, "SeedVR2 7B"),
    "HunyuanImage's refiner": (
        {"diffusion_model.double_blocks.0.img_attn.qkv": (9984, 3328)},
        "HunyuanImage 2.1 Refiner",
    ),
    "Hunyuan3D": ({"diffusion_model.double_blocks.0.img_attn.qkv": (3072, 1024)}, "Hunyuan3D 2"),
    "Hunyuan3D or Flux without shapes": ({"diffusion_model.double_blocks.0.img_attn.qkv": ()}, "Flux"),
    "LTX 2": ({"diffusion_model.transformer_blocks.0.audio_attn1.to_q": (2048, 2048)}, "LTX 2"),
    # without shapes, and with names that are unknown
    "names alone": (dict.fromkeys(WAN, ()), "Wan 2.1/2.2 14B"),
    "with a norm": (WAN | {"diffusion_model.blocks.0.norm3": (5120,)}, "Wan 2.1/2.2 14B"),
    "one unknown module in ten": (dict(list(WAN.items())[:9]) | {"what.is.this": (1, 1)}, "Wan 2.1/2.2 14B"),
    "two unknown modules in ten": (dict(list(WAN.items())[:8]) | {"what.is.this": (1, 1), "or.this": (1, 1)}, None),
    # others
    "PixArt": ({"transformer.transformer_blocks.0.attn1.to_q": (1152, 1152)}, "PixArt"),
    "AuraFlow": ({"transformer.joint_transformer_blocks.0.attn.to_q": (3072, 3072)}, "AuraFlow"),
    "AnimateDiff": ({"down_blocks.0.motion_modules.0.temporal_transformer.proj_in": (320, 320)}, None),
    "SDXL refiner": (
        {
            "lora_unet_up_blocks_2_attentions_0_proj_in": (768, 768),
            "lora_unet_mid_block_attentions_0_transformer_blocks_3_ff_net_2": (1536, 6144),
        },
        "SDXL Refiner",
    ),
    "the names of Wan in another size": ({"diffusion_model.blocks.0.self_attn.q": (999, 999)}, None),
    "nothing": ({}, None),
}


@pytest.mark.parametrize(("modules", "expected"), RECOGNISED.values(), ids=RECOGNISED.keys())
def test_recognised_architecture(modules: Modules, expected: str | None):
    found = recognise(modules)
    assert (found.name if found else None) == expected
    assert expected is None or BY_NAME[expected] in candidates(modules)
    assert recognise(dict(reversed(modules.items()))) is found


# The same class, width and depth in diffusers: nothing tells them apart.
ALIKE_IN_DIFFUSERS = ("Cosmos 14B", "Cosmos Predict2 14B")


@each_architecture
def test_a_lora_of_all_weights_is_recognised_in_every_style(architecture: Architecture):
    shapes = {resolve(n, architecture).weight: s for n, s in modules_of(architecture, every_block=True).items()}
    for style in STYLES:
        modules: Modules = {}
        for weight, (rows, columns) in shapes.items():
            for other, target in style_names(weight, architecture, style):
                modules[other] = (int(rows * target.rows.size), columns)
        found = candidates(modules)
        assert architecture in found
        if not modules or (style == "peft" and architecture.name in ALIKE_IN_DIFFUSERS):
            continue
        assert all(compatible(a, architecture) or architecture.family in a.defers_to for a in found)


@examples(300)
@given(data=st.data(), architecture=st.sampled_from(ARCHITECTURES))
def test_some_modules_of_a_lora_are_never_recognised_as_another_architecture(
    data: st.DataObject, architecture: Architecture
):
    modules = modules_of(architecture)
    names = data.draw(st.lists(st.sampled_from(list(modules)), min_size=1, max_size=8, unique=True))
    style = data.draw(st.sampled_from(STYLES))
    part: Modules = {}
    for name in names:
        rows, columns = modules[name]
        for other, target in style_names(resolve(name, architecture).weight, architecture, style):
            part[other] = (int(rows * target.rows.size), columns)
    found = candidates(part)
    assert architecture in found
    recognised = recognise(part)
    if recognised is not None and not compatible(recognised, architecture):
        assert recognised.family in (architecture.family, *architecture.defers_to)
        for name in part:  # the two must resolve all of its names alike
            assert resolve(name, recognised) == resolve(name, architecture)
    # a LoRA of all weights decides for it
    whole = candidates_of_all(architecture)
    assert find_clash([found, whole]) is None
    together = shared_architecture([found, whole])
    assert together is not None and compatible(together, architecture)


def test_which_architectures_are_compatible():
    def mixes(first: str, second: str) -> bool:
        assert compatible(BY_NAME[first], BY_NAME[second]) == compatible(BY_NAME[second], BY_NAME[first])
        return compatible(BY_NAME[first], BY_NAME[second])

    assert mixes("Flux", "Chroma")
    assert mixes("LTX-Video 13B", "LTX 2")
    assert all(mixes(name, name) for name in BY_NAME)
    for first, second in [
        ("SD 1.5", "SDXL"),
        ("SD 1.5", "SD 2"),
        ("SD 3", "SD 3.5 Large"),
        ("Flux", "Flux 2"),
        ("Flux", "Flux 2 Klein 4B"),
        ("Flux", "HunyuanVideo"),
        ("Flux", "Qwen-Image"),
        ("Wan 2.1/2.2 14B", "Wan 2.1 1.3B"),
        ("Lumina 2", "Z-Image"),
    ]:
        assert not mixes(first, second)


def test_find_clash_gives_the_first_two_incompatible_loras():
    text_encoder = candidates(clip("lora_te1_", 768))
    sd, xl, flux = candidates(SD15), candidates(SDXL), candidates(FLUX)
    unknown = candidates({"what.is.this": (1, 1)})
    assert unknown == ()
    assert find_clash([sd, text_encoder, unknown, sd]) is None
    assert find_clash([text_encoder, sd, unknown, xl]) == (1, 3)
    assert find_clash([xl, xl, flux]) == (0, 2)
    hunyuan = candidates({f"lora_unet_double_blocks_{i}_img_attn_qkv": (9216, 3072) for i in range(20)})
    assert find_clash([flux, hunyuan]) == (0, 1)
    some_of_either = candidates({"lora_unet_double_blocks_0_img_attn_qkv": (9216, 3072)})
    assert find_clash([some_of_either, hunyuan]) is None and find_clash([some_of_either, flux]) is None
    assert find_clash([]) is None


def test_an_ambiguous_lora_is_decided_by_another():
    text_encoder = candidates(clip("lora_te1_", 768))
    either = candidates({"transformer.transformer_blocks.0.attn.to_q": (3072, 3072)})
    assert shared_architecture([text_encoder]) is None and shared_architecture([either]) is None
    assert shared_architecture([text_encoder, candidates(SDXL)]) is BY_NAME["SDXL"]
    assert shared_architecture([either, candidates(QWEN)]) is BY_NAME["Qwen-Image"]
    assert shared_architecture([either, candidates(FLUX)]) is BY_NAME["Flux"]
    chroma = candidates(RECOGNISED["Chroma"][0])
    assert shared_architecture([candidates(FLUX), chroma]) is BY_NAME["Chroma"]  # Chroma has all of these modules too
    with_modulation = candidates(FLUX | {"lora_unet_double_blocks_0_img_mod_lin": (18432, 3072)})
    assert shared_architecture([with_modulation, chroma]) is BY_NAME["Flux"]
    assert shared_architecture([]) is None and shared_architecture([()]) is None
    assert shared_architecture([(), candidates(WAN)]) is BY_NAME["Wan 2.1/2.2 14B"]


def test_architectures_of_one_family_resolve_names_alike():
    assert len(BY_NAME) == len(ARCHITECTURES)  # the names are unique
    for family in {architecture.family for architecture in ARCHITECTURES}:
        members = [a for a in ARCHITECTURES if a.family == family]
        for first, second in itertools.combinations(members, 2):
            for name in modules_of(first):
                parts = style_names(resolve(name, first).weight, first, "peft")
                if second.own_paths.find(resolve(name, first).weight.split(":")[1]) is not None:
                    for other in (name, *(part for part, target in parts if not target.swapped)):
                        assert resolve(other, first) == resolve(other, second)
