"""PM Power Loader."""

from __future__ import annotations

import logging

from ..merge.block_weights.apply import with_block_weights
from ..merge.errors import LoraError
from ..merge.facts import outline_of
from ..merge.files import SAFETENSORS
from ..merge.formats.trainer_scale import AlphaFrom
from . import comfy_bridge, presets
from .inputs import LOAD_CATEGORY
from .load import alpha_from_input
from .power_rows import Row, parse_rows, require_block_weights, require_files
from .stack import LORA_STACK, StackEntry, display_name, entries, stack_input

log = logging.getLogger(__name__)

# The front end draws a widget of this type (web/power_loader.js); one that doesn't know it shows the text.
ROWS_WIDGET = "PM_LORA_ROWS"


class PowerLoader:
    DESCRIPTION = (
        "Any number of LoRAs in one node, as rows to switch on and off, weight, reorder and remove. Outputs a LoRA "
        "stack for the mergers, PM Apply LoRA, or another pack's node."
    )
    CATEGORY = LOAD_CATEGORY
    SEARCH_ALIASES = ["power lora loader", "lora loader rows", "lora stacker", "multi lora", "power merge"]
    RETURN_TYPES = (LORA_STACK,)
    OUTPUT_TOOLTIPS = (
        "The LoRAs that are on, in order. Connect it to lora_stack of a merge node or of PM Apply LoRA. Nodes of other "
        "packs read the files and strengths, but not the block weights.",
    )
    FUNCTION = "stack"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        tooltip = "A stack, from this pack or another, to put before these rows."
        return {
            "required": {
                "rows": (
                    "STRING",
                    {
                        "default": "[]",
                        "multiline": True,
                        "widgetType": ROWS_WIDGET,
                        "presets": presets.offered(),
                        "tooltip": "The LoRAs: a JSON list of objects with lora (the file), on (true), strength (1), "
                        "strength_clip (null: as strength) and lbw (block weights).",
                    },
                )
            },
            "optional": {"lora_stack": stack_input(tooltip), "alpha_from": alpha_from_input()},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, rows: str | None = None) -> bool | str:
        try:
            if rows is not None:  # None: it comes from a link
                _checked(rows)
        except LoraError as error:
            return str(error)
        return True

    @classmethod
    def IS_CHANGED(cls, rows: str | None = None, **_: object) -> str:
        try:
            on = [row for row in parse_rows(rows) if row.on]
        except LoraError:  # said by stack(), or the rows come from a link: then the merge notices changed files
            return str([*map(comfy_bridge.state_of, presets.files())])
        read = presets.files() if any(row.lbw for row in on) else ()
        return str([*(comfy_bridge.file_state(row.lora) for row in on), *map(comfy_bridge.state_of, read)])

    def stack(self, rows: str, lora_stack: object = None, alpha_from: AlphaFrom = "trainer") -> tuple[list[StackEntry]]:
        found = _checked(rows)
        on = [row for row in found if row.on]
        for row in on:
            _require_blocks_of_the_file(row)
        if len(on) < len(found):
            log.info("PM Power Loader: %d of %d rows are on.", len(on), len(found))
        own = [StackEntry(_listed(row), row.strength, row.strength_clip, row.lbw, alpha_from) for row in on]
        return (entries(lora_stack) + own,)


def _checked(rows: str) -> list[Row]:
    found = parse_rows(rows)
    require_files(found, lambda name: comfy_bridge.listed_lora(name) is not None)
    require_block_weights(found, presets.read)
    return found


def _listed(row: Row) -> str:
    """The file as this ComfyUI lists it: other packs don't find another system's slashes."""
    return comfy_bridge.listed_lora(row.lora) or row.lora


def _require_blocks_of_the_file(row: Row) -> None:
    """Raise LoraError, here rather than at the merge, for block weights that don't fit the file's blocks."""
    path = comfy_bridge.find_lora(row.lora)
    if row.lbw and path is not None and path.suffix.lower() in SAFETENSORS:
        with_block_weights(outline_of(path, display_name(row.lora)), row.lbw, presets.read)
