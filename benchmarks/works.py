"""The works to measure, and the settings that all tools share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

# deltas: the mode acts on the deltas, and the result is truncated. factors: it acts on the factors. concat: the exact
# sum, whose rank is the sum of the ranks. resize: only the first LoRA, truncated.
Kind = Literal["deltas", "factors", "concat", "resize"]


@dataclass(frozen=True)
class Work:
    name: str
    kind: Kind
    mode: str = "add"

    @property
    def truncates(self) -> bool:
        """Whether the result is truncated to a rank."""
        return self.kind in ("deltas", "resize")

    @property
    def forms_delta(self) -> bool:
        """Whether the mode needs the dense delta."""
        return self.kind == "deltas" and self.mode != "add"


WORKS: dict[str, Work] = {
    work.name: work
    for work in (
        Work("add_svd", "deltas"),
        Work("concat", "concat"),
        Work("resize", "resize"),
        Work("ties_svd", "deltas", "ties"),
        Work("magnitude_prune_svd", "deltas", "magnitude_prune"),
        Work("dare_linear_svd", "deltas", "dare_linear"),
        Work("ties", "factors", "ties"),
        Work("magnitude_prune", "factors", "magnitude_prune"),
        Work("dare_linear", "factors", "dare_linear"),
    )
}


@dataclass(frozen=True)
class Setting:
    """``rank``: of truncated results. ``dtype``: of the results."""

    rank: int
    density: float = 0.5
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)
