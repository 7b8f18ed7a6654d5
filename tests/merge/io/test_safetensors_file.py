"""Our reader and writer of safetensors files against the safetensors library, good files and bad ones."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.errors import LoraError
from lora_pack.merge.io.safetensors_file import index, read, write
from lora_pack.merge.lazy import LazyTensor
from lora_pack.tests.support.bad_files import entry, framed
from lora_pack.tests.support.faults import Fault, Stopped
from lora_pack.tests.support.makers import examples, tensor_bytes
from torch import Tensor

FLOATS = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
INTEGERS = ["int64", "int32", "int16", "int8", "uint8", "bool"]
SHAPES: list[tuple[int, ...]] = [(), (1,), (5,), (0,), (3, 0, 2), (2, 3), (2, 3, 1, 1), (1, 2, 3, 2, 2)]


def no_cancel() -> None:
    pass


def some_tensors() -> dict[str, Tensor]:
    """One tensor of every kind and shape, whose bytes are all different."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for kind in (*FLOATS, *INTEGERS):
        dtype = getattr(torch, kind)
        for shape in SHAPES:
            values = torch.randint(0, 2 if kind == "bool" else 100, shape, generator=generator)
            tensors[f"{kind} {'x'.join(map(str, shape))}"] = values.to(dtype)
    return tensors


def lazy(tensors: dict[str, Tensor]) -> dict[str, LazyTensor]:
    return {key: LazyTensor.of(tensor) for key, tensor in tensors.items()}


