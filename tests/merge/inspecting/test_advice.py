"""What is advised: each threshold from both sides, and the words that the sentences must have."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from lora_pack.merge.adapters.base import Difference, Lora, LoraModule
from lora_pack.merge.inspecting.advice import THRESHOLDS, advice
from lora_pack.merge.inspecting.inspect import inspect
from lora_pack.tests.support.makers import LINEAR, at, of_modules

SIZE = 1000
IN, OUT = (f"lora_unet_{block}_attentions_0_proj_in" for block in ("down_blocks_0", "up_blocks_3"))


def unit(number: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(number), SIZE).double()


def rank_one(name: str, output: torch.Tensor, inputs: torch.Tensor, weight: str = LINEAR) -> Lora:
    return of_modules([LoraModule.of(weight, output[:, None], inputs[None], 1.0)], name)


def mixed(first: torch.Tensor, second: torch.Tensor, share: float) -> torch.Tensor:
    """A unit vector with this share of its energy along the first."""
    return math.sqrt(share) * first + math.sqrt(1 - share) * second


def advised(*loras: Lora) -> list[str]:
    return advice(inspect(loras), [lora.name for lora in loras])


A = rank_one("a", unit(0), unit(0))


@pytest.mark.parametrize(
    ("ratio", "is_said"), [(THRESHOLDS.imbalance - 0.01, False), (THRESHOLDS.imbalance + 0.01, True)]
)
def test_imbalance(ratio: float, is_said: bool):
    sentences = advised(A, at(rank_one("b", unit(1), unit(1)), ratio))
    assert any("b is 4 times as strong as a" in sentence for sentence in sentences) is is_said
    assert any("independent" in sentence for sentence in sentences)


def test_imbalance_names_strengths_that_balance():
    sentences = advised(at(A, 0.5), at(rank_one("b", unit(1), unit(1)), 39.0))
    assert sentences[0] == "b is 78 times as strong as a: strengths 0.5 for a and 0.5 for b would balance them."
    (balanced, *_) = advised(at(A, 0.5), at(rank_one("b", unit(1), unit(1)), 0.5))
    assert "times as strong" not in balanced


# the share by chance is 1 / SIZE
SHARED = THRESHOLDS.shared * (1 - 1 / SIZE) + 1 / SIZE


@pytest.mark.parametrize(("share", "is_said"), [(SHARED - 0.002, False), (SHARED + 0.002, True)])
@pytest.mark.parametrize("side", ["input", "output"])
def test_overlap_of_directions(side: str, share: float, is_said: bool):
    direction, other = mixed(unit(0), unit(5), share), unit(7)
    b = rank_one("b", *((other, direction) if side == "input" else (direction, other)))
    (sentence,) = advised(A, b)
    assert sentence.startswith("a and b share 15 %") is is_said
    assert (f"of their {side} directions" in sentence and "np_svd or tsv_svd" in sentence) is is_said
    assert ("independent" in sentence and "concat or add_svd" in sentence) is not is_said


def with_cosine(cosine: float) -> Lora:
    """A LoRA of rank 2 with this cosine to A. It has A's input direction, so the two overlap whatever the cosine."""
    up = torch.stack([cosine * unit(0), math.sqrt(1 - cosine**2) * unit(1)], 1)
    return of_modules([LoraModule.of(LINEAR, up, torch.stack([unit(0), unit(1)]), 2.0)], "b")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("cosine", "is_said"), [(THRESHOLDS.cosine - 0.01, False), (THRESHOLDS.cosine + 0.01, True)])
def test_overlap_by_cosine(cosine: float, is_said: bool, sign: int):
    b = with_cosine(sign * cosine)
    sentences = advised(A, b)
    way = "point the same way" if sign > 0 else "pull against each other"
    assert any(way in sentence for sentence in sentences) is is_said


@pytest.mark.parametrize(
    ("cosine", "is_said"), [(THRESHOLDS.parallel - 0.01, False), (THRESHOLDS.parallel + 0.01, True)]
)
def test_nearly_one_change(cosine: float, is_said: bool):
    sentence = advised(A, with_cosine(cosine))[0]
    assert ("nearly the same change" in sentence and "lower their strengths" in sentence) is is_said
    assert "np_svd or tsv_svd" in sentence


def with_spectrum(values: Sequence[float]) -> Lora:
    ups, downs = (
        torch.stack([unit(n) * v for n, v in enumerate(values)], 1),
        torch.stack([*map(unit, range(len(values)))]),
    )
    return of_modules([LoraModule.of(LINEAR, ups, downs, float(len(values)))], "a")


