"""The tables of families against ComfyUI's own key maps, in both directions, on its models without weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any

import pytest
from lora_pack.merge.names import (
    ALL_ROWS,
    ARCHITECTURES,
    Architecture,
    RowRange,
    Target,
    candidates,
    loadable,
    mapped_names,
    recognise,
    resolve,
    style_name,
    style_names,
)
from lora_pack.merge.names.patterns import fill
from lora_pack.tests.comfy import empty_models

BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
PREFIX = "diffusion_model."
KeyMap = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]

# Names that ComfyUI maps to the wrong rows; docs/names.md explains why.
LUMINA_THIRDS = re.compile(r"attention[._]to_[kv]$")  # thirds, but Lumina 2 has fewer keys and values than queries
OVIS_HALF = re.compile(r"[._]proj_mlp$")  # only the first half of the rows that diffusers has there in Ovis-Image
MAPPED_WRONGLY = {"Lumina 2": LUMINA_THIRDS, "NewBie": LUMINA_THIRDS, "Ovis-Image": OVIS_HALF}
# Two models with the same class, width and depth in diffusers
ALIKE_IN_DIFFUSERS = ("Cosmos 14B", "Cosmos Predict2 14B")
CASCADE = "lora_prior_te_text_projection"  # for Stable Cascade's only encoder, but SDXL's map has it too
# The norms whose parameter is `scale` up to 0.3.75 and `weight` in 0.33, and one that 0.33 lacks.
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


def target_of(entry: Any, shapes: Shapes) -> Target | None:
    """The target of an entry in ComfyUI's key map; None for a weight that the model doesn't have."""
    key, offset, function = (*entry, None, None)[:3] if isinstance(entry, tuple) else (entry, None, None)
    if key not in shapes:
        return None
    path = key.removeprefix(PREFIX).removesuffix(".weight")
    path = path.removesuffix(".scale") if RENAMED.search(path) else path
    rows = ALL_ROWS
    if offset is not None:
        dimension, first, length = offset
        assert dimension == 0
        rows = RowRange(Fraction(first, shapes[key][0]), Fraction(first + length, shapes[key][0]))
    return Target("model:" + path.replace(".", "_"), rows, swapped=function is not None)


def entries(architecture: Architecture, shapes: Shapes, key_map: KeyMap) -> Iterator[tuple[str, Target]]:
    """The names that ComfyUI maps to a weight of the model, with their targets; without those that it maps wrongly."""
    for name, entry in key_map.items():
        target = target_of(entry, shapes)
        wrong = MAPPED_WRONGLY.get(architecture.name)
        if target is not None and not (wrong and wrong.search(name)):
            yield name, target


def test_names_resolve_to_the_weights_that_comfyui_maps_them_to(mapped: tuple[Architecture, Shapes, KeyMap]):
    architecture, shapes, key_map = mapped
    found = list(entries(architecture, shapes, key_map))
    assert len(found) > 450
    assert {name: resolve(name, architecture) for name, _ in found} == dict(found)


def test_loadable_names_are_in_comfyuis_map_with_the_same_target(mapped: tuple[Architecture, Shapes, KeyMap]):
    architecture, shapes, key_map = mapped
    for name, target in entries(architecture, shapes, key_map):
        written = loadable(name, architecture)
        if not list(mapped_names(target, architecture)) and RENAMED.search(name):
            assert written == name  # no name is mapped by all versions
        else:
            assert target_of(key_map[written], shapes) == target, (name, written)


def test_tables_have_every_weight_and_comfyui_maps_every_name_that_they_call_mapped(
    comfy: ModuleType, mapped: tuple[Architecture, Shapes, KeyMap]
):
    import comfy.utils as utils

    architecture, shapes, key_map = mapped
    # Z-Image's names of Lumina 2's weights, which nobody writes, are mapped since ComfyUI has Z-Image
    unmapped_z_image = architecture.name == "Lumina 2" and not hasattr(utils, "z_image_to_diffusers")
    for key in shapes:
        if not key.startswith(PREFIX) or not key.endswith(".weight"):
            continue
        path = key.removeprefix(PREFIX).removesuffix(".weight")
        weight = "model:" + path.replace(".", "_")
        found = architecture.own_paths.find(weight.removeprefix("model:"))
        assert found is not None and fill(*found) == path, key
        if found[0] in architecture.shapes:
            assert architecture.shapes[found[0]] == shapes[key][:2]
        aliases = architecture.aliases_by_weight.get(found[0], ())
        for target in {Target(weight)} | {Target(weight, alias.rows, alias.swapped) for alias in aliases}:
            for name in mapped_names(target, architecture):
                if name in key_map or not unmapped_z_image:
                    assert target_of(key_map[name], shapes) == target, name
        # every name that diffusers or a trainer may write, and the one that is written instead
        for alias in aliases:
            target = Target(weight, alias.rows, alias.swapped)
            for prefix in ("", "transformer.", "unet.", "lora_unet_", "base_model.model.transformer."):
                path = fill(alias.path, found[1])
                name = prefix + (path.replace(".", "_") if prefix.endswith("_") else path)
                written = loadable(name, architecture)
                if list(mapped_names(target, architecture)) and (written in key_map or not unmapped_z_image):
                    assert target_of(key_map[written], shapes) == target, (name, written)


def test_comfyui_maps_every_name_in_kohyas_and_its_own_style(mapped: tuple[Architecture, Shapes, KeyMap]):
    architecture, shapes, key_map = mapped
    for key in shapes:
        if key.startswith(PREFIX) and key.endswith(".weight") and not RENAMED.search(key.removesuffix(".weight")):
            whole = Target("model:" + key.removeprefix(PREFIX).removesuffix(".weight").replace(".", "_"))
            for style in ("kohya", "comfyui"):
                name = style_name(whole, architecture, style)
                assert name is not None and target_of(key_map[name], shapes) == whole, (key, style)


def test_all_weights_of_a_model_are_recognised_as_its_architecture(mapped: tuple[Architecture, Shapes, KeyMap]):
    architecture, shapes, _ = mapped
    modules = {key.removesuffix(".weight"): shape for key, shape in shapes.items() if key.endswith(".weight")}
    assert recognise(modules) is architecture
    assert candidates(modules)[0] is architecture
    linear = {name: shape for name, shape in modules.items() if len(shape) == 2 and "block" in name or "layers" in name}
    split = {}
    for name, shape in linear.items():
        for other, target in style_names(resolve(name, architecture).weight, architecture, "peft"):
            split[other] = (int(shape[0] * target.rows.size), *shape[1:])
    if architecture.name in ALIKE_IN_DIFFUSERS:
        assert recognise(split) is None and architecture in candidates(split)
    elif split:
        found = recognise(split)
        assert found is architecture or (found is not None and found.family in architecture.defers_to)


def test_text_encoder_names_resolve_to_the_weights_that_comfyui_maps_them_to(encoders: tuple[Architecture, KeyMap]):
    architecture, key_map = encoders
    for name, key in key_map.items():
        if name == CASCADE:
            continue
        own = key.removesuffix(".weight")
        prefix, encoder = next(
            (prefix, encoder)
            for encoder in architecture.encoders
            for prefix in (*encoder.inner_prefixes, *["transformer."] * encoder.nameless)
            if own.startswith(prefix)
        )
        alone = prefix != encoder.inner_prefix  # loaded without the model's other encoders
        head = encoder.inner_prefix + encoder.root if encoder.component == "te" else ""
        path = own.removeprefix(prefix).removeprefix(encoder.root)
        weight = f"{encoder.component}:{head}{path}".replace(".", "_")
        written = loadable(name, architecture)
        assert key_map[written] == key
        assert resolve(name, architecture) == Target(weight)
        if alone:
            continue  # the other names hold for the encoder together with the others
        as_alone = tuple(f"text_encoders.{prefix}" for prefix in encoder.inner_prefixes[1:])
        for other in mapped_names(Target(weight), architecture):
            assert other.startswith(as_alone) or key_map[other] == key
        comfyui = style_name(name, architecture, "comfyui")
        assert comfyui is None or key_map[comfyui] == key
        kohya = style_name(name, architecture, "kohya")
        assert kohya is None or key_map[kohya] == key
