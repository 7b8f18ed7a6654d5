"""Properties of every merge, tested on random LoRAs with hypothesis."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.compute.context import Compute
from lora_pack.merge.merging.resize import METHODS as RESIZE_METHODS
from lora_pack.merge.merging.resize import resize
from lora_pack.merge.methods.registry import DELTA_MODES, FACTOR_MODES, method_of, using_seed
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import (
    SHAPES,
    STRENGTHS,
    at,
    down_of,
    each_module,
    examples,
    fingerprint,
    lora_lists,
    loras,
    make_lora,
    regauged,
    rotation,
    up_of,
    with_factors,
)
from lora_pack.tests.support.merging import (
    ALL_MODES,
    EXACT,
    SUMS,
    assert_deltas,
    assert_factors,
    assert_truncated_well,
    merge,
)

# The modes that compare values in computed bases, or computed variances: where exact values tie, rounding decides.
COMPUTED = ("knots_ties_svd", "core_ties_svd", "core_dare_ties_svd", "sce_svd")
untied_svd = st.sampled_from([mode for mode in DELTA_MODES if mode not in COMPUTED])
PEFT_MODES = [mode for mode in ALL_MODES if method_of(mode).name in {method_of(one).name for one in FACTOR_MODES}]
RANDOM = using_seed(ALL_MODES)
modes = st.sampled_from(ALL_MODES)
untied_modes = st.sampled_from([mode for mode in ALL_MODES if mode not in COMPUTED])
peft_without_dare = st.sampled_from([mode for mode in PEFT_MODES if mode not in RANDOM])
without_dare_or_order = st.sampled_from([m for m in ALL_MODES if m not in (*RANDOM, *COMPUTED, "np_svd")])
svd_without_dare = st.sampled_from([mode for mode in DELTA_MODES if mode not in RANDOM])
densities = st.sampled_from([0.0, 0.1, 0.29, 0.5, 0.75, 1.0])
seeds = st.integers(0, 2**64 - 1)

# Two ways of computing one result differ only by float32 rounding.
ROUNDING = 5e-6


def deltas(lora: Lora) -> dict[str, np.ndarray]:
    return {name: oracle.module_delta(module) for name, module in lora.modules.items()}


def assert_same(got: Lora, expected: dict[str, np.ndarray], within: float = ROUNDING, size: Lora | None = None) -> None:
    """Equal deltas; errors are relative to the expected ones, or to those of `size` if given."""
    found = deltas(got)
    assert set(found) == set(expected)
    for name, delta in expected.items():
        norm = np.linalg.norm(deltas(size)[name] if size else delta)
        assert np.linalg.norm(found[name] - delta) <= within * norm + 1e-30, name


@examples(150)
@given(lora_lists(), st.sampled_from(FACTOR_MODES), densities, seeds)
def test_factor_modes_equal_the_oracle(inputs: list[Lora], mode: str, density: float, seed: int):
    assert_factors(merge(mode, inputs, density, seed=seed), mode, inputs, density, seed)


@examples(150)
@given(lora_lists(), untied_svd, densities, seeds)
def test_delta_modes_equal_the_oracle(inputs: list[Lora], mode: str, density: float, seed: int):
    assert_deltas(merge(mode, inputs, density, seed=seed), mode, inputs, density, seed)


@examples(150)
@given(lora_lists(), untied_svd, densities, st.integers(0, 6), st.integers(0, 6))
def test_delta_modes_are_truncated_well(inputs: list[Lora], mode: str, density: float, rank: int, conv_rank: int):
    assert_truncated_well(merge(mode, inputs, density, rank, conv_rank), mode, inputs, density)


@examples(40)
@given(lora_lists(), modes, densities, st.integers(0, 8), st.sampled_from([torch.float32, torch.float16]))
def test_results_are_well_formed(inputs: list[Lora], mode: str, density: float, rank: int, dtype: torch.dtype):
    shapes = {name: m.weight_shape for lora in reversed(inputs) for name, m in lora.modules.items()}
    merged = merge(mode, inputs, density, rank, rank, compute=Compute(dtype=dtype))
    assert (merged.strength_model, merged.strength_clip) == (1.0, 1.0)
    assert list(merged.modules) == list(oracle.parts(inputs))
    for name, module in merged.modules.items():
        assert module.name == name
        assert module.block_weight == 1.0
        assert module.alpha == module.rank == module.up.shape[1] >= 1
        assert np.prod(module.weight_shape) == np.prod(shapes[name])
        assert module.up.shape[2:] == torch.Size([1] * (down_of(module).dim() - 2))
        for tensor in (up_of(module), down_of(module)):
            assert tensor.dtype == dtype
            assert tensor.is_contiguous()
            assert torch.isfinite(tensor).all()
            assert not tensor.requires_grad
    tensors = [tensor for module in merged.modules.values() for tensor in (up_of(module), down_of(module))]
    held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    assert sum(held.values()) <= 4 * sum(tensor.nbytes + 64 for tensor in tensors), "a tensor is a view of a larger one"


@examples(25)
@given(lora_lists(), modes, densities)
def test_inputs_are_not_changed(inputs: list[Lora], mode: str, density: float):
    before = [fingerprint(lora) for lora in inputs]
    merge(mode, inputs, density)
    resize(inputs[0], 2)
    assert [fingerprint(lora) for lora in inputs] == before


@examples(25)
@given(lora_lists(), modes, densities)
def test_results_share_no_memory_with_their_inputs(inputs: list[Lora], mode: str, density: float):
    """Both are in ComfyUI's cache, so writing into one must not change the other."""
    made = [merge(mode, inputs, density), resize(inputs[0], 50, 50)]
    own = {
        t.untyped_storage().data_ptr() for lora in inputs for m in lora.modules.values() for t in (up_of(m), down_of(m))
    }
    for lora in made:
        for module in lora.modules.values():
            assert not own & {
                up_of(module).untyped_storage().data_ptr(),
                down_of(module).untyped_storage().data_ptr(),
            }


