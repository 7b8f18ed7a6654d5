"""Writes an SD 3 model with random weights and a VAE for it, both small enough for a CPU.

    python tools/make_sd3_checkpoint.py COMFYUI_FOLDER MODEL.safetensors VAE.safetensors

Run it with ComfyUI's Python. ComfyUI infers the widths from the weights: this transformer has two blocks of width 128
and a context of 768, the width of the small SD 1.5 checkpoint's text encoder, which can therefore encode its prompts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

BLOCKS = 2  # an SD 3 model with n blocks is 64 n wide
TEXT_WIDTH = 768
LATENT_CHANNELS = 16


def write_model(model_file: Path, vae_file: Path) -> None:
    """Requires ComfyUI's folder and this one on sys.path."""
    import comfy.ops
    import torch
    from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper
    from comfy.taesd.taesd import TAESD
    from make_checkpoint import random_weight
    from safetensors.torch import save_file

    width = 64 * BLOCKS
    transformer = OpenAISignatureMMDITWrapper(
        depth=BLOCKS,
        in_channels=LATENT_CHANNELS,
        adm_in_channels=TEXT_WIDTH,
        context_embedder_config={
            "target": "torch.nn.Linear",
            "params": {"in_features": TEXT_WIDTH, "out_features": width},
        },
        num_patches=64 * 64,
        pos_embed_max_size=64,
        input_size=None,
        pos_embed_scaling_factor=None,
        dtype=torch.float16,
        device="cpu",
        operations=comfy.ops.disable_weight_init,
    )
    noise = torch.Generator().manual_seed(0)
    for file, module in ((model_file, transformer), (vae_file, TAESD(latent_channels=LATENT_CHANNELS))):
        weights = {}
        for name, like in module.state_dict().items():
            if like.is_floating_point():
                weights[name] = random_weight(name, like.shape, noise)
        save_file(weights, file)


def sd3_modules() -> Iterator[tuple[str, int, int, bool]]:
    """The image-side modules, for make_lora.write_lora, with kohya names."""
    width = 64 * BLOCKS
    for block in range(BLOCKS):
        base = f"lora_unet_joint_blocks_{block}_x_block"
        yield f"{base}_attn_qkv", 3 * width, width, False
        yield f"{base}_attn_proj", width, width, False
        yield f"{base}_mlp_fc1", 4 * width, width, False
        yield f"{base}_mlp_fc2", width, 4 * width, False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("vae", type=Path)
    args = parser.parse_args()
    sys.path.insert(0, str(args.comfyui))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True  # before any of ComfyUI's modules picks a device
    write_model(args.model, args.vae)


if __name__ == "__main__":
    main()
