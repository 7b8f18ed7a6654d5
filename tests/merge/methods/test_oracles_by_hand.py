"""The oracles of the newer modes on examples worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from lora_pack.tests.support.oracles import elementwise
from lora_pack.tests.support.oracles.canonical import canonical, joint_bases
from lora_pack.tests.support.oracles.examples import NO_LOSS, Array, close, low_rank, merge


def test_karcher_of_two_is_the_point_on_their_arc():
    """Orthogonal LoRAs at strengths 1 and 3: three quarters of the way, 67.5 degrees, at the mean norm (2 + 6) / 2."""
    merged = merge("karcher_svd", [[[2, 0], [0, 0]], [[0, 2], [0, 0]]], [1, 3])
    assert close(merged, [[4 * math.cos(math.radians(67.5)), 4 * math.sin(math.radians(67.5))], [0, 0]])


def test_karcher_turns_a_lora_round_that_has_a_negative_strength():
    merged = merge("karcher_svd", [[[2, 0]], [[0, 2]]], [1, -3])
    assert close(merged, [[4 * math.cos(math.radians(67.5)), -4 * math.sin(math.radians(67.5))]])


def test_karcher_of_three_orthogonal_loras_is_in_their_middle():
    assert close(merge("karcher_svd", [[[1, 0, 0]], [[0, 2, 0]], [[0, 0, 6]]]), np.full((1, 3), 3 / math.sqrt(3)))


def test_karcher_minimises_the_weighted_squared_angles():
    """Weights 1, 1, 2 on the axes: by symmetry the mean is (c, c, s), which leaves one angle to search."""
    x, y, z = merge("karcher_svd", [[[1, 0, 0]], [[0, 1, 0]], [[0, 0, 0.5]]], [1, 1, 2])[0]
    assert abs(x - y) < NO_LOSS

    def cost(angle: float) -> float:
        return 2 * math.acos(math.cos(angle) / math.sqrt(2)) ** 2 + 2 * (math.pi / 2 - angle) ** 2

    angle = math.atan2(z, math.hypot(x, y))
    assert math.isclose(math.hypot(x, y, z), 1.0)
    assert cost(angle) < min(cost(angle - 1e-5), cost(angle + 1e-5))


def test_karcher_of_opposite_directions_is_the_plain_sum():
    assert close(merge("karcher_svd", [[[3, 0]], [[-1, 0]]]), [[2, 0]])
    assert not np.any(merge("karcher_svd", [[[3, 1]], [[-3, -1]]]))


def test_np_takes_from_the_second_what_reads_as_the_first_does():
    """mu 0.5 takes a third."""
    first, second = [[1, 0], [0, 0]], [[0, 0], [2, 3]]
    assert close(merge("np_svd", [first, second]), [[1, 0], [4 / 3, 3]])
    assert close(merge("np_svd", [first, second], np_mu=0), [[1, 0], [2, 3]])
    assert close(merge("np_svd", [first, second], np_mu=1000), [[1, 0], [0, 3]])
    assert close(merge("np_svd", [second, first], np_mu=1000), [[9 / 13, -6 / 13], [2, 3]])


def test_np_protects_all_earlier_loras_counted_fully():
    """The third keeps only the input that neither reads, although the second hardly reads any."""
    deltas = [[[1, 0, 0]], [[0, 1e-3, 0]], [[5, 6, 7]]]
    assert close(merge("np_svd", deltas, np_mu=1000), [[1, 1e-3, 7]])
    assert close(merge("np_svd", deltas, np_mu=1), [[3.5, 3.001, 7]])


def test_tsv_turns_overlapping_directions_apart_evenly():
    """Outputs at 0 and 60 degrees become -15 and 75; the inputs are orthogonal already."""

    def at(degrees: float) -> Array:
        return np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])

    deltas = [np.outer(2 * at(0), [1, 0]), np.outer(3 * at(60), [0, 1])]
    assert close(merge("tsv_svd", deltas), np.column_stack([2 * at(-15), 3 * at(75)]))


def test_knots_runs_ties_in_the_shared_outputs():
    """Both write to (3, 4) / 5. There: 1 and 3 agree, of 2 and -1 the larger wins. Half of 2 entries is 1 entry."""
    u = np.array([0.6, 0.8])
    deltas = [np.outer(u, [1, 2]), np.outer(u, [3, -1])]
    assert close(merge("knots_ties_svd", deltas), np.outer(u, [4, 2]))
    assert close(merge("knots_ties_svd", deltas, density=0.5), np.outer(u, [3, 2]))


DIAGONAL = [np.diag([3.0, 1.0]), np.diag([1.0, -4.0])]


def test_core_ties_elects_in_the_core():
    assert close(merge("core_ties_svd", DIAGONAL), np.diag([4, -4]))
    assert close(merge("core_ties_svd", DIAGONAL, density=0.25), np.diag([3, -4]))  # one of four entries each
    u, v = np.array([[0.6, 0.8], [-0.8, 0.6], [0, 0]]), np.array([[0.8, -0.6], [0.6, 0.8]])
    turned = [u @ delta @ v.T for delta in DIAGONAL]
    assert close(merge("core_ties_svd", turned, density=0.25), u @ np.diag([3, -4]) @ v.T)


def test_the_basis_of_the_core_goes_by_how_much_the_loras_write_there():
    """Weights 3 + 1 on the first axis and 1 + 4 on the second, which therefore comes first."""
    for basis in joint_bases(DIAGONAL):
        assert close(np.abs(basis), [[0, 1], [1, 0]])
    for basis in joint_bases([low_rank(s) for s in (1, 2)]):
        assert np.all(basis[np.argmax(np.abs(basis), axis=0), np.arange(basis.shape[1])] > 0)


def test_core_dare_draws_over_the_core():
    """Its first entry is the second axis (see above): the first LoRA keeps its 3, the second its -4, times 1 / 0.4."""
    draws = [[[0.4, 0], [0, 0.3]], [[0.1, 0], [0, 0.5]]]
    assert close(merge("core_dare_ties_svd", DIAGONAL, density=0.4, draws=draws), np.diag([7.5, -10]))


def test_a_sum_of_0_elects_plus():
    """In a core by the sign of its bases: the largest entry of each direction is positive."""
    assert close(merge("core_ties_svd", [np.diag([-3.0, 1]), np.diag([3.0, -1])]), np.diag([3, 1]))
    assert close(merge("sce_svd", [[[1, -2]], [[-1, 2]]]), [[1, 2]])
    assert close(merge("della_svd", [[[1, -2]], [[-1, 2]]]), [[1, 2]])


def test_directions_count_down_to_1e_6_of_the_largest_and_singular_values_to_1e_12():
    """Stacks hold roots of singular values: 1e-11 counts there, 1e-13 doesn't."""
    for small, ranks in ((1e-11, 2), (1e-13, 1)):
        assert canonical(np.diag([1.0, small])).s.size == ranks
        deltas = [np.diag([1.0, 0]), np.diag([0, small])]
        assert joint_bases(deltas)[0].shape == (2, ranks)
        merged = merge(
            "np_svd", [np.diag([1.0, 0, 0]), np.diag([0, small, 0]), [[0] * 3, [0] * 3, [1, 1, 1]]], np_mu=1000
        )
        assert close(merged[2], [0, 2 - ranks, 1])


