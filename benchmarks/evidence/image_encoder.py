"""An image encoder for the score's validation: it has never seen the concepts and styles that the score is asked about.

As CLIP's does, it turns a picture into a vector of length 1 that lies near the vectors of what the picture shows: here
of its character and of its font. Those that it learns are the base's letters and fonts and the background's.

    python -m benchmarks.evidence.image_encoder     train the shipped encoder again: a few minutes on one core
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from .base import FOLDER
from .base_data import background_pairs
from .glyphs import PAIRS, render
from .judges import BATCH, FEATURES, as_seen, augmented, convolutions

FILE = FOLDER / "image_encoder.safetensors"
LENGTH = 256  # of an embedding
SHARPNESS = 16.0  # of the softmax over cosines
STEPS = 8000


class ImageEncoder(nn.Module):
    """Grey pictures (N, 1, SIDE, SIDE) of the judges' size to embeddings (N, LENGTH) of length 1."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*convolutions(), nn.Flatten(), nn.Linear(FEATURES, LENGTH))

    def forward(self, pictures: Tensor) -> Tensor:
        return functional.normalize(self.layers(pictures), dim=1)

    @torch.no_grad()
    def embed(self, pictures: np.ndarray) -> Tensor:
        """(N, H, W) in 0 to 1 to (N, LENGTH)."""
        return self(as_seen(torch.from_numpy(pictures)))


def train(pairs: list[tuple[str, str]], steps: int = STEPS, report: bool = True) -> ImageEncoder:
    """Draws each picture's embedding towards a learned vector of its character and one of its font."""
    torch.manual_seed(0)
    noise = torch.Generator().manual_seed(0)
    images = as_seen(torch.from_numpy(np.stack([render(*pair) for pair in pairs])))
    names = [sorted({pair[part] for pair in pairs}) for part in (0, 1)]
    numbers = torch.tensor([[names[part].index(pair[part]) for part in (0, 1)] for pair in pairs])
    encoder = ImageEncoder()
    words = nn.ParameterList([nn.Parameter(torch.randn(len(of), LENGTH) / LENGTH**0.5) for of in names])
    trained = [*encoder.parameters(), *words.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        batch = torch.randint(len(pairs), (BATCH,), generator=noise)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embeddings = encoder(augmented(images[batch], noise)).float()
        loss = torch.zeros(())
        for part in (0, 1):
            cosines = embeddings @ functional.normalize(words[part], dim=1).T
            loss = loss + functional.cross_entropy(SHARPNESS * cosines, numbers[batch, part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if report and (step + 1) % 500 == 0:
            print(f"step {step + 1} of {steps}, loss {loss.item():.3f}", flush=True)
    return encoder.eval()


def save(encoder: ImageEncoder, file: Path) -> None:
    state = encoder.state_dict()
    save_file({name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}, file)


def load(file: Path = FILE) -> ImageEncoder:
    encoder = ImageEncoder()
    encoder.load_state_dict({name: value.float() if value.is_floating_point() else value
                             for name, value in load_file(file).items()})  # fmt: skip
    return encoder.eval()


def train_to(file: Path) -> None:
    save(train([*PAIRS, *background_pairs()]), file)


def main() -> None:
    torch.set_num_threads(1)
    train_to(FILE)


if __name__ == "__main__":
    main()
