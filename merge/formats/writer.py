"""Lora -> state dict or the tensors of a file."""

from __future__ import annotations

import torch
from torch import Tensor

from ..adapters.base import Lora
from ..compute.context import CancelCheck, Progress, no_cancel, no_progress
from ..compute.precision import full_precision
from ..lazy import LazyTensor
from ..numerics.finite import is_finite, require_fits
from . import layouts, peft_dora
from .checks import ALPHA
from .key_styles import loadable_form

# kohya's endings and PEFT's, which has no alpha: it must equal the rank.
PEFT_ENDINGS = {
    **{".lora_up.weight": peft_dora.UP, ".lora_down.weight": peft_dora.DOWN, ALPHA: None},
    **{ending: ending for ending in (peft_dora.UP, peft_dora.DOWN, peft_dora.MAGNITUDE)},
}


def to_peft_file(lora: Lora, dtype: torch.dtype | None = None, check: CancelCheck = no_cancel) -> dict[str, LazyTensor]:
    """As to_file, for a LoRA with PEFT's names (see key_styles.convert_keys): lora_A and lora_B, no alpha."""
    contents: dict[str, LazyTensor] = {}
    for module in lora.modules.values():
        check()
        for suffix, value in module.tensors():
            ending = PEFT_ENDINGS[suffix]
            if ending is not None:
                contents[module.name + ending] = _as_written(value, dtype, f"{lora.name}: module {module.name}")
    return contents


def to_file(lora: Lora, dtype: torch.dtype | None = None, check: CancelCheck = no_cancel) -> dict[str, LazyTensor]:
    """The tensors of a LoRA's file, on the CPU and contiguous, under endings that every ComfyUI loads after any prefix.

    Block weights are multiplied in, the LoRA's strengths are not (see ``Lora.baked``). ``dtype`` None keeps each
    tensor's own. Materializing a tensor raises LoraError, naming the module, if a value is too large for its dtype.
    """
    contents: dict[str, LazyTensor] = {}
    for module in loadable_form(lora).modules.values():
        check()
        for suffix, value in module.tensors():
            keep = suffix == ALPHA or not value.dtype.is_floating_point
            what = f"{lora.name}: module {module.name}"
            contents[module.name + suffix] = _as_written(value, None if keep else dtype, what, suffix == ALPHA)
    return layouts.for_file(contents)


def to_state_dict(
    lora: Lora, dtype: torch.dtype | None = None, check: CancelCheck = no_cancel, progress: Progress = no_progress
) -> dict[str, Tensor]:
    """The tensors of to_file, all in memory; ``progress`` is called after each."""
    contents = to_file(lora, dtype, check)
    tensors = {}
    for key, value in contents.items():
        check()
        tensors[key] = value.materialize()
        progress(len(tensors), len(contents))
    return tensors


def _as_written(value: LazyTensor, dtype: torch.dtype | None, what: str, is_computed: bool = False) -> LazyTensor:
    """A tensor in the dtype that it is written in; new values are checked to be finite."""
    target = value.dtype if dtype is None else dtype

    def materialize() -> Tensor:
        with full_precision():
            tensor = value.materialize()
            if is_computed or tensor.dtype != target or not value.is_finite:
                tensor = tensor.to(target)
                if value.wide is not None and target != value.dtype and not is_finite(tensor):
                    tensor = value.wide().to(target)
                require_fits(tensor, what)
        return tensor.cpu().contiguous()

    return LazyTensor(target, value.shape, materialize)
