"""Changing the rank: the least possible error, and the smallest rank that meets the criterion of an sv_* method."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.adapters.base import Difference, Lora, LoraModule
from lora_pack.merge.errors import LoraError
from lora_pack.merge.merging.resize import METHODS, resize
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import (
    CONV1,
    CONV3,
    LINEAR,
    SHAPES,
    TEXT,
    as_matrix,
    at,
    down_of,
    each_module,
    examples,
    fingerprint,
    loras,
    make_lora,
    of_modules,
    regauged,
    rotation,
    spectral_lora,
    up_of,
    with_factors,
)
from lora_pack.tests.support.merging import assert_best

VALUES = [8.0, 4.0, 2.0, 1.0, 1.0]
SV_METHODS = ("sv_ratio", "sv_cumulative", "sv_fro")


def assert_resized_well(resized: Lora, lora: Lora) -> None:
    """Each module is the best approximation at its rank, and everything else about it is unchanged."""
    assert list(resized.modules) == list(lora.modules)
    for name, module in resized.modules.items():
        old = lora.modules[name]
        assert_best(oracle.module_delta(module), module.rank, oracle.module_delta(old), "add_svd")
        assert module.name == name
        assert module.block_weight == old.block_weight
        assert module.weight_shape == old.weight_shape
        assert module.up.shape[2:] == old.up.shape[2:]
        assert up_of(module).is_contiguous() and down_of(module).is_contiguous()


def ranks(lora: Lora) -> list[int]:
    return [module.rank for module in lora.modules.values()]


def brute_force_rank(values: np.ndarray, method: str, value: float) -> int:
    """The smallest rank that meets the criterion, tried one after the other."""
    total, squares = values.sum(), np.square(values).sum()
    for k in range(1, len(values) + 1):
        met = {
            "fixed": False,
            "sv_ratio": k == len(values) or values[k] <= values[0] / value,
            "sv_cumulative": values[:k].sum() >= value * total,
            "sv_fro": math.sqrt(np.square(values[:k]).sum()) >= value * math.sqrt(squares),
        }
        if met[method]:
            return k
    return len(values)


def test_the_methods_are_those_promised_to_users():
    assert list(METHODS) == ["fixed", "sv_ratio", "sv_cumulative", "sv_fro"]


@pytest.mark.parametrize("rank, conv_rank", [(1, 1), (3, 0), (3, 2), (4, 7), (6, 6), (100, 100), (2, 100)])
def test_fixed_gives_the_new_rank_or_the_modules_own_if_lower(rank: int, conv_rank: int):
    lora = make_lora(1, ranks=[6, 4], alphas=[3.0, None, -2.0])
    resized = resize(lora, rank, conv_rank)
    assert_resized_well(resized, lora)
    for name, module in resized.modules.items():
        wanted = rank if name in (LINEAR, CONV1, TEXT) or conv_rank == 0 else conv_rank
        assert module.rank == min(wanted, lora.modules[name].rank), name


def test_a_1x1_convolution_stored_as_a_matrix_is_resized():
    lora = each_module(make_lora(1, shapes={CONV1: SHAPES[CONV1]}, ranks=[5]), as_matrix)
    resized = resize(lora, 3, 1)
    assert_resized_well(resized, lora)
    assert ranks(resized) == [3]


# The criteria: next singular value at most the largest / value; share of the sum; share of the norm. The exact edges
# are in test_rank_rules.py.
SMALLEST = [
    ("sv_ratio", 1.5, 1),
    ("sv_ratio", 3.0, 2),
    ("sv_ratio", 6.0, 3),
    ("sv_ratio", 20.0, 5),
    ("sv_cumulative", 0.49, 1),
    ("sv_cumulative", 0.6, 2),
    ("sv_cumulative", 0.8, 3),
    ("sv_cumulative", 0.9, 4),
    ("sv_cumulative", 0.95, 5),
    ("sv_fro", 0.8, 1),
    ("sv_fro", 0.9, 2),
    ("sv_fro", 0.98, 3),
    ("sv_fro", 0.99, 4),
    ("sv_fro", 0.999, 5),
]


@pytest.mark.parametrize("method, value, rank", SMALLEST)
def test_the_smallest_rank_that_meets_the_criterion(method: str, value: float, rank: int):
    lora = spectral_lora((12, 10), VALUES, 1)
    assert ranks(resize(lora, 32, method=method, value=value)) == [rank]
    assert brute_force_rank(np.array(VALUES), method, value) == rank
    scaled = each_module(lora, lambda m: with_factors(m, alpha=-0.001, up=up_of(m) * 50))
    assert ranks(resize(scaled, 32, method=method, value=value)) == [rank], "the criteria don't depend on the scale"


@examples(80)
@given(loras(), st.sampled_from(SV_METHODS), st.floats(0.05, 0.999), st.integers(1, 6), st.integers(0, 6))
def test_the_smallest_rank_of_any_lora(lora: Lora, method: str, contribution: float, most: int, conv_most: int):
    value = 1 / contribution if method == "sv_ratio" else contribution
    resized = resize(lora, most, conv_most, method, value)
    assert_resized_well(resized, lora)
    for name, module in resized.modules.items():
        values = np.linalg.svd(oracle.module_delta(lora.modules[name]), compute_uv=False)
        values = values[values > 1e-9 * values[0]] if values[0] > 0 else np.ones(1)
        bound = (conv_most or most) if lora.modules[name].is_convolution else most
        nearby = {brute_force_rank(values, method, value * (1 + nudge)) for nudge in (-1e-7, 0, 1e-7)}
        assert module.rank in {min(rank, bound) for rank in nearby}, name


@pytest.mark.parametrize("method", SV_METHODS)
def test_new_rank_is_the_upper_bound(method: str):
    lora = make_lora(1, ranks=[6])
    value = 1e6 if method == "sv_ratio" else 1.0
    for rank, conv_rank in ((2, 3), (5, 1), (4, 0)):
        resized = resize(lora, rank, conv_rank, method, value)
        expected = {True: conv_rank or rank, False: rank}
        assert ranks(resized) == [expected[module.is_convolution] for module in lora.modules.values()]
        assert_resized_well(resized, lora)


@pytest.mark.parametrize("method", SV_METHODS)
def test_ranks_grow_with_the_value(method: str):
    lora = make_lora(1, ranks=[8], shapes={LINEAR: (30, 20), CONV3: (20, 5, 3, 3)})
    values = [1.0, 1.2, 1.5, 2, 4, 100] if method == "sv_ratio" else [0.01, 0.2, 0.5, 0.8, 0.95, 1.0]
    found = [ranks(resize(lora, 32, method=method, value=value)) for value in values]
    assert found == sorted(found)
    assert found[0] == [1, 1] and found[-1] == [8, 8]


@pytest.mark.parametrize("method", SV_METHODS)
def test_the_criterion_is_met_in_each_module_on_its_own(method: str):
    flat = spectral_lora((12, 10), [1.0] * 6, 1).modules[LINEAR]
    steep = replace(spectral_lora((12, 10), [0.1**i for i in range(6)], 2).modules[LINEAR], name=TEXT)
    resized = resize(of_modules([flat, steep]), 32, method=method, value=5.0 if method == "sv_ratio" else 0.9)
    assert resized.modules[LINEAR].rank >= 5
    assert resized.modules[TEXT].rank == 1


def test_a_rank_above_that_of_a_module_does_not_change_its_delta():
    """Nothing is padded and no noise added."""
    lora = make_lora(1, ranks=[3, 5], alphas=[1.0, 10.0, None])
    for method in METHODS:
        resized = resize(lora, 64, 64, method, 1e9 if method == "sv_ratio" else 1.0)
        assert ranks(resized) == ranks(lora)
        for name, module in resized.modules.items():
            expected = oracle.module_delta(lora.modules[name])
            assert oracle.distance(oracle.module_delta(module), expected) < 1e-6


def test_redundant_ranks_are_removed():
    """A LoRA concatenated with itself has twice the rank, but its delta has not."""
    module = make_lora(1, shapes={LINEAR: (14, 11)}, ranks=[3]).modules[LINEAR]
    doubled = with_factors(
        module,
        up=torch.cat([up_of(module)] * 2, 1),
        down=torch.cat([down_of(module)] * 2),
        alpha=6.0,
    )
    resized = resize(of_modules([doubled]), 5)
    assert ranks(resized) == [3]
    assert_resized_well(resized, of_modules([doubled]))


def test_alphas_move_into_the_factors():
    lora = make_lora(1, ranks=[4], alphas=[1.0, 8.0, -2.0, 4.0, 0.5, 100.0])
    resized = resize(lora, 2)
    assert_resized_well(resized, lora)
    assert all(module.alpha == module.rank == 2 for module in resized.modules.values())


def test_alpha_0_gives_zeros():
    resized = resize(make_lora(1, alphas=[0.0]), 2)
    for module in resized.modules.values():
        assert not np.any(oracle.module_delta(module))
        assert torch.isfinite(up_of(module)).all() and torch.isfinite(down_of(module)).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_zero_module_gets_rank_1(method: str):
    lora = each_module(make_lora(1, ranks=[3]), lambda m: with_factors(m, up=torch.zeros_like(up_of(m))))
    resized = resize(lora, 2, method=method, value=2.0 if method == "sv_ratio" else 0.9)
    for name, module in resized.modules.items():
        assert module.rank == 1
        assert module.weight_shape == lora.modules[name].weight_shape
        assert not np.any(oracle.module_delta(module))


def test_strengths_and_block_weights_are_kept():
    lora = each_module(at(make_lora(1), 0.3, -2.0), lambda m: replace(m, block_weight=0.5 if m.name == TEXT else 1.5))
    resized = resize(lora, 2)
    assert (resized.strength_model, resized.strength_clip) == (0.3, -2.0)
    assert_resized_well(resized, lora)
    assert {name: resized.strength_of(module) for name, module in resized.modules.items()} == {
        name: lora.strength_of(module) for name, module in lora.modules.items()
    }


def test_strength_0_is_kept_too():
    resized = resize(at(make_lora(1), 0.0), 2)
    assert len(resized.modules) == len(SHAPES)
    assert (resized.strength_model, resized.strength_clip) == (0.0, 0.0)


def test_modules_keep_their_order_and_the_input_is_not_changed():
    lora = make_lora(1)
    turned = replace(lora, modules=dict(reversed(lora.modules.items())))
    before = fingerprint(turned)
    assert list(resize(turned, 2).modules) == list(turned.modules)
    assert fingerprint(turned) == before


def test_badly_conditioned_factors_are_resized_well():
    gauge = rotation(4, 1) @ torch.diag(torch.logspace(-3, 3, 4, dtype=torch.float64)) @ rotation(4, 2)
    lora = each_module(make_lora(1), lambda m: regauged(m, gauge))
    assert_resized_well(resize(lora, 2), lora)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_input_precision_is_resized_well(dtype: torch.dtype):
    lora = make_lora(1, dtype=dtype)
    assert_resized_well(resize(lora, 2), lora)


def test_a_resize_is_reproducible_and_has_its_recipe():
    lora = make_lora(1)
    assert fingerprint(resize(lora, 2)) == fingerprint(resize(lora, 2))
    text = " ".join(resize(lora, 2, method="sv_fro", value=0.75).metadata.values())
    assert "sv_fro" in text and "0.75" in text and lora.name in text


@pytest.mark.parametrize("method", ["", "sv", "sv_sum", "FIXED"])
def test_unknown_methods_are_refused(method: str):
    with pytest.raises(LoraError) as caught:
        resize(make_lora(1), 2, method=method)
    assert all(known in str(caught.value) for known in METHODS)


@pytest.mark.parametrize(
    "method, value",
    [
        *(("sv_ratio", value) for value in (0.0, 0.99, -2.0, math.nan)),
        *((method, value) for method in ("sv_cumulative", "sv_fro") for value in (-0.1, 1.01, math.nan, math.inf)),
    ],
)
def test_values_out_of_their_range_are_refused(method: str, value: float):
    with pytest.raises(LoraError, match=method):
        resize(make_lora(1), 2, method=method, value=value)


def test_a_1x1_matrix_is_resized():
    module = LoraModule.of(LINEAR, torch.tensor([[3.0]]), torch.tensor([[-2.0]]), 1.0)
    assert np.allclose(oracle.module_delta(resize(of_modules([module]), 1).modules[LINEAR]), [[-6.0]])


@pytest.mark.parametrize(("method", "value"), [("sv_fro", 0.8), ("sv_cumulative", 0.5), ("sv_ratio", 3.0)])
def test_a_full_difference_gets_the_rank_that_a_lora_of_the_same_delta_gets(method: str, value: float):
    lora = make_lora(3, shapes={LINEAR: (40, 30)}, ranks=[24])
    delta = lora.modules[LINEAR].dense()
    difference = replace(lora, modules={LINEAR: Difference.of(LINEAR, delta)})
    ranks = [resize(one, 30, method=method, value=value).modules[LINEAR].rank for one in (lora, difference)]
    assert ranks[0] == ranks[1] < 24
