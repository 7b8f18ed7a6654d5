"""extract: the difference of two models as a LoRA."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ..merging.resize import METHODS
from ..models.extract import counted, extract, kept_share
from .arguments import add_result
from .output import computing, dtype_of, require_output, write

NAME = "extract"
HELP = "make a LoRA of the difference of two models"
EXAMPLES = (
    "extract tuned.safetensors sd_xl_base_1.0.safetensors --rank 64 -o tuned_lora.safetensors",
    "extract tuned.safetensors base.safetensors --rank 128 --method sv_fro --value 0.9 -o lora.safetensors",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tuned", type=Path, metavar="TUNED", help="a checkpoint or diffusion model, .safetensors")
    parser.add_argument("base", type=Path, metavar="BASE", help="the model that it was tuned from")
    parser.add_argument("--rank", type=int, default=32, help="rank, or the upper bound of the sv_* methods")
    parser.add_argument("--conv-rank", type=int, default=0, help="rank for kernels larger than 1x1; 0: as --rank")
    parser.add_argument("--method", default="fixed", help=", ".join(METHODS))
    parser.add_argument("--value", type=float, default=0.9, help="criterion of the sv_* methods")
    add_result(parser)


def run(options: argparse.Namespace) -> None:
    require_output(options.output)
    norms = [0.0, 0.0]

    def add(kept: float, total: float) -> None:
        norms[0] += kept
        norms[1] += total

    with computing(options, dtype_of(options)) as compute:
        compute = replace(compute, report_truncation=add)
        ranks = options.rank, options.conv_rank
        lora = extract(options.tuned, options.base, *ranks, options.method, options.value, compute)
    write(lora, options)
    print(f"{', '.join(counted(lora))}; {100 * kept_share(*norms):.1f} % of the difference's norm kept")
