"""The options of a merge that every mode takes: strength rule, weights, and the parameters of methods."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from ..errors import LoraError
from ..merging import options as rules
from ..merging.options import MergeOptions
from ..methods.registry import METHODS, method_of

STRENGTH_RULES = {
    "mode": rules.OF_THE_MODE,
    "sum": rules.OF_THE_SUM,
    "strongest": rules.OF_THE_STRONGEST,
    "orthogonal": rules.AS_IF_ORTHOGONAL,
}
WEIGHTS = {"given": rules.AS_GIVEN, "average": rules.AVERAGE, "energy": rules.EQUAL_ENERGY}


def add_merge_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--strength-rule",
        choices=STRENGTH_RULES,
        default="mode",
        help="the norm that each module of the result is scaled to: mode leaves what the mode gives; sum is that of "
        "the plain sum, strongest that of the strongest LoRA, orthogonal that of unrelated LoRAs",
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        default="given",
        help="the strengths to merge with: given leaves them; average divides them by their sum; energy makes all "
        "LoRAs equally strong before they are weighted",
    )
    names = ", ".join(f"{one.name} ({one.default:g})" for method in METHODS for one in method.parameters)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"a parameter of the mode, repeatable: {names}; `python -m merge methods` explains them",
    )


def merge_options(options: argparse.Namespace) -> MergeOptions:
    """The options that were given. Raises LoraError for a parameter that the mode doesn't have, or its value."""
    parameters = _parameters(options.set)
    declared = [parameter.name for parameter in method_of(options.mode).parameters]
    for name in parameters:
        if name not in declared:
            known = f"its parameters are {', '.join(declared)}" if declared else "it has none"
            raise LoraError(f"--set {name}: the mode {options.mode} has no such parameter; {known}.")
    return MergeOptions(STRENGTH_RULES[options.strength_rule], WEIGHTS[options.weights], parameters)


def _parameters(texts: Sequence[str]) -> Mapping[str, float]:
    parameters = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            parameters[name.strip()] = float(value)
        except ValueError:
            problem = f"{value!r} is not a number" if equals else "it has no ="
            raise LoraError(f"--set {text}: {problem}. Write NAME=VALUE, e.g. iso_blend=0.3.") from None
    return parameters
