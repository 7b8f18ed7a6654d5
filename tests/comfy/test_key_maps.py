"""Our tables against ComfyUI's own key maps, on its models without weights: every name it maps, ours and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any

import pytest
from lora_pack.merge.names import (
    ARCHITECTURES,
    Architecture,
    Target,
    candidates,
    loadable,
    mapped_names,
    recognise,
    spell,
    split_spelling,
    target,
)
from lora_pack.merge.names.patterns import fill
from lora_pack.tests.comfy import empty_models

BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
PREFIX = "diffusion_model."
KeyMap = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]

# Where a ComfyUI reads a name otherwise than it is meant; docs/names.md tells why.
LUMINA_THIRDS = re.compile(r"attention[._]to_[kv]$")  # thirds, where Lumina 2 has fewer keys and values
OVIS_HALF = re.compile(r"[._]proj_mlp$")  # the first half of what diffusers calls so in Ovis-Image
READ_OTHERWISE = {"Lumina 2": LUMINA_THIRDS, "NewBie": LUMINA_THIRDS, "Ovis-Image": OVIS_HALF}
# Two models of one class in diffusers, of one width and depth
ALIKE_IN_DIFFUSERS = ("Cosmos 14B", "Cosmos Predict2 14B")
CASCADE = "lora_prior_te_text_projection"  # Stable Cascade's name for its only encoder, which SDXL's map has too
# A norm's parameter, `scale` up to 0.3.75 and `weight` in 0.33, and one that 0.33 does without.
RENAMED = re.compile(
    r"(?:^|[._])(query_norm|key_norm|norms[._][0-9]+|nerf_\w+[._0-9]*[._]norm)([._]scale)?$|norm_final$"
)


@pytest.fixture(scope="module", params=empty_models.MODELS)
def mapped(request: pytest.FixtureRequest, comfy: ModuleType) -> tuple[Architecture, Shapes, KeyMap]:
    """An architecture, the shapes of ComfyUI's model, and ComfyUI's map for it."""
    names = empty_models.names_of_model(comfy, request.param)
    if names is None:
        pytest.skip(f"This ComfyUI has no {request.param}.")
    return BY_NAME[empty_models.MODELS[request.param][0]], names.shapes, names.key_map


@pytest.fixture(scope="module", params=empty_models.ENCODERS)
def encoders(request: pytest.FixtureRequest, comfy: ModuleType) -> tuple[Architecture, KeyMap]:
    names = empty_models.names_of_encoder(comfy, request.param)
    name, *_ = empty_models.ENCODERS[request.param]
    all_of_them = next(other for other, entry in empty_models.ENCODERS.items() if entry[0] == name)
    if names is None or empty_models.names_of_encoder(comfy, all_of_them) is None:
        pytest.skip(f"This ComfyUI has no text encoder of {request.param}.")
    return BY_NAME[name], names.key_map


def meant(entry: Any, shapes: Shapes) -> Target | None:
    """What an entry of ComfyUI's map says, as we say it; None for a weight that the model doesn't have."""
    key, offset, function = (*entry, None, None)[:3] if isinstance(entry, tuple) else (entry, None, None)
    if key not in shapes:
        return None
    path = key.removeprefix(PREFIX).removesuffix(".weight")
    path = path.removesuffix(".scale") if RENAMED.search(path) else path
    start, stop = Fraction(0), Fraction(1)
    if offset is not None:
        dimension, first, length = offset
        assert dimension == 0
        start, stop = Fraction(first, shapes[key][0]), Fraction(first + length, shapes[key][0])
    return Target("model:" + path.replace(".", "_"), start, stop, swapped=function is not None)


def entries(architecture: Architecture, shapes: Shapes, key_map: KeyMap) -> Iterator[tuple[str, Target]]:
    """The names that ComfyUI maps to something the model has, with what they mean there."""
    for name, entry in key_map.items():
        meaning = meant(entry, shapes)
        otherwise = READ_OTHERWISE.get(architecture.name)
        if meaning is not None and not (otherwise and otherwise.search(name)):
            yield name, meaning


def test_every_name_that_comfyui_maps_means_the_same_here(mapped: tuple[Architecture, Shapes, KeyMap]):
    architecture, shapes, key_map = mapped
    found = list(entries(architecture, shapes, key_map))
    assert len(found) > 450
    assert {name: target(name, architecture) for name, _ in found} == dict(found)


def test_what_is_written_is_in_the_map_and_means_the_same(mapped: tuple[Architecture, Shapes, KeyMap]):
    architecture, shapes, key_map = mapped
    for name, meaning in entries(architecture, shapes, key_map):
        written = loadable(name, architecture)
        if not list(mapped_names(meaning, architecture)) and RENAMED.search(name):
            assert written == name  # nothing that all versions map
        else:
            assert meant(key_map[written], shapes) == meaning, (name, written)


def test_every_weight_is_known_and_every_name_that_all_should_map_is_mapped(
    comfy: ModuleType, mapped: tuple[Architecture, Shapes, KeyMap]
):
    import comfy.utils as utils

    architecture, shapes, key_map = mapped
    # Z-Image's spelling of a Lumina 2, which nobody writes, is mapped since ComfyUI knows Z-Image
    unmapped_z_image = architecture.name == "Lumina 2" and not hasattr(utils, "z_image_to_diffusers")
    for key in shapes:
        if not key.startswith(PREFIX) or not key.endswith(".weight"):
            continue
        path = key.removeprefix(PREFIX).removesuffix(".weight")
        weight = "model:" + path.replace(".", "_")
        found = architecture.own.find(weight.removeprefix("model:"))
        assert found is not None and fill(*found) == path, key
        if found[0] in architecture.shapes:
            assert architecture.shapes[found[0]] == shapes[key][:2]
        meanings = {Target(weight)} | {
            Target(weight, rule.start, rule.stop, rule.swapped) for rule in architecture.spellings.get(found[0], ())
        }
        for meaning in meanings:
            for name in mapped_names(meaning, architecture):
                if name in key_map or not unmapped_z_image:
                    assert meant(key_map[name], shapes) == meaning, name
        # every spelling that diffusers or a trainer may have, and what is written for it
        for rule in architecture.spellings.get(found[0], ()):
            meaning = Target(weight, rule.start, rule.stop, rule.swapped)
            for prefix in ("", "transformer.", "unet.", "lora_unet_", "base_model.model.transformer."):
                alias = fill(rule.alias, found[1])
                name = prefix + (alias.replace(".", "_") if prefix.endswith("_") else alias)
                written = loadable(name, architecture)
                if list(mapped_names(meaning, architecture)) and (written in key_map or not unmapped_z_image):
                    assert meant(key_map[written], shapes) == meaning, (name, written)


def test_kohyas_and_comfyuis_style_load(mapped: tuple[Architecture, Shapes, KeyMap]):
    architecture, shapes, key_map = mapped
    for key in shapes:
        if key.startswith(PREFIX) and key.endswith(".weight") and not RENAMED.search(key.removesuffix(".weight")):
            whole = Target("model:" + key.removeprefix(PREFIX).removesuffix(".weight").replace(".", "_"))
            for style in ("kohya", "comfyui"):
                name = spell(whole, architecture, style)
                assert name is not None and meant(key_map[name], shapes) == whole, (key, style)


def test_the_model_is_recognised(mapped: tuple[Architecture, Shapes, KeyMap]):
    architecture, shapes, _ = mapped
    modules = {key.removesuffix(".weight"): shape for key, shape in shapes.items() if key.endswith(".weight")}
    assert recognise(modules) is architecture
    assert candidates(modules)[0] is architecture
    linear = {name: shape for name, shape in modules.items() if len(shape) == 2 and "block" in name or "layers" in name}
    split = {}
    for name, shape in linear.items():
        for spelt, meaning in split_spelling(target(name, architecture).weight, architecture, "peft"):
            split[spelt] = (int(shape[0] * (meaning.stop - meaning.start)), *shape[1:])
    if architecture.name in ALIKE_IN_DIFFUSERS:
        assert recognise(split) is None and architecture in candidates(split)
    elif split:
        told = recognise(split)
        assert told is architecture or (told is not None and told.family in architecture.defers_to)


def test_every_name_of_a_text_encoder_means_the_same_here(encoders: tuple[Architecture, KeyMap]):
    architecture, key_map = encoders
    for name, key in key_map.items():
        if name == CASCADE:
            continue
        own = key.removesuffix(".weight")
        place, encoder = next(
            (place, encoder)
            for encoder in architecture.encoders
            for place in (*encoder.places, *["transformer."] * encoder.nameless)
            if own.startswith(place)
        )
        alone = place != encoder.place  # as ComfyUI has it without the others
        head = encoder.place + encoder.root if encoder.part == "te" else ""
        path = own.removeprefix(place).removeprefix(encoder.root)
        weight = f"{encoder.part}:{head}{path}".replace(".", "_")
        written = loadable(name, architecture)
        assert key_map[written] == key
        assert target(name, architecture) == Target(weight)
        if alone:
            continue  # the other names are those beside the others
        as_alone = tuple(f"text_encoders.{place}" for place in encoder.places[1:])
        for other in mapped_names(Target(weight), architecture):
            assert other.startswith(as_alone) or key_map[other] == key
        generic = spell(name, architecture, "comfyui")
        assert generic is None or key_map[generic] == key
        kohya = spell(name, architecture, "kohya")
        assert kohya is None or key_map[kohya] == key
