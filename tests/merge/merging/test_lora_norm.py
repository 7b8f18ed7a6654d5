"""The norm of a whole LoRA against its dense deltas."""

from __future__ import annotations

import pytest
import torch
from lora_pack.merge.adapters.base import Lora, Replacement, by_key, with_block_weight
from lora_pack.merge.errors import LoraError
from lora_pack.merge.formats import from_state_dict
from lora_pack.merge.merging.lora_norm import lora_norm
from lora_pack.tests.support import families


def dense_norm(lora: Lora) -> float:
    return sum(float((m.block_weight * m.dense().double()).square().sum()) for m in lora.modules.values()) ** 0.5


@pytest.mark.parametrize("make", [families.lora, families.loha, families.difference])
def test_the_norm_is_that_of_all_deltas(make):
    lora = from_state_dict(make(3), "some")
    assert lora_norm(lora) == pytest.approx(dense_norm(lora), rel=1e-5)


def test_block_weights_count_and_strengths_do_not():
    lora = from_state_dict(families.lora(3), "some")
    halved = Lora("some", by_key(with_block_weight(module, -0.5) for module in lora.modules.values()), 3.0, 0.0)
    assert lora_norm(halved) == pytest.approx(0.5 * dense_norm(lora), rel=1e-5)


def test_replaced_parameters_do_not_count():
    lora = from_state_dict(families.lora(3), "some")
    more = Lora("some", {**lora.modules, "x": Replacement("x", torch.ones(3))})
    assert lora_norm(more) == lora_norm(lora)


def test_a_change_that_needs_the_model_is_refused():
    state = families.lora(3)
    module = next(key for key in state if key.endswith(".lora_up.weight")).removesuffix(".lora_up.weight")
    state[f"{module}.dora_scale"] = torch.ones(state[f"{module}.lora_up.weight"].shape[0], 1)
    with pytest.raises(LoraError, match="depends on the model's own weight"):
        lora_norm(from_state_dict(state, "some"))
