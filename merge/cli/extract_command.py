"""extract: the difference of two models as a LoRA."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..compute.truncation_loss import TruncationLoss
from ..merging.resize import METHODS
from ..models.extract import counted, extract
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
    loss = TruncationLoss()
    with computing(options, dtype_of(options)) as compute:
        ranks, method = (options.rank, options.conv_rank), (options.method, options.value)
        lora = extract(options.tuned, options.base, *ranks, *method, loss.observe(compute))
    write(lora, options)
    print(f"{', '.join(counted(lora))}; {loss.kept} of the difference's norm kept")
