"""What an adapter adds to the output of a layer, computed from the layer's input instead of changing its weight.

A layer's output is linear in its weight: (W + delta) x = W x + delta x. A product computes delta x, from the adapter's
factors where it has some, and so without forming delta.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)

ProductT = TypeVar("ProductT", bound="Product")


@dataclass(frozen=True)
class Layer:
    """How a layer applies its weight: to the last dimension of its input, or as a convolution with this ``kernel``.

    ``inputs`` is the number of input features or channels. ``stride``, ``padding`` and ``dilation`` are a
    convolution's, one number for each dimension of the kernel.
    """

    inputs: int
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] | str = ()
    dilation: tuple[int, ...] = ()

    @property
    def channel(self) -> int:
        """The dimension of the output's features or channels."""
        return -1 - len(self.kernel)

    def apply(self, x: Tensor, matrix: Tensor, inputs: int | None = None) -> Tensor:
        """The layer's output for a weight given as a matrix (out, inputs * kernel), without a bias."""
        if not self.kernel:
            return functional.linear(x, matrix)
        weight = matrix.reshape(matrix.shape[0], inputs or self.inputs, *self.kernel)
        convolve = _CONVOLUTIONS[len(self.kernel) - 1]
        return convolve(x, weight, None, self.stride, self.padding, self.dilation)

    def mix(self, x: Tensor, matrix: Tensor) -> Tensor:
        """The features or channels of ``x`` multiplied by a matrix, at each place alone."""
        if not self.kernel:
            return functional.linear(x, matrix)
        weight = matrix.reshape(*matrix.shape, *(1 for _ in self.kernel))
        return _CONVOLUTIONS[len(self.kernel) - 1](x, weight)


@dataclass(frozen=True, eq=False)
class Product(ABC):
    """delta x, divided by ``scale``. The tensors are matrices of one precision on one device, and are never changed."""

    tensors: tuple[Tensor, ...]
    scale: float

    @property
    @abstractmethod
    def rows(self) -> int:
        """The rows of delta: the features that are added to."""

    @abstractmethod
    def of(self, x: Tensor, layer: Layer) -> Tensor:
        """delta x / scale for a layer's input, which has the precision and device of the tensors."""

    def to(self: ProductT, x: Tensor) -> ProductT:
        """The same product in the precision and on the device of an input."""
        return replace(self, tensors=tuple(tensor.to(x.device, x.dtype) for tensor in self.tensors))


class LowRank(Product):
    """up (out, rank) @ down (rank, in * kernel)."""

    @property
    def rows(self) -> int:
        return self.tensors[0].shape[0]

    def of(self, x: Tensor, layer: Layer) -> Tensor:
        up, down = self.tensors
        return layer.mix(layer.apply(x, down), up)


class Dense(Product):
    """A whole delta (out, in * kernel)."""

    @property
    def rows(self) -> int:
        return self.tensors[0].shape[0]

    def of(self, x: Tensor, layer: Layer) -> Tensor:
        return layer.apply(x, self.tensors[0])


class ElementWise(Product):
    """(up1 @ down1) * (up2 @ down2), LoHa's: formed at each call, because its factors would be no smaller."""

    @property
    def rows(self) -> int:
        return self.tensors[0].shape[0]

    def of(self, x: Tensor, layer: Layer) -> Tensor:
        up1, down1, up2, down2 = self.tensors
        return layer.apply(x, (up1 @ down1).mul_(up2 @ down2))


class Kronecker(Product):
    """kron(first, second), LoKr's: first (a, b) mixes b groups of features, to each of which second was applied."""

    @property
    def rows(self) -> int:
        first, second = self.tensors
        return first.shape[0] * second.shape[0]

    def of(self, x: Tensor, layer: Layer) -> Tensor:
        first, second = self.tensors
        groups = x.unflatten(layer.channel, (first.shape[1], -1))
        if not layer.kernel:
            return torch.einsum("ab,...bc->...ac", first, layer.apply(groups, second)).flatten(-2)
        # a convolution takes one dimension before the channels, and the groups become part of it
        of_groups = layer.apply(groups.flatten(0, 1), second, groups.shape[2])
        of_groups = of_groups.unflatten(0, groups.shape[:2])
        return torch.einsum("ab,nb...->na...", first, of_groups).flatten(1, 2)
