"""Embeddings of pictures by an image encoder of ComfyUI (CLIP vision, SigLIP, DINO), kept from run to run."""

from __future__ import annotations

import hashlib
import weakref
from typing import Any

import comfy.clip_vision
import comfy.model_management
from torch import Tensor

from ..merge.errors import LoraError
from ..nodes.comfy_bridge import check_interrupt
from .scoring import Embed, unit

# Per encoder, the ones used last. Each takes a few kilobytes.
KEPT_EMBEDDINGS = 5000

_kept: weakref.WeakKeyDictionary[Any, dict[str, Tensor]] = weakref.WeakKeyDictionary()


def embedder(clip_vision: Any) -> Embed:
    """A function from a picture (1, height, width, 3) to its embedding at unit length (d,), in float64.

    The encoder sees what it sees in ComfyUI's own nodes: the square in the picture's middle, or all of it (SigLIP 2 of
    the NaFlex kind). A picture that it has seen before isn't encoded again. Raises LoraError if ``clip_vision`` is no
    image encoder.
    """
    if not callable(getattr(clip_vision, "encode_image", None)):
        raise LoraError(
            f"clip_vision: expected an image encoder, got {type(clip_vision).__name__}. Load one with Load CLIP Vision."
        )
    kept = _kept.setdefault(clip_vision, {})

    def embed(picture: Tensor) -> Tensor:
        check_interrupt()
        digest = hashlib.sha256(picture.contiguous().numpy().tobytes()).hexdigest() + str(tuple(picture.shape))
        embedding = kept.pop(digest, None)
        if embedding is None:
            embedding = unit(_encoded(clip_vision, picture))
        kept[digest] = embedding
        while len(kept) > KEPT_EMBEDDINGS:
            del kept[next(iter(kept))]
        return embedding

    return embed


def _encoded(clip_vision: Any, picture: Tensor) -> Tensor:
    """The encoder's image embedding: one vector, or one for each patch of the picture."""
    if getattr(clip_vision, "model_type", "") != "dinov3":
        return clip_vision.encode_image(picture)["image_embeds"]
    # ComfyUI 0.33's encode_image() fails for DINOv3, which has no hidden states to return
    comfy.model_management.load_model_gpu(clip_vision.patcher)
    seen = {"size": clip_vision.image_size, "mean": clip_vision.image_mean, "std": clip_vision.image_std}
    pixels = comfy.clip_vision.clip_preprocess(picture.to(clip_vision.load_device), **seen).float()
    return clip_vision.model(pixel_values=pixels)[2]
