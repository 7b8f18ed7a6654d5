"""The modes of PM Merge LoRA SVD beyond PEFT's against their float64 oracles, on LoRAs of every shape and relation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.options import MergeOptions
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import (
    CONV1,
    CONV3,
    LINEAR,
    TEXT,
    at,
    down_of,
    each_module,
    make_lora,
    of_modules,
    up_of,
    with_factors,
)
from lora_pack.tests.support.merging import EXACT, FULL, KINDS, MIXED, NOTHING, three_loras
from lora_pack.tests.support.oracles.canonical import norm
from lora_pack.tests.support.oracles.modes import DRAWING, ELEMENTWISE, IN_SUBSPACES, MODES, WITH_DENSITY
from lora_pack.tests.support.oracles.whole_loras import NO_PARAMETERS, expected_delta, weighted_deltas

SMALL = {LINEAR: (14, 11), CONV3: (8, 5, 3, 3)}
WIDE = {LINEAR: (60, 47), TEXT: (31, 52)}  # above the sum of the ranks of ten LoRAs
ELECTED = ("knots_ties_svd", "core_ties_svd", "core_dare_ties_svd", "della_svd", "sce_svd")
CANCELLING = ("karcher_svd", "tsv_svd", "iso_svd", "route_svd", "breadcrumbs_svd")
# Each mode as it comes, and with a density where it has one.
MODES_AND_DENSITIES = [(mode, 1.0) for mode in MODES] + [(mode, 0.6) for mode in WITH_DENSITY]
each_mode = pytest.mark.parametrize("mode", MODES)
each_density = pytest.mark.parametrize("mode, density", MODES_AND_DENSITIES)


def merge(
    mode: str,
    loras: Sequence[Lora],
    density: float = 1.0,
    rank: int = FULL,
    seed: int = 7,
    parameters: Mapping[str, float] = NO_PARAMETERS,
) -> Lora:
    return merge_deltas(loras, mode, density, rank, rank, seed, options=MergeOptions(parameters=parameters))


def energy(loras: Sequence[Lora], name: str) -> float:
    return math.sqrt(sum(norm(delta) ** 2 for delta in weighted_deltas(loras, name)))


def assert_equals_the_oracle(
    mode: str,
    loras: Sequence[Lora],
    density: float = 1.0,
    seed: int = 7,
    parameters: Mapping[str, float] = NO_PARAMETERS,
    within: float = EXACT,
) -> None:
    """Every module at full rank; errors relative to the expected result, or to the LoRAs where that is nothing."""
    merged = merge(mode, loras, density, seed=seed, parameters=parameters)
    assert list(merged.modules) == list(oracle.parts(loras))
    for name, module in merged.modules.items():
        expected = expected_delta(mode, loras, name, density, seed, parameters=parameters)
        size = norm(expected) if norm(expected) > 1e-6 * energy(loras, name) else energy(loras, name)
        error = norm(oracle.module_delta(module) - expected)
        assert error <= within * size, f"{name}: error {error / size:.3g} of the expected norm"


# Any number of LoRAs, ranks, kinds of weights


@pytest.mark.sampled(3)
@pytest.mark.parametrize("count", [1, 2, 3, 10])
@pytest.mark.parametrize("shapes", [SMALL, WIDE], ids=["ranks above the sides", "ranks below the sides"])
@each_density
def test_any_number_of_loras(mode: str, density: float, shapes: Mapping, count: int):
    """Of unequal ranks and strengths, one of them negative."""
    loras = [make_lora(s, shapes=shapes, ranks=[1 + s % 4, 2 + s % 3], alphas=[None, 8.0]) for s in range(count)]
    strengths = [1.0, -0.6, 0.8, 1.3, 0.4, -1.0, 0.9, 0.7, 1.1, 0.5]
    assert_equals_the_oracle(mode, [at(lora, w) for lora, w in zip(loras, strengths, strict=False)], density)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", [*KINDS, MIXED])
@each_density
def test_every_kind_of_weight(mode: str, density: float, kind: str):
    """Also a text encoder's module that two of three have, at strengths of its own."""
    assert_equals_the_oracle(mode, three_loras(kind), density)


@pytest.mark.parametrize("count", [1, 2, 3])
@each_density
def test_loras_of_rank_1(mode: str, density: float, count: int):
    loras = [make_lora(s, shapes=SMALL, ranks=[1]) for s in range(1, count + 1)]
    assert_equals_the_oracle(mode, loras, density)


