"""merge: several LoRA files into one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..adapters.base import Lora
from ..errors import LoraError
from ..merging.merge_deltas import merge_deltas
from ..merging.merge_factors import merge_factors
from ..merging.options import MergeOptions
from ..methods.density import require_density
from ..methods.registry import DELTA_MODES, FACTOR_MODES, method_of, using_density
from .arguments import add_alpha_from, add_family, add_result
from .input_files import SYNTAX_HELP, of_family, parse_input
from .merge_options import add_merge_options, merge_options
from .output import computing, dtype_of, require_output, write
from .pairs import other_inputs, parse_pair

NAME = "merge"
_MODES = (*FACTOR_MODES, *DELTA_MODES)
HELP = "merge LoRA files into one"
EXAMPLES = (
    "merge a.safetensors b.safetensors -o sum.safetensors",
    "merge a.safetensors:0.8 b.safetensors:0.5:0 --mode add_svd --rank 32 -o small.safetensors",
    "merge a.safetensors:0.8:mid=0 b.safetensors:1:SD-OUT --mode ties_svd --density 0.5 -o out.safetensors",
    "merge a_high.safetensors:0.8 b_high.safetensors --pair high=low -o merged_high.safetensors",
    "merge a.safetensors b.safetensors --mode iso_svd --set iso_blend=0.5 --strength-rule sum -o out.safetensors",
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
        f"{', '.join(using_density(_MODES))}",
    )
    parser.add_argument("--rank", type=int, default=32, help="rank of the *_svd modes; 0: as the inputs")
    parser.add_argument("--conv-rank", type=int, default=0, help="rank for kernels larger than 1x1; 0: as the inputs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the modes that drop values at random")
    parser.add_argument(
        "--pair",
        metavar="WORD=OTHER",
        help="merge a second set of files in the same way: those with OTHER in place of WORD in their names. For Wan "
        "2.2, high=low merges the LoRAs for low noise too, into a file of their own",
    )
    add_merge_options(parser)
    add_family(parser)
    add_alpha_from(parser)
    add_result(parser)


def run(options: argparse.Namespace) -> None:
    require_output(options.output)
    if options.mode not in _MODES:
        raise LoraError(f"There is no merge mode {options.mode!r}. The modes are {', '.join(_MODES)}.")
    require_density([method_of(options.mode)], options.density, "--density")
    chosen = merge_options(options)
    inputs = [[parse_input(text) for text in options.loras]]
    outputs = [options.output]
    if options.pair:
        pair = parse_pair(options.pair)
        inputs.append(other_inputs(pair, inputs[0]))
        outputs = list(pair.outputs(options.output))
    loras = [[of_family(one.load(options.alpha_from), options.family) for one in files] for files in inputs]
    merged = [_merged(each, options, chosen) for each in loras]  # both before the first is written
    for lora, output in zip(merged, outputs, strict=True):
        write(lora, options, output)


def _merged(loras: Sequence[Lora], options: argparse.Namespace, chosen: MergeOptions) -> Lora:
    with computing(options, dtype_of(options)) as compute:
        if options.mode in FACTOR_MODES:
            return merge_factors(loras, options.mode, options.density, options.seed, compute, options=chosen)
        ranks = options.rank, options.conv_rank
        return merge_deltas(loras, options.mode, options.density, *ranks, options.seed, compute, options=chosen)
