"""Samples the cells of a grid with ComfyUI's own nodes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..merge.errors import LoraError
from ..nodes import comfy_bridge
from ..pictures.grid_layout import Place
from . import comfy_sampling
from .capsule import Capsule, merges_of
from .grid_axis import GridAxis
from .kept_cells import KEPT, KeptCells, Merges, cell_key, inputs_key, merges_key
from .progress import GridProgress
from .sampling import Sampling

log = logging.getLogger(__name__)


@dataclass
class Inputs:
    """What all cells have in common."""

    model: Any
    clip: Any
    vae: Any
    latent: dict[str, Any]
    conditioning: dict[str, Any]  # for "positive" and "negative": replaces the text; None: encode it
    before: str = ""  # what the prompt has before them (upstream.settings_before)


@dataclass
class Patched:
    """Model and text encoder for the cells with the same capsules, and the capsule to ask for finished results."""

    model: Any
    clip: Any
    vae: Any
    capsule: Any


@dataclass
class Encoder:
    """Encodes texts and caches them, for the unpatched text encoder and the most recent patched one."""

    unpatched: Any
    _known: dict[tuple[object, ...], Any] = field(default_factory=dict)

    def encode(self, clip: Any, text: str) -> Any:
        key = (*self._state(clip), text)
        if key not in self._known:
            keep = self._state(clip), self._state(self.unpatched)
            self._known = {k: v for k, v in self._known.items() if k[:-1] in keep}
            self._known[key] = comfy_sampling.encode(clip, text)
        return self._known[key]

    @staticmethod
    def _state(clip: Any) -> tuple[object, ...]:
        # a clone keeps the id of its original until it is patched
        options = repr(getattr(clip, "tokenizer_options", None))
        return clip.patcher.patches_uuid, clip.layer_idx, options, getattr(clip, "apply_hooks_to_conds", None)


def sample_cells(
    inputs: Inputs,
    x: GridAxis,
    y: GridAxis,
    cells: dict[Place, Sampling],
    begins: Callable[[Place], None] = lambda place: None,
    kept: KeptCells = KEPT,
    encoder: Encoder | None = None,
    told: str = "PM XY Grid",
) -> Iterator[tuple[Place, Tensor]]:
    """Yields the picture (height, width, 3) of every cell in bytes as it is finished, not in grid order.

    Cells that are kept from an earlier run come first. Cells that differ only in seeds, prompts and the like come one
    after another, so the model is patched once for all of them. Only one patched model exists at a time. ``begins`` is
    called before a cell is patched and sampled. ``encoder`` has the texts of earlier calls with the same inputs;
    ``told`` is whose plan is logged, if anybody's. Raises ComfyUI's interrupt exception if the user presses stop, and
    LoraError, before sampling, if there is text to encode but no text encoder, and for a LoRA file that changes
    meanwhile.
    """
    _require_clip(inputs)
    kept.forget_unreachable()
    common = inputs_key(inputs.model, inputs.clip, inputs.vae, inputs.latent, inputs.conditioning, inputs.before)
    embeddings = cache(comfy_sampling.embeddings_in)  # cells share texts, and there may be thousands of files
    merges = {place: merges_key(x.capsule(place[0]), y.capsule(place[1])) for place in cells}
    keys = {
        place: cell_key(common, merges[place], sampling, inputs.conditioning, embeddings)
        for place, sampling in cells.items()
    }
    encoder = encoder or Encoder(inputs.clip)
    with GridProgress(sum(sampling.steps for sampling in cells.values())) as progress:
        missing = []
        for place, sampling in cells.items():
            picture = kept.get(keys[place])
            if picture is None:
                missing.append(place)
                continue
            progress.skip(sampling.steps)
            yield place, picture
        if told:
            log.info("%s: %s", told, plan_text(cells, missing))
        for group in _group_by_capsules(x, y, missing):
            begins(group[0])
            capsules = x.capsule(group[0][0]), y.capsule(group[0][1])
            patched = _patch(inputs, *capsules, y)
            _require_unchanged(merges[group[0]], *capsules)
            for place in group:
                comfy_bridge.check_interrupt()
                begins(place)
                picture = in_bytes(_sample(inputs, patched, encoder, cells[place], progress))
                kept.put(keys[place], picture)
                yield place, picture
            del patched  # frees it before the next one is patched


def plan_text(cells: Mapping[Place, Sampling], missing: Sequence[Place]) -> str:
    """What a run has to do: "9 cells x 20 steps, 4 kept from earlier runs"."""
    steps = sorted({sampling.steps for sampling in cells.values()})
    each = f"{steps[0]} to {steps[-1]}" if len(steps) > 1 else f"{steps[0]}"
    kept = len(cells) - len(missing)
    kept_text = f", {kept} kept from earlier runs" if kept else ""
    return f"{len(cells)} cell{'s' * (len(cells) != 1)} x {each} steps{kept_text}"


def in_bytes(image: Tensor) -> Tensor:
    """A picture (1, height, width, 3) as bytes (height, width, 3), rounded as ComfyUI does when it saves a picture."""
    return image[0].mul(255).clamp(0, 255).to(torch.uint8)


def in_floats(pictures: Tensor) -> Tensor:
    """Bytes as ComfyUI's IMAGE, from 0 to 1; in_bytes() gives exactly the same bytes again."""
    return pictures.to(torch.float32, copy=True).div_(255)  # all cells of a plot can be gigabytes


