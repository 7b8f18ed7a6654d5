"""What is merged and what the pictures should show: strata, pairs, and the halves for choosing and for reporting.

Each concept meets each style. Half of these pairs, in which every concept and every style occurs, serve to choose
settings; results are reported on the other half.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from . import glyphs
from .loras import Recipe, pictures_of, spelled

PICTURES = 12  # of each case
SEEDS = 3
CHOOSE, REPORT = "choose", "report"

INDEPENDENT = "independent"
SHARED_START = "same start"
SIMILAR_STYLES = "two similar styles"
TWO_STYLES = "two styles"
TWO_CONCEPTS = "two concepts"
THREE, FOUR = "three LoRAs", "four LoRAs"
MIXED = "ranks and strengths"
CUT = "cut to rank 4"
STRATA = (INDEPENDENT, SHARED_START, SIMILAR_STYLES, TWO_STYLES, TWO_CONCEPTS, THREE, FOUR, MIXED, CUT)
ALONE, BARE = "alone", "bare"

Target = tuple[str, str]  # character and font


@dataclass(frozen=True)
class Input:
    """A LoRA of a merge. ``cut``: the rank that Resize cut it to, 0 if it didn't."""

    recipe: Recipe
    strength: float = 1.0
    cut: int = 0

    @property
    def name(self) -> str:
        return self.recipe.name + (f"_cut{self.cut}" if self.cut else "")


@dataclass(frozen=True)
class Case:
    """LoRAs to merge and the pictures to ask for: one for each noise, the targets in turn.

    ``pair`` names what was combined, whatever the LoRAs' seeds: the bootstrap draws pairs.
    """

    stratum: str
    half: str
    pair: str
    seed: int
    inputs: tuple[Input, ...]
    targets: tuple[Target, ...]

    @property
    def key(self) -> str:
        return f"{self.stratum}.{self.half}.{self.pair}.s{self.seed}".replace(" ", "-")

    def target(self, number: int) -> Target:
        return self.targets[number % len(self.targets)]


def recipe_of(subject: str, seed: int) -> Recipe:
    """One of the main LoRAs: rank 8, alphas above and below it; a third has PEFT's names, a third the image side only.

    Every one starts from other random factors.
    """
    number = (*glyphs.CONCEPTS, *glyphs.STYLES).index(subject)
    form = "peft" if (number + seed) % 3 == 0 else "kohya"
    side = "image" if (number + 2 * seed) % 3 == 1 else "both"
    return Recipe(subject, seed, 8, (4.0, 6.0, 16.0)[(number + seed) % 3], form, side, start=100 * (seed + 1) + number)


def pairs(half: str, round_: int) -> list[tuple[str, str]]:
    """Six pairs in which each concept and each style occurs once; each half has three such rounds."""
    offset = 2 * (round_ % 3) + (half == CHOOSE)
    styles = glyphs.STYLES
    return [(concept, styles[(row + offset) % len(styles)]) for row, concept in enumerate(glyphs.CONCEPTS)]


def independent(half: str, round_: int) -> list[Case]:
    """Rounds 0 to 8: all pairs of the half with one seed of LoRAs, then with the next."""
    seed = round_ // 3
    return [
        _case(INDEPENDENT, half, [Input(recipe_of(concept, seed)), Input(recipe_of(style, seed))], seed)
        for concept, style in pairs(half, round_)
    ]


def choosing(round_: int) -> list[Case]:
    """Rounds 0 to 2: all pairs for choosing, a third of them with each seed of LoRAs."""
    return independent(CHOOSE, 3 * (round_ % SEEDS) + round_)


def same_start(round_: int) -> list[Case]:
    """As trained by one trainer with one seed: both LoRAs start from the same random factors."""
    seed = round_ % SEEDS

    def shared(subject: str) -> Input:
        return Input(Recipe(subject, seed, start=seed))

    return [_case(SHARED_START, REPORT, [shared(c), shared(s)], seed) for c, s in pairs(REPORT, round_)[:3]]


def two_styles(round_: int, similar: bool) -> list[Case]:
    ranked = styles_by_likeness()
    chosen = ranked[:5] if similar else ranked[-5:]
    stratum = SIMILAR_STYLES if similar else TWO_STYLES
    return [_case(stratum, REPORT, _main(pair, round_ % SEEDS), round_ % SEEDS) for pair in chosen]


