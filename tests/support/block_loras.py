"""LoRAs with modules in known blocks, and shortcuts to apply block weights to them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import strategies as st
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.block_weights.apply import with_block_weights
from lora_pack.merge.block_weights.layouts import LAYOUTS, BlockLayout
from lora_pack.merge.errors import LoraError
from lora_pack.merge.names import ARCHITECTURES, Architecture, candidates, likely, resolve

LAYOUT = {layout.name: layout for layout in LAYOUTS}
ARCHITECTURE = {architecture.name: architecture for architecture in ARCHITECTURES}
SD, SDXL, FLUX = LAYOUT["SD 1.5/2"], LAYOUT["SDXL"], LAYOUT["Flux"]
TEXT_ENCODER = "lora_te_text_model_encoder_layers_0_mlp_fc1"


def make_lora(*names: str, name: str = "some.safetensors") -> Lora:
    modules = {
        n: LoraModule.of(n, torch.zeros(rows, 1), torch.zeros(1, columns), 1.0) for n, (rows, columns) in shapes(names)
    }
    return Lora(name, modules, strength_model=0.7, strength_clip=0.6, metadata={"k": "v"})


def shapes(names: tuple[str, ...]) -> list[tuple[str, tuple[int, int]]]:
    """The names with the shapes of their weights in the first architecture that knows the names."""
    known = next(iter(likely(candidates(dict.fromkeys(names, ())))), None)
    return [(name, shape(name, known)) for name in names]


def shape(name: str, architecture: Architecture | None) -> tuple[int, int]:
    if "SelfAttention" in name:
        return 4096, 4096  # T5
    target = resolve(name, architecture)
    found = architecture.own_paths.find(target.weight.split(":")[1]) if architecture else None
    rows, columns = architecture.shapes.get(found[0], (2, 2)) if architecture and found else (2, 2)
    return int(rows * target.rows.size), columns


def path_of(name: str, layout: BlockLayout) -> str:
    """The path in ComfyUI's model that a name resolves to."""
    return resolve(name, layout.architectures[0]).weight.split(":", 1)[1]


def weights(lora: Lora) -> dict[str, float]:
    return {name: module.block_weight for name, module in lora.modules.items()}


def weigh(names: list[str], spec: str, presets: dict[str, str] | None = None) -> list[float]:
    """The weight of each module; 0 for a removed one."""
    found = weights(with_block_weights(make_lora(*names), spec, {} if presets is None else presets))
    return [found.get(name, 0.0) for name in names]


def message(names: list[str], spec: str, presets: dict[str, str] | None = None) -> str:
    with pytest.raises(LoraError) as caught:
        with_block_weights(make_lora(*names), spec, {} if presets is None else presets)
    return str(caught.value)


# ---- the blocks of some architectures, independently of the tables: a U-Net from its levels with attention


def unet(attention_by_level: list[bool]) -> list[tuple[str, str, str]]:
    """(block, diffusers path, original path) of a layer in each block of a U-Net with two resnets per level."""
    levels = len(attention_by_level)
    found = [("IN00", "conv_in", "input_blocks.0.0")]
    for b, attention in enumerate(attention_by_level):
        for i in range(2):
            n = 3 * b + 1 + i
            found.append((f"IN{n:02}", f"down_blocks.{b}.resnets.{i}.conv1", f"input_blocks.{n}.0.in_layers.2"))
            if attention:
                found.append((f"IN{n:02}", f"down_blocks.{b}.attentions.{i}.proj_in", f"input_blocks.{n}.1.proj_in"))
        if b < levels - 1:
            n = 3 * b + 3
            found.append((f"IN{n:02}", f"down_blocks.{b}.downsamplers.0.conv", f"input_blocks.{n}.0.op"))
    found += [
        ("MID", "mid_block.resnets.0.conv1", "middle_block.0.in_layers.2"),
        ("MID", "mid_block.attentions.0.proj_in", "middle_block.1.proj_in"),
        ("MID", "mid_block.resnets.1.conv1", "middle_block.2.in_layers.2"),
    ]
    for b, attention in enumerate(reversed(attention_by_level)):
        for i in range(3):
            n = 3 * b + i
            found.append((f"OUT{n:02}", f"up_blocks.{b}.resnets.{i}.conv1", f"output_blocks.{n}.0.in_layers.2"))
            if attention:
                found.append((f"OUT{n:02}", f"up_blocks.{b}.attentions.{i}.proj_in", f"output_blocks.{n}.1.proj_in"))
        if b < levels - 1:
            n, position = 3 * b + 2, 2 if attention else 1
            found.append((f"OUT{n:02}", f"up_blocks.{b}.upsamplers.0.conv", f"output_blocks.{n}.{position}.conv"))
    return found


