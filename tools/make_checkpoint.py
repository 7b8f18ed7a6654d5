"""Writes an SD 1.5 checkpoint with random weights, small enough to sample on a CPU in a second or two.

    python tools/make_checkpoint.py COMFYUI_FOLDER OUT.safetensors [--full]

Run it with ComfyUI's Python: ComfyUI's own classes determine which weights a model has. The small model is a subset
of SD 1.5: every module has the name and shape it has there, so a LoRA for SD 1.5 applies without mismatches (to the
whole text encoder, and to the U-Net modules that the small model has). --full writes the complete U-Net, 1.7 GB.
Images are noise, but LoRAs, strengths and seeds change them as they would real ones.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Lists run from the outer level to the inner one. Both have four levels: ComfyUI counts up_blocks from the inside.
SD15 = {
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
}
# Attention only at SD 1.5's widths 320 and 640; the inner levels are narrower and have none.
SMALL = {
    "channel_mult": [1, 2, 1, 1],
    "num_res_blocks": [1, 1, 1, 1],
    "transformer_depth": [1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 0, 0, 0, 0],
    "transformer_depth_middle": -1,
}


def write_checkpoint(out: Path, full: bool = False) -> None:
    """Requires ComfyUI's folder on sys.path."""
    import comfy.ops
    import torch
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.sd1_clip import SDClipModel
    from comfy.taesd.taesd import TAESD
    from safetensors.torch import save_file

    unet = UNetModel(
        image_size=32,
        in_channels=4,
        out_channels=4,
        model_channels=320,
        num_heads=8,
        use_spatial_transformer=True,
        context_dim=768,
        legacy=False,
        dtype=torch.float16,
        device="cpu",
        operations=comfy.ops.disable_weight_init,
        **(SD15 if full else SMALL),
    )
    # ComfyUI also recognises the tiny autoencoder (2.4 M parameters instead of 84 M) by its names in a checkpoint.
    parts = {
        "model.diffusion_model.": unet,
        "first_stage_model.": TAESD(),
        "cond_stage_model.": SDClipModel(device="cpu", dtype=torch.float16),
    }
    noise = torch.Generator().manual_seed(0)
    weights = {}
    for prefix, module in parts.items():
        for name, like in module.state_dict().items():
            if like.is_floating_point() and name != "logit_scale":
                weights[prefix + name] = random_weight(name, like.shape, noise)
    save_file(weights, out)


def random_weight(name: str, shape, noise):
    """Weights that preserve the scale of activations, so that no image comes out black or NaN."""
    import torch

    if len(shape) > 1:
        fan_in = max(1, shape[1:].numel())
        return (torch.randn(shape, generator=noise) * fan_in**-0.5).half()
    return torch.ones(shape).half() if name.endswith(("weight", "vae_scale")) else torch.zeros(shape).half()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--full", action="store_true")
    args = parser.parse_args()
    sys.path.insert(0, str(args.comfyui))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True  # before any of ComfyUI's modules picks a device
    write_checkpoint(args.out, args.full)


if __name__ == "__main__":
    main()
