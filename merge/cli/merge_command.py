"""merge: several LoRA files into one."""

from __future__ import annotations

import argparse

from ..errors import LoraError
from ..merging.merge_deltas import merge_deltas
from ..merging.merge_factors import merge_factors
from ..methods.registry import DELTA_MODES, FACTOR_MODES, using_density
from .arguments import add_alpha_from, add_family, add_result
from .input_files import SYNTAX_HELP, of_family, parse_input
from .output import computing, dtype_of, require_output, write

NAME = "merge"
HELP = "merge LoRA files into one"
EXAMPLES = (
    "merge a.safetensors b.safetensors -o sum.safetensors",
    "merge a.safetensors:0.8 b.safetensors:0.5:0 --mode add_svd --rank 32 -o small.safetensors",
    "merge a.safetensors:0.8:mid=0 b.safetensors:1:SD-OUT --mode ties_svd --density 0.5 -o out.safetensors",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("loras", nargs="+", metavar="LORA", help=SYNTAX_HELP)
    modes = f"on factors: {', '.join(FACTOR_MODES)}; on deltas, truncated by SVD: {', '.join(DELTA_MODES)}"
    parser.add_argument("--mode", default="concat", help=modes)
    parser.add_argument(
        "--density",
        type=float,
        default=0.6,
        help=f"share of each LoRA's values to keep, above 0 and up to 1, in the modes "
        f"{', '.join(using_density(FACTOR_MODES))} and their _svd forms",
    )
    parser.add_argument("--rank", type=int, default=32, help="rank of the *_svd modes; 0: as the inputs")
    parser.add_argument("--conv-rank", type=int, default=0, help="rank for kernels larger than 1x1; 0: as the inputs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the dare modes")
    add_family(parser)
    add_alpha_from(parser)
    add_result(parser)


def run(options: argparse.Namespace) -> None:
    require_output(options.output)
    if options.density == 0 and options.mode in using_density([*FACTOR_MODES, *DELTA_MODES]):
        raise LoraError("With density 0 nothing would be left. Choose a density above 0, e.g. 0.6.")
    inputs = [parse_input(text) for text in options.loras]
    loras = [of_family(one.load(options.alpha_from), options.family) for one in inputs]
    with computing(options, dtype_of(options)) as compute:
        if options.mode in FACTOR_MODES:
            merged = merge_factors(loras, options.mode, options.density, options.seed, compute)
        elif options.mode in DELTA_MODES:
            ranks = options.rank, options.conv_rank
            merged = merge_deltas(loras, options.mode, options.density, *ranks, options.seed, compute)
        else:
            known = ", ".join([*FACTOR_MODES, *DELTA_MODES])
            raise LoraError(f"There is no merge mode {options.mode!r}. The modes are {known}.")
    write(merged, options)
