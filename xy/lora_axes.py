"""XY: PM LoRA Strengths, XY: PM LoRA Modes and XY: PM LoRA SVD Rank."""

from __future__ import annotations

from ..merge.adapters.base import Lora
from ..merge.errors import LoraError
from ..merge.merging.options import AS_GIVEN, OF_THE_MODE
from ..merge.methods.density import require_density
from ..merge.methods.registry import DELTA_MODES, FACTOR_MODES, SVD_SUFFIX, delta_method, factor_method, method_of
from ..nodes import comfy_bridge
from ..nodes.files_read import FilesRead
from ..nodes.inputs import XY_CATEGORY, density_input, mode_input, require_lora
from ..nodes.merge_options import merge_options
from .axis_inputs import (
    MAX_DENSITY,
    MAX_RANK,
    MAX_STRENGTH,
    MIN_DENSITY,
    compute_inputs,
    density_bound_input,
    file_inputs,
    optional_inputs,
    rank_bound_input,
    steps_input,
    strength_input,
)
from .capsule import XY, Axis, axis
from .cell import Cell, strength_name
from .sweep import APPLY_STRENGTH, MODEL_AND_CLIP, GivenLora, LoraFile, Source, Sweep, same_lora
from .values import decimals, evenly_spaced, evenly_spaced_integers, listed, listed_integers, named_values, words

_files_read = FilesRead(comfy_bridge.file_state)

WHERE_TO = "Connect it to X or Y of PM XY Grid, or of XY Plot from efficiency-nodes-comfyui."


class LoraPairNode:
    """Base of the three nodes: each plots two LoRAs, given as files or as overriding inputs."""

    CATEGORY = XY_CATEGORY
    FUNCTION = "plot"

    @classmethod
    def IS_CHANGED(cls, lora_a: str | None = None, lora_b: str | None = None, **_: object) -> str:
        names = lora_a, lora_b
        states = [comfy_bridge.file_state(name) for name in names if name]
        return str([*states, _files_read.changes() if None in names else 0])  # None: it comes from a link


class PlotStrengths(LoraPairNode):
    DESCRIPTION = (
        "Axes for an XY plot of two merged LoRAs: the strength of LoRA a along X, that of LoRA b along Y. If an axis "
        "isn't connected, its LoRA stays at strength 1. If a and b are the same LoRA, a single axis shows it alone at "
        "each strength."
    )
    SEARCH_ALIASES = ["xy plot", "lora strength grid", "compare lora strengths", "power merge"]
    RETURN_TYPES = (XY, XY)
    RETURN_NAMES = ("X (strength a)", "Y (strength b)")
    OUTPUT_TOOLTIPS = (f"The strengths of LoRA a. {WHERE_TO}", f"The strengths of LoRA b. {WHERE_TO}")

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                **file_inputs(),
                "mode": mode_input(FACTOR_MODES, "concat"),
                "density": density_input(),
                **compute_inputs(),
                "min_strength": strength_input(
                    0.0, "The first strength on both axes. Negative values subtract the LoRA's effect."
                ),
                "max_strength": strength_input(1.0, "The last strength on both axes."),
                "apply_strength": (
                    APPLY_STRENGTH,
                    {
                        "default": MODEL_AND_CLIP,
                        "tooltip": "Which part of the LoRAs the strengths apply to. The other part is left out.",
                    },
                ),
                "steps": steps_input("strengths"),
            },
            "optional": optional_inputs("strengths", "0.4, 0.7, 1", with_options=False),
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
        values: str = "",
        strength_rule: str = OF_THE_MODE,
    ) -> tuple[Axis, Axis]:
        require_density([factor_method(mode)], density)
        strengths = listed("strength", values, -MAX_STRENGTH, MAX_STRENGTH) or evenly_spaced(
            "strength", min_strength, max_strength, steps
        )
        a, b = _source(lora_a, lora_a_override, "lora_a"), _source(lora_b, lora_b_override, "lora_b")
        # if both are the same LoRA, a single axis shows it at the axis's strengths, without a second copy at 1
        other = 0.0 if same_lora(a, b) else 1.0
        defaults = Cell(mode, (other, other), density=density, seed=seed, strength_rule=strength_rule)
        sweep = Sweep([a, b], defaults, device=device, dtype=dtype, apply_strength=apply_strength)
        sweep.check()
        texts = decimals(strengths)
        names = list(dict.fromkeys([a.name, b.name]))

        def strengths_of(number: int) -> Axis:
            labels = named_values(names, min(number, len(names)), texts)
            return axis(sweep, zip([{strength_name(number): s} for s in strengths], labels, strict=True))

        return strengths_of(1), strengths_of(2)


