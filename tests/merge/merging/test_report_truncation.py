"""Compute.report_truncation: the norms of each module before and after it was truncated."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lora_pack.merge.adapters.base import Difference, Lora, LoraModule, by_key
from lora_pack.merge.compute.context import CPU
from lora_pack.merge.formats import to_state_dict
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.merging.resize import resize, stored_bytes


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


@pytest.mark.parametrize("method, value", [("fixed", 0.9), ("sv_ratio", 2.0), ("sv_fro", 0.8)])
def test_a_resize_reports_what_is_lost_as_dense_float64_says(method: str, value: float):
    full = Difference.of("lora_unet_mid_block_attentions_0_proj_out", torch.randn(9, 12))
    factors = lora("a", 1)
    vector = Difference.of("norm", torch.ones(7))
    whole = replace(factors, modules=by_key([*factors.modules.values(), full, vector])).with_strengths(0.3, 2.0)
    reported: list[tuple[float, float]] = []
    compute = replace(CPU, report_truncation=lambda kept, total: reported.append((kept, total)))
    resized = resize(whole, 2, 0, method, value, compute)
    before, after = ([delta.numpy() for delta in dense(each) if delta.ndim > 1] for each in (whole, resized))
    assert len(reported) == len(before) == 3
    assert sum(total for _, total in reported) == pytest.approx(sum((d**2).sum() for d in before), rel=1e-5)
    lost = sum(((d - e) ** 2).sum() for d, e in zip(before, after, strict=True))
    assert sum(total - kept for kept, total in reported) == pytest.approx(lost, rel=1e-4)
    assert lost > 0


def test_a_resize_that_drops_nothing_loses_nothing():
    reported: list[tuple[float, float]] = []
    resize(lora("a", 1), 64, compute=replace(CPU, report_truncation=lambda kept, total: reported.append((kept, total))))
    assert len(reported) == 2
    for kept, total in reported:
        assert kept == pytest.approx(total, rel=2e-7)


def test_the_stored_size_is_that_of_the_files_tensors():
    for each in (lora("a", 1), resize(lora("a", 1), 2, compute=replace(CPU, dtype=torch.float16))):
        assert stored_bytes(each) == sum(tensor.nbytes for tensor in to_state_dict(each).values())
