"""resize: a LoRA file at another rank."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..compute.truncation_loss import TruncationLoss
from ..files import load
from ..merging.resize import METHODS, resize
from .arguments import add_alpha_from, add_family, add_result
from .input_files import of_family
from .output import computing, dtype_of, require_output, write

NAME = "resize"
HELP = "change the rank of a LoRA file; LoHa and LoKr become plain LoRA"
EXAMPLES = (
    "resize large.safetensors --rank 16 -o small.safetensors",
    "resize lokr.safetensors --as lora --rank 32 -o plain.safetensors",
    "resize large.safetensors --rank 64 --method sv_fro --value 0.95 -o small.safetensors",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lora", metavar="FILE", help="a LoRA file")
    parser.add_argument("--rank", type=int, default=16, help="new rank, or the upper bound of the sv_* methods")
    parser.add_argument("--conv-rank", type=int, default=0, help="rank for kernels larger than 1x1; 0: as --rank")
    parser.add_argument("--method", default="fixed", help=", ".join(METHODS))
    parser.add_argument("--value", type=float, default=0.9, help="criterion of the sv_* methods")
    parser.add_argument(
        "--as",
        dest="form",
        choices=("lora",),
        help="lora: leave out biases, norms and whatever else isn't a plain LoRA, for programs that load nothing else",
    )
    add_family(parser)
    add_alpha_from(parser)
    add_result(parser)


def run(options: argparse.Namespace) -> None:
    require_output(options.output)
    lora = of_family(load(Path(options.lora), alpha_from=options.alpha_from), options.family)
    loss = TruncationLoss()
    with computing(options, dtype_of(options)) as compute:
        ranks, method = (options.rank, options.conv_rank), (options.method, options.value)
        resized = resize(lora, *ranks, *method, loss.observe(compute), options.form == "lora")
    write(resized, options)
    print(f"{loss} of the norm lost")
