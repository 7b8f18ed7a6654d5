"""Tensors in a file that are not part of its LoRA: embeddings are passed through, unknown ones left out and named."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_pack.merge.cli.program import main
from lora_pack.merge.compute.context import CPU
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save
from lora_pack.merge.formats import from_state_dict, to_state_dict
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.merging.resize import resize
from lora_pack.merge.replay import replay
from lora_pack.tests.support.makers import at, make_lora, state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor

SHAPES = {
    "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k": (640, 768),
    "lora_te_text_model_encoder_layers_0_self_attn_k_proj": (768, 768),
}


def embedding(word: str, seed: int = 0) -> dict[str, Tensor]:
    """As OneTrainer bundles one of SDXL (modules/util/convert/lora)."""
    noise = torch.Generator().manual_seed(seed)
    sizes = {"clip_l": 768, "clip_g": 1280, "clip_l_out": 768}
    return {f"bundle_emb.{word}.{part}": torch.randn(2, size, generator=noise) for part, size in sizes.items()}


def write(folder: Path, name: str, seed: int, *others: dict[str, Tensor]) -> Path:
    tensors = state_dict(make_lora(seed, shapes=SHAPES))
    for other in others:
        tensors |= other
    save_file(tensors, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def embeddings_in(path: Path) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in load_file(path).items() if key.startswith("bundle_emb.")}


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_an_embedding_does_not_change_the_merge(tmp_path: Path):
    plain, bundled = (load(write(tmp_path, name, 1, more)) for name, more in (("a", {}), ("b", embedding("cat"))))
    other = load(write(tmp_path, "c", 2))
    for merge in (merge_factors, merge_deltas):
        tensors, wanted = (to_state_dict(merge([lora, other])) for lora in (bundled, plain))
        assert same(tensors, wanted), "PM Apply LoRA gets no embeddings"


WORKS: dict[str, Any] = {
    "saved": lambda lora, other: lora,
    "weighted": lambda lora, other: at(lora, 0.5),
    "merged": lambda lora, other: merge_factors([other, lora]),
    "merged by SVD": lambda lora, other: merge_deltas([lora, other], rank=2),
    "resized": lambda lora, other: resize(lora, 2),
    "merged, weighted, resized": lambda lora, other: resize(at(merge_factors([lora, other]), 2.0), 3),
}


@pytest.mark.parametrize("style", [None, "kohya", "comfyui"])
@pytest.mark.parametrize("dtype", [None, torch.float16])
@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
def test_an_embedding_passes_through_unchanged(work: Any, dtype: Any, style: Any, tmp_path: Path):
    words = embedding("cat") | embedding("dog", 2)
    lora, other = load(write(tmp_path, "a", 1, words)), load(write(tmp_path, "b", 2))
    written = save(work(lora, other), tmp_path / "c.safetensors", dtype, style=style)
    assert same(embeddings_in(written), words)
    again = replay(load(written), tmp_path, tmp_path, CPU)
    repeated = save(again.lora, tmp_path / "d.safetensors", again.dtype, style=again.names)
    assert repeated.read_bytes() == written.read_bytes()


def test_a_merge_keeps_all_embeddings_but_drops_conflicting_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    first = load(write(tmp_path, "first", 1, embedding("cat", 1), embedding("dog", 2)))
    second = load(write(tmp_path, "second", 2, embedding("cat", 1), embedding("fox", 3)))
    third = load(write(tmp_path, "third", 3, embedding("dog", 4)))
    merged = merge_factors([first, second])
    written = save(merged, tmp_path / "two.safetensors")
    assert merged.notes == ()
    assert same(embeddings_in(written), embedding("cat", 1) | embedding("dog", 2) | embedding("fox", 3))
    merged = merge_factors([first, second, third])
    written = save(merged, tmp_path / "three.safetensors")
    assert same(embeddings_in(written), embedding("cat", 1) | embedding("fox", 3))
    note = "The embedding dog is left out: those of first, third differ."
    assert merged.notes == (note,) and note in caplog.text
    of_other_parts = {"bundle_emb.dog.t5": torch.ones(1, 4096)}
    assert merge_factors([first, load(write(tmp_path, "fourth", 4, of_other_parts))]).notes
    assert not merge_factors([first, at(third, 0.0)]).notes, "a LoRA of strength 0 takes no part in the merge"


def test_files_for_diffusers_have_no_embeddings_and_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    lora = load(write(tmp_path, "a", 1, embedding("cat")))
    assert embeddings_in(save(lora, tmp_path / "b.safetensors", style="peft")) == {}
    assert "a: its embeddings (cat) are left out" in caplog.text


def test_a_file_of_embeddings_alone_is_refused():
    with pytest.raises(LoraError, match="has no LoRA weights"):
        from_state_dict(embedding("cat"), "cat")


def test_an_embedding_with_nan_is_refused():
    broken = {key: torch.full_like(tensor, float("nan")) for key, tensor in embedding("cat").items()}
    with pytest.raises(LoraError, match=r"bundle_emb\.cat\.clip_l .*NaN"):
        from_state_dict(state_dict(make_lora(1)) | broken, "a")


def test_an_embedding_stays_in_its_file_until_it_is_written(tmp_path: Path):
    lora = load(write(tmp_path, "a", 1, embedding("cat")))
    assert not any(isinstance(value, Tensor) for value in lora.extras.values())
    write(tmp_path, "a", 2)
    with pytest.raises(LoraError, match="changed since it was loaded"):
        next(iter(lora.extras.values())).materialize()


# --- lightx2v's and others' ---

MODULATIONS = {f"diffusion_model.blocks.{n}.diff_m": torch.ones(1, 6, 8) for n in range(40)}


def wan(*others: dict[str, Tensor]) -> dict[str, Tensor]:
    """As lightx2v's distilled LoRAs of Wan: factors, biases and norms, and a modulation for each block."""
    tensors: dict[str, Tensor] = {}
    for n in range(2):
        module = f"diffusion_model.blocks.{n}.self_attn.q"
        tensors |= {f"{module}.lora_up.weight": torch.ones(8, 2), f"{module}.lora_down.weight": torch.ones(2, 8)}
        tensors |= {f"{module}.diff_b": torch.ones(8), f"diffusion_model.blocks.{n}.norm3.diff": torch.ones(8)}
    for other in others:
        tensors |= other
    return tensors


