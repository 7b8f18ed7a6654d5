"""LoRA files: reading any that hold low-rank factors, and saving what was made of them."""

from __future__ import annotations

import hashlib
import logging
import math
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .adapters.base import Lora
from .compute.context import CancelCheck, Progress, is_out_of_memory, no_cancel, no_progress
from .errors import DAMAGED, LoraError
from .formats import embeddings, from_state_dict, peft_config, to_file, to_peft_file
from .formats.key_styles import convert_keys, loadable_form
from .formats.trainer_scale import AlphaFrom
from .io import safetensors_file
from .io.atomic_write import refusals_named, write_whole
from .io.hashing import Sha256
from .io.safetensors_file import DTYPE_NAMES
from .lazy import LazyTensor
from .names import Style
from .provenance import metadata as file_metadata

log = logging.getLogger(__name__)

# How many times its size a pickled file may unfold to: torch never compresses one, and few tensors share numbers.
MOST_UNFOLDED = 16

# Before 2.6 a pickle could run code although torch was told to read weights alone (CVE-2025-32434), before 2.10 corrupt
# memory (CVE-2026-24747).
PICKLES_SAFE_SINCE = (2, 10)

SAFETENSORS = (".safetensors", ".sft")
READABLE = (*SAFETENSORS, ".pt", ".pth", ".bin", ".ckpt")

# The names that PEFT's save_pretrained gives an adapter's tensors.
PEFT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
# A configuration that names every module of a large model has about 100 kB.
MOST_CONFIG_BYTES = 4 * 2**20


def load(
    path: Path,
    name: str | None = None,
    check: CancelCheck = no_cancel,
    alpha_from: AlphaFrom | Literal["rslora"] = "trainer",
) -> Lora:
    """Read a LoRA file. Its name (what messages call it) is the file's, without the ending, unless one is given.

    ``alpha_from``: whether the file's header or PEFT's adapter_config.json give the scale of tensors without an alpha
    ("trainer"), or the tensors alone as in ComfyUI's own loader ("tensors"). "rslora" is trainer_scale.AS_BEFORE.
    Raises LoraError when the file is missing, damaged, or holds something else than LoRA weights.
    """
    path = Path(path)
    with refusals_named(f"{path.name} can't be read from {path.parent.name}", "Check the file and its folder."):
        if not path.is_file():
            raise LoraError(f"There is no file {path.name} in {path.parent.name}. Choose another.")
        name = name or _own_name(path)
        is_pickle = path.suffix.lower() not in SAFETENSORS
        if is_pickle:
            _require_safe_torch(path)
        with Sha256(path) as sha256:
            tensors, metadata = (_read_pickle(path), {}) if is_pickle else _read_safetensors(path)
            config = _config_of(path, name) if alpha_from == "trainer" else None
            lora = from_state_dict(tensors, name, metadata, check, alpha_from, config)
            source = {"file": f"{name}{path.suffix}", "size": path.stat().st_size, "sha256": sha256.result(check)}
    if alpha_from == "tensors" and adapter_config(path) is not None:
        source["alpha_from"] = alpha_from  # the configuration might give another scale
    return replace(lora, source={**source, **lora.source})


def _read_safetensors(path: Path) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    stored, metadata = safetensors_file.index(path)
    return {key: tensor.lazy() for key, tensor in stored.items()}, metadata


def _own_name(path: Path) -> str:
    """The file's name without its ending; for PEFT's files, which are all called the same, with their folder's."""
    folder = path.resolve().parent.name if path.name in PEFT_FILES else ""
    return f"{folder}/{path.stem}" if folder else path.stem


def adapter_config(path: Path) -> Path | None:
    """The adapter_config.json that goes with a file of PEFT's; None without one."""
    config = path.with_name(peft_config.FILE)
    return config if path.name in PEFT_FILES and config.is_file() else None


def _config_of(path: Path, name: str) -> peft_config.PeftConfig | None:
    config = adapter_config(path)
    if config is None:
        return None
    with config.open("rb") as file:
        content = file.read(MOST_CONFIG_BYTES + 1)
    if len(content) > MOST_CONFIG_BYTES:
        raise LoraError(f"{name}: its {config.name} is larger than {MOST_CONFIG_BYTES // 2**20} MB. Download it again.")
    return peft_config.from_file(content, name, hashlib.sha256(content).hexdigest())