@each_density
def test_more_ranks_than_a_delta_has(mode: str, density: float):
    """Directions that a LoRA holds twice count once: canonical factors have the delta's own rank."""
    doubled = each_module(
        make_lora(1, shapes=SMALL, ranks=[2]),
        lambda m: LoraModule.of(
            m.name, torch.cat([up_of(m), up_of(m)], 1), torch.cat([down_of(m), 2 * down_of(m)]), m.alpha
        ),
    )
    assert_equals_the_oracle(mode, [doubled, make_lora(2, shapes=SMALL, ranks=[3])], density)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_mode
def test_half_precision_files(mode: str, dtype: torch.dtype):
    loras = [make_lora(1, shapes=SMALL, dtype=dtype), make_lora(2, shapes=SMALL, ranks=[3])]
    assert_equals_the_oracle(mode, loras, 0.7)


# Who takes part


@each_density
def test_a_module_that_one_lora_has_alone(mode: str, density: float):
    """It is that LoRA's delta, with its density where the mode has one."""
    first = make_lora(1, shapes={LINEAR: (14, 11), CONV3: (8, 5, 3, 3)})
    second = make_lora(2, shapes={LINEAR: (14, 11), TEXT: (12, 8)})
    loras = [at(first, 0.7), at(second, -1.2, 0.4)]
    assert_equals_the_oracle(mode, loras, density)
    if density == 1.0:
        merged = merge(mode, loras)
        for name, alone, w in ((CONV3, first, 0.7), (TEXT, second, 0.4)):
            delta = w * oracle.module_delta(alone.modules[name])
            assert oracle.distance(oracle.module_delta(merged.modules[name]), delta) <= EXACT, name


@pytest.mark.parametrize("strengths", [(1.0, 0.0, -0.7), (0.0, 0.0, 1.0), (-1.0, -0.5, -2.0), (1e-3, 1.0, 0.0)])
@each_density
def test_strengths_that_are_negative_or_zero(mode: str, density: float, strengths: Sequence[float]):
    loras = [at(make_lora(s, shapes=SMALL, ranks=[s + 1]), w) for s, w in enumerate(strengths, 1)]
    assert_equals_the_oracle(mode, loras, density)


@pytest.mark.parametrize("zero", [{"alphas": [0.0]}, {"scale": 0.0}], ids=["alpha 0", "factors of zeros"])
@each_density
def test_a_zero_delta_takes_no_part(mode: str, density: float, zero: Mapping):
    loras = [make_lora(1, shapes=SMALL, **zero), make_lora(2, shapes=SMALL), make_lora(3, shapes=SMALL, ranks=[2])]
    assert_equals_the_oracle(mode, loras, density)
    assert_equals_the_oracle(mode, loras[:2], density)
    for module in merge(mode, loras[:1], density).modules.values():
        assert not np.any(oracle.module_delta(module))


@each_density
def test_block_weights_and_negative_alphas(mode: str, density: float):
    weighted = each_module(make_lora(1, shapes=SMALL), lambda m: replace(m, block_weight=-0.5))
    assert_equals_the_oracle(mode, [weighted, make_lora(2, shapes=SMALL, alphas=[-4.0, 2.0])], density)


# How LoRAs relate


@pytest.mark.parametrize("count", [2, 3])
@each_density
def test_equal_loras(mode: str, density: float, count: int):
    if mode == "sce_svd":
        density = 1.0  # variances of 0, or of rounding, don't order the positions
    assert_equals_the_oracle(mode, [make_lora(1, shapes=SMALL, ranks=[3])] * count, density)


@pytest.mark.parametrize("strengths", [(1.0, 0.3), (0.5, -2.0)])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ELECTED or mode == "della_svd"])
def test_equal_loras_at_unequal_strengths(mode: str, strengths: tuple[float, float]):
    """Elections between opposite values of one delta are tested below."""
    lora = make_lora(1, shapes=SMALL, ranks=[3])
    assert_equals_the_oracle(mode, [at(lora, w) for w in strengths])


def negated(lora: Lora) -> Lora:
    return each_module(lora, lambda m: with_factors(m, up=-up_of(m)))


def opposites() -> list[list[Lora]]:
    lora = make_lora(1, shapes=SMALL, ranks=[3])
    return [[lora, negated(lora)], [lora, at(lora, -1.0)]]


@pytest.mark.parametrize("by", [0, 1], ids=["factors", "strength"])
@pytest.mark.parametrize("mode", CANCELLING)
def test_opposite_loras_cancel(mode: str, by: int):
    loras = opposites()[by]
    for name, module in merge(mode, loras, seed=1).modules.items():
        delta = oracle.module_delta(module)
        assert np.all(np.isfinite(delta))
        assert norm(delta) <= 1e-6 * energy(loras, name), name