def test_iso_blends_the_spectrum_and_keeps_the_norm():
    parts = [np.diag([3.0, 0, 0]), np.diag([0, 1.0, 0])]
    assert close(merge("iso_svd", parts, iso_blend=1), np.diag([math.sqrt(5), math.sqrt(5), 0]))
    half = math.sqrt(10 / 8.5)
    assert close(merge("iso_svd", parts, iso_blend=0.5), np.diag([2.5 * half, 1.5 * half, 0]))


def test_route_divides_by_how_many_loras_read_a_direction():
    assert close(merge("route_svd", [[[2, 0]], [[4, 0]]], route_ridge=0), [[3, 0]])
    oblique = [[[1, 0], [0, 0]], [[0, 0], [1, 1]]]  # inputs (1, 0) and (1, 1) / sqrt 2
    assert close(merge("route_svd", oblique, route_ridge=0), [[1, -1], [0, 2]])
    ridged = np.array([[1.5, -0.5], [1, 2]]) / 3.5
    assert close(merge("route_svd", oblique, route_ridge=1), ridged)
    wider = [np.pad(delta, [(0, 0), (0, 2)]) for delta in oblique]  # inputs that no LoRA reads don't change the mean
    assert close(merge("route_svd", wider, route_ridge=1), np.pad(ridged, [(0, 0), (0, 2)]))


