"""What is written to files and read again, what LoRAs are measured as, and a merge in many samplings."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.evidence.merges import run

from .drawing import BASE_FILE, CONCEPT, PROMPTS, SEED, STYLE, drawn, drawn_by, made, merged, model_of
from .sheet import sheet


def save() -> Image.Image:
    """The sum of both LoRAs, and files of it at several precisions, loaded again; with their sizes."""
    files = {dtype: made("merge", CONCEPT, STYLE, "--dtype", dtype) for dtype in ("float32", "float16", "bfloat16")}
    columns = [drawn([CONCEPT, STYLE], PROMPTS), *(drawn([made.file], PROMPTS) for made in files.values())]
    below = [["two LoRAs"], *([made.size] for made in files.values())]
    return sheet(columns, ["not saved", *files], PROMPTS, below=below)


def bake() -> Image.Image:
    """The base alone and with both LoRAs, and the baked model without any."""
    baked = made("bake", BASE_FILE, CONCEPT, STYLE)
    columns = [drawn([], PROMPTS), drawn([CONCEPT, STYLE], PROMPTS), drawn_by(model_of(baked.file), PROMPTS)]
    return sheet(columns, ["model", "model + two LoRAs", "baked model, no LoRA"], PROMPTS)


def inspect() -> Image.Image:
    """Two LoRAs and their sum, with what `python -m merge inspect` measures."""
    found = measured(CONCEPT, STYLE)
    each = [f"norm {lora['norm']:.0f}, rank {lora['rank_for']['95']} for 95 %" for lora in found["loras"]]
    (pair,) = found["pairs"]
    columns = [drawn([lora], PROMPTS) for lora in (CONCEPT, STYLE, merged(CONCEPT, STYLE))]
    below = [*([one] for one in each), [f"cosine {pair['cosine']:.2f}"]]
    return sheet(columns, ["A: concept", "B: style", "A + B"], PROMPTS, below=below)


def measured(*loras: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "numbers.json")
        run(["inspect", *loras, "--json", str(file)])
        return json.loads(file.read_text("utf-8"))


def sampling(seeds: Sequence[int] = (0, 1, 2, 3)) -> Image.Image:
    """One merge with several seeds, and with a word of the prompt replaced."""
    words = ("luckiest guy", "bungee", "caveat")
    prompts = [f"sign ? in {word}" for word in words]
    columns = [drawn([merged(CONCEPT, STYLE)], prompts, SEED + seed) for seed in seeds]
    return sheet(columns, [f"seed +{seed}" for seed in seeds], words)


PICTURES = {
    "PM_LoRA_Save": save,
    "PM_LoRA_Bake": bake,
    "PM_LoRA_Inspect": inspect,
    "XY_PM_Sampling": sampling,
}
