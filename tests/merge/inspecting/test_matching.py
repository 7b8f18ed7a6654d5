"""Pairs are matched as a merge matches them: by weight, whatever the names; and what must not happen to the inputs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
import torch
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.compute.context import Compute
from lora_pack.merge.errors import LoraError
from lora_pack.merge.inspecting.inspect import inspect
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.tests.merge.merging.test_memory import largest_tensor
from lora_pack.tests.support.families import normal
from lora_pack.tests.support.makers import CONV3, LINEAR, fingerprint, make_lora

WIDTH = 3072
QKV = "lora_unet_double_blocks_0_img_attn_qkv"
SPLIT = [f"transformer.transformer_blocks.0.attn.to_{part}" for part in "qkv"]


def fused(seed: int = 1) -> LoraModule:
    return LoraModule.of(QKV, normal(seed, 3 * WIDTH, 2), normal(seed + 1, 2, WIDTH), 2.0)


def split(whole: LoraModule) -> list[LoraModule]:
    up, down = whole.factors()
    parts = zip(SPLIT, up.split(WIDTH), strict=True)
    return [LoraModule.of(name, part.contiguous(), down, whole.alpha) for name, part in parts]


def lora(name: str, *modules: LoraModule) -> Lora:
    return Lora(name, {module.name: module for module in modules})


def test_split_and_fused_names_of_one_lora_are_the_same():
    whole, parts = lora("whole", fused()), lora("parts", *split(fused()))
    for first, second, keys in ((whole, parts, [QKV]), (parts, whole, SPLIT)):
        pair = inspect([first, second]).pairs[0]
        assert list(pair.weights) == keys, "keys are those of the first LoRA"
        assert pair.cosine is not None and math.isclose(pair.cosine, 1, abs_tol=1e-6)
        assert pair.inside is not None and pair.inside.output > 0.999


def test_a_part_of_a_fused_weight_counts_against_all_of_it():
    whole, part = lora("whole", fused()), lora("part", split(fused())[0])
    pair = inspect([part, whole]).pairs[0]
    norms = [inspect([one]).loras[0].norm for one in (part, whole)]
    assert list(pair.weights) == [SPLIT[0]]
    assert norms[0] and norms[1] and pair.cosine is not None
    assert math.isclose(pair.cosine, norms[0] / norms[1], abs_tol=1e-6)


def test_inputs_stay_as_they_are():
    loras = [make_lora(1), make_lora(2, dtype=torch.float16)]
    before = [fingerprint(one) for one in loras]
    threads = torch.get_num_threads()
    inspect(loras)
    assert [fingerprint(one) for one in loras] == before
    assert torch.get_num_threads() == threads


def test_the_same_loras_give_the_same_numbers():
    first, second = (inspect([make_lora(1), make_lora(2)]) for _ in range(2))
    assert first.loras[0].weights == second.loras[0].weights
    assert first.pairs[0].weights == second.pairs[0].weights


def test_progress_reaches_its_end_and_stop_stops():
    seen: list[tuple[int, int]] = []
    inspect([make_lora(1), make_lora(2)], compute=Compute(progress=lambda done, total: seen.append((done, total))))
    assert seen[-1][0] == seen[-1][1] and seen == sorted(seen)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inspect([make_lora(1)], compute=Compute(check=stop))


def test_nothing_to_look_into_is_an_error():
    with pytest.raises(LoraError, match="no LoRA"):
        inspect([])


@pytest.mark.slow
def test_no_dense_delta_is_formed_where_there_are_factors():
    shapes = {LINEAR: (2000, 1800), CONV3: (640, 320, 3, 3)}
    loras = [make_lora(seed, shapes=shapes) for seed in (1, 2)]
    with largest_tensor() as seen:
        inspect(loras)
    assert seen.elements < 640 * 320 * 9 / 10


@pytest.mark.slow
def test_it_takes_about_as_long_as_an_exact_merge():
    shapes = {LINEAR.replace("blocks_0", f"blocks_{n}"): (640, 1280) for n in range(24)}
    loras = [make_lora(seed, shapes=shapes, ranks=(32,)) for seed in (1, 2)]
    merging = least_seconds(lambda: merge_deltas(loras, "add_svd", 1.0, 32, 0, 0))
    assert least_seconds(lambda: inspect(loras)) < 3 * merging


def least_seconds(work: Callable[[], object]) -> float:
    """Of processor time, in the best of a few runs."""
    times = []
    for _ in range(4):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)
