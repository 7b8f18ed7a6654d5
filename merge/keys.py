"""Module names: which part of a model one belongs to, and which weight it means whatever its spelling.

A LoRA file names a weight by a prefix that says the part (U-Net or transformer, one of the text encoders) and a path
inside it, with dots or with kohya's underscores. The tables here are from ComfyUI's key maps (comfy/lora.py) and from
what trainers write.
"""

from __future__ import annotations

# Longest prefixes first: the first that fits decides. "" stands for a path without any prefix.
PREFIXES: tuple[tuple[str, str], ...] = (
    ("base_model.model.text_encoder_2.", "te2"),
    ("base_model.model.text_encoder_3.", "te3"),
    ("base_model.model.text_encoder.", "te1"),
    ("base_model.model.transformer.", "model"),
    ("base_model.model.unet.", "model"),
    ("unet.base_model.model.", "model"),
    ("base_model.model.", "model"),
    ("model.diffusion_model.", "model"),
    ("diffusion_model.", "model"),
    ("lora_transformer_", "model"),
    ("transformer.", "model"),
    ("lora_unet_", "model"),
    ("lycoris_", "model"),
    ("unet.", "model"),
    ("text_encoders.clip_l.transformer.", "te1"),
    ("text_encoders.clip_h.transformer.", "te1"),
    ("text_encoders.clip_g.transformer.", "te2"),
    ("text_encoders.", "te"),
    ("text_encoder_2.", "te2"),
    ("text_encoder_3.", "te3"),
    ("text_encoder.", "te1"),
    ("lora_prior_te_", "te1"),
    ("lora_te1_", "te1"),
    ("lora_te2_", "te2"),
    ("lora_te3_", "te3"),
    ("lora_te_", "te1"),
    ("lora_prior_unet_", "model"),
    ("", "model"),
)

# The first parts of a diffusers U-Net's paths: ComfyUI maps them with kohya's underscores, but not with dots.
DIFFUSERS_UNET_BLOCKS = (
    "down_blocks.",
    "mid_block.",
    "up_blocks.",
    "conv_in",
    "conv_out",
    "time_embedding.",
    "add_embedding.",
)


def split(name: str) -> tuple[str, str]:
    """The part ("model", "te1", "te2", "te3" or "te") and the path inside it that a module's name spells."""
    for prefix, part in PREFIXES:
        if name.startswith(prefix):
            return part, name[len(prefix) :]
    raise AssertionError("the empty prefix fits every name")


def is_text_encoder(name: str) -> bool:
    """Whether the module belongs to a text encoder, and so takes the text encoder's strength."""
    return split(name)[0] != "model"


def canonical(name: str) -> str:
    """One name for all spellings of a weight: its part and its path with underscores.

    Two modules with the same canonical name adapt the same weight: `lora_unet_mid_block_attentions_0_proj_in` and
    `unet.mid_block.attentions.0.proj_in`; `lora_te_text_model_x` and `text_encoder.text_model.x`.
    """
    part, path = split(name)
    flat = path.replace(".processor.", ".").replace(".", "_")
    if ".processor." in path and flat.endswith("_to_out"):
        flat += "_0"  # the attention processors of old diffusers name the linear layer of to_out by its list
    return f"{part}:{flat}"


def loadable(name: str) -> str:
    """The name to write a module under: as it is, or kohya's spelling where ComfyUI has no entry for this one.

    ComfyUI maps no dotted diffusers path of a U-Net except the attention processors' (comfy/lora.py,
    model_lora_keys_unet), while kohya's spelling of the same path is in every map.
    """
    part, path = split(name)
    if part == "model" and path.startswith(DIFFUSERS_UNET_BLOCKS):
        return "lora_unet_" + canonical(name).split(":", 1)[1]
    if name.startswith("base_model.model.text_encoder"):
        return name[len("base_model.model.") :]
    if name.startswith("base_model.model.transformer."):
        return name[len("base_model.model.") :]
    return name
