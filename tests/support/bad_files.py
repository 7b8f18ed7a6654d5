"""Bad and odd LoRA files: one table of what they are and what happens to them. docs/bad-files.md is generated from it.

`says` is the whole message that the user gets, or the note in the log. FILE stands for the file's name, with or without
its extension, and ... for any text.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from lora_pack.tests.support.makers import LINEAR, TEXT
from torch import Tensor

Array = np.ndarray
Write = Callable[[Path], object]

REFUSED, RIGHT, NOTED = "refused", "read correctly", "read, with a note in the log"


@dataclass(frozen=True)
class Case:
    file: str
    what: str  # in plain words
    outcome: str
    says: str
    write: Write

    @property
    def loras_name(self) -> str:
        """The LoRA's name in messages that don't know the file."""
        return Path(self.file).stem

    def pattern(self, folder: str = "") -> re.Pattern[str]:
        """Matches the whole message; `folder` may come before the file's name."""
        name = f"(?:{re.escape(folder)})?(?:{re.escape(self.file)}|{re.escape(self.loras_name)})"
        parts = [name.join(map(re.escape, part.split("FILE"))) for part in self.says.split("...")]
        return re.compile(".*".join(parts), re.DOTALL)

    def make(self, folder: Path) -> Path:
        """Write the file. Raises OSError where the system doesn't allow such a file."""
        path = folder / self.file
        self.write(path)
        return path


# Tensors


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def pair(name: str = LINEAR, rank: int = 2, out: int = 6, inputs: int = 5, **others: Tensor) -> dict[str, Any]:
    """A LoRA of one linear weight; `others` by ending (alpha, dora_scale, ...)."""
    tensors = {f"{name}.lora_up.weight": normal(out, rank), f"{name}.lora_down.weight": normal(rank, inputs)}
    return tensors | {f"{name}.{ending}": tensor for ending, tensor in others.items()}


UP, DOWN, ALPHA = f"{LINEAR}.lora_up.weight", f"{LINEAR}.lora_down.weight", f"{LINEAR}.alpha"
DOTTED = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"  # LINEAR in diffusers' spelling
FLUX = "lora_unet_double_blocks_0_img_attn_proj"
LONG = "lora_unet_\n\x1b[31m" + "x" * 100_000
MANY = 10_000
GOOD = pair() | pair(TEXT, alpha=torch.tensor(1.0))


