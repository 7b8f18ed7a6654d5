"""The scale that a trainer meant: PEFT's and diffusers' alpha in the header, and what a save leaves there."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.cli.program import main
from lora_pack.merge.compute.context import CPU
from lora_pack.merge.files import load, save
from lora_pack.merge.formats import from_state_dict
from lora_pack.merge.formats.peft_config import ADAPTER_METADATA
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.provenance.recipe import KEY
from lora_pack.merge.replay import replay
from lora_pack.tests.support import oracle
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

DOWN_BLOCK = "unet.down_blocks.1.attentions.0.transformer_blocks.0"
# SD 1.5's, in diffusers' names: (out, in)
SHAPES = {
    f"{DOWN_BLOCK}.attn1.to_q": (640, 640),
    f"{DOWN_BLOCK}.attn2.to_k": (640, 768),
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": (768, 768),
}
QUERY, KEYS, TEXT = SHAPES


def halves(name: str, rank: int, **endings: Tensor) -> dict[str, Tensor]:
    noise = torch.Generator().manual_seed(len(name))
    rows, columns = SHAPES[name]
    return {
        f"{name}.lora_B.weight": torch.randn(rows, rank, generator=noise),
        f"{name}.lora_A.weight": torch.randn(rank, columns, generator=noise),
        **{f"{name}.{ending}": tensor for ending, tensor in endings.items()},
    }


def header(component: str = "unet", **options: Any) -> dict[str, str]:
    return {ADAPTER_METADATA: json.dumps({f"{component}.{option}": value for option, value in options.items()})}


def scales(lora: Lora) -> dict[str, float]:
    return {m.name: m.scale for m in lora.modules.values() if isinstance(m, LoraModule)}


def scale_of(metadata: Mapping[str, str], rank: int = 16, **endings: Tensor) -> float:
    (module,) = from_state_dict(halves(QUERY, rank, **endings), "a", metadata).modules.values()
    return module.scale


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"r": 16, "lora_alpha": 64}, 4.0),
        ({"r": 16, "lora_alpha": 64, "use_rslora": False}, 4.0),
        ({"r": 16, "lora_alpha": 32, "use_rslora": True}, 8.0),
        ({"r": 16, "lora_alpha": 16}, 1.0),
        ({"lora_alpha": 64}, 4.0),
        ({"r": 8, "lora_alpha": 64, "rank_pattern": {"attn1.to_q": 16}}, 4.0),
        ({"r": 16, "lora_alpha": 16, "alpha_pattern": {"attn1.to_q": 48}}, 3.0),
        ({"r": 16, "lora_alpha": 16, "alpha_pattern": {"to_q": 8, "attn1.to_q": 48}}, 0.5),  # the first that fits
        ({"r": 16, "lora_alpha": 16, "alpha_pattern": {"attn2.to_q": 8, "n1.to_q": 4}}, 1.0),
        ({"r": 16, "lora_alpha": 16, "alpha_pattern": {f"^{QUERY.removeprefix('unet.')}": 32}}, 2.0),
        ({"r": 16, "lora_alpha": 16, "alpha_pattern": {"^attn1.to_q": 32}}, 1.0),
        ({"r": 16, "lora_alpha": 16, "alpha_pattern": {r"attn[12]\.to_[qk]": 32}}, 2.0),
        ({"r": 16, "lora_alpha": 16, "alpha_pattern": {".*attn1.*": 32}, "use_rslora": True}, 8.0),
        ({"r": 16, "lora_alpha": -8.0}, -0.5),
        ({"r": 16, "lora_alpha": 0}, 0.0),
    ],
)
def test_the_headers_alpha_counts_if_the_tensors_have_none(options: dict[str, Any], wanted: float):
    assert scale_of(header(**options)) == pytest.approx(wanted, rel=1e-12)


def test_alpha_tensors_override_the_header():
    told = header(r=16, lora_alpha=64)
    assert scale_of(told, alpha=torch.tensor(16.0)) == 1.0, "an alpha equal to the rank is an alpha too"
    assert scale_of(told, alpha=torch.tensor(8.0)) == 0.5
    one_of_two = halves(QUERY, 16, alpha=torch.tensor(8.0)) | halves(KEYS, 16)
    assert list(scales(from_state_dict(one_of_two, "a", told)).values()) == [0.5, 1.0]


def test_each_component_has_its_own_rank_and_alpha():
    told = {"unet.r": 16, "unet.lora_alpha": 64, "text_encoder.r": 4, "text_encoder.lora_alpha": 2}
    tensors = halves(QUERY, 16) | halves(TEXT, 4)
    assert scales(from_state_dict(tensors, "a", {ADAPTER_METADATA: json.dumps(told)})) == {QUERY: 4.0, TEXT: 0.5}
    # what a model of diffusers writes alone (save_lora_adapter) has no components
    bare = {key.removeprefix("unet."): tensor for key, tensor in halves(QUERY, 16).items()}
    (module,) = from_state_dict(bare, "a", {ADAPTER_METADATA: json.dumps({"r": 16, "lora_alpha": 64})}).modules.values()
    assert module.scale == 4.0


def test_loha_and_lokr_count_the_headers_alpha_too():
    name, noise = "transformer.x.to_q", torch.Generator().manual_seed(0)
    shapes = {"hada_w1_a": (6, 4), "hada_w1_b": (4, 5), "hada_w2_a": (6, 4), "hada_w2_b": (4, 5)}
    loha = {f"{name}.{part}": torch.randn(shape, generator=noise) for part, shape in shapes.items()}
    lokr = {f"{name}.lokr_w1": torch.randn(2, 3), f"{name}.lokr_w2": torch.randn(3, 5)}
    for tensors in (loha, lokr):
        told = header("transformer", r=4, alpha=2)
        counted, plain = (from_state_dict(tensors, "a", m).modules[name].dense() for m in (told, {}))
        assert torch.allclose(counted, plain / 2)


@pytest.mark.parametrize(
    "told",
    [
        *["", "{", "[]", "7", "null", "[" * 100_000, '{"unet.use_rslora": true}', '{"unet.lora_alpha": "4"}'],
        *['{"unet.r": 16, "unet.lora_alpha": NaN}', '{"unet.r": 16, "unet.lora_alpha": Infinity}'],
        *['{"unet.r": 0, "unet.lora_alpha": 4}', '{"unet.r": 2.5, "unet.lora_alpha": 4}', '{"unet.lora_alpha": true}'],
        *['{"unet.lora_alpha": 4, "unet.use_rslora": "yes"}', '{"unet.lora_alpha": 4, "unet.alpha_pattern": [1]}'],
        *['{"unet.lora_alpha": 4, "unet.alpha_pattern": {"x": null}}', '{"transformer.lora_alpha": 4}'],
        json.dumps({"unet.lora_alpha": 10**400}),
        json.dumps({"unet.lora_alpha": 1.7e308, "unet.use_rslora": True}),
        json.dumps({"unet.lora_alpha": 4, "unet.alpha_pattern": {"(a+)+": 2}}),
        json.dumps({"unet.lora_alpha": 4, "unet.alpha_pattern": {"a*b*c*d": 2}}),
        json.dumps({"unet.lora_alpha": 4, "unet.alpha_pattern": {"(": 2}}),
    ],
)
def test_malformed_headers_change_nothing(told: str):
    assert scale_of({ADAPTER_METADATA: told}) == 1.0


def test_a_header_with_other_ranks_is_ignored_and_named(caplog: pytest.LogCaptureFixture):
    both = halves(QUERY, 16) | halves(KEYS, 16)
    lora = from_state_dict(both, "a", header(r=8, lora_alpha=64))
    assert set(scales(lora).values()) == {1.0}
    (note,) = lora.notes
    assert "the rank 8" in note and "the rank 16 (2 modules)" in note and QUERY in note
    assert [record.getMessage() for record in caplog.records] == [note]


def test_a_header_for_other_modules_is_ignored_and_named():
    """As tools leave it that rename the modules and keep the header."""
    renamed = {key.replace("unet.", "diffusion_model."): tensor for key, tensor in halves(QUERY, 16).items()}
    lora = from_state_dict(renamed, "a", header(r=16, lora_alpha=64))
    (note,) = lora.notes
    assert set(scales(lora).values()) == {1.0}
    assert note.startswith(
        f"a: its header ({ADAPTER_METADATA}) has an alpha for modules whose names begin with unet., but there"
    )
    assert from_state_dict(renamed, "a", header(r=16, lora_alpha=16)).notes == ()


def test_catastrophic_regular_expressions_are_not_tried():
    """PEFT's patterns are regular expressions, and come from the file."""
    patterns = {"(a+)+$": 1, "(a|a)*b": 1, "((a*)*)*": 1, r"(x+x+)+y": 1, "a" * 300 + "[b]": 1, "(?=(a+))a": 1}
    name = "unet." + "a" * 5000
    tensors = {f"{name}.lora_B.weight": torch.ones(3, 2), f"{name}.lora_A.weight": torch.ones(2, 3)}
    for pattern in patterns:
        told = header(r=2, lora_alpha=2, alpha_pattern={pattern: 8})
        (module,) = from_state_dict(tensors, "a", told).modules.values()
        assert module.scale == 1.0, pattern
    slowest = header(r=2, lora_alpha=2, alpha_pattern={"a*[b]a*c": 8})
    assert from_state_dict(tensors, "a", slowest).modules[name].scale == 1.0


