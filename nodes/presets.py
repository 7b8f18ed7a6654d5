"""The presets of block weights: the pack's own, and the user's in ComfyUI's user folder."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

from ..merge.block_weights.presets import PACK_USER_PRESETS, USER_PRESETS_NAME, preset_files, read_presets
from ..merge.errors import LoraError
from . import comfy_bridge

log = logging.getLogger(__name__)


def files() -> tuple[Path, ...]:
    return preset_files(comfy_bridge.user_folder() / USER_PRESETS_NAME)


def read() -> dict[str, str]:
    """The presets by name. Raises LoraError for a file that can't be read or an invalid line."""
    return read_presets(*files())


def offered() -> dict[str, str]:
    """The presets that the front end offers next to lbw. If their file is invalid: none, and a warning in the log."""
    _warn_about_presets_in_the_pack()
    try:
        return read()
    except LoraError as error:
        log.warning("%s", error)
        return {}


@cache
def _warn_about_presets_in_the_pack() -> None:
    if PACK_USER_PRESETS.exists():
        log.warning(
            "%s will be lost if the pack is reinstalled. Move it to %s.",
            PACK_USER_PRESETS,
            comfy_bridge.user_folder(),
        )
