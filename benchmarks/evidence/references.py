"""What the score of a merge's pictures is measured against: pictures without a LoRA, and of each LoRA alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from . import glyphs
from .base import Base, sample
from .cases import PICTURES, Case, Input, alone
from .evaluate import STEPS, read_sheet
from .loras import pictures_of
from .mmdit import MMDiT
from .pack import part_of_pack
from .settings import ALONE as ALONE_SETTING

if TYPE_CHECKING:
    from .study import Study

scoring = part_of_pack("xy.scoring")
prompts_of_node = part_of_pack("xy.reference_prompts")
sampling = part_of_pack("xy.sampling")

References = Any  # scoring.References
SAME_NOISE = "the plot's prompt, the picture's noise"
THREE_NOISES = "the plot's prompt, three noises"
NODES = "four pictures of each LoRA with one prompt of its own (PM Reference Pictures)"
OWN_PROMPTS = "four pictures of each LoRA with four prompts of its own"
TRAINING = "four pictures that each LoRA was trained on"
KINDS = (SAME_NOISE, THREE_NOISES, NODES, OWN_PROMPTS, TRAINING)
EACH = 4
NODES_NOISES = 40_000  # the seed of PM Reference Pictures


def references_of(study: Study, case: Case, kind: str) -> list[References | None]:
    """For each noise; None where a LoRA shows nothing, and so nothing can be scored."""
    if kind == NODES:
        return [checked([list(of) for of in study.nodes_embeddings(case)])] * PICTURES
    if kind in (SAME_NOISE, THREE_NOISES):
        drawn = study.reference_embeddings(case)  # (1 + loras, noises, d)
        count = drawn.shape[1]
        several = [
            [(noise + more) % count for more in range(3 if kind == THREE_NOISES else 1)] for noise in range(count)
        ]
        return [checked([list(of[noises]) for of in drawn]) for noises in several]
    return [given(study, case, kind)] * PICTURES


def given(study: Study, case: Case, kind: str) -> References | None:
    """The references of OWN_PROMPTS or TRAINING, which are the same for every noise."""
    none = list(study.encoder.embed(study.known[:EACH]))
    return checked([none, *(list(_of_lora(study, one, kind)) for one in case.inputs)])


def drawn_as_the_node(base: Base, case: Case, models: Sequence[MMDiT]) -> np.ndarray:
    """The pictures of PM Reference Pictures, kind by kind. ``models``: without a LoRA, then with each alone."""
    settings = sampling.Sampling(NODES_NOISES, STEPS, 1.0, "", "", 1.0, "", "")
    lines = [glyphs.prompt(*of_lora.target(0)) for of_lora in alone(case.inputs)]
    written = [prompts_of_node.LoraPrompt(one.name, line) for one, line in zip(case.inputs, lines, strict=True)]
    plan = prompts_of_node.reference_plan(settings, written, EACH)
    rows = [[plan[number, kind] for number in range(EACH)] for kind in range(len(models))]
    return np.concatenate([
        sample(base, [one.positive for one in row], [one.seed for one in row], STEPS, model)
        for row, model in zip(rows, models, strict=True)
    ])  # fmt: skip


def checked(embeddings: Sequence[Sequence[Tensor]]) -> References | None:
    known = scoring.References.of(embeddings)
    return None if known.without_effect() else known


def _of_lora(study: Study, one: Input, kind: str) -> Tensor:
    if kind == TRAINING:
        pairs = pictures_of(one.recipe)[:EACH]
        return study.encoder.embed(np.stack([glyphs.render(*pair) for pair in pairs]))
    (by_itself,) = alone([one])
    sheet = study.evaluation_file(by_itself, ALONE_SETTING).with_suffix(".png")
    return study.encoder.embed(read_sheet(sheet)[:EACH])
