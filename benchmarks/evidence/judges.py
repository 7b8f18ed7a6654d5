"""Two judges, trained apart from the base: one reads the character of a picture, the other its font.

They see renders that were shifted, turned, sized, blurred and overlaid with noise, never a picture of the base. Some
combinations of character and font are held out of their training; their accuracy on these is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from .glyphs import CHARACTERS, FONTS

SIDE = 48  # what a judge sees: pictures are scaled down to this many pixels
HELD_OUT = 0.15
BATCH = 64
LAYERS = ((32, 5, 2), (64, 3, 1), (128, 3, 1))  # channels, kernel, stride
FEATURES = LAYERS[-1][0] * (SIDE // 16) ** 2  # of the convolutions: a stride and three poolings


def convolutions() -> list[nn.Module]:
    """(N, 1, SIDE, SIDE) to FEATURES values, not yet flat."""
    layers: list[nn.Module] = []
    before = 1
    for width, kernel, stride in LAYERS:
        layers.append(nn.Conv2d(before, width, kernel, stride, padding=kernel // 2, bias=False))
        layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        before = width
    return layers


class Judge(nn.Module):
    """A small convolutional classifier of grey pictures (N, 1, SIDE, SIDE)."""

    def __init__(self, classes: int):
        super().__init__()
        self.features = nn.Sequential(*convolutions(), nn.Flatten(), nn.Dropout(0.2))
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.features(pictures))


@dataclass(frozen=True)
class Trained:
    judge: Judge
    classes: tuple[str, ...]
    accuracy: float  # on clean renders of the held-out combinations

    @torch.no_grad()
    def name(self, pictures: np.ndarray) -> list[str]:
        """The class of each picture (N, H, W) in 0 to 1."""
        guesses = self.judge(as_seen(torch.from_numpy(pictures))).argmax(1)
        return [self.classes[guess] for guess in guesses.tolist()]


def as_seen(pictures: Tensor) -> Tensor:
    """Pictures (N, H, W) at the judges' size, (N, 1, SIDE, SIDE)."""
    return functional.interpolate(pictures[:, None].float(), (SIDE, SIDE), mode="area")


def train(
    labels: Sequence[tuple[str, str]],
    renders: Tensor,
    part: int,
    steps: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trained:
    """A judge of part 0 (the character) or 1 (the font) of ``labels``, from their ``renders`` (N, H, W)."""
    torch.manual_seed(part)
    noise = torch.Generator().manual_seed(part)
    classes = tuple(sorted({label[part] for label in labels}))
    numbers = torch.tensor([classes.index(label[part]) for label in labels])
    held = held_out(labels)
    images = as_seen(renders)
    judge = Judge(len(classes)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    seen = torch.tensor([number for number in range(len(labels)) if not held[number]])
    for step in range(steps):
        batch = seen[torch.randint(len(seen), (BATCH,), generator=noise)]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            guesses = judge(augmented(images[batch], noise))
        loss = functional.cross_entropy(guesses.float(), numbers[batch], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress(step + 1, steps)
    judge.eval()
    return Trained(judge, classes, _accuracy(judge, images, numbers, held))


def held_out(labels: Sequence[tuple[str, str]]) -> list[bool]:
    """Which combinations a judge never trains on: the same for both judges.

    Each has a letter or a font of the base. The concepts in the styles, which merges are judged by, are all learned.
    """
    known = [number for number, (char, font) in enumerate(labels) if char in CHARACTERS or font in FONTS]
    random = np.random.RandomState(0)
    chosen = {known[place] for place in random.permutation(len(known))[: math.ceil(HELD_OUT * len(known))].tolist()}
    return [number in chosen for number in range(len(labels))]


@torch.no_grad()
def augmented(images: Tensor, noise: torch.Generator) -> Tensor:
    """Pictures (N, 1, H, W) as a model may draw them: turned, sized, shifted, blurred, paler, with noise."""
    count = len(images)

    def between(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=noise) * (high - low) + low

    angle, shear = between(-0.07, 0.07), between(-0.06, 0.06)
    across, down = between(0.88, 1.12), between(0.88, 1.12)
    turned = torch.zeros(count, 2, 3)
    turned[:, 0, 0], turned[:, 0, 1] = angle.cos() * across, -angle.sin() + shear
    turned[:, 1, 0], turned[:, 1, 1] = angle.sin(), angle.cos() * down
    turned[:, 0, 2], turned[:, 1, 2] = between(-0.12, 0.12), between(-0.12, 0.12)
    grid = functional.affine_grid(turned, list(images.shape), align_corners=False)
    images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    images = _blurred(images, between(0.2, 1.1))
    images = images * between(0.8, 1.0)[:, None, None, None] + between(0.0, 0.1)[:, None, None, None]
    speckle = torch.randn(images.shape, generator=noise) * between(0.0, 0.12)[:, None, None, None]
    return (images + speckle).clamp(0, 1)


def _blurred(images: Tensor, widths: Tensor) -> Tensor:
    """A Gaussian blur of its own width (in pixels) for each picture."""
    offsets = torch.arange(-2, 3, dtype=torch.float32)
    kernel = torch.exp(-(offsets**2) / (2 * widths[:, None] ** 2))
    kernel = kernel / kernel.sum(1, keepdim=True)
    stacked = images.transpose(0, 1)  # one group for each picture
    for shape in ((-1, 1, 1, 5), (-1, 1, 5, 1)):
        padding = (0, 2) if shape[3] == 5 else (2, 0)
        stacked = functional.conv2d(stacked, kernel.reshape(shape), padding=padding, groups=len(images))
    return stacked.transpose(0, 1)


@torch.no_grad()
def _accuracy(judge: Judge, images: Tensor, numbers: Tensor, held: Sequence[bool]) -> float:
    chosen = torch.tensor(held)
    return float((judge(images[chosen]).argmax(1) == numbers[chosen]).float().mean())


def save(trained: Trained, path: Path) -> None:
    metadata = {"classes": "\n".join(trained.classes), "accuracy": repr(trained.accuracy)}
    unfinished = path.with_suffix(".unfinished")
    tensors = {name: tensor.contiguous() for name, tensor in trained.judge.state_dict().items()}
    save_file(tensors, unfinished, metadata=metadata)
    unfinished.replace(path)


def load(path: Path) -> Trained:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    classes = tuple(metadata["classes"].split("\n"))
    judge = Judge(len(classes))
    judge.load_state_dict(tensors)
    return Trained(judge.eval(), classes, float(metadata["accuracy"]))
