"""Which prompt and which seed each reference picture is sampled with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ..merge.errors import LoraError
from ..pictures.grid_layout import Place
from .sampling import SEEDS, Sampling

NO_LORA = "no LoRA"


@dataclass(frozen=True)
class LoraPrompt:
    """The prompt of a LoRA's pictures. ``of_its_file``: made of its trigger words, because the user wrote none."""

    name: str
    text: str
    of_its_file: bool = False


def prompts_of(
    lines: str, names: Sequence[str], words: Callable[[int], Sequence[str]], without: Collection[int] = ()
) -> list[LoraPrompt]:
    """A prompt for each LoRA: its line, or its trigger words if that is empty or missing.

    ``words`` gives those of a LoRA by its position, from 0. LoRAs at the positions ``without`` have no part, nor have
    their lines. Raises LoraError for a LoRA without either, and for lines
    that belong to no LoRA.
    """
    written = [line.strip() for line in lines.rstrip().splitlines()]
    if len(written) > len(names):
        raise LoraError(
            f"prompts has {len(written)} lines for {len(names)} LoRA{'s' * (len(names) != 1)}: {', '.join(names)}. "
            "Write one line for each, in this order."
        )
    written += [""] * (len(names) - len(written))
    return [
        LoraPrompt(name, line) if line else _of_its_file(name, words(position), position + 1)
        for position, (name, line) in enumerate(zip(names, written, strict=True))
        if position not in without
    ]


def _of_its_file(name: str, words: Sequence[str], line: int) -> LoraPrompt:
    if not words:
        raise LoraError(
            f"{name} has no prompt: line {line} of prompts is empty, and its file names no trigger words. Write what "
            f"the LoRA was trained to show in line {line} of prompts."
        )
    return LoraPrompt(name, ", ".join(words), of_its_file=True)


def reference_plan(base: Sampling, prompts: Sequence[LoraPrompt], pictures: int) -> dict[Place, Sampling]:
    """The settings of every picture by (picture, kind), kind by kind: first without LoRAs, then of each LoRA.

    The pictures of a kind differ in their seeds, which are the same for every kind. Those without LoRAs take the
    LoRAs' prompts in turn, so that what a prompt alone changes isn't counted as a LoRA's effect.
    """
    in_turn = [prompts[number % len(prompts)] for number in range(pictures)]
    kinds = [in_turn, *([prompt] * pictures for prompt in prompts)]
    return {
        (number, kind): replace(base, seed=(base.seed + number) % SEEDS, positive=prompt.text)
        for kind, of_kind in enumerate(kinds)
        for number, prompt in enumerate(of_kind)
    }


def labels_of(plan: Mapping[Place, Sampling], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The labels of the sheet's columns, one for each seed, and of its rows, one for each kind."""
    return [f"seed {sampling.seed}" for (_, kind), sampling in plan.items() if kind == 0], [NO_LORA, *names]


def report(prompts: Sequence[LoraPrompt], pictures: int, remarks: Sequence[str] = ()) -> str:
    """A line for each kind with its prompt, the remarks, and what is doubtful."""
    lines = [f"{NO_LORA}: the prompts below, in turn"]
    lines += [f"{one.name}: {one.text}{' (trigger words of its file)' * one.of_its_file}" for one in prompts]
    lines += remarks
    if pictures < len(prompts):
        unseen = ", ".join(one.name for one in prompts[pictures:])
        lines.append(
            f"No picture without LoRAs has the prompt of {unseen}: scores are better if pictures is {len(prompts)} or "
            "more."
        )
    return "\n".join([f"{(len(prompts) + 1) * pictures} pictures, {pictures} of each:", *lines])
