"""Both mergers against the float64 oracle: every mode on every kind of weight, grouping, strengths, bad settings."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from lora_pack.merge.adapters.base import LoraModule
from lora_pack.merge.compute.context import Compute
from lora_pack.merge.errors import LoraError
from lora_pack.merge.formats import to_state_dict
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.methods.registry import DELTA_MODES, FACTOR_MODES
from lora_pack.merge.names.prefixes import canonical
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import (
    CONV1,
    CONV3,
    LINEAR,
    TEXT,
    as_matrix,
    at,
    down_of,
    each_module,
    make_lora,
    make_module,
    of_modules,
    spectral_lora,
    up_of,
    with_factors,
)
from lora_pack.tests.support.masking import plain
from lora_pack.tests.support.merging import (
    ALL_MODES,
    EXACT,
    FACTORS,
    KINDS,
    MIXED,
    assert_deltas,
    assert_factors,
    assert_merged,
    expected_delta,
    merge,
    three_loras,
)

PRUNING = ("ties", "dare_linear", "dare_ties", "magnitude_prune")


@pytest.mark.sampled(5)
@pytest.mark.parametrize("kind", [*KINDS, MIXED])
@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize("density", [1.0, 0.57])
def test_every_mode_on_every_kind_of_weight(kind: str, mode: str, density: float):
    loras = three_loras(kind)
    assert_merged(merge(mode, loras, density, seed=7), mode, loras, density, seed=7)


@pytest.mark.parametrize("density", [0.1, 0.29, 0.5, 0.9])
@pytest.mark.parametrize("mode", ["ties", "magnitude_prune", "ties_svd", "magnitude_prune_svd"])
def test_pruning_keeps_the_first_of_tied_magnitudes(mode: str, density: float):
    """With whole numbers and scales of 2 products are exact, so exactly the oracle's elements must be kept."""
    loras = [at(make_lora(s, ranks=[3, 4], alphas=[6.0, 8.0], whole=True), s - 1.5) for s in (1, 2)]
    assert_merged(merge(mode, loras, density), mode, loras, density)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("first, second", [("float16", "float16"), ("bfloat16", "float16"), ("float16", "float32")])
@pytest.mark.parametrize("mode", ALL_MODES)
def test_inputs_are_not_rounded_before_the_merge(mode: str, first: str, second: str):
    """The values of the files are merged in float32 or better, not rounded to a common type first."""
    loras = [at(make_lora(s, dtype=getattr(torch, d), ranks=[2, 3]), 0.6 * s) for s, d in ((1, first), (2, second))]
    assert_merged(merge(mode, loras, 0.5), mode, loras, 0.5)


def test_a_lora_is_pruned_at_its_own_rank_before_padding():
    """Half of a rank-1 up of four values is two values, not half of the eight it is padded to."""
    one = of_modules(
        [LoraModule.of(LINEAR, torch.tensor([[4.0], [3], [2], [1]]), torch.tensor([[1.0, 2]]), 1.0)], "one"
    )
    up = torch.tensor([[8.0, 1], [1, 7], [6, 1], [1, 5]])
    two = of_modules([LoraModule.of(LINEAR, up, torch.tensor([[5.0, 1], [1, 6]]), 2.0)], "two")
    module = merge_factors([one, two], "magnitude_prune", 0.5).modules[LINEAR]
    assert torch.equal(up_of(module), torch.tensor([[12.0, 0], [3, 7], [6, 0], [0, 5]]))
    assert torch.equal(down_of(module), torch.tensor([[5.0, 2], [0, 6]]))


def test_the_sign_of_a_strength_goes_into_down():
    """PEFT's split: ups are scaled by sqrt|w|, downs by sign(w) sqrt|w|."""
    module = LoraModule.of(LINEAR, torch.tensor([[2.0], [3.0]]), torch.tensor([[5.0, -1.0]]), 2.0)
    for mode in FACTOR_MODES:
        merged = merge_factors([at(of_modules([module]), -8.0)], mode).modules[LINEAR]
        assert torch.equal(up_of(merged), torch.tensor([[8.0], [12.0]]))
        assert torch.equal(down_of(merged), torch.tensor([[-20.0, 4.0]]))


