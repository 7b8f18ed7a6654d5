"""Writes LoRA files with SD 1.5's module names (kohya style) and shapes, and synthetic weights.

    python tools/make_lora.py OUT.safetensors [--rank 8] [--alpha 8] [--dtype float16] [--seed 0] [--small]

Requires torch and safetensors. The same arguments give the same weights on every machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

# (name, out, in, whether it is a 1x1 convolution)
Module = tuple[str, int, int, bool]

DOWN_WIDTHS = {0: 320, 1: 640, 2: 1280}
UP_WIDTHS = {1: 1280, 2: 640, 3: 320}
MIDDLE_WIDTH = 1280
CONTEXT = 768

# The blocks of SD 1.5's U-Net that the small model of make_checkpoint.py has.
SMALL_BLOCKS = (
    "down_blocks_0_attentions_0",
    "down_blocks_1_attentions_0",
    "up_blocks_2_attentions_0",
    "up_blocks_2_attentions_1",
    "up_blocks_3_attentions_0",
    "up_blocks_3_attentions_1",
)


def sd15_modules() -> list[Module]:
    """The 264 modules of a typical SD 1.5 LoRA: 192 in the U-Net's attention blocks, 72 in the text encoder."""
    modules: list[Module] = []
    for block, width in DOWN_WIDTHS.items():
        for attention in range(2):
            modules += _attention(f"down_blocks_{block}_attentions_{attention}", width)
    modules += _attention("mid_block_attentions_0", MIDDLE_WIDTH)
    for block, width in UP_WIDTHS.items():
        for attention in range(3):
            modules += _attention(f"up_blocks_{block}_attentions_{attention}", width)
    return [*modules, *clip_modules("lora_te", 12, CONTEXT)]


def small_modules(text_layers: int = 2) -> list[Module]:
    """The 72 U-Net modules of the small checkpoint, and those of the text encoder's first layers (of 12)."""
    modules = [module for block in SMALL_BLOCKS for module in _attention(block, _width(block))]
    return [*modules, *clip_modules("lora_te", text_layers, CONTEXT)]


def write_lora(
    out: Path,
    rank: int = 8,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float16,
    alpha: float | None = None,
    modules: Iterable[Module] | None = None,
) -> None:
    """Write a random LoRA, strong enough to change a picture visibly.

    The singular values of each delta decay like those of trained LoRAs.
    """
    noise = torch.Generator().manual_seed(seed)
    decay = (torch.arange(rank) + 1.0).pow(-0.4) * 1.1
    tensors: dict[str, torch.Tensor] = {}
    for name, rows, columns, conv in sd15_modules() if modules is None else modules:
        up = torch.randn(rows, rank, generator=noise) / rows**0.5 * decay
        down = torch.randn(rank, columns, generator=noise) / columns**0.5 * decay[:, None]
        if conv:
            up, down = up[:, :, None, None], down[:, :, None, None]
        tensors[f"{name}.lora_up.weight"] = up.to(dtype).contiguous()
        tensors[f"{name}.lora_down.weight"] = down.to(dtype).contiguous()
        tensors[f"{name}.alpha"] = torch.tensor(float(rank if alpha is None else alpha))
    save_file(tensors, out)


def _attention(block: str, width: int) -> Iterator[Module]:
    prefix = f"lora_unet_{block}"
    yield f"{prefix}_proj_in", width, width, True
    for attention, source in (("attn1", width), ("attn2", CONTEXT)):
        base = f"{prefix}_transformer_blocks_0_{attention}"
        yield f"{base}_to_q", width, width, False
        yield f"{base}_to_k", width, source, False
        yield f"{base}_to_v", width, source, False
        yield f"{base}_to_out_0", width, width, False
    yield f"{prefix}_transformer_blocks_0_ff_net_0_proj", 8 * width, width, False
    yield f"{prefix}_transformer_blocks_0_ff_net_2", width, 4 * width, False
    yield f"{prefix}_proj_out", width, width, True


def clip_modules(encoder: str, layers: int, width: int) -> Iterator[Module]:
    """The six modules of each layer of a CLIP text encoder."""
    for layer in range(layers):
        prefix = f"{encoder}_text_model_encoder_layers_{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{prefix}_self_attn_{part}", width, width, False
        yield f"{prefix}_mlp_fc1", 4 * width, width, False
        yield f"{prefix}_mlp_fc2", width, 4 * width, False


def _width(block: str) -> int:
    side, number = block.split("_")[0], int(block.split("_")[2])
    return (DOWN_WIDTHS if side == "down" else UP_WIDTHS)[number]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--alpha", type=float)
    parser.add_argument("--dtype", default="float16", choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="only the modules of the small checkpoint")
    args = parser.parse_args()
    write_lora(
        args.out,
        args.rank,
        seed=args.seed,
        dtype=getattr(torch, args.dtype),
        alpha=args.alpha,
        modules=small_modules() if args.small else None,
    )


if __name__ == "__main__":
    main()
