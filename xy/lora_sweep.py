"""XY: PM LoRA Sweep."""

from __future__ import annotations

import logging

from ..merge.errors import LoraError
from ..merge.merging.options import AS_GIVEN, OF_THE_MODE
from ..merge.methods.density import require_density
from ..merge.methods.registry import method_of
from ..nodes.inputs import (
    XY_CATEGORY,
    GrowingInputs,
    growing_lora_input,
    seed_input,
)
from ..nodes.merge_options import merge_options, options_input, rule_inputs
from ..nodes.stack import stack_state
from .capsule import XY, Axis, axis
from .cell import Cell, strength_name
from .lora_axes import WHERE_TO
from .merge_inputs import connected_loras, lora_stack_input, merge_inputs
from .sweep import GivenLora, Sweep
from .sweep_parameters import NONE, SWEEP_PARAMETERS, SweepParameter, labels_of, require_connected

log = logging.getLogger(__name__)

FIRST = strength_name(1)
MODE = "mode"


class PlotSweep:
    DESCRIPTION = (
        "Axes for an XY plot of a merge of any number of LoRAs: each changes one parameter of the merge, such as the "
        "mode, the density, a rank, a seed or the strength of one LoRA or of all. With one LoRA it shows that LoRA "
        "alone. A parameter whose axis isn't connected stays as set here."
    )
    CATEGORY = XY_CATEGORY
    SEARCH_ALIASES = ["xy plot", "lora sweep", "compare merges", "parameter sweep", "lora strength grid", "power merge"]
    RETURN_TYPES = (XY, XY)
    RETURN_NAMES = ("X", "Y")
    OUTPUT_TOOLTIPS = (
        f"The values of x_parameter. {WHERE_TO}",
        f"The values of y_parameter, or nothing if it is none. {WHERE_TO}",
    )
    FUNCTION = "plot"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": merge_inputs(),
            "optional": GrowingInputs(
                {
                    "lora_stack": lora_stack_input(),
                    "options": options_input(),
                    # the last socket: the front end appends lora2, lora3, ... after it
                    "lora1": growing_lora_input(),
                    "seed": seed_input(),
                    **rule_inputs(),
                    **_axis_inputs("x", FIRST, "0, 0.5, 1"),
                    **_axis_inputs("y", NONE, ""),
                }
            ),
        }

    @classmethod
    def IS_CHANGED(cls, **inputs: object) -> int:
        return stack_state(inputs)

    def plot(
        self,
        mode: str,
        density: float,
        svd_rank: int,
        svd_conv_rank: int,
        device: str,
        dtype: str,
        seed: int = 0,
        strength_rule: str = OF_THE_MODE,
        weights: str = AS_GIVEN,
        x_parameter: str = FIRST,
        x_values: str = "",
        y_parameter: str = NONE,
        y_values: str = "",
        lora_stack: object = None,
        options: object = None,
        **loras: object,
    ) -> tuple[Axis | None, Axis | None]:
        axes = _parameters(x_parameter, y_parameter)
        texts = {"x": x_values, "y": y_values}
        values = {side: parameter.values(f"{side}_values", texts[side]) for side, parameter in axes.items()}
        by_name = {parameter.name: values[side] for side, parameter in axes.items()}
        modes = by_name.get(MODE, [mode])
        require_density([method_of(one) for one in modes], density)
        chosen = merge_options(strength_rule, weights, options)
        connected = connected_loras(loras, lora_stack)
        for side, parameter in axes.items():
            require_connected(f"{side}_parameter", parameter.name, len(connected))
            if not parameter.used_by(modes):
                which = modes[0] if len(modes) == 1 else "none of the modes"
                log.warning("%s: %s makes no use of it, so all its cells are the same.", parameter.name, which)
        ranks = {"svd_rank": svd_rank, "svd_conv_rank": svd_conv_rank}
        sources = [GivenLora(lora) for lora in connected]
        defaults = Cell.of(mode, chosen, density=density, seed=seed, **ranks)
        sweep = Sweep(sources, defaults, device=device, dtype=dtype)
        sweep.check([{MODE: one} for one in modes])
        names = [source.name for source in sources]
        found: dict[str, Axis] = {}
        for side, parameter in axes.items():
            settings = [{parameter.name: value} for value in values[side]]
            found[side] = axis(sweep, zip(settings, labels_of(parameter, values[side], names), strict=True))
        return found.get("x"), found.get("y")


def _axis_inputs(side: str, parameter: str, values: str) -> dict[str, tuple]:
    """The parameter of an axis, and its values.

    The page shows ``hints`` in place of empty values and offers ``choices``. ``uses``: with the mode on an axis, the
    settings of all modes count.
    """
    offered = ([] if parameter != NONE else [NONE]) + list(SWEEP_PARAMETERS)
    of_all_modes = {name: [MODE] for name in ("density", "seed", "svd_rank", "svd_conv_rank")}
    cells = {"x": "from column to column", "y": "from row to row"}[side]
    about = {
        "default": parameter,
        "tooltip": f"What changes {cells}. strength 1, strength 2, ...: multiplies the strengths of that LoRA, all "
        "strengths those of all. The rest are the settings above and the parameters of PM Merge Options.",
        "uses": {f"{side}_values": list(SWEEP_PARAMETERS), **of_all_modes},
        "hints": {f"{side}_values": {name: one.hint for name, one in SWEEP_PARAMETERS.items()}},
        "lists": {f"{side}_values": {name: one.choices for name, one in SWEEP_PARAMETERS.items() if one.choices}},
    }
    listed = {
        "default": values,
        "multiline": True,
        "dynamicPrompts": False,
        "placeholder": SWEEP_PARAMETERS[FIRST].hint,
        "tooltip": f"The values of {side}_parameter: a list such as 0, 0.5, 1; a range such as 0..1 x 5, which is five "
        "values from 0 to 1; or names, such as ties_svd, add_svd.",
    }
    return {f"{side}_parameter": (offered, about), f"{side}_values": ("STRING", listed)}


def _parameters(x: str, y: str) -> dict[str, SweepParameter]:
    """The parameter of each axis in use, by "x" and "y". Raises LoraError for an unknown one, and one on both axes."""
    chosen = {"x": x, "y": y}
    if x == y != NONE:
        raise LoraError(f"x_parameter and y_parameter are both {x!r}. Choose two different ones, or none for y.")
    for side, name in chosen.items():
        if name not in SWEEP_PARAMETERS and name != NONE:
            known = ", ".join(SWEEP_PARAMETERS)
            raise LoraError(f"{side}_parameter is {name!r}, which is no parameter of a merge. Choose from {known}.")
    return {side: SWEEP_PARAMETERS[name] for side, name in chosen.items() if name != NONE}