def to_bytes(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    file = io.BytesIO()
    write(file, lazy(tensors), metadata or {}, no_cancel)
    return file.getvalue()


def read_all(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    stored, metadata = index(path)
    return dict(zip(stored, read(list(stored.values())), strict=True)), metadata


def read_bytes(data: bytes, tmp_path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    path = tmp_path / "file.safetensors"
    path.write_bytes(data)
    return read_all(path)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert tensor_bytes(found[name]) == tensor_bytes(tensor), name


# Good files


def test_files_of_the_safetensors_library_are_read(tmp_path: Path):
    tensors = some_tensors()
    path = tmp_path / "file.safetensors"
    safetensors.torch.save_file(tensors, path, {"b": "2", "a": "1", "ü": "日本\n\0"})
    found, metadata = read_all(path)
    assert_equal(found, tensors)
    assert metadata == {"b": "2", "a": "1", "ü": "日本\n\0"}
    safetensors.torch.save_file(tensors, path)
    assert read_all(path)[1] == {}


def test_the_safetensors_library_reads_our_files(tmp_path: Path):
    tensors = some_tensors()
    path = tmp_path / "file.safetensors"
    path.write_bytes(to_bytes(tensors, {"b": "2", "a": "1", "ü": "日本\n\0"}))
    assert_equal(safetensors.torch.load_file(path), tensors)
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == {"b": "2", "a": "1", "ü": "日本\n\0"}
    assert_equal(read_all(path)[0], tensors)


@pytest.mark.parametrize("tensors", [{}, {"": torch.ones(2)}, {'ü/日本 "\\\n\0': torch.ones(2)}])
def test_unusual_keys_survive_a_round_trip(tensors: dict[str, Tensor], tmp_path: Path):
    data = to_bytes(tensors)
    assert_equal(read_bytes(data, tmp_path)[0], tensors)
    assert_equal(safetensors.torch.load(data), tensors)


def test_tensors_are_listed_in_the_order_of_their_data(tmp_path: Path):
    names = ["z", "a", "m", "b"]
    data = to_bytes({name: torch.full((3,), i) for i, name in enumerate(names)})
    assert list(read_bytes(data, tmp_path)[0]) == names


def test_equal_tensors_give_equal_files():
    tensors = some_tensors()
    expected = to_bytes(tensors, {"b": "2", "a": "1"})
    assert to_bytes({name: tensor.clone() for name, tensor in tensors.items()}, {"a": "1", "b": "2"}) == expected
    assert to_bytes(tensors, {"a": "1", "b": "3"}) != expected
    (length,) = struct.unpack("<Q", expected[:8])
    header = json.loads(expected[8 : 8 + length])
    assert list(header["__metadata__"]) == ["a", "b"]
    assert (8 + length) % 8 == 0, "readers that map the file rely on aligned tensors"


def test_tensors_own_their_memory_and_the_file_is_closed(tmp_path: Path):
    """No map of the file is left: it can shrink and be replaced, also on Windows."""
    path = tmp_path / "file.safetensors"
    tensors = some_tensors()
    path.write_bytes(to_bytes(tensors))
    found, _ = read_all(path)
    if sys.platform == "linux":
        assert str(path) not in Path("/proc/self/maps").read_text()
        assert not [fd for fd in Path("/proc/self/fd").iterdir() if fd.exists() and os.path.samefile(fd, path)]
    path.write_bytes(b"")
    path.unlink()
    assert_equal(found, tensors)
    for tensor in found.values():
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
        if tensor.dtype == torch.float32:
            tensor.add_(1)  # writable, and no other tensor changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor.dtype != torch.float32}
    assert_equal({name: found[name] for name in kept}, kept)


def test_large_tensors_are_read_and_written_in_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("lora_pack.merge.io.safetensors_file.WRITE_BYTES", 1000)
    tensors = {"a": torch.randn(123, 45), "b": torch.randn(7)}
    calls: list[None] = []
    file = io.BytesIO()
    write(file, lazy(tensors), {}, lambda: calls.append(None))
    assert len(calls) >= tensors["a"].nbytes // 1000
    assert_equal(read_bytes(file.getvalue(), tmp_path)[0], tensors)


# Bad files


GOOD = framed({"a": entry(0, 8), "b": entry(8, 12)}, bytes(12))

BAD: dict[str, bytes] = {
    "nothing": b"",
    "seven bytes": GOOD[:7],
    "eight bytes": GOOD[:8],
    "a header cut off": GOOD[:40],
    "data cut off": GOOD[:-1],
    "all data cut off": GOOD[:-12],
    "data behind": GOOD + b"\0",
    "a length of zero": framed(b"", b"", 0),
    "a length beyond the file": framed({"a": entry(0, 4)}, bytes(4), 10_000),
    "a length of 2^63": framed({"a": entry(0, 4)}, bytes(4), 2**63),
    "a length of 2^64 - 1": framed({"a": entry(0, 4)}, bytes(4), 2**64 - 1),
    "a length that is short": framed({"a": entry(0, 4)}, bytes(4), 10),
    "a web page": b"<!DOCTYPE html><html><body>404 not found</body></html>" * 4,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "an archive": b"PK\x03\x04" + bytes(100),
    "no JSON": framed(b"{not json}"),
    "JSON cut off": framed(b'{"a": {"dtype": "F32", '),
    "a list": framed([entry(0, 4)], bytes(4)),
    "a number": framed(b"7"),
    "null": framed(b"null"),
    "no UTF-8": framed(b'{"\xff\xfe": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', bytes(4)),
    "an entry that is a list": framed({"a": [1, 2]}),
    "an entry that is null": framed({"a": None}),
    "no dtype": framed({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "no shape": framed({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)),
    "no offsets": framed({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "an unknown dtype": framed({"a": entry(0, 4, dtype="F99")}, bytes(4)),
    "a dtype that is a number": framed({"a": entry(0, 4, dtype=32)}, bytes(4)),
    "a dtype that is a list": framed({"a": entry(0, 4, dtype=["F32"])}, bytes(4)),
    "a negative shape": framed({"a": entry(0, 4, shape=[-1])}, bytes(4)),
    "a shape of fractions": framed({"a": entry(0, 4, shape=[1.5])}, bytes(4)),
    "a shape of a fraction that is whole": framed({"a": entry(0, 4, shape=[1.0])}, bytes(4)),
    "a shape that is true": framed({"a": entry(0, 4, shape=[True])}, bytes(4)),
    "a shape that is text": framed({"a": entry(0, 4, shape="1")}, bytes(4)),
    "a shape that is a number": framed({"a": entry(0, 4, shape=1)}, bytes(4)),
    "a nested shape": framed({"a": entry(0, 4, shape=[[1]])}, bytes(4)),
    "a shape too large for its data": framed({"a": entry(0, 4, shape=[2])}, bytes(4)),
    "a shape too small for its data": framed({"a": entry(0, 8, shape=[1])}, bytes(8)),
    "a shape that overflows": framed({"a": entry(0, 0, shape=[2**62, 4])}),
    "a shape that overflows to the right size": framed({"a": entry(0, 4, shape=[2**62, 2**2, 1])}, bytes(4)),
    "three offsets": framed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, bytes(4)),
    "one offset": framed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4]}}, bytes(4)),
    "offsets that are text": framed({"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}}, bytes(4)),
    "offsets the wrong way round": framed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
    "a negative offset": framed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}, bytes(4)),
    "offsets beyond the data": framed({"a": entry(0, 8)}, bytes(4)),
    "offsets of 2^64": framed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [2**64, 2**64 + 4]}}, bytes(4)),
    "a hole at the start": framed({"a": entry(4, 8)}, bytes(8)),
    "a hole between": framed({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)),
    "overlapping data": framed({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
    "the same data twice": framed({"a": entry(0, 4), "b": entry(0, 4)}, bytes(4)),
    "a name twice": framed(
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, '
        b'"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        bytes(8),
    ),
    "metadata of numbers": framed({"__metadata__": {"a": 1}, "a": entry(0, 4)}, bytes(4)),
    "metadata of lists": framed({"__metadata__": {"a": ["b"]}, "a": entry(0, 4)}, bytes(4)),
    "metadata that is text": framed({"__metadata__": "text", "a": entry(0, 4)}, bytes(4)),
    "metadata that is a list": framed({"__metadata__": [], "a": entry(0, 4)}, bytes(4)),
}


def test_the_template_of_the_bad_files_is_valid(tmp_path: Path):
    assert set(read_bytes(GOOD, tmp_path)[0]) == set(safetensors.torch.load(GOOD)) == {"a", "b"}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_bad_files_are_refused_as_the_library_refuses_them(data: bytes, tmp_path: Path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises((safetensors.SafetensorError, KeyError)), safetensors.safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 (safe_open is no mapping)
            file.get_tensor(name)
    with pytest.raises(LoraError, match="bad"):
        read_all(path)


UNUSUAL: dict[str, bytes] = {
    "spaces behind the header": framed(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}    ', bytes(4)),
    "an order of its own": framed({"b": entry(8, 12), "a": entry(0, 8)}, bytes(12)),
    "empty tensors anywhere": framed({"a": entry(0, 4), "b": entry(4, 4, shape=[0, 7]), "c": entry(4, 8)}, bytes(8)),
    "no tensors": framed({}),
    "metadata alone": framed({"__metadata__": {"a": "b"}}),
    "metadata of null": framed({"__metadata__": None, "a": entry(0, 4)}, bytes(4)),
    "a field of an entry twice": framed(
        b'{"a": {"dtype": "F32", "dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', bytes(4)
    ),
    "more in an entry": framed({"a": entry(0, 4, note="x")}, bytes(4)),
}


@pytest.mark.parametrize("data", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_files_are_read_where_the_library_reads_them(data: bytes, tmp_path: Path):
    try:
        expected = safetensors.torch.load(data)
    except safetensors.SafetensorError:
        with pytest.raises(LoraError):
            read_bytes(data, tmp_path)
    else:
        assert_equal(read_bytes(data, tmp_path)[0], expected)


def test_a_duplicate_key_is_refused_although_the_library_takes_the_last(tmp_path: Path):
    """Which of the two is meant nobody knows."""
    entries = [b'"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'] * 2
    with pytest.raises(LoraError, match="'a'"):
        read_bytes(framed(b"{" + b", ".join(entries) + b"}", bytes(4)), tmp_path)


def test_an_oversized_header_length_allocates_nothing(tmp_path: Path):
    """The library's limit is 100 MB."""
    path = tmp_path / "bad.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001) + b"{")
        file.truncate(200_000_000)  # a sparse file
    with pytest.raises(LoraError, match="bad"):
        read_all(path)


@pytest.mark.fuzz
@examples(300)
@given(st.data())
def test_any_damage_is_refused_or_harmless(data: st.DataObject):
    """Flipped, lost and added bytes: a LoraError or a table of tensors, as with the library, and nothing else."""
    damaged = bytearray(to_bytes({"a": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.float16)}, {"k": "v"}))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        change = data.draw(st.sampled_from(["flip", "digit", "cut", "drop", "add"]))
        if change == "flip":
            damaged[position] ^= 1 << data.draw(st.integers(0, 7))
        elif change == "digit":
            damaged[position] = data.draw(st.sampled_from(b'0123456789-.,:"[]{} '))
        elif change == "cut":
            del damaged[max(1, position) :]
        elif change == "drop":
            del damaged[position : position + 1]
        else:
            damaged.insert(position, data.draw(st.integers(0, 255)))
        if not damaged:
            break
    assert_as_the_library(bytes(damaged))


def assert_as_the_library(data: bytes) -> None:
    try:
        expected = safetensors.torch.load(data)
    except Exception:  # the library raises what it comes across
        expected = None
    with tempfile.TemporaryDirectory() as folder:
        try:
            found, _ = read_bytes(data, Path(folder))
        except LoraError:
            assert expected is None, "the library reads it"
        else:
            assert expected is not None, "the library refuses it"
            assert_equal(found, expected)


# The file between the look at its header and the reading


def change_and_read(path: Path, change: Callable[[], object]) -> None:
    stored, _ = index(path)
    change()
    read(list(stored.values()))


@pytest.mark.parametrize("data", [bytes(8), to_bytes({"a": torch.ones(3)}), to_bytes({"a": torch.zeros(2)})])
def test_a_file_changed_since_indexing_is_refused(data: bytes, tmp_path: Path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(to_bytes({"a": torch.zeros(3)}))
    os.utime(path, ns=(1, 1))
    change_and_read(path, lambda: None)
    with pytest.raises(LoraError, match=r"a\.safetensors has changed since it was loaded"):
        change_and_read(path, lambda: path.write_bytes(data))


def test_a_deleted_file_is_named(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(to_bytes({"a": torch.zeros(3)}))
    with pytest.raises(LoraError, match=r"a\.safetensors is gone"):
        change_and_read(path, path.unlink)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(to_bytes({"a": torch.zeros(3), "b": torch.zeros(3)}))
    os.utime(path, ns=(1, 1))
    stored, _ = index(path)
    empty, changed = np.empty, to_bytes({"a": torch.ones(3), "b": torch.ones(3)})

    def empty_and_change(*arguments: object) -> np.ndarray:
        path.write_bytes(changed)
        return empty(*arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(np, "empty", empty_and_change)
    with pytest.raises(LoraError, match="has changed"):
        read(list(stored.values()))


# Writing


def test_writing_can_be_cancelled_at_any_block(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lora_pack.merge.io.safetensors_file.WRITE_BYTES", 64)
    for n in (1, 2, 5):
        with pytest.raises(Stopped):
            write(io.BytesIO(), lazy({"a": torch.zeros(100), "b": torch.zeros(100)}), {}, Fault(Stopped, at=n))
