"""safetensors files, read with plain reads and written in one deterministic order.

The safetensors library maps the file into memory: a file that is truncated under the map kills the process, and on
Windows a mapped file can't be replaced. It also writes metadata in random order, so that equal files differ in bytes.
The format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .lora import LoraError

# The limit of the safetensors library.
MAX_HEADER_BYTES = 100_000_000
# How much is written between two looks at whether the user wants to stop.
WRITE_BYTES = 16 * 2**20

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read(path: Path, check: Callable[[], None]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, in the order of their data, and its metadata.

    Each tensor owns its memory. Raises LoraError when the file is not a whole, valid safetensors file.
    """
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        size = before.st_size
        header, data_start = _read_header(file, size, path.name)
        metadata = header.pop("__metadata__", None)
        metadata = {} if metadata is None else metadata
        _require(_is_text_map(metadata), path.name, "its metadata is not a table of texts")
        entries = sorted(
            ((name, *_entry(name, entry, path.name)) for name, entry in header.items()),
            key=lambda e: (e[3], e[4]),
        )
        position = 0
        for name, _, _, begin, end in entries:
            _require(begin == position, path.name, f"the data of tensor {name} overlaps another's or leaves a gap")
            position = end
        _require(
            data_start + position == size,
            path.name,
            f"its header promises {data_start + position} bytes and the file has {size}",
        )
        tensors = {}
        for name, dtype, shape, begin, end in entries:
            check()
            tensors[name] = _read_tensor(file, dtype, shape, end - begin, path.name)
        after = os.fstat(file.fileno())
        unchanged = (after.st_size, after.st_mtime_ns) == (size, before.st_mtime_ns)
        _require(unchanged, path.name, "it was written to while it was read")
    return tensors, dict(metadata)


def _read_header(file: BinaryIO, size: int, source: str) -> tuple[dict, int]:
    start = file.read(8)
    _require(len(start) == 8, source, "it is too short to hold a header")
    (length,) = struct.unpack("<Q", start)
    _require(length <= MAX_HEADER_BYTES and 8 + length <= size, source, "the length of its header is wrong")
    try:
        header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_unique_pairs)
    except (ValueError, RecursionError) as error:
        raise _damaged(source, f"its header can't be read ({error})") from None
    _require(isinstance(header, dict), source, "its header is not a table")
    return header, 8 + length


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands in it twice")
    return table


def _entry(name: str, entry: object, source: str) -> tuple[torch.dtype, tuple[int, ...], int, int]:
    """The dtype, shape, and begin and end of the data of one tensor, checked against each other."""
    _require(isinstance(entry, dict), source, f"the entry of tensor {name} is not a table")
    assert isinstance(entry, dict)
    dtype = DTYPES.get(str(entry.get("dtype")))
    if dtype is None:
        raise LoraError(f"{source}: tensor {name} is of a type ({entry.get('dtype')}) that can't be merged.")
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    _require(_is_counts(shape) and _is_counts(offsets), source, f"the entry of tensor {name} is malformed")
    assert isinstance(shape, list) and isinstance(offsets, list)
    _require(len(offsets) == 2, source, f"the entry of tensor {name} is malformed")
    begin, end = offsets
    _require(
        end - begin == math.prod(shape) * dtype.itemsize,
        source,
        f"the data of tensor {name} doesn't fit its shape",
    )
    return dtype, tuple(shape), begin, end


def _is_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _read_tensor(file: BinaryIO, dtype: torch.dtype, shape: tuple[int, ...], size: int, source: str) -> Tensor:
    tensor = torch.empty(shape, dtype=dtype)
    if size:
        view = _bytes(tensor).data
        _require(file.readinto(view) == size, source, "it ended while it was read")  # type: ignore[attr-defined]
        if sys.byteorder == "big":
            _bytes(tensor).reshape(-1, dtype.itemsize)[:] = _bytes(tensor).reshape(-1, dtype.itemsize)[:, ::-1].copy()
    return tensor


def _bytes(tensor: Tensor):
    """The memory of a contiguous tensor as a flat numpy array of bytes."""
    return tensor.reshape(-1).view(torch.uint8).numpy()


def write(
    file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], check: Callable[[], None]
) -> None:
    """Write contiguous CPU tensors in the given order; the same tensors and metadata give the same bytes."""
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    position = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)  # the format wants the data to start at a multiple of 8
    file.write(struct.pack("<Q", len(text)) + text)
    for tensor in tensors.values():
        data = _bytes(tensor)
        if sys.byteorder == "big":
            data = data.reshape(-1, tensor.element_size())[:, ::-1].reshape(-1)
        for start in range(0, len(data), WRITE_BYTES):
            check()
            file.write(data[start : start + WRITE_BYTES].data)


def _require(good: bool, source: str, problem: str) -> None:
    if not good:
        raise _damaged(source, problem)


def _damaged(source: str, problem: str) -> LoraError:
    return LoraError(f"{source} is not a whole safetensors file: {problem}. Download or save it again.")
