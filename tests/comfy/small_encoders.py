"""Image encoders small enough for tests, as nodes. The tests' server loads this file as a pack."""

import json
import tempfile

import torch

VIT = {
    "hidden_size": 64,
    "image_size": 32,
    "intermediate_size": 128,
    "layer_norm_eps": 1e-5,
    "num_attention_heads": 4,
    "num_channels": 3,
    "num_hidden_layers": 2,
    "patch_size": 8,
}
CLIP_CONFIG = VIT | {"model_type": "clip_vision_model", "hidden_act": "quick_gelu", "projection_dim": 48}
SIGLIP_CONFIG = VIT | {"model_type": "siglip_vision_model", "hidden_act": "gelu_pytorch_tanh"}
DINO_CONFIG = {
    "model_type": "dinov2",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "layer_norm_eps": 1e-6,
    "image_size": 518,
    "use_swiglu_ffn": False,
}
# Of newer versions of ComfyUI.
DINO3_CONFIG = VIT | {"model_type": "dinov3", "num_register_tokens": 4, "patch_size": 16, "rope_theta": 100.0}
NAFLEX_CONFIG = SIGLIP_CONFIG | {"model_type": "siglip2_vision_model", "image_size": -1, "num_patches": 64}
CONFIGS = {
    "clip": CLIP_CONFIG,
    "siglip": SIGLIP_CONFIG,
    "dinov2": DINO_CONFIG,
    "dinov3": DINO3_CONFIG,
    "siglip2 naflex": NAFLEX_CONFIG,
}


def is_known(kind: str) -> bool:
    """Whether this version of ComfyUI has encoders of a kind."""
    import comfy.clip_vision

    return CONFIGS[kind]["model_type"] in comfy.clip_vision.IMAGE_ENCODERS


def small_encoder(kind: str):
    """One of ComfyUI's own image encoders, with random weights."""
    import comfy.clip_vision

    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(CONFIGS[kind], file)
    encoder = comfy.clip_vision.ClipVisionModel(file.name)
    # The names and shapes from a twin of torch's layers: newer versions create a model's own only when they load it.
    twin = type(encoder.model)(CONFIGS[kind], torch.float32, "cpu", torch.nn)
    noise = torch.Generator().manual_seed(0)
    encoder.load_sd({name: random_weight(name, weight.shape, noise) for name, weight in twin.named_parameters()})
    return encoder


def random_weight(name: str, shape: torch.Size, noise: torch.Generator) -> torch.Tensor:
    if len(shape) > 1:
        return torch.randn(shape, generator=noise) * (shape.numel() / shape[0]) ** -0.5
    return torch.full(shape, 0.0 if name.endswith("bias") else 1.0)


class PooledPixels:
    """An encoder whose embedding is known: the mean colours of 8 x 8 fields."""

    def encode_image(self, image):
        self.seen = getattr(self, "seen", 0) + len(image)
        pooled = torch.nn.functional.adaptive_avg_pool2d(image.movedim(-1, 1), 8)
        return {"image_embeds": pooled.flatten(1)}


class SmallEncoder:
    RETURN_TYPES = ("CLIP_VISION",)
    FUNCTION = "make"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": (["pixels", *filter(is_known, CONFIGS)],)}}

    def make(self, kind: str):
        return (PooledPixels() if kind == "pixels" else small_encoder(kind),)


NODE_CLASS_MAPPINGS = {"Small Image Encoder": SmallEncoder}
