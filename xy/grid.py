"""PM XY Grid."""

from __future__ import annotations

import logging
from typing import Any

import torch
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..merge.errors import LoraError
from ..nodes.inputs import LORA, XY_CATEGORY
from ..pictures.labelled_grid import labelled_grid, layout_of
from . import cells_output, comfy_sampling
from .capsule import Axis
from .grid_axis import GridAxis, read_axis, require_different, samplings
from .grid_inputs import MAX_CELLS, grid_inputs
from .grid_run import Inputs, in_floats, sample_cells
from .grid_scores import NO_SCORES, GridScores
from .grid_scoring import GridScoring
from .live_grid import LiveGrid, PageNode
from .pick import Place, describe, picked_lora, read_pick, text_of
from .progress import GridProgress
from .sampling import Sampling
from .upstream import settings_before

log = logging.getLogger(__name__)

# In the metadata of saved pictures: the cells' settings, by the id of the grid's node.
METADATA = "xy_grid"


class XyGrid:
    DESCRIPTION = (
        "Samples a picture for every combination of values on two axes, with any model that ComfyUI can sample, and "
        "shows them as one labelled grid."
    )
    CATEGORY = XY_CATEGORY
    SEARCH_ALIASES = ["xy plot", "xyz plot", "compare loras", "lora grid", "power merge"]
    RETURN_TYPES = ("IMAGE", "IMAGE", LORA, "STRING")
    RETURN_NAMES = ("grid", "cells", "picked", "report")
    OUTPUT_TOOLTIPS = (
        "The labelled grid as one picture.",
        "The cells as a batch of pictures, row by row.",
        "The LoRA of the picked cell, at strength 1. With nothing picked, that of the best score; without scores, "
        "nothing runs that is connected here.",
        "A line for each cell with its labels and its score, then the best. Connect it to Preview as Text.",
    )
    OUTPUT_NODE = True
    FUNCTION = "draw"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return grid_inputs()

    @classmethod
    def IS_CHANGED(cls, node: str | None = None, **_: object) -> bool:
        """With another answer the node runs again, so that a new connection doesn't get cells that were left out."""
        return cells_output.is_used(node)

    def draw(
        self,
        model: Any,
        vae: Any,
        latent_image: dict[str, Any],
        positive: str,
        negative: str,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        clip: Any = None,
        X: Axis | None = None,
        Y: Axis | None = None,
        positive_cond: Any = None,
        negative_cond: Any = None,
        clip_vision: Any = None,
        references: Tensor | None = None,
        pick: str = "",
        max_cells: int = MAX_CELLS,
        prompt: Any = None,
        extra_pnginfo: Any = None,
        node: str | None = None,
    ) -> dict[str, Any]:
        x, y = read_axis("X", X), read_axis("Y", Y)
        require_different(x, y)
        _require_allowed(len(x.values) * len(y.values), max_cells)
        picked = read_pick(pick, len(x.values), len(y.values))
        base = Sampling(seed, steps, cfg, sampler_name, scheduler, denoise, positive, negative)
        conditioning = {"positive": positive_cond, "negative": negative_cond}
        _require_prompts_in_use(x, y, conditioning)
        inputs = Inputs(model, clip, vae, first_latent(latent_image), conditioning, settings_before(node))
        # before sampling, so that a cell without a LoRA is refused at once
        lora = ExecutionBlocker(None) if picked is None else picked_lora(model, clip, x, y, picked)
        plan = samplings(base, x, y)
        scoring = None if clip_vision is None else GridScoring.of(clip_vision, references, x, y, plan)
        shown = PageNode.of(node, extra_pnginfo)
        used = cells_output.is_used(node)
        labels = x.labels(base), y.labels(base)
        grid, cells, state, scores = draw_grid(inputs, x, y, labels, plan, shown, scoring, used)
        memory = cells_output.memory_text(cells)
        if memory:
            log.info("PM XY Grid: the output cells takes %s of memory.", memory)
        if picked is None and scores.best is not None:
            lora = _best_lora(model, clip, x, y, scores.best)
        settings = [
            describe(x, y, place, sampling, conditioning) | scores.described(place) for place, sampling in plan.items()
        ]
        ui = comfy_sampling.show(grid, prompt, _with_cells(extra_pnginfo, node, settings))
        ui["xy_grid"] = [state | {"cells": settings, "memory": memory}]
        text = report(plan, *labels, scores)
        return {"ui": ui, "result": (grid, cells_output.output(cells), lora, text)}


