"""Loading and saving LoRA files."""

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
from .io.paths import folder_name
from .io.safetensors_file import DTYPE_NAMES
from .lazy import LazyTensor
from .names import Style
from .provenance import metadata as file_metadata

log = logging.getLogger(__name__)

# How many times its own size a pickled file may expand to: torch doesn't compress, and tensors rarely share data.
MAX_EXPANSION = 16

# Despite weights_only=True a pickle could run code before 2.6 (CVE-2025-32434) and corrupt memory before 2.10
# (CVE-2026-24747).
PICKLES_SAFE_SINCE = (2, 10)

SAFETENSORS = (".safetensors", ".sft")
READABLE = (*SAFETENSORS, ".pt", ".pth", ".bin", ".ckpt")

# PEFT's save_pretrained gives every adapter one of these names.
PEFT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
# A configuration that names every module of a large model takes about 100 kB.
MAX_CONFIG_BYTES = 4 * 2**20


def load(
    path: Path,
    name: str | None = None,
    check: CancelCheck = no_cancel,
    alpha_from: AlphaFrom | Literal["rslora"] = "trainer",
) -> Lora:
    """Read a LoRA file. ``name`` is for messages; without one it is the file's name without its extension.

    ``alpha_from``: "trainer" also takes the scale from the file's header or PEFT's adapter_config.json where tensors
    have no alpha, "tensors" ignores these, as ComfyUI's own loader does. "rslora" is trainer_scale.AS_BEFORE.
    Raises LoraError if the file is missing or damaged, or doesn't contain LoRA weights.
    """
    path = Path(path)
    with refusals_named(f"{path.name} can't be read from {folder_name(path.parent)}", "Check the file and its folder."):
        if not path.is_file():
            raise LoraError(f"There is no file {path.name} in {folder_name(path.parent)}. Choose another.")
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
        source["alpha_from"] = alpha_from  # the ignored configuration may give another scale
    return replace(lora, source={**source, **lora.source})


def _read_safetensors(path: Path) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    stored, metadata = safetensors_file.index(path)
    return {key: tensor.lazy() for key, tensor in stored.items()}, metadata


def _own_name(path: Path) -> str:
    """The file's name without its extension; for PEFT's files, which all have the same name, the folder's too."""
    folder = path.resolve().parent.name if path.name in PEFT_FILES else ""
    return f"{folder}/{path.stem}" if folder else path.stem


def adapter_config(path: Path) -> Path | None:
    """The adapter_config.json of one of PEFT's files, or None."""
    config = path.with_name(peft_config.FILE)
    return config if path.name in PEFT_FILES and config.is_file() else None


def _config_of(path: Path, name: str) -> peft_config.PeftConfig | None:
    config = adapter_config(path)
    if config is None:
        return None
    with config.open("rb") as file:
        content = file.read(MAX_CONFIG_BYTES + 1)
    if len(content) > MAX_CONFIG_BYTES:
        raise LoraError(f"{name}: its {config.name} is larger than {MAX_CONFIG_BYTES // 2**20} MB. Download it again.")
    return peft_config.from_file(content, name, hashlib.sha256(content).hexdigest())


def tensors_equal(a: Path, b: Path) -> bool:
    """Whether two safetensors files have the same keys and bitwise equal tensors."""
    (first, _), (second, _) = safetensors_file.index(a), safetensors_file.index(b)

    def equal(one: safetensors_file.StoredTensor, other: safetensors_file.StoredTensor) -> bool:
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        here, there = (safetensors_file.tensor_bytes(safetensors_file.read([stored])[0]) for stored in (one, other))
        return np.array_equal(here, there)

    return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)


def _require_safe_torch(path: Path) -> None:
    """Raise LoraError, without opening the pickle, if this version of torch doesn't load pickles safely."""
    version = str(torch.__version__)
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < PICKLES_SAFE_SINCE:
        raise LoraError(
            f"{path.name} is a pickle, and in torch {version} a malicious one can corrupt memory or run code "
            "(CVE-2026-24747). Get the LoRA as .safetensors, convert it with torch 2.10 or newer, or update torch."
        )


def _read_pickle(path: Path) -> dict[str, LazyTensor]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _require_plausible(path, sum(entry.file_size for entry in archive.infolist()))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (LoraError, PermissionError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # a damaged file can raise almost anything, and torch's message advises loading the file as a program
        log.debug("%s: %s", path.name, error)
        raise LoraError(
            f"{path.name} can't be read as plain weights: it is damaged or contains more than weights. Get it as "
            ".safetensors: other formats can contain programs, and are only read if they don't."
        ) from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise LoraError(f"{path.name} doesn't contain a table of tensors, so it is not a LoRA. Choose a LoRA file.")
    tensors = [value for value in content.values() if isinstance(value, Tensor) and _is_plain(value)]
    _require_plausible(path, sum(tensor.nbytes for tensor in tensors))
    return {str(key): LazyTensor.of(_tensor(str(key), value, path.name)) for key, value in content.items()}


def _require_plausible(path: Path, size: int) -> None:
    """Raise LoraError for a small file that would expand to far more memory (a decompression bomb)."""
    if size > MAX_EXPANSION * path.stat().st_size:
        raise LoraError(
            f"{path.name} would expand to {size / 2**20:,.0f} MB, implausible for its size. Choose another file."
        )


def _is_plain(tensor: Tensor) -> bool:
    usual = type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_nested
    return usual and tensor.layout == torch.strided and tensor.device.type == "cpu" and tensor.dtype in DTYPE_NAMES


def _tensor(key: str, value: object, source: str) -> Tensor:
    if key != key.encode("utf-8", "replace").decode("utf-8"):
        raise LoraError(
            f"{source}: the key {key} contains an unpaired surrogate and can't be stored as UTF-8. {DAMAGED}"
        )
    if isinstance(value, Tensor):
        if not _is_plain(value):
            raise LoraError(f"{source}: entry {key} is an unsupported kind of tensor. Get the LoRA as .safetensors.")
        tensor: Tensor = value
        return tensor.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(value, int | float) and key.endswith(".alpha"):
        return torch.tensor(float(value) if abs(value) < 1e300 else math.nan)  # an int may be too large for a float
    kind = type(value).__name__
    raise LoraError(f"{source}: entry {key} is a {kind}, not a tensor, so this is not a LoRA. Choose a LoRA file.")


def save(
    lora: Lora,
    path: Path,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    check: CancelCheck = no_cancel,
    style: Style | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Write a LoRA with its strengths and block weights multiplied into its alphas; returns the path written.

    Unless ``overwrite`` is set, an existing file is kept and a number is appended to the name (name_00002). The file
    appears complete under its name or not at all. ``dtype`` None keeps each tensor's own, ``style`` None the LoRA's
    names. ``progress`` is called with the bytes written so far and in total. Raises LoraError for an empty LoRA, and
    for modules that the style has no name for.
    """
    settings = {
        **({"save_dtype": str(dtype).removeprefix("torch.")} if dtype is not None else {}),
        **({"names": style} if style is not None else {}),
    }
    baked = lora.baked()
    if not baked.modules:
        raise LoraError(f"{lora.name} has no weights to save: it is empty, or its strengths are all 0.")
    baked = convert_keys(baked, style) if style is not None else loadable_form(baked)
    contents = (to_peft_file if style == "peft" else to_file)(baked, dtype, check)
    contents |= embeddings.in_file(baked, style)
    metadata = file_metadata.fitted(
        file_metadata.of_file(lora, baked, settings), safetensors_file.metadata_room(contents)
    )
    return write_whole(Path(path), contents, metadata, overwrite, check, progress, file_metadata.HASH)
