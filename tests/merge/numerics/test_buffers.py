"""Memory that is lent again, and results side by side in large pieces."""

from __future__ import annotations

import pytest
import torch
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.numerics import buffers
from lora_pack.merge.numerics.buffers import Arena, ReusableBuffer
from lora_pack.tests.support.makers import CONV3, LINEAR, make_lora


def test_the_same_memory_is_lent_again():
    lent = ReusableBuffer(12)
    first = lent.floats(12)
    assert first.dtype == torch.float32 and len(first) == 12
    assert lent.floats(5).data_ptr() == first.data_ptr() and len(lent.floats(5)) == 5


def test_no_memory_is_taken_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch):
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
def test_kept_tensors_are_copies_that_keep_out_of_each_others_way(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    """Odd sizes, one larger than a piece, several pieces."""
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


def test_what_is_not_contiguous_is_kept_as_if_it_were():
    matrix = torch.arange(12.0).reshape(3, 4)
    copy = Arena().copy(matrix.mT)
    assert copy.is_contiguous() and torch.equal(copy, matrix.mT)


def test_small_tensors_share_a_piece_and_large_ones_have_their_own():
    arena = Arena()
    small = [arena.copy(torch.ones(10)) for _ in range(100)]
    assert len({tensor.untyped_storage().data_ptr() for tensor in small}) < 8
    large = arena.copy(torch.ones(buffers.LARGEST_CHUNK // 4 + 16))
    assert large.untyped_storage().nbytes() == large.nbytes


def test_little_more_memory_is_taken_than_the_tensors_need():
    arena = Arena()
    kept = [arena.copy(torch.ones(100_000)) for _ in range(200)]
    pieces = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    assert len(pieces) < 12 and sum(pieces.values()) < sum(tensor.nbytes for tensor in kept) + buffers.LARGEST_CHUNK


def test_a_merge_of_many_modules_reuses_its_memory():
    """Two modules of different sizes: neither's factors change when the other is merged after it."""
    shapes = {LINEAR: (50, 40), CONV3: (12, 10, 3, 3)}
    loras = [make_lora(seed, shapes=shapes) for seed in (1, 2)]
    both = merge_deltas(loras, "ties_svd", 0.5, rank=3, conv_rank=3)
    for name in shapes:
        alone = [make_lora(seed, shapes=shapes) for seed in (1, 2)]
        alone = [type(lora)(lora.name, {name: lora.modules[name]}) for lora in alone]
        (module,) = merge_deltas(alone, "ties_svd", 0.5, rank=3, conv_rank=3).modules.values()
        assert torch.equal(module.dense(), both.modules[name].dense())
