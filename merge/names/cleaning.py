"""Repairs module names that no known prefix explains, if what they mean is certain.

Some trainers put a prefix of their own before a model's paths (`Hunyuan_video_I2V_lora_double_blocks_0_img_attn_qkv`),
and some tools leave a separator at the end. ComfyUI maps neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from os.path import commonprefix

from . import prefixes
from .recognition import candidates, is_known


def cleaned(names: Iterable[str]) -> dict[str, str]:
    """The names that need cleaning and are certain once cleaned, each with its clean form."""
    names = list(names)
    if candidates(dict.fromkeys(names, ())):
        return _without_separators(names)
    stripped = {name: name.rstrip("._") for name in names}
    prefix = _unknown_prefix(list(stripped.values()))
    if prefix is None:
        return _changed(stripped) if candidates(dict.fromkeys(stripped.values(), ())) else {}
    standard = "lora_unet_" if prefix.endswith("_") else "diffusion_model."
    return _changed({name: standard + short.removeprefix(prefix) for name, short in stripped.items()})


def _without_separators(names: list[str]) -> dict[str, str]:
    """The few names of a recognised LoRA that are unknown only because of a separator at their end."""
    stripped = {name: name.rstrip("._") for name in names if name.endswith((".", "_"))}
    possible = candidates({stripped.get(name, name): () for name in names}) if stripped else ()
    return {name: short for name, short in stripped.items() if any(is_known(short, a) for a in possible)}


def _unknown_prefix(names: list[str]) -> str | None:
    """The shortest common prefix of all names that leaves the paths of a known model."""
    common = commonprefix(names)
    if len(names) < 2 or prefixes.split(names[0])[1] != names[0]:  # they have a known prefix already
        return None
    ends = [i + 1 for i, character in enumerate(common) if character in "._"]
    return next((common[:end] for end in ends if candidates({name[end:]: () for name in names})), None)


def _changed(names: dict[str, str]) -> dict[str, str]:
    """The names that changed; none at all if two of them became the same."""
    different = {old: new for old, new in names.items() if old != new}
    return different if len(set(names.values())) == len(names) else {}
