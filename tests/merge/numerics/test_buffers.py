"""The reusable buffer, and the arena that packs tensors into large chunks."""

from __future__ import annotations

import pytest
import torch
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.numerics import buffers
from lora_pack.merge.numerics.buffers import Arena, ReusableBuffer
from lora_pack.tests.support.makers import CONV3, LINEAR, make_lora


def test_the_buffer_lends_the_same_memory_again():
    lent = ReusableBuffer(12)
    first = lent.floats(12)
    assert first.dtype == torch.float32 and len(first) == 12
    assert lent.floats(5).data_ptr() == first.data_ptr() and len(lent.floats(5)) == 5


def test_the_buffer_is_allocated_at_first_use(monkeypatch: pytest.MonkeyPatch):
    taken = []

    def floats(count: int) -> torch.Tensor:
        taken.append(count)
        return torch.empty(count)

    monkeypatch.setattr(buffers, "floats", floats)
    lent = ReusableBuffer(3)
    assert not taken
    lent.floats(2)
    lent.floats(3)
    assert taken == [3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_copies_in_the_arena_do_not_overlap(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    """Odd sizes, one larger than a chunk, several chunks."""
    monkeypatch.setattr(buffers, "LARGEST_CHUNK", 1000)
    arena, noise = Arena(), torch.Generator().manual_seed(1)
    shapes = [(3, 5), (7, 1), (1,), (40, 40), (2, 3, 3, 3), (9, 11), (0, 4)]
    tensors = [torch.randn(shape, generator=noise).to(dtype) for shape in shapes]
    kept = [arena.copy(tensor) for tensor in tensors]
    for tensor, copy in zip(tensors, kept, strict=True):
        assert copy.dtype == dtype and copy.shape == tensor.shape and torch.equal(copy, tensor)
        assert copy.is_contiguous() and copy.data_ptr() % buffers.ALIGNMENT == 0
        assert copy.numel() == 0 or copy.data_ptr() != tensor.data_ptr()
    for number, copy in enumerate(kept):
        copy.fill_(number)
    assert all(bool((copy == number).all()) for number, copy in enumerate(kept))


def test_the_arena_makes_contiguous_copies():
    matrix = torch.arange(12.0).reshape(3, 4)
    copy = Arena().copy(matrix.mT)
    assert copy.is_contiguous() and torch.equal(copy, matrix.mT)


def test_small_tensors_share_a_chunk_and_large_ones_have_their_own():
    arena = Arena()
    small = [arena.copy(torch.ones(10)) for _ in range(100)]
    assert len({tensor.untyped_storage().data_ptr() for tensor in small}) < 8
    large = arena.copy(torch.ones(buffers.LARGEST_CHUNK // 4 + 16))
    assert large.untyped_storage().nbytes() == large.nbytes


def test_the_arena_takes_little_more_memory_than_its_tensors():
    arena = Arena()
    kept = [arena.copy(torch.ones(100_000)) for _ in range(200)]
    chunks = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    assert len(chunks) < 12 and sum(chunks.values()) < sum(tensor.nbytes for tensor in kept) + buffers.LARGEST_CHUNK


def test_modules_merged_in_one_buffer_do_not_overwrite_each_other():
    """Two modules of different sizes are merged to the same factors together and alone."""
    shapes = {LINEAR: (50, 40), CONV3: (12, 10, 3, 3)}
    loras = [make_lora(seed, shapes=shapes) for seed in (1, 2)]
    both = merge_deltas(loras, "ties_svd", 0.5, rank=3, conv_rank=3)
    for name in shapes:
        alone = [make_lora(seed, shapes=shapes) for seed in (1, 2)]
        alone = [type(lora)(lora.name, {name: lora.modules[name]}) for lora in alone]
        (module,) = merge_deltas(alone, "ties_svd", 0.5, rank=3, conv_rank=3).modules.values()
        assert torch.equal(module.dense(), both.modules[name].dense())
