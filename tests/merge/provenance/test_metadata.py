"""The metadata that other programs read: kohya's and ModelSpec's keys, trigger words and tags."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path

import pytest
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save
from lora_pack.merge.io import safetensors_file
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.merging.resize import resize
from lora_pack.merge.names import ARCHITECTURES, Architecture
from lora_pack.merge.provenance.base_models import BASES as BASE_MODELS
from lora_pack.merge.provenance.base_models import UNNAMED, base_metadata
from lora_pack.tests.support.makers import at, make_lora, make_module, of_modules

SD15 = {
    "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k": (640, 768),
    "lora_te_text_model_encoder_layers_0_self_attn_k_proj": (768, 768),
}


def saved(lora: Lora, tmp_path: Path, **options: object) -> dict[str, str]:
    path = save(lora, tmp_path / "x.safetensors", **options)  # type: ignore[arg-type]
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    assert metadata["modelspec.hash_sha256"] == "0x" + hashlib.sha256(data[8 + length :]).hexdigest()
    return metadata


def sd15(seed: int, **metadata: str) -> Lora:
    return make_lora(seed, shapes=SD15, name=f"lora{seed}", metadata=metadata)


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_network_and_model_of_a_merge_are_in_the_metadata(dtype: torch.dtype | None, tmp_path: Path):
    metadata = saved(merge_deltas([sd15(1), sd15(2)], rank=3), tmp_path, dtype=dtype)
    assert metadata["ss_network_dim"] == metadata["ss_network_alpha"] == "3"
    assert metadata["ss_network_module"] == "networks.lora"
    assert metadata["ss_base_model_version"] == "sd_v1"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert metadata["modelspec.merged_from"] == "lora1, lora2"
    for must in ("sai_model_spec", "implementation", "title", "resolution"):
        assert metadata[f"modelspec.{must}"]


def test_different_ranks_and_alphas_are_written_as_dynamic(tmp_path: Path):
    modules = [make_module(name, shape, 2 + i, i, alpha=1.0) for i, (name, shape) in enumerate(SD15.items())]
    metadata = saved(at(of_modules(modules), 1.0, 0.5), tmp_path)
    assert metadata["ss_network_dim"] == metadata["ss_network_alpha"] == "Dynamic"
    assert saved(of_modules(modules), tmp_path)["ss_network_alpha"] == "1"


def test_the_alpha_in_the_metadata_includes_the_strength(tmp_path: Path):
    assert saved(at(make_lora(1, ranks=[4], alphas=[2.0]), -0.5), tmp_path)["ss_network_alpha"] == "-1"


def of_architecture(architecture: Architecture) -> Lora:
    """A LoRA of the first block's weights, by their own paths."""
    paths = {re.sub(r"\{\w+\}", "0", pattern): shape for pattern, shape in architecture.shapes.items()}
    shapes = {architecture.prefixes[0] + path: shape for path, shape in paths.items()}
    return make_lora(1, shapes=shapes, ranks=[1])


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_every_architecture_has_names_in_other_programs_or_a_reason_without(architecture: Architecture):
    metadata = base_metadata(architecture, [architecture])
    assert metadata["ss_v2"] == str(architecture.name == "SD 2")
    is_named = bool({"ss_base_model_version", "modelspec.architecture"} & metadata.keys())
    assert is_named != (architecture.family in UNNAMED), "it needs a row in BASES or a reason in UNNAMED"


def test_every_row_of_base_models_is_for_a_known_architecture():
    known = {name for architecture in ARCHITECTURES for name in (architecture.name, architecture.family)}
    assert known >= BASE_MODELS.keys() | UNNAMED.keys()


