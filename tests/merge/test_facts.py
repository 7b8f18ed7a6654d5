"""What a LoRA file is, from its header: the same family and ranks as when it is loaded, without reading its weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lora_pack.merge.adapters.architecture import architecture_of
from lora_pack.merge.block_weights.presets import read_presets
from lora_pack.merge.errors import LoraError
from lora_pack.merge.facts import (
    cached_by_state,
    facts_of,
    outline_of,
    presets_that_fit,
    recipe_of,
    size_text,
)
from lora_pack.merge.files import load
from lora_pack.tests.support import families
from lora_pack.tools.make_lora import small_modules, write_lora
from safetensors.torch import save_file


def saved(folder: Path, tensors: dict, metadata: dict | None = None) -> Path:
    path = folder / "some.safetensors"
    save_file(tensors, path, metadata)
    return path


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_outline_has_the_modules_shapes_and_ranks_of_the_loaded_lora(tmp_path: Path, family: str):
    path = saved(tmp_path, families.FAMILIES[family](1))
    outline, loaded = outline_of(path, "some"), load(path, "some")
    assert list(outline.modules) == list(loaded.modules)
    for module, real in zip(outline.modules.values(), loaded.modules.values(), strict=True):
        assert (module.family, module.rank, module.weight_shape) == (real.family, real.rank, real.weight_shape)
    assert architecture_of(outline) is architecture_of(loaded)


def test_the_facts_of_a_file_are_read_from_its_header_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.safetensors"
    write_lora(path, rank=8, seed=1, dtype=torch.float16, modules=small_modules())
    monkeypatch.setattr("lora_pack.merge.io.safetensors_file._read_tensor", lambda *_: pytest.fail("read a tensor"))
    facts = facts_of(path, "a")
    assert (facts.family, facts.ranks, facts.modules, facts.size) == ("SD 1.5", (8, 8), 84, path.stat().st_size)
    assert facts.summary == f"SD 1.5, rank 8, {size_text(facts.size)}"
    assert not facts.has_preview and not facts.has_recipe


def test_unequal_ranks_and_other_adapters_are_said(tmp_path: Path):
    first, second = families.lora(1), families.lora_3x3(2)
    assert "rank " in facts_of(saved(tmp_path, {**first, **second}), "some").summary
    assert "LoHa" in facts_of(saved(tmp_path, families.loha(1)), "some").summary


def test_files_that_are_no_lora_are_refused_by_name(tmp_path: Path):
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    (tmp_path / "old.pt").write_bytes(b"")
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    for name, problem in {
        "torn.safetensors": "too short",
        "old.pt": "no header",
        "model.safetensors": "no LoRA",
    }.items():
        with pytest.raises(LoraError, match=problem):
            facts_of(tmp_path / name, name)
    with pytest.raises(LoraError, match=r"gone\.safetensors"):
        facts_of(tmp_path / "gone.safetensors", "gone")


def test_trigger_words_and_base_model_come_from_metadata_and_from_the_files_beside_it(tmp_path: Path):
    metadata = {"modelspec.trigger_phrase": "inkwash, old paper", "ss_base_model_version": "sd_v1"}
    path = saved(tmp_path, families.lora(1), metadata)
    assert facts_of(path, "some").trigger_words == ["inkwash", "old paper"]
    assert facts_of(path, "some").base_model == "sd_v1"
    path.with_suffix(".civitai.info").write_text(json.dumps({"trainedWords": ["brush"], "baseModel": "SD 1.5"}))
    path.with_suffix(".png").write_bytes(b"picture")
    facts = facts_of(path, "some")
    assert facts.trigger_words == ["brush", "inkwash", "old paper"]
    assert facts.base_model == "SD 1.5"
    assert facts.has_preview


def test_presets_are_those_of_the_recognised_model(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    write_lora(path, rank=2, seed=1, modules=small_modules())
    names = presets_that_fit(path, "a", read_presets())
    assert names is not None
    assert "SD-OUT" in names and "INALL" in names
    assert not any(name.startswith(("FLUX", "WAN", "QWEN", "SDXL")) or name.endswith("XL") for name in names)
    assert presets_that_fit(saved(tmp_path, families.lora(1)), "some", {}) in (None, [])


def test_a_file_without_a_recipe_has_none(tmp_path: Path):
    assert recipe_of(saved(tmp_path, families.lora(1)), "some") == ""
    assert recipe_of(saved(tmp_path, families.lora(1), {"lora_power_merger": "{}"}), "some") == "{}"


def test_facts_are_kept_until_the_file_changes(tmp_path: Path):
    calls: list[str] = []
    state = {"now": 1}

    def compute(path: Path, name: str):
        calls.append(name)
        if state["now"] == 3:
            raise LoraError("torn")
        return state["now"]

    facts = cached_by_state(compute, lambda _: state["now"])  # type: ignore[arg-type]
    assert [facts(tmp_path, "a"), facts(tmp_path, "a")] == [1, 1]
    state["now"] = 2
    assert facts(tmp_path, "a") == 2
    state["now"] = 3
    for _ in range(2):
        with pytest.raises(LoraError, match="torn"):
            facts(tmp_path, "a")
    assert len(calls) == 3


def test_sizes_are_said_in_the_unit_that_fits():
    assert [size_text(size) for size in (1, 400_000, 3_164_208, 1_250_000_000)] == ["1 kB", "400 kB", "3 MB", "1.2 GB"]
