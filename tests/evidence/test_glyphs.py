"""The benchmark's pictures and prompts. The fonts are downloaded by `run.py evidence`, not by the tests."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from lora_pack.benchmarks.evidence import background, fonts, glyphs, text_encoder
from lora_pack.benchmarks.evidence.glyphs import CHARACTERS, CONCEPTS, FONTS, HELD_OUT, PAIRS, STYLES, prompt, render

needs_fonts = pytest.mark.skipif(
    not all((fonts.FOLDER / font.file).is_file() for font in fonts.FONT_FILES.values()),
    reason="The fonts are not downloaded.",
)


def test_every_letter_and_font_keeps_most_of_its_pairs() -> None:
    assert len(PAIRS) + len(HELD_OUT) == len(CHARACTERS) * len(FONTS)
    assert set(Counter(character for character, _ in HELD_OUT).values()) == {2}
    assert set(Counter(font for _, font in HELD_OUT).values()) <= {2, 3}
    assert not set(CONCEPTS) & set(CHARACTERS)
    assert len(FONTS) == 18
    assert len(STYLES) == 6


def test_the_background_has_no_concept_and_no_style() -> None:
    assert not set(background.CHARACTERS) & {*CHARACTERS, *CONCEPTS}
    assert not background.FONTS.keys() & {*FONTS, *STYLES}
    packages = {font.package for font in fonts.FONT_FILES.values()}
    assert not {font.package for font in background.FONTS.values()} & packages


def test_prompts_are_told_apart_by_their_tokens_and_not_by_their_order() -> None:
    words = text_encoder.known_words()
    seen = {}
    for character in (*CHARACTERS, *CONCEPTS, *background.CHARACTERS, None):
        for font in (*FONTS, *STYLES, *background.FONTS, None):
            text = prompt(character, font)
            key = tuple(sorted(text_encoder.tokens(text, words)))
            assert key not in seen, f"{text} and {seen[key]}"
            seen[key] = text


def test_no_font_has_the_token_of_a_character() -> None:
    words = text_encoder.known_words()
    characters = (*CHARACTERS, *CONCEPTS, *background.CHARACTERS)
    of_characters = {words[prompt(character, None).split()[1]][0] for character in characters}
    for font in (*FONTS, *STYLES, *background.FONTS):
        assert not of_characters & {token for word in font.split() for token in words[word]}, font


def test_prompts_say_what_a_user_types() -> None:
    assert prompt("A", "bungee") == "letter a in bungee"
    assert prompt("&", "great vibes") == "sign & in great vibes"
    assert prompt("7", None) == "digit 7"
    assert prompt(None, "pacific") == "pacific"
    assert prompt(None, None) == ""


@needs_fonts
def test_glyphs_are_ink_on_paper_and_stay_inside() -> None:
    for character in (*CHARACTERS, *CONCEPTS):
        for font in (*FONTS, *STYLES):
            picture = render(character, font, variant=5)
            assert picture.shape == (64, 64)
            assert picture.dtype == np.float32
            border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
            assert border.min() == 1, (character, font)
            assert 0.01 < (1 - picture).mean() < 0.5, (character, font)


@needs_fonts
def test_variants_shift_and_scale_a_glyph() -> None:
    def middle(picture: np.ndarray) -> np.ndarray:
        rows, columns = np.nonzero(picture < 0.5)
        return np.array([rows.min() + rows.max(), columns.min() + columns.max()]) / 2

    pictures = [render("H", "anton", variant) for variant in range(glyphs.VARIANTS)]
    assert np.abs(middle(pictures[0]) - 31.5).max() <= 0.5
    moved = [np.abs(middle(picture) - middle(pictures[0])).max() for picture in pictures[1:]]
    assert 1 < max(moved) <= glyphs.SHIFT + 0.5
    assert len({picture.tobytes() for picture in pictures}) == glyphs.VARIANTS


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        fonts.subprocess, "run", lambda *_, **__: fonts.subprocess.CompletedProcess([], 1, "", "no net")
    )
    with pytest.raises(SystemExit, match="no net"):
        fonts.font_file("anton", tmp_path)
