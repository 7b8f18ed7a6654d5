"""The scale that a file's trainer meant, if its tensors alone don't give it.

Files of PEFT and diffusers have no alpha tensors: their alphas are in a configuration (peft_config.py), which ComfyUI's
own loader doesn't read. Each module without an alpha gets one here that makes up the configured scale, so that every
operation counts it and every file that we write contains it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from ..errors import LoraError, for_user
from ..lazy import LazyTensor
from ..provenance.metadata import ADAPTER_METADATA
from ..provenance.recipe import KEY
from . import loha, lokr, lora, weight_dependent
from .checks import ALPHA, read_alpha
from .peft_config import FILE, NO_PATTERN, Pattern, PeftConfig, from_header

AlphaFrom = Literal["trainer", "tensors"]
# How files were read before there was a choice: of headers, only those of rsLoRAs counted. For recipes without one.
AS_BEFORE = "rslora"
# In a recipe's input: the SHA-256 of the adapter_config.json that counted.
CONFIG_HASH = "adapter_config"

# Tensors whose first dimension is the rank of their module, in order of precedence.
_RANKED = (*(down for _, down in lora.PAIRS), loha.MATRICES[1], lokr.W2_B, lokr.W1_B)

Group = Mapping[str, Tensor] | Mapping[str, LazyTensor]


@dataclass(frozen=True)
class TrainerScale:
    """The configurations of a file, and whether they count (``alpha_from``).

    ``has_rslora``: the header configures an rsLoRA, which AS_BEFORE would count. ``misfits`` collects what is wrong
    with the header while modules are read, ``used`` the components that have modules.
    """

    name: str
    configs: Sequence[PeftConfig] = ()
    alpha_from: AlphaFrom | Literal["rslora"] = "trainer"
    has_rslora: bool = False
    misfits: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def factor(self, prefix: str, tensors: Mapping[str, Tensor]) -> float:
        """The configured scale of a module, relative to the scale of its tensors; 1 without a configuration.

        Raises LoraError if an adapter_config.json doesn't fit the module.
        """
        rank = _rank(tensors)
        if lokr.W2 in tensors and tensors[lokr.W2].ndim == 3 and any(config.sha256 for config in self.configs):
            raise LoraError(
                f"{self.name}: module {prefix} is a LoKr of a 1-D convolution, which PEFT lays out like no other "
                "program. Merge it into its base model with PEFT (merge_and_unload), or leave it out."
            )
        if rank is None and not _is_whole_lokr(tensors):
            return 1.0
        if self.alpha_from == AS_BEFORE and not _is_as_before(tensors, rank, f"{self.name}: module {prefix}"):
            return 1.0
        for config in self.configs:
            path = config.path(prefix)
            if path is not None:
                self.used.add(config.component)
                return self._factor(config, prefix, path, rank)
        return 1.0

    def _factor(self, config: PeftConfig, prefix: str, path: str, rank: int | None) -> float:
        configured = config.rank_of(path, rank)
        if configured is None:
            return 1.0
        if rank is not None and configured != rank:
            problem = f"gives module {prefix} the rank {configured:g}, but its tensors have the rank {rank}"
            if config.origin != ADAPTER_METADATA:
                raise LoraError(
                    f"{config.origin} {problem}: it belongs to another training. Replace it, or set alpha_from to "
                    "tensors."
                )
            self.misfits.append(problem)
            return 1.0
        factor = config.scale(path, configured)
        return factor if math.isfinite(factor * (rank or 1)) else 1.0

    def doubts(self) -> list[str]:
        """Notes for the user on a header that doesn't fit the tensors."""
        notes = []
        if self.misfits:
            more = f" ({len(self.misfits)} modules)" if len(self.misfits) > 1 else ""
            notes.append(f"{self.name}: its header ({ADAPTER_METADATA}) {self.misfits[0]}{more}. It is ignored there.")
        unused = [c.component for c in self.configs if c.rank is not None and c.scale("", c.rank) != 1]
        if unused and not self.used:
            notes.append(
                f"{self.name}: its header ({ADAPTER_METADATA}) has an alpha for modules whose names begin with "
                f"{unused[0]}, but there are none: it is ignored."
            )
        return [for_user(note) for note in notes]

    def difference(self, factors: Sequence[float]) -> list[str]:
        """The note for the user on scales that differ from those of ComfyUI's own loader, with both numbers."""
        other = [factor for factor in factors if factor != 1]
        if not other:
            return []
        scale = " to ".join(dict.fromkeys((f"{min(other):.4g}", f"{max(other):.4g}")))
        place = FILE if self.configs[0].origin != ADAPTER_METADATA else f"its header, {ADAPTER_METADATA}"
        rule = ", as an rsLoRA" if any(config.use_rslora for config in self.configs) else ""
        if self.alpha_from == "tensors":
            return [
                f"{self.name}: the scale is 1, as in ComfyUI's own loader; by the trainer's alpha ({place}) it would "
                f"be {scale}{rule}. Set alpha_from to trainer for that."
            ]
        return [
            f"{self.name}: the scale is {scale} by the trainer's alpha ({place}){rule}; ComfyUI's own loader doesn't "
            "look there and uses 1."
        ]

    def source(self, factors: Sequence[float]) -> dict[str, object]:
        """What a recipe needs for the file to be read this way again, and not AS_BEFORE."""
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
    """The configurations that apply to a file. ``config``, from an adapter_config.json, overrides the header."""
    in_header = from_header(metadata)
    if alpha_from == AS_BEFORE:
        old = (replace(c, rank=None, rank_pattern=NO_PATTERN) for c in in_header if c.use_rslora)
        return TrainerScale(name, [replace(c, alpha_pattern=_without_anchors(c)) for c in old], alpha_from)
    configs = [config] if config is not None else in_header
    if KEY in metadata or any(ALPHA in group for group in groups.values()):
        configs = []  # a file that we wrote has its scales in its tensors, and so has a file with alphas
    return TrainerScale(name, configs, alpha_from, any(c.use_rslora for c in in_header))


def _without_anchors(config: PeftConfig) -> Pattern:
    return Pattern({key: alpha for key, alpha in config.alpha_pattern.numbers.items() if "^" not in key})


def scaled(tensors: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """The tensors to replace or add in a module to multiply its scale by ``factor``."""
    rank = _rank(tensors)
    if rank is not None:
        return {ALPHA: torch.tensor(factor * rank, dtype=torch.float64)}
    return {lokr.W1: tensors[lokr.W1].float() * factor}  # no program reads an alpha for two full matrices


def _rank(group: Group) -> int | None:
    """What alpha is divided by; None for modules without such a scale."""
    if any(suffix in group for suffix in (*weight_dependent.GLORA, *weight_dependent.OFT)):
        return None
    ranked = next((group[suffix] for suffix in _RANKED if suffix in group), None)
    return ranked.shape[0] if ranked is not None and len(ranked.shape) > 1 and ranked.shape[0] else None


def _is_whole_lokr(group: Group) -> bool:
    return lokr.W1 in group and lokr.W2 in group


def _is_as_before(tensors: Mapping[str, Tensor], rank: int | None, source: str) -> bool:
    """Whether AS_BEFORE counts a header here: for LoRAs whose alpha is missing or equals the rank."""
    is_lora = any(down in tensors for _, down in lora.PAIRS) and weight_dependent.DORA not in tensors
    return is_lora and (ALPHA not in tensors or read_alpha(tensors, 0, source) == rank)