@examples(30)
@given(lora_lists(), untied_modes, densities, st.sampled_from([2.0, 0.125, 3.7]))
def test_strengths_scale_the_result(inputs: list[Lora], mode: str, density: float, factor: float):
    once = deltas(merge(mode, inputs, density))
    scaled = deltas(merge(mode, [lora.with_strengths(factor, factor) for lora in inputs], density))
    for name, delta in once.items():
        # relative to the LoRAs: what is left after they cancel out is rounding
        norm = sum(np.linalg.norm(oracle.delta(part)) * abs(part.strength) for part in oracle.parts(inputs)[name])
        assert np.linalg.norm(scaled[name] - factor * delta) <= 4 * ROUNDING * factor * norm / max(density, 0.1), name


@examples(30)
@given(
    lora_lists(2),
    st.sampled_from([mode for mode in DELTA_MODES if mode in PEFT_MODES]),
    densities,
    st.lists(STRENGTHS, min_size=4, max_size=4),
)
def test_peft_s_modes_are_linear_in_each_strength(
    inputs: list[Lora], mode: str, density: float, strengths: Sequence[float]
):
    """merge(v) + merge(w) = merge(v + w), because masks and election don't depend on the strengths."""
    v, w = strengths[:2], [0.37 * strength for strength in strengths[2:]]
    first, second, both = (
        merge(mode, [at(lora, x) for lora, x in zip(inputs, xs, strict=False)], density)
        for xs in (v, w, [a + b for a, b in zip(v, w, strict=True)])
    )
    size = [at(lora, abs(a) + abs(b)) for lora, a, b in zip(inputs, v, w, strict=False)]
    one, other = deltas(first), deltas(second)
    for name, delta in deltas(both).items():
        norm = sum(np.linalg.norm(oracle.delta(part)) * abs(part.strength) for part in oracle.parts(size)[name])
        error = np.linalg.norm(delta - one[name] - other[name])
        assert error <= ROUNDING * norm / max(density, 0.1) + 1e-30, name


@examples(30)
@given(lora_lists(), untied_modes, densities)
def test_negative_strengths_negate_the_result(inputs: list[Lora], mode: str, density: float):
    once = deltas(merge(mode, inputs, density))
    negated = merge(mode, [lora.with_strengths(-1, -1) for lora in inputs], density)
    assert_same(negated, {name: -delta for name, delta in once.items()})


@examples(30)
@given(loras(), peft_without_dare, densities)
def test_a_lora_and_its_negative_cancel(lora: Lora, mode: str, density: float):
    merged = merge(mode, [lora, lora.with_strengths(-1, -1)], density)
    for name, delta in deltas(merged).items():
        norm = np.linalg.norm(oracle.module_delta(lora.modules[name])) * abs(lora.strength_of(lora.modules[name]))
        assert np.linalg.norm(delta) <= ROUNDING * norm, name


@examples(30)
@given(lora_lists(), without_dare_or_order, densities, st.randoms(use_true_random=False))
def test_the_order_of_the_loras_does_not_matter(inputs: list[Lora], mode: str, density: float, order: random.Random):
    expected = merge(mode, inputs, density)
    shuffled = list(inputs)
    order.shuffle(shuffled)
    for name, delta in deltas(merge(mode, shuffled, density)).items():
        parts = oracle.parts(inputs)[name]
        norm = sum(np.linalg.norm(oracle.delta(part)) * abs(part.strength) for part in parts)
        assert np.linalg.norm(delta - deltas(expected)[name]) <= 4 * ROUNDING * norm, name


