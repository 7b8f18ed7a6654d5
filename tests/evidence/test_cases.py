"""The pairs, halves and targets of the strata are what the report says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.evidence import cases, glyphs, loras
    from benchmarks.evidence.cases import CHOOSE, REPORT
finally:
    sys.path.remove(str(ROOT))


@pytest.fixture(autouse=True)
def renders_without_fonts(monkeypatch: pytest.MonkeyPatch):
    """Pictures from the names alone: these tests look at names."""

    def render(character: str, font: str, variant: int = 0) -> np.ndarray:
        level = glyphs.STYLES.index(font) if font in glyphs.STYLES else 0
        return np.full((8, 8), level / 10, np.float32)

    monkeypatch.setattr(glyphs, "render", render)


def every_case() -> list[cases.Case]:
    found = [case for half in (CHOOSE, REPORT) for r in range(9) for case in cases.independent(half, r)]
    for r in range(3):
        found += [*cases.same_start(r), *cases.two_styles(r, True), *cases.two_styles(r, False)]
        found += [*cases.two_concepts(r), *cases.several(r, 3), *cases.several(r, 4), *cases.mixed(r), *cases.cut(r)]
    return found + cases.alone([one for case in found for one in case.inputs])


def test_the_halves_share_no_pair_and_together_have_all():
    pairs = {half: {pair for r in range(3) for pair in cases.pairs(half, r)} for half in (CHOOSE, REPORT)}
    assert not pairs[CHOOSE] & pairs[REPORT]
    assert len(pairs[CHOOSE] | pairs[REPORT]) == len(glyphs.CONCEPTS) * len(glyphs.STYLES)


def test_each_round_has_every_concept_and_every_style_once():
    for r in range(3):
        concepts, styles = zip(*cases.pairs(REPORT, r), strict=True)
        assert sorted(concepts) == sorted(glyphs.CONCEPTS) and sorted(styles) == sorted(glyphs.STYLES)


def test_nine_rounds_are_every_pair_with_every_seed():
    found = [(case.pair, case.seed) for r in range(9) for case in cases.independent(REPORT, r)]
    assert len(found) == len(set(found)) == 18 * cases.SEEDS


def test_every_case_has_a_key_of_its_own_that_can_be_a_files_name():
    keys = [case.key for case in every_case()]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[\w.+-]+", key) for key in keys)


def test_a_merge_is_asked_for_its_own_concepts_and_styles():
    for case in every_case():
        subjects = {one.recipe.subject for one in case.inputs}
        for number in range(cases.PICTURES):
            assert subjects & set(case.target(number)), case.key
        asked = {part for number in range(cases.PICTURES) for part in case.target(number)}
        assert subjects <= asked, case.key


def test_a_lora_alone_is_judged_on_combinations_that_it_was_not_trained_on():
    for subject in ("&", glyphs.STYLES[0]):
        recipe = cases.recipe_of(subject, 1)
        (case,) = cases.alone([cases.Input(recipe)])
        asked = {case.target(number) for number in range(cases.PICTURES)}
        assert not asked & set(loras.pictures_of(recipe))
        assert len(loras.pictures_of(recipe)) == (loras.CONCEPT_FONTS if recipe.is_concept else loras.STYLE_LETTERS)


def test_main_loras_start_from_different_factors_and_those_of_one_start_from_the_same():
    mains = [cases.recipe_of(subject, seed) for subject in (*glyphs.CONCEPTS, *glyphs.STYLES) for seed in range(3)]
    assert len({recipe.start for recipe in mains}) == len(mains)
    assert all(recipe.alpha != recipe.rank for recipe in mains)
    for case in cases.same_start(0):
        assert len({one.recipe.start for one in case.inputs}) == 1


def test_a_third_of_the_loras_has_pefts_names():
    mains = [cases.recipe_of(subject, seed) for subject in (*glyphs.CONCEPTS, *glyphs.STYLES) for seed in range(3)]
    assert sum(recipe.form == "peft" for recipe in mains) * 3 == len(mains)


def test_similar_styles_are_the_pairs_with_the_nearest_letters():
    ranked = cases.styles_by_likeness()
    assert len(ranked) == 15
    assert abs(glyphs.STYLES.index(ranked[0][0]) - glyphs.STYLES.index(ranked[0][1])) == 1
    assert set(ranked[-1]) == {glyphs.STYLES[0], glyphs.STYLES[-1]}
