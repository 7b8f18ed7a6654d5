"""The classes of ComfyUI that nobody trains LoRAs for. test_every_model.py checks that it maps only its own names."""

from __future__ import annotations

from .entry import Config

DETECTOR = "finds things in a picture: its nodes call it without a sampler, and no trainer writes LoRAs for it"
SHAPES = "makes 3D shapes: neither diffusers nor a trainer of LoRAs has it"
NO_LORA_NAMES: dict[str, str] = {
    "RT_DETR_v4": DETECTOR,
    "SAM3": DETECTOR,
    "SAM31": DETECTOR,
    "DepthAnything3": DETECTOR,
    "Hunyuan3Dv2": SHAPES,
    "Hunyuan3Dv2mini": SHAPES,
    "Hunyuan3Dv2_1": SHAPES,
    "TripoSplat": SHAPES,
    "Trellis2": SHAPES,
}

HUNYUAN_3D: Config = {
    "image_model": "hunyuan3d2",
    "in_channels": 64,
    "context_in_dim": 1536,
    "hidden_size": 1024,
    "mlp_ratio": 4.0,
    "num_heads": 16,
    "depth": 16,
    "depth_single_blocks": 32,
    "qkv_bias": True,
    "guidance_embed": False,
}
HUNYUAN_3D_21: Config = {
    "image_model": "hunyuan3d2_1",
    "in_channels": 64,
    "context_dim": 1024,
    "hidden_size": 2048,
    "mlp_ratio": 4.0,
    "num_heads": 16,
    "depth": 21,
    "qkv_bias": False,
    "guidance_cond_proj_dim": None,
}
DEPTH_ANYTHING: Config = {
    "image_model": "DepthAnything3",
    "backbone_name": "vitl",
    "alt_start": -1,
    "rope_start": -1,
    "qknorm_start": -1,
    "cat_token": False,
    "head_dim_in": 1024,
    "head_features": 256,
    "head_out_channels": [256, 512, 1024, 1024],
    "head_type": "dpt",
    "head_output_dim": 1,
    "head_use_sky_head": True,
    "out_layers": [4, 11, 17, 23],
    "has_cam_enc": False,
    "has_cam_dec": False,
}
CONFIGS: dict[str, Config] = {
    "RT_DETR_v4": {"image_model": "RT_DETR_v4", "enc_h": 256},
    "SAM3": {"image_model": "SAM3"},
    "SAM31": {"image_model": "SAM31"},
    "DepthAnything3": DEPTH_ANYTHING,
    "Hunyuan3Dv2": HUNYUAN_3D,
    "Hunyuan3Dv2mini": HUNYUAN_3D | {"depth": 8, "depth_single_blocks": 16},
    "Hunyuan3Dv2_1": HUNYUAN_3D_21,
    "TripoSplat": {"image_model": "triposplat"},
    "Trellis2": {"image_model": "trellis2", "resolution": 64, "init_txt_model": True, "txt_only": False},
}
