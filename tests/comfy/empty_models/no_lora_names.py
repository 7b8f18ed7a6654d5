"""ComfyUI's classes that nobody trains LoRAs for. test_every_model.py checks that ComfyUI maps only their own names."""

from __future__ import annotations

from .entry import Config

DETECTOR = "detects objects in an image: its nodes run it without a sampler, and no trainer supports it"
SHAPES = "several networks in one model, one for each step to a 3D shape: no trainer supports it"
NO_LORA_NAMES: dict[str, str] = {
    "RT_DETR_v4": DETECTOR,
    "SAM3": DETECTOR,
    "SAM31": DETECTOR,
    "DepthAnything3": DETECTOR,
    "Trellis2": SHAPES,
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
    "Trellis2": {"image_model": "trellis2", "resolution": 64, "init_txt_model": True, "txt_only": False},
}