def test_the_log_says_both_numbers_once(caplog: pytest.LogCaptureFixture):
    tensors = halves(QUERY, 16) | halves(KEYS, 16) | halves(TEXT, 4)
    with caplog.at_level(logging.INFO):
        lora = from_state_dict(tensors, "mine", header(r=16, lora_alpha=64, alpha_pattern={"to_k": 32}))
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("mine: the scale is 2 to 4 by the trainer's alpha") and line.endswith("uses 1.")
    assert lora.notes == (line,) and merge_factors([lora]).notes == (line,)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        from_state_dict(halves(QUERY, 16), "mine", header(r=16, lora_alpha=16))
        from_state_dict(halves(QUERY, 16), "mine")
    assert not caplog.records, "where both are 1 there is nothing to say"


def test_alpha_from_tensors_is_what_comfyui_does():
    tensors, told = halves(QUERY, 16), header(r=16, lora_alpha=64)
    lora = from_state_dict(tensors, "mine", told, alpha_from="tensors")
    assert list(scales(lora).values()) == [1.0]
    assert lora.notes == (
        f"mine: the scale is 1, as in ComfyUI's own loader; by the trainer's alpha (its header, {ADAPTER_METADATA}) "
        "it would be 4. Set alpha_from to trainer for that.",
    )


