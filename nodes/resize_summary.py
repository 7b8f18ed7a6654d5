"""The text that PM Resize LoRA shows: modules, ranks, sizes, and how much of the LoRA was lost."""

from __future__ import annotations

from ..merge.adapters.base import Adapter, Lora, Replacement
from ..merge.compute.truncation_loss import TruncationLoss
from ..merge.merging.resize import stored_bytes
from .lora_text import count, megabytes, ranks


def resize_summary(before: Lora, after: Lora, loss: TruncationLoss) -> str:
    """``264 modules, rank 16 -> 3 to 16 (mean 9), 19 -> 11 MB, 4.1 % of the norm lost``, then the LoRA's notes."""
    parts = [count(list(after.modules.values()))]
    old, new = _with_rank(before), _with_rank(after)
    if new:
        mean = f"{sum(module.rank for module in new) / len(new):.1f}".removesuffix(".0")
        spread = "" if ranks(new).isdigit() else f" (mean {mean})"
        parts.append(f"rank {ranks(old)} -> {ranks(new)}{spread}")
    parts.append(f"{megabytes(stored_bytes(before))} -> {megabytes(stored_bytes(after))} MB")
    parts.append(f"{loss} of the norm lost")
    return "\n".join([", ".join(parts), *after.notes])


def _with_rank(lora: Lora) -> list[Adapter]:
    """Biases, norms and replaced parameters have no rank."""
    return [m for m in lora.modules.values() if len(m.weight_shape) > 1 and not isinstance(m, Replacement)]
