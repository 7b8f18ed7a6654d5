"""Wan and its many variants, all with ComfyUI's ``image_model`` wan2.1."""

from __future__ import annotations

from typing import Any

from .entry import Config, Entry


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


def small(kind: str, **more: Any) -> Config:
    """A model with 1.3B parameters."""
    return wan(kind, 1536, 8960, 30, **more)


MODELS: dict[str, Entry] = {
    "Wan text": ("Wan 2.1/2.2 14B", "WAN21_T2V", wan("t2v")),
    "Wan image": ("Wan 2.1/2.2 14B", "WAN21_I2V", wan("i2v", inputs=36)),
    "Wan VACE": ("Wan 2.1/2.2 14B", "WAN21_Vace", wan("vace", vace_in_dim=96, vace_layers=8)),
    "Wan camera": ("Wan 2.1/2.2 14B", "WAN21_Camera", wan("camera", inputs=32)),
    "Wan S2V": ("Wan 2.1/2.2 14B", "WAN22_S2V", wan("s2v")),
    "Wan Animate": ("Wan 2.1/2.2 14B", "WAN22_Animate", wan("animate", inputs=36)),
    "Wan HuMo": ("Wan 2.1/2.2 14B", "WAN21_HuMo", wan("humo", inputs=36)),
    "Wan 1.3B": ("Wan 2.1 1.3B", "WAN21_T2V", small("t2v")),
    "Wan 1.3B VACE": ("Wan 2.1 1.3B", "WAN21_Vace", small("vace", vace_in_dim=96, vace_layers=15)),
    "Wan 5B": ("Wan 2.2 5B", "WAN22_T2V", wan("t2v", 3072, 14336, 30, 48, out_dim=48)),
    "Wan first and last frame": (
        "Wan 2.1/2.2 14B",
        "WAN21_I2V",
        wan("i2v", inputs=36, flf_pos_embed_token_number=514),
    ),
    "Wan Fun control": ("Wan 2.1/2.2 14B", "WAN21_FunControl2V", wan("i2v", inputs=48, in_dim_ref_conv=16)),
    "Wan 2.2 camera": ("Wan 2.1/2.2 14B", "WAN22_Camera", wan("camera_2.2", inputs=36)),
    "Wan Animate 2": ("Wan 2.1/2.2 14B", "WAN_Animate2", wan("animate2", inputs=36)),
    "Wan causal": ("Wan 2.1 1.3B", "WAN21_CausalAR_T2V", small("t2v", causal_ar=True)),
    "Wan FlowRVS": ("Wan 2.1 1.3B", "WAN21_FlowRVS", small("flow_rvs")),
    "Wan SCAIL": ("Wan 2.1/2.2 14B", "WAN21_SCAIL", wan("scail", inputs=20)),
    "Wan SCAIL 2": ("Wan 2.1/2.2 14B", "WAN21_SCAIL2", wan("scail2", inputs=20)),
    "Wan Dancer": ("Wan 2.1/2.2 14B", "WAN22_WanDancer", wan("wandancer", inputs=36)),
}
