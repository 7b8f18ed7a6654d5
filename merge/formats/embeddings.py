"""Embeddings in a LoRA's file (OneTrainer, A1111): `bundle_emb.<name in the prompt>.<part>`.

They are trained words, not changes of a weight. A1111 reads them, ComfyUI ignores them. The pack passes them through
unchanged: a merge keeps the embeddings of all its LoRAs, except those whose name stands for two different ones.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import numpy as np

from ..adapters.base import Lora
from ..errors import for_user
from ..io.safetensors_file import tensor_bytes
from ..lazy import LazyTensor

log = logging.getLogger(__name__)

PREFIX = "bundle_emb."


def together(loras: Iterable[Lora]) -> tuple[dict[str, LazyTensor], list[str]]:
    """The embeddings of several LoRAs, and a note on each name that is left out because its embeddings differ."""
    kept: dict[str, dict[str, LazyTensor]] = {}
    owner: dict[str, str] = {}
    clashing: dict[str, list[str]] = {}
    for lora in loras:
        for word, tensors in _by_word(lora.extras).items():
            if word not in kept:
                kept[word], owner[word] = tensors, lora.name
            elif not _equal(kept[word], tensors):
                clashing.setdefault(word, [owner[word]]).append(lora.name)
    notes = [
        for_user(f"The embedding {word} is left out: those of {', '.join(dict.fromkeys(names))} differ.")
        for word, names in clashing.items()
    ]
    left = {key: value for word, tensors in kept.items() if word not in clashing for key, value in tensors.items()}
    return left, notes


def in_file(lora: Lora, style: str | None) -> dict[str, LazyTensor]:
    """The embeddings for a file. None in PEFT's style: diffusers refuses files that contain any."""
    if unwritten(lora, style):
        log.warning("%s", unwritten(lora, style))
        return {}
    return {key: _on_cpu(value) for key, value in lora.extras.items()}


def unwritten(lora: Lora, style: str | None) -> str | None:
    """The note on embeddings that files of a style can't contain."""
    if style != "peft" or not lora.extras:
        return None
    words = ", ".join(_by_word(lora.extras))
    return for_user(f"{lora.name}: its embeddings ({words}) are left out: files for diffusers can't contain any.")


def _on_cpu(value: LazyTensor) -> LazyTensor:
    return LazyTensor(value.dtype, value.shape, lambda: value.materialize().cpu().contiguous())


def _by_word(extras: Mapping[str, LazyTensor]) -> dict[str, dict[str, LazyTensor]]:
    words: dict[str, dict[str, LazyTensor]] = {}
    for key, value in extras.items():
        words.setdefault(key.removeprefix(PREFIX).split(".", 1)[0], {})[key] = value
    return words


def _equal(first: Mapping[str, LazyTensor], second: Mapping[str, LazyTensor]) -> bool:
    if first.keys() != second.keys():
        return False
    alike = all(a.dtype == second[key].dtype and a.shape == second[key].shape for key, a in first.items())
    return alike and all(np.array_equal(_bytes(a), _bytes(second[key])) for key, a in first.items())


def _bytes(value: LazyTensor) -> np.ndarray:
    return tensor_bytes(value.materialize().contiguous())
