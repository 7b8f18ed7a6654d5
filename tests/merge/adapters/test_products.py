"""What an adapter adds to a layer's output is what its delta, added to the layer's weight, would add."""

from __future__ import annotations

import pytest
import torch
from lora_pack.merge.adapters.products import Layer
from lora_pack.merge.formats import from_state_dict
from lora_pack.tests.support.families import DENSE, KERNEL, NAME, WITH_FACTORS, named, normal
from torch import Tensor
from torch.nn import functional

# Without the factors whose terms cancel in float32: their delta is no nearer to the truth than the product.
FAMILIES = {name: make for name, make in (WITH_FACTORS | DENSE).items() if name != "cancelling LoRA"}


def product_and_delta(state: dict[str, Tensor]):
    (module,) = from_state_dict(state, "a").modules.values()
    return module.product(), module.dense().reshape(module.weight_shape), module


@pytest.mark.parametrize("family", FAMILIES)
def test_the_product_is_the_delta_applied_to_the_input(family: str):
    product, delta, module = product_and_delta(FAMILIES[family](1))
    inputs, kernel = delta.shape[1], tuple(delta.shape[2:])
    if kernel:
        x = normal(7, 2, inputs, 9, 8)
        layer = Layer(inputs, kernel, (2, 1), (1, 1), (1, 1))
        wanted = functional.conv2d(x, delta, None, (2, 1), (1, 1), (1, 1))
    else:
        x, layer = normal(7, 2, 5, inputs), Layer(inputs)
        wanted = functional.linear(x, delta)
    found = product.of(x, layer) * product.scale
    assert product.rows == module.weight_shape[0]
    assert found.shape == wanted.shape and (found - wanted).norm() < 1e-5 * wanted.norm()


@pytest.mark.parametrize("kernel", [(1,), (1, 1), (1, 1, 1)])
def test_factors_of_a_linear_layer_fit_a_pointwise_convolution(kernel: tuple[int, ...]):
    product, delta, _ = product_and_delta(WITH_FACTORS["LoRA"](3))
    ones = (1,) * len(kernel)
    layer = Layer(delta.shape[1], kernel, ones, (0,) * len(kernel), ones)
    x = normal(4, 2, delta.shape[1], *(4 for _ in kernel))
    wanted = torch.einsum("oi,ni...->no...", delta, x)
    assert (product.of(x, layer) * product.scale - wanted).norm() < 1e-5 * wanted.norm()


def test_a_kronecker_product_of_a_convolution_with_more_than_one_group():
    out, inputs, *kernel = KERNEL
    state = named(NAME, lokr_w1=normal(1, 4, 2), lokr_w2=normal(2, out // 4, inputs // 2, *kernel))
    product, delta, _ = product_and_delta(state)
    x = normal(3, 3, inputs, 6, 7)
    wanted = functional.conv2d(x, delta, padding=1)
    found = product.of(x, Layer(inputs, tuple(kernel), (1, 1), (1, 1), (1, 1))) * product.scale
    assert (found - wanted).norm() < 1e-5 * wanted.norm()


def test_a_product_follows_the_precision_of_the_input_and_leaves_its_own_tensors():
    product, _, module = product_and_delta(WITH_FACTORS["LoRA"](1))
    x = normal(2, 3, module.weight_shape[1]).bfloat16()
    assert product.to(x).of(x, Layer(module.weight_shape[1])).dtype == torch.bfloat16
    assert {tensor.dtype for tensor in product.tensors} == {torch.float32}
