"""Strides must not change a result: views, transposes and expanded tensors merge like their contiguous copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from lora_pack.merge.adapters.base import Adapter, Lora, LoraModule
from lora_pack.merge.formats import from_state_dict
from lora_pack.merge.merging.resize import resize
from lora_pack.merge.methods.kernels import Sparsifier, keep_all
from lora_pack.merge.methods.sparsify import dropout_rescale, kept_count, prune_magnitude
from lora_pack.tests.support.families import FAMILIES, State, tucker_loha
from lora_pack.tests.support.makers import CONV3, LINEAR, make_lora, state_dict
from lora_pack.tests.support.masking import sparse
from lora_pack.tests.support.merging import ALL_MODES, merge
from torch import Tensor


def whole_numbers(*shape: int, seed: int = 0) -> Tensor:
    """From -3 to 3, so that many magnitudes tie."""
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "transposed": lambda: whole_numbers(11, 14).T,
    "some of the columns": lambda: whole_numbers(14, 30)[:, 4:15],
    "every second row": lambda: whole_numbers(28, 11)[::2],
    "every second column": lambda: whole_numbers(14, 22)[:, ::2],
    "one row repeated": lambda: whole_numbers(1, 11).expand(14, 11),
    "one column repeated": lambda: whole_numbers(14, 1).expand(14, 11),
    "permuted": lambda: whole_numbers(11, 7, 2).permute(1, 2, 0),
    "one column": lambda: whole_numbers(14, 11)[:, :1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sparsify", [keep_all, prune_magnitude, dropout_rescale])
def test_strides_do_not_change_what_a_sparsifier_keeps(sparsify: Sparsifier, layout: str):
    strided = LAYOUTS[layout]()
    for density in (0.0, 0.1, 0.37, 0.5, 0.9, 1.0):
        for rows in (3, 14):
            kept = [sparse(sparsify, matrix, density, rows) for matrix in (strided, strided.contiguous())]
            assert torch.equal(*kept), f"density {density}"
            if sparsify is prune_magnitude:
                least = min(kept_count(density, strided.numel()), int(strided.count_nonzero()))
                assert int(kept[0].count_nonzero()) == least


class Contiguous(Adapter):
    """An adapter with contiguous copies of its factors and delta."""

    def __init__(self, whole: Adapter) -> None:
        self.whole = whole
        self.name, self.block_weight, self.family = whole.name, whole.block_weight, whole.family  # type: ignore[misc]

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.whole.weight_shape

    @property
    def parameter(self) -> str:
        return self.whole.parameter

    @property
    def rank(self) -> int:
        return self.whole.rank

    @property
    def scale(self) -> float:
        return self.whole.scale

    @property
    def has_factors(self) -> bool:
        return self.whole.has_factors

    def factors(self) -> tuple[Tensor, Tensor] | None:
        factors = self.whole.factors()
        return factors and (factors[0].contiguous(), factors[1].contiguous())

    def dense(self) -> Tensor:
        return self.whole.dense().contiguous()

    def tensors(self) -> Iterator:
        return self.whole.tensors()


def numbers(lora: Lora) -> list[list[list]]:
    tensors = [[value.materialize() for _, value in m.tensors()] for m in lora.modules.values()]
    return [[tensor.tolist() for tensor in module] for module in tensors]


def with_ties(state: State) -> State:
    return {key: t if key.endswith(".alpha") else (2 * t).round().clamp(-2, 2) for key, t in state.items()}


@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_strides_do_not_change_a_merge(family: str, mode: str):
    """Factors of LoHa and LoKr with a Tucker core are transposed views."""
    read = [from_state_dict(with_ties(FAMILIES[family](seed)), f"lora{seed}") for seed in (1, 40)]
    if (
        mode in ALL_MODES[:6]
        and mode != "concat"
        and not all(m.has_factors or len(m.weight_shape) == 1 for m in read[0].modules.values())
    ):
        return
    copied = [
        Lora(lora.name, {key: m if isinstance(m, LoraModule) else Contiguous(m) for key, m in lora.modules.items()})
        for lora in read
    ]
    assert numbers(merge(mode, read, 0.5, 3, 3)) == numbers(merge(mode, copied, 0.5, 3, 3))


def test_pruning_a_tucker_loha_keeps_the_share_it_should():
    """Its up is a transposed view; once the zeros went into a copy, and 79 of 96 elements were kept instead of 48."""
    state = with_ties(tucker_loha(1))
    lora = from_state_dict(state, "lora")
    (adapter,) = lora.modules.values()
    factors = adapter.factors()
    assert factors is not None and not factors[0].is_contiguous()
    (merged,) = merge("magnitude_prune", [lora], 0.25).modules.values()
    assert isinstance(merged, LoraModule)
    for factor, pruned in zip(factors, merged.factors(), strict=True):
        assert int(factor.count_nonzero()) > factor.numel() // 4
        assert int(pruned.count_nonzero()) == factor.numel() // 4


@pytest.mark.parametrize("operation", [*ALL_MODES, "resize"])
def test_a_lora_of_strided_tensors_merges_like_its_contiguous_copy(operation: str):
    """A caller may pass tensors with any strides."""
    shapes = {LINEAR: (14, 11), CONV3: (8, 5, 3, 3)}
    states = [state_dict(make_lora(seed, shapes=shapes, whole=True)) for seed in (1, 2)]
    results = []
    for layout in (strided, Tensor.contiguous):
        loras = [from_state_dict({k: layout(t) for k, t in state.items()}, "lora") for state in states]
        merged = resize(loras[0], 2) if operation == "resize" else merge(operation, loras, 0.5, 3, 3)
        results.append(numbers(merged))
    assert results[0] == results[1]


def strided(tensor: Tensor) -> Tensor:
    """The same values with the smallest stride in the first dimension."""
    return tensor.movedim(0, -1).contiguous().movedim(-1, 0) if tensor.ndim > 1 else tensor
