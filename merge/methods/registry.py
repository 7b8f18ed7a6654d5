"""The registry of merge modes. Combo boxes, the command line, the docs' table and the tests read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import LoraError
from .consensus import Consensus, disjoint_mean, weighted_sum
from .sparsify import Sparsifier, dropout_rescale, keep_all, prune_magnitude

SVD_SUFFIX = "_svd"


@dataclass(frozen=True)
class Method:
    """A merge mode: how each LoRA is sparsified and how they come together; no consensus means side by side.

    ``on_factors`` and ``on_deltas`` say in a sentence what it does there and when to use it; empty: it isn't there.
    """

    name: str
    label: str
    reference: str
    on_factors: str
    on_deltas: str
    consensus: Consensus | None
    sparsify: Sparsifier = keep_all

    @property
    def uses_density(self) -> bool:
        return self.sparsify is not keep_all

    @property
    def uses_seed(self) -> bool:
        return self.sparsify is dropout_rescale


# In the order of the older pack's combo boxes, so that nothing moves for its users.
METHODS: tuple[Method, ...] = (
    Method(
        "add",
        "Linear",
        "https://github.com/huggingface/peft (add_weighted_adapter, linear)",
        "PEFT's linear: adds the factors, so that LoRAs also multiply with each other. "
        "For the true sum use concat, or add_svd of PM Merge LoRA SVD.",
        "The exact sum of the LoRAs, cut to the rank with the least possible loss.",
        weighted_sum,
    ),
    Method(
        "concat",
        "Concatenation",
        "https://arxiv.org/abs/2212.04089",
        "The exact sum: the same picture as loading the LoRAs one after the other. The ranks add up.",
        "",
        None,
    ),
    Method(
        "ties",
        "TIES",
        "https://arxiv.org/abs/2306.01708",
        "Keeps the largest values; where LoRAs disagree on a sign the majority decides. A mean, not a sum.",
        "Keeps the largest changes; where LoRAs disagree on a sign the majority decides. A mean, not a sum: "
        "for LoRAs that fight each other.",
        disjoint_mean,
        prune_magnitude,
    ),
    Method(
        "dare_linear",
        "DARE",
        "https://arxiv.org/abs/2311.03099",
        "Drops values at random, scales the rest up and adds, as PEFT does.",
        "Drops changes at random, scales the rest up and adds. The cut to a low rank filters much of that out again: "
        "use densities of 0.5 and above.",
        weighted_sum,
        dropout_rescale,
    ),
    Method(
        "dare_ties",
        "DARE with TIES",
        "https://arxiv.org/abs/2311.03099",
        "Drops values at random as dare_linear does, then elects signs as ties does.",
        "Drops changes at random as dare_linear_svd does, then elects signs as ties_svd does.",
        disjoint_mean,
        dropout_rescale,
    ),
    Method(
        "magnitude_prune",
        "Magnitude pruning",
        "https://github.com/huggingface/peft (add_weighted_adapter, magnitude_prune)",
        "Keeps only the largest values of each LoRA and adds.",
        "Keeps only the largest changes of each LoRA and adds: its main effect stays, faint side effects go.",
        weighted_sum,
        prune_magnitude,
    ),
)

_BY_NAME = {method.name: method for method in METHODS}
FACTOR_MODES: tuple[str, ...] = tuple(method.name for method in METHODS if method.on_factors)
DELTA_MODES: tuple[str, ...] = tuple(method.name + SVD_SUFFIX for method in METHODS if method.on_deltas)


def using_density(modes: Sequence[str]) -> list[str]:
    return [mode for mode in modes if _BY_NAME[mode.removesuffix(SVD_SUFFIX)].uses_density]


def using_seed(modes: Sequence[str]) -> list[str]:
    return [mode for mode in modes if _BY_NAME[mode.removesuffix(SVD_SUFFIX)].uses_seed]


def mode_tooltip(modes: Sequence[str]) -> str:
    """What each of these modes does, in one text."""
    lines = []
    for mode in modes:
        method = _BY_NAME[mode.removesuffix(SVD_SUFFIX)]
        lines.append(f"{mode}: {method.on_deltas if mode.endswith(SVD_SUFFIX) else method.on_factors}")
    return "\n".join(lines)


def factor_method(mode: str) -> Method:
    """The method of a mode of PM Merge LoRA. Raises LoraError for a mode that is none of these."""
    if mode not in FACTOR_MODES:
        raise LoraError(f"There is no merge mode {mode!r}. The modes are {', '.join(FACTOR_MODES)}.")
    return _BY_NAME[mode]


def delta_method(mode: str) -> Method:
    """The method of a mode of PM Merge LoRA SVD, with or without its ending. Raises LoraError for any other."""
    if mode + SVD_SUFFIX in DELTA_MODES:
        mode += SVD_SUFFIX
    if mode not in DELTA_MODES:
        raise LoraError(f"There is no SVD merge mode {mode!r}. The modes are {', '.join(DELTA_MODES)}.")
    return _BY_NAME[mode.removesuffix(SVD_SUFFIX)]
