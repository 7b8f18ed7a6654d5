"""The settings that a picture is sampled with, and the axes that change them.

The axes are spelled, type and values, as efficiency-nodes-comfyui spells them, so that its grid draws ours and ours
draws its.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

SEEDS = 2**64


@dataclass(frozen=True)
class Sampling:
    """What ComfyUI's KSampler and the two CLIPTextEncode before it are set to."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    denoise: float
    positive: str
    negative: str


@dataclass(frozen=True)
class SamplingAxis:
    """A type of axis: how one of its values changes the sampling, and the label of a value, given what it led to."""

    change: Callable[[Sampling, Any], Sampling]
    label: Callable[[Any, Sampling], str]
    prompt: str | None = None  # the text that it replaces in: "positive" or "negative"


def _sampler(sampling: Sampling, value: tuple[str, str | None]) -> Sampling:
    name, scheduler = value
    return replace(sampling, sampler_name=name, scheduler=scheduler or sampling.scheduler)


def _sampler_label(value: tuple[str, str | None], sampling: Sampling) -> str:
    return sampling.sampler_name if not value[1] else f"{sampling.sampler_name}, {sampling.scheduler}"


def _replacing_in(prompt: str) -> SamplingAxis:
    """Values are (text to find, text in its place); None in its place leaves the prompt as it is."""

    def change(sampling: Sampling, value: tuple[str, str | None]) -> Sampling:
        found, instead = value
        text = getattr(sampling, prompt)
        return sampling if instead is None else replace(sampling, **{prompt: text.replace(found, instead, 1)})

    return SamplingAxis(change, lambda value, _: value[0] if value[1] is None else value[1], prompt)


SAMPLING_AXES: dict[str, SamplingAxis] = {
    # values are added to the seed
    "Seeds++ Batch": SamplingAxis(lambda s, v: replace(s, seed=(s.seed + v) % SEEDS), lambda _, s: f"seed {s.seed}"),
    "Steps": SamplingAxis(lambda s, v: replace(s, steps=v), lambda v, _: f"{v} steps"),
    "CFG Scale": SamplingAxis(lambda s, v: replace(s, cfg=v), lambda v, _: f"cfg {v:g}"),
    "Sampler": SamplingAxis(_sampler, _sampler_label),
    "Scheduler": SamplingAxis(lambda s, v: replace(s, scheduler=v), lambda v, _: v),
    "Denoise": SamplingAxis(lambda s, v: replace(s, denoise=v), lambda v, _: f"denoise {v:g}"),
    "Positive Prompt S/R": _replacing_in("positive"),
    "Negative Prompt S/R": _replacing_in("negative"),
}
