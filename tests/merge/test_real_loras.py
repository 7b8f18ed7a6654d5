"""Two trained LoRAs, rank 4 in float16 and rank 1 in float32: every mode, saved and loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.compute.context import Compute
from lora_pack.merge.files import load, save
from lora_pack.merge.merging.resize import resize
from lora_pack.merge.methods.registry import FACTOR_MODES
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import at
from lora_pack.tests.support.merging import ALL_MODES, EXACT, FACTORS, NOTHING, SUMS, assert_best, expected_delta, merge

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
FILES = [DATA / "sd15_analog_rank4.safetensors", DATA / "sd15_disney_rank1.safetensors"]

pytestmark = pytest.mark.skipif(
    not all(file.is_file() for file in FILES), reason="the trained LoRAs are not in shared/data"
)


@pytest.fixture(scope="module")
def both() -> list[Lora]:
    return [at(load(file), strength, clip) for file, strength, clip in zip(FILES, (0.8, 1.1), (0.5, -1.0), strict=True)]


def few(loras: list[Lora], count: int) -> list[Lora]:
    """The same few modules of each, spread over the model, without the large ones."""
    small = [name for name, module in loras[0].modules.items() if module.up.shape[0] <= 640]
    names = small[:: max(1, len(small) // count)][:count]
    return [replace(lora, modules={name: lora.modules[name] for name in names}) for lora in loras]


def test_the_real_loras_have_the_expected_ranks_and_modules(both: list[Lora]):
    for lora, rank, dtype in zip(both, (4, 1), (torch.float16, torch.float32), strict=True):
        assert {(m.rank, m.up.dtype, m.down.dtype) for m in lora.modules.values()} == {(rank, dtype, dtype)}
        parts = [name.startswith("lora_te") for name in lora.modules]
        assert (parts.count(False), parts.count(True)) == (144, 48)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [*FACTOR_MODES, "add_svd"])
def test_factor_modes_and_exact_sums_match_the_oracle(mode: str, both: list[Lora], tmp_path: Path):
    merged = merge(mode, both, 0.5, rank=4, conv_rank=4, seed=1)
    loaded = load(save(merged, tmp_path / "merged.safetensors"))
    assert set(loaded.modules) == set(both[0].modules) | set(both[1].modules)
    names = list(loaded.modules)
    if mode in SUMS:  # the oracle takes the dense SVD of each
        names = [name for name in names if loaded.modules[name].up.shape[0] <= 640]
    for name in names[:: 48 if mode in SUMS else 24]:
        found, expected = oracle.module_delta(loaded.modules[name]), expected_delta(mode, both, name, 0.5, seed=1)
        if mode in SUMS:
            assert_best(found, 4, expected, mode)
        else:
            assert oracle.distance(found, expected) <= (EXACT if mode == "concat" else FACTORS), name


@pytest.mark.slow
@pytest.mark.parametrize("mode", [mode for mode in SUMS if mode != "add_svd"])
def test_modes_in_the_core_match_the_oracle(mode: str, both: list[Lora]):
    loras = few(both, 3)
    for name, module in merge(mode, loras, 0.5, rank=4, conv_rank=4, seed=1).modules.items():
        assert_best(oracle.module_delta(module), 4, expected_delta(mode, loras, name, 0.5, seed=1), mode)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [mode for mode in ALL_MODES if mode not in (*FACTOR_MODES, *SUMS)])
def test_delta_modes_match_the_oracle(mode: str, both: list[Lora], tmp_path: Path):
    loras = few(both, 3)
    merged = merge(mode, loras, 0.5, rank=8, conv_rank=8, seed=1)
    loaded = load(save(merged, tmp_path / "merged.safetensors"))
    for name, module in loaded.modules.items():
        assert module.rank == 8
        assert_best(oracle.module_delta(module), 8, expected_delta(mode, loras, name, 0.5, seed=1), mode)


@pytest.mark.parametrize("mode", ALL_MODES)
def test_one_lora_at_a_strength_is_its_scaled_delta(mode: str, both: list[Lora]):
    lora = at(few(both, 4)[0], -0.7)
    for name, module in merge(mode, [lora], 1.0).modules.items():
        expected = -0.7 * oracle.module_delta(lora.modules[name])
        assert oracle.distance(oracle.module_delta(module), expected) <= EXACT, name


def test_resize_in_float16_is_near_the_best_rank_2(both: list[Lora], tmp_path: Path):
    resized = resize(both[0], 2, compute=Compute(dtype=torch.float16))
    loaded = load(save(at(resized, 1.0), tmp_path / "small.safetensors"))
    assert {(m.rank, m.up.dtype) for m in loaded.modules.values()} == {(2, torch.float16)}
    for name in few([resized], 4)[0].modules:
        whole = oracle.module_delta(both[0].modules[name])
        error = oracle.distance(oracle.module_delta(loaded.modules[name]), whole)
        best = oracle.best_error(whole, 2) / float((whole**2).sum() ** 0.5)
        assert error <= best + 2e-3, name


def test_a_lora_minus_itself_is_zero(both: list[Lora]):
    lora = few(both, 12)[0]
    for name, module in merge("add_svd", [lora, lora.with_strengths(-1, -1)]).modules.items():
        size = float((oracle.module_delta(lora.modules[name]) ** 2).sum() ** 0.5)
        assert float((oracle.module_delta(module) ** 2).sum() ** 0.5) <= NOTHING * size, name
