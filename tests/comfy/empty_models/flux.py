"""Flux and models with the same structure: double blocks, then single blocks."""

from __future__ import annotations

import torch

from .entry import Config, Entry

FLUX: Config = {
    "image_model": "flux",
    "axes_dim": [16, 56, 56],
    "num_heads": 24,
    "mlp_ratio": 4.0,
    "theta": 10000,
    "out_channels": 16,
    "qkv_bias": True,
    "in_channels": 16,
    "hidden_size": 3072,
    "context_in_dim": 4096,
    "patch_size": 2,
    "vec_in_dim": 768,
    "depth": 19,
    "depth_single_blocks": 38,
    "guidance_embed": True,
}
OVIS = FLUX | {
    "guidance_embed": False,
    "vec_in_dim": None,
    "context_in_dim": 2048,
    "depth": 6,
    "depth_single_blocks": 27,
    "yak_mlp": True,
    "txt_norm": True,
    "txt_ids_dims": [1, 2],
}
LONGCAT = FLUX | {
    "guidance_embed": False,
    "vec_in_dim": None,
    "context_in_dim": 3584,
    "depth": 10,
    "depth_single_blocks": 20,
    "txt_ids_dims": [1, 2],
}
CHROMA = FLUX | {
    "image_model": "chroma",
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 3072,
    "hidden_dim": 5120,
    "n_layers": 5,
    "vec_in_dim": None,
}
RADIANCE = CHROMA | {
    "image_model": "chroma_radiance",
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": 16,
    "nerf_hidden_size": 64,
    "nerf_mlp_ratio": 4,
    "nerf_depth": 4,
    "nerf_max_freqs": 8,
    "nerf_tile_size": 512,
    "nerf_final_head_type": "conv",
    "nerf_embedder_dtype": torch.float32,
    "use_x0": False,
    "use_sequential_txt_ids": False,
}
FLUX2 = FLUX | {
    "image_model": "flux2",
    "axes_dim": [32] * 4,
    "num_heads": 48,
    "mlp_ratio": 3.0,
    "theta": 2000,
    "out_channels": 128,
    "global_modulation": True,
    "vec_in_dim": None,
    "mlp_silu_act": True,
    "qkv_bias": False,
    "ops_bias": False,
    "in_channels": 128,
    "hidden_size": 6144,
    "context_in_dim": 15360,
    "patch_size": 1,
    "depth": 8,
    "depth_single_blocks": 48,
}
KLEIN_4B = FLUX2 | {
    "hidden_size": 3072,
    "num_heads": 24,
    "depth": 5,
    "depth_single_blocks": 20,
    "context_in_dim": 7680,
    "guidance_embed": False,
}
KLEIN_9B = KLEIN_4B | {
    "hidden_size": 4096,
    "num_heads": 32,
    "depth": 8,
    "depth_single_blocks": 24,
    "context_in_dim": 12288,
}
HUNYUAN = FLUX | {
    "image_model": "hunyuan_video",
    "patch_size": [1, 2, 2],
    "theta": 256,
    "depth": 20,
    "depth_single_blocks": 40,
    "meanflow": False,
    "byt5": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
}
HUNYUAN_15 = HUNYUAN | {
    "in_channels": 65,
    "out_channels": 32,
    "patch_size": [1, 1, 1],
    "vec_in_dim": None,
    "byt5": True,
    "guidance_embed": False,
    "hidden_size": 2048,
    "num_heads": 16,
    "depth": 54,
    "depth_single_blocks": 0,
    "context_in_dim": 3584,
    "use_cond_type_embedding": True,
    "vision_in_dim": 1152,
}
HUNYUAN_IMAGE = HUNYUAN | {
    "in_channels": 64,
    "out_channels": 64,
    "patch_size": [1, 1],
    "axes_dim": [64, 64],
    "vec_in_dim": None,
    "byt5": True,
    "guidance_embed": False,
    "hidden_size": 3584,
    "num_heads": 28,
    "context_in_dim": 3584,
}
HUNYUAN_REFINER = HUNYUAN | {
    "in_channels": 128,
    "out_channels": 64,
    "patch_size": [1, 1, 1],
    "vec_in_dim": None,
    "hidden_size": 3328,
    "num_heads": 26,
    "context_in_dim": 3584,
}

MODELS: dict[str, Entry] = {
    "Flux": ("Flux", "Flux", FLUX),
    "Flux Schnell": ("Flux", "FluxSchnell", FLUX | {"guidance_embed": False}),
    "Flux Fill": ("Flux", "FluxInpaint", FLUX | {"in_channels": 96}),
    "Chroma": ("Chroma", "Chroma", CHROMA),
    "Chroma Radiance": ("Chroma", "ChromaRadiance", RADIANCE),
    "Flux 2": ("Flux 2", "Flux2", FLUX2),
    "Flux 2 Klein 4B": ("Flux 2 Klein 4B", "Flux2", KLEIN_4B),
    "Flux 2 Klein 9B": ("Flux 2 Klein 9B", "Flux2", KLEIN_9B),
    "HunyuanVideo": ("HunyuanVideo", "HunyuanVideo", HUNYUAN),
    "HunyuanVideo image": ("HunyuanVideo", "HunyuanVideoI2V", HUNYUAN | {"in_channels": 33}),
    "SkyReels image": ("HunyuanVideo", "HunyuanVideoSkyreelsI2V", HUNYUAN | {"in_channels": 32}),
    "HunyuanVideo 1.5": ("HunyuanVideo 1.5", "HunyuanVideo15", HUNYUAN_15),
    "HunyuanVideo 1.5 SR": ("HunyuanVideo 1.5", "HunyuanVideo15_SR_Distilled", HUNYUAN_15 | {"in_channels": 98}),
    "HunyuanImage": ("HunyuanImage 2.1", "HunyuanImage21", HUNYUAN_IMAGE),
    "HunyuanImage distilled": (
        "HunyuanImage 2.1",
        "HunyuanImage21",
        HUNYUAN_IMAGE | {"guidance_embed": True, "meanflow": True},
    ),
    "Ovis-Image": ("Ovis-Image", "FluxSchnell", OVIS),
    "LongCat-Image": ("LongCat-Image", "LongCatImage", LONGCAT),
    "HunyuanImage refiner": ("HunyuanImage 2.1 Refiner", "HunyuanImage21Refiner", HUNYUAN_REFINER),
}