def draw_grid(
    inputs: Inputs,
    x: GridAxis,
    y: GridAxis,
    labels: tuple[list[str], list[str]],
    plan: dict[Place, Sampling],
    node: PageNode | None = None,
    scoring: GridScoring | None = None,
    with_cells: bool = True,
    told: str = "PM XY Grid",
) -> tuple[Tensor, Tensor | None, dict[str, Any], GridScores]:
    """Sample all cells that aren't kept from an earlier run, showing them on the node, and score them.

    Returns the labelled grid (1, height, width, 3), the cells (n, height, width, 3) row by row if ``with_cells``, what
    the page needs to know of them, and their scores. The best cell has a frame; the page draws that of a picked one.
    ``labels`` are those of the columns and of the rows; ``told`` is the node's name in the log.
    """
    live = LiveGrid(node, *labels, plan, told)
    pictures: dict[Place, Tensor] = {}
    scores = NO_SCORES
    steps = sum(sampling.steps for sampling in plan.values())
    references = 0 if scoring is None else scoring.steps
    try:
        with GridProgress(steps + references) as progress:
            with progress.sampling(steps):
                for place, picture in sample_cells(inputs, x, y, plan, live.begins, told=told):
                    if pictures and picture.shape != next(iter(pictures.values())).shape:
                        raise LoraError("The cells of this plot have different sizes and can't form a grid.")
                    pictures[place] = picture
                    live.finished(place, picture)
            if scoring is not None:
                with progress.sampling(references):
                    scores = scoring.score(inputs, pictures)
    except BaseException:
        live.stopped()
        raise
    in_order = [pictures[place] for place in plan]
    columns = len(x.values)
    captions = [scores.text(place) for place in plan] if scores.scores else []
    layout = layout_of(in_order, columns, *labels, captions=captions)
    grid = labelled_grid(in_order, columns, *labels, captions=captions, frame=scores.best)
    cells = in_floats(torch.stack(in_order)) if with_cells else None
    return grid, cells, live.state() | {"layout": layout.shares()}, scores


def report(
    plan: dict[Place, Sampling], column_labels: list[str], row_labels: list[str], scores: GridScores = NO_SCORES
) -> str:
    """A line for each cell: its place, its labels and its score; then what the scores say."""
    columns, rows = column_labels or [""], row_labels or [""]
    lines = []
    for place in plan:
        labels = [label for label in (columns[place[0]], rows[place[1]]) if label]
        parts = [text_of(place), " | ".join(labels), scores.text(place)]
        lines.append(": ".join(filter(None, parts)))
    return "\n".join([*lines, *scores.conclusion()])


def _best_lora(model: Any, clip: Any, x: GridAxis, y: GridAxis, best: Place) -> Any:
    """The LoRA of the best cell; nothing runs behind one that can't be given, such as next to another pack's axis."""
    try:
        return picked_lora(model, clip, x, y, best)
    except LoraError as error:
        log.warning("PM XY Grid gives no LoRA for the best cell: %s", error)
        return ExecutionBlocker(None)


def _require_allowed(cells: int, max_cells: int) -> None:
    if cells > max_cells:
        raise LoraError(
            f"This grid has {cells} cells, but max_cells allows {max_cells}. Use fewer values on X or Y, or raise "
            "max_cells."
        )


def _with_cells(extra_pnginfo: Any, node: str | None, settings: list[dict[str, Any]]) -> dict[str, Any]:
    """What ComfyUI writes into saved pictures, with the settings of this grid's cells.

    They are added to the prompt's own, so that a node that saves the grid has them too.
    """
    found = extra_pnginfo if isinstance(extra_pnginfo, dict) else {}
    found[METADATA] = {**found.get(METADATA, {}), str(node): settings}
    return found


def _require_prompts_in_use(x: GridAxis, y: GridAxis, conditioning: dict[str, Any]) -> None:
    """Raise LoraError if an axis replaces words in a prompt that a connected conditioning overrides."""
    for name, axis in (("X", x), ("Y", y)):
        text = axis.sampling.prompt if axis.sampling else None
        if text and conditioning[text] is not None:
            raise LoraError(
                f"{name} replaces words in the {text} prompt, but a conditioning is connected to {text}_cond, so "
                "that prompt isn't used. Disconnect one of them."
            )


def first_latent(latent: dict[str, Any]) -> dict[str, Any]:
    """Only the first latent of a batch, since a cell is one picture."""
    samples = latent["samples"]
    if samples.is_nested or samples.shape[0] == 1:
        return latent
    log.info("Only the first of %d latents is sampled.", samples.shape[0])
    first = {**latent, "samples": samples[:1]}
    if first.get("batch_index") is not None:
        first["batch_index"] = first["batch_index"][:1]
    if (mask := first.get("noise_mask")) is not None:
        first["noise_mask"] = _of_the_first(mask, samples.ndim)
    return first


def _of_the_first(mask: Tensor, dimensions: int) -> Tensor:
    """The noise mask of the first of a batch of latents with this many dimensions.

    A plane (height, width) is for all of them, and so is a smaller mask than that of a video: its first dimension is
    the frames (ComfyUI's reshape_mask).
    """
    return mask if mask.ndim < 3 or mask.ndim < dimensions == 5 else mask[:1]
