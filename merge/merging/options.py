"""How a merge weighs its LoRAs, what strength it leaves, and the parameters of its method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import LoraError
from ..methods.kernels import Settings
from ..methods.parameters import complete
from ..methods.registry import Method, require_known_parameters

OF_THE_MODE, OF_THE_SUM = "of the mode", "of the sum"
OF_THE_STRONGEST, AS_IF_ORTHOGONAL = "of the strongest", "as if orthogonal"
STRENGTH_RULES = (OF_THE_MODE, OF_THE_SUM, OF_THE_STRONGEST, AS_IF_ORTHOGONAL)

AS_GIVEN, AVERAGE, EQUAL_ENERGY = "as given", "average", "equal energy"
WEIGHT_RULES = (AS_GIVEN, AVERAGE, EQUAL_ENERGY)


@dataclass(frozen=True)
class MergeOptions:
    """What every mode of both mergers takes, besides its density and seed.

    ``strength_rule`` is the norm that each module of the result is scaled to (strength_rules.py), ``weights`` what is
    done to the strengths before the merge (weight_rules.py). ``parameters`` are those of methods, by name; those of
    other methods than the one that runs are ignored. Raises LoraError for unknown names and values out of range.
    """

    strength_rule: str = OF_THE_MODE
    weights: str = AS_GIVEN
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_one_of("strength rule", self.strength_rule, STRENGTH_RULES)
        _require_one_of("weights", self.weights, WEIGHT_RULES)
        require_known_parameters(self.parameters)

    def for_recipe(self, method: Method) -> dict[str, object]:
        """The weights and parameters that had a part in the result."""
        used: dict[str, object] = {} if self.weights == AS_GIVEN else {"weights": self.weights}
        if method.parameters:
            used["parameters"] = complete(method.parameters, self.parameters)
        return used

    def settings_for(self, method: Method, density: float) -> Settings:
        """What the method's kernel gets."""
        return Settings(density, complete(method.parameters, self.parameters))


def _require_one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise LoraError(f"There is no {what} {value!r}. Choose one of: {', '.join(known)}.")


DEFAULTS = MergeOptions()
