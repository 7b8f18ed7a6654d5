"""A merge method with everything that the user chose for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import LoraError
from ..methods.kernels import Settings
from ..methods.mask_stream import MaskStream
from ..methods.registry import Method
from .matching import WeightGroup
from .options import OF_THE_MODE, MergeOptions


@dataclass(frozen=True)
class MergeSettings:
    """Raises LoraError for a density outside 0 to 1."""

    method: Method
    density: float
    seed: int
    options: MergeOptions = field(default_factory=MergeOptions)

    def __post_init__(self) -> None:
        if not 0 <= self.density <= 1:
            raise LoraError(f"The density is {self.density}; it must be between 0 and 1.")

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is sparsified."""
        return not self.method.uses_density or self.density >= 1

    @property
    def of_method(self) -> Settings:
        """What the method's kernel gets."""
        return self.options.settings_for(self.method, self.density)

    def streams(self, group: WeightGroup, side: str) -> list[MaskStream]:
        """The random numbers for one side ("up", "down", "delta" or "core") of each contribution to a weight."""
        return [MaskStream(self.seed, group.weight, one.input_index, side) for one in group.contributions]

    def for_recipe(self, rule: str) -> dict[str, object]:
        """The settings that had a part in the result. ``rule`` is the strength rule that was applied."""
        used: dict[str, object] = {}
        if self.method.uses_density:
            used["density"] = self.density
        if self.method.uses_seed:
            used["seed"] = self.seed
        if rule != OF_THE_MODE:
            used["strength_rule"] = rule
        return used | self.options.for_recipe(self.method)