def _require_clip(inputs: Inputs) -> None:
    texts = [prompt for prompt, given in inputs.conditioning.items() if given is None]
    if texts and inputs.clip is None:
        raise LoraError(
            f"The {' and '.join(texts)} text can't be encoded because no clip is connected. Connect clip, or a "
            f"conditioning to {' and '.join(text + '_cond' for text in texts)}."
        )


def _require_unchanged(merges: Merges | None, x_capsule: Any, y_capsule: Any) -> None:
    """Raise LoraError if a LoRA isn't what it was when the plot began: the others of its cells show the old one."""
    now = merges_key(x_capsule, y_capsule)
    if merges == now or merges is None or now is None:
        return
    changed = [
        sweep.name(number)
        for (sweep, settings), before, after in zip(merges_of(x_capsule, y_capsule), merges, now, strict=True)
        for number, one, other in zip(sweep.strengths(settings), before[0], after[0], strict=True)
        if one != other
    ]
    names = ", ".join(dict.fromkeys(changed))
    raise LoraError(f"{names} has changed since this plot began. Run the workflow again to plot the new file.")


def _group_by_capsules(x: GridAxis, y: GridAxis, places: list[Place]) -> list[list[Place]]:
    groups: dict[tuple[int, int], list[Place]] = {}
    for column, row in sorted(places):
        key = (-1 if x.capsule(column) is None else column), (-1 if y.capsule(row) is None else row)
        groups.setdefault(key, []).append((column, row))
    return list(groups.values())


def _patch(inputs: Inputs, x_capsule: Any, y_capsule: Any, y: GridAxis) -> Patched:
    """Patch as Efficiency's KSampler does, except that our X capsule is also applied if Y is from another pack."""
    model, clip = inputs.model.clone(), None if inputs.clip is None else inputs.clip.clone()
    vae = inputs.vae
    inner = x_capsule if y_capsule is None else y_capsule
    if inner is None:
        return Patched(model, clip, vae, None)
    if x_capsule is not None and y_capsule is not None:
        if isinstance(x_capsule, Capsule) and not isinstance(y_capsule, Capsule):
            model, clip, vae = x_capsule.pre_define_model(model, clip, vae)
        y_capsule.set_x_capsule(x_capsule)
    model, clip, vae = inner.pre_define_model(model, clip, vae)
    # next to an axis of another type, a capsule on X can't tell the rows apart: don't ask it for results
    return Patched(model, clip, vae, inner if y_capsule is not None or y.sampling is None else None)


def _sample(inputs: Inputs, patched: Patched, encoder: Encoder, sampling: Sampling, progress: GridProgress) -> Tensor:
    if patched.capsule is not None:
        result = patched.capsule.get_result(patched.model, patched.clip, patched.vae)
        if result is not None:
            with progress.sampling(sampling.steps):
                return _one_picture(result[0])
    positive, negative = (
        encoder.encode(patched.clip, getattr(sampling, prompt)) if given is None else given
        for prompt, given in inputs.conditioning.items()
    )
    with progress.sampling(sampling.steps):
        latent = comfy_sampling.sample(patched.model, sampling, positive, negative, inputs.latent)
    comfy_bridge.check_interrupt()
    image = comfy_sampling.decode(patched.vae, latent)
    if patched.capsule is not None:
        patched.capsule.set_result(image, latent)
    return _one_picture(image)


def _one_picture(image: Tensor) -> Tensor:
    """The first picture of a batch, or the first frame of a video, without the alpha channel."""
    return image[:1, :, :, :3].to("cpu", torch.float32)
