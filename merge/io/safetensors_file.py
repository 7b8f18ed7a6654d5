"""Reading and writing safetensors files, tensor by tensor and deterministically.

The safetensors library maps the file into memory: truncating a mapped file kills the process, and on Windows a mapped
file can't be replaced. It also writes metadata in random order, so that equal files differ in their bytes.
The format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..compute.context import CancelCheck, Progress, no_progress
from ..errors import LoraError
from ..lazy import LazyTensor
from .background_writer import BackgroundWriter

# The limit of the safetensors library.
MAX_HEADER_BYTES = 100_000_000
# Bytes written between two checks for cancelling.
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
# The type of MXFP8's scales, which only newer versions of torch have.
BLOCK_SCALE = "F8_E8M0"
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# numpy's dtype, or one of the same size where numpy lacks the type.
NUMPY_DTYPES: dict[torch.dtype, type[np.generic]] = {
    torch.float64: np.float64,
    torch.float32: np.float32,
    torch.float16: np.float16,
    torch.bfloat16: np.int16,
    torch.float8_e4m3fn: np.uint8,
    torch.float8_e5m2: np.uint8,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.int16: np.int16,
    torch.int8: np.int8,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}


@dataclass(frozen=True)
class FileState:
    """A file, with the size and time that show whether it has changed."""

    path: Path
    size: int
    modified: int  # in nanoseconds


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is in its file, with its dtype and shape."""

    file: FileState
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    def rows(self, start: int, stop: int) -> StoredTensor:
        """The part from index start to stop of the first dimension."""
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        return replace(self, offset=self.offset + start * row, shape=(stop - start, *self.shape[1:]))

    def lazy(self) -> LazyTensor:
        """The tensor, read again at each use. Reading raises LoraError when the file has changed since ``index``."""

        def read_rows(start: int, stop: int) -> Tensor:
            return read([self.rows(start, stop)])[0]

        return LazyTensor(self.dtype, self.shape, lambda: read([self])[0], is_finite=True, read_rows=read_rows)


def index(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """All tensors of a safetensors file, in the order of their data, and its metadata; reads only the header.

    Raises LoraError unless the file is a complete, valid safetensors file.
    """
    with path.open("rb") as file:
        state = _state(path, file)
        header, data_start = _read_header(file, state.size, path.name)
    metadata = header.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata
    _require(_is_text_map(metadata), path.name, "its metadata is not a table of strings")
    entries = sorted(
        ((name, *_entry(name, entry, path.name)) for name, entry in header.items()),
        key=lambda e: (e[3], e[4]),
    )
    position = 0
    for name, _, _, begin, end in entries:
        _require(begin == position, path.name, f"the data of tensor {name} overlaps another's or leaves a gap")
        position = end
    _require(
        data_start + position == state.size,
        path.name,
        f"its header describes {data_start + position} bytes, but the file has {state.size}",
    )
    tensors = {name: StoredTensor(state, data_start + begin, dtype, shape) for name, dtype, shape, begin, _ in entries}
    return tensors, dict(metadata)


def read(stored: Sequence[StoredTensor]) -> list[Tensor]:
    """Tensors of one file, each in memory of its own. Raises LoraError if the file has changed since ``index``."""
    if not stored:
        return []
    state = stored[0].file
    name = state.path.name
    try:
        with state.path.open("rb", buffering=0) as file:
            _require_same(state, file)
            tensors = [_read_tensor(file, one, name) for one in stored]
            _require_same(state, file)
    except FileNotFoundError:
        raise LoraError(
            f"{name} is gone: it was deleted or moved after it was loaded. Put it back, or choose another file."
        ) from None
    except OSError as error:
        raise LoraError(f"{name} can no longer be read: {error.strerror or error}. Check the file.") from error
    return tensors


def _state(path: Path, file: BinaryIO) -> FileState:
    status = os.fstat(file.fileno())
    return FileState(path, status.st_size, status.st_mtime_ns)


def _require_same(state: FileState, file: BinaryIO) -> None:
    status = os.fstat(file.fileno())
    if (status.st_size, status.st_mtime_ns) != (state.size, state.modified):
        raise LoraError(
            f"{state.path.name} has changed since it was loaded. Run the workflow again to read the new file."
        )


def _read_header(file: BinaryIO, size: int, source: str) -> tuple[dict, int]:
    start = file.read(8)
    _require(len(start) == 8, source, "it is too short to hold a header")
    (length,) = struct.unpack("<Q", start)
    _require(length <= MAX_HEADER_BYTES and 8 + length <= size, source, "the length of its header is wrong")
    try:
        text = file.read(length).decode("utf-8")
        header = json.loads(text, object_pairs_hook=_unique_pairs)
        if "\\u" in text:
            _require_whole_characters(header)
    except (ValueError, RecursionError) as error:
        raise _damaged(source, f"its header can't be read ({error})") from None
    _require(isinstance(header, dict), source, "its header is not a table")
    return header, 8 + length


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice!r} occurs twice")
    return table


def _require_whole_characters(header: object) -> None:
    """Raise ValueError for an unpaired surrogate escape, which UTF-8 can't store."""
    json.dumps(header, ensure_ascii=False).encode("utf-8")