class PlotModes(LoraPairNode):
    DESCRIPTION = (
        "Axes for an XY plot of two merged LoRAs: merge modes along X, densities along Y. X alone uses the largest "
        "density, Y alone the first mode. Modes that ignore density give the same picture at every density."
    )
    SEARCH_ALIASES = ["xy plot", "compare merge modes", "lora mode grid", "power merge"]
    RETURN_TYPES = (XY, XY)
    RETURN_NAMES = ("X (modes)", "Y (densities)")
    OUTPUT_TOOLTIPS = (f"The modes. {WHERE_TO}", f"The densities. {WHERE_TO}")

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                **file_inputs(),
                "modes": (
                    "STRING",
                    {
                        "default": "add, ties, dare_linear, dare_ties, magnitude_prune",
                        "multiline": True,
                        "dynamicPrompts": False,
                        "placeholder": ", ".join(FACTOR_MODES),
                        # the page offers them in a combo that writes into the text
                        "choices": [*FACTOR_MODES, *DELTA_MODES],
                        "tooltip": "The modes to compare, separated by commas: those of PM Merge LoRA, and those of PM "
                        f"Merge LoRA SVD ({', '.join(DELTA_MODES)}), which use the larger rank of the two LoRAs.",
                    },
                ),
                "min_density": density_bound_input(0.2, "The first density: the share of each LoRA's values to keep."),
                "max_density": density_bound_input(1.0, "The last density. 1 drops nothing."),
                "density_steps": steps_input("densities"),
                **compute_inputs(),
            },
            "optional": optional_inputs("densities", "0.3, 0.5, 0.8"),
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
        values: str = "",
        strength_rule: str = OF_THE_MODE,
        weights: str = AS_GIVEN,
        options: object = None,
    ) -> tuple[Axis, Axis]:
        names = mode_names(modes)
        densities = listed("density", values, MIN_DENSITY, MAX_DENSITY)
        if not densities:
            for name, density in {"min_density": min_density, "max_density": max_density}.items():
                require_density([method_of(mode) for mode in names], density, name)
            densities = evenly_spaced("density", min_density, max_density, density_steps)
        a, b = _source(lora_a, lora_a_override, "lora_a"), _source(lora_b, lora_b_override, "lora_b")
        chosen = merge_options(strength_rule, weights, options)
        defaults = Cell.of(names[0], chosen, density=max(densities), seed=seed)
        sweep = Sweep([a, b], defaults, device=device, dtype=dtype)
        sweep.check([{"mode": name} for name in names])
        along_x = [({"mode": name}, name) for name in names]
        along_y = [({"density": d}, f"density {text}") for d, text in zip(densities, decimals(densities), strict=True)]
        return axis(sweep, along_x), axis(sweep, along_y)


class PlotSvdRank(LoraPairNode):
    DESCRIPTION = (
        "An axis for an XY plot: two LoRAs merged and truncated to each rank by SVD, to find the smallest rank that "
        "still looks like the full merge."
    )
    SEARCH_ALIASES = ["xy plot", "compare lora ranks", "svd rank grid", "power merge"]
    RETURN_TYPES = (XY,)
    RETURN_NAMES = ("X (ranks)",)
    OUTPUT_TOOLTIPS = (f"The ranks. {WHERE_TO}",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                **file_inputs(),
                "mode": mode_input(DELTA_MODES, "add_svd"),
                "density": density_input(),
                "min_rank": rank_bound_input(1, "The first rank, for all modules including convolutions."),
                "max_rank": rank_bound_input(
                    64, "The last rank. No module gets more than the two LoRAs' ranks added up."
                ),
                "rank_steps": steps_input("ranks"),
                **compute_inputs(),
            },
            "optional": optional_inputs("ranks", "4, 8, 32"),
        }

    @classmethod
    def VALIDATE_INPUTS(cls, mode: str = DELTA_MODES[0]) -> bool | str:
        # replaces ComfyUI's own check against the list, which would reject the names without _svd in older workflows
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
        values: str = "",
        strength_rule: str = OF_THE_MODE,
        weights: str = AS_GIVEN,
        options: object = None,
    ) -> tuple[Axis]:
        require_density([delta_method(mode)], density)
        ranks = listed_integers("rank", values, 1, MAX_RANK) or evenly_spaced_integers(
            "rank", min_rank, max_rank, rank_steps
        )
        a, b = _source(lora_a, lora_a_override, "lora_a"), _source(lora_b, lora_b_override, "lora_b")
        chosen = merge_options(strength_rule, weights, options)
        largest = _both_ranks(max(ranks))
        defaults = Cell.of(delta_method(mode).name + SVD_SUFFIX, chosen, density=density, seed=seed, **largest)
        sweep = Sweep([a, b], defaults, device=device, dtype=dtype)
        sweep.check()
        return (axis(sweep, [(_both_ranks(rank), f"rank {rank}") for rank in ranks]),)


def mode_names(text: str) -> list[str]:
    """The modes listed in a text, without repeats. Raises LoraError if there are none or one is unknown."""
    names = list(dict.fromkeys(words(text.lower())))
    known = [*FACTOR_MODES, *DELTA_MODES]
    if not names:
        raise LoraError(f"No modes to plot. List one or more of {', '.join(known)}, separated by commas.")
    unknown = [name for name in names if name not in known]
    if unknown:
        plural = "s" if len(unknown) > 1 else ""
        raise LoraError(f"Unknown mode{plural}: {', '.join(unknown)}. The modes are {', '.join(known)}.")
    return names


def _both_ranks(rank: int) -> dict[str, int]:
    return {"svd_rank": rank, "svd_conv_rank": rank}


def _source(lora_name: str, given: Lora | None, name: str) -> Source:
    if given is not None:
        return GivenLora(require_lora(given, name + "_override"))
    _files_read.note(lora_name)
    return LoraFile(lora_name)
