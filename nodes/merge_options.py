"""PM Merge Options, and the widgets and the socket of other nodes for what it and every mode take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..merge.errors import LoraError
from ..merge.merging.options import (
    AS_GIVEN,
    OF_THE_MODE,
    STRENGTH_RULES,
    WEIGHT_RULES,
    MergeOptions,
)
from ..merge.methods.parameters import Parameter
from ..merge.methods.registry import DELTA_MODES, PARAMETERS, mode_tooltip, require_known_parameters, using_parameter
from .inputs import MERGE_CATEGORY

MERGE_OPTIONS = "PM_MERGE_OPTIONS"
FIRST_MODE = next(mode for mode in DELTA_MODES if any(using_parameter([mode], name) for name in PARAMETERS))


class MergeOptionsNode:
    DESCRIPTION = (
        "The parameters of merge modes that have some beyond density and seed. Connect it to options of PM Merge LoRA "
        "SVD or of an XY node; a mode takes what is its own and ignores the rest."
    )
    CATEGORY = MERGE_CATEGORY
    SEARCH_ALIASES = ["merge parameters", "method options", "power merge"]
    RETURN_TYPES = (MERGE_OPTIONS,)
    RETURN_NAMES = ("options",)
    OUTPUT_TOOLTIPS = ("Connect it to options of PM Merge LoRA SVD, XY Sweep, XY Modes or XY SVD Rank.",)
    FUNCTION = "collect"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        shown = {name: using_parameter(DELTA_MODES, name) for name in PARAMETERS}
        mode = {
            "default": FIRST_MODE,
            "tooltip": "The mode to show the parameters of. It changes nothing else: all parameters below are passed "
            "on, and the merger's own mode takes those that it has.\n\n" + mode_tooltip(DELTA_MODES),
            "uses": shown,
            "hides": True,
        }
        return {"required": {"mode": (list(DELTA_MODES), mode), **{n: _widget(p) for n, p in PARAMETERS.items()}}}

    def collect(self, mode: str, **parameters: float) -> tuple[Mapping[str, float]]:
        require_known_parameters(parameters)
        return (parameters,)


def _widget(parameter: Parameter) -> tuple[str, dict]:
    return (
        "FLOAT",
        {
            "default": parameter.default,
            "min": parameter.least,
            "max": parameter.most,
            "step": parameter.step,
            "tooltip": parameter.tooltip,
        },
    )


def options_input() -> tuple[str, dict]:
    return (MERGE_OPTIONS, {"tooltip": "Parameters of the mode, from PM Merge Options. Unconnected: their defaults."})


def strength_rule_input() -> tuple[list[str], dict]:
    return (
        list(STRENGTH_RULES),  # ComfyUI checks lists before a run, but not tuples
        {
            "default": OF_THE_MODE,
            "tooltip": "How strong each module of the result is. of the mode: as the mode leaves it; ties, karcher and "
            "other means give less than the LoRAs had. of the sum: as strong as the plain sum, so that concept and "
            "style both come through. of the strongest: as the strongest LoRA alone. as if orthogonal: as the sum of "
            "LoRAs that have nothing in common.",
        },
    )


def weights_input() -> tuple[list[str], dict]:
    return (
        list(WEIGHT_RULES),
        {
            "default": AS_GIVEN,
            "tooltip": "What happens to the strengths before the merge. as given: nothing. average: they are divided "
            "by their sum, so that 1 and 1 become 0.5 and 0.5. equal energy: all LoRAs are made equally strong first, "
            "so that a strong one doesn't drown a weak one.",
        },
    )


def merge_options(strength_rule: str, weights: str, parameters: object) -> MergeOptions:
    """What a node's inputs say. Raises LoraError if something else than PM Merge Options is connected to options."""
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, Mapping):
        raise LoraError(
            f"options: expected the output of PM Merge Options, got {type(parameters).__name__}. Connect PM Merge "
            "Options, or nothing."
        )
    return MergeOptions(strength_rule, weights, parameters)


def rule_inputs() -> dict[str, Any]:
    """The widgets for how strong a merge and its LoRAs are."""
    return {"strength_rule": strength_rule_input(), "weights": weights_input()}
