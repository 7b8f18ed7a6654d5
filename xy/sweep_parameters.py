"""What XY: PM LoRA Sweep can put on an axis: each parameter with its values, their labels and a hint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..merge.errors import LoraError
from ..merge.merging.options import STRENGTH_RULES, WEIGHT_RULES
from ..merge.methods.registry import (
    DELTA_MODES,
    FACTOR_MODES,
    PARAMETERS,
    using_density,
    using_parameter,
    using_seed,
)
from ..nodes.inputs import MAX_SEED
from .axis_inputs import MAX_RANK, MIN_DENSITY
from .cell import ALL_STRENGTHS, strength_name, strength_number
from .value_list import names, numbers, whole_numbers
from .values import decimals, named_values

ALL_MODES = (*FACTOR_MODES, *DELTA_MODES)
NONE = "none"
MAX_STRENGTH = 20.0
NAMED_STRENGTHS = 10

# (input, setting, text) -> values. Raises LoraError.
Read = Callable[[str, str, str], list[Any]]
# values -> their labels
Label = Callable[[Sequence[Any]], list[str]]


@dataclass(frozen=True)
class SweepParameter:
    """``hint`` is an example of its values, or all of them. ``choices`` are the names it takes, if it takes names.

    ``used_by`` are the modes, among those given, in which it changes anything.
    """

    name: str
    read: Read
    labels: Label
    hint: str
    choices: tuple[str, ...] = ()
    used_by: Callable[[Sequence[str]], list[str]] = list

    def values(self, where: str, text: str) -> list[Any]:
        """The values in the text of an input (``where``). Raises LoraError with the word at fault."""
        return self.read(where, self.name, text)


def require_connected(where: str, name: str, loras: int) -> None:
    """Raise LoraError if this is the strength of a LoRA that isn't connected."""
    number = strength_number(name)
    if number is not None and number > loras:
        connected = "only 1 LoRA is connected" if loras == 1 else f"only {loras} LoRAs are connected"
        raise LoraError(f"{where} is {name!r}, but {connected}. Connect more, or choose another parameter.")


def labels_of(parameter: SweepParameter, values: Sequence[Any], lora_names: Sequence[str]) -> list[str]:
    """A label for each value. The strength of a LoRA has that LoRA's name."""
    number = strength_number(parameter.name)
    if number is None:
        return parameter.labels(values)
    return named_values(lora_names, number, decimals(values))


def _in_range(read: Callable[..., list], least: float, most: float) -> Read:
    return lambda where, setting, text: read(where, setting, text, least, most)


def _one_of(known: Sequence[str]) -> Read:
    return lambda where, setting, text: names(where, setting.replace("_", " "), text, known)


def _named(prefix: str, values: Sequence[Any]) -> list[str]:
    return [f"{prefix} {value}" for value in values]


def _decimal(name: str, values: Sequence[float]) -> list[str]:
    return _named(name, decimals(values))


def _ranks(values: Sequence[int]) -> list[str]:
    return [f"rank {value}" if value else "rank of the inputs" for value in values]


def _svd(modes: Sequence[str]) -> list[str]:
    return [mode for mode in modes if mode in DELTA_MODES]


def _strength(name: str) -> SweepParameter:
    read = _in_range(numbers, -MAX_STRENGTH, MAX_STRENGTH)
    return SweepParameter(name, read, partial(_decimal, name), "0, 0.5, 1 or 0..1 x 5")


def _rule(name: str, prefix: str, known: tuple[str, ...]) -> SweepParameter:
    return SweepParameter(name, _one_of(known), partial(_named, prefix), ", ".join(known), known)


_ALL = (
    *(_strength(strength_name(number)) for number in range(1, NAMED_STRENGTHS + 1)),
    _strength(ALL_STRENGTHS),
    SweepParameter("mode", _one_of(ALL_MODES), list, "concat, ties_svd, dare_ties_svd", ALL_MODES),
    SweepParameter(
        "density",
        _in_range(numbers, MIN_DENSITY, 1.0),
        partial(_decimal, "density"),
        "0.3, 0.5, 0.8 or 0.2..1 x 5",
        used_by=using_density,
    ),
    SweepParameter("svd_rank", _in_range(whole_numbers, 0, MAX_RANK), _ranks, "4, 8, 32 or 1..64 x 4", used_by=_svd),
    SweepParameter(
        "seed",
        _in_range(whole_numbers, 0, MAX_SEED),
        partial(_named, "seed"),
        "0, 1, 2 or 0..3 x 4",
        used_by=using_seed,
    ),
    _rule("strength_rule", "strength", STRENGTH_RULES),
    _rule("weights", "weights", WEIGHT_RULES),
    *(
        SweepParameter(
            one.name,
            _in_range(numbers, one.least, one.most),
            partial(_decimal, one.name),
            f"{one.default:g}, or others from {one.least:g} to {one.most:g}",
            used_by=partial(using_parameter, name=one.name),
        )
        for one in PARAMETERS.values()
    ),
)
SWEEP_PARAMETERS: Mapping[str, SweepParameter] = {parameter.name: parameter for parameter in _ALL}
