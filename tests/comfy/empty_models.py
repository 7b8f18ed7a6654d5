"""ComfyUI's models and text encoders without weights: their state dict has every name and shape, on the meta device."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

META = torch.device("meta")
Config = dict[str, Any]

UNET: Config = {
    "image_size": 32,
    "use_spatial_transformer": True,
    "legacy": False,
    "use_checkpoint": False,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_temporal_attention": False,
}
SD15 = UNET | {
    "adm_in_channels": None,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1] * 9 + [0] * 3,
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_linear_in_transformer": False,
}
SD2 = SD15 | {"context_dim": 1024, "use_linear_in_transformer": True}
SDXL = UNET | {
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "context_dim": 2048,
    "use_linear_in_transformer": True,
}
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
CHROMA = FLUX | {
    "image_model": "chroma",
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 3072,
    "hidden_dim": 5120,
    "n_layers": 5,
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
QWEN: Config = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 60}
LUMINA: Config = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 2304,
    "cap_feat_dim": 2304,
    "n_layers": 26,
    "qk_norm": True,
    "n_heads": 24,
    "n_kv_heads": 8,
    "axes_dims": [32] * 3,
    "axes_lens": [300, 512, 512],
    "rope_theta": 10000.0,
    "ffn_dim_multiplier": 4.0,
}
Z_IMAGE = LUMINA | {
    "dim": 3840,
    "cap_feat_dim": 2560,
    "n_layers": 30,
    "n_heads": 30,
    "n_kv_heads": 30,
    "axes_dims": [32, 48, 48],
    "ffn_dim_multiplier": 8 / 3,
    "z_image_modulation": True,
    "pad_tokens_multiple": 32,
}
LTX: Config = {"image_model": "ltxv", "num_layers": 28, "attention_head_dim": 64, "cross_attention_dim": 2048}
LTX_13B = LTX | {"num_layers": 48, "attention_head_dim": 128, "cross_attention_dim": 4096}


def sd3(depth: int, dual: int = 0) -> Config:
    """``dual``: how many of the first blocks have a second attention, as 3.5 Medium's."""
    linear = {"in_features": 4096, "out_features": depth * 64}
    return {
        "in_channels": 16,
        "patch_size": 2,
        "out_channels": 16,
        "depth": depth,
        "input_size": None,
        "adm_in_channels": 2048,
        "context_embedder_config": {"target": "torch.nn.Linear", "params": linear},
        "num_patches": 36864,
        "pos_embed_max_size": 192,
        "pos_embed_scaling_factor": None,
        "x_block_self_attn_layers": list(range(dual)),
        "qk_norm": "rms",
    }


def wan(kind: str, width: int = 5120, hidden: int = 13824, layers: int = 40, inputs: int = 16, **more: Any) -> Config:
    return {
        "image_model": "wan2.1",
        "model_type": kind,
        "dim": width,
        "out_dim": 16,
        "num_heads": width // 128,
        "ffn_dim": hidden,
        "num_layers": layers,
        "patch_size": (1, 2, 2),
        "freq_dim": 256,
        "window_size": (-1, -1),
        "qk_norm": True,
        "cross_attn_norm": True,
        "eps": 1e-6,
        "in_dim": inputs,
        **more,
    }


