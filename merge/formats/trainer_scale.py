"""The scale that a file's trainer meant, where the tensors alone don't say it.

Files of PEFT and diffusers have no alphas among their tensors: they stand in a configuration (peft_config.py), which
ComfyUI's own loader doesn't read. Here each module without an alpha gets the one that gives the configured scale, so
that all that follows counts it and what is written holds it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from ..lora import LoraError, for_user
from ..recipe import KEY
from ..tensorfile import Stored
from . import based, loha, lokr, lora
from .checks import ALPHA, read_alpha
from .peft_config import FILE, HEADER, NO_PATTERN, Pattern, PeftConfig, from_header

AlphaFrom = Literal["trainer", "tensors"]
# What the first files of this version were merged with: rsLoRA's of the header alone. For recipes that don't say.
AS_BEFORE = "rslora"
# In the recipe of an input: the SHA-256 of the adapter_config.json that counted.
CONFIG_HASH = "adapter_config"

# Whose first size is the rank of its module, in the order in which they decide.
_RANKED = (*(down for _, down in lora.SPELLINGS), loha.MATRICES[1], lokr.W2_B, lokr.W1_B)

Group = Mapping[str, Tensor | Stored]


@dataclass(frozen=True)
class TrainerScale:
    """What a file says of its scale beyond its tensors, and which of the two counts."""

    name: str
    configs: Sequence[PeftConfig] = ()
    alpha_from: AlphaFrom | Literal["rslora"] = "trainer"
    has_rslora: bool = False  # in its header: what AS_BEFORE looks at
    misfits: list[str] = field(default_factory=list)  # modules that the header can't be of, as they are met

    def factor(self, prefix: str, tensors: Mapping[str, Tensor]) -> float:
        """How many times the scale of its tensors a module's scale is by its configuration; 1 without one.

        Raises LoraError where a configuration in a file of its own can't be that of this module.
        """
        rank = _rank(tensors)
        if lokr.W2 in tensors and tensors[lokr.W2].ndim == 3 and any(config.sha256 for config in self.configs):
            raise LoraError(
                f"{self.name}: module {prefix} is a LoKr of a one-dimensional convolution, which PEFT lays out as no "
                "other program does. Merge it into its base model with PEFT (merge_and_unload), or leave it out."
            )
        if rank is None and not _is_whole_lokr(tensors):
            return 1.0
        if self.alpha_from == AS_BEFORE and not _is_as_before(tensors, rank, f"{self.name}: module {prefix}"):
            return 1.0
        for config in self.configs:
            path = config.path(prefix)
            if path is not None:
                return self._factor(config, prefix, path, rank)
        return 1.0

    def _factor(self, config: PeftConfig, prefix: str, path: str, rank: int | None) -> float:
        told = config.rank_of(path, rank)
        if told is None:
            return 1.0
        if rank is not None and told != rank:
            problem = f"gives module {prefix} the rank {told:g}, and its tensors have the rank {rank}"
            if config.origin != HEADER:
                raise LoraError(
                    f"{config.origin} {problem}: the two are not of one training. Put the right one beside it, or set "
                    "alpha_from to tensors."
                )
            self.misfits.append(problem)
            return 1.0
        factor = config.scale(path, told)
        return factor if math.isfinite(factor * (rank or 1)) else 1.0

    def notes(self, factors: Sequence[float]) -> list[str]:
        """What to tell the user where the two scales differ, with both numbers, and where the header is another's."""
        notes = []
        if self.misfits:
            more = f" ({len(self.misfits)} modules)" if len(self.misfits) > 1 else ""
            notes.append(
                for_user(f"{self.name}: its header ({HEADER}) {self.misfits[0]}{more}: it doesn't count there.")
            )
        other = [factor for factor in factors if factor != 1]
        if other:
            notes.append(self._difference(min(other), max(other)))
        return notes

    def _difference(self, low: float, high: float) -> str:
        texts = dict.fromkeys((f"{low:.4g}", f"{high:.4g}"))
        scale = " to ".join(texts)
        place = FILE if self.configs[0].origin != HEADER else f"its header, {HEADER}"
        rule = ", as an rsLoRA" if any(config.use_rslora for config in self.configs) else ""
        if self.alpha_from == "tensors":
            return (
                f"{self.name}: the scale is 1, as in ComfyUI's own loader; by the trainer's alpha ({place}) it would "
                f"be {scale}{rule}. Set alpha_from to trainer for that."
            )
        return (
            f"{self.name}: the scale is {scale} by the trainer's alpha ({place}){rule}; ComfyUI's own loader doesn't "
            "look there and uses 1."
        )

    def source(self, factors: Sequence[float]) -> dict[str, object]:
        """What a recipe has to say for the file to be read this way again, and not AS_BEFORE."""
        differs = any(factor != 1 for factor in factors)
        if self.alpha_from == AS_BEFORE or not (differs or self.has_rslora):
            return {}
        config = self.configs[0].sha256 if differs else None
        return {"alpha_from": self.alpha_from, **({CONFIG_HASH: config} if config is not None else {})}


def read(
    groups: Mapping[str, Group],
    name: str,
    metadata: Mapping[str, str],
    alpha_from: AlphaFrom | Literal["rslora"],
    config: PeftConfig | None,
) -> TrainerScale:
    """What a file with these modules says. ``config`` is the one beside it; it comes before that in the header."""
    in_header = from_header(metadata)
    if alpha_from == AS_BEFORE:
        old = (replace(c, rank=None, rank_pattern=NO_PATTERN) for c in in_header if c.use_rslora)
        return TrainerScale(name, [replace(c, alpha_pattern=_without_anchors(c)) for c in old], alpha_from)
    configs = [config] if config is not None else in_header
    if KEY in metadata or any(ALPHA in group for group in groups.values()):
        configs = []  # of our making, with all scales in its tensors; or its alphas are among them
    return TrainerScale(name, configs, alpha_from, any(c.use_rslora for c in in_header))


def _without_anchors(config: PeftConfig) -> Pattern:
    return Pattern({key: alpha for key, alpha in config.alpha_pattern.numbers.items() if "^" not in key})


def scaled(tensors: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """The tensors of a module that are others, or new, for its scale to be ``factor`` times what it is."""
    rank = _rank(tensors)
    if rank is not None:
        return {ALPHA: torch.tensor(factor * rank, dtype=torch.float64)}
    return {lokr.W1: tensors[lokr.W1].float() * factor}  # nobody reads an alpha of two whole matrices


def _rank(group: Group) -> int | None:
    """What alpha is divided by; None for kinds of modules that have no such scale."""
    if any(suffix in group for suffix in (*based.GLORA, *based.OFT)):
        return None
    ranked = next((group[suffix] for suffix in _RANKED if suffix in group), None)
    return ranked.shape[0] if ranked is not None and len(ranked.shape) > 1 and ranked.shape[0] else None


def _is_whole_lokr(group: Group) -> bool:
    return lokr.W1 in group and lokr.W2 in group


def _is_as_before(tensors: Mapping[str, Tensor], rank: int | None, source: str) -> bool:
    """Whether it is a LoRA without an alpha of its own, where an alpha of the rank counted as none."""
    is_lora = any(down in tensors for _, down in lora.SPELLINGS) and based.DORA not in tensors
    return is_lora and (ALPHA not in tensors or read_alpha(tensors, 0, source) == rank)
