"""Every model and text encoder of ComfyUI, with every name that its key map has for their weights.

There is a LoRA of rank 1 for each naming of a model's weights. ComfyUI must load the same from our copy of each LoRA as
from the LoRA itself, and the same from a merge of all of them as from one after the other.

Only the first and the last block of a list are used, unless the model can't be recognised by these. test_key_maps.py
covers the names of every block.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import torch
from lora_pack.merge.formats import from_state_dict, to_state_dict
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.names import Architecture, recognise
from lora_pack.tests.comfy import empty_models
from lora_pack.tests.comfy.empty_models import ENCODERS, MODELS, Names
from torch import Tensor

State = dict[str, Tensor]
# The change of each weight, times some inputs; of a vector the change itself.
Change = Mapping[str, Tensor]

PREFIXES = (
    *("diffusion_model.", "unet.base_model.model.", "base_model.model.", "transformer.", "unet."),
    *("lora_unet_", "lora_prior_unet_", "lora_transformer_", "lycoris_"),
    *("lora_prior_te_", "lora_te_", "lora_te1_", "lora_te2_", "lora_te3_"),
    *("text_encoders.transformer.", "text_encoders.", "text_encoder_2.", "text_encoder_3.", "text_encoder."),
)
# Larger bare parameters (tables of positions) are left out: they would take memory and test nothing more.
LARGEST_PARAMETER = 500_000


def split(target: Any) -> tuple[str, tuple[int, int, int] | None, Any]:
    """An entry of ComfyUI's key map: the key, the slice of it (dimension, start, length), and the function on it."""
    key, rows_slice, function = (*target, None, None)[:3] if isinstance(target, tuple) else (target, None, None)
    return str(key), rows_slice, function


# A block's number follows one of these words in every model. Lists shorter than LONG_LIST are used whole.
BLOCK_NUMBER = re.compile(r"(?<=blocks\.)\d+|(?<=layers\.)\d+|(?<=\.block\.)\d+|(?<=blocks\.block)\d+")
LONG_LIST = 5
# A name for Stable Cascade's only encoder that the key maps of SDXL and SD 3 have too.
CASCADE = "lora_prior_te_text_projection"
# Names that ComfyUI maps to the wrong rows, except in weights with one of these multiples of their columns as rows.
# Lumina 2 has fewer keys and values than queries, but ComfyUI maps their names to thirds of the rows. Ovis-Image has
# twice the MLP rows of Flux, of which ComfyUI maps half.
WRONG_IN_COMFYUI = ((re.compile(r"attention[._]to_[kv]$"), (3,)), (re.compile(r"[._]proj_mlp$"), (7, 9)))


def namings(names: Names) -> dict[str, dict[str, Any]]:
    """The names in the key map by prefix; numbered if a prefix has several names for the same rows of a weight."""
    found: dict[str, dict[str, Any]] = {}
    taken: dict[str, set[tuple[str, tuple[int, int, int] | None]]] = {}
    wholes: dict[str, set[str]] = {}
    for name, target in names.key_map.items():
        key, rows_slice, _ = split(target)
        shape = names.shapes.get(key)
        if shape is None or (not key.endswith(".weight") and math.prod(shape) > LARGEST_PARAMETER):
            continue
        if name == CASCADE and "clip_l.transformer.text_projection.weight" in names.shapes:
            continue
        if rows_slice is not None and any(
            wrong.search(name) and shape[0] not in [width * shape[1] for width in widths]
            for wrong, widths in WRONG_IN_COMFYUI
        ):
            continue
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "bare")
        number = 1
        # no file has both a whole weight and some of its rows
        while (key, rows_slice) in taken.setdefault(f"{prefix} {number}", set()) or (
            (key in wholes.get(f"{prefix} {number}", ())) != (rows_slice is None)
            and any(key == other for other, _ in taken[f"{prefix} {number}"])
        ):
            number += 1
        style = f"{prefix} {number}"
        taken[style].add((key, rows_slice))
        if rows_slice is None:
            wholes.setdefault(style, set()).add(key)
        found.setdefault(style, {})[name] = target
    return {style: _completed(naming, found[style.rpartition(" ")[0] + " 1"]) for style, naming in found.items()}