def test_modulations_that_comfyui_does_not_map_are_left_out_by_name(caplog: pytest.LogCaptureFixture):
    lora = from_state_dict(wan(MODULATIONS), "lightx2v")
    assert to_state_dict(lora).keys() == to_state_dict(from_state_dict(wan(), "lightx2v")).keys()
    (note,) = lora.notes
    assert note.startswith("lightx2v: 40 tensors are left out (diffusion_model.blocks.0.diff_m, ")
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [(logging.WARNING, note)]
    assert merge_factors([lora, from_state_dict(wan(), "b")]).notes == (note,)
    assert resize(lora, 1).notes == (note,)


@pytest.mark.parametrize(
    "key",
    [
        *["model.diffusion_model.input_blocks.0.0.weight", "emb_params", "lora_unet_odd.scalar", "", ".", "x" * 9000],
        *["base_model.model.head.weight", "diffusion_model.head.diff_m", "lora_unet_x.diff_m", "..." * 3000],
    ],
)
def test_tensors_outside_adapters_are_left_out_by_name(key: str):
    plain = state_dict(make_lora(1)) | {
        "lora_unet_x.lora_up.weight": torch.ones(3, 2),
        "lora_unet_x.lora_down.weight": torch.ones(2, 3),
    }
    lora = from_state_dict(plain | {key: torch.ones(3, 3)}, "a")
    assert to_state_dict(lora).keys() == to_state_dict(from_state_dict(plain, "a")).keys()
    (note,) = lora.notes
    assert f"a: 1 tensor is left out ({key})"[:1000] in note and len(note) < 2500


def test_control_characters_in_names_do_not_reach_the_terminal():
    (note,) = from_state_dict(wan({"\x1b[2J\x00": torch.ones(1)}), "a").notes
    assert note.isprintable() and "\\x1b[2J\\x00" in note


def test_the_command_line_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_file(wan(MODULATIONS), tmp_path / "a.safetensors")
    assert main(["merge", str(tmp_path / "a.safetensors"), "-o", str(tmp_path / "b.safetensors")]) == 0
    assert "note: a: 40 tensors are left out" in capsys.readouterr().out