# what it is, our architecture, ComfyUI's class in comfy.supported_models, the configuration
MODELS: dict[str, tuple[str, str, Config]] = {
    "SD 1.5": ("SD 1.5", "SD15", SD15),
    "SD 2": ("SD 2", "SD20", SD2),
    "SDXL": ("SDXL", "SDXL", SDXL),
    "SD 3 Medium": ("SD 3", "SD3", sd3(24)),
    "SD 3.5 Medium": ("SD 3", "SD3", sd3(24, dual=13)),
    "SD 3.5 Large": ("SD 3.5 Large", "SD3", sd3(38)),
    "Flux": ("Flux", "Flux", FLUX),
    "Chroma": ("Chroma", "Chroma", CHROMA),
    "Chroma Radiance": ("Chroma", "ChromaRadiance", RADIANCE),
    "Flux 2": ("Flux 2", "Flux2", FLUX2),
    "Flux 2 Klein 4B": ("Flux 2 Klein 4B", "Flux2", KLEIN_4B),
    "HunyuanVideo": ("HunyuanVideo", "HunyuanVideo", HUNYUAN),
    "HunyuanVideo 1.5": ("HunyuanVideo 1.5", "HunyuanVideo15", HUNYUAN_15),
    "HunyuanImage": ("HunyuanImage 2.1", "HunyuanImage21", HUNYUAN_IMAGE),
    "Wan text": ("Wan 2.1/2.2 14B", "WAN21_T2V", wan("t2v")),
    "Wan image": ("Wan 2.1/2.2 14B", "WAN21_I2V", wan("i2v", inputs=36)),
    "Wan VACE": ("Wan 2.1/2.2 14B", "WAN21_Vace", wan("vace", vace_in_dim=96, vace_layers=8)),
    "Wan camera": ("Wan 2.1/2.2 14B", "WAN21_Camera", wan("camera", inputs=32)),
    "Wan S2V": ("Wan 2.1/2.2 14B", "WAN22_S2V", wan("s2v")),
    "Wan Animate": ("Wan 2.1/2.2 14B", "WAN22_Animate", wan("animate", inputs=36)),
    "Wan HuMo": ("Wan 2.1/2.2 14B", "WAN21_HuMo", wan("humo", inputs=36)),
    "Wan 1.3B": ("Wan 2.1 1.3B", "WAN21_T2V", wan("t2v", 1536, 8960, 30)),
    "Wan 5B": ("Wan 2.2 5B", "WAN22_T2V", wan("t2v", 3072, 14336, 30, 48)),
    "Qwen-Image": ("Qwen-Image", "QwenImage", QWEN),
    "Lumina 2": ("Lumina 2", "Lumina2", LUMINA),
    "Z-Image": ("Z-Image", "ZImage", Z_IMAGE),
    "LTX-Video": ("LTX-Video", "LTXV", LTX),
    "LTX-Video 13B": ("LTX-Video 13B", "LTXV", LTX_13B),
    "LTX 2": ("LTX 2", "LTXAV", LTX_13B | {"image_model": "ltxav"}),
}
# the dataclass that a model's configuration must fit, and what has no default there in one version or another
PARAMETERS = {
    "flux": ("flux.model", "FluxParams"),
    "flux2": ("flux.model", "FluxParams"),
    "chroma": ("chroma.model", "ChromaParams"),
    "chroma_radiance": ("chroma_radiance.model", "ChromaRadianceParams"),
    "hunyuan_video": ("hunyuan_video.model", "HunyuanVideoParams"),
}
ADDED: Config = {"txt_ids_dims": [], "meanflow_sum": False}


def model(comfy: ModuleType, name: str) -> Any | None:
    """ComfyUI's model of this name; None where this ComfyUI doesn't have it."""
    _, kind, config = MODELS[name]
    models = importlib.import_module(f"{comfy.__name__}.supported_models")
    if not hasattr(models, kind):
        return None
    if config.get("image_model") in PARAMETERS:
        module, class_name = PARAMETERS[config["image_model"]]
        parameters = getattr(importlib.import_module(f"{comfy.__name__}.ldm.{module}"), class_name)
        known = {field.name for field in dataclasses.fields(parameters)}
        config = {key: value for key, value in (ADDED | config).items() if key in known or key == "image_model"}
    made = getattr(models, kind)(config)
    made.unet_config.setdefault("dtype", torch.float32)
    return made.get_model({}, "", device=META)


# our architecture, the module in comfy and how to make the encoder from it
ENCODERS: dict[str, tuple[str, str, Callable[[ModuleType], Any]]] = {
    "SD 1.5": ("SD 1.5", "sd1_clip", lambda m: m.SD1ClipModel),
    "SD 2": ("SD 2", "text_encoders.sd2_clip", lambda m: m.SD2ClipModel),
    "SDXL": ("SDXL", "sdxl_clip", lambda m: m.SDXLClipModel),
    "SD 3": ("SD 3", "text_encoders.sd3_clip", lambda m: m.sd3_clip(True, True, True, dtype_t5=torch.float32)),
    "Flux": ("Flux", "text_encoders.flux", lambda m: m.flux_clip(dtype_t5=torch.float32)),
    "Flux 2": ("Flux 2", "text_encoders.flux", lambda m: m.flux2_te(dtype_llama=torch.float32)),
    "Chroma": ("Chroma", "text_encoders.pixart_t5", lambda m: m.pixart_te(dtype_t5=torch.float32)),
    "HunyuanVideo": ("HunyuanVideo", "text_encoders.hunyuan_video", lambda m: m.hunyuan_video_clip(torch.float32)),
    "Lumina 2": ("Lumina 2", "text_encoders.lumina2", lambda m: m.te(dtype_llama=torch.float32)),
    "Z-Image": ("Z-Image", "text_encoders.z_image", lambda m: m.te(dtype_llama=torch.float32)),
    "Qwen-Image": ("Qwen-Image", "text_encoders.qwen_image", lambda m: m.te(dtype_llama=torch.float32)),
    "Wan": ("Wan 2.1/2.2 14B", "text_encoders.wan", lambda m: m.te(dtype_t5=torch.float32)),
    "LTX-Video": ("LTX-Video", "text_encoders.lt", lambda m: m.ltxv_te(dtype_t5=torch.float32)),
}


def encoder(comfy: ModuleType, name: str) -> Any:
    _, module, make = ENCODERS[name]
    return make(importlib.import_module(f"{comfy.__name__}.{module}"))(device=META, dtype=torch.float32)
