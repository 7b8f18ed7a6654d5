"""Scores from embeddings, and the verdict over seeds: against an independent oracle, and in cases known by heart."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from lora_pack.merge.errors import LoraError
from lora_pack.tests.support.oracles import scores as oracle
from torch import Tensor

DIMENSIONS = 24


def near(base: Tensor, *effects: tuple[float, Tensor]) -> Tensor:
    """An embedding that is the base moved by multiples of effects, left at whatever length that gives."""
    return base + sum((amount * effect for amount, effect in effects), torch.zeros_like(base))


@pytest.fixture
def scoring(comfy: ModuleType) -> Any:
    from lora_pack.xy import scoring

    return scoring


@pytest.fixture
def verdict(comfy: ModuleType) -> Any:
    from lora_pack.xy import verdict

    return verdict


@pytest.mark.parametrize("loras", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_the_oracles(scoring: Any, loras: int, seed: int):
    noise = torch.Generator().manual_seed(100 * loras + seed)
    embeddings = torch.randn(loras + 6, DIMENSIONS, generator=noise) + 2
    references = scoring.References.of(list(embeddings[: loras + 1]))
    mixes = torch.rand(4, loras, generator=noise) @ embeddings[1 : loras + 1]
    for picture in [*embeddings[loras + 1 :], *mixes]:
        expected = oracle.score(picture.double().numpy(), *_split(embeddings[: loras + 1]))
        assert scoring.score(picture, references) == pytest.approx(expected, abs=1e-9)


def _split(embeddings: Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
    none, *alone = embeddings.double().numpy()
    return none, alone


def orthogonal_references(scoring: Any) -> tuple[Any, Tensor, Tensor, Tensor]:
    """References on the unit sphere whose two effects a and b are orthogonal and equally long."""
    axes = torch.eye(DIMENSIONS, dtype=torch.float64)
    turn = torch.tensor(0.5, dtype=torch.float64)
    none = axes[0]
    alone = [none * turn.cos() + axes[n] * turn.sin() for n in (1, 2)]
    return scoring.References.of([none, *alone]), none, alone[0] - none, alone[1] - none


def test_references_score_as_the_formula_says(scoring: Any):
    references, none, a, b = orthogonal_references(scoring)
    assert scoring.score(none, references) == 0.0
    assert scoring.shares(none + a, references).tolist() == pytest.approx([1, float(a @ b / (b @ b))])
    # a alone: b's share is what their effects have in common
    common = float(a @ b / (b @ b))
    assert scoring.score(none + a, references) == pytest.approx(2 * common / (1 + common))


def test_a_missing_lora_costs_more_than_two_weak_ones(scoring: Any):
    noise = torch.Generator().manual_seed(3)
    none, a, b = (torch.randn(DIMENSIONS, generator=noise, dtype=torch.float64) for _ in range(3))
    references = scoring.References.of([none, none + 0.1 * a, none + 0.1 * b])

    def at(strength_a: float, strength_b: float) -> float:
        return scoring.score(none + 0.1 * (strength_a * a + strength_b * b), references)

    both = at(1.0, 1.0)
    assert both > at(0.5, 0.5) > at(1.0, 0.0) + 0.2
    elsewhere = torch.randn(DIMENSIONS, generator=noise, dtype=torch.float64)
    with_damage = scoring.score(none + 0.1 * (a + b + 2 * elsewhere), references)
    assert with_damage < both - 0.3


def test_the_length_and_the_type_of_an_embedding_do_not_matter(scoring: Any):
    noise = torch.Generator().manual_seed(1)
    embeddings = [torch.randn(DIMENSIONS, generator=noise).half() for _ in range(4)]
    scaled = [float(2**n) * one.float()[None] for n, one in enumerate(embeddings)]
    first = scoring.score(embeddings[3], scoring.References.of(embeddings[:3]))
    assert scoring.score(scaled[3], scoring.References.of(scaled[:3])) == pytest.approx(first, abs=1e-12)


def test_embeddings_per_patch_are_averaged(scoring: Any):
    patches = torch.randn(1, 9, DIMENSIONS, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(scoring.unit(patches), scoring.unit(patches.mean(dim=1)))


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_unusable_embeddings_are_refused(scoring: Any, value: float):
    with pytest.raises(LoraError, match="no usable embedding"):
        scoring.unit(torch.full((1, DIMENSIONS), value))


def test_a_lora_without_effect_and_two_alike_are_found(scoring: Any):
    noise = torch.Generator().manual_seed(2)
    none, a, b = (torch.randn(DIMENSIONS, generator=noise) for _ in range(3))
    references = scoring.References.of([none, 3 * none, a, b, a + 0.001 * b])
    assert references.without_effect() == [0]
    assert references.alike() == [(1, 3)]
    assert scoring.References.of([none, a, b]).without_effect() == []
    assert scoring.References.of([none, a, b]).alike() == []
    # equal effects: the span has one dimension, and the score is that of one LoRA
    twice = scoring.References.of([none, a, a])
    assert scoring.score(a, twice) == pytest.approx(1)
    assert scoring.score(none + a, twice) == pytest.approx(scoring.score(none + a, scoring.References.of([none, a])))


def test_pictures_can_be_scored_by_any_encoder(scoring: Any):
    pictures = torch.rand(6, 1, 4, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = scoring.score_pictures(lambda picture: picture.flatten(1), list(pictures[:3]), list(pictures[3:]))
    flat = pictures.flatten(1).numpy()
    assert found == pytest.approx([oracle.score(one, flat[0], list(flat[1:3])) for one in flat[3:]])
    with pytest.raises(LoraError, match="LoRA 2 alone looks like no LoRA"):
        scoring.score_pictures(lambda p: p.flatten(), [pictures[0], pictures[1], pictures[0]], [pictures[2]])


def test_one_seed_gives_the_best_without_doubt(verdict: Any):
    found = verdict.judge({"a": [0.3], "b": [0.5], "c": [0.5 - 1e-12]})
    assert (found.best, found.doubt, found.as_good) == ("b", None, ("c",))
    assert found.means["a"] == 0.3
    assert verdict.judge({"a": [0.3], "b": [0.3]}).best is None
    assert verdict.judge({"a": [0.3]}).best == "a"


def test_what_a_seed_adds_to_every_setting_is_no_doubt(verdict: Any):
    of_seeds = np.array([0.0, 0.4, -0.3, 0.2])
    found = verdict.judge({"a": list(of_seeds), "b": list(of_seeds + 0.1), "c": list(of_seeds + 0.1)})
    assert found.doubt == pytest.approx(0, abs=1e-12)
    assert found.best in ("b", "c") and len(found.as_good) == 1


def test_a_difference_within_the_noise_of_the_seeds_is_none(verdict: Any):
    """Settings that are all the same are told apart in one plot of twenty, and real differences nearly always."""
    random = np.random.default_rng(5)
    told = 0
    for _ in range(60):
        noise = random.normal(size=(6, 3)) * 0.1
        told += verdict.judge(dict(enumerate(noise))).best is not None
    assert told <= 8  # 3 expected
    right = 0
    for _ in range(30):
        rows = random.normal(size=(6, 3)) * 0.1
        rows[4] += 0.8
        right += verdict.judge(dict(enumerate(rows))).best == 4
    assert right >= 27


def test_the_doubt_is_half_of_tukeys_significant_difference(verdict: Any):
    """Worked by hand: residuals of +-0.05 in a 2 x 2 table, q(0.95; 2, 1) = 17.97 from tables."""
    found = verdict.judge({"a": [0.1, 0.2], "b": [0.4, 0.3]})
    residual = np.array([[-0.05, 0.05], [0.05, -0.05]])
    assert np.abs(residual - _residual(np.array([[0.1, 0.2], [0.4, 0.3]]))).max() < 1e-12
    assert found.doubt == pytest.approx(17.97 * np.sqrt(0.01 / 1 / 2) / 2, rel=1e-3)
    assert found.best is None


def _residual(scores: np.ndarray) -> np.ndarray:
    found = scores.copy()
    for row, column in itertools.product(range(2), range(2)):
        found[row, column] += scores.mean() - scores[row].mean() - scores[:, column].mean()
    return found


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "dinov3", "siglip2 naflex"])
def test_comfyuis_own_encoders_score(scoring: Any, comfy: ModuleType, kind: str):
    pytest.importorskip("comfy.clip_vision")
    from lora_pack.tests.comfy.small_encoders import is_known, small_encoder
    from lora_pack.xy.embeddings import embedder

    if not is_known(kind):
        pytest.skip(f"This version of ComfyUI has no {kind}.")

    embed = embedder(small_encoder(kind))
    pictures = list(torch.rand(4, 1, 48, 64, 3, generator=torch.Generator().manual_seed(0)))
    assert embed(pictures[0]).shape == ((48,) if kind == "clip" else (64,))
    (found,) = scoring.score_pictures(embed, pictures[:3], pictures[3:])
    assert -2 < found < 1
    assert scoring.score_pictures(embed, pictures[:3], pictures[:1]) == [0.0]


def test_a_picture_is_encoded_once_and_other_inputs_are_refused(comfy: ModuleType):
    from lora_pack.tests.comfy.small_encoders import PooledPixels
    from lora_pack.xy.embeddings import embedder

    encoder = PooledPixels()
    picture = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    first = embedder(encoder)(picture)
    assert torch.equal(embedder(encoder)(picture.clone()), first) and encoder.seen == 1
    embedder(encoder)(picture[:, :8])
    assert encoder.seen == 2
    with pytest.raises(LoraError, match="expected an image encoder, got str"):
        embedder("clip")
