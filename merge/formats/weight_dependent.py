"""Families whose change depends on the model's own weight: DoRA, GLoRA, OFT and BOFT.

Without the model they can only be loaded, applied and saved unchanged. With a model connected, nodes/base_weights.py
computes their deltas with ComfyUI's own code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..adapters.base import WeightDependentAdapter
from ..errors import INCOMPLETE, LoraError
from ..lazy import LazyTensor
from . import loha, lokr, lora
from .checks import ALPHA, read_alpha, require_float
from .module_tensors import ModuleTensors

NAME = "weight-dependent"
DORA = ".dora_scale"
GLORA = (".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight")
OFT = (".oft_blocks", ".rescale")
SUFFIXES = (DORA, *GLORA, *OFT)


@dataclass(frozen=True, eq=False)
class WeightDependentModule(WeightDependentAdapter):
    """The tensors of one module as in the file, by suffix; ``family`` is DoRA, GLoRA, OFT or BOFT."""

    family: str
    name: str
    stored: Mapping[str, Tensor]
    block_weight: float = 1.0

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return ()

    def tensors(self) -> Iterator[tuple[str, LazyTensor]]:
        self.require_full_strength()
        for suffix, tensor in self.stored.items():
            yield suffix, LazyTensor.of(tensor)


def read(module: ModuleTensors) -> list[WeightDependentModule]:
    """The adapter of a module, with the tensors that it decomposes (DoRA's). All of them are kept in memory."""
    tensors, source = module.values, module.source
    for suffix, tensor in tensors.items():
        if suffix not in (ALPHA, lora.RESHAPE):
            require_float(tensor, f"{source}: its {suffix[1:]}")
    read_alpha(tensors, 1, source)
    if DORA in tensors:
        family = "DoRA"
        for decomposed in (lora, loha, lokr):
            own = module.only(decomposed.SUFFIXES)
            if own.values:
                decomposed.read(own)  # for its errors
        if all(suffix in (DORA, ALPHA) for suffix in tensors):
            raise LoraError(f"{source} has dora_scale without the LoRA it belongs to. {INCOMPLETE}")
    elif any(suffix in tensors for suffix in GLORA):
        family = "GLoRA"
        missing = [suffix[1:] for suffix in GLORA if suffix not in tensors]
        if missing:
            raise LoraError(f"{source} lacks {missing[0]}. {INCOMPLETE}")
    else:
        family = "OFT" if tensors.get(".oft_blocks") is None or tensors[".oft_blocks"].ndim == 3 else "BOFT"
        if ".oft_blocks" not in tensors:
            raise LoraError(f"{source} has rescale without oft_blocks. {INCOMPLETE}")
    return [WeightDependentModule(family, module.name, dict(tensors))]
