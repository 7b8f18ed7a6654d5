"""Small made-up LoRAs for the tests, as values of the data model and as state dicts, and strategies that draw them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import hypothesis
import numpy as np
import torch
from hypothesis import strategies as st
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.lazy import LazyTensor
from lora_pack.merge.methods.mask_stream import MaskStream
from torch import Tensor

Shape = tuple[int, ...]

LINEAR = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
CONV1 = "lora_unet_mid_block_attentions_0_proj_in"
CONV3 = "lora_unet_mid_block_resnets_0_conv1"
CONV_1D = "lora_unet_audio_conv"
CONV_3D = "lora_unet_video_conv"
TEXT = "lora_te_text_model_encoder_layers_0_mlp_fc1"

# weights by name: (out, in[, kernel])
SHAPES: dict[str, Shape] = {
    LINEAR: (14, 11),
    CONV1: (9, 12, 1, 1),
    CONV3: (8, 5, 3, 3),
    CONV_1D: (7, 6, 3),
    CONV_3D: (6, 3, 2, 3, 2),
    TEXT: (12, 8),
}


def make_module(
    name: str,
    shape: Shape,
    rank: int,
    seed: int,
    *,
    alpha: float | None = None,
    dtype: torch.dtype = torch.float32,
    scale: float = 1.0,
    whole: bool = False,
    block_weight: float = 1.0,
) -> LoraModule:
    """Normal random factors; `whole`: small whole numbers, so that products are exact and magnitudes tie."""
    noise = torch.Generator().manual_seed(seed)

    def values(*size: int) -> Tensor:
        if whole:
            return torch.randint(-3, 4, size, generator=noise).to(dtype)
        return (torch.randn(size, generator=noise) * scale).to(dtype)

    up = values(shape[0], rank, *(1 for _ in shape[2:]))
    down = values(rank, *shape[1:])
    return LoraModule.of(name, up, down, float(rank if alpha is None else alpha), block_weight)


def up_of(module: LoraModule) -> Tensor:
    return module.up.materialize()


def down_of(module: LoraModule) -> Tensor:
    return module.down.materialize()


def with_factors(module: LoraModule, **changes: object) -> LoraModule:
    """The module with other fields; factors may be given as tensors."""
    lazy = {name: LazyTensor.of(value) if isinstance(value, Tensor) else value for name, value in changes.items()}
    return replace(module, **lazy)


def make_lora(
    seed: int = 0,
    *,
    name: str = "",
    shapes: Mapping[str, Shape] = SHAPES,
    ranks: Sequence[int] = (4,),
    alphas: Sequence[float | None] = (None,),
    strength_model: float = 1.0,
    strength_clip: float = 1.0,
    metadata: Mapping[str, str] | None = None,
    **options,
) -> Lora:
    """A LoRA of these weights; ranks and alphas take turns over its modules."""
    modules = []
    for i, (weight, shape) in enumerate(shapes.items()):
        rank, alpha = ranks[i % len(ranks)], alphas[i % len(alphas)]
        modules.append(make_module(weight, shape, rank, 1000 * seed + i, alpha=alpha, **options))
    return of_modules(modules, name or f"lora{seed}", strength_model, strength_clip, metadata)


def of_modules(
    modules: Iterable[LoraModule],
    name: str = "lora",
    strength_model: float = 1.0,
    strength_clip: float = 1.0,
    metadata: Mapping[str, str] | None = None,
) -> Lora:
    return Lora(name, {m.name: m for m in modules}, strength_model, strength_clip, metadata or {})


def at(lora: Lora, strength_model: float, strength_clip: float | None = None) -> Lora:
    """The LoRA at these strengths, whatever it had; one number is for both parts."""
    clip = strength_model if strength_clip is None else strength_clip
    return replace(lora, strength_model=strength_model, strength_clip=clip)


def each_module(lora: Lora, change: Callable[[LoraModule], LoraModule]) -> Lora:
    return replace(lora, modules={name: change(module) for name, module in lora.modules.items()})


def as_matrix(module: LoraModule) -> LoraModule:
    """A 1x1 convolution as some trainers store it: without the kernel's dimensions."""
    return with_factors(module, up=module.up.materialize().flatten(1), down=module.down.materialize().flatten(1))