def test_a_negative_strength_subtracts_without_changing_the_election():
    one = of_modules([LoraModule.of(LINEAR, torch.tensor([[3.0]]), torch.tensor([[1.0, -2.0]]), 1.0)], "one")
    two = of_modules([LoraModule.of(LINEAR, torch.tensor([[1.0]]), torch.tensor([[-1.0, 3.0]]), 1.0)], "two")
    # deltas [3, -6] and [-1, 3]: [2, -3] elects plus and minus, whatever the strengths
    for weights in ((1.0, 1.0), (0.1, 10.0), (-1.0, 1.0), (1.0, -5.0)):
        module = merge_deltas([at(one, weights[0]), at(two, weights[1])], "ties_svd").modules[LINEAR]
        assert np.allclose(oracle.module_delta(module), [[3 * weights[0], -6 * weights[0]]], rtol=1e-6)


def test_alphas_count_in_the_election_on_deltas_but_not_on_factors():
    """Deltas include alpha, so a larger alpha outvotes. On factors alpha is a weight, and weights don't vote."""
    one = of_modules([LoraModule.of(LINEAR, torch.tensor([[1.0]]), torch.tensor([[2.0]]), 1.0)], "one")
    two = of_modules([LoraModule.of(LINEAR, torch.tensor([[1.0]]), torch.tensor([[-1.0]]), 4.0)], "two")
    on_deltas = merge_deltas([one, two], "ties_svd").modules[LINEAR]
    assert np.allclose(oracle.module_delta(on_deltas), [[-4.0]], rtol=1e-6)
    on_factors = merge_factors([one, two], "ties").modules[LINEAR]
    assert np.allclose(oracle.module_delta(on_factors), [[3.0]], rtol=1e-6)  # up (1 + 2) / 2, down 2


# Grouping by weight


@pytest.mark.parametrize("mode", ALL_MODES)
def test_a_module_of_only_one_lora_is_pruned_too(mode: str):
    """PEFT falls back to linear for a single adapter; here the mode acts on every module."""
    first = make_lora(1, shapes={LINEAR: (14, 11), CONV3: (8, 5, 3, 3)})
    second = make_lora(2, shapes={LINEAR: (14, 11)})
    for loras in ([first, second], [first]):
        assert_merged(merge(mode, loras, 0.5), mode, loras, 0.5)


@pytest.mark.parametrize("mode", ALL_MODES)
def test_modules_are_in_order_of_first_appearance(mode: str):
    first = make_lora(1, shapes={TEXT: (4, 3), LINEAR: (5, 4)})
    second = make_lora(2, shapes={CONV3: (3, 2, 3, 3), LINEAR: (5, 4), CONV1: (4, 4, 1, 1)})
    assert list(merge(mode, [first, second]).modules) == [TEXT, LINEAR, CONV3, CONV1]
    assert list(merge(mode, [second, first]).modules) == [CONV3, LINEAR, CONV1, TEXT]


@pytest.mark.parametrize(
    "one, other, written",
    [
        ("lora_unet_mid_block_attentions_0_proj_in", "unet.mid_block.attentions.0.proj_in", 0),
        ("unet.mid_block.attentions.0.proj_in", "lora_unet_mid_block_attentions_0_proj_in", 1),
        ("diffusion_model.blocks.0.self_attn.q", "lora_unet_blocks_0_self_attn_q", 0),
        ("lora_unet_blocks_0_self_attn_q", "diffusion_model.blocks.0.self_attn.q", 0),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1", "text_encoder.text_model.encoder.layers.0.mlp.fc1", 0),
    ],
)
def test_different_names_of_one_weight_are_merged(one: str, other: str, written: int):
    """If both were in one file, ComfyUI would load the last one and drop the other."""
    first, second = (of_modules([make_module(name, (9, 7), 3, s)], f"l{s}") for s, name in ((1, one), (2, other)))
    merged = merge_factors([first, second], "concat")
    (module,) = merged.modules.values()
    expected = oracle.module_delta(first.modules[one]) + oracle.module_delta(second.modules[other])
    assert oracle.distance(oracle.module_delta(module), expected) <= EXACT
    name = (one, other)[written]  # the first LoRA's, or kohya's if ComfyUI does not map the first LoRA's
    assert set(to_state_dict(merged)) == {f"{name}.lora_up.weight", f"{name}.lora_down.weight", f"{name}.alpha"}


