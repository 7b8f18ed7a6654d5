"""Every entry of every architecture's table, in both directions."""

from __future__ import annotations

import pytest
from lora_pack.merge.names import (
    Architecture,
    Style,
    Target,
    loadable,
    mapped_names,
    resolve,
    style_name,
    style_names,
)
from lora_pack.merge.names.patterns import expand, fill
from lora_pack.tests.support.architectures import (
    STYLES,
    each_architecture,
    weights_of,
)


@each_architecture
def test_no_two_weights_share_a_canonical_name(architecture: Architecture):
    names = [fill(*weight) for weight in weights_of(architecture)]
    targets = [resolve("diffusion_model." + name, architecture) for name in names]
    assert all(target.is_whole for target in targets)
    assert len(set(targets)) == len(set(names))
    assert {target.weight for target in targets} == {"model:" + name.replace(".", "_") for name in names}


@each_architecture
def test_every_alias_resolves_to_its_rows_under_every_prefix(architecture: Architecture):
    for pattern, numbers in weights_of(architecture):
        weight = "model:" + fill(pattern, numbers).replace(".", "_")
        for alias in architecture.aliases_by_weight.get(pattern, ()):
            target = Target(weight, alias.rows, alias.swapped)
            path = fill(alias.path, numbers)
            for prefix in {"transformer.", "unet.", "", "diffusion_model.", "lora_unet_", "lycoris_", *alias.prefixes}:
                name = prefix + (path.replace(".", "_") if prefix.endswith("_") else path)
                if ".processor." in path and prefix.endswith("_"):
                    continue  # nobody writes this
                assert resolve(name, architecture) == target, name
                assert resolve(loadable(name, architecture), architecture) == target, name
            names = set(mapped_names(target, architecture))
            assert {loadable(name, architecture) for name in names} == names


@each_architecture
@pytest.mark.parametrize("style", STYLES)
def test_style_names_cover_every_weight_once_and_resolve_back(architecture: Architecture, style: Style):
    written: dict[str, str] = {}
    for pattern, numbers in weights_of(architecture):
        weight = "model:" + fill(pattern, numbers).replace(".", "_")
        parts = style_names(weight, architecture, style)
        for name, target in parts:
            assert resolve(name, architecture) == target
            assert style_name(target, architecture, style) == name
            assert written.setdefault(name, weight) == weight
        if parts and not parts[0][1].swapped:
            edges = [edge for _, target in parts for edge in (target.rows.start, target.rows.stop)]
            assert edges[0] == 0 and edges[-1] == 1 and edges[1:-1:2] == edges[2:-1:2]
        if style == "kohya":
            assert len(parts) == 1
    named = any(alias.diffusers for aliases in architecture.aliases_by_weight.values() for alias in aliases)
    assert bool(written) == (named or style != "peft")  # diffusers doesn't have some models


@each_architecture
@pytest.mark.parametrize("style", STYLES)
def test_style_names_of_text_encoders_resolve_back(architecture: Architecture, style: Style):
    for encoder in architecture.encoders:
        for pattern in expand(*encoder.weights):
            dotted = fill(pattern, {"n": "3"})
            name = encoder.prefix + dotted
            target = resolve(name, architecture)
            assert target.weight.startswith(f"{encoder.component}:") and target.is_whole
            assert loadable(name, architecture) == name
            in_style = style_name(target, architecture, style)
            assert in_style is None or resolve(in_style, architecture) == target
            assert in_style == encoder.comfyui_prefix + dotted or style != "comfyui"
            assert all(resolve(other, architecture) == target for other in mapped_names(target, architecture))
