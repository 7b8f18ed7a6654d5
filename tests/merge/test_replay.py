"""Making files again from their recipes: the same bytes, or an error that names the problem."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.block_weights.apply import with_block_weights
from lora_pack.merge.cli.program import main
from lora_pack.merge.compute.context import CPU, Compute
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save
from lora_pack.merge.merging.key_resolver import ModelNames, resolver_for
from lora_pack.merge.merging.matching import group_by_weight
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.merging.resize import METHODS, resize
from lora_pack.merge.names.recognition import architecture_named
from lora_pack.merge.provenance.recipe import FROM_MODEL, KEY
from lora_pack.merge.provenance.recipe_text import MAX_GENERATIONS, STEPS, parsed
from lora_pack.merge.replay import replay
from lora_pack.tests.support.makers import at, examples, make_lora
from lora_pack.tests.support.merging import ALL_MODES, merge

SHAPES = {
    "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k": (640, 768),
    "lora_unet_mid_block_attentions_0_proj_in": (1280, 1280, 1, 1),
    "lora_te_text_model_encoder_layers_0_self_attn_k_proj": (768, 768),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in (1, 2, 3):
        save(make_lora(seed, shapes=SHAPES, ranks=[3, 5]), tmp_path / "loras" / f"lora{seed}.safetensors")
    return tmp_path / "loras"


def file(folder: Path, number: int, model: float = 1.0, clip: float = 1.0, lbw: str = "") -> Lora:
    return with_block_weights(at(load(folder / f"lora{number}.safetensors"), model, clip), lbw)


BLOCKS = "1,0.5,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"
WORKS: dict[str, Callable[[Path], Lora]] = {
    **{
        mode: lambda f, mode=mode: merge(mode, [file(f, 1, 0.7, -0.3), file(f, 2)], 0.4, rank=3, conv_rank=2, seed=5)
        for mode in ALL_MODES
    },
    **{
        f"resize {method}": lambda f, method=method: resize(
            file(f, 1, 0.5), 2, 0, method, 2.0 if method == "sv_ratio" else 0.6
        )
        for method in METHODS
    },
    "load": lambda f: file(f, 2, 0.5, 0.0),
    "block weights": lambda f: merge("ties", [file(f, 1, lbw=BLOCKS), file(f, 2, 0.0)], 0.5),
    "one file twice": lambda f: merge("concat", [file(f, 1), file(f, 1, -0.5)]),
    "nested": lambda f: at(
        merge("add_svd", [at(resize(merge("concat", [file(f, 1), file(f, 2, 0.5)]), 4), 0.5, 2.0), file(f, 3)], rank=3),
        1.5,
    ),
    "half precision": lambda f: merge("ties_svd", [file(f, 1)], 0.5, rank=2, compute=Compute(dtype=torch.float16)),
}


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
@pytest.mark.parametrize("dtype, names", [(None, None), (torch.float16, "comfyui")])
def test_replay_gives_the_same_bytes(
    work: Callable[[Path], Lora], dtype: Any, names: Any, folder: Path, tmp_path: Path
):
    made = save(work(folder), tmp_path / "made.safetensors", dtype, style=names)
    elsewhere = tmp_path / "elsewhere" / "deeper"
    shutil.copytree(folder, elsewhere)
    (elsewhere / "lora1.safetensors").rename(elsewhere / "renamed.safetensors")
    again = replay(load(made), tmp_path / "elsewhere", tmp_path, CPU)
    written = save(again.lora, tmp_path / "again.safetensors", again.dtype, style=again.names)
    assert written.read_bytes() == made.read_bytes()


@pytest.mark.parametrize("again_by", [resize, lambda lora, rank: merge("add_svd", [lora], rank=rank)])
def test_a_family_that_was_chosen_by_hand_is_chosen_again(again_by: Callable[[Lora, int], Lora], tmp_path: Path):
    """Flux and AuraFlow have this name; only with the family is there a kohya name, and metadata on the base model."""
    both = {"transformer.single_transformer_blocks.0.attn.to_q": (3072, 3072)}
    source = save(make_lora(1, shapes=both), tmp_path / "loras" / "either.safetensors")
    chosen = replace(load(source), architecture=architecture_named("AuraFlow"))
    made = save(again_by(chosen, 2), tmp_path / "made.safetensors", style="kohya")
    again = replay(load(made), source.parent, tmp_path, CPU)
    written = save(again.lora, tmp_path / "again.safetensors", again.dtype, style=again.names)
    assert written.read_bytes() == made.read_bytes()


@pytest.mark.parametrize("dtype, names", [(None, None), (torch.float16, "peft")])
def test_a_missing_merged_input_is_made_again_from_its_own_recipe(
    dtype: Any, names: Any, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """With the strengths, dtype and names that it was saved with."""
    merged = at(merge("ties", [file(folder, 1), file(folder, 2)], 0.5), 0.5, -2.0)
    inner = save(merged, folder / "inner.safetensors", dtype, style=names)
    outer = save(merge("add_svd", [at(load(inner), 0.7), file(folder, 3)], rank=3), tmp_path / "outer.safetensors")
    inner.unlink()
    again = replay(load(outer), folder, tmp_path / "scratch", CPU)
    assert save(again.lora, tmp_path / "again.safetensors").read_bytes() == outer.read_bytes()
    assert "the file is not identical" not in caplog.text


def test_all_missing_and_changed_inputs_are_named_at_once(folder: Path, tmp_path: Path):
    made = save(merge("concat", [file(folder, n) for n in (1, 2, 3)]), tmp_path / "made.safetensors")
    (folder / "lora1.safetensors").unlink()
    save(make_lora(9, shapes=SHAPES), folder / "lora2.safetensors", overwrite=True)
    with pytest.raises(LoraError, match=r"lora1.safetensors is missing .*lora2.safetensors has changed") as error:
        replay(load(made), folder, tmp_path, CPU)
    assert "lora3" not in str(error.value)


def doubled(lora: Lora, times: int) -> Lora:
    for _ in range(times):
        lora = merge("add_svd", [at(lora, 0.5), at(lora, 0.25)], rank=2)
    return lora


def test_a_step_with_several_uses_is_made_only_once(folder: Path, tmp_path: Path):
    made = save(doubled(file(folder, 1), 60), tmp_path / "made.safetensors")  # nested, 2**60 merges
    again = replay(load(made), folder, tmp_path, CPU)
    assert save(again.lora, tmp_path / "again.safetensors").read_bytes() == made.read_bytes()


def test_a_missing_input_with_several_uses_is_named_only_once(folder: Path, tmp_path: Path):
    made = save(doubled(file(folder, 1), 60), tmp_path / "made.safetensors")
    (folder / "lora1.safetensors").unlink()
    with pytest.raises(LoraError) as error:
        replay(load(made), folder, tmp_path, CPU)
    assert str(error.value).count("lora1.safetensors") == 1


@pytest.fixture(scope="module")
def long_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of saved merges in sequence, ten more than a recipe can hold: 0, 1, ... last."""
    folder = tmp_path_factory.mktemp("history")
    lora = load(save(make_lora(1, shapes={"layer": (4, 3)}, ranks=[1]), folder / "first.safetensors"))
    for number in range(MAX_GENERATIONS + 10):
        lora = load(save(merge("add_svd", [at(lora, 0.5), at(lora, 0.25)], rank=1), folder / f"{number}.safetensors"))
    (folder / f"{number}.safetensors").rename(folder / "last.safetensors")
    return folder


