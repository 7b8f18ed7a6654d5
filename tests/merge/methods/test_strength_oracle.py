"""The oracles of the rules for strength, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from lora_pack.tests.support.oracles.strength import STRENGTH_RULES, apply_strength_rule, apply_weights

DELTAS = [np.array([[3.0, 0], [0, 0]]), np.array([[3.0, 8], [0, 0]])]  # sum (6, 8): norm 10; squares 9 and 73
MERGED = np.array([[0.0, 0], [0, 2]])


@pytest.mark.parametrize(
    "rule, size",
    [("of the mode", 2.0), ("of the sum", 10.0), ("of the strongest", math.sqrt(73)), ("as if orthogonal", 82**0.5)],
)
def test_a_result_is_scaled_to_the_norm_that_the_rule_names(rule: str, size: float):
    assert np.allclose(apply_strength_rule(rule, MERGED, DELTAS), [[0, 0], [0, size]], rtol=1e-14)


@pytest.mark.parametrize("rule", STRENGTH_RULES)
def test_a_result_of_nothing_stays_nothing(rule: str):
    for merged in (np.zeros((2, 2)), 1e-7 * MERGED):
        assert np.array_equal(apply_strength_rule(rule, merged, DELTAS), merged)
    assert not np.any(apply_strength_rule(rule, np.zeros((2, 2)), [np.zeros((2, 2))]))


def test_a_sum_of_nothing_names_no_strength():
    opposite = [DELTAS[0], -DELTAS[0] * (1 + 1e-7)]
    assert np.array_equal(apply_strength_rule("of the sum", MERGED, opposite), MERGED)
    assert np.allclose(apply_strength_rule("as if orthogonal", MERGED, opposite), [[0, 0], [0, 18**0.5]])


def test_average_divides_by_the_magnitudes_model_and_text_encoder_apart():
    strengths = [(1.0, 0.0), (-3.0, 0.5), (0.0, 0.0)]
    assert apply_weights("average", strengths, [1, 1, 1]) == [(0.25, 0.0), (-0.75, 1.0), (0.0, 0.0)]
    assert apply_weights("average", [(0.0, 0.0)], [1]) == [(0.0, 0.0)]


def test_equal_energy_gives_all_files_the_geometric_mean_of_their_norms():
    """Those of norms 2 and 8: 4. A LoRA that is off or empty has no say, and an empty one stays as it is."""
    strengths = [(1.0, 0.5), (-1.0, 0.0), (0.0, 0.0), (2.0, 2.0)]
    expected = [(2.0, 1.0), (-0.5, 0.0), (0.0, 0.0), (2.0, 2.0)]
    assert np.allclose(apply_weights("equal energy", strengths, [2.0, 8.0, 100.0, 0.0]), expected)
    assert apply_weights("equal energy", [(1.0, 1.0)], [0.0]) == [(1.0, 1.0)]


def test_as_given_changes_nothing():
    assert apply_weights("as given", [(1.0, -2.0)], [3.0]) == [(1.0, -2.0)]
    with pytest.raises(ValueError, match="unknown"):
        apply_weights("equal", [(1.0, 1.0)], [3.0])