def cast(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Quantised to int8, without the scale."""
    return {name: (tensor * 20).round().to(torch.int8) for name, tensor in tensors.items()}


def with_value(value: float) -> dict[str, Tensor]:
    up = normal(6, 2)
    up[1, 1] = value
    return pair(TEXT) | pair() | {UP: up}


def with_alpha(alpha: Tensor) -> dict[str, Tensor]:
    return pair(TEXT) | pair(alpha=alpha)


def mixed_families() -> dict[str, Tensor]:
    loha, lokr, full = (f"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_{x}" for x in ("k", "v", "q"))
    hada = {f"{loha}.hada_{part}": normal(*shape) for part, shape in {"w1_a": (6, 2), "w1_b": (2, 5)}.items()}
    hada |= {f"{loha}.hada_{part}": normal(*shape) for part, shape in {"w2_a": (6, 3), "w2_b": (3, 5)}.items()}
    kron = {f"{lokr}.lokr_w1": normal(2, 1), f"{lokr}.lokr_w2": normal(3, 5)}
    alphas = {f"{loha}.alpha": torch.tensor(3.0), f"{lokr}.alpha": torch.tensor(7.0)}
    return pair(TEXT, rank=3, alpha=torch.tensor(1.5)) | hada | kron | {f"{full}.diff": normal(6, 5)} | alphas


def thousands() -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for number in range(MANY):
        tensors |= pair(f"lora_unet_layer_{number}", 1, 2, 2)
    return tensors


def zeros(*names: str) -> dict[str, Tensor]:
    return {name: torch.zeros(2, 2) for name in names}


CHECKPOINT = zeros(
    "model.diffusion_model.input_blocks.0.0.weight",
    "model.diffusion_model.time_embed.0.weight",
    "first_stage_model.decoder.conv_in.weight",
    "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight",
    "alphas_cumprod",
)
VAE = zeros(
    "encoder.conv_in.weight",
    "decoder.up.0.block.0.norm1.bias",
    "quant_conv.weight",
    "post_quant_conv.weight",
)
CONTROL_NET = zeros(
    "control_model.input_blocks.0.0.weight",
    "control_model.zero_convs.0.0.weight",
    "control_model.input_hint_block.0.bias",
)
DIFFUSERS_CONTROL_NET = zeros("controlnet_cond_embedding.conv_in.weight", "controlnet_down_blocks.0.weight")
CONTROL_LORA = zeros("input_blocks.1.1.proj_in.up", "input_blocks.1.1.proj_in.down", "lora_controlnet")
NF4 = {
    UP: torch.zeros(6, 1, dtype=torch.uint8),
    DOWN: torch.zeros(5, 1, dtype=torch.uint8),
    f"{UP}.absmax": torch.zeros(1),
    f"{UP}.quant_map": torch.zeros(16),
    f"{UP}.quant_state.bitsandbytes__nf4": torch.zeros(80, dtype=torch.uint8),
}
EMBEDDING = {
    "string_to_token": {"*": 265},
    "string_to_param": {"*": torch.zeros(1, 768)},
    "name": "style",
    "step": 500,
    "sd_checkpoint": None,
}


# Files


def raw(data: bytes) -> Write:
    return lambda path: path.write_bytes(data)


def tensors_of(tensors: Mapping[str, Tensor] | Callable[[], Mapping[str, Tensor]], **metadata: str) -> Write:
    """A file written by the safetensors library."""

    def write(path: Path) -> None:
        found = tensors() if callable(tensors) else tensors
        safetensors.torch.save_file({key: t.contiguous() for key, t in found.items()}, path, metadata or None)

    return write


def pickled(content: object, *, old: bool = False) -> Write:
    return lambda path: torch.save(content, path, _use_new_zipfile_serialization=not old)


def framed(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with this header; ``length`` is what the file claims as the header's length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin: int, end: int, shape: object = None, dtype: object = "F32", **others: object) -> dict[str, object]:
    if shape is None:
        shape = [(end - begin) // 4]
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **others}


def two(begin: int = 8, end: int = 16, dtype: str = "F32", **others: object) -> dict[str, object]:
    """The header of a LoRA of rank 2 for a 1x1 weight; the second tensor's data is at these offsets."""
    return {UP: entry(0, 8, [1, 2]), DOWN: entry(begin, end, [2, 1], dtype)} | others


DATA = np.arange(1, 5, dtype="<f4").tobytes()
BYTES = framed(two(), DATA)
TWICE = framed(json.dumps(two()).encode()[:-1] + b"," + json.dumps(two()).encode()[1:], DATA)
DEEP = framed(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
HUGE_SHAPE = framed({UP: entry(0, 0, [2**62, 2**62, 0])})
MANY_SIZES = framed({UP: entry(0, 8, [1, 2] + [1] * 99_998), DOWN: entry(8, 16, [2, 1] + [1] * 99_998)}, DATA)
LONE_SURROGATE = framed(two(__metadata__={"title": "\ud800"}), DATA)
HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in to download.</body></html>\n"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 151108832\n"

BOOM = "bomb_went_off"


class Bomb:
    """Runs a command that writes the file BOOM when it is unpickled."""

    def __init__(self, folder: Path):
        self.command = f'echo boom > "{folder / BOOM}"'

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def bomb(*, old: bool = False) -> Write:
    return lambda path: pickled({UP: Bomb(path.parent)}, old=old)(path)


def bomb_in_a_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({UP: Bomb(path.parent)}, protocol=2))


def cut_pickle(path: Path) -> None:
    torch.save(GOOD, path)
    path.write_bytes(path.read_bytes()[:700])


def unfolding(path: Path) -> None:
    """One number, expanded to a matrix of 40 TB."""
    torch.save({UP: torch.zeros(1).expand(10**6, 10**7)}, path)


def nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere.safetensors"))


def a_folder(path: Path) -> None:
    path.mkdir()


# Messages

BROKEN = "FILE is not a complete safetensors file: {}. Download or save it again."
NO_PICKLE = (
    "FILE can't be read as plain weights: it is damaged or contains more than weights. Get it as .safetensors: "
    "other formats can contain programs, and are only read if they don't."
)
UNFOLDS = "FILE would expand to ... MB, implausible for its size. Choose another file."
NO_LORA = "FILE has no LoRA weights (it has {} ...). Choose a LoRA file."
STRANGER = (
    "FILE: tensor {} is part of an adapter, but neither this pack nor ComfyUI's own loader knows what it does; ComfyUI "
    "loads the rest without it. Leave this file out of the merge."
)
MODULE = f"FILE: module {LINEAR}"
DAMAGED = "The file is damaged: download or save it again."
INCOMPLETE = "The file is incomplete: download or save it again."
NO_NUMBERS = (
    MODULE + " ({}) holds NaN or infinite values. The file is damaged or its training diverged: get another copy, or "
    "leave it out."
)
QUANTISED = (
    MODULE + ": its {} is stored as {}; quantised LoRAs can't be merged. Choose a copy in float16, bfloat16 or float32."
)
NO_TYPE = "FILE: tensor ... has the type {}, which can't be merged. Choose a copy in float16, bfloat16 or float32."


CASES: tuple[Case, ...] = (
    # The frame of a safetensors file
    Case("empty.safetensors", "zero bytes", REFUSED, BROKEN.format("it is too short to hold a header"), raw(b"")),
    Case("four.safetensors", "four bytes", REFUSED, BROKEN.format("it is too short to hold a header"), raw(BYTES[:4])),
    Case(
        "header_cut.safetensors",
        "a download that ended within the header",
        REFUSED,
        BROKEN.format("the length of its header is wrong"),
        raw(BYTES[:60]),
    ),
    Case(
        "data_cut.safetensors",
        "a download that ended within the data",
        REFUSED,
        BROKEN.format("its header describes ... bytes, but the file has ..."),
        raw(BYTES[:-3]),
    ),
    Case(
        "trailing_data.safetensors",
        "bytes after the data",
        REFUSED,
        BROKEN.format("its header describes ... bytes, but the file has ..."),
        raw(BYTES + b"\0\0\0\0"),
    ),
    Case(
        "all_zeros.safetensors",
        "space reserved for a download that never came: only zeros",
        REFUSED,
        BROKEN.format("its header can't be read (...)"),
        raw(bytes(4096)),
    ),
    Case(
        "length_short.safetensors",
        "a header length that is too short",
        REFUSED,
        BROKEN.format("its header can't be read (...)"),
        raw(framed(two(), DATA, 40)),
    ),
    Case(
        "length_long.safetensors",
        "a header length that reaches into the data",
        REFUSED,
        BROKEN.format("its header can't be read (...)"),
        raw(framed(two(), DATA, len(BYTES) - 12)),
    ),
    Case(
        "length_beyond.safetensors",
        "a header length beyond the end of the file",
        REFUSED,
        BROKEN.format("the length of its header is wrong"),
        raw(framed(two(), DATA, 10_000)),
    ),
    Case(
        "length_2_63.safetensors",
        "a header length of 2^63 bytes",
        REFUSED,
        BROKEN.format("the length of its header is wrong"),
        raw(framed(two(), DATA, 2**63)),
    ),
    Case(
        "no_json.safetensors",
        "a header that is not JSON",
        REFUSED,
        BROKEN.format("its header can't be read (...)"),
        raw(framed(b"{not json}")),
    ),
    Case(
        "json_nan.safetensors",
        "a header with NaN for a shape",
        REFUSED,
        BROKEN.format(f"the entry of tensor {UP} is malformed"),
        raw(framed({UP: entry(0, 8, [float("nan"), 2])}, DATA[:8])),
    ),
    Case(
        "json_deep.safetensors",
        "a header of 100,000 brackets",
        REFUSED,
        BROKEN.format("its header can't be read (...)"),
        raw(DEEP),
    ),
    Case(
        "json_digits.safetensors",
        "a header with a number of 100,000 digits",
        REFUSED,
        BROKEN.format("its header can't be read (...)"),
        raw(framed(b'{"a":' + b"1" * 100_000 + b"}")),
    ),
    Case(
        "name_twice.safetensors",
        "a tensor listed twice in the header",
        REFUSED,
        BROKEN.format(f"its header can't be read ('{UP}' occurs twice)"),
        raw(TWICE),
    ),
    Case(
        "overlap.safetensors",
        "tensors that share data",
        REFUSED,
        BROKEN.format(f"the data of tensor {DOWN} overlaps another's or leaves a gap"),
        raw(framed(two(4, 12), DATA[:12])),
    ),
    Case(
        "gap.safetensors",
        "a gap between the tensors",
        REFUSED,
        BROKEN.format(f"the data of tensor {DOWN} overlaps another's or leaves a gap"),
        raw(framed(two(12, 20), DATA + bytes(4))),
    ),
    Case(
        "shape_huge.safetensors",
        "an empty tensor whose shape overflows",
        REFUSED,
        BROKEN.format(f"the entry of tensor {UP} is malformed"),
        raw(HUGE_SHAPE),
    ),
    Case(
        "many_sizes.safetensors",
        "tensors of 100,000 dimensions",
        REFUSED,
        MODULE + " (lora_up.weight) has 100000 dimensions. " + DAMAGED,
        raw(MANY_SIZES),
    ),
    Case(
        "metadata_of_lists.safetensors",
        "metadata that is not text",
        REFUSED,
        BROKEN.format("its metadata is not a table of strings"),
        raw(framed(two(__metadata__={"tags": ["a", "b"]}), DATA)),
    ),
    Case(
        "no_unicode.safetensors",
        "metadata with an unpaired surrogate",
        REFUSED,
        BROKEN.format("its header can't be read (...)"),
        raw(LONE_SURROGATE),
    ),
    Case(
        "metadata_alone.safetensors",
        "metadata and no tensors",
        REFUSED,
        NO_LORA.format("nothing"),
        tensors_of({}, ss_network_dim="8"),
    ),
    # Something else under the name
    Case(
        "web_page.safetensors",
        "a web page saved as a LoRA",
        REFUSED,
        BROKEN.format("the length of its header is wrong"),
        raw(HTML),
    ),
    Case(
        "lfs_pointer.safetensors",
        "a Git LFS pointer instead of the file",
        REFUSED,
        BROKEN.format("the length of its header is wrong"),
        raw(LFS),
    ),
    Case(
        "zip.safetensors",
        "a .pt file (a zip) renamed",
        REFUSED,
        BROKEN.format("the length of its header is wrong"),
        pickled(GOOD),
    ),
    Case(
        "pickle.safetensors",
        "a pickle that would run a command, renamed",
        REFUSED,
        BROKEN.format("the length of its header is wrong"),
        bomb_in_a_pickle,
    ),
    Case(
        "checkpoint.safetensors",
        "a checkpoint",
        REFUSED,
        NO_LORA.format("..."),
        tensors_of(CHECKPOINT),
    ),
    Case("vae.safetensors", "a VAE", REFUSED, NO_LORA.format("..."), tensors_of(VAE)),
    Case(
        "embedding.safetensors",
        "a textual inversion",
        REFUSED,
        NO_LORA.format("emb_params"),
        tensors_of({"emb_params": torch.zeros(2, 768)}),
    ),
    Case(
        "embedding_xl.safetensors",
        "a textual inversion for SDXL",
        REFUSED,
        NO_LORA.format("clip_g, clip_l"),
        tensors_of({"clip_g": torch.zeros(2, 1280), "clip_l": torch.zeros(2, 768)}),
    ),
    Case(
        "embedding.pt",
        "a textual inversion in the oldest format",
        REFUSED,
        "FILE: entry string_to_token is a dict, not a tensor, so this is not a LoRA. Choose a LoRA file.",
        pickled(EMBEDDING),
    ),
    Case("controlnet.safetensors", "a ControlNet", REFUSED, NO_LORA.format("..."), tensors_of(CONTROL_NET)),
    Case(
        "controlnet_diffusers.safetensors",
        "a diffusers ControlNet",
        REFUSED,
        NO_LORA.format("..."),
        tensors_of(DIFFUSERS_CONTROL_NET),
    ),
    Case("control_lora.safetensors", "a Control-LoRA", REFUSED, NO_LORA.format("..."), tensors_of(CONTROL_LORA)),
    # Pickles
    Case("plain.pt", "plain weights", RIGHT, "", pickled(GOOD)),
    Case("plain_old.bin", "plain weights in torch's old format", RIGHT, "", pickled(GOOD, old=True)),
    Case("nested.ckpt", "plain weights under state_dict", RIGHT, "", pickled({"state_dict": GOOD, "epoch": 3})),
    Case("alpha_number.pt", "an alpha that is a Python number", RIGHT, "", pickled(pair() | {ALPHA: 4.0})),
    Case(
        "alpha_digits.pt",
        "an alpha of 400 digits",
        REFUSED,
        NO_NUMBERS.format("alpha"),
        pickled(pair() | {ALPHA: 10**400}),
    ),
    Case(
        "name_half.pt",
        "a name with an unpaired surrogate",
        REFUSED,
        "FILE: the key \\ud800.alpha contains an unpaired surrogate and can't be stored as UTF-8. " + DAMAGED,
        pickled(pair() | {"\ud800.alpha": torch.tensor(1.0)}),
    ),
    Case("bomb.pt", "a program that runs on loading", REFUSED, NO_PICKLE, bomb()),
    Case("bomb_old.ckpt", "the same in torch's old format", REFUSED, NO_PICKLE, bomb(old=True)),
    Case("bomb_bare.bin", "the same in a plain Python pickle", REFUSED, NO_PICKLE, bomb_in_a_pickle),
    Case("cut.pt", "a download that ended early", REFUSED, NO_PICKLE, cut_pickle),
    Case("empty.pt", "zero bytes", REFUSED, NO_PICKLE, raw(b"")),
    Case("web_page.pt", "a web page", REFUSED, NO_PICKLE, raw(HTML)),
    Case(
        "list.pt",
        "a list of tensors",
        REFUSED,
        "FILE doesn't contain a table of tensors, so it is not a LoRA. Choose a LoRA file.",
        pickled([torch.zeros(2)]),
    ),
    Case(
        "unfolds.pt",
        "one number expanded to a matrix of 40 TB",
        REFUSED,
        UNFOLDS,
        unfolding,
    ),
    Case(
        "sparse.pt",
        "a sparse tensor",
        REFUSED,
        f"FILE: entry {UP} is an unsupported kind of tensor. Get the LoRA as .safetensors.",
        pickled({UP: torch.eye(3).to_sparse()}),
    ),
    Case(
        "meta.pt",
        "tensors without their values",
        REFUSED,
        "FILE... as .safetensors...",  # some versions of torch refuse it themselves
        pickled({UP: torch.empty(3, 3, device="meta")}),
    ),
    # Values
    Case("nan.safetensors", "NaN", REFUSED, NO_NUMBERS.format("lora_up.weight"), tensors_of(with_value(float("nan")))),
    Case(
        "inf.safetensors",
        "infinite values",
        REFUSED,
        NO_NUMBERS.format("lora_up.weight"),
        tensors_of(with_value(float("-inf"))),
    ),
    Case("float64.safetensors", "64-bit floats", RIGHT, "", tensors_of(cast(GOOD, torch.float64))),
    Case("float8.safetensors", "8-bit floats", RIGHT, "", tensors_of(cast(GOOD, torch.float8_e4m3fn))),
    Case("int8.safetensors", "int8", REFUSED, QUANTISED.format("up factor", "int8"), tensors_of(whole(pair()))),
    Case(
        "uint8.safetensors",
        "uint8",
        REFUSED,
        QUANTISED.format("down factor", "uint8"),
        tensors_of(pair() | {DOWN: torch.ones(2, 5, dtype=torch.uint8)}),
    ),
    Case("nf4.safetensors", "bitsandbytes NF4", REFUSED, STRANGER.format(f"{UP}.absmax"), tensors_of(NF4)),
    Case(
        "float8_scaled.safetensors",
        "8-bit floats with a separate scale",
        REFUSED,
        STRANGER.format(f"{LINEAR}.scale_weight"),
        tensors_of(pair(scale_weight=torch.tensor(2.0))),
    ),
    Case(
        "float4.safetensors",
        "4-bit floats",
        REFUSED,
        NO_TYPE.format("F4"),
        raw(framed(two(8, 9, dtype="F4"), DATA[:9])),
    ),
    Case(
        "unknown_type.safetensors",
        "an unknown type",
        REFUSED,
        NO_TYPE.format("Q7"),
        raw(framed(two(dtype="Q7"), DATA)),
    ),
    # Shapes and factors
    Case(
        "rank_0.safetensors",
        "a rank of zero",
        REFUSED,
        MODULE + " has factors without a rank: up 6x0, down 0x5. " + DAMAGED,
        tensors_of(pair(TEXT) | pair(rank=0)),
    ),
    Case("rank_large.safetensors", "a rank larger than the matrix", RIGHT, "", tensors_of(pair(rank=40))),
    Case("ranks_mixed.safetensors", "a rank for each module", RIGHT, "", tensors_of(pair(rank=3) | pair(TEXT, rank=1))),
    Case(
        "no_down.safetensors",
        "an up factor without its down factor",
        REFUSED,
        MODULE + " has lora_up.weight without its counterpart. " + INCOMPLETE,
        tensors_of(pair(TEXT) | {UP: normal(6, 2)}),
    ),
    Case(
        "no_up.safetensors",
        "a down factor without its up factor",
        REFUSED,
        MODULE + " has lora_down.weight without its counterpart. " + INCOMPLETE,
        tensors_of(pair(TEXT) | {DOWN: normal(2, 5)}),
    ),
    Case(
        "dora_half.safetensors",
        "a DoRA without its down factor",
        REFUSED,
        MODULE + " has lora_up.weight without its counterpart. " + INCOMPLETE,
        tensors_of(pair(TEXT) | {UP: normal(6, 2), f"{LINEAR}.dora_scale": torch.ones(6, 1)}),
    ),
    Case(
        "set_weight_empty.safetensors",
        "an empty weight to replace the model's",
        REFUSED,
        MODULE + ": its set_weight 0 is empty. " + DAMAGED,
        tensors_of(pair(TEXT) | {f"{LINEAR}.set_weight": torch.zeros(0)}),
    ),
    Case(
        "transposed.safetensors",
        "transposed factors",
        REFUSED,
        MODULE + ": its factors disagree, up 2x6 has 6 columns and down 5x2 has 5 rows. The file is damaged or its "
        "factors are transposed: download or save it again.",
        tensors_of(pair(TEXT) | {UP: normal(2, 6), DOWN: normal(5, 2)}),
    ),
    Case(
        "reshape_number.safetensors",
        "a reshape_weight that is a single number",
        REFUSED,
        MODULE + ": its reshape_weight is not the shape of a weight. " + DAMAGED,
        tensors_of(pair(TEXT) | pair(reshape_weight=torch.tensor(6))),
    ),
    Case(
        "reshape_huge.safetensors",
        "a reshape_weight of 10^30 rows",
        REFUSED,
        MODULE + ": its reshape_weight is not the shape of a weight. " + DAMAGED,
        tensors_of(pair(TEXT) | pair(reshape_weight=torch.tensor([1e30, 5.0]))),
    ),
    Case(
        "loha_empty.safetensors",
        "LoHa cores with an empty kernel",
        REFUSED,
        MODULE + ": its core 2x2x0x3 does not fit its factors. " + DAMAGED,
        tensors_of(
            {f"{LINEAR}.hada_w{part}": normal(2, 2) for part in ("1_a", "1_b", "2_a", "2_b")}
            | {f"{LINEAR}.hada_t{number}": torch.zeros(2, 2, 0, 3) for number in (1, 2)}
        ),
    ),
    Case(
        "lokr_empty.safetensors",
        "a LoKr matrix without rows",
        REFUSED,
        MODULE + ": its lokr_w1 0x2 is not a matrix. " + DAMAGED,
        tensors_of({f"{LINEAR}.lokr_w1": torch.zeros(0, 2), f"{LINEAR}.lokr_w2": normal(3, 5)}),
    ),
    Case(
        "bfl_cut.safetensors",
        "a Flux control LoRA whose first layer has only lora_A",
        REFUSED,
        "FILE: module diffusion_model.img_in has lora_A.weight without its counterpart. " + INCOMPLETE,
        tensors_of({"img_in.lora_A.weight": normal(2, 5), "single_blocks.0.norm.key_norm.scale": normal(3)}),
    ),
    # Alphas
    Case("alpha_missing.safetensors", "no alpha: it is the rank", RIGHT, "", tensors_of(pair())),
    Case("alpha_0.safetensors", "an alpha of 0", RIGHT, "", tensors_of(with_alpha(torch.tensor(0.0)))),
    Case("alpha_negative.safetensors", "a negative alpha", RIGHT, "", tensors_of(with_alpha(torch.tensor(-3.0)))),
    Case("alpha_int64.safetensors", "an integer alpha", RIGHT, "", tensors_of(with_alpha(torch.tensor(3)))),
    Case(
        "alpha_float16.safetensors",
        "an alpha in half precision",
        RIGHT,
        "",
        tensors_of(with_alpha(torch.tensor(0.3, dtype=torch.float16))),
    ),
    Case(
        "alpha_vector.safetensors",
        "an alpha of two numbers",
        REFUSED,
        MODULE + ": its alpha has 2 numbers instead of one. " + DAMAGED,
        tensors_of(with_alpha(torch.ones(2))),
    ),
    Case(
        "alpha_nan.safetensors",
        "an alpha that is NaN",
        REFUSED,
        NO_NUMBERS.format("alpha"),
        tensors_of(with_alpha(torch.tensor(float("nan")))),
    ),
    Case(
        "alpha_inf.safetensors",
        "an infinite alpha",
        REFUSED,
        NO_NUMBERS.format("alpha"),
        tensors_of(with_alpha(torch.tensor(float("inf")))),
    ),
    Case(
        "alpha_alone.safetensors",
        "an alpha of a module without weights",
        REFUSED,
        MODULE + " has an alpha but no weights. " + INCOMPLETE,
        tensors_of(pair(TEXT) | {ALPHA: torch.tensor(1.0)}),
    ),
    # Modules and names
    Case("one_module.safetensors", "one module", RIGHT, "", tensors_of(pair(alpha=torch.tensor(1.0)))),
    Case("many_modules.safetensors", "10,000 modules", RIGHT, "", tensors_of(thousands)),
    Case("families.safetensors", "LoRA, LoHa, LoKr and diff in one file", RIGHT, "", tensors_of(mixed_families)),
    Case("architectures.safetensors", "SD 1.5 and Flux in one file", RIGHT, "", tensors_of(pair() | pair(FLUX))),
    Case(
        "two_names.safetensors",
        "one weight under two names",
        NOTED,
        f"FILE changes one weight twice, as {LINEAR} and as {DOTTED}: both count; ComfyUI's own loader keeps one.",
        tensors_of(pair() | pair(DOTTED, rank=3)),
    ),
    Case(
        "rslora.safetensors",
        "an rsLoRA by its metadata",
        NOTED,
        "FILE: the scale is 2.121 by the trainer's alpha (its header, lora_adapter_metadata), as an rsLoRA; ComfyUI's "
        "own loader doesn't look there and uses 1.",
        tensors_of(pair(DOTTED), lora_adapter_metadata='{"unet.use_rslora": true, "unet.lora_alpha": 3}'),
    ),
    Case(
        "rslora_deep.safetensors",
        "rsLoRA metadata of 100,000 brackets",
        RIGHT,
        "",
        tensors_of(pair(DOTTED), lora_adapter_metadata="[" * 100_000),
    ),
    Case("names_ünï 日本.safetensors", "names in other scripts", RIGHT, "", tensors_of(pair("lora_unet_ünï 日本 🎨"))),
    Case("names_spaces.safetensors", "spaces in names", RIGHT, "", tensors_of(pair("lora_unet_a b  c"))),
    Case("names_paths.safetensors", "paths as names", RIGHT, "", tensors_of(pair("../../etc/x") | pair("C:\\x"))),
    Case(
        "names_long.safetensors", "names of 100,000 letters", RIGHT, "", tensors_of(pair("lora_unet_" + "x" * 100_000))
    ),
    Case(
        "names_digits.safetensors",
        "a block number of 5,000 digits",
        RIGHT,
        "",
        tensors_of(pair(FLUX.replace("0", "1" * 5000))),
    ),
    Case("names_control.safetensors", "control characters", RIGHT, "", tensors_of(pair("lora_unet_\n\x1b[31m\0\x7f"))),
    Case(
        "names_control_nan.safetensors",
        "NaN in a module whose name is long and has control characters",
        REFUSED,
        "FILE: module lora_unet_\\n\\x1b[31mxxx...xxx (lora_up.weight) holds NaN or infinite values. The file is "
        "damaged or its training diverged: get another copy, or leave it out.",
        tensors_of({f"{LONG}.lora_up.weight": torch.full((6, 2), float("nan"))}),
    ),
    Case(
        "metadata_20_mb.safetensors",
        "metadata of 20 MB",
        RIGHT,
        "",
        tensors_of(pair(), ss_tag_frequency="tag " * 5_000_000),
    ),
    # Not a file
    Case("link.safetensors", "a link to nowhere", REFUSED, "There is no file FILE in ... Choose another.", nowhere),
    Case("folder.safetensors", "a folder", REFUSED, "There is no file FILE in ... Choose another.", a_folder),
)


# The deltas of a good file, computed without the core


def deltas_of(path: Path) -> dict[str, Array]:
    """The delta of each module of a file in float64, read and computed without the core."""
    tensors, metadata = _contents(path)
    values = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    names = dict.fromkeys(name.rsplit(".", 2 if name.endswith(".weight") else 1)[0] for name in values)
    return {name: _delta(name, values, metadata) for name in names}


def _contents(path: Path) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
    if path.suffix == ".safetensors":
        with safetensors.safe_open(path, "pt") as file:
            return safetensors.torch.load_file(path), file.metadata() or {}
    content = torch.load(path, weights_only=True)
    content = content.get("state_dict", content)
    return {name: torch.as_tensor(value) for name, value in content.items()}, {}


def _delta(name: str, values: Mapping[str, Array], metadata: Mapping[str, str]) -> Array:
    alpha = values.get(f"{name}.alpha")
    if f"{name}.diff" in values:
        return values[f"{name}.diff"]
    if f"{name}.lokr_w1" in values:  # two full matrices: alpha does not count
        return np.kron(values[f"{name}.lokr_w1"], values[f"{name}.lokr_w2"])
    if f"{name}.hada_w1_a" in values:
        a, b, c, d = (values[f"{name}.hada_{part}"] for part in ("w1_a", "w1_b", "w2_a", "w2_b"))
        return (1.0 if alpha is None else float(alpha) / len(b)) * (a @ b) * (c @ d)
    up, down = (_matrix(values[f"{name}.lora_{half}.weight"]) for half in ("up", "down"))
    scale = 1.0 if alpha is None else float(alpha) / len(down)
    told = metadata.get("lora_adapter_metadata", "")
    if "use_rslora" in told and alpha is None:
        scale = json.loads(told)["unet.lora_alpha"] / len(down) ** 0.5
    return scale * (up @ down)


def _matrix(factor: Array) -> Array:
    return factor.reshape(len(factor), -1)


# The document


def document() -> str:
    """docs/bad-files.md."""
    lines = [
        "# Bad files",
        "",
        "What happens to files that are broken, odd, or not LoRAs. A refused file is an error at the node that loads",
        "it; FILE is its name, ... stands for any text. Nothing in a file is ever run. `tests/support/bad_files.py`",
        "makes these files, and `UPDATE_DOCS=1 pytest tests/merge/formats/test_bad_files.py` this table. The tests",
        "load all of them in the core, and one of each kind in a real ComfyUI.",
        "",
        "With torch older than 2.10 every `.pt`, `.pth`, `.bin` and `.ckpt` is refused before it is opened: a crafted",
        "one can corrupt its memory (CVE-2026-24747), before 2.6 run code (CVE-2025-32434), even in weights-only mode.",
        "Get such a LoRA as .safetensors, convert it with torch 2.10 or newer, or update torch.",
        "",
        "| file | what it is | what happens | message |",
        "|---|---|---|---|",
    ]
    lines += [f"| {_cell(c.file)} | {c.what} | {c.outcome} | {_cell(c.says)} |" for c in CASES]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return f"`{text}`" if text else ""
