"""python -m merge: the command line."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from tqdm import tqdm

from .adapters.architecture import architecture_of, architectures_of
from .adapters.base import Lora, LoraModule
from .compute.context import DTYPES, Compute
from .compute.devices import with_index
from .errors import LoraError
from .files import load, save, tensors_equal
from .formats.key_styles import STYLES
from .formats.trainer_scale import AlphaFrom
from .merging.merge_deltas import merge_deltas
from .merging.merge_factors import merge_factors
from .merging.resize import METHODS as RESIZE_METHODS
from .merging.resize import resize
from .methods.density import require_density
from .methods.registry import DELTA_MODES, FACTOR_MODES, method_of
from .names.prefixes import is_text_encoder
from .names.recognition import architecture_named
from .replay import replay

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_WEIGHTED = re.compile(rf"(?P<path>.+?)(?::(?P<model>{_NUMBER}))?(?::(?P<clip>{_NUMBER}))?")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 1 after an error, which is printed on one line."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        if getattr(options, "output", None) and options.output.suffix != ".safetensors":
            raise LoraError(f"The output {options.output.name} must end in .safetensors.")
        options.run(options)
        sys.stdout.flush()
    except LoraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader closed the pipe: `info ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m merge", description="Merge, resize and inspect LoRA files.")
    commands = parser.add_subparsers(required=True, metavar="command")

    merging = commands.add_parser("merge", help="merge LoRA files into one")
    merging.add_argument(
        "loras", nargs="+", metavar="FILE[:STRENGTH[:TEXT_ENCODER_STRENGTH]]", help="strengths default to 1"
    )
    merging.add_argument("--mode", default="concat", help=", ".join([*FACTOR_MODES, *DELTA_MODES]))
    merging.add_argument(
        "--density",
        type=float,
        default=1.0,
        help="fraction of the values to keep, above 0 and at most 1 (default 1: drops nothing)",
    )
    merging.add_argument("--rank", type=int, default=32, help="rank of the *_svd modes; 0: as the inputs (default 32)")
    merging.add_argument(
        "--conv-rank", type=int, default=0, help="rank for kernels larger than 1x1 (default: as the inputs)"
    )
    merging.add_argument("--seed", type=int, default=0, help="seed of the dare modes (default 0)")
    _add_family(merging)
    merging.set_defaults(run=_merge)
    _add_alpha_from(merging)
    _add_output(merging)

    resizing = commands.add_parser("resize", help="change the rank of a LoRA file")
    resizing.add_argument("loras", nargs=1, metavar="FILE")
    resizing.add_argument("--rank", type=int, default=16, help="new rank, or the upper bound of the sv_* methods")
    resizing.add_argument(
        "--conv-rank", type=int, default=0, help="rank for kernels larger than 1x1 (default: as --rank)"
    )
    resizing.add_argument("--method", default="fixed", help=", ".join(RESIZE_METHODS))
    resizing.add_argument("--value", type=float, default=0.9, help="criterion of the sv_* methods (default 0.9)")
    _add_family(resizing)
    resizing.set_defaults(run=_resize)
    _add_alpha_from(resizing)
    _add_output(resizing)

    replaying = commands.add_parser("replay", help="rebuild a merged or resized file from its recipe")
    replaying.add_argument("loras", nargs=1, metavar="FILE")
    replaying.add_argument(
        "--loras",
        dest="folder",
        type=Path,
        metavar="DIR",
        help="folder to search for the inputs, with its subfolders (default: the file's own)",
    )
    replaying.add_argument(
        "-o", "--output", type=Path, metavar="FILE.safetensors", help="default: none, the tensors are only compared"
    )
    replaying.add_argument(
        "--overwrite", action="store_true", help="replace the output file (default: append a number to its name)"
    )
    replaying.add_argument("--device", default="cpu", help="where to compute: cpu, cuda, mps (default cpu)")
    replaying.set_defaults(run=_replay, dtype="float32")

    looking = commands.add_parser("info", help="show what LoRA files contain")
    looking.add_argument("loras", nargs="+", metavar="FILE")
    looking.set_defaults(run=_info)
    _add_alpha_from(looking)
    return parser


def _add_family(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--family",
        metavar="NAME",
        help='the model family, if the names don\'t show it, e.g. "Krea 2" (default: recognised from the names)',
    )


def _add_alpha_from(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--alpha-from",
        choices=get_args(AlphaFrom),
        default="trainer",
        help="scale of tensors without an alpha: trainer (the default) also reads the file's header and PEFT's "
        "adapter_config.json next to it; tensors ignores both, as ComfyUI's own loader does",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.safetensors")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output file (default: append a number to its name)"
    )
    parser.add_argument(
        "--names",
        choices=STYLES,
        help="key style of the file (default: that of the first input)",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="precision of the result (default float32)")
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda, mps (default cpu)")


def _merge(options: argparse.Namespace) -> None:
    if options.mode in FACTOR_MODES or options.mode in DELTA_MODES:
        require_density([method_of(options.mode)], options.density, "--density")
    loras = [_of_family(_load_weighted(text, options.alpha_from), options.family) for text in options.loras]
    with _progress(options) as compute:
        if options.mode in FACTOR_MODES:
            merged = merge_factors(loras, options.mode, options.density, options.seed, compute)
        elif options.mode in DELTA_MODES:
            merged = merge_deltas(
                *(
                    loras,
                    options.mode,
                    options.density,
                    options.rank,
                    options.conv_rank,
                    options.seed,
                    compute,
                )
            )
        else:
            known = ", ".join([*FACTOR_MODES, *DELTA_MODES])
            raise LoraError(f"There is no merge mode {options.mode!r}. The modes are {known}.")
    _write(merged, options)


def _resize(options: argparse.Namespace) -> None:
    lora = _of_family(load(Path(options.loras[0]), alpha_from=options.alpha_from), options.family)
    with _progress(options) as compute:
        resized = resize(lora, options.rank, options.conv_rank, options.method, options.value, compute)
    _write(resized, options)


def _replay(options: argparse.Namespace) -> None:
    path = Path(options.loras[0])
    lora = load(path)
    with tempfile.TemporaryDirectory() as scratch:
        with _progress(options) as compute:
            again = replay(lora, options.folder or path.parent, Path(scratch), compute)
        output = options.output or Path(scratch) / "replayed.safetensors"
        written = save(again.lora, output, again.dtype, options.overwrite, style=again.names)
        same = tensors_equal(path, written)
        where = f"{written}: " if options.output else ""
        verdict = "the same" if same else "NOT the same"
        print(f"{where}{len(again.lora.modules)} modules, {verdict} tensors as in {path}")
    if not same:
        raise LoraError("The inputs match the recipe, so a different torch, processor or version computed this file.")


def _load_weighted(text: str, alpha_from: AlphaFrom) -> Lora:
    match = _WEIGHTED.fullmatch(text)
    assert match is not None
    model = float(match["model"] or 1.0)
    return load(Path(match["path"]), alpha_from=alpha_from).with_strengths(model, float(match["clip"] or model))


def _of_family(lora: Lora, family: str | None) -> Lora:
    return lora if family is None else replace(lora, architecture=architecture_named(family))


def _write(lora: Lora, options: argparse.Namespace) -> None:
    with tqdm(unit="B", unit_scale=True, disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        written = save(lora, options.output, overwrite=options.overwrite, style=options.names, progress=show)
    print(f"{written}: {len(lora.modules)} modules, {written.stat().st_size / 1e6:.1f} MB")
    for note in lora.notes:
        print(f"note: {note}")


class _progress:
    """A tqdm bar over the modules of one operation."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.bar = tqdm(unit="module", disable=None)
        self.compute = Compute(_device(options.device), DTYPES[options.dtype], self._show)

    def _show(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def __enter__(self) -> Compute:
        return self.compute

    def __exit__(self, *exception: object) -> None:
        self.bar.close()


def _device(name: str) -> torch.device:
    try:
        device = with_index(torch.device(name))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise LoraError(f"The device {name} can't be used here: {str(error).splitlines()[0]}") from None
    return device


def _info(options: argparse.Namespace) -> None:
    for text in options.loras:
        lora = load(Path(text), alpha_from=options.alpha_from)
        modules = list(lora.modules.values())
        text_encoder = sum(is_text_encoder(module.name) for module in modules)
        convolutions = sum(module.is_convolution for module in modules)
        low_rank = [module for module in modules if isinstance(module, LoraModule)]
        dtypes = (tensor.dtype for module in modules for suffix, tensor in module.tensors() if suffix != ".alpha")
        print(text)
        architecture = architecture_of(lora)
        print(f"  family    {architecture.name if architecture else _possible(lora)}")
        print(f"  adapters  {_counted(module.family for module in modules)}, {convolutions} with kernels above 1x1")
        print(f"  modules   {len(modules) - text_encoder} of the model, {text_encoder} of text encoders")
        print(f"  ranks     {_counted(module.rank for module in low_rank)}")
        print(f"  alphas    {_counted(f'{module.alpha:g}' for module in low_rank)}")
        print(f"  dtypes    {_counted(str(dtype).removeprefix('torch.') for dtype in dtypes)}")
        for note in lora.notes:
            print(f"  note      {note}")
        for key, value in sorted(lora.metadata.items()):
            print(f"  metadata  {key}: {value if len(value) <= 200 else value[:200] + ' ...'}")


def _possible(lora: Lora) -> str:
    """The families that a LoRA may be for, if its names don't decide."""
    possible = dict.fromkeys(architecture.name for architecture in architectures_of(lora))
    return f"one of {', '.join(possible)}" if possible else "unknown: no known model has these names"


def _counted(values) -> str:
    counts = Counter(values)
    most = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    shown = ", ".join(f"{value} ({count}x)" if len(counts) > 1 else str(value) for value, count in most[:8])
    return shown + (f" and {len(most) - 8} more" if len(most) > 8 else "")


if __name__ == "__main__":
    sys.exit(main())
