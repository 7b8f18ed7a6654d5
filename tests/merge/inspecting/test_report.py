"""The JSON keeps its contract, and nothing unmeasured appears as a number."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from lora_pack.merge.adapters.base import Lora, Replacement
from lora_pack.merge.formats import from_state_dict
from lora_pack.merge.inspecting.inspect import Inspection, inspect
from lora_pack.merge.inspecting.report import as_json, as_text
from lora_pack.tests.support.families import normal
from lora_pack.tests.support.makers import LINEAR, at, make_lora

WEIGHT = {"norm", "rank", "effective_rank", "rank_for"}
LORA = {"name", "family", "modules", "norm", "effective_rank", "rank_for", "blocks", "weights"}
PAIR = {
    *("a", "b", "cosine", "sign_conflict", "sign_conflict_by_chance", "weights"),
    *("shared_input", "shared_input_by_chance", "shared_output", "shared_output_by_chance"),
}


NAME = "lora_unet_up_blocks_3_attentions_0_transformer_blocks_0_attn1_to_q"


def dora() -> Lora:
    state = {f"{NAME}.lora_up.weight": normal(1, 8, 2), f"{NAME}.lora_down.weight": normal(2, 2, 6)}
    return from_state_dict(state | {f"{NAME}.dora_scale": torch.ones(1, 6)}, "dora")


def written(inspection: Inspection) -> dict[str, Any]:
    """Through JSON and back, which fails for NaN."""
    return json.loads(json.dumps(as_json(inspection), allow_nan=False))


def test_the_json_has_the_keys_that_programs_read():
    found = written(inspect([make_lora(1, name="x"), make_lora(2, name="y"), make_lora(3, name="z")]))
    assert set(found) == {"loras", "pairs", "advice"}
    assert [(pair["a"], pair["b"]) for pair in found["pairs"]] == [("x", "y"), ("x", "z"), ("y", "z")]
    for lora in found["loras"]:
        assert set(lora) >= LORA and set(lora["rank_for"]) == {"90", "95", "99"}
        assert lora["modules"] == len(lora["weights"])
        for weight in lora["weights"].values():
            assert set(weight) >= WEIGHT and set(weight["rank_for"]) == {"90", "95", "99"}
        assert sum(block["share"] for block in lora["blocks"].values()) == pytest.approx(1)
    for pair in found["pairs"]:
        assert set(pair) >= PAIR and all(set(weight) == {"cosine"} for weight in pair["weights"].values())
        assert list(pair["weights"]) == list(make_lora(1).modules)
    assert found["advice"] and all(isinstance(sentence, str) for sentence in found["advice"])


@pytest.mark.parametrize(
    "lora", [dora(), Lora("set", {LINEAR: Replacement(LINEAR, torch.ones(4, 3))})], ids=["DoRA", "replaced"]
)
def test_what_depends_on_the_model_is_null_and_never_zero(lora: Lora):
    inspection = inspect([lora, make_lora(1)])
    found = written(inspection)
    alone, pair = found["loras"][0], found["pairs"][0]
    (weight,) = alone["weights"].values()
    assert weight["norm"] is None and weight["effective_rank"] is None and set(weight["rank_for"].values()) == {None}
    assert alone["norm"] is None and alone["effective_rank"] is None and set(alone["rank_for"].values()) == {None}
    assert [block["norm"] for block in alone["blocks"].values()] == [None]
    assert pair["cosine"] is None and pair["shared_input"] is None and pair["sign_conflict"] is None
    assert "norm not measured" in as_text(inspection) and "Connect the model" in as_text(inspection)


def test_a_lora_that_is_measured_in_part_says_how_much_is_missing():
    part = replace(make_lora(1), modules={**make_lora(1).modules, **dora().modules})
    inspection = inspect([part])
    assert written(inspection)["loras"][0]["not_measured"] == [*dora().modules]
    assert written(inspection)["loras"][0]["norm"] == written(inspect([make_lora(1)]))["loras"][0]["norm"]
    assert "not measured: 1 DoRA modules" in as_text(inspection)


def test_a_delta_of_zero_has_a_norm_but_no_rank():
    found = written(inspect([at(make_lora(1), 0.0), make_lora(2)]))
    assert found["loras"][0]["norm"] == 0.0 and found["loras"][0]["effective_rank"] is None
    assert found["pairs"][0]["cosine"] is None


def test_the_text_names_trigger_words_base_model_strengths_and_notes():
    metadata = {"modelspec.trigger_phrase": "sks dog", "ss_base_model_version": "sdxl_base_v1-0"}
    lora = replace(make_lora(1, metadata=metadata, strength_model=0.5, strength_clip=2.0), notes=("something odd",))
    text = as_text(inspect([lora]))
    for words in (
        "trigger words: sks dog",
        "sdxl_base_v1-0",
        "strength 0.5 in the model and 2 in the",
        "something odd",
    ):
        assert words in text


def test_signs_stand_beside_what_the_cosine_gives():
    """50 % means independent and must not look alarming."""
    text = as_text(inspect([make_lora(1), make_lora(2)]))
    (line,) = (line for line in text.splitlines() if "different signs" in line)
    assert line.count("%") == 2 and "cosine gives" in line


def test_loras_of_one_name_are_told_apart_by_letters():
    text = as_text(inspect([make_lora(1, name="same"), make_lora(2, name="same")]))
    assert "A: same" in text and "B: same" in text and "A and B" in text.splitlines()[0]


def test_modules_of_text_encoders_have_blocks_of_their_own():
    blocks = written(inspect([make_lora(1)]))["loras"][0]["blocks"]
    assert list(blocks)[-1] == "TE1-00"
