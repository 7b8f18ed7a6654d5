"""Compute.report_truncation: the norms of each module before and after it was truncated."""

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
def test_the_norms_before_and_after_truncation_are_reported(mode: str):
    loras, reported = [lora("a", 1), lora("b", 2)], []
    compute = replace(CPU, report_truncation=lambda kept, total: reported.append((kept, total)))
    truncated = merge_deltas(loras, mode, 0.7, rank=2, compute=compute)
    whole = merge_deltas(loras, mode, 0.7, rank=16)
    assert len(reported) == 2
    for (kept, total), after, before in zip(reported, dense(truncated), dense(whole), strict=True):
        assert kept == pytest.approx(float(after.square().sum()), rel=1e-5)
        assert total == pytest.approx(float(before.square().sum()), rel=1e-5)
        lost = float((before - after).square().sum())
        assert total - kept == pytest.approx(lost, rel=1e-3)


def test_concat_reports_no_truncation():
    reported = []
    compute = replace(CPU, report_truncation=lambda kept, total: reported.append((kept, total)))
    merge_factors([lora("a", 1), lora("b", 2)], "concat", compute=compute)
    assert reported == []


def test_reporting_does_not_change_the_result():
    loras = [lora("a", 1), lora("b", 2)]
    with_report = merge_deltas(
        loras, "add_svd", rank=2, compute=replace(CPU, report_truncation=lambda kept, total: None)
    )
    without = merge_deltas(loras, "add_svd", rank=2)
    assert with_report.metadata == without.metadata
    for (name, a), (other, b) in zip(to_state_dict(with_report).items(), to_state_dict(without).items(), strict=True):
        assert name == other and torch.equal(a, b)
