"""What is in a LoRA, as a hash: LoRAs with the same one do the same to a model at the same strengths."""

from __future__ import annotations

import hashlib
import json
import weakref

from ..merge.adapters.base import Lora, with_block_weight
from ..merge.compute.context import CancelCheck, no_cancel
from ..merge.io.safetensors_file import tensor_bytes

# Names don't change a picture; the other entries are the file's hash and how it was read.
NOT_CONTENTS = ("file", "name", "size")

_known: weakref.WeakKeyDictionary[Lora, str] = weakref.WeakKeyDictionary()


def contents(lora: Lora, check: CancelCheck = no_cancel) -> str:
    """A SHA-256 of the LoRA's weights and block weights, without its strengths. Computed once for each ``Lora``.

    A LoRA from a file has its hash already; the tensors of others are read.
    """
    if lora not in _known:
        _known[lora] = _hash(lora, check)
    return _known[lora]


def _hash(lora: Lora, check: CancelCheck) -> str:
    digest = hashlib.sha256()

    def add(*values: object) -> None:
        digest.update((json.dumps(values, sort_keys=True, default=str) + "\n").encode())

    add(None if lora.architecture is None else lora.architecture.name)
    add([(key, module.block_weight) for key, module in lora.modules.items()])
    if "sha256" in lora.source:
        add({key: value for key, value in lora.source.items() if key not in NOT_CONTENTS})
        return digest.hexdigest()
    for key, module in lora.modules.items():
        check()
        add(key, module.family)
        # some families refuse to be written with another block weight than 1
        for suffix, tensor in with_block_weight(module, 1.0).tensors():
            value = tensor.materialize()
            add(suffix, str(value.dtype), list(value.shape))
            digest.update(tensor_bytes(value.cpu().contiguous()).data)
    return digest.hexdigest()
