"""What the generated examples and pictures are made of: public files, nodes and their places.

A scene is a list of nodes (name, id, position, widgets, links), where links map an input to (name, output).
"""

from __future__ import annotations

from typing import Any

# Public files, small ones for the LoRAs, that ComfyUI offers to download with the examples: name -> folder, address.
# The checkpoint is that of ComfyUI's own default workflow.
A, B = "PixelArtRedmond15V-PixelArt-PIXARFK.safetensors", "add_detail.safetensors"
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
VISION = "clip_vision_h.safetensors"
MODELS = {
    A: ("loras", f"artificialguybr/pixelartredmond-1-5v-pixel-art-loras-for-sd-1-5/resolve/main/{A}"),
    B: ("loras", f"OedoSoldier/detail-tweaker-lora/resolve/main/{B}"),
    CHECKPOINT: ("checkpoints", f"Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/{CHECKPOINT}"),
    VISION: ("clip_vision", f"Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/clip_vision/{VISION}"),
}
# A pair of Wan 2.2's image-to-video LoRAs for each model: few steps, and a camera that circles the subject.
FAST = {noise: f"wan2.2_i2v_lightx2v_4steps_lora_v1_{noise}_noise.safetensors" for noise in ("high", "low")}
ORBIT = {noise: f"wan22_14b_i2v_orbit_{noise}_noise.safetensors" for noise in ("high", "low")}
FAST_REPOSITORY = "Comfy-Org/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files/loras"
MODELS |= {file: ("loras", f"{FAST_REPOSITORY}/{file}") for file in FAST.values()}
MODELS |= {file: ("loras", f"ostris/wan22_i2v_14b_orbit_shot_lora/resolve/main/{file}") for file in ORBIT.values()}
POSITIVE, NEGATIVE = "Pixel Art, PixArFK, a lighthouse on a cliff at dawn", "blurry, watermark"
TUNED = "my_tuned_model.safetensors"
Node = tuple[str, str, tuple[int, int], dict[str, Any], dict[str, tuple[str, int]]]

SAMPLING = {"seed": 1, "steps": 20, "cfg": 7, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
PROMPTS = {"positive": POSITIVE, "negative": NEGATIVE}
# Links from the nodes "checkpoint" and "latent".
SOURCES = {
    "model": ("checkpoint", 0),
    "clip": ("checkpoint", 1),
    "vae": ("checkpoint", 2),
    "latent_image": ("latent", 0),
}

LEFT, TOP, COLUMN, ROW = 140, 160, 340, 300


def at(column: int) -> int:
    """The x of a column. Mergers and PM Resize LoRA, from the second on, are wider than loaders."""
    return LEFT + column * COLUMN + max(0, column - 2) * 90


def note(text: str, place: tuple[int, int] = (LEFT, TOP)) -> Node:
    return ("note", "MarkdownNote", place, {"": text}, {})  # the widget's name differs between front ends


def loader(name: str, file: str, row: float, lbw: str = "", strength: float = 1.0, column: int = 1) -> Node:
    widgets = {"lora_name": file, "strength_model": strength, "strength_clip": strength, "lbw": lbw}
    return (name, "PM LoRA Loader", (at(column), TOP + round(ROW * row)), widgets, {})


def checkpoint(top: int) -> Node:
    return ("checkpoint", "CheckpointLoaderSimple", (LEFT, TOP + top), {"ckpt_name": CHECKPOINT}, {})


def latent(left: int, top: int) -> Node:
    return ("latent", "EmptyLatentImage", (left, TOP + top), {"width": 512, "height": 512}, {})