@pytest.mark.slow
def test_the_oldest_step_of_a_long_history_can_be_replaced_by_its_file(long_history: Path, tmp_path: Path):
    """The files between the oldest in the recipe and the last are missing, and are made again."""
    made, loras = long_history / "last.safetensors", tmp_path / "loras"
    loras.mkdir()
    oldest = "8.safetensors"  # the last was made of 108, that of 107, and so on for 100 generations
    shutil.copy(long_history / oldest, loras / "renamed.safetensors")
    again = replay(load(made), loras, tmp_path / "scratch", CPU)
    assert save(again.lora, tmp_path / "again.safetensors").read_bytes() == made.read_bytes()
    (loras / "renamed.safetensors").unlink()
    with pytest.raises(LoraError, match=rf"{oldest} is missing .* The recipe no longer says how it was made\."):
        replay(load(made), loras, tmp_path / "scratch", CPU)


def test_loras_that_files_cannot_reproduce_are_refused(folder: Path, tmp_path: Path):
    dora = replace(file(folder, 1), source={**file(folder, 1).source, FROM_MODEL: True})
    unknown = [merge("concat", [dora]), merge("concat", [make_lora(1, shapes=SHAPES, name="from nowhere")])]
    for lora, words in zip(unknown, ("a model's weights", "from nowhere did not come from a file"), strict=True):
        made = save(lora, tmp_path / "made.safetensors", overwrite=True)
        with pytest.raises(LoraError, match=words):
            replay(load(made), folder, tmp_path, CPU)
    with pytest.raises(LoraError, match="has no recipe"):
        replay(make_lora(1), folder, tmp_path, CPU)


