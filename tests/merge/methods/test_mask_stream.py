"""What a random mask depends on, and what it must not depend on."""

from __future__ import annotations

import hashlib
import math
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from lora_pack.merge.methods.mask_stream import MaskStream
from lora_pack.tests.support.masking import STREAM, random_mask, sigmas
from torch import Tensor

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("start", [0, 1, 2, 7, 8, 9, 15, 16, 1001, 2**33 + 5])
@pytest.mark.parametrize("count", [0, 1, 3, 8, 100])
def test_a_position_has_the_same_integer_wherever_reading_starts(start: int, count: int):
    back = min(start, 13)
    around = STREAM.integers(start - back, back + count + 5)
    found = STREAM.integers(start, count)
    assert len(found) == count and found.dtype.itemsize == 4
    assert np.array_equal(found, around[back : back + count])


def test_integers_are_uniform():
    values = STREAM.integers(0, 2**16).astype(np.uint64)
    for shift in (0, 8, 16, 24):
        counts = np.bincount(((values >> np.uint64(shift)) & np.uint64(255)).astype(int), minlength=256)
        chi_square = float(((counts - 256) ** 2 / 256).sum())
        assert abs(chi_square - 255) < 5 * math.sqrt(2 * 255)


OTHER_STREAMS = [
    MaskStream(2, "model:x", 1, "delta"),
    MaskStream(1, "model:y", 1, "delta"),
    MaskStream(1, "te1:x", 1, "delta"),
    MaskStream(1, "model:x", 2, "delta"),
    MaskStream(1, "model:x", 11, "delta"),
    MaskStream(1, "model:x", 1, "up"),
    MaskStream(1, "model:x", 1, "down"),
    MaskStream(11, "model:x", 1, "delta"),
    MaskStream(-1, "model:x", 1, "delta"),
    MaskStream(2**64 - 1, "model:x", 1, "delta"),
]


def test_masks_of_different_seeds_weights_loras_and_sides_are_independent():
    n = 40_000
    masks = [random_mask(stream, 0.5, (200, 200)) for stream in (STREAM, *OTHER_STREAMS)]
    for i, first in enumerate(masks):
        for second in masks[:i]:
            assert sigmas(int((first == second).sum()), n, 0.5) < 5


def test_neighbouring_elements_are_independent():
    flat = random_mask(STREAM, 0.5, (200, 200)).reshape(-1)
    for lag in (1, 2, 4, 8, 200):
        same = flat[lag:] == flat[:-lag]
        assert sigmas(int(same.sum()), len(same), 0.5) < 5


GOLDEN = "ebb648f4510961ebbfaf18fb277dfa0bef5c9cd3ec68cb87331a4e3ceb113a7b"


def checksum(mask: Tensor) -> str:
    return hashlib.sha256(np.packbits(mask.numpy()).tobytes()).hexdigest()


def test_a_mask_is_the_same_in_every_version():
    """Merges with a seed must be reproducible with later versions: this checksum never changes."""
    assert checksum(random_mask(MaskStream(42, "model:mid_block", 2, "down"), 0.3, (123, 45))) == GOLDEN


@pytest.mark.slow
def test_a_mask_is_the_same_in_another_process():
    code = (
        "import hashlib, random\n"
        "import numpy as np, torch\n"
        "from merge.methods.blocked_matrix import Block, in_blocks\n"
        "from merge.methods.mask_stream import MaskStream\n"
        "from merge.methods.kernels import Settings\n"
        "from merge.methods.sparsify import dropout_rescale\n"
        "np.random.seed(5); random.seed(5); torch.manual_seed(5); torch.rand(3)\n"
        "ones = torch.ones(123, 45)\n"
        "mask = dropout_rescale(in_blocks(ones), Settings(0.3), MaskStream(42, 'model:mid_block', 2, 'down'))\n"
        "print(hashlib.sha256(np.packbits((mask(Block(ones)) != 0).numpy()).tobytes()).hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == GOLDEN


def test_random_masks_leave_the_global_random_state_alone():
    def states() -> Sequence[str]:
        return repr(torch.get_rng_state().tolist()), repr(np.random.get_state()), repr(random.getstate())

    before = states()
    random_mask(STREAM, 0.5, (50, 50))
    assert states() == before