def untied(factor: torch.Tensor) -> torch.Tensor:
    return factor + 0.01 * torch.sin(torch.arange(factor.numel()) + 1.7).reshape(factor.shape)


@examples(30)
@given(lora_lists(), svd_without_dare, densities, st.integers(0, 1000))
def test_svd_modes_do_not_depend_on_the_factorisation(inputs: list[Lora], mode: str, density: float, seed: int):
    """(B G, G^-1 A) is the same LoRA."""
    inputs = [
        each_module(lora, lambda m: with_factors(m, up=up_of(m).float(), down=down_of(m).float())) for lora in inputs
    ]
    # avoid ties of magnitudes, which rounding would resolve one way or the other
    inputs = [
        each_module(lora, lambda m: with_factors(m, up=untied(up_of(m)), down=untied(down_of(m)))) for lora in inputs
    ]
    turned = [each_module(lora, lambda m: regauged(m, rotation(m.rank, seed))) for lora in inputs]
    expected = merge(mode, inputs, density)
    for name, delta in deltas(merge(mode, turned, density)).items():
        parts = oracle.parts(inputs)[name]
        norm = sum(np.linalg.norm(oracle.delta(part)) * abs(part.strength) for part in parts)
        assert np.linalg.norm(delta - deltas(expected)[name]) <= 1e-3 * norm, name


def doubled_alpha(lora: Lora) -> Lora:
    return each_module(lora, lambda m: replace(m, alpha=2 * m.alpha))


LINEAR_MODES = [*FACTOR_MODES, "add_svd", "dare_linear_svd", "magnitude_prune_svd"]


@examples(30)
@given(lora_lists(), st.sampled_from(LINEAR_MODES), densities)
def test_doubling_alpha_equals_doubling_the_strength(inputs: list[Lora], mode: str, density: float):
    by_alpha = merge(mode, [doubled_alpha(inputs[0]), *inputs[1:]], density)
    by_strength = merge(mode, [inputs[0].with_strengths(2, 2), *inputs[1:]], density)
    assert_same(by_alpha, deltas(by_strength))


@examples(30)
@given(loras(), modes, densities)
def test_doubling_alpha_equals_doubling_the_strength_of_a_single_lora_in_any_mode(
    lora: Lora, mode: str, density: float
):
    by_strength = merge(mode, [lora.with_strengths(2, 2)], density)
    assert_same(merge(mode, [doubled_alpha(lora)], density), deltas(by_strength))


@examples(40)
@given(loras(), modes)
def test_a_single_lora_is_merged_to_its_delta_times_its_strength(lora: Lora, mode: str):
    expected = {
        name: lora.strength_of(m) * oracle.module_delta(replace(m, block_weight=1.0))
        for name, m in lora.modules.items()
    }
    assert_same(merge(mode, [lora], 1.0), expected)


@examples(20)
@given(loras(), st.sampled_from([mode for mode in ALL_MODES if method_of(mode).uses_density]))
def test_density_0_leaves_zeros_of_rank_1(lora: Lora, mode: str):
    for module in merge(mode, [lora], 0.0).modules.values():
        assert module.rank == 1
        assert not up_of(module).any() and not down_of(module).any()


@examples(30)
@given(lora_lists(), lora_lists(2), st.sampled_from(["concat", "add_svd"]), STRENGTHS, STRENGTHS)
def test_exact_merges_can_be_nested(first: list[Lora], second: list[Lora], mode: str, v: float, w: float):
    nested = merge(mode, [at(merge(mode, first), v, w), merge(mode, second)])
    flat = [*(lora.with_strengths(v, w) for lora in first), *second]
    for name, delta in deltas(nested).items():
        parts = oracle.parts(flat)[name]
        norm = sum(np.linalg.norm(oracle.delta(part)) * abs(part.strength) for part in parts)
        expected = np.sum([part.strength * oracle.delta(part) for part in parts], axis=0)
        assert np.linalg.norm(delta - expected) <= EXACT * norm, name


@examples(30)
@given(lora_lists())
def test_concat_equals_loading_the_loras_one_after_the_other(inputs: list[Lora]):
    merged = merge("concat", inputs)
    for name, delta in deltas(merged).items():
        parts = oracle.parts(inputs)[name]
        expected = np.sum([part.strength * oracle.delta(part) for part in parts], axis=0)
        norm = sum(np.linalg.norm(oracle.delta(part)) * abs(part.strength) for part in parts)
        assert np.linalg.norm(delta - expected) <= EXACT * norm, name
        assert merged.modules[name].rank == sum(part.down.shape[0] for part in parts)