@pytest.mark.parametrize("by", [0, 1], ids=["factors", "strength"])
@pytest.mark.parametrize("mode", [mode for mode in ELECTED if mode != "della_svd"])
def test_of_opposite_loras_an_election_leaves_one_of_each_value(mode: str, by: int):
    """Which one wins a sum of 0 is up to rounding; each entry keeps its magnitude either way."""
    loras = opposites()[by]
    for name, module in merge(mode, loras).modules.items():
        size = norm(oracle.module_delta(loras[0].modules[name]))
        assert math.isclose(norm(oracle.module_delta(module)), size, rel_tol=EXACT), name
    for module in merge(mode, loras, 0.5).modules.values():
        assert np.all(np.isfinite(oracle.module_delta(module)))


def test_della_elects_before_strengths_as_dare_ties_does():
    """Opposite factors elect one; an opposite strength averages a value with its negative."""
    for loras, times in zip(opposites(), (1.0, 0.0), strict=True):
        for name, module in merge("della_svd", loras).modules.items():
            size = norm(oracle.module_delta(loras[0].modules[name]))
            assert abs(norm(oracle.module_delta(module)) - times * size) <= EXACT * size, name


@pytest.mark.parametrize("mu", [0.0, 1.0, 1000.0])
@pytest.mark.parametrize("by", [0, 1], ids=["factors", "strength"])
def test_np_of_opposite_loras(by: int, mu: float):
    assert_equals_the_oracle("np_svd", opposites()[by], parameters={"np_mu": mu})


@each_density
def test_nearly_parallel_loras(mode: str, density: float):
    """A thousandth apart: bases and angles have to be exact, although the Gram matrix is nearly singular."""
    if mode == "sce_svd":
        density = 1.0  # float32 leaves four digits of such variances, too few to order the positions
    lora, noise = make_lora(1, shapes=SMALL, ranks=[3]), make_lora(2, shapes=SMALL, ranks=[3])

    def near(m: LoraModule) -> LoraModule:
        other = noise.modules[m.name]
        return with_factors(m, up=up_of(m) + 1e-3 * up_of(other), down=down_of(m) + 1e-3 * down_of(other))

    assert_equals_the_oracle(mode, [lora, each_module(lora, near)], density)


@pytest.mark.parametrize("scales", [(1e-4, 1e4), (1e4, 1e-4), (1e-4, 1e-4), (1.0, 1e4, 1e-4)])
@each_density
def test_loras_of_very_different_size(mode: str, density: float, scales: Sequence[float]):
    """The small one still turns the directions of a Karcher mean, of TSV, NP and Route."""
    loras = [make_lora(s, shapes=SMALL, ranks=[2 + s % 2]) for s in range(1, len(scales) + 1)]
    scaled = [
        each_module(lora, lambda m, c=c: with_factors(m, up=c * up_of(m)))
        for lora, c in zip(loras, scales, strict=True)
    ]
    assert_equals_the_oracle(mode, scaled, density)


def coarse(lora: Lora) -> Lora:
    """Factors with so few digits that a change of basis by whole numbers and powers of 2 is exact in float32."""
    return each_module(
        lora, lambda m: with_factors(m, up=(up_of(m) * 256).round() / 256, down=(down_of(m) * 256).round() / 256)
    )


def in_another_basis(module: LoraModule) -> LoraModule:
    """(B G, G^-1 A) for a triangular G of ones, its columns scaled by powers of 2 from 1/64 to 64."""
    rank = module.rank
    scales = 2.0 ** torch.linspace(-6, 6, rank).round()
    mix = torch.eye(rank) + torch.diag(torch.ones(rank - 1), 1)
    up, down = up_of(module), down_of(module)
    back = torch.linalg.inv(mix.double()).float()  # whole numbers
    return with_factors(
        module,
        up=((up.flatten(1) @ mix) * scales).reshape(up.shape),
        down=((back @ down.flatten(1)) / scales[:, None]).reshape(down.shape),
    )


@each_density
def test_the_basis_of_the_factors_does_not_matter(mode: str, density: float):
    loras = [coarse(make_lora(s, shapes=SMALL, ranks=[2 + s])) for s in (1, 2)]
    turned = [each_module(loras[0], in_another_basis), loras[1]]
    for name, module in loras[0].modules.items():
        assert np.array_equal(oracle.delta(oracle.part(module)), oracle.delta(oracle.part(turned[0].modules[name])))
        assert not torch.equal(up_of(module), up_of(turned[0].modules[name]))
    expected, got = (merge(mode, given, density) for given in (loras, turned))
    for name, module in got.modules.items():
        delta = oracle.module_delta(expected.modules[name])
        assert oracle.distance(oracle.module_delta(module), delta) <= 1e-6, name


