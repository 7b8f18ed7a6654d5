"""Module names: which part of the model one belongs to, and one spelling of it whatever the file's.

A LoRA file names a weight by a prefix that says the part (U-Net or transformer, one of the text encoders) and a path
inside it, with dots or with kohya's underscores. Here is what holds for every model; what the paths mean in a known
one is in families/. The prefixes are those of ComfyUI's key maps (comfy/lora.py) and of what trainers write.
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
# What PEFT puts around a model that it trains, before or behind the name of the part.
PEFT = "base_model.model."
# Paths that say themselves that they are a text encoder's, whatever stands before them.
CLIP_PATHS = ("text_model.", "text_model_")
BARE_ENCODERS = (
    "t5xxl.",
    # LTX 2's projection, which ComfyUI has in the text encoder
    "text_embedding_projection.",
    "connectors.text_proj_in",
    "connectors.audio_text_proj_in",
    "connectors.video_text_proj_in",
)

# The first parts of a diffusers U-Net's paths: ComfyUI maps them with kohya's underscores, but not all with dots.
DIFFUSERS_UNET_BLOCKS = (
    "down_blocks.",
    "mid_block.",
    "up_blocks.",
    "conv_in",
    "conv_out",
    "time_embedding.linear_",
    "add_embedding.linear_",
)

# Prefixes that ComfyUI doesn't know, and what says the same there.
WRITTEN_AS = {
    "model.diffusion_model.": "diffusion_model.",
    "conditional_transformer.": "diffusion_model.",
    "pipe.dit.": "diffusion_model.",
    "net.": "diffusion_model.",
    PEFT + "transformer.": "transformer.",
    "transformer." + PEFT: "transformer.",
}
KOHYA_OF = {
    prefix: f"lora_{part}_"
    for prefix, part in PREFIXES.items()
    if prefix.startswith(("clip_", *(f"te{i}." for i in (1, 2, 3, 4))))
}
BARE = ("", PEFT, "lycoris_")

_PREFIX = re.compile("|".join(re.escape(prefix) for prefix in sorted(PREFIXES, key=len, reverse=True)))


@lru_cache(maxsize=50_000)
def split(name: str) -> tuple[str, str]:
    """The part ("model", "te1", "te2", "te3", "te4" or "te") and the path inside it that a module's name spells.

    "te" is a text encoder whose number its name doesn't say; its path begins with the encoder's own name.
    """
    rest = name.removeprefix(PEFT)
    match = _PREFIX.match(rest)
    part = PREFIXES[match.group()] if match else "model"
    path = rest[match.end() :].removeprefix(PEFT) if match else rest
    if part == "model" and path.startswith(CLIP_PATHS):
        part = "te1"
    elif match is None and path.startswith(BARE_ENCODERS):
        part = "te"
    return part, path


def is_text_encoder(name: str) -> bool:
    """Whether the module belongs to a text encoder, and so takes the text encoder's strength."""
    return split(name)[0] != "model"


def flatten(path: str) -> str:
    """A path with underscores, the same for all spellings of it."""
    flat = path.replace(".processor.to_", ".to_").replace(".", "_").lstrip("_")  # `lora_unet__blocks_0_...`: Wan Fun
    if ".processor." in path and flat.endswith("_to_out"):
        flat += "_0"  # the attention processors of old diffusers name the linear layer of to_out by its list
    return flat


def canonical(name: str) -> str:
    """One name for all spellings of a weight's path: its part and its path with underscores.

    Two modules with the same canonical name adapt the same weight: `lora_unet_mid_block_attentions_0_proj_in` and
    `unet.mid_block.attentions.0.proj_in`; `lora_te_text_model_x` and `text_encoder.text_model.x`. Paths that differ
    may still mean one weight: that takes the architecture (naming.target).
    """
    part, path = split(name)
    return f"{part}:{flatten(path)}"


def loadable(name: str) -> str:
    """The name to write a module of an unknown model under: as it is, or a spelling that ComfyUI has an entry for.

    ComfyUI maps few dotted diffusers paths of a U-Net (comfy/lora.py, model_lora_keys_unet), while kohya's spelling of
    the same path is in every map. Where the architecture is known, naming.loadable says more.
    """
    part, path = split(name)
    prefix = name[: len(name) - len(path)]
    if part == "model":
        if prefix.endswith("diffusion_model."):  # ComfyUI's own path, whatever it looks like
            return "diffusion_model." + path
        if path.startswith((*DIFFUSERS_UNET_BLOCKS, "_")):
            return "lora_unet_" + flatten(path)
        return WRITTEN_AS.get(prefix, prefix) + path
    if prefix in KOHYA_OF or (prefix in BARE and "." not in path):
        return KOHYA_OF.get(prefix, "lora_te_") + flatten(path)
    if part == "te":
        return "text_encoders." + path
    return ("text_encoder." if prefix in BARE else prefix.replace(PEFT, "")) + path
