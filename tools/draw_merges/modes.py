"""Merges in several modes, and with several settings of a mode."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from .drawing import CONCEPT, PROMPTS, STYLE, drawn, merged
from .sheet import sheet
from .strengths import at

RANK = ("--rank", "16")  # that of both LoRAs together


def by(mode: str, *settings: str, every: float = 1) -> str:
    """Both LoRAs, each at the strength ``every``."""
    return merged(at(CONCEPT, every), at(STYLE, every), "--mode", mode, *settings)


def merger() -> Image.Image:
    loras = {"concept alone": CONCEPT, "style alone": STYLE}
    loras |= {"merged: concat": by("concat"), "merged: ties": by("ties"), "merged: dare_ linear": by("dare_linear")}
    return sheet([drawn([lora], PROMPTS) for lora in loras.values()], list(loras), PROMPTS)


def svd_merger() -> Image.Image:
    loras = {
        "add_svd rank 16": by("add_svd", *RANK),
        "add_svd rank 2": by("add_svd", "--rank", "2"),
        "ties_svd of the mode": by("ties_svd", *RANK, "--density", "0.2"),
        "ties_svd of the sum": by("ties_svd", *RANK, "--density", "0.2", "--strength-rule", "sum"),
    }
    return sheet([drawn([lora], PROMPTS) for lora in loras.values()], list(loras), PROMPTS)


def merge_options(shares: Sequence[float] = (0, 0.01, 0.05, 0.2)) -> Image.Image:
    """What breadcrumbs_svd drops from the top."""
    settings = (*RANK, "--density", "0.4")
    loras = [by("breadcrumbs_svd", *settings, "--set", f"breadcrumbs_gamma={share}") for share in shares]
    return sheet([drawn([lora], PROMPTS) for lora in loras], [f"gamma {share:g}" for share in shares], PROMPTS)


def xy_modes(densities: Sequence[float] = (0.1, 0.4, 1)) -> Image.Image:
    modes = ("add_svd", "ties_svd", "dare_linear_svd", "sce_svd")
    columns = [[drawn([by(mode, *RANK, "--density", str(density))])[0] for density in densities] for mode in modes]
    return sheet(columns, [mode.replace("r_s", "r_ s") for mode in modes], [f"density {d:g}" for d in densities])


def xy_sweep(strengths: Sequence[float] = (0.5, 1, 2)) -> Image.Image:
    """Two settings of one merge: the mode and the strength of all its LoRAs."""
    modes = ("concat", "ties_svd", "sce_svd")
    columns = [[drawn([by(mode, *RANK, every=strength)])[0] for strength in strengths] for mode in modes]
    return sheet(columns, modes, [f"all strengths {strength:g}" for strength in strengths])


PICTURES = {
    "PM_LoRA_Merger": merger,
    "PM_LoRA_SVD_Merger": svd_merger,
    "PM_LoRA_Merge_Options": merge_options,
    "XY_PM_LoRA_Modes": xy_modes,
    "XY_PM_LoRA_Sweep": xy_sweep,
}