def test_a_merge_whose_names_a_model_resolved_is_refused(folder: Path, tmp_path: Path):
    unknown = make_lora(1, shapes={"unknown_layer": (8, 6)}, name="unknown")
    path = save(unknown, folder / "unknown.safetensors")
    assert group_by_weight([unknown], resolver_for([unknown]))
    merged = merge_factors([load(path)], model=ModelNames(None, lambda name: None))
    with pytest.raises(LoraError, match="connected model decided"):
        replay(load(save(merged, tmp_path / "made.safetensors")), folder, tmp_path, CPU)


def test_replay_on_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made, again = folder / "made.safetensors", tmp_path / "again.safetensors"
    inputs = [f"{folder}/lora1.safetensors:0.5", f"{folder}/lora2.safetensors:-1:0.25"]
    assert main(["merge", *inputs, "--mode", "dare_ties_svd", "--density", "0.5", "--seed", "3", "-o", str(made)]) == 0
    capsys.readouterr()
    assert main(["replay", str(made)]) == 0
    assert "the same tensors" in capsys.readouterr().out and not again.exists()
    assert main(["replay", str(made), "--loras", str(folder), "-o", str(again)]) == 0
    assert again.read_bytes() == made.read_bytes()
    changed = bytearray(made.read_bytes())
    changed[-1] ^= 1
    made.write_bytes(changed)
    assert main(["replay", str(made)]) == 1
    printed = capsys.readouterr()
    assert "NOT the same" in printed.out and printed.err.startswith("error: ")
    shutil.rmtree(folder / "none", ignore_errors=True)
    assert main(["replay", str(made), "--loras", str(tmp_path / "empty")]) == 1
    assert "lora1.safetensors is missing in empty" in capsys.readouterr().err


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["merge", "resize", "load", "1" * 64, ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["operation", "inputs", "mode", "made", "sha256", "size", "rank", "dtype", "names", "name", STEPS]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@examples(400)
@given(JSON)
def test_a_recipe_with_random_content_is_refused(tmp_path_factory: pytest.TempPathFactory, content: object):
    lora = make_lora(1, metadata={KEY: json.dumps(content)})
    with pytest.raises(LoraError):
        replay(lora, tmp_path_factory.getbasetemp() / "nothing", tmp_path_factory.getbasetemp(), CPU)


def test_recipes_nested_beyond_the_recursion_limit():
    assert parsed("[" * 100_000) == "[" * 100_000
    nested: dict[str, Any] = {"operation": "load", "inputs": []}
    for _ in range(200):
        nested = {"operation": "load", "inputs": [{"name": "x", "made": nested}]}
    with pytest.raises(LoraError):
        replay(make_lora(1, metadata={KEY: json.dumps(nested)}), Path("nothing"), Path("nothing"), CPU)
