"""The metadata of what the pack makes: how it was made, in a form that can be read back, and nothing of the machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.files import load, save
from lora_pack.merge.merging.resize import resize
from lora_pack.merge.provenance.recipe import KEY
from lora_pack.merge.version import VERSION
from lora_pack.tests.support.makers import at, make_lora
from lora_pack.tests.support.merging import ALL_MODES, merge

ROOT = Path(__file__).resolve().parents[3]


def recipe(lora: Lora) -> dict:
    assert all(isinstance(value, str) for value in lora.metadata.values()), "safetensors' metadata are texts"
    return json.loads(lora.metadata[KEY])


@pytest.mark.parametrize("mode", ALL_MODES)
def test_a_merge_is_told(mode: str):
    loras = [at(make_lora(1, name="first"), 0.8, -0.5), make_lora(2, name="ünï/second")]
    told = recipe(merge(mode, loras, 0.25, rank=7, conv_rank=3, seed=99))
    assert told["version"] == VERSION and told["mode"] == mode
    assert [(i["name"], i["strength_model"], i["strength_clip"]) for i in told["inputs"]] == [
        ("first", 0.8, -0.5),
        ("ünï/second", 1.0, 1.0),
    ]
    text = json.dumps(told)
    assert ("0.25" in text) == (mode not in ("add", "concat", "add_svd"))
    assert ("99" in text) == ("dare" in mode)
    assert ("7" in text.replace(VERSION, "")) == mode.endswith("_svd")


def test_merges_of_merges_nest():
    inner = merge("concat", [make_lora(1, name="deep")])
    outer = merge("add_svd", [resize(inner, 2, method="sv_fro", value=0.5), make_lora(2)])
    text = outer.metadata[KEY]
    assert json.loads(text)
    for word in ("deep", "concat", "sv_fro", "add_svd"):
        assert word in text


@pytest.mark.parametrize("twice", [False, True])
def test_any_number_of_merges_in_sequence_is_told_in_bounds(twice: bool):
    """Each merges the last one's result with a new LoRA, or with itself."""
    merged, other = make_lora(1, shapes={"layer": (4, 3)}, ranks=[1]), make_lora(2, shapes={"layer": (4, 3)}, ranks=[1])
    for _ in range(400):
        merged = merge("add_svd", [at(merged, 0.5), at(merged if twice else other, 0.5)], rank=1)
    assert len(merged.metadata[KEY]) < 100_000
    assert recipe(merged)["operation"] == "merge_svd"


def test_a_file_that_was_merged_from_merges_many_times_can_be_saved_and_read(tmp_path: Path):
    merged = make_lora(1, shapes={"layer": (4, 3)}, ranks=[1])
    for number in range(120):
        twice = merge("add_svd", [at(merged, 0.5), at(merged, 0.25)], rank=1)
        merged = load(save(twice, tmp_path / f"{number}.safetensors"))
    assert recipe(load(save(merged, tmp_path / "last.safetensors")))["operation"] == "load"


def test_neither_the_machine_nor_the_hour_is_told(tmp_path: Path):
    path = save(make_lora(1, name="a"), tmp_path / "secret folder" / "a.safetensors")
    text = json.dumps(dict(merge("ties_svd", [load(path)]).metadata))
    assert "secret folder" not in text
    assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d", text)


def test_the_inputs_own_metadata_is_not_passed_off_as_the_merges():
    lora = make_lora(1, metadata={"ss_learning_rate": "1e-4"})
    assert "ss_learning_rate" not in merge("concat", [lora]).metadata


def test_the_version_is_that_of_the_project():
    assert f'\nversion = "{VERSION}"\n' in (ROOT / "pyproject.toml").read_text("utf-8")
