"""The validation of the score and of the search: encoder, rank correlations, picks, budgets, and the page's tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.evidence import (
        background,
        cases,
        glyphs,
        image_encoder,
        score_report,
        scores,
        strengths,
        validation,
    )
    from benchmarks.evidence.base import load_base
    from benchmarks.evidence.references import EACH, KINDS, OWN_PROMPTS, checked, drawn_as_the_node
    from benchmarks.evidence.results import Results
finally:
    sys.path.remove(str(ROOT))

MEASURE = (OWN_PROMPTS, scores.PACKS)


def test_the_shipped_encoder_gives_embeddings_of_length_1_that_tell_pictures_apart():
    pictures = np.random.RandomState(0).rand(3, glyphs.SIZE, glyphs.SIZE).astype(np.float32)
    pictures[1] = pictures[1] > 0.5
    found = image_encoder.load().embed(pictures)
    assert found.shape == (3, image_encoder.LENGTH)
    assert found.norm(dim=1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert float((found @ found.T).fill_diagonal_(0).max()) < 0.999


def test_the_encoder_never_sees_a_concept_or_a_style():
    seen = {part for pair in glyphs.PAIRS for part in pair} | {*background.CHARACTERS, *background.FONTS}
    assert not seen & {*glyphs.CONCEPTS, *glyphs.STYLES}


def test_every_formula_of_effects_prefers_what_shows_both():
    random = torch.Generator().manual_seed(0)
    none, first, second = torch.randn(3, 16, generator=random, dtype=torch.float64)
    known = checked([[none], [none + 0.5 * first], [none + 0.5 * second]])
    assert known is not None
    for name in scores.FORMULAS.keys() - {"mean cosine to the LoRAs alone"}:
        formula = scores.FORMULAS[name]
        both, one = (formula(none + 0.5 * first + share * 0.5 * second, known) for share in (1.0, 0.0))
        assert both > one, name


def test_a_lora_that_shows_nothing_leaves_nothing_to_score():
    none = torch.ones(4)
    assert checked([[none], [none], [torch.arange(4.0)]]) is None


def test_the_nodes_references_ask_each_lora_for_its_prompt_and_the_base_for_all_in_turn():
    base = load_base()
    case = cases.independent(cases.REPORT, 0)[0]
    assert len(case.inputs) == 2
    drawn = drawn_as_the_node(base, case, [base.model] * 3).reshape(3, EACH, -1)
    first, second = (abs(drawn[0] - drawn[lora]).max(axis=1) < 0.02 for lora in (1, 2))
    assert first.tolist() == [True, False, True, False]
    assert second.tolist() == [False, True, False, True]


def scored(both: np.ndarray, score: np.ndarray, pair: str = "a+b") -> list[validation.Scored]:
    """Settings of one case, (settings, noises)."""
    return [
        validation.Scored(pair, f"case {pair}", f"setting {number}", right, {MEASURE: values})
        for number, (right, values) in enumerate(zip(both, score, strict=True))
    ]


def test_a_score_that_knows_the_rates_ranks_settings_and_picks_the_best():
    random = np.random.RandomState(0)
    rates = np.linspace(0, 1, 40)[random.permutation(40), None]
    both = (random.rand(40, 12) < rates).astype(float)
    knowing = scored(both, np.repeat(rates, 12, 1))
    assert validation._over_settings(knowing, MEASURE).mean > 0.9
    gain = validation._picks(knowing, 1, MEASURE)["gain"][0]
    assert 0.3 < gain < 0.5
    guessing = scored(both, random.rand(40, 12))
    assert abs(validation._over_settings(guessing, MEASURE).mean) < 0.35
    assert abs(validation._picks(guessing, 1, MEASURE)["gain"][0]) < 0.1


def test_modes_are_ranked_by_their_means_over_pairs():
    rates = np.repeat(np.linspace(0, 1, 8)[:, None], 12, 1)
    found = [one for pair in "abcdef" for one in scored(rates, -rates, pair)]
    assert validation._over_modes(found, MEASURE).mean == pytest.approx(-1)
    assert validation.rank_correlation([1, 1, 1], [1, 2, 3]) == 0


class Drawn(strengths.Pictures):
    """Pictures whose embedding is where their strengths are; the best is at 1.0 and 0.5."""

    def __init__(self, given: bool) -> None:
        none, *alone = torch.eye(4)[:3]
        known = checked([[none], [none + 0.3 * alone[0]], [none + 0.15 * alone[1]]]) if given else None
        nothing: Any = None
        super().__init__(nothing, nothing, nothing, [Path("a"), Path("b")], "concat", 1.5, Path("merged"), known)

    def embed(self, point: strengths.Point, seed: int) -> torch.Tensor:
        self.seen += 1
        past = max(0.0, point[0] - 1) + max(0.0, point[1] - 0.5)
        return torch.tensor([1.0, 0.3 * min(point[0], 1.0), 0.3 * min(point[1], 0.5), past])


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("budget", [20, 40])
def test_the_search_and_both_grids_stay_within_the_budget(given: bool, budget: int):
    for way in (strengths._search, lambda p, b: strengths._grid(p, b, 1), lambda p, b: strengths._grid(p, b, 3)):
        pictures = Drawn(given)
        point = way(pictures, budget)
        assert 0 < pictures.seen <= budget
        assert all(0 <= strength <= 1.5 for strength in point)


def test_the_search_finds_the_best_strengths():
    assert strengths._search(Drawn(True), 40) == pytest.approx((1.0, 0.5), abs=0.2)


def test_the_page_says_which_references_are_of_use_and_what_was_not_reached():
    row = {"settings": [0.5, 0.4, 0.6, 18], "modes": [0.7, 0.2, 0.9, 18]}
    picks = {"score": [0.3, 0.2, 0.4, 18], "judges": [0.35, 0.2, 0.5, 18], "chance": [0.2, 0.1, 0.3, 18]}
    useful = {str(seeds): picks | {"gain": [0.1, 0.05, 0.15, 18]} for seeds in validation.SEEDS}
    useless = {str(seeds): picks | {"gain": [0.1, -0.05, 0.15, 18]} for seeds in validation.SEEDS}
    kinds = {kind: row | (useful if kind == OWN_PROMPTS else useless) for kind in KINDS}
    about = {"references": kinds, "formulas": {scores.PACKS: row}, "settings": 206, "modes": 22}
    text = "\n".join(score_report.score_sections(Results({"scores": about}, ())))
    assert f"at random with these references: {OWN_PROMPTS}.**" in text
    assert "0.50 (0.40 to 0.60)" in text and "**+10 (+5 to +15)**" in text and "no difference (-5 to +15)" in text
    assert text.count("This run didn't reach it.") == 1
    for kind in KINDS:
        kinds[kind] = row | {key: picks | {"gain": [0.1, 0.05, 0.15, 2]} for key in useful}
    assert "too few for a verdict" in "\n".join(score_report.score_sections(Results({"scores": about}, ())))
    nothing = "\n".join(score_report.score_sections(Results({}, ())))
    assert nothing.count("This run didn't reach it.") == 2
