"""The text encoders: their weights, and the names that ComfyUI maps for them (model_lora_keys_clip, comfy/lora.py).

ComfyUI maps every weight as `text_encoders.<encoder>.transformer.<path>`; 0.33 also maps it without the encoder's name,
except for CLIP. Whether it maps kohya's and diffusers' names depends on the encoder and on the model's other encoders.
"""

from __future__ import annotations

from .clip import BERT, CLIP_G, CLIP_G_ALONE, CLIP_G_CASCADE, CLIP_H, JINA, clip_l
from .language_models import (
    GEMMA2_2B,
    GEMMA3_4B,
    GEMMA3_12B,
    GPT_OSS,
    LLAMA,
    LTX2_PROJECTIONS,
    MINIMAX_MUSIC,
    language_model,
    qwen3_vl,
    qwen25_7b,
)
from .t5 import BYT5, COSMOS_T5, MT5, PILE_T5, T5_BASE, T5_GEMMA, UMT5, UMT5_BASE, t5

__all__ = [
    "BERT",
    "BYT5",
    "CLIP_G",
    "CLIP_G_ALONE",
    "CLIP_G_CASCADE",
    "CLIP_H",
    "COSMOS_T5",
    "GEMMA2_2B",
    "GEMMA3_4B",
    "GEMMA3_12B",
    "GPT_OSS",
    "JINA",
    "LLAMA",
    "LTX2_PROJECTIONS",
    "MINIMAX_MUSIC",
    "MT5",
    "PILE_T5",
    "T5_BASE",
    "T5_GEMMA",
    "UMT5",
    "UMT5_BASE",
    "clip_l",
    "language_model",
    "qwen25_7b",
    "qwen3_vl",
    "t5",
]