@pytest.mark.parametrize("mode", ALL_MODES)
def test_a_1x1_convolution_merged_with_a_matrix_stays_a_convolution(mode: str):
    conv = make_lora(1, shapes={CONV1: (9, 12, 1, 1)})
    matrix = each_module(make_lora(2, shapes={CONV1: (9, 12, 1, 1)}), as_matrix)
    for loras in ([conv, matrix], [matrix, conv]):
        module = merge(mode, loras).modules[CONV1]
        assert module.weight_shape == (9, 12, 1, 1)
        assert module.up.shape[2:] == (1, 1)
    assert merge(mode, [matrix, matrix]).modules[CONV1].weight_shape == (9, 12)


@pytest.mark.parametrize("mode", ["concat", "ties", "add_svd", "dare_ties_svd"])
@pytest.mark.parametrize(
    "one, other",
    [
        ((32, 76), (32, 102)),
        ((9, 12), (12, 12)),
        ((8, 5, 3, 3), (8, 5, 1, 1)),
        ((8, 6, 3), (8, 6, 5)),
        ((8, 2, 3, 3), (8, 3, 2, 3)),  # of equal size
        ((8, 18, 1, 1), (8, 2, 3, 3)),
    ],
)
def test_merge_refuses_loras_with_different_shapes(mode: str, one: tuple[int, ...], other: tuple[int, ...]):
    first, second = (make_lora(s, name=n, shapes={CONV1: x}) for s, n, x in ((1, "sd15", one), (2, "sdxl", other)))
    with pytest.raises(LoraError) as caught:
        merge(mode, [make_lora(3, shapes={LINEAR: (5, 5)}), first, second])
    for word in ("sd15", "sdxl", CONV1, *map(str, (*one, *other))):
        assert word in str(caught.value), word


def test_different_shapes_are_refused_before_any_work():
    first = make_lora(1, shapes={LINEAR: (8, 8), CONV1: (9, 12)})
    second = make_lora(2, shapes={LINEAR: (8, 8), CONV1: (9, 11)})
    done: list[int] = []
    with pytest.raises(LoraError, match=CONV1):
        merge("ties_svd", [first, second], compute=Compute(progress=lambda *step: done.append(step[0])))
    assert not any(done)


# Strengths


@pytest.mark.parametrize("mode", ALL_MODES)
def test_strength_0_drops_a_lora_from_one_part_of_the_model(mode: str):
    """It has no vote and adds no rank, and modules that only it has are left out."""
    shapes = {LINEAR: (14, 11), TEXT: (12, 8)}
    first, second = make_lora(1, shapes=shapes, ranks=[2]), make_lora(2, shapes=shapes, ranks=[4])
    extra = make_lora(3, shapes={CONV3: (8, 5, 3, 3), TEXT: (12, 8)}, ranks=[3])
    merged = merge(mode, [first, at(second, 0.0, 1.0), at(extra, 0.0, 1.0)], rank=0)
    assert list(merged.modules) == [LINEAR, TEXT]
    assert merged.modules[LINEAR].rank == 2
    assert torch.equal(up_of(merged.modules[LINEAR]), up_of(merge(mode, [first], rank=0).modules[LINEAR]))
    assert torch.equal(
        up_of(merged.modules[TEXT]),
        up_of(merge(mode, [first, second, extra], rank=0).modules[TEXT]),
    )


