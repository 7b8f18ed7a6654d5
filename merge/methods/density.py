"""What a density must be."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import LoraError
from .registry import Method


def require_density(methods: Sequence[Method], density: float, name: str = "density") -> None:
    """Raise LoraError if the density is 0 and one of the methods uses it: the result would be empty.

    ``name`` is what the user knows it by. For nodes and the command line: the core takes 0, so that recipes replay.
    """
    affected = [method for method in methods if method.uses_density]
    if affected and density == 0:
        raise LoraError(
            f"{name} is 0, at which {affected[0].name} keeps nothing of any LoRA. Choose a value above 0: 0.5 to 0.8 "
            "is a good start, and 1 keeps everything."
        )
