"""info: what LoRA files contain."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import Path

from ..adapters.architecture import architecture_of, architectures_of
from ..adapters.base import Lora, LoraModule
from ..files import load
from ..names.prefixes import is_text_encoder
from ..provenance import recipe
from ..provenance.recipe_summary import summary_of
from .arguments import add_alpha_from

NAME = "info"
HELP = "show what LoRA files contain and how they were made"
EXAMPLES = ("info a.safetensors", "info *.safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("loras", nargs="+", metavar="FILE", help="LoRA files")
    add_alpha_from(parser)


def run(options: argparse.Namespace) -> None:
    for text in options.loras:
        lora = load(Path(text), alpha_from=options.alpha_from)
        print("\n".join([text, *(f"  {line}" for line in _described(lora))]))


def _described(lora: Lora) -> list[str]:
    modules = list(lora.modules.values())
    text_encoder = sum(is_text_encoder(module.name) for module in modules)
    convolutions = sum(module.is_convolution for module in modules)
    low_rank = [module for module in modules if isinstance(module, LoraModule)]
    dtypes = (tensor.dtype for module in modules for suffix, tensor in module.tensors() if suffix != ".alpha")
    architecture = architecture_of(lora)
    made_by = summary_of(lora.metadata.get(recipe.KEY))
    stored = {key: value for key, value in lora.metadata.items() if key != recipe.KEY or not made_by}
    lines = [
        f"family:  {architecture.name if architecture else _possible(lora)}",
        f"kind:    {_counted(module.family for module in modules)}, {convolutions} with kernels above 1x1",
        f"modules: {len(modules) - text_encoder} of the model, {text_encoder} of text encoders",
        f"rank:    {_counted(module.rank for module in low_rank)}",
        f"alpha:   {_counted(f'{module.alpha:g}' for module in low_rank)}",
        f"dtype:   {_counted(str(dtype).removeprefix('torch.') for dtype in dtypes)}",
    ]
    if made_by:
        lines.append(f"made by: {made_by}")
    lines += [f"note:    {note}" for note in lora.notes]
    if stored:
        lines.append("metadata:")
        lines += [f"  {key}: {_shortened(value)}" for key, value in sorted(stored.items())]
    return lines


def _shortened(value: str) -> str:
    return value if len(value) <= 200 else value[:200] + " ..."


def _possible(lora: Lora) -> str:
    """The families that a LoRA may be for, if its names don't decide."""
    possible = dict.fromkeys(architecture.name for architecture in architectures_of(lora))
    return f"one of {', '.join(possible)}" if possible else "unknown: no known model has these names"


def _counted(values: Iterable[Hashable]) -> str:
    counts = Counter(values)
    most = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    shown = ", ".join(f"{value} ({count}x)" if len(counts) > 1 else str(value) for value, count in most[:8])
    return shown + (f" and {len(most) - 8} more" if len(most) > 8 else "")