@pytest.mark.parametrize("mode", ALL_MODES)
def test_a_merge_at_strength_0_is_an_empty_lora(mode: str):
    lora = make_lora(1)
    for loras in ([at(lora, 0.0)], [at(lora, 0.0), at(lora, -0.0)], [of_modules([], "empty")]):
        merged = merge(mode, loras)
        assert not merged.modules
        assert (merged.strength_model, merged.strength_clip) == (1.0, 1.0)


@pytest.mark.parametrize("mode", ["dare_linear", "dare_ties_svd"])
def test_switching_a_lora_off_does_not_change_the_masks_of_the_others(mode: str):
    """Masks depend on the input index before LoRAs at strength 0 are dropped."""
    loras = [make_lora(s, shapes={LINEAR: (14, 11)}) for s in (1, 2, 3)]
    off = [loras[0], at(loras[1], 0.0), loras[2]]
    merged = merge(mode, off, 0.5, seed=4)
    assert_merged(merged, mode, off, 0.5, seed=4)
    assert not torch.equal(
        up_of(merged.modules[LINEAR]),
        up_of(merge(mode, [loras[0], loras[2]], 0.5, seed=4).modules[LINEAR]),
    )


@pytest.mark.parametrize("mode", ALL_MODES)
def test_block_weights_multiply_the_strength(mode: str):
    weights = {LINEAR: 0.5, CONV3: 0.0}
    weighted = each_module(make_lora(1), lambda m: replace(m, block_weight=weights.get(m.name, -2.0)))
    loras = [at(weighted, 0.4, 3.0), make_lora(2, ranks=[3])]
    merged = merge(mode, loras, 0.7)
    for name, module in merged.modules.items():
        assert module.block_weight == 1.0
        expected = expected_delta(mode, loras, name, 0.7)
        assert oracle.distance(oracle.module_delta(module), expected) <= FACTORS, name


