"""Options that several subcommands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from ..compute.context import DTYPES
from ..formats.key_styles import STYLES
from ..formats.trainer_scale import AlphaFrom


def add_family(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--family",
        metavar="NAME",
        help='the model family, if the names don\'t show it, e.g. "Krea 2" (default: recognised from the names)',
    )


def add_alpha_from(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--alpha-from",
        choices=get_args(AlphaFrom),
        default="trainer",
        help="scale of tensors without an alpha: trainer also reads the file's header and PEFT's adapter_config.json "
        "next to it; tensors ignores both, as ComfyUI's own loader does",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda, mps, ...")


def add_output(parser: argparse.ArgumentParser, required: bool = True, help: str = "the file to write") -> None:
    parser.add_argument("-o", "--output", type=Path, required=required, metavar="FILE.safetensors", help=help)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output file (default: append a number to its name)"
    )


def add_result(parser: argparse.ArgumentParser) -> None:
    """Output, key style, precision and device of a command that makes a LoRA."""
    add_output(parser)
    parser.add_argument("--names", choices=STYLES, help="key style of the file (default: that of the first input)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="precision of the result")
    add_device(parser)
