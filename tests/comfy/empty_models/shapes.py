"""Models of 3D shapes."""

from __future__ import annotations

from .entry import Config, Entry

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

MODELS: dict[str, Entry] = {
    "Hunyuan3D 2": ("Hunyuan3D 2", "Hunyuan3Dv2", HUNYUAN_3D),
    "Hunyuan3D 2 mini": (
        "Hunyuan3D 2 mini",
        "Hunyuan3Dv2mini",
        HUNYUAN_3D | {"depth": 8, "depth_single_blocks": 16},
    ),
    "Hunyuan3D 2.1": ("Hunyuan3D 2.1", "Hunyuan3Dv2_1", HUNYUAN_3D_21),
    "TripoSplat": ("TripoSplat", "TripoSplat", {"image_model": "triposplat"}),
}
