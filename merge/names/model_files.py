"""What a key in a model's file means: which module's weight or bias, in a checkpoint, a diffusion model or an encoder.

ComfyUI removes the model's prefix (unet_prefix_from_state_dict, comfy/model_detection.py) and gives the text encoders
of a checkpoint its own names (process_clip_state_dict, comfy/supported_models.py). OpenCLIP's encoders, in SD 2 and
SDXL, have q, k and v in one tensor and a transposed projection (clip_text_transformers_convert, comfy/utils.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from .families import ARCHITECTURES
from .model import GENERIC_ENCODER, NAMELESS_ENCODER, PARAMETER_PREFIX, Architecture, Encoder
from .patterns import flat
from .reading import resolve
from .recognition import KNOWN_SHARE, recognise
from .row_range import ALL_ROWS, RowRange
from .unet_files import with_structure

# The prefixes of a model's weights. ComfyUI takes the first of these that more than MIN_KEYS keys begin with, ...
MODEL_PREFIXES = ("model.diffusion_model.", "model.model.", "net.")
MIN_KEYS = 5
# ... or else this one if any key has it, or else none.
OTHER_PREFIX = "model."
# The text encoders in a checkpoint by the prefixes of their weights: which of the architecture's encoders it is, its
# name if the architecture is unknown, and whether the tensors are OpenCLIP's.
_ENCODERS: Mapping[str, tuple[int, str, bool]] = {
    "cond_stage_model.transformer.": (0, "clip_l", False),
    "cond_stage_model.model.": (0, "clip_h", True),
    "conditioner.embedders.0.transformer.": (0, "clip_l", False),
    "conditioner.embedders.0.model.": (0, "clip_g", True),
    "conditioner.embedders.1.model.": (1, "clip_g", True),
}
_OPEN_CLIP_LAYER = re.compile(r"transformer\.resblocks\.([0-9]{1,9})\.(.+)\.(weight|bias)")
_OPEN_CLIP_QKV = re.compile(r"transformer\.resblocks\.([0-9]{1,9})\.attn\.in_proj_(weight|bias)")
_OPEN_CLIP_IN_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_OPEN_CLIP_OUTSIDE = {
    "positional_embedding": "embeddings.position_embedding.weight",
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_THIRDS = tuple(RowRange(Fraction(i, 3), Fraction(i + 1, 3)) for i in range(3))


@dataclass(frozen=True)
class StoredPart:
    """The module that a stored tensor, or some rows of it, belongs to.

    ``name`` is one that a LoRA can have, ``parameter`` is "weight" or "bias". ``rows`` are those of the stored tensor,
    or its columns if it is ``transposed``.
    """

    name: str
    parameter: str = "weight"
    rows: RowRange = ALL_ROWS
    transposed: bool = False


def model_prefix(keys: Iterable[str]) -> str:
    """The prefix of the diffusion model's weights in a file; empty if the file holds only the model, without one."""
    keys = list(keys)
    counts = {prefix: sum(key.startswith(prefix) for key in keys) for prefix in MODEL_PREFIXES}
    most = max(counts, key=counts.__getitem__)
    if counts[most] > MIN_KEYS:
        return most
    return OTHER_PREFIX if any(key.startswith(OTHER_PREFIX) for key in keys) else ""


def architecture_of_file(shapes: Mapping[str, tuple[int, ...]]) -> Architecture | None:
    """The architecture that a file's keys and shapes are for; None if it is unknown.

    Models with blocks left out or made narrower are known by their names alone.
    """
    prefix = model_prefix(shapes)
    paths = {key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)}
    modules = {path.removesuffix(".weight"): shape for path, shape in paths.items() if path.endswith(".weight")}
    found = recognise(modules) or recognise(dict.fromkeys(modules, ()))
    return None if found is None else structured(found, shapes)


def structured(architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]) -> Architecture:
    """The architecture with the numbers of levels and resnets that a file with these keys has."""
    prefix = model_prefix(shapes)
    return with_structure(architecture, {key.removeprefix(prefix): shape for key, shape in shapes.items()})


