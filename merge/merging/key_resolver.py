"""How the names in several LoRAs are read together: by one architecture, or by the model at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..adapters.architecture import architectures_of, weight_shapes
from ..adapters.base import Lora
from ..errors import LoraError
from ..names import ARCHITECTURES, Architecture, Target, candidates, clash, is_known, shared, target


@dataclass(frozen=True, eq=False)
class ModelNames:
    """What names mean to a connected model and text encoder.

    ``architecture``: what the model's own weights are recognised as. ``target``: what its key map says a name means,
    None for a name that it does not hold.
    """

    architecture: Architecture | None
    target: Callable[[str], Target | None]


@dataclass(frozen=True, eq=False)
class KeyResolver:
    """Reads the names of all LoRAs of one merge.

    ``architecture`` is what they are for together, None where nothing decides. ``reads_as`` is that, or one of several
    that read all of the names the same (text encoders that many models have). ``by_names``: whether the names alone
    decided. ``model`` is the connected model; ``asks_model``: whether its key map says what names mean, because no
    architecture does. ``in_doubt``: several architectures are possible, and they read some names differently.
    """

    architecture: Architecture | None
    reads_as: Architecture | None
    by_names: bool = True
    model: ModelNames | None = None
    asks_model: bool = False
    in_doubt: bool = False

    def target(self, name: str) -> Target:
        """The weight, or rows of it, that a name means."""
        found = self.model.target(name) if self.model is not None and self.asks_model else None
        return found or target(name, self.reads_as)

    def knows(self, name: str) -> bool:
        """Whether the name is in the architecture's tables or in the connected model's key map."""
        if self.reads_as is not None and is_known(name, self.reads_as):
            return True
        return self.model is not None and self.model.target(name) is not None


def resolver_for(loras: Sequence[Lora], model: ModelNames | None = None) -> KeyResolver:
    """The resolver for a merge of these LoRAs.

    The names decide where they fit one family alone. Where they fit none or several, the connected model does: by what
    it is recognised as, or by its key map. Raises LoraError, naming two LoRAs, where they can't be for one model.
    """
    found = [architectures_of(lora) for lora in loras]
    pair = clash(found)
    if pair is not None:
        first, second = pair
        raise LoraError(
            f"{loras[first].name} and {loras[second].name} are not for the same model: {loras[first].name} is for "
            f"{found[first][0].name} and {loras[second].name} for {found[second][0].name}."
        )
    names = [name for lora in loras for name in weight_shapes(lora)]
    by_names = shared([candidates(weight_shapes(lora)) for lora in loras], names)
    decided = shared(found, names)
    if model is None or (decided is not None and _fit_one_family(found)):
        alike = decided or _alike(found, names)
        reads_as = alike if decided is not None or _brings_together(alike, names) else None
        return KeyResolver(decided, reads_as, decided is by_names, model, in_doubt=alike is None)
    if model.architecture is not None and all(not one or model.architecture in one for one in found):
        return KeyResolver(model.architecture, model.architecture, model.architecture is by_names, model)
    if decided is not None:
        return KeyResolver(decided, decided, decided is by_names, model)
    return KeyResolver(None, None, True, model, asks_model=True)


def _alike(found: Sequence[Sequence[Architecture]], names: Sequence[str]) -> Architecture | None:
    """The first of those that all LoRAs can be for, if all of these read every name the same."""
    told = [one for one in found if one]
    common = [a for a in ARCHITECTURES if told and all(a in one for one in told)]
    if not common or any(len({target(name, a) for a in common}) > 1 for name in names):
        return None
    return common[0]


def _brings_together(architecture: Architecture | None, names: Sequence[str]) -> bool:
    """Whether more names mean one weight by the architecture than by their spelling.

    Otherwise it isn't used: a canonical name seeds DARE's masks, and that of a module must not depend on what else is
    in its file.
    """
    by_spelling, read = ({target(name, a) for name in names} for a in (None, architecture))
    return len(read) < len(by_spelling)


def names_decide(loras: Sequence[Lora]) -> bool:
    """Whether the names of these LoRAs fit one family alone, so that a connected model has no say."""
    found = [architectures_of(lora) for lora in loras]
    return _fit_one_family(found)


def _fit_one_family(found: Sequence[Sequence[Architecture]]) -> bool:
    """Whether there is one family that all LoRAs together can be for, before any defers to another."""
    told = [{architecture.family for architecture in one} for one in found if one]
    return bool(told) and len(set.intersection(*told)) == 1
