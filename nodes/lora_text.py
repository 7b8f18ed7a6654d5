"""How the results of nodes describe LoRAs in a line."""

from __future__ import annotations

from collections.abc import Sequence

from ..merge.adapters.base import Adapter, Lora
from ..merge.names.prefixes import is_text_encoder


def with_strengths(loras: Sequence[Lora]) -> str:
    """What went into a merge: ``2 LoRAs: a x 1.0, b x 0.8 (text encoder 0.5)``."""
    return f"{len(loras)} LoRA{'s' * (len(loras) != 1)}: {', '.join(map(_with_strength, loras))}"


def _with_strength(lora: Lora) -> str:
    details = []
    in_encoder = any(is_text_encoder(module.name) for module in lora.modules.values())
    if in_encoder and lora.strength_clip != lora.strength_model:
        details.append(f"text encoder {number(lora.strength_clip)}")
    if any(module.block_weight != 1 for module in lora.modules.values()):
        details.append("block weights")
    return f"{lora.name} x {number(lora.strength_model)}" + (f" ({', '.join(details)})" if details else "")


def ranks(modules: Sequence[Adapter]) -> str:
    """``16``, or ``3 to 16`` if the modules' ranks differ."""
    low, high = min(module.rank for module in modules), max(module.rank for module in modules)
    return str(high) if low == high else f"{low} to {high}"


def count(modules: Sequence[Adapter]) -> str:
    return f"{len(modules)} module{'s' * (len(modules) != 1)}"


def number(value: float) -> str:
    """Up to four decimals and at least one: 1.0, 0.75."""
    return str(round(float(value), 4))


def megabytes(size: int) -> str:
    """The number alone: ``19``, with two digits below ten: ``2.4``, ``0.31``."""
    value = size / 1e6
    decimals = 0 if value >= 9.95 else 1 if value >= 0.995 else 2
    return f"{value:.{decimals}f}"