def encoder_prefix(shapes: Mapping[str, tuple[int, ...]], architecture: Architecture | None) -> str:
    """The prefix of ComfyUI's names for the weights of a file that is one text encoder; empty if it is another file.

    An encoder of the architecture comes first. Encoders that only differ in what the file doesn't tell, like T5-XXL and
    UMT5-XXL, share a prefix without a name, which ComfyUI maps since 0.33.
    """
    paths = {flat(key.removesuffix(".weight")): shape for key, shape in shapes.items() if key.endswith(".weight")}
    if not paths:
        return ""
    everywhere = [encoder for each in ARCHITECTURES for encoder in each.encoders]
    for encoders in (() if architecture is None else architecture.encoders, everywhere):
        prefixes = {encoder.prefix for encoder in encoders if _is_encoder(encoder, paths)}
        if prefixes:
            return prefixes.pop() if len(prefixes) == 1 else NAMELESS_ENCODER
    return ""


def _is_encoder(encoder: Encoder, paths: Mapping[str, tuple[int, ...]]) -> bool:
    unknown = 0
    for path, shape in paths.items():
        if not encoder.knows(path):
            unknown += 1
            if unknown > (1 - KNOWN_SHARE) * len(paths):
                return False
        elif not encoder.fits(encoder.below_root(path), shape):
            return False
    return True


def parts_of_file(
    keys: Iterable[str], architecture: Architecture | None, encoder: str = ""
) -> dict[str, tuple[StoredPart, ...]]:
    """The modules of each key that belongs to the diffusion model or to a text encoder.

    ``encoder`` is the ``encoder_prefix`` of a file that is a text encoder.
    """
    keys = list(keys)
    if encoder:
        return {key: (_named(encoder + key),) for key in keys}
    prefix = model_prefix(keys)
    found = {}
    for key in keys:
        parts = tuple(_parts(key, prefix, architecture))
        if parts:
            found[key] = parts
    return found


def _parts(key: str, model: str, architecture: Architecture | None) -> Iterator[StoredPart]:
    if model and key.startswith(model):
        yield _in_model(key.removeprefix(model), architecture)
        return
    if key.startswith(GENERIC_ENCODER):
        yield _named(key)
        return
    for prefix, (number, name, is_open_clip) in _ENCODERS.items():
        if key.startswith(prefix):
            known = architecture.encoders[number : number + 1] if architecture is not None else ()
            below = known[0].prefix if known else f"{GENERIC_ENCODER}{name}.transformer."
            path = key.removeprefix(prefix)
            yield from _in_open_clip(path, below) if is_open_clip else [_named(below + path)]
            return
    if not model:
        yield _in_model(key, architecture)


def _in_model(path: str, architecture: Architecture | None) -> StoredPart:
    part = _named(PARAMETER_PREFIX + path)
    stem, _, last = path.rpartition(".")
    if architecture is None or last != "scale":
        return part
    # a norm whose parameter isn't called weight: `query_norm.scale`
    known = architecture.own_paths
    resolved = resolve(part.name, architecture).weight.split(":", 1)[1]
    if known.find(resolved) is None and known.find(flat(stem)) is not None:
        return StoredPart(PARAMETER_PREFIX + stem)
    return part


def _named(key: str) -> StoredPart:
    """A module's weight or bias by its key, or a bare parameter, which is a module of its own."""
    stem, dot, last = key.rpartition(".")
    return StoredPart(stem, last) if dot and last in ("weight", "bias") else StoredPart(key)


def _in_open_clip(path: str, prefix: str) -> Iterator[StoredPart]:
    prefix_of_model = f"{prefix}text_model."
    fused = _OPEN_CLIP_QKV.fullmatch(path)
    if fused is not None:
        for letter, rows in zip("qkv", _THIRDS, strict=True):
            name = f"{prefix_of_model}encoder.layers.{fused[1]}.self_attn.{letter}_proj"
            yield StoredPart(name, fused[2], rows)
        return
    layer = _OPEN_CLIP_LAYER.fullmatch(path)
    if layer is not None and layer[2] in _OPEN_CLIP_IN_LAYER:
        yield StoredPart(f"{prefix_of_model}encoder.layers.{layer[1]}.{_OPEN_CLIP_IN_LAYER[layer[2]]}", layer[3])
    elif path in _OPEN_CLIP_OUTSIDE:
        yield _named(prefix_of_model + _OPEN_CLIP_OUTSIDE[path])
    elif path in ("text_projection", "text_projection.weight"):
        yield StoredPart(f"{prefix}text_projection", transposed=path == "text_projection")
