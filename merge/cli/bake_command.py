"""bake: a checkpoint with LoRAs added to its weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..compute.context import DTYPES
from ..models.bake import bake
from .arguments import add_alpha_from, add_family, add_output
from .input_files import SYNTAX_HELP, of_family, parse_input
from .output import require_output, writing

NAME = "bake"
HELP = "write a checkpoint with LoRAs added to its weights"
EXAMPLES = (
    "bake sd_xl_base_1.0.safetensors style.safetensors:0.8 -o sdxl_style.safetensors",
    "bake flux1-dev.safetensors a.safetensors b.safetensors:0.5 --dtype bfloat16 -o flux_ab.safetensors",
)
AS_THE_FILE = "file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="CHECKPOINT", help="a checkpoint or diffusion model, .safetensors")
    parser.add_argument("loras", nargs="+", metavar="LORA", help=SYNTAX_HELP)
    parser.add_argument(
        "--dtype",
        choices=(AS_THE_FILE, *DTYPES),
        default=AS_THE_FILE,
        help="precision of the model's and the text encoders' weights; file keeps each tensor's own. float8 weights "
        "and the VAE always keep theirs",
    )
    add_family(parser)
    add_alpha_from(parser)
    add_output(parser)


def run(options: argparse.Namespace) -> None:
    require_output(options.output)
    loras = [of_family(one.load(options.alpha_from), options.family) for one in map(parse_input, options.loras)]
    with writing() as show:
        dtype = DTYPES.get(options.dtype)
        baked = bake(options.model, loras, options.output, dtype, options.overwrite, progress=show)
    print(f"{baked.path}: {baked.changed} tensors changed, {baked.path.stat().st_size / 1e6:.1f} MB")
    for note in baked.notes:
        print(f"note: {note}")
