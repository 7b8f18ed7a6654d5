"""Module names and shapes of LoRAs for common models, generated from the models' structure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tools.make_lora import Module, clip_modules, sd15_modules


def sdxl_modules() -> list[Module]:
    """The 986 modules that kohya's trainer creates: 722 in the U-Net's attention blocks, 264 in the text encoders."""
    modules: list[Module] = []
    for block, width, depth, attentions in (
        ("down_blocks_1", 640, 2, 2),
        ("down_blocks_2", 1280, 10, 2),
        ("mid_block", 1280, 10, 1),
        ("up_blocks_0", 1280, 10, 3),
        ("up_blocks_1", 640, 2, 3),
    ):
        for attention in range(attentions):
            modules += _transformer(f"lora_unet_{block}_attentions_{attention}", width, depth, context=2048)
    modules += clip_modules("lora_te1", 12, 768)
    modules += clip_modules("lora_te2", 32, 1280)
    return modules


def flux_modules() -> list[Module]:
    """The 304 modules of Flux's 19 double and 38 single blocks, with kohya names and fused q, k and v."""
    h = 3072
    modules: list[Module] = []
    for block in range(19):
        for side in ("img", "txt"):
            prefix = f"lora_unet_double_blocks_{block}_{side}"
            modules += _linear(
                (f"{prefix}_attn_qkv", 3 * h, h),
                (f"{prefix}_attn_proj", h, h),
                (f"{prefix}_mlp_0", 4 * h, h),
                (f"{prefix}_mlp_2", h, 4 * h),
                (f"{prefix}_mod_lin", 6 * h, h),
            )
    for block in range(38):
        prefix = f"lora_unet_single_blocks_{block}"
        modules += _linear(
            (f"{prefix}_linear1", 7 * h, h),
            (f"{prefix}_linear2", h, 5 * h),
            (f"{prefix}_modulation_lin", 3 * h, h),
        )
    return modules


def wan_modules() -> list[Module]:
    """The 400 modules of Wan 2.1 and 2.2 14B: two attentions and a feed-forward in each of 40 blocks."""
    width, hidden = 5120, 13824
    modules: list[Module] = []
    for block in range(40):
        prefix = f"lora_unet_blocks_{block}"
        modules += _linear(
            *((f"{prefix}_{part}_attn_{x}", width, width) for part in ("self", "cross") for x in "qkvo"),
            (f"{prefix}_ffn_0", hidden, width),
            (f"{prefix}_ffn_2", width, hidden),
        )
    return modules


def qwen_image_modules() -> list[Module]:
    """The 720 modules of Qwen-Image: attention and feed-forward of both streams in 60 blocks, without modulation."""
    h = 3072
    attention = ("to_q", "to_k", "to_v", "to_out_0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    modules: list[Module] = []
    for block in range(60):
        prefix = f"lora_unet_transformer_blocks_{block}"
        modules += _linear(*((f"{prefix}_attn_{x}", h, h) for x in attention))
        for stream in ("img", "txt"):
            modules += _linear(
                (f"{prefix}_{stream}_mlp_net_0_proj", 4 * h, h),
                (f"{prefix}_{stream}_mlp_net_2", h, 4 * h),
            )
    return modules


ARCHITECTURES: dict[str, Callable[[], list[Module]]] = {
    "sd15": sd15_modules,
    "sdxl": sdxl_modules,
    "flux": flux_modules,
    "wan": wan_modules,
    "qwen-image": qwen_image_modules,
}


def parameters(modules: Sequence[Module], rank: int) -> int:
    return sum(rank * (rows + columns) for _, rows, columns, _ in modules)


def spread(modules: Sequence[Module], count: int) -> list[Module]:
    """``count`` of the modules, spread evenly over the model."""
    return [modules[i * len(modules) // count] for i in range(min(count, len(modules)))]


def _transformer(prefix: str, width: int, depth: int, context: int) -> Iterator[Module]:
    yield f"{prefix}_proj_in", width, width, False
    yield f"{prefix}_proj_out", width, width, False
    for layer in range(depth):
        base = f"{prefix}_transformer_blocks_{layer}"
        for attention, source in (("attn1", width), ("attn2", context)):
            yield f"{base}_{attention}_to_q", width, width, False
            yield f"{base}_{attention}_to_k", width, source, False
            yield f"{base}_{attention}_to_v", width, source, False
            yield f"{base}_{attention}_to_out_0", width, width, False
        yield f"{base}_ff_net_0_proj", 8 * width, width, False
        yield f"{base}_ff_net_2", width, 4 * width, False


def _linear(*weights: tuple[str, int, int]) -> list[Module]:
    return [(name, rows, columns, False) for name, rows, columns in weights]
