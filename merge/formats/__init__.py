"""State dict <-> Lora. One file per adapter family, and the registry of them.

A family is a module here with ``NAME``, ``SUFFIXES`` (how the keys of its tensors end) and
``read(tensors, source) -> LoraModule``, where ``tensors`` holds the tensors of one module by suffix.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .. import keys
from ..lora import Lora, LoraError, LoraModule, modules_by_name, require_finite
from . import lora as lora_family

log = logging.getLogger(__name__)

FAMILIES = (lora_family,)

# Families known by their tensors' endings and not merged yet: refused by name, never dropped.
UNSUPPORTED: dict[str, tuple[str, ...]] = {
    "LoHa": (".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2"),
    "LoKr": (
        *(".lokr_w1", ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b"),
        *(".lokr_t1", ".lokr_t2"),
    ),
    "GLoRA": (".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight"),
    "OFT": (".oft_blocks", ".oft_diag", ".rescale"),
    "DoRA": (".dora_scale", ".lora_magnitude_vector", ".lora_magnitude_vector.weight"),
    "full difference": (".diff", ".diff_b"),
    "norm difference": (".w_norm", ".b_norm"),
    "replaced weight": (".set_weight", ".reshape_weight"),
    "IA3": (".on_input",),
    "LoRA with a bias": (".lora_B.bias", ".lora_up.bias"),
    "LoRA of an embedding": (".lora_embedding_A", ".lora_embedding_B"),
}

_FAMILY_OF = {suffix: family for family in FAMILIES for suffix in family.SUFFIXES}
_UNSUPPORTED_OF = {suffix: name for name, suffixes in UNSUPPORTED.items() for suffix in suffixes}
ALPHA = ".alpha"
_ENDINGS = re.compile(
    "(?:%s)$" % "|".join(map(re.escape, sorted({*_FAMILY_OF, *_UNSUPPORTED_OF, ALPHA}, key=len, reverse=True)))
)


def _go_on() -> None:
    """Nobody stops it."""


def from_state_dict(
    tensors: Mapping[str, Tensor],
    name: str,
    metadata: Mapping[str, str] | None = None,
    check: Callable[[], None] = _go_on,
) -> Lora:
    """The LoRA that a file's tensors spell. ``name`` is what messages call it.

    Raises LoraError, naming the module, for tensors of no known family, missing halves, shapes that disagree, alphas
    that are no single finite number, and NaN or infinite values.
    """
    groups = _group(tensors, name)
    modules: dict[str, LoraModule] = {}
    for (prefix, family), group in groups.items():
        check()
        source = f"{name}: module {prefix}"
        for suffix, tensor in group.items():
            require_finite(tensor, f"{source} ({suffix.lstrip('._')})")
        module = family.read(prefix, group, source)
        weight = keys.canonical(prefix)
        if weight in modules:
            log.warning(
                "%s names one weight twice, as %s and as %s: both are counted. ComfyUI's own loader keeps only one.",
                *(name, modules[weight].name, prefix),
            )
            module = lora_family.join(modules[weight], module, source)
        modules[weight] = module
    return Lora(name, modules_by_name(modules.values()), metadata=metadata or {})


def _group(tensors: Mapping[str, Tensor], name: str) -> dict:
    """The tensors by module and family: (prefix, family) -> suffix -> tensor, in the file's order."""
    groups: dict = {}
    alphas: dict[str, Tensor] = {}
    strangers = []
    for key, tensor in tensors.items():
        ending = _ENDINGS.search(key)
        suffix = ending.group() if ending else ""
        prefix = key[: len(key) - len(suffix)]
        if not suffix or not prefix:
            strangers.append(key)
        elif suffix == ALPHA:
            alphas[prefix] = tensor
        elif suffix in _FAMILY_OF:
            groups.setdefault((prefix, _FAMILY_OF[suffix]), {})[suffix] = tensor
        else:
            raise LoraError(
                f"{name}: {_UNSUPPORTED_OF[suffix]} module {prefix} is not supported yet. "
                "Leave this file out of the merge, or apply it with ComfyUI's own loader."
            )
    if not groups:
        some = ", ".join([*tensors][:3]) or "nothing"
        raise LoraError(f"{name} holds no LoRA weights (it holds {some} ...). Choose a LoRA file.")
    if strangers:
        raise LoraError(
            f"{name}: tensor {strangers[0]} belongs to no kind of LoRA that this pack knows "
            f"({len(strangers)} such tensors). Merging would drop it, so the file is refused."
        )
    for (prefix, _), group in groups.items():
        if prefix in alphas:
            group[ALPHA] = alphas[prefix]
    orphans = alphas.keys() - {prefix for prefix, _ in groups}
    if orphans:
        raise LoraError(f"{name}: module {min(orphans)} has an alpha but no weights. The file is incomplete.")
    return groups


def to_state_dict(
    lora: Lora, dtype: torch.dtype | None = None, check: Callable[[], None] = _go_on
) -> dict[str, Tensor]:
    """A LoRA's tensors under kohya's endings, which every ComfyUI loads behind any prefix; on the CPU, contiguous.

    Block weights are in the alphas, the LoRA's strengths are not (see ``Lora.baked``). ``dtype`` None keeps each
    tensor's own. Raises LoraError when a value is too large for ``dtype``.
    """
    tensors: dict[str, Tensor] = {}
    for module in lora.modules.values():
        check()
        for suffix, tensor in lora_family.write(module):
            target = tensor if dtype is None or suffix == ALPHA else tensor.to(dtype)
            if target is not tensor or suffix == ALPHA:
                _require_fits(target, f"{lora.name}: module {module.name}")
            tensors[keys.loadable(module.name) + suffix] = target.cpu().contiguous()
    return tensors


def _require_fits(tensor: Tensor, what: str) -> None:
    if not torch.isfinite(tensor.float()).all():
        name = str(tensor.dtype).removeprefix("torch.")
        raise LoraError(
            f"{what} holds values too large for {name}. Save it as float32 or bfloat16, or lower its strength."
        )