def _completed(some: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """A naming of some weights, completed with the prefix's first naming: a file doesn't have just a few weights."""
    keys = {split(target)[0] for target in some.values()}
    return dict(some) | {name: target for name, target in first.items() if split(target)[0] not in keys}


def lora(names: Names, naming: Mapping[str, Any], seed: int) -> State:
    """A file of rank 1 with these names; vectors and bare parameters get a difference."""
    noise = torch.Generator().manual_seed(seed)
    tensors: State = {}
    for name, target in naming.items():
        key, rows_slice, _ = split(target)
        rows, *columns = names.shapes[key] or (1,)
        rows = rows_slice[2] if rows_slice is not None else rows
        if not columns or not key.endswith(".weight"):
            tensors[f"{name}.diff"] = torch.randn(rows, *columns, generator=noise)
            continue
        ones = (1,) * (len(columns) - 1)
        tensors[f"{name}.lora_up.weight"] = torch.randn(rows, 1, *ones, generator=noise)
        tensors[f"{name}.lora_down.weight"] = torch.randn(1, *columns, generator=noise) / math.sqrt(math.prod(columns))
    return tensors


def loaded(comfy: ModuleType, names: Names, tensors: State) -> Change:
    """The change of each weight when ComfyUI loads a file; fails if it doesn't load all of it."""
    import comfy.lora
    import comfy.lora_convert

    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(tensors), names.key_map)
    finally:
        logging.getLogger().removeHandler(handler)
    assert [line for line in logged if "not loaded" in line] == []
    change: dict[str, Tensor] = {}
    for target, patch in patches.items():
        key, rows_slice, function = split(target)
        rows, *columns = names.shapes[key] or (1,)
        inputs = probes(math.prod(columns))
        if isinstance(patch, tuple):
            (difference,) = patch[1]
            value = difference.double()[:, None] if not columns else difference.flatten(1).double() @ inputs
        else:
            up, down, alpha = patch.weights[:3]
            scale = 1.0 if alpha is None else alpha / down.shape[0]
            value = scale * up.flatten(1).double() @ (down.flatten(1).double() @ inputs)
        value = value if function is None else function(value)
        whole = change.setdefault(key, torch.zeros(rows, value.shape[1], dtype=torch.float64))
        first = rows_slice[1] if rows_slice is not None else 0
        whole[first : first + value.shape[0]] += value
    return change


@cache
def probes(columns: int) -> Tensor:
    """Random inputs: two changes of a weight are equal if their products with these are."""
    return torch.randn(columns, 2, generator=torch.Generator().manual_seed(columns), dtype=torch.float64)


def assert_equal(got: Change, want: Change) -> None:
    assert got.keys() == want.keys()
    wrong = [
        key for key, value in want.items() if torch.linalg.norm(got[key] - value) > 1e-5 * torch.linalg.norm(value)
    ]
    assert wrong == []


def summed(*changes: Change) -> Change:
    total: dict[str, Tensor] = {}
    for change in changes:
        for key, value in change.items():
            total[key] = total[key] + value if key in total else value
    return total


def outer_blocks(names: Names) -> Names:
    """The first and the last block of each list; all blocks if the family can't be recognised without them."""
    numbers: dict[str, set[int]] = {}
    for key in names.shapes:
        for match in BLOCK_NUMBER.finditer(key):
            numbers.setdefault(key[: match.start()], set()).add(int(match.group()))

    def is_outer(key: str) -> bool:
        lists = ((numbers[key[: match.start()]], int(match.group())) for match in BLOCK_NUMBER.finditer(key))
        return all(len(found) < LONG_LIST or number in (0, max(found)) for found, number in lists)

    outer = {key: shape for key, shape in names.shapes.items() if is_outer(key)}
    if recognised(outer) is not recognised(names.shapes):
        return names
    key_map = {name: target for name, target in names.key_map.items() if split(target)[0] in outer}
    return Names(outer, key_map)


def recognised(shapes: Mapping[str, tuple[int, ...]]) -> Architecture | None:
    return recognise({key.removesuffix(".weight"): shape for key, shape in shapes.items() if key.endswith(".weight")})


def check(comfy: ModuleType, names: Names) -> None:
    files = {style: lora(names, naming, n) for n, (style, naming) in enumerate(namings(names).items())}
    assert files
    plain = [loaded(comfy, names, tensors) for tensors in files.values()]
    loras = [from_state_dict(tensors, style) for style, tensors in files.items()]
    for read, want in zip(loras, plain, strict=True):
        assert_equal(loaded(comfy, names, to_state_dict(read)), want)
    merged = merge_factors(loras)
    assert_equal(loaded(comfy, names, to_state_dict(merged)), summed(*plain))
    assert merged.notes == ()
    reversed_order = merge_factors(loras[::-1])
    assert_equal(loaded(comfy, names, to_state_dict(reversed_order)), summed(*plain))


def by_architecture(table: Mapping[str, tuple[Any, ...]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, (architecture, *_) in table.items():
        found.setdefault(architecture, []).append(name)
    return found


def check_all(comfy: ModuleType, found: list[Names | None]) -> None:
    """Checks each of them that has a new name: variants of a model mostly have the same names."""
    present = sorted((names for names in found if names is not None), key=lambda names: -len(names.key_map))
    if not present:
        pytest.skip("This ComfyUI has none of them.")
    checked: set[str] = set()
    for names in present:
        if not names.key_map.keys() <= checked:
            check(comfy, outer_blocks(names))
            checked |= names.key_map.keys()


MODELS_OF, ENCODERS_OF = by_architecture(MODELS), by_architecture(ENCODERS)


@pytest.mark.parametrize("architecture", MODELS_OF)
def test_all_names_of_a_model_are_merged_and_loaded(comfy: ModuleType, architecture: str):
    check_all(comfy, [empty_models.names_of_model(comfy, name) for name in MODELS_OF[architecture]])


@pytest.mark.parametrize("architecture", ENCODERS_OF)
def test_all_names_of_a_text_encoder_are_merged_and_loaded(comfy: ModuleType, architecture: str):
    check_all(comfy, [empty_models.names_of_encoder(comfy, name) for name in ENCODERS_OF[architecture]])