# Parameters, seeds, ranks


@pytest.mark.parametrize(
    "mode, density, parameters",
    [
        ("np_svd", 1.0, {"np_mu": 0.0}),
        ("np_svd", 1.0, {"np_mu": 3.0}),
        ("np_svd", 1.0, {"np_mu": 1000.0}),
        ("iso_svd", 1.0, {"iso_blend": 0.0}),
        ("iso_svd", 1.0, {"iso_blend": 1.0}),
        ("route_svd", 1.0, {"route_ridge": 0.0}),
        ("route_svd", 1.0, {"route_ridge": 1.0}),
        ("della_svd", 0.5, {"della_epsilon": 0.0}),
        ("della_svd", 0.5, {"della_epsilon": 0.5}),
        ("della_svd", 0.9, {"della_epsilon": 0.5}),  # 0.1 counts
        ("breadcrumbs_svd", 0.5, {"breadcrumbs_gamma": 0.0}),
        ("breadcrumbs_svd", 0.5, {"breadcrumbs_gamma": 0.2}),
        ("breadcrumbs_svd", 0.9, {"breadcrumbs_gamma": 0.5}),  # 0.1 counts
        ("breadcrumbs_svd", 1.0, {"breadcrumbs_gamma": 0.5}),
    ],
)
def test_parameters(mode: str, density: float, parameters: Mapping[str, float]):
    loras = [at(make_lora(s, shapes=SMALL, ranks=[s + 1]), w) for s, w in ((1, 1.0), (2, -0.7), (3, 0.4))]
    assert_equals_the_oracle(mode, loras, density, parameters=parameters)
    assert_equals_the_oracle(mode, loras[:1], density, parameters=parameters)


@pytest.mark.parametrize("density", [0.1, 0.29, 0.9])
@pytest.mark.parametrize("mode", WITH_DENSITY)
def test_densities(mode: str, density: float):
    loras = [make_lora(s, shapes=WIDE, ranks=[s + 1]) for s in (1, 2, 3)]
    assert_equals_the_oracle(mode, loras, density)


@pytest.mark.parametrize("seed", [0, 1, 2**40])
@pytest.mark.parametrize("mode", DRAWING)
def test_masks_follow_the_seed(mode: str, seed: int):
    """And the input's index: the second of three inputs is off, the third keeps its mask."""
    loras = [at(make_lora(s, shapes=SMALL), w) for s, w in ((1, 1.0), (2, 0.0), (3, -0.5))]
    assert_equals_the_oracle(mode, loras, 0.5, seed)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("rank", [0, 1, 2, 4, 7])
@each_density
def test_truncation_is_near_the_least_possible_error(mode: str, density: float, rank: int):
    """Rank 0 is the largest of the inputs. Modes in a core are exact but for rounding, elementwise ones to 1 %."""
    loras = [at(make_lora(s, shapes={**SMALL, **WIDE}, ranks=[s + 1]), w) for s, w in ((1, 1.0), (2, -0.7), (3, 0.4))]
    most = 1.01 if mode in ELEMENTWISE else 1.00001
    for name, module in merge(mode, loras, density, rank).modules.items():
        whole = expected_delta(mode, loras, name, density, 7)
        wanted = rank or 4
        assert module.rank == min(wanted, np.linalg.matrix_rank(whole)), name
        error = norm(oracle.module_delta(module) - whole)
        allowed = math.hypot(most * oracle.best_error(whole, wanted), NOTHING * norm(whole))
        assert error <= allowed, f"{name}: error {error:.6g}, at rank {wanted} at most {allowed:.6g}"


@pytest.mark.parametrize("mode", ["karcher_svd", *IN_SUBSPACES])
def test_full_rank_adds_no_rank_of_rounding(mode: str):
    """The result lies in the LoRAs' directions, so its rank is at most the sum of theirs."""
    loras = [make_lora(s, shapes=WIDE, ranks=[s + 1]) for s in (1, 2)]
    for name, module in merge(mode, loras).modules.items():
        assert module.rank <= 5, name


def test_a_1x1_convolution_stays_one():
    loras = three_loras("1x1")
    for mode in MODES:
        assert merge(mode, loras).modules[CONV1].weight_shape == KINDS["1x1"]


def test_an_empty_lora_merges_to_nothing():
    for mode in MODES:
        assert not merge(mode, [of_modules([], "empty"), at(make_lora(1, shapes=SMALL), 0.0)]).modules
