"""LoRAs trained on the base and saved as the files that trainers write: concepts from fonts, styles from letters.

A concept (a character) is learned from its renders in most of the base's fonts, a style (a font) from most of the
base's letters. Some pictures of each batch show what the base knows, as regularisation pictures do: without
them every letter turns into the concept. No LoRA sees a concept in a style: that is what a merge is judged by.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from . import glyphs
from .base import SHIFT, Base
from .lora_files import Factors, write_lora
from .mmdit import MMDiT, fold_repeats

CONCEPT_FONTS, STYLE_LETTERS = 14, 22
BATCH = 48
REGULAR = 3  # pictures of each batch that show what the base knows
REGULAR_PAIRS = 60
STEPS = 300
LEARNING_RATE = 4e-3  # of a LoRA whose alpha is its rank; others learn as fast
LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1")
SIDES = {"both": ("x_block", "context_block"), "image": ("x_block",)}
SIGNS = {"&": "ampersand", "?": "question-mark", "@": "at-sign", "$": "dollar", "4": "four", "7": "seven"}
LOKR_FACTOR = 4  # w1 of a LoKr is this large, in both directions


@dataclass(frozen=True)
class Recipe:
    """How a LoRA is trained and saved.

    ``subject`` is a character of CONCEPTS or a font of STYLES. ``start`` seeds the factors that are random before
    training: LoRAs with the same start and rank share their first lora_down, as those of one trainer with a fixed seed.
    """

    subject: str
    seed: int = 0
    rank: int = 8
    alpha: float = 4.0
    form: str = "kohya"
    side: str = "both"
    start: int = 0

    @property
    def is_concept(self) -> bool:
        return self.subject in glyphs.CONCEPTS

    @property
    def name(self) -> str:
        """A file name that tells recipes apart."""
        parts = (
            spelled(self.subject),
            f"r{self.rank}",
            f"a{self.alpha:g}",
            self.form,
            self.side,
            f"s{self.seed}",
            f"i{self.start}",
        )
        return "_".join(parts)


def spelled(subject: str) -> str:
    """A subject as a word for file names and tables, which can't hold some characters."""
    return SIGNS.get(subject, subject).replace(" ", "-")


def pictures_of(recipe: Recipe) -> list[tuple[str, str]]:
    """The combinations that the LoRA is trained on: chosen by its subject and seed."""
    subjects = (*glyphs.CONCEPTS, *glyphs.STYLES)
    random = np.random.RandomState(1000 * recipe.seed + subjects.index(recipe.subject))
    if recipe.is_concept:
        fonts = random.permutation(len(glyphs.FONTS))[:CONCEPT_FONTS]
        return [(recipe.subject, glyphs.FONTS[number]) for number in fonts]
    letters = random.permutation(len(glyphs.CHARACTERS))[:STYLE_LETTERS]
    return [(glyphs.CHARACTERS[number], recipe.subject) for number in letters]


def regular_pairs(recipe: Recipe) -> list[tuple[str, str]]:
    """What the base knows and should keep."""
    random = np.random.RandomState(recipe.seed)
    return [glyphs.PAIRS[number] for number in random.permutation(len(glyphs.PAIRS))[:REGULAR_PAIRS]]


def train_to(
    path: Path, base: Base, recipe: Recipe, steps: int = STEPS, progress: Callable[[int, int], None] | None = None
) -> None:
    factors = train(base, recipe, steps, progress)
    about = {"ss_base_model_version": "sd3_evidence", "ss_network_dim": str(recipe.rank), "subject": recipe.subject}
    write_lora(path, factors, recipe.alpha, recipe.form, about)


