"""The registry of merge modes, read by the combo boxes, the command line, the docs' table and the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import LoraError
from .breadcrumbs import BREADCRUMBS_GAMMA, drop_outliers
from .consensus import disjoint_mean, weighted_sum
from .core_elections import core_dare_ties, core_ties, knots_ties
from .della import DELLA_EPSILON, drop_by_magnitude
from .isotropic import ISO_BLEND, isotropic_sum
from .karcher import karcher_coefficients
from .kernels import Blockwise, Elementwise, InCore, Kernel, Reweight
from .null_space import NP_MU, null_space_projection
from .parameters import Parameter
from .route import ROUTE_RIDGE, routed_by_inputs
from .sce import select_by_variance
from .sparsify import dropout_rescale, prune_magnitude
from .tsv import orthogonal_singular_vectors

SVD_SUFFIX = "_svd"


@dataclass(frozen=True)
class Method:
    """A merge mode and what it takes.

    ``kernel`` merges the LoRAs of a weight; None concatenates their factors. ``on_factors`` and ``on_deltas`` tell the
    user in a sentence what the mode does there and when to use it; empty where it doesn't exist. ``is_sum`` says that
    it is the plain weighted sum where nothing is sparsified. ``parameters`` are those besides density and seed.
    """

    name: str
    label: str
    reference: str
    kernel: Kernel | None
    on_factors: str = ""
    on_deltas: str = ""
    uses_density: bool = False
    uses_seed: bool = False
    is_sum: bool = False
    parameters: tuple[Parameter, ...] = ()


# Older workflows show their modes in this order; new ones come last.
METHODS: tuple[Method, ...] = (
    Method(
        "add",
        label="Linear",
        reference="https://github.com/huggingface/peft (add_weighted_adapter, linear)",
        kernel=Elementwise(weighted_sum),
        is_sum=True,
        on_factors="PEFT's linear: adds the factors, so that LoRAs also multiply with each other. "
        "For the true sum use concat, or add_svd of PM Merge LoRA SVD.",
        on_deltas="The exact sum of the LoRAs, truncated to the rank with the least possible loss.",
    ),
    Method(
        "concat",
        label="Concatenation",
        reference="https://arxiv.org/abs/2212.04089",
        kernel=None,
        is_sum=True,
        on_factors="The exact sum: the same picture as loading the LoRAs one after the other. The ranks add up.",
    ),
    Method(
        "ties",
        label="TIES",
        reference="https://arxiv.org/abs/2306.01708",
        kernel=Elementwise(disjoint_mean, prune_magnitude),
        uses_density=True,
        on_factors="Keeps the largest values; where LoRAs disagree on a sign the majority decides. A mean, not a sum. "
        "Keeps less of each LoRA than ties_svd of PM Merge LoRA SVD.",
        on_deltas="Keeps the largest changes; where LoRAs disagree on a sign the majority decides. A mean, not a sum: "
        "for LoRAs that fight each other.",
    ),
    Method(
        "dare_linear",
        label="DARE",
        reference="https://arxiv.org/abs/2311.03099",
        kernel=Elementwise(weighted_sum, dropout_rescale),
        is_sum=True,
        uses_density=True,
        uses_seed=True,
        on_factors="Drops values at random, scales the rest up and adds, as PEFT does. Keeps less of each LoRA than "
        "dare_linear_svd.",
        on_deltas="Drops changes at random, scales the rest up and adds. Truncation to a low rank removes much of "
        "that again: use densities of 0.5 and above.",
    ),
    Method(
        "dare_ties",
        label="DARE with TIES",
        reference="https://arxiv.org/abs/2311.03099",
        kernel=Elementwise(disjoint_mean, dropout_rescale),
        uses_density=True,
        uses_seed=True,
        on_factors="Drops values at random as dare_linear does, then elects signs as ties does. Keeps less of each "
        "LoRA than dare_ties_svd.",
        on_deltas="Drops changes at random as dare_linear_svd does, then elects signs as ties_svd does.",
    ),
    Method(
        "magnitude_prune",
        label="Magnitude pruning",
        reference="https://github.com/huggingface/peft (add_weighted_adapter, magnitude_prune)",
        kernel=Elementwise(weighted_sum, prune_magnitude),
        is_sum=True,
        uses_density=True,
        on_factors="Keeps only the largest values of each LoRA and adds. Keeps less of each LoRA than "
        "magnitude_prune_svd.",
        on_deltas="Keeps only the largest changes of each LoRA and adds: its main effect stays, faint side effects go.",
    ),
    Method(
        "karcher",
        label="Karcher mean",
        reference="https://doi.org/10.1002/cpa.3160300502",
        kernel=Reweight(karcher_coefficients, "the LoRAs point in opposite directions, so there is no mean direction"),
        on_deltas="The mean direction of the LoRAs on a sphere (of two: SLERP), at the mean of their norms. A mean, "
        "not a sum: choose the strength rule 'of the sum' to keep both at full strength.",
    ),
    Method(
        "np",
        label="Null-space projection",
        reference="https://arxiv.org/abs/2511.11051",
        kernel=InCore(null_space_projection),
        parameters=(NP_MU,),
        on_deltas="NP-LoRA: protects the first LoRA. Later ones lose part of what they do with inputs that earlier "
        "ones use. For a style and a content LoRA, connect the style first.",
    ),
    Method(
        "tsv",
        label="TSV-Merge",
        reference="https://arxiv.org/abs/2412.00081",
        kernel=InCore(orthogonal_singular_vectors),
        on_deltas="Makes the LoRAs' main directions orthogonal to each other before adding them, so that none counts "
        "twice. For LoRAs that overlap; unrelated ones come out as their sum.",
    ),
    Method(
        "knots_ties",
        label="KnOTS with TIES",
        reference="https://arxiv.org/abs/2410.19735",
        kernel=InCore(knots_ties, keeps_columns=True),
        uses_density=True,
        on_deltas="TIES in a basis that the LoRAs share, where their values can be compared. A sum where they agree.",
    ),
    Method(
        "core_ties",
        label="Core Space with TIES",
        reference="https://arxiv.org/abs/2509.17786",
        kernel=InCore(core_ties),
        uses_density=True,
        on_deltas="TIES in the small core that the LoRAs have in common bases: fast, and nothing is lost by a rank as "
        "large as the ranks' sum.",
    ),
    Method(
        "core_dare_ties",
        label="Core Space with DARE and TIES",
        reference="https://arxiv.org/abs/2509.17786",
        kernel=InCore(core_dare_ties),
        uses_density=True,
        uses_seed=True,
        on_deltas="As core_ties_svd, but drops values of the core at random. Few values carry much there: results "
        "differ a lot from seed to seed.",
    ),
    Method(
        "iso",
        label="Iso-C, blended",
        reference="https://arxiv.org/abs/2502.04959",
        kernel=InCore(isotropic_sum),
        parameters=(ISO_BLEND,),
        on_deltas="The sum with a flatter spectrum: strong directions give way to weak ones, at the same strength.",
    ),
    Method(
        "route",
        label="RegMean on row spaces",
        reference="https://arxiv.org/abs/2212.09849",
        kernel=InCore(routed_by_inputs),
        parameters=(ROUTE_RIDGE,),
        on_deltas="Averages LoRAs where they use the same inputs and adds them elsewhere. For LoRAs that overlap; "
        "unrelated ones come out as their sum.",
    ),
    Method(
        "della",
        label="DELLA",
        reference="https://arxiv.org/abs/2406.11617",
        kernel=Elementwise(disjoint_mean, drop_by_magnitude),
        uses_density=True,
        uses_seed=True,
        parameters=(DELLA_EPSILON,),
        on_deltas="As dare_ties_svd, but large changes are dropped less often than small ones. A mean, not a sum.",
    ),
    Method(
        "breadcrumbs",
        label="Model Breadcrumbs",
        reference="https://arxiv.org/abs/2312.06795",
        kernel=Elementwise(weighted_sum, drop_outliers),
        is_sum=True,
        uses_density=True,
        parameters=(BREADCRUMBS_GAMMA,),
        on_deltas="As magnitude_prune_svd, but also drops the few largest changes, as outliers.",
    ),
    Method(
        "sce",
        label="SCE",
        reference="https://arxiv.org/abs/2408.07990",
        kernel=Blockwise(select_by_variance),
        uses_density=True,
        on_deltas="Keeps the changes on which the LoRAs differ most; a LoRA that changes more there weighs more. A "
        "mean, not a sum.",
    ),
)

_BY_NAME = {method.name: method for method in METHODS}
FACTOR_MODES: tuple[str, ...] = tuple(method.name for method in METHODS if method.on_factors)
DELTA_MODES: tuple[str, ...] = tuple(method.name + SVD_SUFFIX for method in METHODS if method.on_deltas)
# All parameters that some method declares, by name.
PARAMETERS: Mapping[str, Parameter] = {one.name: one for method in METHODS for one in method.parameters}


def method_of(mode: str) -> Method:
    """The method of a mode of either merger. Raises LoraError for an unknown mode."""
    return delta_method(mode) if mode.endswith(SVD_SUFFIX) else factor_method(mode)


def using_density(modes: Sequence[str]) -> list[str]:
    return [mode for mode in modes if method_of(mode).uses_density]


def using_seed(modes: Sequence[str]) -> list[str]:
    return [mode for mode in modes if method_of(mode).uses_seed]


def using_parameter(modes: Sequence[str], name: str) -> list[str]:
    return [mode for mode in modes if any(parameter.name == name for parameter in method_of(mode).parameters)]


def require_known_parameters(given: Mapping[str, float]) -> None:
    """Raise LoraError for a parameter that no method has, or a value outside its range."""
    for name, value in given.items():
        if name not in PARAMETERS:
            raise LoraError(f"No merge mode has a parameter {name}. The parameters are {', '.join(PARAMETERS)}.")
        PARAMETERS[name].require_in_range(value)


def mode_tooltip(modes: Sequence[str]) -> str:
    """A line for each of these modes that says what it does."""
    lines = []
    for mode in modes:
        method = method_of(mode)
        lines.append(f"{mode}: {method.on_deltas if mode.endswith(SVD_SUFFIX) else method.on_factors}")
    return "\n".join(lines)


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