def two_concepts(round_: int) -> list[Case]:
    """Each with the next."""
    seed = round_ % SEEDS
    chosen = [(glyphs.CONCEPTS[i], glyphs.CONCEPTS[(i + 1) % 6]) for i in range(6)]
    return [_case(TWO_CONCEPTS, REPORT, _main(pair, seed), seed) for pair in chosen]


def several(round_: int, count: int) -> list[Case]:
    """Two concepts with one style or two."""
    seed = round_ % SEEDS
    chosen = []
    for start in range(6):
        concepts = (glyphs.CONCEPTS[start], glyphs.CONCEPTS[(start + 1) % 6])
        chosen.append((*concepts, *(glyphs.STYLES[(start + i + round_) % 6] for i in range(count - 2))))
    return [_case(THREE if count == 3 else FOUR, REPORT, _main(each, seed), seed) for each in chosen]


def mixed(round_: int) -> list[Case]:
    """Ranks 4 and 16, a LoKr, and strengths other than 1."""
    forms = ((16, 8.0, "kohya"), (4, 8.0, "peft"), (8, 4.0, "lokr"))
    cases = []
    for number, (concept, style) in enumerate(pairs(REPORT, round_)[:3]):
        inputs = []
        for subject, place in ((concept, number), (style, number + 1)):
            rank, alpha, form = forms[place % 3]
            recipe = Recipe(subject, round_, rank, alpha, form, start=7000 + 10 * number + place)
            inputs.append(Input(recipe, (1.0, 0.8, 1.2)[(place + number) % 3]))
        cases.append(_case(MIXED, REPORT, inputs, round_))
    return cases


def cut(round_: int) -> list[Case]:
    return [
        replace(_case(CUT, REPORT, [replace(one, cut=4) for one in case.inputs], case.seed))
        for case in independent(REPORT, round_)
    ]


def alone(inputs: Iterable[Input]) -> list[Case]:
    """Each LoRA by itself, on combinations with what the base knows that it wasn't trained on."""
    return [
        Case(ALONE, REPORT, one.name, one.recipe.seed, (one,), tuple(_known_partners(one.recipe)))
        for one in dict.fromkeys(inputs)
    ]


def bare(cases: Sequence[Case]) -> list[Case]:
    """The base without a LoRA, asked for the same pictures: how often the judges find there what isn't there."""
    pairs_of = {case.pair: case for case in cases}
    return [replace(case, stratum=BARE, inputs=(), seed=0) for case in pairs_of.values()]


def styles_by_likeness() -> list[tuple[str, str]]:
    """All pairs of styles, the most alike first: by the distance of their pictures of the letters."""
    letters = {
        style: np.stack([glyphs.render(character, style) for character in glyphs.CHARACTERS]) for style in glyphs.STYLES
    }

    def distance(pair: tuple[str, str]) -> float:
        return float(np.square(letters[pair[0]] - letters[pair[1]]).mean())

    return sorted(combinations(glyphs.STYLES, 2), key=distance)


def _main(subjects: Sequence[str], seed: int) -> list[Input]:
    return [Input(recipe_of(subject, seed)) for subject in subjects]


def _case(stratum: str, half: str, inputs: Sequence[Input], seed: int) -> Case:
    subjects = [one.recipe.subject for one in inputs]
    pair = "+".join(spelled(subject) for subject in subjects)
    return Case(stratum, half, pair, seed, tuple(inputs), tuple(_targets([one.recipe for one in inputs])))


def _targets(recipes: Sequence[Recipe]) -> list[Target]:
    """Each concept in each style; without concepts letters, and without styles fonts, that the base knows."""
    concepts = [recipe for recipe in recipes if recipe.is_concept]
    styles = [recipe for recipe in recipes if not recipe.is_concept]
    if concepts and styles:
        return [(concept.subject, style.subject) for concept in concepts for style in styles]
    partners = [_known_partners(recipe) for recipe in recipes]
    return [target for each in zip(*partners, strict=False) for target in each]


def _known_partners(recipe: Recipe) -> list[Target]:
    """The combinations with a letter or a font of the base that the LoRA wasn't trained on."""
    trained = set(pictures_of(recipe))
    if recipe.is_concept:
        found = [(recipe.subject, font) for font in glyphs.FONTS]
    else:
        found = [(character, recipe.subject) for character in glyphs.CHARACTERS]
    return [target for target in found if target not in trained]
