"""The registry of merge modes, read by the combo boxes, the command line, the docs' table and the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import LoraError
from .consensus import Consensus, disjoint_mean, weighted_sum
from .sparsify import Sparsifier, dropout_rescale, keep_all, prune_magnitude

SVD_SUFFIX = "_svd"


@dataclass(frozen=True)
class Method:
    """A merge mode: a sparsifier for each LoRA and the consensus of the results; None concatenates the factors.

    ``on_factors`` and ``on_deltas`` tell the user in a sentence what the mode does there and when to use it; empty
    where it doesn't exist.
    """

    name: str
    label: str
    reference: str
    consensus: Consensus | None
    sparsify: Sparsifier = keep_all
    on_factors: str = ""
    on_deltas: str = ""

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
        label="Linear",
        reference="https://github.com/huggingface/peft (add_weighted_adapter, linear)",
        consensus=weighted_sum,
        on_factors="PEFT's linear: adds the factors, so that LoRAs also multiply with each other. "
        "For the true sum use concat, or add_svd of PM Merge LoRA SVD.",
        on_deltas="The exact sum of the LoRAs, truncated to the rank with the least possible loss.",
    ),
    Method(
        "concat",
        label="Concatenation",
        reference="https://arxiv.org/abs/2212.04089",
        consensus=None,
        on_factors="The exact sum: the same picture as loading the LoRAs one after the other. The ranks add up.",
    ),
    Method(
        "ties",
        label="TIES",
        reference="https://arxiv.org/abs/2306.01708",
        sparsify=prune_magnitude,
        consensus=disjoint_mean,
        on_factors="Keeps the largest values; where LoRAs disagree on a sign the majority decides. A mean, not a sum.",
        on_deltas="Keeps the largest changes; where LoRAs disagree on a sign the majority decides. A mean, not a sum: "
        "for LoRAs that fight each other.",
    ),
    Method(
        "dare_linear",
        label="DARE",
        reference="https://arxiv.org/abs/2311.03099",
        sparsify=dropout_rescale,
        consensus=weighted_sum,
        on_factors="Drops values at random, scales the rest up and adds, as PEFT does.",
        on_deltas="Drops changes at random, scales the rest up and adds. Truncation to a low rank removes much of "
        "that again: use densities of 0.5 and above.",
    ),
    Method(
        "dare_ties",
        label="DARE with TIES",
        reference="https://arxiv.org/abs/2311.03099",
        sparsify=dropout_rescale,
        consensus=disjoint_mean,
        on_factors="Drops values at random as dare_linear does, then elects signs as ties does.",
        on_deltas="Drops changes at random as dare_linear_svd does, then elects signs as ties_svd does.",
    ),
    Method(
        "magnitude_prune",
        label="Magnitude pruning",
        reference="https://github.com/huggingface/peft (add_weighted_adapter, magnitude_prune)",
        sparsify=prune_magnitude,
        consensus=weighted_sum,
        on_factors="Keeps only the largest values of each LoRA and adds.",
        on_deltas="Keeps only the largest changes of each LoRA and adds: its main effect stays, faint side effects go.",
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
    """A line for each of these modes that says what it does."""
    lines = []
    for mode in modes:
        method = _BY_NAME[mode.removesuffix(SVD_SUFFIX)]
        lines.append(f"{mode}: {method.on_deltas if mode.endswith(SVD_SUFFIX) else method.on_factors}")
    return "\n".join(lines)


def method_of(mode: str) -> Method:
    """The method of a mode of either merge node, by the mode's full name. Raises LoraError for an unknown mode."""
    return delta_method(mode) if mode.endswith(SVD_SUFFIX) else factor_method(mode)


def factor_method(mode: str) -> Method:
    """The method of a mode of PM Merge LoRA. Raises LoraError for an unknown mode."""
    if mode not in FACTOR_MODES:
        raise LoraError(f"There is no merge mode {mode!r}. The modes are {', '.join(FACTOR_MODES)}.")
    return _BY_NAME[mode]


def delta_method(mode: str) -> Method:
    """The method of a mode of PM Merge LoRA SVD, with or without its suffix. Raises LoraError for an unknown mode."""
    if mode + SVD_SUFFIX in DELTA_MODES:
        mode += SVD_SUFFIX
    if mode not in DELTA_MODES:
        raise LoraError(f"There is no SVD merge mode {mode!r}. The modes are {', '.join(DELTA_MODES)}.")
    return _BY_NAME[mode.removesuffix(SVD_SUFFIX)]