# --- saving ---


def write(path: Path, told: Mapping[str, str], **more: int) -> Path:
    ranks = {QUERY: 16, KEYS: 16, TEXT: 4} | more
    tensors = {key: tensor for name, rank in ranks.items() for key, tensor in halves(name, rank).items()}
    save_file(tensors, path, dict(told))
    return path


def assert_same(found: Lora, wanted: Lora) -> None:
    """The same deltas by name's meaning and order."""
    assert len(found.modules) == len(wanted.modules)
    for one, other in zip(found.modules.values(), wanted.modules.values(), strict=True):
        delta = other.dense() * wanted.strength_of(other)
        assert oracle.distance(one.dense().double().numpy(), delta.double().numpy()) <= 1e-6, other.name


HEADERS: dict[str, dict[str, Any]] = {
    "plain": {"r": 16, "lora_alpha": 32},
    "rsLoRA": {"r": 16, "lora_alpha": 32, "use_rslora": True},
    "patterns": {"r": 16, "lora_alpha": 8, "alpha_pattern": {"to_k": 3}, "rank_pattern": {"to_k": 8}},
    "none": {},
}


@pytest.mark.parametrize("style", [None, "kohya", "peft", "comfyui"])
@pytest.mark.parametrize("dtype", [None, torch.float16])
@pytest.mark.parametrize("options", HEADERS.values(), ids=HEADERS)
def test_a_saved_file_loads_with_the_same_scale(options: dict[str, Any], style: Any, dtype: Any, tmp_path: Path):
    ranks = {KEYS: 8} if "rank_pattern" in options else {}
    told = {**header(**options), "ss_epoch": "3"} if options else {}
    lora = load(write(tmp_path / "a.safetensors", told, **ranks)).with_strengths(0.5, 2.0)
    written = save(lora, tmp_path / "b.safetensors", dtype, style=style)
    with safe_open(written, "pt") as file:
        metadata = file.metadata()
    assert ADAPTER_METADATA not in metadata and metadata.get("ss_epoch") == (told and "3" or None)
    again = load(written)
    if dtype is None:
        assert_same(again, lora)
    twice = save(again, tmp_path / "c.safetensors", style=style)
    assert_same(load(twice), again)
    assert all(load(path).notes == () for path in (written, twice))


def test_a_header_kept_by_older_versions_counts_once(tmp_path: Path):
    """They hold the scale in their tensors, in PEFT's names too, and say who made them."""
    told = {**header(r=16, lora_alpha=32, use_rslora=True), KEY: '{"operation": "load", "inputs": []}'}
    assert set(scales(load(write(tmp_path / "old.safetensors", told))).values()) == {1.0}


def test_merging_a_file_or_its_saved_copy_gives_the_same(tmp_path: Path):
    lora = load(write(tmp_path / "a.safetensors", header(r=16, lora_alpha=64)))
    again = load(save(lora, tmp_path / "b.safetensors"))
    assert_same(merge_factors([again]), merge_factors([lora]))


# --- recipes ---


def inputs_of(lora: Lora) -> list[dict[str, Any]]:
    return json.loads(lora.metadata[KEY])["inputs"]


