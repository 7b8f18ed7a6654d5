"""inspect: how strong LoRAs are, where, at which rank, and how they relate; as text, JSON and a picture."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..errors import LoraError
from ..files import READABLE
from ..inspecting.figure import figure_of
from ..inspecting.inspect import inspect
from ..inspecting.report import as_json, as_text
from .arguments import add_alpha_from, add_family
from .input_files import SYNTAX, SYNTAX_HELP, of_family, parse_input
from .output import computing

NAME = "inspect"
HELP = "measure LoRA files: norms, ranks, where their energy is, and how much they overlap"
EXAMPLES = (
    "inspect a.safetensors",
    "inspect a.safetensors:0.8 b.safetensors --picture ab.png --json ab.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("loras", nargs="+", metavar=SYNTAX, help=SYNTAX_HELP)
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw the picture into this file, .png for example"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers into this file")
    add_family(parser)
    add_alpha_from(parser)
    parser.set_defaults(device="cpu")


def run(options: argparse.Namespace) -> None:
    for option, path in (("--picture", options.picture), ("--json", options.json)):
        if path is None:
            continue
        if path.suffix.lower() in READABLE:  # `--json a.safetensors` without a file name would replace the LoRA
            raise LoraError(
                f"{option} would write into {path.name}, which looks like a LoRA file. Name the file to write after "
                f"{option}, e.g. {option} {'look.png' if path is options.picture else 'look.json'}."
            )
        if not path.parent.is_dir():
            raise LoraError(
                f"There is no folder {path.parent} for {path.name}. Correct the path, or create the folder."
            )
    if options.picture and options.draw_inspection is None:
        raise LoraError("--picture needs the pack's pictures/: run python -m merge from the pack's folder.")
    inputs = [parse_input(text) for text in options.loras]
    loras = [of_family(file.load(options.alpha_from), options.family) for file in inputs]
    with computing(options) as compute:
        inspection = inspect(loras, compute=compute)
    print(as_text(inspection))
    if options.json:
        text = json.dumps(as_json(inspection), indent=2, ensure_ascii=False, allow_nan=False)
        options.json.write_text(text + "\n", "utf-8", newline="\n")
    if options.picture:
        image = options.draw_inspection(figure_of(inspection))
        try:
            image.save(options.picture)
        except ValueError as error:  # Pillow doesn't know the ending
            raise LoraError(f"{options.picture.name} can't be written: {error}. Choose a name like look.png.") from None
