"""The oracles of the newer modes fulfil the identities that follow from their formulas."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from lora_pack.tests.support import oracle
from lora_pack.tests.support.oracles import modes
from lora_pack.tests.support.oracles.canonical import canonical, joint_bases
from lora_pack.tests.support.oracles.examples import NO_LOSS, apart, close, low_rank, merge, random_draws

GENERIC = [low_rank(s, rank) for s, rank in ((1, 2), (2, 3), (3, 1))]


@pytest.mark.parametrize("mode", modes.MODES)
@pytest.mark.parametrize("strength", [1.0, -0.3])
def test_one_lora_alone_gives_its_delta(mode: str, strength: float):
    zero = np.zeros((9, 7))
    assert close(merge(mode, [zero, low_rank(1), low_rank(2)], [1, strength, 0]), strength * low_rank(1))


@pytest.mark.parametrize("mode", modes.MODES)
def test_nothing_gives_zero(mode: str):
    assert not np.any(merge(mode, [low_rank(1), np.zeros((9, 7))], [0.0, 1.0]))


@pytest.mark.parametrize("density", [1.0, 0.5])
@pytest.mark.parametrize("mode", modes.MODES)
def test_loras_that_take_no_part_change_nothing(mode: str, density: float):
    draws = random_draws(1, mode, GENERIC)
    spare = np.full_like(draws[0], 0.1)
    expected = merge(mode, GENERIC, [1, -0.5, 2], density, draws)
    deltas = [np.zeros((9, 7)), GENERIC[0], low_rank(8), *GENERIC[1:]]
    assert close(merge(mode, deltas, [1, 1, 0, -0.5, 2], density, [spare, draws[0], spare, *draws[1:]]), expected)


@pytest.mark.parametrize("density", [1.0, 0.5])
@pytest.mark.parametrize("mode", modes.MODES)
def test_the_order_counts_only_in_np(mode: str, density: float):
    draws = random_draws(2, mode, GENERIC)
    expected = merge(mode, GENERIC, [1, -0.5, 2], density, draws)
    turned = merge(mode, GENERIC[::-1], [2, -0.5, 1], density, draws[::-1])
    assert close(turned, expected, 1e-9) == (mode != "np_svd")


@pytest.mark.parametrize("factor", [3.0, -0.25, 1e-6])
@pytest.mark.parametrize("mode", modes.MODES)
def test_strengths_scale_the_result(mode: str, factor: float):
    """Also negative ones: no election is close to 0 here."""
    draws = random_draws(3, mode, GENERIC)
    once, scaled = (merge(mode, GENERIC, [f, -0.5 * f, 2 * f], 0.5, draws) for f in (1.0, factor))
    assert close(scaled, factor * once, 1e-9)


@pytest.mark.parametrize("mode", ["karcher_svd", *modes.IN_SUBSPACES])
def test_results_stay_in_the_loras_directions(mode: str):
    """KnOTS elects over all inputs, so only the outputs are shared there."""
    merged = merge(mode, GENERIC, [1, -0.5, 2], density=0.7, draws=random_draws(4, mode, GENERIC))
    q_b, q_a = joint_bases(GENERIC)
    assert np.any(merged) and close(q_b @ q_b.T @ merged, merged)
    assert close(merged @ q_a @ q_a.T, merged) == (mode != "knots_ties_svd")


def test_cores_lose_nothing():
    q_b, q_a = joint_bases(GENERIC)
    assert q_b.shape[1] == q_a.shape[1] == 6
    for delta in GENERIC:
        assert close(q_b @ (q_b.T @ delta @ q_a) @ q_a.T, delta)
        part = canonical(delta)
        assert close(part.b @ part.a, delta)


PLAIN_SUM_APART: Mapping[str, Mapping[str, float]] = {
    "np_svd": {"np_mu": 7.0},
    "tsv_svd": {},
    "knots_ties_svd": {},
    "core_ties_svd": {},
    "core_dare_ties_svd": {},
    "iso_svd": {"iso_blend": 0.0},
    "route_svd": {"route_ridge": 0.0},
    "breadcrumbs_svd": {},
}


@pytest.mark.parametrize("mode", PLAIN_SUM_APART)
def test_orthogonal_loras_give_the_plain_sum(mode: str):
    deltas, strengths = apart(2, 1, 3), [1.0, -0.7, 0.4]
    total = sum(w * delta for w, delta in zip(strengths, deltas, strict=True))
    assert close(merge(mode, deltas, strengths, settings=PLAIN_SUM_APART[mode]), total)


@pytest.mark.parametrize(
    "mode, settings, times",
    [
        ("karcher_svd", {}, 1),
        ("np_svd", {"np_mu": 1.0}, 1.5),
        ("np_svd", {"np_mu": 1000.0}, 1),
        ("tsv_svd", {}, 1),
        ("knots_ties_svd", {}, 2),
        ("core_ties_svd", {}, 2),
        ("core_dare_ties_svd", {}, 2),
        ("iso_svd", {"iso_blend": 0.0}, 2),
        ("route_svd", {"route_ridge": 0.0}, 1),
        ("della_svd", {}, 1),
        ("breadcrumbs_svd", {}, 2),
        ("sce_svd", {}, 1),
    ],
)
def test_equal_loras(mode: str, settings: Mapping[str, float], times: float):
    delta = low_rank(1)
    assert close(merge(mode, [delta, delta], settings=settings), times * delta)


@pytest.mark.parametrize("mode", ["karcher_svd", "tsv_svd", "iso_svd", "route_svd", "breadcrumbs_svd"])
def test_opposite_loras_cancel(mode: str):
    delta = low_rank(1)
    assert np.linalg.norm(merge(mode, [delta, -delta])) < NO_LOSS * np.linalg.norm(delta)


@pytest.mark.parametrize("mode", ["knots_ties_svd", "core_ties_svd", "core_dare_ties_svd", "della_svd", "sce_svd"])
def test_of_opposite_loras_an_election_leaves_one(mode: str):
    """A sum of 0 elects plus, entry by entry: nothing cancels."""
    delta = low_rank(1)
    assert math.isclose(np.linalg.norm(merge(mode, [delta, -delta])), np.linalg.norm(delta))


def test_np_of_opposite_loras_leaves_what_was_taken():
    assert close(merge("np_svd", [low_rank(1), -low_rank(1)], np_mu=1.0), 0.5 * low_rank(1))


def test_iso_without_blend_is_the_sum_and_any_blend_keeps_its_norm():
    total = GENERIC[0] - 0.5 * GENERIC[1] + 2 * GENERIC[2]
    assert close(merge("iso_svd", GENERIC, [1, -0.5, 2], iso_blend=0), total)
    for blend in (0.3, 1.0):
        merged = merge("iso_svd", GENERIC, [1, -0.5, 2], iso_blend=blend)
        assert math.isclose(np.linalg.norm(merged), np.linalg.norm(total))
        assert oracle.distance(merged, total) > 0.01


def test_np_without_mu_is_the_sum_and_with_1000_nothing_is_read_twice():
    assert close(merge("np_svd", GENERIC, np_mu=0), sum(GENERIC))
    rest = merge("np_svd", GENERIC, np_mu=1000) - GENERIC[0]
    assert np.linalg.norm(rest @ canonical(GENERIC[0]).v) < 1e-12
    assert np.linalg.norm(rest) > 1


def test_route_gives_each_lora_back_on_inputs_that_it_alone_reads():
    """With independent row spaces and no ridge, an input in the dual directions of one LoRA sees this LoRA alone."""
    rows = [canonical(delta).v for delta in GENERIC]
    merged = merge("route_svd", GENERIC, route_ridge=0)
    covered = sum(v @ v.T for v in rows)
    assert close(merged @ covered, sum(GENERIC))
    assert close(merge("route_svd", GENERIC, route_ridge=1e-9), merged, 1e-6)


@pytest.mark.parametrize("density", [1.0, 0.6, 0.2])
def test_della_without_epsilon_is_dare_ties(density: float):
    draws, weights = random_draws(5, "della_svd", GENERIC), [1.0, -0.5, 2.0]
    expected = oracle.combine("dare_ties", GENERIC, weights, density, [u < density for u in draws])
    assert close(merge("della_svd", GENERIC, weights, density, draws, della_epsilon=0), expected)


@pytest.mark.parametrize("density", [1.0, 0.6, 0.2])
def test_breadcrumbs_without_gamma_is_magnitude_pruning(density: float):
    weights = [1.0, -0.5, 2.0]
    expected = oracle.combine("magnitude_prune", GENERIC, weights, density)
    assert close(merge("breadcrumbs_svd", GENERIC, weights, density, breadcrumbs_gamma=0), expected)


def test_karcher_of_two_random_loras_is_slerp():
    (first, second), weights = GENERIC[:2], [0.5, 1.5]
    one, other = (w * d for w, d in zip(weights, (first, second), strict=True))
    unit_one, unit_other = one / np.linalg.norm(one), other / np.linalg.norm(other)
    angle = math.acos(float(np.sum(unit_one * unit_other)))
    slerp = (math.sin(0.25 * angle) * unit_one + math.sin(0.75 * angle) * unit_other) / math.sin(angle)
    size = (np.linalg.norm(one) + np.linalg.norm(other)) / 2
    assert close(merge("karcher_svd", [first, second], weights), size * slerp, 1e-9)


@pytest.mark.parametrize("mode", modes.IN_SUBSPACES)
def test_vectors_are_summed_by_modes_that_read_directions(mode: str):
    deltas = [np.array([1.0, -2, 3]), np.array([-4.0, 5, 6])]
    assert close(merge(mode, deltas, [1, 0.5], density=0.4), [-1, 0.5, 6])


def test_the_other_modes_take_a_vector_as_one_row():
    deltas = [np.array([1.0, 4]), np.array([3.0, -2])]
    assert close(merge("sce_svd", deltas), [56 / 30, 4])
    assert close(merge("karcher_svd", [np.array([2.0, 0]), np.array([0, 4.0])]), [3 / math.sqrt(2)] * 2)


def test_unknown_names_are_refused():
    for mode, parameters in (("ties_svd", {}), ("np_svd", {"mu": 1.0})):
        with pytest.raises(ValueError, match="unknown"):
            merge(mode, GENERIC, settings=parameters)