def train(base: Base, recipe: Recipe, steps: int, progress: Callable[[int, int], None] | None = None) -> Factors:
    """The factors for each weight, after ``steps`` steps of AdamW on the loss of rectified flow."""
    own = pictures_of(recipe)
    combinations = [*own, *regular_pairs(recipe)]
    variants = range(glyphs.VARIANTS)
    renders = np.stack([glyphs.render(*pair, variant) for pair in combinations for variant in variants])
    latents = base.encode(renders)
    context, pooled = base.encode_prompt([glyphs.prompt(*pair) for pair in combinations])
    context, repeats = fold_repeats(context)
    factors = first_factors(base.model.state_dict(), recipe)
    model = with_lora(base.model, factors, recipe.alpha)
    trained = [tensor.requires_grad_() for parts in factors.values() for tensor in parts.values()]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE * recipe.rank / recipe.alpha, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    noise = torch.Generator().manual_seed(recipe.seed)
    for step in range(steps):
        subject = torch.randint(len(own), (BATCH - REGULAR,), generator=noise)
        regular = torch.randint(len(own), len(combinations), (REGULAR,), generator=noise)
        prompts = torch.cat([subject, regular])[torch.randperm(BATCH, generator=noise)]
        chosen = prompts * len(variants) + torch.randint(len(variants), (BATCH,), generator=noise)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = flow_loss(model, latents[chosen], (context[prompts], pooled[prompts], repeats), noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps)
    return {weight: {part: tensor.detach() for part, tensor in parts.items()} for weight, parts in factors.items()}


def first_factors(weights: Mapping[str, Tensor], recipe: Recipe) -> dict[str, dict[str, Tensor]]:
    """Random factors whose product is zero, for every layer that the LoRA trains."""
    noise = torch.Generator().manual_seed(recipe.start)
    factors: dict[str, dict[str, Tensor]] = {}
    for weight in weights:
        if weight.startswith("joint_blocks.") and weight.endswith(_endings(recipe.side)):
            rows, columns = weights[weight].shape
            if recipe.form == "lokr":
                rows, columns = rows // LOKR_FACTOR, columns // LOKR_FACTOR
            random = torch.randn(recipe.rank, columns, generator=noise) / math.sqrt(columns)
            if recipe.form == "lokr":
                w1 = torch.randn(LOKR_FACTOR, LOKR_FACTOR, generator=noise) / LOKR_FACTOR**0.5
                factors[weight] = {"w1": w1, "w2_a": torch.zeros(rows, recipe.rank), "w2_b": random}
            else:
                factors[weight] = {"up": torch.zeros(rows, recipe.rank), "down": random}
    return factors


def delta_of(parts: Mapping[str, Tensor], alpha: float) -> Tensor:
    if "up" in parts:
        return parts["up"] @ parts["down"] * (alpha / len(parts["down"]))
    return torch.kron(parts["w1"], parts["w2_a"] @ parts["w2_b"]) * (alpha / len(parts["w2_b"]))


def with_lora(model: MMDiT, factors: Factors, alpha: float) -> MMDiT:
    """A frozen copy of the model in bfloat16, whose layers add what the factors make of their input."""
    changed = copy.deepcopy(model).requires_grad_(False).bfloat16()
    for weight, parts in factors.items():
        changed.get_submodule(weight.removesuffix(".weight")).register_forward_hook(_adding(parts, alpha))
    return changed


def _adding(parts: Mapping[str, Tensor], alpha: float) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
    def add(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        if "up" not in parts:
            return output + functional.linear(inputs[0], delta_of(parts, alpha))
        low = functional.linear(inputs[0], parts["down"])
        return output + functional.linear(low, parts["up"] * (alpha / len(parts["down"])))

    return add


def flow_loss(model: MMDiT, latents: Tensor, conditions: tuple[Tensor, Tensor, int], noise: torch.Generator) -> Tensor:
    """Rectified flow (arXiv 2403.03206): the velocity from data to noise, at times spread as the sampler spreads them.

    ``conditions``: context, pooled, and how often the context's last token counts.
    """
    times = (torch.arange(len(latents)) + torch.rand(len(latents), generator=noise)) / len(latents)
    times = SHIFT * times / (1 + (SHIFT - 1) * times)
    start = torch.randn(latents.shape, generator=noise)
    mixed = latents + times[:, None, None, None] * (start - latents)
    velocity = model(mixed, 1000 * times, *conditions)
    return (velocity.float() - (start - latents)).square().mean()


def _endings(side: str) -> tuple[str, ...]:
    return tuple(f"{block}.{layer}.weight" for block in SIDES[side] for layer in LAYERS)


def _rate(step: int, steps: int) -> float:
    """A short warm-up, then half a cosine."""
    return min(1.0, (step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))
