"""Tensors of unsupported families: which can be left out, and which make a file unusable.

Parts of an adapter are never left out, because the rest would be a different LoRA. Other tensors, which ComfyUI's own
loader ignores too, are left out and named.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

from ..errors import LoraError, for_user

_NOT_LOADED = "ComfyUI's own loader doesn't load it either. Leave this file out of the merge."


def _dropped(part: str) -> str:
    return (
        f"ComfyUI's own loader would drop its {part}, which makes it a different LoRA. Merge it into its base model "
        "with the program that trained it (PEFT: merge_and_unload), or leave it out."
    )


@dataclass(frozen=True)
class Kind:
    """A kind of adapter that can't be merged: its key endings, and what ComfyUI's own loader does with it."""

    name: str
    endings: tuple[str, ...]
    advice: str = _NOT_LOADED


KINDS = (
    Kind("IA3", (".on_input", ".ia3_l")),
    Kind("OFT with a diagonal", (".oft_diag",)),
    Kind("PEFT's OFT or BOFT", (".oft_R", ".oft_R.weight", ".boft_R", ".boft_s")),
    Kind("VeRA", (".vera_lambda_b", ".vera_lambda_d")),
    Kind("LoRA of an embedding", (".lora_embedding_A", ".lora_embedding_B")),
    Kind("LoRA with a bias", (".lora_B.bias", ".lora_up.bias", ".lora_B.default.bias"), _dropped("bias")),
    Kind("AdaLoRA", (".lora_E", ".lora_E.default"), _dropped("singular values")),
    Kind("KaSA", (".lora_diag", ".lora_diag.default"), _dropped("singular values")),
)
OF_ENDING = {ending: kind for kind in KINDS for ending in kind.endings}

# Keys of unknown adapter families, recognised by what follows the module's name.
_ADAPTER = re.compile(
    r"\.(?:lora|hada|lokr|loha|oft|boft|ia3|vera|dora|glora|delora|miss|hra|road|bone|c3a)_\w+(?:\.|$)"
)
# Never part of the adapter with the same prefix: lightx2v's change of a block's modulation.
_APART = (".diff_m",)
# How many dotted parts may follow a module's name in a key.
_MAX_PARTS = 4


def refusal(kind: Kind, prefix: str, name: str) -> LoraError:
    return LoraError(f"{name}: {kind.name} module {prefix} is not supported, and {kind.advice}")


def left_out(keys: Sequence[str], modules: Container[str], name: str) -> str:
    """The note on tensors that are left out. ``modules`` are the modules that have an adapter.

    Raises LoraError if one of the tensors is part of an adapter.
    """
    of_adapter = next((key for key in keys if _is_of_adapter(key, modules)), None)
    if of_adapter is not None:
        raise LoraError(
            f"{name}: tensor {of_adapter} is part of an adapter, but neither this pack nor ComfyUI's own loader knows "
            "what it does; ComfyUI loads the rest without it. Leave this file out of the merge."
        )
    some = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
    count = "1 tensor is" if len(keys) == 1 else f"{len(keys)} tensors are"
    return for_user(
        f"{name}: {count} left out ({some}): neither this pack nor ComfyUI's own loader knows what they are."
    )


def _is_of_adapter(key: str, modules: Container[str]) -> bool:
    if key.endswith(_APART):
        return False
    prefix = key
    for _ in range(_MAX_PARTS):
        prefix, dot, _ = prefix.rpartition(".")
        if dot and prefix in modules:
            return True
    return _ADAPTER.search(key) is not None
