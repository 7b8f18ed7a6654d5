"""The parameters that a merge method declares for itself, besides density and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import LoraError


@dataclass(frozen=True)
class Parameter:
    """A number that a method takes: its name everywhere, its range, and what to tell the user about it."""

    name: str
    default: float
    least: float
    most: float
    step: float
    tooltip: str

    def require_in_range(self, value: float) -> None:
        """Raise LoraError for a value outside the range, or NaN."""
        if not self.least <= value <= self.most:
            raise LoraError(f"{self.name} is {value:g}; it must be between {self.least:g} and {self.most:g}.")


def complete(declared: Sequence[Parameter], given: Mapping[str, float]) -> dict[str, float]:
    """The value of each declared parameter: the given one, or the default. Others that are given are left out.

    Raises LoraError for a value outside its range.
    """
    values = {parameter.name: float(given.get(parameter.name, parameter.default)) for parameter in declared}
    for parameter in declared:
        parameter.require_in_range(values[parameter.name])
    return values
