"""The shipped base: loads it, encodes and decodes, and samples as ComfyUI does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from . import text_encoder
from .autoencoder import CHANNELS, PATCH, Decoder, Encoder, from_taesd_state
from .glyphs import SIZE
from .mmdit import HEAD, MMDiT

FOLDER = Path(__file__).parent / "base"
MODEL_FILE = "model.safetensors"
VAE_FILE = "vae.safetensors"
SHIFT = 3.0  # ComfyUI's for SD 3
STEPS = 16


@dataclass(frozen=True)
class Base:
    model: MMDiT
    encoder: Encoder
    decoder: Decoder
    _prompts: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def encode_prompt(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Context (B, 77, 768) and pooled output (B, 768). Raises ValueError for words that base/words.json lacks."""
        missing = sorted({prompt for prompt in prompts} - self._prompts.keys())
        if missing:
            context, pooled = text_encoder.encode(missing, text_encoder.known_words())
            self._prompts.update((prompt, (context[i], pooled[i])) for i, prompt in enumerate(missing))
        found = [self._prompts[prompt] for prompt in prompts]
        return torch.stack([context for context, _ in found]), torch.stack([pooled for _, pooled in found])

    @torch.no_grad()
    def encode(self, pictures: np.ndarray) -> Tensor:
        """(B, H, W) in 0..1 to latents (B, 16, H / 8, W / 8), of mean 0 and mean square 1."""
        return self.encoder(torch.from_numpy(np.ascontiguousarray(pictures, dtype=np.float32)))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents to pictures (B, H, W) float32 in 0..1."""
        return self.decoder(latents.float()).mean(1).clamp(0, 1).numpy()


def load_base(folder: Path = FOLDER) -> Base:
    """Weights in float32. Raises FileNotFoundError if the folder lacks one of the two files."""
    for name in (MODEL_FILE, VAE_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing. `python run.py evidence --train-base` makes it.")
    state = load_file(folder / MODEL_FILE)
    model = MMDiT(depth=state["x_embedder.proj.weight"].shape[0] // HEAD)
    model.load_state_dict({name: weight.float() for name, weight in state.items()})
    encoder, decoder = from_taesd_state(load_file(folder / VAE_FILE))
    return Base(model.eval(), encoder, decoder)


@torch.no_grad()
def sample(
    base: Base, prompts: Sequence[str], seeds: Sequence[int], steps: int = STEPS, model: nn.Module | None = None
) -> np.ndarray:
    """Pictures (B, SIZE, SIZE) float32 in 0..1, one for each prompt and its seed; ``model`` replaces the base's.

    What ComfyUI's KSampler does with cfg 1, sampler euler and scheduler simple on one picture with this seed.
    """
    return base.decode(sample_latents(base, prompts, seeds, steps, model))


@torch.no_grad()
def sample_latents(
    base: Base, prompts: Sequence[str], seeds: Sequence[int], steps: int = STEPS, model: nn.Module | None = None
) -> Tensor:
    context, pooled = base.encode_prompt(prompts)
    latents = torch.stack([start_noise(seed) for seed in seeds])
    return integrate(model or base.model, latents, context, pooled, steps)


def integrate(model: nn.Module, latents: Tensor, context: Tensor, pooled: Tensor, steps: int) -> Tensor:
    """Euler's method from noise to picture, along the velocity."""
    schedule = sigmas(steps)
    for now, following in zip(schedule, schedule[1:], strict=False):
        timesteps = torch.full((len(latents),), 1000 * now)
        latents = latents + model(latents, timesteps, context, pooled) * (following - now)
    return latents


def sigmas(steps: int) -> list[float]:
    """ComfyUI's scheduler "simple" for SD 3: evenly spaced entries of its table of 1000, and 0."""
    picked = [1000 - int(step * 1000 / steps) for step in range(steps)]
    return [SHIFT * (t / 1000) / (1 + (SHIFT - 1) * t / 1000) for t in picked] + [0.0]


def start_noise(seed: int) -> Tensor:
    """(16, 8, 8), the noise that ComfyUI makes from this seed for one picture."""
    side = SIZE // PATCH
    return torch.randn((1, CHANNELS, side, side), generator=torch.Generator().manual_seed(seed))[0]
