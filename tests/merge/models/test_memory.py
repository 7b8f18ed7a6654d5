"""Baking takes the memory of a few tensors, however large the model is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lora_pack.tests.support.models import lora_of, write

ROOT = Path(__file__).resolve().parents[3]
COUNT, SIZE = 40, 2048
BAKE = """
import sys
from pathlib import Path
from merge.files import load
from merge.models.bake import bake

def status(what):
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(what + ":"))

folder = Path(sys.argv[1])
lora = load(folder / "lora.safetensors")
bake(folder / "small.safetensors", [lora], folder / "warm.safetensors")  # libraries, threads and their buffers
before = status("VmRSS")
bake(folder / "model.safetensors", [lora], folder / "out.safetensors")
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_memory_of_baking_does_not_grow_with_the_model(tmp_path: Path):
    """40 tensors of 8 MB, all changed: one in float32, and those that wait to be written, some 100 MB."""
    names = [f"blocks.{n}.mlp" for n in range(COUNT)]
    write(tmp_path / "lora.safetensors", lora_of({f"diffusion_model.{name}": (SIZE, SIZE) for name in names}))
    for file, count in (("small", 1), ("model", COUNT)):
        write(
            tmp_path / f"{file}.safetensors",
            {f"{name}.weight": torch.ones(SIZE, SIZE, dtype=torch.float16) for name in names[:count]},
        )
    command = [sys.executable, "-c", BAKE, str(tmp_path)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=one_thread, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 0.5 * COUNT * SIZE * SIZE * 2
