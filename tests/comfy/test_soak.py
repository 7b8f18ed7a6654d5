"""Many merges of every kind in one ComfyUI: memory and open files stay level, and results stay correct.

30 merges; SOAK_MERGES=200 makes it 200.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_pack.merge.merging.resize import METHODS
from lora_pack.merge.methods.registry import DELTA_MODES, FACTOR_MODES
from lora_pack.tests.comfy.test_nodes import apply, loader, saver
from lora_pack.tools.comfy_server import Prompt, Server
from lora_pack.tools.make_lora import small_modules, write_lora
from lora_pack.tools.workflows import checkpoint, node, picture

MERGES = int(os.environ.get("SOAK_MERGES", "30"))
ROOT = Path(__file__).resolve().parents[2]
MODES = [*FACTOR_MODES, *DELTA_MODES]
SETTINGS = {"fixed": 0.9, "sv_ratio": 4.0, "sv_cumulative": 0.8, "sv_fro": 0.9}
LEVEL = 1.05
# By then every mode and three pictures have run, after which ComfyUI's own memory is level.
WARM = 15


@pytest.fixture(scope="module")
def loras(server: Server) -> Iterator[list[str]]:
    """Three files of different ranks and dtypes, for some of the smaller weights."""
    modules = [module for module in small_modules() if max(module[1:3]) <= 768][::3]
    names = []
    for number, (rank, dtype) in enumerate([(8, torch.float16), (4, torch.float32), (12, torch.bfloat16)]):
        names.append(f"soak_{number}.safetensors")
        write_lora(server.loras / names[-1], rank, seed=number, dtype=dtype, modules=modules)
    yield names
    for name in names:
        (server.loras / name).unlink()


class Merge:
    """One prompt: the mode by its number, everything else at random."""

    def __init__(self, number: int, loras: list[str], chance: random.Random):
        self.mode = MODES[number % len(MODES)]  # the warm-up has all of them
        self.density = chance.choice([0.3, 0.5, 0.9, 1.0])
        self.rank, self.seed = chance.randint(1, 16), chance.randint(0, 2**63)
        self.dtype = chance.choice(["float32", "float16", "bfloat16"])
        self.files = [
            (name, chance.uniform(-2, 2), chance.uniform(-2, 2)) for name in chance.sample(loras, chance.randint(1, 3))
        ]
        self.resize = chance.choice([None, None, *METHODS])
        self.save_dtype = chance.choice(["as merged", "float16", "bfloat16", "float32"])
        self.picture = number % 7 == 0

    def prompt(self, name: str) -> Prompt:
        nodes = {f"l{n}": loader(*file) for n, file in enumerate(self.files, 1)}
        options: dict[str, Any] = {"mode": self.mode, "density": self.density, "seed": self.seed, "dtype": self.dtype}
        kind = "PM LoRA Merger"
        if self.mode in DELTA_MODES:
            kind = "PM LoRA SVD Merger"
            options |= {"svd_rank": self.rank, "svd_conv_rank": 0}
        links = {f"lora{n}": [f"l{n}", 0] for n in range(1, len(self.files) + 1)}
        nodes["m"] = node(kind, device="cpu", **options, **links)
        last = "m"
        if self.resize:
            how = {"method": self.resize, "method_value": SETTINGS[self.resize], "conv_rank": 0}
            nodes["r"] = node("PM LoRA Resizer", lora=["m", 0], new_rank=3, device="cpu", dtype=self.dtype, **how)
            last = "r"
        if self.picture:
            nodes |= {**checkpoint(), "apply": apply(last), **picture(["apply", 0], ["apply", 1], steps=1)}
        return {**nodes, "save": saver(last, name, save_dtype=self.save_dtype, overwrite=True)}

    @property
    def fits_the_command_line(self) -> bool:
        return not self.resize and self.save_dtype == "as merged"

    def on_the_command_line(self, folder: Path, out: Path) -> bytes:
        files = [f"{folder / name}:{model!r}:{clip!r}" for name, model, clip in self.files]
        options = {"mode": self.mode, "density": self.density, "rank": self.rank, "seed": self.seed}
        options |= {"dtype": self.dtype, "output": out}
        command = [sys.executable, "-m", "merge", "merge", *files]
        command += [f"--{name}={value}" for name, value in options.items()]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return out.read_bytes()


class Use:
    """The memory and open files of a server's processes."""

    def __init__(self, server: Server):
        psutil = pytest.importorskip("psutil", reason="ComfyUI brings it")
        process = psutil.Process(server.process.pid)
        family = [process, *process.children(recursive=True)]  # on Windows a small program starts Python
        self.memory = sum(each.memory_info().rss for each in family)
        self.files = sorted(file.path for each in family for file in each.open_files())


@pytest.mark.slow
def test_many_merges_keep_memory_and_open_files_level(server: Server, loras: list[str], tmp_path: Path):
    chance = random.Random(1)
    merges = [Merge(number, loras, chance) for number in range(MERGES)]
    warm = max(WARM, MERGES // 10)
    uses, written = [], {}
    for number, merge in enumerate(merges):
        path = server.loras / server.run(merge.prompt(f"soak/{number}"))["save"]["text"][0]
        written[number] = path.read_bytes()
        path.unlink()
        uses.append(Use(server))
    assert list((server.loras / "soak").iterdir()) == []
    late = uses[warm:]
    third = len(late) // 3
    first, last = (statistics.median(use.memory for use in part) for part in (late[:third], late[-third:]))
    print(f"{MERGES} merges: {first / 1e6:.0f} MB, at the end {last / 1e6:.0f} MB; files {len(uses[-1].files)}")
    series = " ".join(f"{use.memory / 1e6:.0f}" for use in uses)
    assert last <= LEVEL * first, series
    assert uses[-1].files == uses[warm].files
    for number in [n for n, merge in enumerate(merges) if merge.fits_the_command_line][-3:]:
        alone = merges[number].on_the_command_line(server.loras, tmp_path / f"{number}.safetensors")
        assert alone == written[number], merges[number].prompt("alone")