def _entry(name: str, entry: object, source: str) -> tuple[torch.dtype, tuple[int, ...], int, int]:
    """The dtype, shape, and begin and end of the data of one tensor, checked against each other."""
    _require(isinstance(entry, dict), source, f"the entry of tensor {name} is not a table")
    assert isinstance(entry, dict)
    dtype = DTYPES.get(str(entry.get("dtype")))
    if entry.get("dtype") == BLOCK_SCALE:
        raise LoraError(
            f"{source}: tensor {name} has the type {BLOCK_SCALE} of a model quantised as MXFP8: nothing can be added "
            "to it or subtracted from it. Use the model in float16, bfloat16 or float8, and quantise the result."
        )
    if dtype is None:
        raise LoraError(
            f"{source}: tensor {name} has the type {entry.get('dtype')}, which can't be merged. "
            "Choose a copy in float16, bfloat16 or float32."
        )
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    _require(_is_counts(shape) and _is_counts(offsets), source, f"the entry of tensor {name} is malformed")
    assert isinstance(shape, list) and isinstance(offsets, list)
    # an empty tensor has no data, yet its other sizes may be more than torch can count
    small = math.prod(size or 1 for size in shape) < 2**59
    _require(len(offsets) == 2 and small, source, f"the entry of tensor {name} is malformed")
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


def _read_tensor(file: BinaryIO, stored: StoredTensor, source: str) -> Tensor:
    if 0 in stored.shape:
        return torch.empty(stored.shape, dtype=stored.dtype)
    # with numpy, because torch's calls take longer than reading a small tensor
    numbers = np.empty(stored.shape, NUMPY_DTYPES[stored.dtype])
    file.seek(stored.offset)
    position = file.readinto(numbers.data)  # type: ignore[attr-defined]
    while position < numbers.nbytes:  # some systems read at most 2 GB at a time
        rest = numbers.reshape(-1).view(np.uint8)[position:]
        count = file.readinto(rest.data)  # type: ignore[attr-defined]
        _require(bool(count), source, "it became shorter while it was read")
        position += count
    if sys.byteorder == "big":
        numbers.byteswap(inplace=True)
    tensor = torch.from_numpy(numbers)
    return tensor if tensor.dtype == stored.dtype else tensor.view(stored.dtype)


def tensor_bytes(tensor: Tensor) -> np.ndarray:
    """A contiguous tensor's memory as a flat numpy array of bytes."""
    return tensor.reshape(-1).view(torch.uint8).numpy()


def metadata_room(tensors: Mapping[str, LazyTensor]) -> int:
    """How many bytes of metadata fit into the header of a file with these tensors."""
    reserve = 4096  # for the metadata's key, the hash that is added, and padding
    return MAX_HEADER_BYTES - len(_header(tensors, {})) - reserve


def write(
    file: BinaryIO,
    tensors: Mapping[str, LazyTensor],
    metadata: Mapping[str, str],
    check: CancelCheck,
    after_block: Callable[[], None] = lambda: None,
    hash_key: str = "",
    progress: Progress = no_progress,
) -> None:
    """Write contiguous CPU tensors in the given order; the same tensors and metadata give the same bytes.

    Tensors are materialized one at a time. A second thread hashes and writes them, and calls ``after_block`` after each
    block. ``check`` is called before a block is passed to that thread, ``progress`` afterwards, with the bytes passed
    so far and in total. With a ``hash_key``, the metadata gets the SHA-256 of the tensors' data under it. The hash is
    known only at the end, so the header is then written again, at the same length.
    Raises LoraError, before writing anything, for a header longer than ``index`` reads.
    """
    start = file.tell()
    digest = sha256()
    metadata = dict(metadata) | ({hash_key: _hash_text(digest.hexdigest())} if hash_key else {})
    header = _header(tensors, metadata)
    if len(header) - 8 > MAX_HEADER_BYTES:
        raise LoraError(
            f"The keys of {len(tensors):,} tensors need a header of {len(header) / 1e6:.0f} MB, and safetensors "
            f"allows {MAX_HEADER_BYTES / 1e6:.0f} MB. Merge fewer LoRAs into one file."
        )
    _write_all(file, memoryview(header))

    def put(block: memoryview) -> None:
        if hash_key:
            digest.update(block)
        _write_all(file, block)
        after_block()

    done, total = 0, sum(map(_size, tensors.values()))
    with BackgroundWriter(put) as writer:
        for name, tensor in tensors.items():
            data = _little_endian(tensor_bytes(tensor.materialize()), tensor.dtype.itemsize)
            assert len(data) == _size(tensor), name
            for position in range(0, len(data), WRITE_BYTES):
                check()
                block = data[position : position + WRITE_BYTES].data
                writer(block)
                done += len(block)
                progress(done, total)
        writer.finish()
    if hash_key:
        metadata[hash_key] = _hash_text(digest.hexdigest())
        end = file.tell()
        file.seek(start)
        _write_all(file, memoryview(_header(tensors, metadata)))
        file.seek(end)


def _write_all(file: BinaryIO, data: memoryview) -> None:
    while data:  # an unbuffered file may write only a part
        data = data[file.write(data) :]


def _header(tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    position = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + _size(tensor)],
        }
        position += _size(tensor)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    text += b" " * (-len(text) % 8)  # the format aligns the data to 8 bytes
    return struct.pack("<Q", len(text)) + text


def _hash_text(digest: str) -> str:
    """A hash in ModelSpec's notation."""
    return f"0x{digest}"


def _size(tensor: LazyTensor) -> int:
    return math.prod(tensor.shape) * tensor.dtype.itemsize


def _little_endian(data: np.ndarray, itemsize: int) -> np.ndarray:
    if sys.byteorder == "little":
        return data
    return data.reshape(-1, itemsize)[:, ::-1].reshape(-1)


def _require(good: bool, source: str, problem: str) -> None:
    if not good:
        raise _damaged(source, problem)


def _damaged(source: str, problem: str) -> LoraError:
    return LoraError(f"{source} is not a complete safetensors file: {problem}. Download or save it again.")
