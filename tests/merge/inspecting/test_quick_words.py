"""The words on a merger's line: right for whole LoRAs, silent where there is nothing to say, and cheap."""

from __future__ import annotations

import math
import time

import pytest
import torch
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.formats import from_state_dict
from lora_pack.merge.inspecting import quick_words as module
from lora_pack.merge.inspecting.quick_words import quick_words
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.tests.support.families import NAME, normal
from lora_pack.tests.support.makers import at, make_lora

COUNT, SIZE = 60, 320


def lora(name: str, seed: int, shared: float = 0.0) -> Lora:
    """A LoRA of rank 4 on many weights, with this share of its input directions from another one."""
    modules = {}
    for number in range(COUNT):
        key = f"lora_unet_imagined_blocks_{number}_to_q"
        up, down = normal(seed + number, SIZE, 4), normal(seed + number + 500, 4, SIZE)
        common = normal(number + 99, 4, SIZE)
        modules[key] = LoraModule.of(key, up, math.sqrt(1 - shared) * down + math.sqrt(shared) * common, 4.0)
    return Lora(name, modules)


def test_nothing_is_said_of_independent_loras_of_one_strength():
    assert quick_words([lora("a", 1000), lora("b", 2000)]) == ""


@pytest.mark.parametrize(("strength", "is_said"), [(3.5, False), (4.5, True), (-80.0, True)])
def test_a_strong_imbalance_is_named(strength: float, is_said: bool):
    words = quick_words([lora("a", 1000), at(lora("b", 2000), strength)])
    assert words.startswith("b about ") is is_said
    if is_said:
        assert len(words.split()) == 5 and words.endswith(" times stronger")


def test_no_imbalance_is_named_where_the_merge_evens_it_out():
    loras = [lora("a", 1).with_strengths(50, 50), lora("b", 2)]
    assert "times stronger" in quick_words(loras)
    assert quick_words(loras, are_equalised=True) == ""


def test_a_strong_overlap_is_named():
    words = quick_words([lora("a", 1000, 0.8), lora("b", 2000, 0.8)])
    assert words == "a and b overlap strongly" and len(words.split()) == 5
    assert quick_words([lora("a", 1000), lora("b", 2000, 0.8), lora("c", 3000, 0.8)]) == "b and c overlap strongly"
    three = [lora(name, seed, 0.8) for name, seed in (("a", 1000), ("b", 2000), ("c", 3000))]
    assert quick_words(three) == "3 pairs of LoRAs overlap strongly"


def test_both_are_named():
    words = quick_words([lora("a", 1000, 0.8), at(lora("b", 2000, 0.8), 10.0)])
    assert "times stronger, a and b overlap strongly" in words


def test_long_names_are_shortened():
    words = quick_words([lora("a", 1000), at(lora("a_very_long_name_of_a_lora_with_an_end", 2000), 9.0)])
    assert "…" in words and len(words) < 60


@pytest.mark.parametrize("count", [0, 1])
def test_one_lora_or_none_has_no_words(count: int):
    assert quick_words([lora("a", 1000)][:count]) == ""


def test_what_a_merge_refuses_is_left_to_the_merge():
    names = {"lora_unet_double_blocks_0_img_attn_qkv": 3072, "lora_unet_joint_blocks_0_x_block_attn_qkv": 1536}
    flux, sd3 = (
        Lora(name, {name: LoraModule.of(name, torch.ones(3 * width, 1), torch.ones(1, width), 1.0)})
        for name, width in names.items()
    )
    assert quick_words([flux, sd3]) == ""
    state = {f"{NAME}.lora_up.weight": normal(1, 8, 2), f"{NAME}.lora_down.weight": normal(2, 2, 6)}
    dora = from_state_dict(state | {f"{NAME}.dora_scale": torch.ones(1, 6)}, "dora")
    assert quick_words([dora, make_lora(1)]) == ""


def test_only_some_weights_are_measured(monkeypatch: pytest.MonkeyPatch):
    measured = []
    as_product = module.as_product
    monkeypatch.setattr(module, "as_product", lambda adapter: measured.append(adapter.name) or as_product(adapter))
    quick_words([lora("a", 1000), lora("b", 2000)])
    assert 2 <= len(measured) <= 2 * math.ceil(module.SHARE_SAMPLED * COUNT + 1)


@pytest.mark.slow
def test_it_takes_a_small_part_of_an_exact_merge():
    """Bounded at 5 % on real LoRAs; here loosely, because small weights leave more to the bookkeeping."""
    loras = [lora("a", 1000), lora("b", 2000)]

    def seconds(work) -> float:
        times = []
        for _ in range(5):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        return min(times)

    words = seconds(lambda: quick_words(loras))
    assert words < 0.25 * seconds(lambda: merge_deltas(loras, "add_svd", 1.0, 8, 0, 0))
