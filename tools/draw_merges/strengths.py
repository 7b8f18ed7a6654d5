"""LoRAs at several strengths: the pages of the nodes that load, weight and apply them, and of PM XY Grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from .drawing import (
    BOTH,
    CONCEPT,
    CONCEPT_ALONE,
    OTHER_STYLE,
    OTHER_STYLE_ALONE,
    PROMPTS,
    SEED,
    STYLE,
    STYLE_ALONE,
    drawn,
    merged,
)
from .sheet import WIDTH, sheet


def at(lora: str, strength: float) -> str:
    return f"{lora}:{strength:g}"


def both(concept: float, style: float) -> list[str]:
    """The file of both LoRAs, merged by concat; none if nothing would be in it."""
    return [merged(at(CONCEPT, concept), at(STYLE, style))] if concept or style else []


def loader(strengths: Sequence[float] = (0, 0.5, 1, 1.5)) -> Image.Image:
    """A concept by itself and a style by itself."""
    alone = ((CONCEPT, CONCEPT_ALONE), (STYLE, STYLE_ALONE))
    columns = [[drawn([at(lora, strength)], [prompt])[0] for lora, prompt in alone] for strength in strengths]
    return sheet(columns, _numbers("strength", strengths), [prompt for _, prompt in alone])


def power_loader() -> Image.Image:
    """The switches of two rows."""
    rows = {"both off": [], "concept on": [CONCEPT], "style on": [STYLE], "both on": [CONCEPT, STYLE]}
    return sheet([drawn(loras, PROMPTS) for loras in rows.values()], list(rows), PROMPTS)


def stack(strengths: Sequence[float] = (0, 0.5, 1)) -> Image.Image:
    """A stack of two LoRAs, the second at several strengths, merged by concat."""
    columns = [drawn(both(1, strength), PROMPTS) for strength in strengths]
    return sheet(columns, [f"concept 1 style {strength:g}" for strength in strengths], PROMPTS)


def folder(strength: float = 0.8) -> Image.Image:
    """Each file of a folder, and all of them in one merge."""
    files = (CONCEPT, STYLE, OTHER_STYLE)
    prompts = (CONCEPT_ALONE, STYLE_ALONE, OTHER_STYLE_ALONE)
    everything = merged(*(at(file, strength) for file in files))
    columns = [drawn([at(file, strength)], prompts) for file in files]
    return sheet([*columns, drawn([everything], prompts)], [*(Path(f).stem for f in files), "all, merged"], prompts)


def lora_strength(strengths: Sequence[float] = (-1, 0, 0.5, 1)) -> Image.Image:
    """The style of a merge, reweighted."""
    columns = [drawn(both(1, strength), (STYLE_ALONE, BOTH)) for strength in strengths]
    return sheet(columns, _numbers("style x", strengths), (STYLE_ALONE, BOTH))


def apply_lora(strengths: Sequence[float] = (0, 0.5, 1, 2)) -> Image.Image:
    """A merge at several strengths."""
    (merge,) = both(1, 1)
    return sheet([drawn([at(merge, s)], PROMPTS) for s in strengths], _numbers("strength", strengths), PROMPTS)


def xy_strengths(
    strengths: Sequence[float] = (0, 0.5, 1), names: tuple[str, str] = ("concept", "style"), width: int = WIDTH
) -> Image.Image:
    columns = [[drawn(both(a, b))[0] for b in strengths] for a in strengths]
    return sheet(columns, _numbers(names[0], strengths), _numbers(names[1], strengths), width=width)


def xy_grid(strengths: Sequence[float] = (0, 0.5, 1), seeds: Sequence[int] = (0, 1, 2)) -> Image.Image:
    """Strengths of the concept along X, seeds along Y, one cell picked."""
    columns = [[drawn(both(concept, 1), seed=SEED + seed)[0] for seed in seeds] for concept in strengths]
    return sheet(columns, _numbers("concept", strengths), [f"seed +{seed}" for seed in seeds], frame=(2, 1))


def _numbers(name: str, values: Sequence[float]) -> list[str]:
    return [f"{name} {value:g}" for value in values]


PICTURES = {
    "PM_LoRA_Loader": loader,
    "PM_LoRA_Power_Loader": power_loader,
    "PM_LoRA_Stack": stack,
    "PM_LoRA_from_Folder": folder,
    "PM_LoRA_Strength": lora_strength,
    "PM_LoRA_Apply": apply_lora,
    "XY_PM_LoRA_Strengths": xy_strengths,
    "PM_XY_Grid": xy_grid,
}
