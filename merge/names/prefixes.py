"""Module names of any model: the prefix says which component they belong to, and paths have one canonical form.

A LoRA file names a weight by a prefix for the component (U-Net or transformer, one of the text encoders) and a path in
it, with dots or with kohya's underscores. This file covers what is the same for every model; families/ has the paths
of the known ones. The prefixes come from ComfyUI's key maps (comfy/lora.py) and from the files of trainers.
"""

from __future__ import annotations

import re
from functools import lru_cache

PREFIXES: dict[str, str] = {
    "model.diffusion_model.": "model",
    "diffusion_model.": "model",
    "transformer.": "model",
    "conditional_transformer.": "model",
    "unet.": "model",
    "prior.": "model",
    "pipe.dit.": "model",
    "net.": "model",
    "lora_transformer_": "model",
    "lora_prior_unet_": "model",
    "lora_unet_": "model",
    "lycoris_": "model",
    "text_encoders.clip_l.transformer.": "te1",
    "text_encoders.clip_h.transformer.": "te1",
    "text_encoders.clip_g.transformer.": "te2",
    "text_encoders.": "te",
    "text_encoder.": "te1",
    "text_encoder_2.": "te2",
    "text_encoder_3.": "te3",
    "text_encoder_4.": "te4",
    "clip_l.transformer.": "te1",
    "clip_h.transformer.": "te1",
    "clip_g.transformer.": "te2",
    "clip_l.": "te1",
    "clip_h.": "te1",
    "clip_g.": "te2",
    "te1.": "te1",
    "te2.": "te2",
    "te3.": "te3",
    "te4.": "te4",
    "lora_prior_te_": "te1",
    "lora_te_": "te1",
    "lora_te1_": "te1",
    "lora_te2_": "te2",
    "lora_te3_": "te3",
    "lora_te4_": "te4",
}
# PEFT's wrapper of a model, which comes before or after the component's prefix.
PEFT = "base_model.model."
# Paths that belong to a text encoder under any prefix.
CLIP_PATHS = ("text_model.", "text_model_")
# The same, without a prefix only.
BARE_ENCODERS = (
    "t5xxl.",
    # LTX 2's projection, which is a part of ComfyUI's text encoder
    "text_embedding_projection.",
    "connectors.text_proj_in",
    "connectors.audio_text_proj_in",
    "connectors.video_text_proj_in",
)

# How the paths of a diffusers U-Net begin. ComfyUI maps all of them with kohya's underscores, but few with dots.
DIFFUSERS_UNET_BLOCKS = (
    "down_blocks.",
    "mid_block.",
    "up_blocks.",
    "conv_in",
    "conv_out",
    "time_embedding.linear_",
    "add_embedding.linear_",
)

# Prefixes that ComfyUI doesn't map, and the ones to write instead.
WRITTEN_AS = {
    "model.diffusion_model.": "diffusion_model.",
    "conditional_transformer.": "diffusion_model.",
    "pipe.dit.": "diffusion_model.",
    "net.": "diffusion_model.",
    PEFT + "transformer.": "transformer.",
    "transformer." + PEFT: "transformer.",
}
KOHYA_PREFIXES = {
    prefix: f"lora_{component}_"
    for prefix, component in PREFIXES.items()
    if prefix.startswith(("clip_", *(f"te{i}." for i in (1, 2, 3, 4))))
}
# Prefixes that don't say which component it is.
NEUTRAL_PREFIXES = ("", PEFT, "lycoris_")

_PREFIX = re.compile("|".join(re.escape(prefix) for prefix in sorted(PREFIXES, key=len, reverse=True)))


@lru_cache(maxsize=50_000)
def split(name: str) -> tuple[str, str]:
    """The component ("model", "te1", "te2", "te3", "te4" or "te") and the path in it that make up a module's name.

    "te" is a text encoder without a number; its path begins with the name of the encoder.
    """
    rest = name.removeprefix(PEFT)
    match = _PREFIX.match(rest)
    component = PREFIXES[match.group()] if match else "model"
    path = rest[match.end() :].removeprefix(PEFT) if match else rest
    if component == "model" and path.startswith(CLIP_PATHS):
        component = "te1"
    elif match is None and path.startswith(BARE_ENCODERS):
        component = "te"
    return component, path


def is_text_encoder(name: str) -> bool:
    """Whether the module belongs to a text encoder, so that the LoRA's text encoder strength applies to it."""
    return split(name)[0] != "model"


def flatten(path: str) -> str:
    """A path with underscores, the same for every way to write it."""
    flat = path.replace(".processor.to_", ".to_").replace(".", "_").lstrip("_")  # `lora_unet__blocks_0_...`: Wan Fun
    if ".processor." in path and flat.endswith("_to_out"):
        flat += "_0"  # the attention processors of old diffusers leave out the 0 of to_out.0
    return flat


def canonical(name: str) -> str:
    """The component and the flat path: the same for every way to write a path.

    Two modules with the same canonical name adapt the same weight: `lora_unet_mid_block_attentions_0_proj_in` and
    `unet.mid_block.attentions.0.proj_in`; `lora_te_text_model_x` and `text_encoder.text_model.x`. Different paths can
    be the same weight too, but only the architecture knows which (reading.resolve).
    """
    component, path = split(name)
    return f"{component}:{flatten(path)}"


def loadable(name: str) -> str:
    """The name to write a module of an unknown model under: its own, or another that ComfyUI is more likely to map.

    ComfyUI maps few dotted diffusers paths of a U-Net (comfy/lora.py, model_lora_keys_unet), but kohya's names of all
    of them. If the architecture is known, writing.loadable knows better.
    """
    component, path = split(name)
    prefix = name[: len(name) - len(path)]
    if component == "model":
        if prefix.endswith("diffusion_model."):  # ComfyUI's own path, even if it looks like one of diffusers
            return "diffusion_model." + path
        if path.startswith((*DIFFUSERS_UNET_BLOCKS, "_")):
            return "lora_unet_" + flatten(path)
        return WRITTEN_AS.get(prefix, prefix) + path
    if prefix in KOHYA_PREFIXES or (prefix in NEUTRAL_PREFIXES and "." not in path):
        return KOHYA_PREFIXES.get(prefix, "lora_te_") + flatten(path)
    if component == "te":
        return "text_encoders." + path
    return ("text_encoder." if prefix in NEUTRAL_PREFIXES else prefix.replace(PEFT, "")) + path