def tensors_equal(a: Path, b: Path) -> bool:
    """Whether two safetensors files hold the same tensors, bit by bit, under the same names."""
    (first, _), (second, _) = safetensors_file.index(a), safetensors_file.index(b)

    def equal(one: safetensors_file.StoredTensor, other: safetensors_file.StoredTensor) -> bool:
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        here, there = (safetensors_file.tensor_bytes(safetensors_file.read([stored])[0]) for stored in (one, other))
        return np.array_equal(here, there)

    return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)


def _require_safe_torch(path: Path) -> None:
    """Raise LoraError, without opening the pickle, where the torch at hand could be harmed by it."""
    version = str(torch.__version__)
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < PICKLES_SAFE_SINCE:
        raise LoraError(
            f"{path.name} is a pickle, and a crafted one can corrupt the memory of torch {version} or run code "
            "(CVE-2026-24747). Get the LoRA as .safetensors, convert it with torch 2.10 or newer, or update torch."
        )


def _read_pickle(path: Path) -> dict[str, LazyTensor]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _require_honest(path, sum(entry.file_size for entry in archive.infolist()))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (LoraError, PermissionError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # the reader meets a damaged file with whatever it comes across;
        # what torch says advises to load the file as a program
        log.debug("%s: %s", path.name, error)
        raise LoraError(
            f"{path.name} can't be read as a file of plain weights: it is damaged, or holds more than that. "
            "Get it as .safetensors: other formats can hold programs and are only read where they hold none."
        ) from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise LoraError(f"{path.name} holds no table of tensors, so it is no LoRA. Choose a LoRA file.")
    tensors = [value for value in content.values() if isinstance(value, Tensor) and _is_plain(value)]
    _require_honest(path, sum(tensor.nbytes for tensor in tensors))
    return {str(key): LazyTensor.of(_tensor(str(key), value, path.name)) for key, value in content.items()}


def _require_honest(path: Path, size: int) -> None:
    """Raise LoraError where a file of a few bytes says that it holds very many."""
    if size > MOST_UNFOLDED * path.stat().st_size:
        raise LoraError(f"{path.name} would unfold to {size / 2**20:,.0f} MB, which no LoRA does. Choose another file.")


def _is_plain(tensor: Tensor) -> bool:
    usual = type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_nested
    return usual and tensor.layout == torch.strided and tensor.device.type == "cpu" and tensor.dtype in DTYPE_NAMES


def _tensor(key: str, value: object, source: str) -> Tensor:
    if key != key.encode("utf-8", "replace").decode("utf-8"):
        raise LoraError(f"{source}: the name {key} holds half a character, which no file can. {DAMAGED}")
    if isinstance(value, Tensor):
        if not _is_plain(value):
            raise LoraError(f"{source}: entry {key} is a tensor of a kind that no LoRA has. Get it as .safetensors.")
        return value.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(value, int | float) and key.endswith(".alpha"):
        return torch.tensor(float(value) if abs(value) < 1e300 else math.nan)  # whole numbers may be larger than floats
    kind = type(value).__name__
    raise LoraError(f"{source}: entry {key} is a {kind}, not a tensor, so this is no LoRA. Choose a LoRA file.")


def save(
    lora: Lora,
    path: Path,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    check: CancelCheck = no_cancel,
    style: Style | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Write a LoRA with its strengths and block weights in its alphas, and return the path written.

    Unless told to overwrite, an existing file is left alone and the name counts up (name_00002). The file appears
    whole under its name or not at all. ``dtype`` None keeps each tensor's own, ``style`` None the names
    that it has. ``progress`` hears of the bytes written and of those in all. Raises LoraError for an empty LoRA, and
    for what a style has no name for.
    """
    settings = {
        **({"save_dtype": str(dtype).removeprefix("torch.")} if dtype is not None else {}),
        **({"names": style} if style is not None else {}),
    }
    baked = lora.baked()
    if not baked.modules:
        raise LoraError(
            f"{lora.name} holds no weights, so there is nothing to save: it is empty or its strengths are all 0."
        )
    baked = convert_keys(baked, style) if style is not None else loadable_form(baked)
    contents = (to_peft_file if style == "peft" else to_file)(baked, dtype, check)
    contents |= embeddings.in_file(baked, style)
    metadata = file_metadata.fitted(
        file_metadata.of_file(lora, baked, settings), safetensors_file.metadata_room(contents)
    )
    return write_whole(Path(path), contents, metadata, overwrite, check, progress, file_metadata.HASH)