@pytest.mark.parametrize("mode", ["concat", "ties", "add_svd", "ties_svd"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_nan_or_infinite_strength_is_refused(mode: str, bad: float):
    with pytest.raises(LoraError, match="odd"):
        merge(mode, [at(make_lora(1, name="odd"), bad)])


# Settings and unusual values


@pytest.mark.parametrize("density", [-0.01, 1.01, math.nan, math.inf])
@pytest.mark.parametrize("mode", ALL_MODES)
def test_densities_outside_0_to_1_are_refused(mode: str, density: float):
    with pytest.raises(LoraError, match="density"):
        merge(mode, [make_lora(1)], density)


@pytest.mark.parametrize("mode", ["", "sum", "ties_svd", "add_svd", "TIES", "concat_svd"])
def test_unknown_factor_modes_are_refused(mode: str):
    with pytest.raises(LoraError) as caught:
        merge_factors([make_lora(1)], mode)
    assert all(known in str(caught.value) for known in FACTOR_MODES)


@pytest.mark.parametrize("mode", ["", "svd", "concat", "concat_svd", "ties_random_svd"])
def test_unknown_delta_modes_are_refused(mode: str):
    with pytest.raises(LoraError) as caught:
        merge_deltas([make_lora(1)], mode)
    assert all(known in str(caught.value) for known in DELTA_MODES)


@pytest.mark.parametrize("mode", DELTA_MODES)
def test_delta_modes_work_without_their_suffix(mode: str):
    loras = three_loras("linear")
    short, long = (merge_deltas(loras, m, 0.5, rank=3) for m in (plain(mode), mode))
    assert all(torch.equal(up_of(short.modules[name]), up_of(long.modules[name])) for name in long.modules)


@pytest.mark.parametrize("mode", [*PRUNING, *(f"{mode}_svd" for mode in PRUNING)])
def test_density_0_gives_zeros_of_rank_1(mode: str):
    loras = three_loras("3x3")
    merged = merge(mode, loras, 0.0)
    assert list(merged.modules) == [CONV1, TEXT]
    for name, module in merged.modules.items():
        assert module.weight_shape == loras[0].modules[name].weight_shape
        assert (module.rank, module.alpha) == (1, 1.0)
        assert not up_of(module).any() and not down_of(module).any()


@pytest.mark.parametrize("mode", PRUNING)
def test_density_1_changes_nothing(mode: str):
    loras = three_loras("3x3")
    unpruned = "ties" if mode.endswith("ties") else "add"
    assert_factors(merge_factors(loras, mode, 1.0), unpruned, loras, 1.0)
    assert_deltas(merge(f"{mode}_svd", loras, 1.0), f"{unpruned}_svd", loras, 1.0)


@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize("side", ["up", "down"])
def test_a_zero_lora_gives_zeros(mode: str, side: str):
    lora = each_module(
        make_lora(1), lambda m: with_factors(m, **{side: torch.zeros_like(getattr(m, side).materialize())})
    )
    for module in merge(mode, [lora], 0.5).modules.values():
        assert torch.isfinite(up_of(module)).all() and torch.isfinite(down_of(module)).all()
        assert not np.any(oracle.module_delta(module))
        assert module.rank == 1 or mode in FACTOR_MODES


@pytest.mark.sampled(5)
@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize("alpha", [0.0, -0.0, -4.0, 1e-3])
def test_unusual_alphas_are_valid(mode: str, alpha: float):
    """Alpha 0 adds nothing, a negative alpha subtracts."""
    loras = [make_lora(1, alphas=[alpha]), at(make_lora(2), 0.5)]
    merged = merge(mode, loras, 0.6)
    for name, module in merged.modules.items():
        expected = expected_delta(mode, loras, name, 0.6)
        assert oracle.distance(oracle.module_delta(module), expected) <= FACTORS, name


def test_large_singular_values_fit_into_half_precision():
    """A singular value of 1e5 fits into float16 if up and down each carry its root; U * S would be infinite."""
    lora = spectral_lora((30, 20), [1e5, 3e4, 1e3], 1)
    half = merge_deltas([lora], "add_svd", rank=2, compute=Compute(dtype=torch.float16)).modules[LINEAR]
    assert torch.isfinite(up_of(half)).all() and torch.isfinite(down_of(half)).all()
    expected = oracle.module_delta(merge_deltas([lora], "add_svd", rank=2).modules[LINEAR])
    assert oracle.distance(oracle.module_delta(half), expected) < 2e-3


@pytest.mark.parametrize("mode", ALL_MODES)
def test_non_contiguous_factors_are_merged(mode: str):
    module = make_module(LINEAR, (14, 11), 4, 1)
    strided = with_factors(
        module,
        up=up_of(module).T.contiguous().T,
        down=torch.stack([down_of(module)] * 2, -1)[..., 0],
    )
    assert not up_of(strided).is_contiguous() and not down_of(strided).is_contiguous()
    loras = [at(of_modules([strided], "strided"), 0.7), make_lora(2, shapes={LINEAR: (14, 11)})]
    assert_merged(merge(mode, loras), mode, loras, 0.6)


def test_two_names_of_one_weight_have_the_same_mask():
    """The mask depends on the weight's canonical name."""
    one, other = "lora_unet_mid_block_attentions_0_proj_in", "unet.mid_block.attentions.0.proj_in"
    assert canonical(one) == canonical(other)
    module = make_module(one, (9, 7), 3, 1)
    loras = [of_modules([replace(module, name=name)]) for name in (one, other)]
    first, second = (merge_factors([lora], "dare_linear", 0.5).modules.values() for lora in loras)
    assert all(
        torch.equal(up_of(a), up_of(b)) and torch.equal(down_of(a), down_of(b))
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("mode", ALL_MODES)
def test_the_metadata_has_the_recipe_and_nothing_that_varies(mode: str):
    loras = three_loras("linear")
    first, second = merge(mode, loras), merge(mode, loras)
    assert dict(first.metadata) == dict(second.metadata)
    text = " ".join(first.metadata.values())
    assert mode in text and all(lora.name in text for lora in loras)
    assert all(isinstance(value, str) for value in first.metadata.values())
