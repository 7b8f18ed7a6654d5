"""Recipes: complete, readable, limited in size, and without traces of the machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.files import load, save
from lora_pack.merge.merging.resize import resize
from lora_pack.merge.methods.registry import method_of
from lora_pack.merge.provenance.recipe import KEY
from lora_pack.merge.version import VERSION
from lora_pack.tests.support.makers import at, make_lora
from lora_pack.tests.support.merging import ALL_MODES, merge

ROOT = Path(__file__).resolve().parents[3]


def recipe(lora: Lora) -> dict:
    assert all(isinstance(value, str) for value in lora.metadata.values()), "safetensors only has strings as metadata"
    return json.loads(lora.metadata[KEY])


@pytest.mark.parametrize("mode", ALL_MODES)
def test_the_recipe_of_a_merge_has_inputs_strengths_and_used_settings(mode: str):
    loras = [at(make_lora(1, name="first"), 0.8, -0.5), make_lora(2, name="ünï/second")]
    made = recipe(merge(mode, loras, 0.25, rank=7, conv_rank=3, seed=99))
    assert made["version"] == VERSION and made["mode"] == mode
    assert [(i["name"], i["strength_model"], i["strength_clip"]) for i in made["inputs"]] == [
        ("first", 0.8, -0.5),
        ("ünï/second", 1.0, 1.0),
    ]
    method = method_of(mode)
    assert made.get("density") == (0.25 if method.uses_density else None)
    assert made.get("seed") == (99 if method.uses_seed else None)
    assert made.get("rank") == (7 if mode.endswith("_svd") else None)
    assert made.get("parameters", {}) == {one.name: one.default for one in method.parameters}
    text = json.dumps({key: value for key, value in made.items() if key not in ("version", "parameters")})
    assert ("0.25" in text) == method.uses_density
    assert ("99" in text) == method.uses_seed


def test_recipes_of_merged_inputs_nest():
    inner = merge("concat", [make_lora(1, name="deep")])
    outer = merge("add_svd", [resize(inner, 2, method="sv_fro", value=0.5), make_lora(2)])
    text = outer.metadata[KEY]
    assert json.loads(text)
    for word in ("deep", "concat", "sv_fro", "add_svd"):
        assert word in text


@pytest.mark.parametrize("twice", [False, True])
def test_the_recipe_of_many_merges_in_sequence_stays_small(twice: bool):
    """Each merges the last result with another LoRA, or with itself."""
    merged, other = make_lora(1, shapes={"layer": (4, 3)}, ranks=[1]), make_lora(2, shapes={"layer": (4, 3)}, ranks=[1])
    for _ in range(150):
        merged = merge("add_svd", [at(merged, 0.5), at(merged if twice else other, 0.5)], rank=1)
    assert len(merged.metadata[KEY]) < 100_000
    assert recipe(merged)["operation"] == "merge_svd"


@pytest.mark.slow
def test_a_file_with_a_long_history_of_merges_can_be_saved_and_loaded(tmp_path: Path):
    merged = make_lora(1, shapes={"layer": (4, 3)}, ranks=[1])
    for number in range(120):
        twice = merge("add_svd", [at(merged, 0.5), at(merged, 0.25)], rank=1)
        merged = load(save(twice, tmp_path / f"{number}.safetensors"))
    assert recipe(load(save(merged, tmp_path / "last.safetensors")))["operation"] == "load"


def test_recipes_have_no_paths_and_no_dates(tmp_path: Path):
    path = save(make_lora(1, name="a"), tmp_path / "secret folder" / "a.safetensors")
    text = json.dumps(dict(merge("ties_svd", [load(path)]).metadata))
    assert "secret folder" not in text
    assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d", text)


def test_training_metadata_of_the_inputs_is_dropped():
    lora = make_lora(1, metadata={"ss_learning_rate": "1e-4"})
    assert "ss_learning_rate" not in merge("concat", [lora]).metadata


def test_the_version_in_recipes_is_that_of_the_project():
    assert f'\nversion = "{VERSION}"\n' in (ROOT / "pyproject.toml").read_text("utf-8")
