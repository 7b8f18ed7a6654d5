"""How much rank a merge, a file or a tuned model's difference needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from .drawing import (
    BASE_FILE,
    BOTH,
    CONCEPT,
    CONCEPT_ALONE,
    PROMPTS,
    STYLE,
    drawn,
    drawn_by,
    made,
    merged,
    model_of,
)
from .modes import by
from .sheet import sheet

RANKS = (16, 4, 2, 1)


def resizer(ranks: Sequence[int] = RANKS) -> Image.Image:
    """A merge by concat, whose rank is 16, resized; with the sizes of the files."""
    merge = merged(CONCEPT, STYLE)
    files = [made("resize", merge, "--rank", str(rank), "--dtype", "float16") for rank in ranks]
    columns = [drawn([made.file], PROMPTS) for made in files]
    return sheet(columns, _ranks(ranks), PROMPTS, below=[[made.size] for made in files])


def svd_rank(ranks: Sequence[int] = (1, 2, 4, 8, 16)) -> Image.Image:
    columns = [drawn([by("add_svd", "--rank", str(rank))], (CONCEPT_ALONE, BOTH)) for rank in ranks]
    return sheet(columns, _ranks(ranks), (CONCEPT_ALONE, BOTH))


def extract(ranks: Sequence[int] = RANKS) -> Image.Image:
    """A tuned model, and the base with LoRAs of their difference; with the share of its norm that each keeps."""
    tuned = made("bake", BASE_FILE, CONCEPT, STYLE).file
    files = [made("extract", tuned, BASE_FILE, "--rank", str(rank)) for rank in ranks]
    columns = [drawn_by(model_of(tuned), PROMPTS), *(drawn([made.file], PROMPTS) for made in files)]
    return sheet(
        columns, ["tuned model", *_ranks(ranks)], PROMPTS, below=[[""], *([_kept(made.said)] for made in files)]
    )


def files(ranks: Sequence[int] = (1, 2, 4, 8)) -> Image.Image:
    """Versions of one LoRA, each merged with the same style."""
    prompts = (CONCEPT_ALONE, BOTH)
    versions = [made("resize", CONCEPT, "--rank", str(rank), name=f"concept-rank{rank}").file for rank in ranks]
    columns = [drawn([merged(STYLE, version)], prompts) for version in versions]
    return sheet(columns, [Path(version).stem for version in versions], prompts)


def _ranks(ranks: Sequence[int]) -> list[str]:
    return [f"rank {rank}" for rank in ranks]


def _kept(said: str) -> str:
    share = re.search(r"([\d.]+) % of the difference's norm kept", said)
    if share is None:
        raise RuntimeError(f"`python -m merge extract` doesn't say how much it kept: {said}")
    return f"{float(share[1]):.0f} % kept"


PICTURES = {
    "PM_LoRA_Resizer": resizer,
    "XY_PM_LoRA_SVD_Rank": svd_rank,
    "PM_LoRA_Extract": extract,
    "XY_PM_LoRA_Files": files,
}