def test_della_keeps_large_magnitudes_more_often():
    row = [[4, -1, 2, 3]]
    p = elementwise.keep_probabilities(np.array(row), 0.5, 0.2)
    assert close(p, [[0.7, 0.3, 0.3 + 0.4 / 3, 0.7 - 0.4 / 3]])
    merged = merge("della_svd", [row], density=0.5, draws=[[0.5] * 4], della_epsilon=0.2)
    assert close(merged, [[4 / 0.7, 0, 0, 3 / (0.7 - 0.4 / 3)]])


def test_della_ranks_within_each_row_and_the_earlier_of_equals_is_larger():
    p = elementwise.keep_probabilities(np.array([[1.0, -1, 1], [300, 100, 200]]), 0.5, 0.25)
    assert close(p, [[0.75, 0.5, 0.25], [0.75, 0.25, 0.5]])
    assert close(elementwise.keep_probabilities(np.array([[1.0], [2.0]]), 0.5, 0.25), [[0.5], [0.5]])


@pytest.mark.parametrize("density, most", [(0.9, 0.1), (0.05, 0.05), (1.0, 0.0)])
def test_dellas_epsilon_never_leaves_0_to_1(density: float, most: float):
    p = elementwise.keep_probabilities(low_rank(1), density, 0.5)
    assert math.isclose(p.max(), density + most) and abs(p.min() - (density - most)) < NO_LOSS


def test_della_elects_without_strengths_and_averages_by_count():
    assert close(merge("della_svd", [[[2, 3]], [[-1, 1]], [[-3, 1]]], [10, 1, 0.5]), [[-1.25, 31.5 / 3]])


def test_breadcrumbs_drops_both_ends():
    """Of ten entries one outlier, then five kept, then four dropped."""
    row = [[1, -10, 2, 9, 3, -8, 4, 7, 5, 6]]
    merged = merge("breadcrumbs_svd", [row], density=0.5, breadcrumbs_gamma=0.1)
    assert close(merged, [[0, 0, 0, 9, 0, -8, 0, 7, 5, 6]])
    assert close(merge("breadcrumbs_svd", [row], density=0.9, breadcrumbs_gamma=0.5), [[1, 0, *row[0][2:]]])
    assert close(merge("breadcrumbs_svd", [row], density=1.0, breadcrumbs_gamma=0.5), row)
    assert close(merge("breadcrumbs_svd", [row, [[1] * 10]], [1, 2], 0.2, breadcrumbs_gamma=0.2)[0, :4], [0, 0, 2, 2])


def test_sce_selects_by_variance_and_weighs_by_energy():
    deltas = [[[1, 4]], [[3, -2]]]
    assert close(merge("sce_svd", deltas, density=0.5), [[0, 4]])
    assert close(merge("sce_svd", deltas), [[56 / 30, 4]])  # mean squares 17 / 2 and 13 / 2
    assert close(merge("sce_svd", [[[1, -5, 3]]], density=0.7), [[0, -5, 3]])


def test_energy_has_no_vote_in_sce():
    """1 - 2 elects minus, although the first LoRA has twenty times the energy."""
    assert close(merge("sce_svd", [[[10, 1]], [[1, -2]]]), [[(10 * 101 + 5) / 106, -2]])


def test_of_equal_magnitudes_the_first_are_kept():
    """All the twos and the first half of the ones."""
    row = np.where(np.arange(100) % 2 == 0, 1.0, 2.0)[None]
    kept = np.where((row == 2) | (np.arange(100) < 50), row, 0)
    assert close(merge("breadcrumbs_svd", [row], density=0.75, breadcrumbs_gamma=0), kept)
    assert close(merge("sce_svd", [row, -row], density=0.75), kept)
    assert close(merge("knots_ties_svd", [-row], density=0.75), -kept)


def test_sce_gives_0_where_nobody_has_the_elected_sign():
    assert close(merge("sce_svd", [[[0, 1]], [[0, 3]]]), [[0, 2.8]])
