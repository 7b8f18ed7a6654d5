"""The rules for strength, in every mode of PM Merge LoRA SVD, against their float64 oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.options import MergeOptions
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import CONV3, LINEAR, TEXT, at, each_module, make_lora, up_of, with_factors
from lora_pack.tests.support.merging import EXACT, FULL, NOTHING
from lora_pack.tests.support.oracles.canonical import norm
from lora_pack.tests.support.oracles.modes import MODES
from lora_pack.tests.support.oracles.strength import STRENGTH_RULES, WEIGHT_RULES
from lora_pack.tests.support.oracles.whole_loras import expected_delta, weighted_deltas

PEFTS = ("add_svd", "ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd")
SHAPES = {LINEAR: (14, 11), CONV3: (8, 5, 3, 3), TEXT: (12, 8)}
each_mode = pytest.mark.parametrize("mode", [*PEFTS, *MODES])


def merge(
    mode: str,
    loras: Sequence[Lora],
    density: float = 1.0,
    strength_rule: str = "of the mode",
    weights: str = "as given",
    rank: int = FULL,
) -> Lora:
    return merge_deltas(loras, mode, density, rank, rank, 3, options=MergeOptions(strength_rule, weights))


def three() -> list[Lora]:
    """Of unequal norms and strengths; the second has no convolution, and block weights count."""
    first = each_module(make_lora(1, shapes=SHAPES, ranks=[2, 3]), lambda m: replace(m, block_weight=0.5))
    second = make_lora(2, shapes={LINEAR: SHAPES[LINEAR], TEXT: SHAPES[TEXT]}, ranks=[3], alphas=[12.0])
    third = make_lora(3, shapes=SHAPES, ranks=[1, 4], scale=0.3)
    return [at(first, 0.8, -0.5), at(second, -0.7, 0.0), at(third, 1.3, 2.0)]


def assert_equals_the_oracle(
    mode: str,
    loras: Sequence[Lora],
    density: float = 1.0,
    strength_rule: str = "of the mode",
    weights: str = "as given",
) -> None:
    merged = merge(mode, loras, density, strength_rule, weights)
    assert list(merged.modules) == list(oracle.parts(loras))
    for name, module in merged.modules.items():
        expected = expected_delta(mode, loras, name, density, 3, strength_rule=strength_rule, weights=weights)
        assert oracle.distance(oracle.module_delta(module), expected) <= EXACT, name


@pytest.mark.sampled(5)
@pytest.mark.parametrize("density", [1.0, 0.6])
@pytest.mark.parametrize("rule", STRENGTH_RULES)
@each_mode
def test_strength_rules(mode: str, rule: str, density: float):
    """Norms of the result with its density, of the LoRAs without."""
    assert_equals_the_oracle(mode, three(), density, strength_rule=rule)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("rule", WEIGHT_RULES)
@each_mode
def test_rules_of_weights(mode: str, rule: str):
    assert_equals_the_oracle(mode, three(), weights=rule)


@each_mode
def test_both_rules_together(mode: str):
    assert_equals_the_oracle(mode, three(), 0.6, strength_rule="of the sum", weights="equal energy")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("rule", ["of the sum", "of the strongest", "as if orthogonal"])
@each_mode
def test_the_rule_comes_before_the_cut_to_a_rank(mode: str, rule: str):
    """The whole result has the named norm; what the cut drops is lost, not made up for."""
    loras = three()
    whole, cut = merge(mode, loras, 0.6, strength_rule=rule), merge(mode, loras, 0.6, rank=1, strength_rule=rule)
    for name, module in cut.modules.items():
        largest = np.linalg.norm(oracle.module_delta(whole.modules[name]), 2)
        assert np.isclose(norm(oracle.module_delta(module)), largest, rtol=1e-2), name


@pytest.mark.parametrize("rule", STRENGTH_RULES)
@each_mode
def test_one_lora_alone_keeps_its_strength(mode: str, rule: str):
    lora = at(make_lora(1, shapes=SHAPES), -0.7, 0.4)
    for name, module in merge(mode, [lora], strength_rule=rule).modules.items():
        (expected,) = weighted_deltas([lora], name)
        assert oracle.distance(oracle.module_delta(module), expected) <= EXACT, name


@pytest.mark.parametrize("rule", STRENGTH_RULES)
@pytest.mark.parametrize("mode", ["add_svd", "karcher_svd", "tsv_svd", "iso_svd", "route_svd", "breadcrumbs_svd"])
def test_a_sum_of_zero_stays_zero(mode: str, rule: str):
    """Opposite LoRAs cancel to rounding, which no rule may blow up."""
    lora = make_lora(1, shapes=SHAPES, ranks=[3])
    opposite = each_module(lora, lambda m: with_factors(m, up=-up_of(m)))
    for loras in ([lora, opposite], [lora, at(lora, -1.0)]):
        for name, module in merge(mode, loras, strength_rule=rule).modules.items():
            delta = oracle.module_delta(module)
            assert np.all(np.isfinite(delta))
            assert norm(delta) <= NOTHING * norm(weighted_deltas([lora], name)[0]), name


@pytest.mark.parametrize("mode", ["knots_ties_svd", "core_ties_svd", "sce_svd", "np_svd"])
def test_a_sum_of_zero_names_no_strength(mode: str):
    """A result that is left of opposite LoRAs stays as the mode made it."""
    lora = make_lora(1, shapes=SHAPES, ranks=[3])
    loras = [lora, at(lora, -1.0)]
    for name, module in merge(mode, loras, strength_rule="of the sum").modules.items():
        size = norm(weighted_deltas([lora], name)[0]) * (1 / 3 if mode == "np_svd" else 1)
        assert np.isclose(norm(oracle.module_delta(module)), size, rtol=EXACT), name


def test_a_module_that_the_mode_dropped_is_not_blamed_on_loras_that_cancel():
    """DARE on a core of one number, at a density that keeps hardly any."""
    loras = [make_lora(1, shapes=SHAPES, ranks=[1])]
    notes = merge("core_dare_ties_svd", loras, density=0.001, strength_rule="of the strongest").notes
    assert any("almost nothing is left of the LoRAs there: they cancel each other out, or the mode" in n for n in notes)


@pytest.mark.parametrize("rule", WEIGHT_RULES)
def test_loras_that_are_off_or_empty_have_no_say_in_weights(rule: str):
    zero = make_lora(4, shapes=SHAPES, scale=0.0)
    assert_equals_the_oracle("add_svd", [*three(), at(make_lora(5, shapes=SHAPES), 0.0), at(zero, 0.6)], weights=rule)