SD_UNET = unet([True, True, True, False])
SDXL_UNET = unet([False, True, True])
FLUX_BLOCKS = [
    *(
        (f"DOUBLE{i:02}", f"transformer_blocks.{i}.attn.add_q_proj", f"double_blocks.{i}.txt_attn.qkv")
        for i in range(19)
    ),
    *((f"SINGLE{i:02}", f"single_transformer_blocks.{i}.proj_mlp", f"single_blocks.{i}.linear1") for i in range(38)),
]
# more layers of a double block, under diffusers' names
FLUX_PARTS = [
    (f"DOUBLE{i:02}", f"transformer_blocks.{i}.{part}", f"transformer_blocks.{i}.{context_part}")
    for i in range(19)
    for part, context_part in [("norm1.linear", "norm1_context.linear"), ("ff.net.2", "ff_context.net.2")]
]
BLOCKS = [(SD, SD_UNET), (SDXL, SDXL_UNET), (FLUX, [*FLUX_BLOCKS, *FLUX_PARTS])]


def kohya(path: str) -> str:
    return "lora_unet_" + path.replace(".", "_")


SD_ATTENTION = [kohya(d) for _, d, _ in SD_UNET if "attentions" in d]
SDXL_ATTENTION = [
    *(kohya(d) for _, d, _ in SDXL_UNET if "attentions" in d),
    "lora_te2_text_model_encoder_layers_0_mlp_fc1",
]
SD_CONV = [*SD_ATTENTION, "lora_unet_down_blocks_0_resnets_0_conv1"]
SDXL_CONV = [*SDXL_ATTENTION, "lora_unet_down_blocks_0_resnets_0_conv1"]
FLUX_ALL = [kohya(original) for _, _, original in FLUX_BLOCKS]
WAN = ["diffusion_model.blocks.0.self_attn.q", "diffusion_model.blocks.1.self_attn.q"]
QWEN = [f"transformer_blocks.{i}.attn.to_q" for i in range(60)]
SD3 = [f"lora_unet_joint_blocks_{i}_x_block_attn_qkv" for i in range(24)]
WAN_14B = [f"lora_unet_blocks_{i}_ffn_0" for i in range(40)]
Z_IMAGE = [f"diffusion_model.layers.{i}.attention.to_q" for i in range(30)]
UNKNOWN = ["transformer.imagined_blocks.0.attn.to_q", "transformer.imagined_blocks.1.attn.to_q"]
LENGTHS = {
    "SD 1.5/2": (17, 26),
    "SDXL": (12, 20),
    "SDXL Refiner": (12, 26),
    "KOALA": (8, 14),
    "SD x4 upscaler": (17, 26),
    "SD 3": (25, 25),
    "SD 3.5 Large": (39, 39),
    "Flux": (20, 58),
    "Flux 2": (9, 57),
    "Flux 2 Klein 4B": (6, 26),
    "Flux 2 Klein 9B": (9, 33),
    "Qwen-Image": (61, 61),
    "Wan 2.1/2.2 14B": (41, 41),
    "Wan 1.3B/5B": (31, 31),
    "HunyuanVideo": (21, 61),
    "HunyuanVideo 1.5": (55, 55),
    "Z-Image": (31, 31),
    "Lumina 2": (27, 27),
    "LTX-Video": (29, 29),
    "LTX-Video 13B/LTX 2": (49, 49),
}

# ---- random texts from the notation's tokens

tokens = st.sampled_from(
    [
        "%",
        ",",
        ":",
        "=",
        "-",
        " ",
        "\n",
        "in",
        "mid",
        "out",
        "double",
        "single",
        "block",
        "default",
        "base",
        "0",
        "1",
        "2",
        "9",
    ]
    + ["0.5", "-1", ".", "e", "R", "a", "nan", "inf", "SD-ALL", "IN", "x", "１", "\x00", "é"]
)
notation = st.lists(tokens, max_size=12).map("".join)
