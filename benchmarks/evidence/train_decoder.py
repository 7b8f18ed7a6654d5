"""Trains the autoencoder's decoder on the base's pictures."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .autoencoder import Decoder, Encoder

STEPS = 3000
BATCH = 16
LEARNING_RATE = 2e-3
NOISE = 0.08  # on the latents: what the transformer samples is never exact


def train_decoder(pictures: np.ndarray, encoder: Encoder, steps: int = STEPS) -> Decoder:
    """``pictures`` (N, H, W) in 0..1."""
    torch.manual_seed(0)
    decoder = Decoder().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    random = torch.Generator().manual_seed(2)
    images = torch.from_numpy(pictures)
    losses: list[float] = []
    for step in range(steps):
        warm = min(1.0, (step + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * warm * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        batch = images[torch.randint(len(images), (BATCH,), generator=random)]
        loss = _loss(decoder, encoder, batch, random)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            print(f"decoder: step {step + 1} of {steps}, loss {sum(losses[-100:]) / 100:.4f}", flush=True)
    return decoder.eval()


def _loss(decoder: Decoder, encoder: Encoder, batch: Tensor, random: torch.Generator) -> Tensor:
    with torch.no_grad():
        latents = encoder(batch)
        latents = latents + NOISE * torch.randn(latents.shape, generator=random)
        latents = latents.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        drawn = decoder(latents)
    error = drawn.float() - batch[:, None]
    return error.abs().mean() + functional.mse_loss(drawn.float(), batch[:, None].expand_as(drawn))
