"""Small model files with the keys of real checkpoints, and LoRAs for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from lora_pack.merge.io import safetensors_file
from safetensors.torch import save_file
from torch import Tensor

State = dict[str, Tensor]
UNET = "model.diffusion_model."
IN_UNET = "input_blocks.4.1.transformer_blocks.0."
CLIP_L = "conditioner.embedders.0.transformer.text_model.encoder.layers.0."
CLIP_G = "conditioner.embedders.1.model."
VAE = "first_stage_model.decoder.conv_in.weight"


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float16) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def sdxl(dtype: torch.dtype = torch.float16) -> State:
    """Some weights of an SDXL checkpoint, narrower than they are: U-Net, both text encoders and the VAE."""
    shapes = {
        f"{UNET}input_blocks.0.0.weight": (8, 4, 3, 3),
        f"{UNET}input_blocks.0.0.bias": (8,),
        f"{UNET}{IN_UNET}attn1.to_q.weight": (16, 16),
        f"{UNET}{IN_UNET}attn2.to_k.weight": (16, 24),
        f"{UNET}{IN_UNET}norm1.weight": (16,),
        f"{UNET}{IN_UNET}ff.net.0.proj.weight": (64, 16),
        f"{UNET}{IN_UNET}ff.net.0.proj.bias": (64,),
        f"{UNET}input_blocks.7.1.transformer_blocks.9.attn1.to_q.weight": (16, 16),
        f"{UNET}label_emb.0.0.weight": (16, 12),
        f"{CLIP_L}mlp.fc1.weight": (20, 10),
        f"{CLIP_G}transformer.resblocks.0.attn.in_proj_weight": (36, 12),
        f"{CLIP_G}transformer.resblocks.0.attn.in_proj_bias": (36,),
        f"{CLIP_G}transformer.resblocks.0.mlp.c_fc.weight": (24, 12),
        f"{CLIP_G}text_projection": (12, 15),
        VAE: (6, 4, 3, 3),
    }
    return {key: normal(seed, *shape, dtype=dtype) for seed, (key, shape) in enumerate(shapes.items())}


def flux(dtype: torch.dtype = torch.bfloat16) -> State:
    """Some weights of a Flux diffusion model without a prefix."""
    shapes = {
        "img_in.weight": (8, 4),
        "double_blocks.0.img_attn.qkv.weight": (24, 8),
        "double_blocks.0.img_attn.norm.query_norm.scale": (4,),
        "double_blocks.18.img_attn.qkv.weight": (24, 8),
        "single_blocks.0.linear1.weight": (56, 8),
        "single_blocks.37.linear1.weight": (56, 8),
        "guidance_in.in_layer.weight": (8, 5),
        "final_layer.adaLN_modulation.1.weight": (16, 8),
    }
    return {key: normal(seed, *shape, dtype=dtype) for seed, (key, shape) in enumerate(shapes.items())}


def lora_of(modules: Mapping[str, tuple[int, ...]], rank: int = 2, seed: int = 100) -> State:
    """kohya's tensors of a LoRA with these weights, alpha half the rank."""
    tensors: State = {}
    for number, (name, shape) in enumerate(modules.items()):
        up, down = (shape[0], rank, *(1,) * (len(shape) - 2)), (rank, *shape[1:])
        tensors[f"{name}.lora_up.weight"] = normal(seed + 2 * number, *up, dtype=torch.float32)
        tensors[f"{name}.lora_down.weight"] = normal(seed + 2 * number + 1, *down, dtype=torch.float32)
        tensors[f"{name}.alpha"] = torch.tensor(rank / 2)
    return tensors


def delta_of(tensors: Mapping[str, Tensor], name: str, strength: float = 1.0) -> Tensor:
    """The delta of a module of ``lora_of`` in float64, as a matrix."""
    up, down = (tensors[f"{name}.lora_{side}.weight"].double().flatten(1) for side in ("up", "down"))
    return strength * float(tensors[f"{name}.alpha"]) / down.shape[0] * up @ down


def write(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> Path:
    save_file(dict(tensors), path, metadata or None)
    return path


def contents(path: Path) -> tuple[State, dict[str, str]]:
    """A file's tensors in the order of their data, and its metadata."""
    stored, metadata = safetensors_file.index(path)
    return {key: safetensors_file.read([one])[0] for key, one in stored.items()}, metadata