# ss_v2, ss_base_model_version, modelspec.architecture
BASES = {
    "SD 1.5": ("False", "sd_v1", "stable-diffusion-v1/lora"),
    "SD 2": ("True", "sd_v2", "stable-diffusion-v2-768-v/lora"),
    "SDXL": ("False", "sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora"),
    "SD 3.5 Large": ("False", "5-large", "stable-diffusion-3-5-large/lora"),
    "Flux": ("False", "flux1", "flux-1/lora"),
    "Qwen-Image": ("False", "qwen_image", "Qwen-Image/lora"),
    "Wan 2.1/2.2 14B": ("False", "wan", "wan2.1/lora"),
    "Wan 2.1 1.3B": ("False", "wan", "wan2.1/lora"),
    "Wan 2.2 5B": ("False", "wan", "wan2.1/lora"),
    "HunyuanImage 2.1": ("False", "hunyuan-image-2.1", "hunyuan-image-2.1/lora"),
    "Z-Image": ("False", "z_image", "Z-Image/lora"),
    "Lumina 2": ("False", "lumina2", "lumina-2/lora"),
    "LTX-Video": ("False", None, "lightricks-ltx-video/lora"),
}


@pytest.mark.parametrize("name", BASES)
def test_the_base_model_of_a_merge(name: str, tmp_path: Path):
    lora = of_architecture(next(a for a in ARCHITECTURES if a.name == name))
    metadata = saved(merge_factors([lora]), tmp_path)
    keys = ("ss_v2", "ss_base_model_version", "modelspec.architecture")
    assert tuple(metadata.get(key) for key in keys) == BASES[name]


def encoder(number: str, layers: int, width: int) -> dict[str, tuple[int, int]]:
    names = [f"lora_te{number}_text_model_encoder_layers_{n}_self_attn_k_proj" for n in range(layers)]
    return dict.fromkeys(names, (width, width))


@pytest.mark.parametrize(
    ("shapes", "wanted"),
    [
        (encoder("1", 12, 768) | encoder("2", 32, 1280), BASES["SDXL"]),
        (encoder("2", 32, 1280), BASES["SDXL"]),
        (encoder("", 23, 1024), BASES["SD 2"]),
        (encoder("1", 12, 768), ("False", None, None)),  # SD 1.5, SDXL or Flux, but not SD 2
    ],
    ids=["both of SDXL", "the second of SDXL", "SD 2", "one that many models have"],
)
def test_the_base_model_of_a_text_encoder_lora(shapes: dict, wanted: tuple, tmp_path: Path):
    """A1111 assumes SD 1 unless these keys say otherwise."""
    metadata = saved(merge_factors([make_lora(1, shapes=shapes, ranks=[1])]), tmp_path)
    keys = ("ss_v2", "ss_base_model_version", "modelspec.architecture")
    assert tuple(metadata.get(key) for key in keys) == wanted


def test_an_unknown_model_has_no_base_model_in_the_metadata(tmp_path: Path):
    metadata = saved(merge_factors([of_modules([make_module("some.layer", (5, 4), 2, 1)])]), tmp_path)
    assert "ss_base_model_version" not in metadata and "modelspec.architecture" not in metadata


def test_base_model_that_inputs_agree_on_is_kept_and_training_metadata_dropped(tmp_path: Path):
    both = {"ss_base_model_version": "sd_1.5_x", "modelspec.architecture": "mine/lora", "ss_epoch": "9"}
    metadata = saved(merge_factors([sd15(1, **both), sd15(2, **both)]), tmp_path)
    assert (metadata["ss_base_model_version"], metadata["modelspec.architecture"]) == ("sd_1.5_x", "mine/lora")
    assert "ss_epoch" not in metadata
    different = {**both, "ss_base_model_version": "other"}
    metadata = saved(merge_factors([sd15(1, **both), sd15(2, **different)]), tmp_path)
    assert metadata["ss_base_model_version"] == "sd_v1"


def test_a_lora_that_is_only_loaded_and_saved_keeps_its_metadata_but_not_its_hashes(tmp_path: Path):
    lora = sd15(
        1, ss_epoch="9", sshs_model_hash="stale", **{"modelspec.hash_sha256": "0xstale", "modelspec.title": "T"}
    )
    metadata = saved(at(lora, 0.5), tmp_path)
    assert metadata["ss_epoch"] == "9" and metadata["modelspec.title"] == "T" and "sshs_model_hash" not in metadata


def tags(**counts: int) -> str:
    return json.dumps({"10_folder": counts, "2_other": {"hat": 1}})