def regauged(module: LoraModule, gauge: Tensor) -> LoraModule:
    """The same delta in other factors: (B G, G^-1 A)."""
    up = module.up.materialize().flatten(1).double() @ gauge.double()
    down = torch.linalg.inv(gauge.double()) @ module.down.materialize().flatten(1).double()
    return with_factors(
        module,
        up=up.reshape(module.up.shape).to(module.up.dtype),
        down=down.reshape(module.down.shape).to(module.down.dtype),
    )


def rotation(size: int, seed: int) -> Tensor:
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(noise)[0]


def spectral_lora(shape: tuple[int, int], values: Sequence[float], seed: int) -> Lora:
    """A LoRA of one linear weight whose delta has these singular values."""
    left, right = (rotation(size, seed + i)[:, : len(values)] for i, size in enumerate(shape))
    root = torch.tensor(values, dtype=torch.float64).sqrt()
    up, down = (left * root).float(), (right * root).T.float()
    return of_modules([LoraModule.of(LINEAR, up, down.contiguous(), float(len(values)))], f"spectrum{seed}")


def state_dict(lora: Lora) -> dict[str, Tensor]:
    """The LoRA's tensors under kohya's names, written out here and not by the core."""
    tensors: dict[str, Tensor] = {}
    for name, module in lora.modules.items():
        tensors[f"{name}.lora_up.weight"] = module.up.materialize()
        tensors[f"{name}.lora_down.weight"] = module.down.materialize()
        tensors[f"{name}.alpha"] = torch.tensor(module.alpha * module.block_weight)
    return tensors


def fingerprint(lora: Lora) -> str:
    """Changes with any bit of the LoRA: its tensors' bytes, shapes and strides, its numbers, names and their order."""
    digest = hashlib.sha256()
    digest.update(repr((lora.name, lora.strength_model, lora.strength_clip, dict(lora.metadata))).encode())
    for name, m in lora.modules.items():
        digest.update(repr((name, m.name, m.alpha, m.block_weight)).encode())
        for tensor in (m.up.materialize(), m.down.materialize()):
            digest.update(repr((tensor.dtype, tensor.shape, tensor.stride(), tensor.requires_grad)).encode())
            digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def drawn_masks(seed: int, weight: str, density: float) -> Callable[[int, str, Shape], np.ndarray]:
    """The masks that DARE is to use on a weight, by its canonical name: what the core's stream of integers says."""

    def mask(number: int, side: str, shape: Shape) -> np.ndarray:
        stream = MaskStream(seed, weight, number, side)
        return (stream.integers(0, int(np.prod(shape))) < density * 2**32).reshape(shape)

    return mask


def examples(count: int) -> Callable:
    """Hypothesis with the same examples on each run: a test that fails one day in ten is a bug of the test."""
    return hypothesis.settings(max_examples=count, derandomize=True, deadline=None, database=None)


STRENGTHS = st.sampled_from([1.0, 0.5, -0.75, 2.0, 0.3, -1.0, 1e-3])


@st.composite
def loras(draw: st.DrawFn, shapes: Mapping[str, Shape] = SHAPES) -> Lora:
    """Any LoRA of these weights: some modules missing, ranks, alphas, strengths and precisions of their own.

    Those of whole numbers have scales by which the products stay exact, and with them the ties of magnitudes.
    """
    names = draw(st.lists(st.sampled_from(list(shapes)), unique=True, min_size=1, max_size=4))
    whole, dtype = draw(st.booleans()), draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
    modules = []
    for name in names:
        rank = draw(st.integers(1, 5))
        module = make_module(
            name,
            shapes[name],
            rank,
            draw(st.integers(0, 10_000)),
            alpha=rank * draw(st.sampled_from([1.0, 2.0, -0.5] if whole else [1.0, 2.0, 1 / 3, -0.7])),
            dtype=dtype,
            whole=whole,
            block_weight=draw(st.sampled_from([1.0, 1.0, 0.5, -2.0])),
        )
        flat = all(k == 1 for k in shapes[name][2:]) and draw(st.booleans())
        modules.append(as_matrix(module) if flat else module)
    return of_modules(modules, f"lora{draw(st.integers(1, 9))}", draw(STRENGTHS), draw(STRENGTHS))


def lora_lists(most: int = 3) -> st.SearchStrategy[list[Lora]]:
    return st.lists(loras(), min_size=1, max_size=most)
