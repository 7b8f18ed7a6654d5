"""Module names that no prefix explains, brought to usual ones where their meaning is certain.

Some trainers put a prefix of their own before a model's paths (`Hunyuan_video_I2V_lora_double_blocks_0_img_attn_qkv`),
some tools leave a separator at the end. ComfyUI maps neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from os.path import commonprefix

from . import prefixes
from .recognition import candidates, is_known


def cleaned(names: Iterable[str]) -> dict[str, str]:
    """The names that mean something certain once cleaned, with what they become; the others are not in it."""
    names = list(names)
    if candidates(dict.fromkeys(names, ())):
        return _without_ends(names)
    bare = {name: name.rstrip("._") for name in names}
    prefix = _foreign_prefix(list(bare.values()))
    if prefix is None:
        return _changed(bare) if candidates(dict.fromkeys(bare.values(), ())) else {}
    usual = "lora_unet_" if prefix.endswith("_") else "diffusion_model."
    return _changed({name: usual + short.removeprefix(prefix) for name, short in bare.items()})


def _without_ends(names: list[str]) -> dict[str, str]:
    """The few names of a recognised LoRA that only a separator at their end keeps from being known."""
    ends = {name: name.rstrip("._") for name in names if name.endswith((".", "_"))}
    possible = candidates({ends.get(name, name): () for name in names}) if ends else ()
    return {name: short for name, short in ends.items() if any(is_known(short, a) for a in possible)}


def _foreign_prefix(names: list[str]) -> str | None:
    """The shortest beginning of all names behind which a known model's paths stand."""
    common = commonprefix(names)
    if len(names) < 2 or prefixes.split(names[0])[1] != names[0]:  # a prefix that says what it means is no foreign one
        return None
    ends = [i + 1 for i, character in enumerate(common) if character in "._"]
    return next((common[:end] for end in ends if candidates({name[end:]: () for name in names})), None)


def _changed(names: dict[str, str]) -> dict[str, str]:
    """The names that changed, unless two of them became one."""
    different = {old: new for old, new in names.items() if old != new}
    return different if len(set(names.values())) == len(names) else {}
