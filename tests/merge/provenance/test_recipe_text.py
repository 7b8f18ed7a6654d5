"""The limits of a recipe's text: merges of merges of merges stay small, and omissions are marked."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.provenance.recipe_text import (
    LEFT_OUT,
    MAX_BYTES,
    MAX_GENERATIONS,
    OLDER_STEPS,
    SHARE_ABOVE,
    STEPS,
    parsed,
    text_of,
)
from lora_pack.tests.support.makers import examples

Recipe = dict[str, Any]


def plain(recipe: Recipe) -> str:
    return json.dumps(recipe, sort_keys=True, ensure_ascii=False)


def step(*inputs: Recipe | str, note: str = "") -> Recipe:
    """A recipe with these inputs: a string is a file, a recipe is an input that was made with it."""
    entries = [{"name": i, "sha256": i} if isinstance(i, str) else {"name": "made", "made": i} for i in inputs]
    return {"operation": "merge", "note": note, "inputs": entries}


def chain(length: int) -> Recipe:
    recipe = step("file 0")
    for number in range(1, length):
        recipe = step(recipe, f"file {number}")
    return recipe


def grown(length: int, *, doubled: bool = False) -> str:
    """The text after this many merges in sequence, each with the last result as one input or, if doubled, as both."""
    text = text_of(step("file 0"))
    for number in range(1, length):
        last: Any = parsed(text)
        text = text_of(step(last, last) if doubled else step(last, f"file {number}"))
    return text


def generations(recipe: Any) -> int:
    count = 0
    while isinstance(recipe, dict):
        count, recipe = count + 1, recipe["inputs"][0].get("made")
    return count


def test_a_short_recipe_is_the_plain_nested_text():
    twice = step("a", "b")
    for recipe in (step("a"), step(step("ü"), "b"), step(twice, step(twice, twice)), chain(20)):
        assert text_of(recipe) == plain(recipe)
        assert parsed(text_of(recipe)) == recipe


@pytest.mark.parametrize("doubled", [False, True])
def test_only_the_newest_of_many_merges_in_sequence_are_kept(doubled: bool, caplog: pytest.LogCaptureFixture):
    text = grown(300, doubled=doubled)
    assert len(text) < 100_000
    recipe: Any = parsed(text)
    assert generations(recipe) == MAX_GENERATIONS + 1
    assert "the oldest are left out" in caplog.text
    while "made" in recipe["inputs"][0]:
        recipe = recipe["inputs"][0]["made"]
    assert recipe["inputs"][0] == {"name": "made", OLDER_STEPS: LEFT_OUT}
    if not doubled:
        assert recipe["inputs"][1]["sha256"] == f"file {300 - 1 - MAX_GENERATIONS}"


def test_a_step_that_is_both_inputs_is_stored_once():
    text = grown(40, doubled=True)  # nested 2**40 times
    assert len(json.loads(text)[STEPS]) == 39
    recipe: Any = parsed(text)
    first, second = (entry["made"] for entry in recipe["inputs"])
    assert first is second and generations(recipe) == 40


def test_a_step_that_occurs_once_stays_nested():
    recipe = step(*(step(f"{number:0500}") for number in range(300)))
    assert len(text_of(recipe)) > SHARE_ABOVE
    assert text_of(recipe) == plain(recipe)


def test_repeated_steps_in_a_nested_text_of_an_older_version_are_stored_once():
    recipe = step("file")
    for _ in range(14):
        recipe = step(recipe, recipe)
    old = plain(recipe)
    assert len(old) > 10 * SHARE_ABOVE
    new = text_of(step(parsed(old)))  # type: ignore[arg-type]
    assert len(new) < 10_000
    assert plain(parsed(new)) == plain(step(recipe))  # type: ignore[arg-type]


def test_the_oldest_generations_are_left_out_of_a_text_above_the_size_limit():
    note = "x" * (MAX_BYTES // 3)
    recipe = step("a", note=note)
    for number in range(5):
        recipe = step(recipe, note=f"{number}{note}")
    text = text_of(recipe)
    assert len(text) <= MAX_BYTES and generations(parsed(text)) == 2
    alone = step("a", note="x" * 2 * MAX_BYTES)
    assert text_of(alone) == plain(alone)  # the last step is always kept


def test_the_generation_of_a_step_is_its_longest_path_from_the_last():
    """A step that is an input of an early and of a late merge isn't nested beyond the limit."""
    last = step("file")
    early = last
    for number in range(MAX_GENERATIONS + 20):
        last = step(last, f"file {number}")
    text = text_of(step(early, last))
    assert text.count('"made": {') <= MAX_GENERATIONS + 1
    assert text.count(OLDER_STEPS) == 2


@pytest.mark.parametrize("made", [7, -1, True, 1.5, None, [[]], "[" * SHARE_ABOVE + "]"])
def test_other_values_of_made_are_not_mistaken_for_a_shared_step(made: object):
    recipe: Recipe = {"operation": "merge", "inputs": [{"name": "x", "made": made}]}
    big = step("y" * SHARE_ABOVE)
    text = text_of(step(step(big, big), parsed(plain(recipe))))  # type: ignore[arg-type]
    assert STEPS in json.loads(text)
    read: Any = parsed(text)
    assert read["inputs"][1]["made"]["inputs"] == [{"name": "x", OLDER_STEPS: LEFT_OUT}]


@pytest.mark.parametrize("steps", [None, 5, {}, [], [5], [{"inputs": [{"made": 0}]}], [{"inputs": [{"made": 1}]}, {}]])
def test_an_invalid_list_of_steps_makes_no_cycle(steps: object):
    inputs = [{"made": 0}, {"made": 1}, {"made": 99}]
    recipe = parsed(json.dumps({"operation": "merge", "inputs": inputs, STEPS: steps}))
    assert isinstance(recipe, dict)
    assert len(json.dumps(recipe)) < 1000  # raises ValueError for a cycle


@pytest.mark.parametrize("depth", [50, 800, 100_000])
def test_a_deeply_nested_text_of_another_program_does_not_fail_the_merge(depth: int, caplog: pytest.LogCaptureFixture):
    text = '{"operation": "merge", "inputs": [], "x": ' + "[" * depth + "]" * depth + "}"

    def deeper(frames: int) -> str:
        return deeper(frames - 1) if frames else text_of(step(read, "file"))  # type: ignore[arg-type]

    read = parsed(text)
    used = len(text_of(step("file")))
    for frames in (0, (sys.getrecursionlimit() - 300) // 2):
        try:
            result = deeper(frames)
        except RecursionError:
            pytest.fail("the merge failed because of an input's recipe")
        assert len(result) > used and json.loads(result)["inputs"][1]["sha256"] == "file"


def test_a_short_recipe_logs_nothing(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        text_of(chain(MAX_GENERATIONS + 1))
    assert caplog.text == ""


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Recipes of files and of earlier steps, some with several uses."""
    made: list[Recipe] = [step("file")]
    for _ in range(draw(st.integers(0, 8))):
        inputs = draw(st.lists(st.sampled_from(["a", "b"]) | st.sampled_from(made), min_size=1, max_size=3))
        made.append(step(*inputs, note=draw(st.sampled_from(["", "n" * 20_000]))))
    return made[-1]


@examples(200)
@given(recipes())
def test_a_recipe_survives_a_round_trip(recipe: Recipe):
    text = text_of(recipe)
    nested = plain(recipe)
    assert len(text) <= max(len(nested), SHARE_ABOVE)
    assert (text == nested) or len(nested) > SHARE_ABOVE
    assert parsed(text) == recipe
    assert text_of(parsed(text)) == text  # type: ignore[arg-type]
