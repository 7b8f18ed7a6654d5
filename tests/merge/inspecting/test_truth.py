"""Every number against dense deltas in float64, for every adapter family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.formats import from_state_dict
from lora_pack.merge.inspecting.elements import _sampled_rows
from lora_pack.merge.inspecting.inspect import inspect
from lora_pack.merge.inspecting.pairs import PairNumbers
from lora_pack.tests.support import dense_numbers as truth
from lora_pack.tests.support.families import DENSE, FAMILIES, NAME, VECTORS, WITH_FACTORS, State, normal
from lora_pack.tests.support.makers import SHAPES, at, make_lora, state_dict

CLOSE = 2e-5
MATRICES = [family for family in WITH_FACTORS | DENSE if "3x3" not in family and "Tucker" not in family]


def close(got: float | None, wanted: float | np.floating, tolerance: float = CLOSE) -> bool:
    return got is not None and math.isclose(got, float(wanted), rel_tol=tolerance, abs_tol=tolerance)


def pair_of(first: Lora, second: Lora) -> PairNumbers:
    return inspect([first, second]).pairs[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_norms_and_ranks_of_a_weight(family: str):
    state = FAMILIES[family](3)
    lora = at(from_state_dict(state, "a"), -0.7)
    (numbers,) = inspect([lora]).loras[0].weights.values()
    (delta,) = truth.deltas(state).values()
    assert close(numbers.norm, 0.7 * np.linalg.norm(delta))
    assert close(numbers.effective_rank, truth.effective_rank(delta))
    assert numbers.rank_for == tuple(truth.rank_for([delta], share) for share in (0.9, 0.95, 0.99))
    if family not in WITH_FACTORS:
        assert numbers.rank == truth.numerical_rank(delta)


def test_the_rank_of_factors_is_theirs_even_if_some_are_zero():
    state = FAMILIES["LoRA"](3)
    state[f"{NAME}.lora_up.weight"][:, 1] = 0
    (numbers,) = inspect([from_state_dict(state, "a")]).loras[0].weights.values()
    (delta,) = truth.deltas(state).values()
    assert (numbers.rank, truth.numerical_rank(delta)) == (4, 3)
    assert close(numbers.effective_rank, truth.effective_rank(delta))


def test_numbers_of_the_whole_and_of_blocks():
    lora = make_lora(5, ranks=(4, 2, 3), alphas=(8.0, 1.0), strength_model=0.5, strength_clip=-2.0, block_weight=3.0)
    (numbers,) = inspect([lora]).loras
    deltas = {
        name: truth.delta({k.split(".", 1)[1]: t.double().numpy() for k, t in state_dict(lora).items() if name in k})
        for name in SHAPES
    }
    deltas = {name: delta * (-2.0 if "_te_" in name else 0.5) for name, delta in deltas.items()}
    total = sum(np.linalg.norm(delta) ** 2 for delta in deltas.values())
    assert close(numbers.norm, math.sqrt(total))
    assert numbers.rank_for == tuple(truth.rank_for(list(deltas.values()), share) for share in (0.9, 0.95, 0.99))
    mean = sum(np.linalg.norm(delta) ** 2 * truth.effective_rank(delta) for delta in deltas.values()) / total
    assert close(numbers.effective_rank, mean)
    kept = [sum(truth.energies(delta)[: k + 1].sum() for delta in deltas.values()) / total for k in range(4)]
    assert np.allclose(numbers.kept, kept, atol=CLOSE)
    blocks = numbers.blocks()
    assert math.isclose(sum(part.share for part in blocks.values()), 1.0)
    (text,) = (delta for name, delta in deltas.items() if "_te_" in name)
    assert close(blocks["TE1-00"].norm, np.linalg.norm(text))
    assert close(blocks["TE1-00"].share, np.linalg.norm(text) ** 2 / total)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("first", "second"), [*product(MATRICES, MATRICES)])
def test_pairs_of_families(first: str, second: str):
    states = FAMILIES[first](1), FAMILIES[second](7)
    loras = at(from_state_dict(states[0], "a"), 0.5), at(from_state_dict(states[1], "b"), -2.0)
    found = pair_of(*loras)
    (a,), (b,) = (truth.deltas(state).values() for state in states)
    assert_pair(found, [a * 0.5], [b * -2.0])


@pytest.mark.parametrize("family", ["LoRA 3x3", "Tucker LoRA", "Tucker LoHa", "Tucker LoKr", "bias", "norm"])
def test_a_pair_of_one_family(family: str):
    states = FAMILIES[family](1), FAMILIES[family](7)
    found = pair_of(*(from_state_dict(state, name) for state, name in zip(states, "ab", strict=True)))
    (a,), (b,) = (truth.deltas(state).values() for state in states)
    assert_pair(found, [a], [b], directions=family not in VECTORS)


def assert_pair(found: PairNumbers, first: Sequence[np.ndarray], second: Sequence[np.ndarray], directions: bool = True):
    """``first`` and ``second`` have the same weights."""
    pairs = list(zip(first, second, strict=True))
    inner = sum(float((a * b).sum()) for a, b in pairs)
    norms = [math.sqrt(sum(np.linalg.norm(delta) ** 2 for delta in deltas)) for deltas in (first, second)]
    assert close(found.cosine, inner / norms[0] / norms[1])
    assert close(found.sum_norm, math.sqrt(sum(np.linalg.norm(a + b) ** 2 for a, b in pairs)))
    sizes = [a.size for a in first]
    # an element that is zero but for rounding may have either sign
    tolerance = 2 / sum(sizes)
    assert close(
        found.sign_conflict, np.average([truth.sign_conflict(a, b) for a, b in pairs], weights=sizes), tolerance
    )
    chance = np.average([math.acos(truth.cosine(a, b)) / math.pi for a, b in pairs], weights=sizes)
    assert close(found.sign_conflict_by_chance, chance)
    assert (found.inside is not None) is directions
    for sharing, one, other in ((found.inside, first, second), (found.around, second, first)):
        if sharing is None:
            continue
        energies = [np.linalg.norm(delta) ** 2 for delta in other]
        inputs = [truth.shared_input(a, b) for a, b in zip(one, other, strict=True)]
        outputs = [truth.shared_output(a, b) for a, b in zip(one, other, strict=True)]
        assert close(sharing.input, np.average([share for share, _ in inputs], weights=energies))
        assert close(sharing.input_by_chance, np.average([chance for _, chance in inputs], weights=energies))
        assert close(sharing.output, np.average([share for share, _ in outputs], weights=energies))
        assert close(sharing.output_by_chance, np.average([chance for _, chance in outputs], weights=energies))


def test_a_pair_of_whole_loras_counts_all_weights():
    shapes = dict(list(SHAPES.items())[:4])
    loras = make_lora(1, shapes=shapes, ranks=(3, 2)), make_lora(2, shapes=shapes, ranks=(1, 4), alphas=(2.0, 9.0))
    deltas = [
        [
            truth.delta({k.split(".", 1)[1]: t.double().numpy() for k, t in state_dict(lora).items() if name in k})
            for name in shapes
        ]
        for lora in loras
    ]
    assert_pair(pair_of(*loras), deltas[0], deltas[1])


def test_a_weight_that_one_lora_lacks_counts_in_the_norms():
    whole = make_lora(1)
    part = make_lora(1, shapes=dict(list(SHAPES.items())[:1]))
    found = pair_of(whole, part)
    numbers = inspect([whole, part]).loras
    assert found.cosine is not None and numbers[0].norm and numbers[1].norm
    assert close(found.cosine, numbers[1].norm / numbers[0].norm)


def test_a_delta_of_zero_has_no_directions_to_share():
    """Trainers leave modules at zero: what the other LoRA has there lies in none of their directions."""
    shapes = dict(list(SHAPES.items())[:2])
    a, b = make_lora(1, shapes=shapes), make_lora(2, shapes=shapes)
    empty = at(a, 1.0)
    first, second = empty.modules
    zeroed = {first: empty.modules[first], second: replace(empty.modules[second], alpha=0.0)}
    found = pair_of(replace(empty, modules=zeroed), b)
    whole = pair_of(a, b)
    share, energies = whole.weights[first].inside, [whole.weights[name].energies[1] for name in (first, second)]
    assert share is not None and found.inside is not None
    assert close(found.inside.input, share.input * energies[0] / sum(energies))
    assert close(found.inside.input_by_chance, share.input_by_chance * energies[0] / sum(energies))
    assert found.sign_conflict == whole.weights[first].sign_conflict, "signs of a zero delta mean nothing"


def test_a_lora_with_itself_is_the_same_in_everything():
    lora = from_state_dict(FAMILIES["LoRA"](1), "a")
    found = pair_of(lora, lora)
    assert close(found.cosine, 1) and found.sign_conflict == 0 and found.inside and found.inside.input > 1 - 1e-6
    turned = pair_of(lora, at(lora, -1.0))
    assert close(turned.cosine, -1) and close(turned.sign_conflict, 1) and close(turned.sum_norm, 0)


def test_large_deltas_without_factors_are_compared_by_rows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lora_pack.merge.inspecting.weights.MAX_DENSE_SIDE", 8)
    states = FAMILIES["full difference"](1), FAMILIES["LoRA"](7)
    found = inspect([from_state_dict(state, name) for state, name in zip(states, "ab", strict=True)])
    (a,), (b,) = (truth.deltas(state).values() for state in states)
    (weight,) = found.loras[0].weights.values()
    assert close(weight.norm, np.linalg.norm(a))
    assert (weight.rank, weight.effective_rank, weight.rank_for) == (None, None, None), "not measured"
    assert found.loras[0].effective_rank is None and found.loras[0].rank_for is None
    pair = found.pairs[0]
    assert close(pair.cosine, truth.cosine(a, b))
    assert close(pair.sign_conflict, truth.sign_conflict(a, b), 2 / a.size)
    assert pair.inside is None


def test_the_spectrum_of_a_large_lokr_is_that_of_its_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lora_pack.merge.inspecting.weights.MAX_DENSE_SIDE", 8)
    state = FAMILIES["whole LoKr"](3)
    (numbers,) = inspect([from_state_dict(state, "a")]).loras[0].weights.values()
    (delta,) = truth.deltas(state).values()
    assert close(numbers.norm, np.linalg.norm(delta))
    assert close(numbers.effective_rank, truth.effective_rank(delta))


@pytest.mark.parametrize("shape", [(84, 72), (320, 320), (1280, 5120), (10240, 1280), (3, 100_000), (100_000, 2)])
def test_at_least_65536_signs_are_compared_where_there_are_as_many(shape: tuple[int, int]):
    rows = _sampled_rows(*shape)
    assert len(rows) * shape[1] >= min(65_536, math.prod(shape))
    assert len(rows.unique()) == len(rows) and int(rows.max()) < shape[0]


def test_signs_of_a_large_weight_are_estimated_from_a_fixed_sample():
    def lora(seed: int, shared: torch.Tensor) -> Lora:
        up = shared + normal(seed, 2000, 16)
        state: State = {f"{NAME}.lora_up.weight": up, f"{NAME}.lora_down.weight": normal(99, 16, 900)}
        return from_state_dict(state, str(seed))

    shared = normal(5, 2000, 16)
    first, second = lora(1, shared), lora(2, shared)
    found = pair_of(first, second)
    a, b = (next(iter(one.modules.values())).dense().double().numpy() for one in (first, second))
    assert found.sign_conflict is not None and abs(found.sign_conflict - truth.sign_conflict(a, b)) < 0.03
    assert found.sign_conflict == pair_of(first, second).sign_conflict
