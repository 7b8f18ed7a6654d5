"""Factors whose float32 product is accurate."""

from __future__ import annotations

import numpy as np
import torch
from lora_pack.merge.numerics.conditioning import float32_factors
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import rotation
from lora_pack.tests.support.spectra import product


def test_well_conditioned_factors_stay_as_they_are():
    up, down = (factor.half() for factor in product((40, 30), [3.0, 2.0, 1.0]))
    found = float32_factors(up, down)
    assert torch.equal(found[0], up.float()) and torch.equal(found[1], down.float())


def test_factors_that_cancel_are_balanced():
    scales = torch.diag(torch.logspace(0, 6, 8, dtype=torch.float64))
    gauge = rotation(8, 1) @ scales @ rotation(8, 2)
    up, down = (factor.float() for factor in product((40, 30), [1.0] * 8, 3, gauge))
    whole = up.double().numpy() @ down.double().numpy()

    def error(up: torch.Tensor, down: torch.Tensor) -> float:
        return oracle.distance((up @ down).double().numpy(), whole)

    assert error(*float32_factors(up, down)) < 1e-6 < error(up, down)


def test_zero_factors_stay_zero():
    up, down = float32_factors(torch.zeros(4, 2), torch.ones(2, 3))
    assert not np.any((up @ down).numpy())
