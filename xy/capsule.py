"""XY_Capsule: the form in which Efficiency's KSampler takes the values of an axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .sweep import Sweep

XY = "XY"
CAPSULE_TYPE = "XY_Capsule"

# The value of an XY socket: the axis type and its values.
Axis = tuple[str, list[Any]]


class Capsule:
    """One value of an axis: a label and the settings it changes, whether it is plugged into X or Y.

    KSampler (Efficient) calls these methods. They are a convention between packs; there is no base class. When both
    axes are capsules, it passes the X capsule to the Y capsule with set_x_capsule and then calls only the latter. A
    capsule on the only axis, or next to an axis of another type, gets no partner.
    """

    def __init__(self, sweep: Sweep, settings: Mapping[str, Any], label: str, position: int) -> None:
        self.sweep = sweep
        self.settings = dict(settings)
        self.label = label
        # Unused here, but capsules of other packs read their partner's position on its axis.
        self.x = self.y = position
        self._partner: Any = None

    def __repr__(self) -> str:
        return self.label  # Efficiency prints an axis's values

    def getLabel(self) -> str:
        return self.label

    def set_x_capsule(self, capsule: Any) -> None:
        self._partner = capsule

    def pre_define_model(self, model: Any, clip: Any, vae: Any) -> tuple[Any, Any, Any]:
        """Model and clip of the cell with both axes applied, even if the other axis is from another pack."""
        # reset, because ComfyUI caches capsules across prompts: a partner is valid only for the cell it was set for
        partner, self._partner = self._partner, None
        if partner is not None and not isinstance(partner, Capsule):
            model, clip, vae = partner.pre_define_model(model, clip, vae)
        for sweep, settings in merges_of(partner, self):
            model, clip = sweep.apply(model, clip, settings)
        return model, clip, vae

    def get_result(self, model: Any, clip: Any, vae: Any) -> None:
        """None: the cell has no result yet and must be sampled."""

    def set_result(self, image: Any, latent: Any) -> None:
        """Ignored: finished pictures aren't reused."""


def merges_of(outer: Any, inner: Any) -> list[tuple[Sweep, dict[str, Any]]]:
    """The merges of a cell, each with its settings, in the order in which they are applied.

    One if both capsules are of the same node. Other packs' capsules and None have no part in it.
    """
    ours = [capsule for capsule in (outer, inner) if isinstance(capsule, Capsule)]
    if len(ours) == 2 and ours[0].sweep is ours[1].sweep:
        return [(ours[0].sweep, ours[0].settings | ours[1].settings)]
    return [(capsule.sweep, capsule.settings) for capsule in ours]


def axis(sweep: Sweep, values: Iterable[tuple[Mapping[str, Any], str]]) -> Axis:
    """An axis with one capsule for each (settings, label)."""
    capsules = [Capsule(sweep, settings, label, i) for i, (settings, label) in enumerate(values)]
    return CAPSULE_TYPE, capsules
