"""replay: a merged or resized file made again from its recipe."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ..errors import LoraError
from ..files import load, save, tensors_equal
from ..replay import replay
from .arguments import add_device, add_output
from .output import computing, require_output

NAME = "replay"
HELP = "rebuild a merged or resized file from its recipe, and compare"
EXAMPLES = (
    "replay merged.safetensors",
    "replay merged.safetensors --loras ComfyUI/models/loras -o again.safetensors",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lora", metavar="FILE", help="a file that this pack has saved")
    parser.add_argument(
        "--loras",
        dest="folder",
        type=Path,
        metavar="DIR",
        help="folder to search for the inputs, with its subfolders (default: the file's own)",
    )
    add_output(parser, required=False, help="the file to write (default: none, the tensors are only compared)")
    add_device(parser)


def run(options: argparse.Namespace) -> None:
    path = Path(options.lora)
    if options.output:
        require_output(options.output)
    lora = load(path)
    with tempfile.TemporaryDirectory() as scratch:
        with computing(options) as compute:
            again = replay(lora, options.folder or path.parent, Path(scratch), compute)
        output = options.output or Path(scratch) / "replayed.safetensors"
        written = save(again.lora, output, again.dtype, options.overwrite, style=again.names)
        same = tensors_equal(path, written)
        where = f"{written}: " if options.output else ""
        verdict = "the same" if same else "NOT the same"
        print(f"{where}{len(again.lora.modules)} modules, {verdict} tensors as in {path}")
    if not same:
        raise LoraError("The inputs match the recipe, so a different torch, processor or version computed this file.")