# The same inputs give the same bytes


@pytest.mark.parametrize("mode", ALL_MODES)
def test_the_same_merge_gives_the_same_bytes(mode: str):
    inputs = [make_lora(s, ranks=[3, 5]) for s in (1, 2)]
    first = fingerprint(merge(mode, inputs, 0.5, rank=3, seed=1))
    torch.manual_seed(99)
    np.random.seed(99)
    merge(mode, inputs[::-1], 0.3, rank=2, seed=2)
    assert fingerprint(merge(mode, inputs, 0.5, rank=3, seed=1)) == first


@pytest.mark.parametrize("mode", ALL_MODES)
def test_the_number_of_threads_does_not_change_the_result(mode: str):
    inputs = [make_lora(s, shapes={**SHAPES, "lora_unet_large": (90, 130)}) for s in (1, 2)]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = merge(mode, inputs, 0.5, seed=8)
        torch.set_num_threads(3)
        merged = merge(mode, inputs, 0.5, seed=8)
    finally:
        torch.set_num_threads(threads)
    assert_same(merged, deltas(expected), 1e-6 if mode in ("concat", *SUMS) else 1e-3)
    for name, delta in deltas(merged).items():
        assert np.array_equal(np.abs(delta) < 1e-5, np.abs(deltas(expected)[name]) < 1e-5), "the same masks"


@pytest.mark.parametrize("mode", ALL_MODES)
def test_the_order_of_the_modules_does_not_matter(mode: str):
    """A mask depends on the weight's name, not on its position."""
    inputs = [make_lora(s) for s in (1, 2)]
    turned = [replace(lora, modules=dict(reversed(lora.modules.items()))) for lora in inputs]
    expected, merged = (merge(mode, loras, 0.5, rank=3, seed=8) for loras in (inputs, turned))
    assert list(merged.modules) == list(reversed(expected.modules))
    for name, module in merged.modules.items():
        assert torch.equal(up_of(module), up_of(expected.modules[name]))
        assert torch.equal(down_of(module), down_of(expected.modules[name]))


@pytest.mark.parametrize("mode", ALL_MODES)
def test_a_module_does_not_depend_on_the_other_modules(mode: str):
    inputs = [make_lora(s) for s in (1, 2)]
    merged = merge(mode, inputs, 0.5, rank=3, seed=8)
    for name, module in merged.modules.items():
        alone = merge(mode, [replace(x, modules={name: x.modules[name]}) for x in inputs], 0.5, rank=3, seed=8)
        assert torch.equal(up_of(module), up_of(alone.modules[name])), name
        assert torch.equal(down_of(module), down_of(alone.modules[name])), name


@pytest.mark.parametrize("mode", RANDOM)
def test_another_seed_gives_another_result(mode: str):
    inputs = [make_lora(1)]
    first, second = (merge(mode, inputs, 0.5, seed=seed) for seed in (0, 1))
    assert all(not torch.equal(up_of(first.modules[name]), up_of(second.modules[name])) for name in first.modules)


@pytest.mark.parametrize("mode", [mode for mode in ALL_MODES if mode not in RANDOM])
def test_other_modes_do_not_depend_on_the_seed(mode: str):
    inputs = [make_lora(s) for s in (1, 2)]
    first, second = (merge(mode, inputs, 0.5, rank=3, seed=seed) for seed in (0, 12345))
    assert fingerprint(first) == fingerprint(second)


@pytest.mark.parametrize("operation", [*ALL_MODES, "resize"])
def test_global_random_states_are_not_changed(operation: str):
    def states() -> tuple[bytes, str, str]:
        return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), repr(random.getstate())

    inputs = [make_lora(s, shapes={"lora_unet_large": (140, 130)}) for s in (1, 2)]
    before = states()
    if operation == "resize":
        for method in RESIZE_METHODS:
            resize(inputs[0], 2, method=method, value=2.0 if method == "sv_ratio" else 0.5)
    else:
        merge(operation, inputs, 0.5, rank=4, seed=3)
    assert states() == before


@pytest.mark.parametrize("mode", ALL_MODES)
def test_inference_mode_does_not_change_the_result(mode: str):
    """ComfyUI runs nodes in inference mode."""
    inputs = [make_lora(s) for s in (1, 2)]
    expected = merge(mode, inputs, 0.5, rank=3)
    with torch.inference_mode():
        inside = merge(mode, inputs, 0.5, rank=3)
        again = merge("add_svd", [inside], rank=2)
    assert fingerprint(inside) == fingerprint(expected)
    assert fingerprint(merge("add_svd", [inside], rank=2)) == fingerprint(again)
