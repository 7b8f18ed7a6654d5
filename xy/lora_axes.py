"""XY: PM LoRA Strengths, XY: PM LoRA Modes and XY: PM LoRA SVD Rank."""

from __future__ import annotations

import re
from typing import Any

from ..merge.adapters.base import Lora
from ..merge.errors import LoraError
from ..merge.methods.registry import DELTA_MODES, FACTOR_MODES, SVD_SUFFIX, delta_method
from ..nodes import comfy_bridge
from ..nodes.inputs import (
    CATEGORY,
    density_input,
    device_input,
    dtype_input,
    lora_input,
    mode_input,
    require_lora,
    seed_input,
)
from .capsule import XY, Axis, axis
from .cell import Cell
from .sweep import APPLY_STRENGTH, MODEL_AND_CLIP, GivenLora, LoraFile, Sweep, are_one
from .values import decimals, evenly_spaced, evenly_spaced_integers, named_value

MOST_STEPS = 320
WHERE_TO = "Connect it to X or Y of PM XY Grid, or of XY Plot of efficiency-nodes-comfyui."


class LoraPairNode:
    """What the three nodes have in common: two LoRA files, or LoRAs in their place."""

    CATEGORY = CATEGORY
    FUNCTION = "plot"

    @classmethod
    def IS_CHANGED(cls, lora_a: str | None = None, lora_b: str | None = None, **_: object) -> str:
        return str([comfy_bridge.file_state(name) for name in (lora_a, lora_b) if name])


class PlotStrengths(LoraPairNode):
    DESCRIPTION = (
        "Axes for an XY plot: the merge of two LoRAs at every pair of strengths, LoRA a's along X and LoRA b's along "
        "Y. An axis that isn't connected leaves its LoRA at strength 1; with one LoRA on both sides, an axis alone "
        "shows that LoRA at each strength."
    )
    SEARCH_ALIASES = ["xy plot", "lora strength grid", "compare lora strengths", "power merge"]
    RETURN_TYPES = (XY, XY)
    RETURN_NAMES = ("X (strength a)", "Y (strength b)")
    OUTPUT_TOOLTIPS = (f"The strengths of LoRA a. {WHERE_TO}", f"The strengths of LoRA b. {WHERE_TO}")

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                **_files(),
                "mode": mode_input(FACTOR_MODES, "concat"),
                "density": density_input(),
                **_compute_inputs(),
                "min_strength": _strength(0.0, "The first strength on both axes. May be negative: that subtracts."),
                "max_strength": _strength(1.0, "The last strength on both axes."),
                "apply_strength": (
                    APPLY_STRENGTH,
                    {
                        "default": MODEL_AND_CLIP,
                        "tooltip": "Which part of the LoRAs the strengths are for; the other part is left out.",
                    },
                ),
                "steps": _steps("strengths"),
            },
            "optional": _optional(),
        }

    def plot(
        self,
        lora_a: str,
        lora_b: str,
        mode: str,
        density: float,
        device: str,
        dtype: str,
        min_strength: float,
        max_strength: float,
        apply_strength: str,
        steps: int,
        lora_a_override: Lora | None = None,
        lora_b_override: Lora | None = None,
        seed: int = 0,
    ) -> tuple[Axis, Axis]:
        strengths = evenly_spaced("strength", min_strength, max_strength, steps)
        a, b = _source(lora_a, lora_a_override, "lora_a"), _source(lora_b, lora_b_override, "lora_b")
        # of one LoRA on both sides an axis alone shows it at the axis' strengths, not a second time at 1
        other = 0.0 if are_one(a, b) else 1.0
        defaults = Cell(mode, strength_a=other, strength_b=other, density=density)
        sweep = Sweep(a, b, defaults, device=device, dtype=dtype, seed=seed, apply_strength=apply_strength)
        sweep.check()
        texts = decimals(strengths)

        def strengths_of(setting: str, lora: LoraFile | GivenLora) -> Axis:
            name = lora.name.rpartition("/")[2]
            labels = [named_value(name, text) for text in texts]
            return axis(sweep, zip([{setting: s} for s in strengths], labels, strict=True))

        return strengths_of("strength_a", a), strengths_of("strength_b", b)


class PlotModes(LoraPairNode):
    DESCRIPTION = (
        "Axes for an XY plot: the merge of two LoRAs in every mode along X and at every density along Y. "
        "X alone uses the largest density, Y alone the first mode. Modes without density are the same all along."
    )
    SEARCH_ALIASES = ["xy plot", "compare merge modes", "lora mode grid", "power merge"]
    RETURN_TYPES = (XY, XY)
    RETURN_NAMES = ("X (modes)", "Y (densities)")
    OUTPUT_TOOLTIPS = (f"The modes. {WHERE_TO}", f"The densities. {WHERE_TO}")

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                **_files(),
                "modes": (
                    "STRING",
                    {
                        "default": "add, ties, dare_linear, dare_ties, magnitude_prune",
                        "multiline": True,
                        "dynamicPrompts": False,
                        "placeholder": ", ".join(FACTOR_MODES),
                        "tooltip": "The modes, with commas between them: those of PM Merge LoRA, and those of PM Merge "
                        f"LoRA SVD ({', '.join(DELTA_MODES)}) at the larger rank of the two LoRAs.",
                    },
                ),
                "min_density": _density(0.2, "The first density: the share of each LoRA's values that is kept."),
                "max_density": _density(1.0, "The last density; 1 keeps everything."),
                "density_steps": _steps("densities"),
                **_compute_inputs(),
            },
            "optional": _optional(),
        }

    def plot(
        self,
        lora_a: str,
        lora_b: str,
        modes: str,
        min_density: float,
        max_density: float,
        density_steps: int,
        device: str,
        dtype: str,
        lora_a_override: Lora | None = None,
        lora_b_override: Lora | None = None,
        seed: int = 0,
    ) -> tuple[Axis, Axis]:
        names = mode_names(modes)
        densities = evenly_spaced("density", min_density, max_density, density_steps)
        a, b = _source(lora_a, lora_a_override, "lora_a"), _source(lora_b, lora_b_override, "lora_b")
        sweep = Sweep(a, b, Cell(names[0], density=max_density), device=device, dtype=dtype, seed=seed)
        sweep.check(names)
        along_x = [({"mode": name}, name) for name in names]
        along_y = [({"density": d}, f"density {text}") for d, text in zip(densities, decimals(densities), strict=True)]
        return axis(sweep, along_x), axis(sweep, along_y)


