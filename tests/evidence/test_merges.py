"""Merges in the benchmark's process are those of `python -m merge`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.evidence import merges, settings
    from benchmarks.evidence.settings import MODES, Setting, setting_of
    from merge.cli.program import _parser
    from merge.methods.registry import METHODS
    from tools.make_lora import write_lora
finally:
    sys.path.remove(str(ROOT))

MODULES = [
    ("lora_unet_joint_blocks_0_x_block_attn_qkv", 24, 8, False),
    ("lora_unet_joint_blocks_0_x_block_mlp_fc2", 8, 32, False),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, float]]:
    folder = tmp_path_factory.mktemp("loras")
    for seed in (1, 2):
        write_lora(folder / f"{seed}.safetensors", 3, seed=seed, dtype=torch.float32, alpha=2.0, modules=MODULES)
    return [(folder / "1.safetensors", 1.0), (folder / "2.safetensors", 0.5)]


def test_a_merge_has_the_bytes_that_the_command_line_writes(files: list[tuple[Path, float]], tmp_path: Path):
    setting = Setting("ties_svd", density=0.4, rank=2, rule="sum", weights="average", strength=0.8)
    here, there = tmp_path / "here" / "m.safetensors", tmp_path / "there" / "m.safetensors"
    here.parent.mkdir()
    there.parent.mkdir()
    merges.merge(files, setting, here)
    typed = [f"{files[0][0]}:0.8", f"{files[1][0]}:0.4", "--mode", "ties_svd", "--density", "0.4", "--rank", "2"]
    typed += ["--strength-rule", "sum", "--weights", "average"]
    subprocess.run([sys.executable, "-m", "merge", "merge", *typed, "-o", str(there)], cwd=ROOT, check=True)
    assert here.read_bytes() == there.read_bytes()


def test_a_failed_merge_says_why(files: list[tuple[Path, float]], tmp_path: Path):
    with pytest.raises(RuntimeError, match="no merge mode 'sideways'"):
        merges.merge(files, Setting("sideways"), tmp_path / "m.safetensors")


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_the_registry_runs_at_its_defaults(mode: str, files: list[tuple[Path, float]], tmp_path: Path):
    merges.merge(files, Setting(mode), tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").is_file()


def test_every_method_is_benchmarked():
    assert {mode.removesuffix("_svd") for mode in MODES} == {method.name for method in METHODS}


def test_the_benchmark_knows_the_command_lines_defaults():
    options = _parser().parse_args(["merge", "a", "-o", "b"])
    assert (options.density, options.rank, options.mode) == (settings.DENSITY, settings.RANK, "concat")


def test_a_setting_is_found_again_by_its_key():
    groups = (settings.defaults(), settings.at_the_sums_norm(), settings.other_rules(), settings.over_strength())
    groups += (settings.over_density(), settings.over_rank(), settings.of_strata())
    every = {setting for group in groups for setting in group}
    assert {setting_of(setting.key) for setting in every} == every
    assert len({setting.key for setting in every}) == len(every)
