"""Where a mode isn't defined, the merge says so: for weights as for biases."""

from __future__ import annotations

import pytest
import torch
from lora_pack.merge.adapters.base import Difference, Lora, LoraModule, by_key
from lora_pack.merge.merging.merge_deltas import merge_deltas

NAME = "lora_unet_mid_block_attentions_0_proj_in"


def weight() -> LoraModule:
    noise = torch.Generator().manual_seed(1)
    return LoraModule.of(NAME, torch.randn(6, 2, generator=noise), torch.randn(2, 5, generator=noise), 2.0)


def bias() -> Difference:
    return Difference.of(NAME, torch.arange(1.0, 7.0), "bias")


@pytest.mark.parametrize("make", [weight, bias])
def test_karcher_of_opposite_loras_says_that_it_gives_the_sum(make):
    lora = Lora("one", by_key([make()]))
    merged = merge_deltas([lora, lora.with_strengths(-1, -1)], "karcher_svd")
    (note,) = [note for note in merged.notes if "karcher_svd" in note]
    assert NAME in note and "opposite directions" in note