class PlotSvdRank(LoraPairNode):
    DESCRIPTION = (
        "An axis for an XY plot: the SVD merge of two LoRAs cut to each rank, to find the smallest rank that still "
        "looks like the whole."
    )
    SEARCH_ALIASES = ["xy plot", "compare lora ranks", "svd rank grid", "power merge"]
    RETURN_TYPES = (XY,)
    RETURN_NAMES = ("X (ranks)",)
    OUTPUT_TOOLTIPS = (f"The ranks. {WHERE_TO}",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                **_files(),
                "mode": mode_input(DELTA_MODES, "add_svd"),
                "density": density_input(),
                "min_rank": _rank(1, "The first rank, for all modules, convolutions too."),
                "max_rank": _rank(64, "The last rank. Modules get no more than the two LoRAs have together."),
                "rank_steps": _steps("ranks"),
                **_compute_inputs(),
            },
            "optional": _optional(),
        }

    @classmethod
    def VALIDATE_INPUTS(cls, mode: str = DELTA_MODES[0]) -> bool | str:
        # in place of ComfyUI's look into the list, which would refuse the plain spelling of older workflows
        try:
            delta_method(mode)
        except LoraError as error:
            return str(error)
        return True

    def plot(
        self,
        lora_a: str,
        lora_b: str,
        mode: str,
        density: float,
        min_rank: int,
        max_rank: int,
        rank_steps: int,
        device: str,
        dtype: str,
        lora_a_override: Lora | None = None,
        lora_b_override: Lora | None = None,
        seed: int = 0,
    ) -> tuple[Axis]:
        ranks = evenly_spaced_integers("rank", min_rank, max_rank, rank_steps)
        a, b = _source(lora_a, lora_a_override, "lora_a"), _source(lora_b, lora_b_override, "lora_b")
        defaults = Cell(delta_method(mode).name + SVD_SUFFIX, density=density, rank=max_rank)
        sweep = Sweep(a, b, defaults, device=device, dtype=dtype, seed=seed)
        sweep.check()
        return (axis(sweep, [({"rank": rank}, f"rank {rank}") for rank in ranks]),)


def mode_names(text: str) -> list[str]:
    """The modes that a text names, in its order, each once. Raises LoraError where it names none or an unknown one."""
    names = list(dict.fromkeys(re.findall(r"[^\s,;]+", text.lower())))
    known = [*FACTOR_MODES, *DELTA_MODES]
    if not names:
        raise LoraError(f"There are no modes to plot. Write some of {', '.join(known)}, with commas between them.")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise LoraError(f"There is no mode {' and no mode '.join(unknown)}. The modes are {', '.join(known)}.")
    return names


def _source(lora_name: str, given: Lora | None, what: str) -> LoraFile | GivenLora:
    return LoraFile(lora_name) if given is None else GivenLora(require_lora(given, what + "_override"))


def _files() -> dict[str, Any]:
    names = comfy_bridge.lora_names()
    return {
        "lora_a": (names, {"tooltip": "LoRA a: the first input of the merge. A file of ComfyUI's loras folders."}),
        "lora_b": (names, {"tooltip": "LoRA b: the second input of the merge. A file of ComfyUI's loras folders."}),
    }


def _optional() -> dict[str, Any]:
    what = (
        "Connected, this LoRA stands in for the file of lora_{}: with block weights, resized, or merged already. "
        "Its own strengths multiply those of the plot."
    )
    return {
        "lora_a_override": lora_input(what.format("a")),
        "lora_b_override": lora_input(what.format("b")),
        "seed": seed_input(),
    }


def _compute_inputs() -> dict[str, Any]:
    return {"device": device_input(comfy_bridge.device_names()), "dtype": dtype_input()}


def _strength(default: float, tooltip: str) -> tuple[str, dict]:
    return ("FLOAT", {"default": default, "min": -10.0, "max": 10.0, "step": 0.01, "tooltip": tooltip})


def _density(default: float, tooltip: str) -> tuple[str, dict]:
    return ("FLOAT", {"default": default, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip": tooltip})


def _rank(default: int, tooltip: str) -> tuple[str, dict]:
    return ("INT", {"default": default, "min": 1, "max": 4096, "step": 1, "tooltip": tooltip})


def _steps(what: str) -> tuple[str, dict]:
    tooltip = f"How many {what}, evenly spaced from the first to the last. 1: the first alone."
    return ("INT", {"default": 4, "min": 1, "max": MOST_STEPS, "step": 1, "tooltip": tooltip})
