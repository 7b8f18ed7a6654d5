"""ComfyUI's text encoders, and how to build each of them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .builder import META
from .entry import Config

# our architecture; the module in comfy; the class there, or the function that returns it; the function's arguments, or
# a function that gets them from the module
Encoder = tuple[str, str, str, Config | Callable[[ModuleType], Config]]


class OnMeta(TorchFunctionMode):
    """Creates all tensors on meta, even if another device is requested, as HunyuanDiT's encoder does."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        return func(*args, **(kwargs | {"device": META} if "device" in kwargs else kwargs))


def te(module: str, factory: str = "te", /, **arguments: Any) -> tuple[str, str, Config]:
    return f"text_encoders.{module}", factory, arguments


def gemma4(lt: ModuleType) -> Config:
    """LTX 2.5 has the encoder of LTX 2.3 with another language model."""
    module = importlib.import_module(f"{lt.__package__}.gemma4")
    return {
        "text_encoder_model": module.gemma4_text_encoder_model(module.Gemma4_12B),
        "text_encoder_key": "gemma4",
        "text_projection_type": "dual_linear",
        "video_projection_dim": 4096,
    }


ENCODERS: dict[str, Encoder] = {
    "SD 1.5": ("SD 1.5", "sd1_clip", "SD1ClipModel", {}),
    "SD 2": ("SD 2", *te("sd2_clip", "SD2ClipModel")),
    "SDXL": ("SDXL", "sdxl_clip", "SDXLClipModel", {}),
    "SD 3": ("SD 3", *te("sd3_clip", "sd3_clip")),
    "Flux": ("Flux", *te("flux", "flux_clip")),
    "Flux 2": ("Flux 2", *te("flux", "flux2_te")),
    "Flux 2 without the last layers": ("Flux 2", *te("flux", "flux2_te", pruned=True)),
    "Flux 2 Klein 4B": ("Flux 2 Klein 4B", *te("flux", "klein_te", model_type="qwen3_4b")),
    "Flux 2 Klein 9B": ("Flux 2 Klein 9B", *te("flux", "klein_te", model_type="qwen3_8b")),
    "Chroma": ("Chroma", *te("pixart_t5", "pixart_te")),
    "HunyuanVideo": ("HunyuanVideo", *te("hunyuan_video", "hunyuan_video_clip")),
    "Lumina 2": ("Lumina 2", *te("lumina2")),
    "Z-Image": ("Z-Image", *te("z_image")),
    "Qwen-Image": ("Qwen-Image", *te("qwen_image")),
    "Wan": ("Wan 2.1/2.2 14B", *te("wan")),
    "LTX-Video": ("LTX-Video", *te("lt", "ltxv_te")),
    "SDXL refiner": ("SDXL Refiner", "sdxl_clip", "SDXLRefinerClipModel", {}),
    "PixArt": ("PixArt", *te("pixart_t5", "PixArtT5XXL")),
    "AuraFlow": ("AuraFlow", *te("aura_t5", "AuraT5Model")),
    "HunyuanImage without ByT5": ("HunyuanImage 2.1", *te("hunyuan_image", byt5=False)),
    "Omnigen2": ("OmniGen2", *te("omnigen2")),
    "Ovis-Image": ("Ovis-Image", *te("ovis")),
    "LongCat-Image": ("LongCat-Image", *te("longcat_image")),
    "Boogu": ("Boogu", *te("boogu")),
    "Krea 2": ("Krea 2", *te("krea2")),
    "Mage-Flow": ("Mage-Flow", *te("mage_flow")),
    "Stable Cascade": ("Stable Cascade C", "sdxl_clip", "StableCascadeClipModel", {}),
    "HunyuanDiT": ("HunyuanDiT", *te("hydit", "HyditModel")),
    "HunyuanImage": ("HunyuanImage 2.1", *te("hunyuan_image")),
    "HiDream I1": ("HiDream I1", *te("hidream", "hidream_clip")),
    "Joy-Image": ("Joy-Image", *te("joyimage")),
    "Ideogram 4": ("Ideogram 4", *te("ideogram4")),
    "Ideogram 4 with vision": ("Ideogram 4", *te("ideogram4", "te_qwen3vl")),
    "Lens": ("Lens", *te("gpt_oss", "lens_te")),
    "ERNIE-Image": ("ERNIE-Image", *te("ernie")),
    "PixelDiT": ("PixelDiT", *te("pixeldit", "pixeldit_te")),
    "PixelDiT in a checkpoint": ("PixelDiT", *te("pixeldit", "PixelDiTGemma2TE")),
    "Mochi": ("Mochi", *te("genmo", "mochi_te")),
    "Cosmos": ("Cosmos 7B", *te("cosmos")),
    "Anima": ("Anima/Cosmos Predict2 2B", *te("anima")),
    "CogVideoX": ("CogVideoX 5B", *te("cogvideo", "cogvideo_te")),
    "CogVideoX in a checkpoint": ("CogVideoX 5B", *te("sd3_clip", "T5XXLModel")),
    "Kandinsky 5": ("Kandinsky 5 Lite", *te("kandinsky5")),
    "LTX 2": ("LTX 2", *te("lt", "ltxav_te")),
    "LTX 2.3": ("LTX 2", *te("lt", "ltxav_te", text_projection_type="dual_linear", video_projection_dim=4096)),
    "LTX 2.5": ("LTX 2", "text_encoders.lt", "ltxav_te", gemma4),
    "LTX 2's Gemma alone": ("LTX 2", *te("lt", "gemma3_te")),
    "MiniMax H3": ("MiniMax H3", *te("minimax")),
    "Stable Audio": ("Stable Audio", *te("sa_t5", "SAT5Model")),
    "Stable Audio 3": ("Stable Audio 3", *te("sa3", "SAT5GemmaModel")),
    "ACE-Step": ("ACE-Step", *te("ace", "AceT5Model")),
    "ACE-Step 1.5": ("ACE-Step 1.5", *te("ace15", lm_model="qwen3_2b")),
    "ACE-Step 1.5 with 4B": ("ACE-Step 1.5", *te("ace15", lm_model="qwen3_4b")),
    "MiniMax Music 3": ("MiniMax Music 3", *te("minimax_music", "MiniMaxMusic3TEModel")),
    "NewBie": ("NewBie", *te("newbie")),
    "NewBie's Gemma alone": ("NewBie", *te("lumina2", model_type="gemma3_4b")),
    "NewBie's Gemma with vision": ("NewBie", *te("lumina2", model_type="gemma3_4b_vision")),
    "NewBie's CLIP alone": ("NewBie", *te("jina_clip_2", "JinaClip2TextModelWrapper")),
}
WRITER = "a language model for ComfyUI's text generation nodes; no model in supported_models uses it"
NO_LORA_ENCODERS: dict[str, str] = {
    "text_encoders.qwen35.te": WRITER,
    "text_encoders.qwen3vl.te": WRITER,
    "text_encoders.gemma4.gemma4_te": WRITER,
    "text_encoders.hidream_o1.HiDreamO1TE": "has no weights: the model itself takes in the tokens",
    "text_encoders.sam3_clip.SAM3ClipModelWrapper": "for the names of objects that SAM 3 looks for",
}
# The language model's class, for encoders whose function an older ComfyUI has without the class.
NEEDS: dict[str, str] = {
    "NewBie's Gemma alone": "Gemma3_4BModel",
    "NewBie's Gemma with vision": "Gemma3_4B_Vision_Model",
}


def build_encoder(comfy: ModuleType, entry: Encoder, needed: str | None = None) -> Any | None:
    """ComfyUI's text encoder; None if this ComfyUI doesn't have it. ``needed``: what else its module must contain."""
    _, name, factory, arguments = entry
    try:
        module = importlib.import_module(f"{comfy.__name__}.{name}")
    except ModuleNotFoundError:
        return None
    if not hasattr(module, factory) or (needed is not None and not hasattr(module, needed)):
        return None
    kind: Any = getattr(module, factory)
    if inspect.isfunction(kind):
        kind = kind(**(arguments(module) if callable(arguments) else arguments))
    with OnMeta():
        made = kind(device=META, dtype=torch.float32)
    for part in made.modules():  # layers that can be quantized get their weight only when a file is loaded
        shape = getattr(part, "_orig_shape", None)
        if shape is not None and getattr(part, "weight", None) is None:
            part.weight = torch.nn.Parameter(torch.empty(shape, device=META))
    return made
