"""XY: PM Sampling, an axis of seeds, steps, cfg, samplers, schedulers, denoise or prompt words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import comfy.samplers

from ..merge.errors import LoraError
from ..nodes.inputs import XY_CATEGORY
from .capsule import XY, Axis
from .values import require_decimal_points, words


class PlotSampling:
    DESCRIPTION = (
        "An axis for an XY plot that changes how the pictures are sampled. A merge seen with several seeds, prompts or "
        "cfg values says more than a single picture."
    )
    CATEGORY = XY_CATEGORY
    SEARCH_ALIASES = ["xy plot", "seeds", "prompt search replace", "prompt s/r", "cfg axis", "steps axis"]
    RETURN_TYPES = (XY,)
    RETURN_NAMES = ("X or Y",)
    OUTPUT_TOOLTIPS = ("The axis. Connect it to X or Y of PM XY Grid, or of XY Plot from efficiency-nodes-comfyui.",)
    FUNCTION = "plot"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "axis": (list(AXES), {"default": "seed +", "tooltip": "The setting that changes from cell to cell."}),
                "values": (
                    "STRING",
                    {
                        "default": "0, 1, 2, 3",
                        "multiline": True,
                        "dynamicPrompts": False,
                        "tooltip": "The values, separated by commas or one per line. seed +: numbers to add to the "
                        "seed. positive prompt, negative prompt: the first value is the text to find in the prompt; "
                        "each of the others replaces it in turn.",
                    },
                ),
            }
        }

    def plot(self, axis: str, values: str) -> tuple[Axis]:
        kind, read = AXES[axis]
        found = list(dict.fromkeys(read(axis, values)))
        if not found:
            raise LoraError(f"The {axis} axis has no values. Enter them separated by commas, or one per line.")
        return ((kind, found),)


Reader = Callable[[str, str], list[Any]]


def _numbers(kind: type, least: float, most: float) -> Reader:
    def read(axis: str, text: str) -> list[Any]:
        numbers = []
        if kind is float:
            require_decimal_points(f"The {axis} axis", text)
        for word in words(text):
            try:
                number = kind(word)
            except ValueError:
                expected = "a whole number" if kind is int else "a number"
                raise LoraError(f"The {axis} axis has the value {word!r}, which is not {expected}.") from None
            if not least <= number <= most:
                raise LoraError(f"The {axis} axis has the value {word}; it must be between {least:g} and {most:g}.")
            numbers.append(number)
        return numbers

    return read


def _samplers(axis: str, text: str) -> list[Any]:
    # None keeps the scheduler of the grid or KSampler
    return [(name, None) for name in _known(axis, words(text), comfy.samplers.KSampler.SAMPLERS)]


def _schedulers(axis: str, text: str) -> list[Any]:
    return _known(axis, words(text), comfy.samplers.KSampler.SCHEDULERS)


def _known(axis: str, names: list[str], known: Sequence[str]) -> list[str]:
    for name in names:
        if name not in known:
            raise LoraError(f"Unknown {axis} {name!r}. Choose from {', '.join(known)}.")
    return names


def _replacements(axis: str, text: str) -> list[Any]:
    """Splits at line breaks if there are any, since prompts contain commas, otherwise at commas."""
    lines = text.strip().splitlines()
    found, *others = [part.strip() for part in (lines if len(lines) > 1 else text.split(",")) if part.strip()] or [""]
    return [(found, None), *((found, other) for other in others)] if found else []


AXES: dict[str, tuple[str, Reader]] = {
    "seed +": ("Seeds++ Batch", _numbers(int, 0, 2**63)),
    "steps": ("Steps", _numbers(int, 1, 10000)),
    "cfg": ("CFG Scale", _numbers(float, 0, 100)),
    "sampler": ("Sampler", _samplers),
    "scheduler": ("Scheduler", _schedulers),
    "denoise": ("Denoise", _numbers(float, 0, 1)),
    "positive prompt": ("Positive Prompt S/R", _replacements),
    "negative prompt": ("Negative Prompt S/R", _replacements),
}
