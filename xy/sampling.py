"""Sampling settings, and the axes that change them.

Axis types and values are those of efficiency-nodes-comfyui, so its XY plot accepts our axes and our grid accepts its.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

SEEDS = 2**64


@dataclass(frozen=True)
class Sampling:
    """The settings of ComfyUI's KSampler and of the CLIPTextEncode nodes for its two prompts."""

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
    """An axis type: ``change`` applies a value to the settings; ``label`` names it, given the changed settings."""

    change: Callable[[Sampling, Any], Sampling]
    label: Callable[[Any, Sampling], str]
    prompt: str | None = None  # the prompt in which it replaces words: "positive" or "negative"


def _sampler(sampling: Sampling, value: tuple[str, str | None]) -> Sampling:
    name, scheduler = value
    return replace(sampling, sampler_name=name, scheduler=scheduler or sampling.scheduler)


def _sampler_label(value: tuple[str, str | None], sampling: Sampling) -> str:
    return sampling.sampler_name if not value[1] else f"{sampling.sampler_name}, {sampling.scheduler}"


def _replacing_in(prompt: str) -> SamplingAxis:
    """Values are (text to find, replacement); a replacement of None leaves the prompt unchanged."""

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
