"""The warning about nearly parallel LoRAs in modes that multiply them with each other, and what the check costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.merging.key_resolver import resolver_for
from lora_pack.merge.merging.matching import group_by_weight
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.merging.parallel_check import (
    FREE_WORK,
    MOST_COMPARED,
    NEAR_PARALLEL,
    WORK_PER_ELEMENT,
    ParallelCheck,
)
from lora_pack.merge.methods.registry import FACTOR_MODES
from lora_pack.merge.numerics.gram import delta_gram
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import (
    at,
    down_of,
    each_module,
    examples,
    lora_lists,
    make_lora,
    up_of,
    with_factors,
)

# modes that add the LoRAs' factors
ADDING = ("add", "dare_linear", "magnitude_prune")


def noisy(lora: Lora, noise: float, seed: int, name: str) -> Lora:
    """The same LoRA some epochs later: its factors with noise of this relative size."""
    other = make_lora(seed, ranks=[4])

    def changed(module: LoraModule) -> LoraModule:
        there = other.modules[module.name]
        assert isinstance(there, LoraModule)
        return with_factors(
            module,
            up=up_of(module) + noise * up_of(there),
            down=down_of(module) + noise * down_of(there),
        )

    return replace(each_module(lora, changed), name=name)


def cosine(a: Lora, b: Lora) -> float:
    """The cosine over all weights that both have, in float64."""
    first, second = oracle.parts([a]), oracle.parts([b])
    both = [(oracle.delta(x[0]), oracle.delta(second[name][0])) for name, x in first.items() if name in second]
    inner, one, other = (
        sum(float((x * y).sum()) for x, y in pairs)
        for pairs in (both, [(x, x) for x, _ in both], [(y, y) for _, y in both])
    )
    return inner / np.sqrt(one * other)


def note_of(merged: Lora) -> str:
    return "".join(note for note in merged.notes if "parallel" in note)


@examples(100)
@given(lora_lists())
def test_delta_gram_gives_the_inner_products_of_the_deltas(loras: list[Lora]):
    for name, adapters in oracle.parts(loras).items():
        ups = [torch.from_numpy(part.up).float() for part in adapters]
        downs = [torch.from_numpy(part.down).float() for part in adapters]
        weights = [part.strength * part.scale for part in adapters]
        deltas = np.stack([part.strength * oracle.delta(part) for part in adapters]).reshape(len(adapters), -1)
        expected = deltas @ deltas.T
        scale = np.sqrt(np.outer(expected.diagonal(), expected.diagonal())) + 1e-300
        assert np.abs(delta_gram(ups, downs, weights).numpy() - expected).max() <= 1e-5 * scale.max(), name


@pytest.mark.parametrize("mode", ADDING)
@pytest.mark.parametrize("strengths", [(1.0, 1.0), (0.5, -0.5), (0.1, 2.0)])
def test_epochs_of_one_training_are_warned_about(
    mode: str, strengths: tuple[float, float], caplog: pytest.LogCaptureFixture
):
    first = make_lora(1, name="epoch 8")
    loras = [at(first, strengths[0]), at(noisy(first, 0.1, 2, "epoch 9"), strengths[1])]
    note = note_of(merge_factors(loras, mode, 1.0))
    assert note.startswith("epoch 8 and epoch 9 are nearly parallel (cosine 0.9")
    assert f"so {mode} also adds up their cross terms" in note and "use concat or add_svd" in note
    assert note in caplog.text


@pytest.mark.parametrize("mode", sorted(set(FACTOR_MODES) - set(ADDING)))
def test_modes_without_cross_terms_and_averaging_modes_do_not_warn(mode: str):
    first = make_lora(1)
    assert not note_of(merge_factors([first, noisy(first, 0.1, 2, "later")], mode, 1.0))


def test_unrelated_loras_cause_no_warning():
    assert not note_of(merge_factors([make_lora(1), make_lora(2), make_lora(3)], "add"))
    assert not note_of(merge_factors([make_lora(1)], "add"))
    assert not note_of(merge_factors([], "add"))


def test_the_warning_starts_at_the_threshold():
    first = make_lora(1, name="first")
    found = {True: 0, False: 0}
    for noise in np.linspace(0.2, 1.0, 41):
        second = noisy(first, float(noise), 2, "second")
        true = abs(cosine(first, second))
        if abs(true - NEAR_PARALLEL) > 1e-5:
            near = true > NEAR_PARALLEL
            assert bool(note_of(merge_factors([first, second], "add"))) == near, true
            found[near] += 1
    assert min(found.values()) > 5


def test_the_warning_says_how_much_too_strong_the_result_is():
    lora = make_lora(1, name="same")
    for count in (2, 3):
        merged = merge_factors([lora] * count, "add")
        assert f"The result is {count:.1f} times as strong as the sum." in note_of(merged)
    # the same delta in factors that have nothing in common with the first's: parallel, but hardly stronger
    other = each_module(lora, lambda m: with_factors(m, up=up_of(m).flip(1), down=down_of(m).flip(0)))
    assert "times as strong" not in note_of(merge_factors([lora, at(other, -0.5)], "add"))


def test_the_warning_names_the_most_parallel_pair():
    first = make_lora(1, name="a")
    loras = [
        make_lora(5, name="x"),
        first,
        noisy(first, 0.3, 2, "b"),
        make_lora(6, name="y"),
        noisy(first, 0.05, 3, "c"),
    ]
    assert note_of(merge_factors(loras, "add")).startswith("a and c are nearly parallel")


def test_weights_of_only_one_lora_do_not_count():
    first = make_lora(1, name="a")
    few = dict(list(first.modules.items())[:2])
    second = replace(first, name="b", modules=few)
    assert "(cosine 1.00)" in note_of(merge_factors([first, second], "add"))
    apart = replace(second, modules=dict(list(first.modules.items())[2:]))
    assert not note_of(merge_factors([second, apart], "add"))


def test_only_the_first_of_many_loras_are_compared():
    lora, others = make_lora(1, name="a"), [make_lora(n) for n in range(10, 10 + MOST_COMPARED)]
    assert note_of(merge_factors([lora, *others[2:], replace(lora, name="b")], "add"))
    assert not note_of(merge_factors([lora, *others, replace(lora, name="b")], "add"))


@pytest.mark.parametrize("rank", [8, 32, 64])
def test_the_check_is_cheap_and_compares_weights_all_over_the_model(rank: int):
    width, count = 1280, 1000
    up, down = torch.ones(1, 1).expand(width, rank), torch.ones(1, 1).expand(rank, width)
    modules = {f"layer{n}": LoraModule.of(f"layer{n}", up, down, 1.0) for n in range(count)}
    loras = [Lora(name, modules) for name in "ab"]
    groups = group_by_weight(loras, resolver_for(loras))
    chosen = ParallelCheck(loras, groups)._chosen
    elements = 2 * width * 2 * rank
    assert len(chosen) * elements * 2 * rank <= 1.2 * (WORK_PER_ELEMENT * count * elements + FREE_WORK)
    places = [n for n, group in enumerate(groups) if group.weight in chosen]
    assert len(places) > 5 and np.diff([0, *places, count]).max() <= 4 * count / len(places)
    assert len({n % 10 for n in places}) >= 5, "the same places in every block of ten"


def test_zeros_are_parallel_to_nothing():
    zero = each_module(make_lora(1), lambda m: with_factors(m, up=torch.zeros_like(up_of(m))))
    assert not note_of(merge_factors([zero, zero], "add"))


def test_products_that_overflow_are_no_fault():
    lora = each_module(make_lora(1), lambda m: with_factors(m, up=up_of(m) * 1e18, down=down_of(m) * 1e18))
    merged = merge_factors([lora, lora], "add")
    assert merged.modules and "nan" not in note_of(merged)