@pytest.mark.parametrize("alpha_from", ["trainer", "tensors"])
@pytest.mark.parametrize("rslora", [True, False])
def test_a_recipe_records_the_scale_and_replays(alpha_from: Any, rslora: bool, tmp_path: Path):
    told = header(r=16, lora_alpha=64, use_rslora=rslora)
    path = write(tmp_path / "a.safetensors", told)
    merged = merge_factors([load(path, alpha_from=alpha_from), load(write(tmp_path / "b.safetensors", {}))])
    first, second = inputs_of(merged)
    assert first["alpha_from"] == alpha_from and "alpha_from" not in second
    made = save(merged, tmp_path / "made.safetensors")
    again = replay(load(made), tmp_path, tmp_path, CPU)
    assert save(again.lora, tmp_path / "again.safetensors").read_bytes() == made.read_bytes()


SOURCES: dict[str, tuple[dict[str, str], dict[str, Tensor]]] = {
    "the header counts": (header(r=16, lora_alpha=64), {}),
    "an rsLoRA": (header(r=16, lora_alpha=64, use_rslora=True), {}),
    "alphas and an rsLoRA's header": (
        header(r=16, lora_alpha=64, use_rslora=True),
        {f"{name}.alpha": torch.tensor(16.0) for name in (QUERY, KEYS)},
    ),
    "an older version's file that kept the header": (
        header(r=16, lora_alpha=64, use_rslora=True) | {KEY: '{"operation": "load"}'},
        {},
    ),
    "a header of other ranks": (header(r=8, lora_alpha=64, use_rslora=True), {}),
    "plain": ({}, {}),
}


@pytest.mark.parametrize("alpha_from", ["trainer", "tensors"])
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_what_counted_counts_again_after_a_save(source: tuple[dict, dict], alpha_from: Any, tmp_path: Path):
    metadata, more = source
    save_file(halves(QUERY, 16) | halves(KEYS, 16) | more, tmp_path / "a.safetensors", metadata)
    made = save(load(tmp_path / "a.safetensors", alpha_from=alpha_from), tmp_path / "made" / "made.safetensors")
    again = replay(load(made), tmp_path, tmp_path, CPU)
    assert save(again.lora, tmp_path / "again.safetensors").read_bytes() == made.read_bytes()


@pytest.mark.parametrize(
    ("options", "scale"), [({"lora_alpha": 64}, 1.0), ({"lora_alpha": 32, "use_rslora": True}, 8.0)]
)
def test_older_recipes_replay_with_the_scale_of_their_time(options: dict[str, Any], scale: float, tmp_path: Path):
    """They don't say where the alpha is from: then only an rsLoRA's header counted."""
    path = write(tmp_path / "a.safetensors", header(r=16, **options))
    merged = merge_factors([load(path)])
    recipe = json.loads(merged.metadata[KEY])
    del recipe["inputs"][0]["alpha_from"]
    old = replace(merged, metadata={**merged.metadata, KEY: json.dumps(recipe)})
    again = replay(old, tmp_path, tmp_path, CPU).lora
    plain = load(path, alpha_from="tensors")
    wanted = plain.modules[QUERY].dense() * scale
    assert oracle.distance(again.modules[QUERY].dense().double().numpy(), wanted.double().numpy()) <= 1e-6


def test_a_recipe_with_an_unknown_switch_is_refused(tmp_path: Path):
    merged = merge_factors([load(write(tmp_path / "a.safetensors", header(r=16, lora_alpha=64)))])
    broken = merged.metadata[KEY].replace('"trainer"', '"elsewhere"')
    with pytest.raises(ValueError, match="elsewhere"):
        replay(replace(merged, metadata={KEY: broken}), tmp_path, tmp_path, CPU)


def test_the_command_line_has_alpha_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write(tmp_path / "a.safetensors", header(r=16, lora_alpha=64))
    found = {}
    for alpha_from in ("trainer", "tensors"):
        out = tmp_path / f"{alpha_from}.safetensors"
        assert main(["merge", str(path), "-o", str(out), "--alpha-from", alpha_from]) == 0
        assert "note: a: the scale is" in capsys.readouterr().out
        found[alpha_from] = load(out)
        assert main(["replay", str(out)]) == 0
    queries = {key: next(m for m in lora.modules.values() if "to_q" in m.name) for key, lora in found.items()}
    norms = {key: float(torch.linalg.norm(module.dense())) for key, module in queries.items()}
    assert math.isclose(norms["trainer"], 4 * norms["tensors"], rel_tol=1e-5)
    assert main(["resize", str(path), "--rank", "2", "-o", str(tmp_path / "r.safetensors")]) == 0
    assert main(["info", str(path)]) == 0
    assert "note:    a: the scale is 4" in capsys.readouterr().out