@pytest.mark.parametrize(
    ("values", "enough", "is_said"),
    [([1, 1, 1, 0.05], 3, True), ([1, 1, 1, 1, 0.05], 4, False), ([1, 1, 1, 1], 4, False)],
)
def test_spare_rank(values: Sequence[float], enough: int, is_said: bool):
    assert (enough <= THRESHOLDS.spare_rank * len(values)) is is_said
    (sentence,) = advised(with_spectrum(values))
    resize = f"Rank {enough} of {len(values)} holds 99 % of a: resize it to {enough}."
    assert sentence == (resize if is_said else f"99 % of a takes rank {enough} of {len(values)}: it uses its rank.")


@pytest.mark.parametrize(
    ("enough", "is_said"), [(THRESHOLDS.factored_rank, True), (THRESHOLDS.factored_rank + 1, False)]
)
def test_a_difference_is_only_resized_to_a_rank_that_makes_it_smaller(enough: int, is_said: bool):
    # of that many equal directions, 99 % take `enough`
    values = torch.cat([torch.ones(int(enough / 0.99)), torch.full((60,), 1e-4)])
    difference = Lora("a", {LINEAR: Difference.of(LINEAR, torch.diag(values))})
    (sentence,) = advised(difference)
    assert f"{enough} of {len(values)}" in sentence
    assert (f"resize it to {enough}" in sentence) is is_said


@pytest.mark.parametrize(
    ("shares", "energies", "named"),
    [
        ((0.5, 0.5), (1.0, 1.0), None),
        ((0.5 + 2.2 * THRESHOLDS.block_above, 0.5), (1.0, 1.0), "DOWN00"),
        ((0.5 + 1.8 * THRESHOLDS.block_above, 0.5), (1.0, 1.0), None),
        ((0.9, 0.5), (THRESHOLDS.block + 0.01, 1 - THRESHOLDS.block - 0.01), "DOWN00"),
        ((0.9, 0.5), (THRESHOLDS.block - 0.01, 1 - THRESHOLDS.block + 0.01), None),
    ],
)
def test_the_block_that_shares_most_is_named(
    shares: tuple[float, float], energies: tuple[float, float], named: str | None
):
    a, b = [], []
    for name, share, energy in zip((IN, OUT), shares, energies, strict=True):
        strength = math.sqrt(energy)
        a.append(LoraModule.of(name, strength * unit(0)[:, None], unit(0)[None], 1.0))
        b.append(LoraModule.of(name, strength * unit(7)[:, None], mixed(unit(0), unit(5), share)[None], 1.0))
    sentence = next(sentence for sentence in advised(of_modules(a, "a"), of_modules(b, "b")) if "share" in sentence)
    assert (f", most in {named} " in sentence) if named else (", most in" not in sentence)


def test_loras_of_different_weights_are_independent():
    (sentence,) = advised(rank_one("a", unit(0), unit(0), IN), rank_one("b", unit(0), unit(0), OUT))
    assert "independent" in sentence and "different weights" in sentence


def test_of_three_loras_the_two_that_differ_most_are_named():
    strengths = {"a": 5.0, "b": 1.0, "c": 50.0}
    loras = [at(rank_one(name, unit(n), unit(n)), strength) for n, (name, strength) in enumerate(strengths.items())]
    sentences = [sentence for sentence in advised(*loras) if "times as strong" in sentence]
    assert len(sentences) == 1 and sentences[0].startswith("c is 50 times as strong as b")


def test_of_three_loras_pairs_are_told_apart():
    c = rank_one("c", unit(0), unit(0))
    sentences = advised(A, rank_one("b", unit(1), unit(1)), c)
    assert sentences[0].startswith("a and c share 100 %")
    assert sentences[1] == "a with b and b with c: independent, sum them (concat or add_svd)."


def test_of_many_loras_the_pairs_are_counted():
    alike = [rank_one(f"alike{n}", unit(0), unit(0)) for n in range(4)]
    apart = [rank_one(f"apart{n}", unit(n + 5), unit(n + 5)) for n in range(2)]
    sentences = advised(*alike, *apart)
    assert sum("share 100 %" in sentence for sentence in sentences) == 4
    assert sentences[4:6] == ["2 more pairs overlap.", "9 of 15 pairs are independent: sum them (concat or add_svd)."]


def test_loras_for_different_models_are_not_advised_to_be_summed():
    shapes = {"lora_unet_double_blocks_0_img_attn_qkv": 3072, "lora_unet_joint_blocks_0_x_block_attn_qkv": 1536}
    flux, sd = (
        of_modules([LoraModule.of(name, torch.ones(3 * width, 1), torch.ones(1, width), 1.0)], name)
        for name, width in shapes.items()
    )
    inspection = inspect([flux, at(sd, 100.0)])
    assert inspection.pairs[0].cosine is None and inspection.pairs[0].problem
    (sentence, *others) = advice(inspection, ["flux", "sd"])
    assert sentence.startswith("flux and sd can't be merged: ")
    assert not any("independent" in other or "times as strong" in other for other in others)


def test_nothing_measured_gives_no_advice():
    (sentence,) = advised(at(A, 0.0))
    assert "not enough" in sentence
