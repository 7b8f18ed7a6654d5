"""How the module names of all LoRAs in a merge are resolved: with the tables of one architecture, or by a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..adapters.architecture import architectures_of, weight_shapes
from ..adapters.base import Lora
from ..errors import LoraError
from ..names import (
    ARCHITECTURES,
    Architecture,
    Target,
    candidates,
    find_clash,
    is_known,
    resolve,
    shared_architecture,
)


@dataclass(frozen=True, eq=False)
class ModelNames:
    """The module names that a connected model and text encoder have.

    ``architecture``: the one that their weights are recognised as. ``resolve``: the target of a name in their key map,
    None if it isn't there.
    """

    architecture: Architecture | None
    resolve: Callable[[str], Target | None]


@dataclass(frozen=True, eq=False)
class KeyResolver:
    """Resolves the module names of all LoRAs in one merge.

    ``architecture`` is the one that the LoRAs are for together, None if it stays open. ``naming`` is the architecture
    whose tables resolve the names: that one, or one of several possible ones that resolve all of these names alike
    (text encoders that many models have).

    ``by_names``: the names alone decided. ``model``: the connected model. ``asks_model``: its key map resolves the
    names, because no architecture does. ``ambiguous``: several architectures are possible, and they resolve some names
    differently.
    """

    architecture: Architecture | None
    naming: Architecture | None
    by_names: bool = True
    model: ModelNames | None = None
    asks_model: bool = False
    ambiguous: bool = False

    def resolve(self, name: str) -> Target:
        """The weight that a module name stands for, and which of its rows."""
        found = self.model.resolve(name) if self.model is not None and self.asks_model else None
        return found or resolve(name, self.naming)

    def knows(self, name: str) -> bool:
        """Whether a name is in the architecture's tables or in the connected model's key map."""
        if self.naming is not None and is_known(name, self.naming):
            return True
        return self.model is not None and self.model.resolve(name) is not None


def resolver_for(loras: Sequence[Lora], model: ModelNames | None = None) -> KeyResolver:
    """The resolver for a merge of these LoRAs.

    If the names fit exactly one family, they decide. Otherwise the connected model does, with the architecture that it
    is recognised as, or with its key map. Raises LoraError, naming two LoRAs, if they can't be for one model.
    """
    found = [architectures_of(lora) for lora in loras]
    _require_no_clash(loras, found)
    names = [name for lora in loras for name in weight_shapes(lora)]
    decided = shared_architecture(found, names)
    by_names = shared_architecture([candidates(weight_shapes(lora)) for lora in loras], names)
    if model is None or (decided is not None and _fit_one_family(found)):
        naming = decided or _any_possible(found, names)
        ambiguous = naming is None
        if decided is None and not _unites_names(naming, names):
            naming = None
        return KeyResolver(decided, naming, decided is by_names, model, ambiguous=ambiguous)
    if model.architecture is not None and all(not one or model.architecture in one for one in found):
        return KeyResolver(model.architecture, model.architecture, model.architecture is by_names, model)
    if decided is not None:
        return KeyResolver(decided, decided, decided is by_names, model)
    return KeyResolver(None, None, True, model, asks_model=True)


def names_decide(loras: Sequence[Lora]) -> bool:
    """Whether the names of these LoRAs fit exactly one family, so that a connected model isn't asked."""
    return _fit_one_family([architectures_of(lora) for lora in loras])


def _require_no_clash(loras: Sequence[Lora], found: Sequence[Sequence[Architecture]]) -> None:
    pair = find_clash(found)
    if pair is not None:
        first, second = pair
        raise LoraError(
            f"{loras[first].name} and {loras[second].name} are not for the same model: {loras[first].name} is for "
            f"{found[first][0].name} and {loras[second].name} for {found[second][0].name}."
        )


def _any_possible(found: Sequence[Sequence[Architecture]], names: Sequence[str]) -> Architecture | None:
    """The first architecture that all LoRAs can be for; None if these architectures resolve a name differently."""
    known = [one for one in found if one]
    common = [a for a in ARCHITECTURES if known and all(a in one for one in known)]
    if not common or any(len({resolve(name, a) for a in common}) > 1 for name in names):
        return None
    return common[0]


def _unites_names(architecture: Architecture | None, names: Sequence[str]) -> bool:
    """Whether the architecture gives two of the names one target that have different canonical names.

    Only then is it used: a canonical name seeds DARE's masks, and the mask of a module must not depend on the other
    modules of the file.
    """
    without, with_tables = ({resolve(name, a) for name in names} for a in (None, architecture))
    return len(with_tables) < len(without)


def _fit_one_family(found: Sequence[Sequence[Architecture]]) -> bool:
    """Whether there is exactly one family that all LoRAs can be for, before any defers to another."""
    families = [{architecture.family for architecture in one} for one in found if one]
    return bool(families) and len(set.intersection(*families)) == 1
