"""Where a subcommand computes, its progress bars, and the file that it writes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from ..adapters.base import Lora
from ..compute.context import DTYPES, Compute, Progress
from ..compute.devices import with_index
from ..errors import LoraError
from ..files import save


def require_output(path: Path) -> None:
    """Raise LoraError, before any work, if the output's ending is wrong or its folder doesn't exist."""
    if path.suffix != ".safetensors":
        raise LoraError(f"The output {path.name} must end in .safetensors.")
    if not path.parent.is_dir():
        kind = "is not a folder" if path.parent.exists() else "doesn't exist"
        raise LoraError(f"The output's folder {path.parent} {kind}. Correct the path, or create the folder first.")


@contextmanager
def computing(options: argparse.Namespace, dtype: torch.dtype = torch.float32) -> Iterator[Compute]:
    """The chosen device, with a progress bar over the modules of one operation."""
    with tqdm(unit=" modules", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield Compute(_device(options.device), dtype, show)


@contextmanager
def writing() -> Iterator[Progress]:
    """A progress bar over the bytes of a file."""
    with tqdm(unit="B", unit_scale=True, disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def write(lora: Lora, options: argparse.Namespace, output: Path | None = None) -> None:
    """Save a result, and print where, how much, and the merge's notes. ``output`` None: the file of the options."""
    with writing() as show:
        written = save(lora, output or options.output, overwrite=options.overwrite, style=options.names, progress=show)
    print(f"{written}: {len(lora.modules)} modules, {written.stat().st_size / 1e6:.1f} MB")
    for note in lora.notes:
        print(f"note: {note}")


def dtype_of(options: argparse.Namespace) -> torch.dtype:
    return DTYPES[options.dtype]


def _device(name: str) -> torch.device:
    try:
        device = with_index(torch.device(name))
        torch.ones(1, device=device).cpu()  # meta tensors can be made, but hold nothing
    except (RuntimeError, AssertionError) as error:
        raise LoraError(f"The device {name} can't be used here: {str(error).splitlines()[0]}") from None
    return device
