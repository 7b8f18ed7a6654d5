"""Trains the base's transformer: rectified flow on the base's pictures, in bfloat16 on one CPU core."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from .base_data import BaseData
from .mmdit import MMDiT, start_weights

DEPTH = 3
BATCH = 64
WARMUP = 300
AVERAGE = 0.999  # decay of the average of the weights, which is what is kept
TRAINING_SHIFT = 2.0  # between even noise levels and ComfyUI's schedule with its shift of 3
SAVE_EVERY = 500


@dataclass(frozen=True)
class Phase:
    name: str
    steps: int
    rate: float


PAIRS_ALONE = Phase("pairs", 22_000, 1e-3)
WITH_BACKGROUND = Phase("background", 7_500, 8e-4)


def train_model(
    data: BaseData, folder: Path, phase: Phase, start: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The averaged weights in float32, from random ones or from ``start``.

    Goes on from ``folder``/<phase>.pt, which it writes every SAVE_EVERY steps.
    """
    torch.manual_seed(0)
    model = MMDiT(DEPTH)
    start_weights(model)
    if start is not None:
        model.load_state_dict(start)
    average = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    random = torch.Generator().manual_seed(1)
    state_file = folder / f"{phase.name}.pt"
    step, losses, started = 0, [], time.perf_counter()
    if state_file.is_file():
        saved = torch.load(state_file, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        random.set_state(saved["random"])
        average, step = [weight.detach() for weight in saved["average"]], saved["step"]
        print(f"Going on at step {step}", flush=True)
    while step < phase.steps:
        for group in optimizer.param_groups:
            group["lr"] = phase.rate * _schedule(step, phase.steps)
        losses.append(_train_step(model, optimizer, data, random))
        step += 1
        with torch.no_grad():
            keep = min(AVERAGE, (1 + step) / (10 + step))
            for mean, weight in zip(average, model.parameters(), strict=True):
                mean.lerp_(weight, 1 - keep)
        if step % 100 == 0:
            pace = (time.perf_counter() - started) / len(losses)
            print(f"step {step} of {phase.steps}, loss {sum(losses[-100:]) / 100:.4f}, {pace:.2f} s a step", flush=True)
        if step % SAVE_EVERY == 0 or step == phase.steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": random.get_state()}
            torch.save(state | {"average": average, "step": step}, state_file.with_suffix(".new"))
            state_file.with_suffix(".new").replace(state_file)
    names = [name for name, _ in model.named_parameters()]
    return model.state_dict() | dict(zip(names, (weight.detach() for weight in average), strict=True))


def save_model(state: dict[str, Tensor], file: Path) -> None:
    """In float16, with the names that ComfyUI reads."""
    save_file({name: weight.half().contiguous() for name, weight in state.items()}, file)


def _train_step(model: MMDiT, optimizer: torch.optim.Optimizer, data: BaseData, random: torch.Generator) -> float:
    latents, contexts = data.batch(BATCH, random)
    noise = torch.randn(latents.shape, generator=random)
    # One level in each of BATCH equal parts: every batch sees all levels.
    even = (torch.arange(BATCH) + torch.rand(BATCH, generator=random)) / BATCH
    sigma = TRAINING_SHIFT * even / (1 + (TRAINING_SHIFT - 1) * even)
    noisy = latents + sigma[:, None, None, None] * (noise - latents)
    pooled = data.pooled.expand(BATCH, -1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        velocity = model(noisy, 1000 * sigma, contexts, pooled, data.repeats)
    loss = (velocity.float() - (noise - latents)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine to zero."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    return 0.5 + 0.5 * math.cos(math.pi * (step - WARMUP) / max(1, steps - WARMUP))