def test_tags_and_trigger_words_are_kept_by_lora(tmp_path: Path):
    first = sd15(1, ss_tag_frequency=tags(cat=3, hat=2), **{"modelspec.trigger_phrase": "ohwx cat"})
    second = sd15(2, ss_tag_frequency=tags(dog=5), trigger_words="dogstyle")
    inner = load(save(merge_factors([first, second]), tmp_path / "inner.safetensors"))
    for lora in (inner, resize(inner, 2), merge_deltas([inner, first], rank=2), at(inner, 0.5)):
        metadata = saved(lora, tmp_path)
        assert json.loads(metadata["ss_tag_frequency"]) == {
            "lora1": {"cat": 3, "hat": 3},
            "lora2": {"dog": 5, "hat": 1},
        }
        assert json.loads(metadata["lora_power_merger.trigger_words"]) == {"lora1": "ohwx cat", "lora2": "dogstyle"}
        assert metadata["modelspec.trigger_phrase"] == "ohwx cat, dogstyle"


def test_two_loras_with_the_same_name_keep_their_trigger_words(tmp_path: Path):
    twins = [sd15(1, trigger_words=words) for words in ("a", "b")]
    metadata = saved(merge_factors([*twins, at(sd15(3, trigger_words="left out"), 0.0)]), tmp_path)
    assert json.loads(metadata["lora_power_merger.trigger_words"]) == {"lora1": "a", "lora1 (2)": "b"}


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"a": 3}', '{"a": {"b": "c"}}', "null"])
def test_invalid_tags_trigger_words_and_recipes_are_ignored(text: str, tmp_path: Path):
    lora = sd15(1, ss_tag_frequency=text, **{"lora_power_merger.trigger_words": text, "lora_power_merger": text})
    metadata = saved(merge_factors([lora]), tmp_path)
    assert "ss_tag_frequency" not in metadata or json.loads(metadata["ss_tag_frequency"]) != {}


def test_the_alpha_of_a_file_in_peft_style_is_its_rank(tmp_path: Path):
    lora = at(make_lora(1, shapes=SD15, ranks=[4], alphas=[2.0]), 0.5)
    assert saved(lora, tmp_path, style="peft")["ss_network_alpha"] == "4"


def test_a_lora_that_is_only_loaded_and_saved_keeps_its_network_module(tmp_path: Path):
    assert saved(sd15(1, ss_network_module="networks.lora_x"), tmp_path)["ss_network_module"] == "networks.lora_x"


def test_tags_and_trigger_words_above_the_size_limit_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("lora_pack.merge.provenance.metadata.MAX_BYTES", 40_000)
    many = {f"tag {number}": number for number in range(1500)}
    loras = [sd15(n, ss_tag_frequency=json.dumps({"folder": many}), trigger_words=f"{n}" * 10_000) for n in range(1, 8)]
    small = sd15(8, ss_tag_frequency=tags(cat=1), trigger_words="cat")
    metadata = saved(merge_factors([*loras, small]), tmp_path)
    for key in ("ss_tag_frequency", "lora_power_merger.trigger_words"):
        assert len(metadata[key]) <= 40_000
        kept = json.loads(metadata[key])
        assert "lora8" in kept and 1 < len(kept) < 8
    assert "The tag counts of lora1 are left out" in caplog.text
    assert "The trigger words of lora1 are left out" in caplog.text


def test_metadata_that_would_make_the_header_too_long_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(safetensors_file, "MAX_HEADER_BYTES", 20_000)
    lora = sd15(1, ss_note="n" * 15_000, ss_other='"' * 9_000, ss_small="kept")
    path = save(lora, tmp_path / "x.safetensors")
    metadata = load(path).metadata
    assert metadata["ss_small"] == "kept" and not {"ss_note", "ss_other"} & set(metadata)
    assert "ss_note is left out" in caplog.text and "ss_other is left out" in caplog.text


def test_a_file_with_too_many_tensors_for_its_header_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save(sd15(1), tmp_path / "x.safetensors")
    before = path.read_bytes()
    monkeypatch.setattr(safetensors_file, "MAX_HEADER_BYTES", 500)
    with pytest.raises(LoraError, match=r"6 tensors need a header of .* Merge fewer"):
        save(sd15(1), path, overwrite=True)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
