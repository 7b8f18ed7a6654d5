"""Compute.report_cut: what each module lost when it was cut to a rank."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.compute.context import CPU
from lora_pack.merge.formats import to_state_dict
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors


def lora(name: str, seed: int) -> Lora:
    noise = torch.Generator().manual_seed(seed)
    modules = {}
    for block in range(2):
        key = f"lora_unet_mid_block_attentions_{block}_proj_in"
        up, down = torch.randn(20, 3, generator=noise), torch.randn(3, 16, generator=noise)
        modules[key] = LoraModule.of(key, up, down, 3.0)
    return Lora(name, modules)


def dense(merged: Lora) -> list[torch.Tensor]:
    return [module.dense().double() for module in merged.modules.values()]


@pytest.mark.parametrize("mode", ["add_svd", "ties_svd"])
def test_the_norms_before_and_after_the_cut(mode: str):
    loras, cuts = [lora("a", 1), lora("b", 2)], []
    watched = replace(CPU, report_truncation=lambda kept, total: cuts.append((kept, total)))
    cut = merge_deltas(loras, mode, 0.7, rank=2, compute=watched)
    whole = merge_deltas(loras, mode, 0.7, rank=16)
    assert len(cuts) == 2
    for (kept, total), after, before in zip(cuts, dense(cut), dense(whole), strict=True):
        assert kept == pytest.approx(float(after.square().sum()), rel=1e-5)
        assert total == pytest.approx(float(before.square().sum()), rel=1e-5)
        lost = float((before - after).square().sum())
        assert total - kept == pytest.approx(lost, rel=1e-3)


def test_nothing_is_reported_where_nothing_is_cut():
    cuts = []
    watched = replace(CPU, report_truncation=lambda kept, total: cuts.append((kept, total)))
    merge_factors([lora("a", 1), lora("b", 2)], "concat", compute=watched)
    assert cuts == []


def test_the_result_is_the_same_whoever_listens():
    loras = [lora("a", 1), lora("b", 2)]
    heard = merge_deltas(loras, "add_svd", rank=2, compute=replace(CPU, report_truncation=lambda kept, total: None))
    unheard = merge_deltas(loras, "add_svd", rank=2)
    assert heard.metadata == unheard.metadata
    for (name, a), (other, b) in zip(to_state_dict(heard).items(), to_state_dict(unheard).items(), strict=True):
        assert name == other and torch.equal(a, b)
