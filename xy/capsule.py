"""The values of an axis in the form that Efficiency's KSampler asks for: XY_Capsule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .sweep import Sweep

XY = "XY"
CAPSULE_TYPE = "XY_Capsule"

# What an XY socket carries: the type of the axis and its values.
Axis = tuple[str, list[Any]]


class Capsule:
    """One value of an axis: its label, and the settings that it stands for by name, wherever it is plugged in.

    KSampler (Efficient) calls the methods; they are an agreement between packs, not a class of Efficiency's. Of two
    capsules that meet in a cell it calls only the inner one (Y), after set_x_capsule. Alone, or beside an axis of
    another type, a capsule gets no partner.
    """

    def __init__(self, sweep: Sweep, settings: Mapping[str, Any], label: str, position: int) -> None:
        self.sweep = sweep
        self.settings = dict(settings)
        self.label = label
        # Other packs' capsules read their partner's place on its axis here; ours do without.
        self.x = self.y = position
        self._partner: Any = None

    def __repr__(self) -> str:
        return self.label  # Efficiency prints the values of an axis

    def getLabel(self) -> str:
        return self.label

    def set_x_capsule(self, capsule: Any) -> None:
        self._partner = capsule

    def pre_define_model(self, model: Any, clip: Any, vae: Any) -> tuple[Any, Any, Any]:
        """Model and clip of the cell: both axes applied, of whichever pack the other one is."""
        # ComfyUI's cache keeps capsules from prompt to prompt: a partner counts for the one cell that it was set for.
        partner, self._partner = self._partner, None
        settings = self.settings
        if isinstance(partner, Capsule):
            if partner.sweep is self.sweep:
                settings = partner.settings | settings
            else:
                model, clip = partner.sweep.apply(model, clip, partner.settings)
        elif partner is not None:
            model, clip, vae = partner.pre_define_model(model, clip, vae)
        return (*self.sweep.apply(model, clip, settings), vae)

    def get_result(self, model: Any, clip: Any, vae: Any) -> None:
        """None: the cell is to be sampled."""

    def set_result(self, image: Any, latent: Any) -> None:
        """The picture is of no use here."""


def axis(sweep: Sweep, values: Iterable[tuple[Mapping[str, Any], str]]) -> Axis:
    """An axis of the cells' settings and labels."""
    capsules = [Capsule(sweep, settings, label, i) for i, (settings, label) in enumerate(values)]
    return CAPSULE_TYPE, capsules
