"""Building blocks for prompts in ComfyUI's API format: `{**checkpoint(), **picture()}`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Node = dict[str, Any]
Link = list[Any]  # [node id, output number]

CHECKPOINT = "small.safetensors"
MODEL: Link = ["checkpoint", 0]
CLIP: Link = ["checkpoint", 1]
VAE: Link = ["checkpoint", 2]
# The base of the evidence benchmark, which draws letters.
GLYPH_MODEL_FILE = "evidence_base.safetensors"
GLYPH_VAE_FILE = "evidence_vae.safetensors"
TEXT_ENCODER = "evidence_clip.safetensors"
GLYPH_MODEL: Link = ["unet", 0]
GLYPH_CLIP: Link = ["clip", 0]
GLYPH_VAE: Link = ["vae", 0]


def node(class_type: str, **inputs: Any) -> Node:
    return {"class_type": class_type, "inputs": inputs}


def checkpoint(name: str = CHECKPOINT) -> dict[str, Node]:
    """Outputs: MODEL, CLIP, VAE."""
    return {"checkpoint": node("CheckpointLoaderSimple", ckpt_name=name)}


def lora_chain(
    loras: Sequence[tuple[str, float, float]], model: Link = MODEL, clip: Link = CLIP
) -> tuple[dict[str, Node], Link, Link]:
    """A chain of ComfyUI's own LoraLoader nodes, one per (file, model strength, text encoder strength).

    Returns the nodes, and links to the resulting model and text encoder.
    """
    nodes: dict[str, Node] = {}
    for number, (name, strength_model, strength_clip) in enumerate(loras, 1):
        nodes[f"core_lora{number}"] = node(
            "LoraLoader",
            model=model,
            clip=clip,
            lora_name=name,
            strength_model=strength_model,
            strength_clip=strength_clip,
        )
        model, clip = [f"core_lora{number}", 0], [f"core_lora{number}", 1]
    return nodes, model, clip


def picture(
    model: Link = MODEL,
    clip: Link = CLIP,
    vae: Link = VAE,
    *,
    seed: int = 0,
    steps: int = 2,
    size: int = 64,
    prefix: str = "picture",
) -> dict[str, Node]:
    """The nodes from a model to a saved PNG: "sampler" is the KSampler, "picture" the SaveImage."""
    return {
        "positive": node("CLIPTextEncode", clip=clip, text="a lighthouse at dawn"),
        "negative": node("CLIPTextEncode", clip=clip, text="blurry"),
        "latent": node("EmptyLatentImage", width=size, height=size, batch_size=1),
        "sampler": node(
            "KSampler",
            model=model,
            positive=["positive", 0],
            negative=["negative", 0],
            latent_image=["latent", 0],
            seed=seed,
            steps=steps,
            cfg=4.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=vae),
        "picture": node("SaveImage", images=["decode", 0], filename_prefix=prefix),
    }


def glyph_base() -> dict[str, Node]:
    """Loads the base of the evidence benchmark, see benchmarks/evidence/base/README.md."""
    return {
        "unet": node("UNETLoader", unet_name=GLYPH_MODEL_FILE, weight_dtype="default"),
        "clip": node("CLIPLoader", clip_name=TEXT_ENCODER, type="stable_diffusion"),
        "vae": node("VAELoader", vae_name=GLYPH_VAE_FILE),
    }


def glyph(
    text: str, model: Link = GLYPH_MODEL, clip: Link = GLYPH_CLIP, *, seed: int = 0, prefix: str = "glyph"
) -> dict[str, Node]:
    """A letter by that base, with the names of ``picture``, four times as large as it is drawn."""
    return {
        "positive": node("CLIPTextEncode", clip=clip, text=text),
        "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "sampler": node(
            "KSampler",
            model=model,
            positive=["positive", 0],
            negative=["positive", 0],
            latent_image=["latent", 0],
            seed=seed,
            steps=16,
            cfg=1.0,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=GLYPH_VAE),
        "enlarge": node(
            "ImageScale", image=["decode", 0], upscale_method="bicubic", width=256, height=256, crop="disabled"
        ),
        "picture": node("SaveImage", images=["enlarge", 0], filename_prefix=prefix),
    }
