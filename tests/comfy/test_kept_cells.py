"""Cells that look as if they could be kept, but would be stale: something behind their inputs has changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lora_pack.merge.errors import LoraError
from lora_pack.tests.comfy.test_xy_grid_run import SEEDS, Clip, Model, OtherPacksCapsule, Runs, capsules, runs
from lora_pack.tests.comfy.xy_prompts import cells, difference, grid, sampling
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.make_lora import write_lora
from lora_pack.tools.workflows import MODEL, Node, checkpoint, node, picture

__all__ = ["runs"]  # the fixture

UNET = ("lora_unet_mid_block_attentions_0_proj_in", 1280, 1280, True)


def test_a_model_changed_in_place_is_sampled_again(server: Server):
    """Another setting of such a node, then the first again: the model is the same object in all three runs."""
    found = []
    for scale in (1.0, 0.5, 1.0):
        # a clone of its own, so that other tests' models stay as they are
        nodes = {
            **checkpoint(),
            "clone": node("RescaleCFG", model=MODEL, multiplier=0.123),
            "patched": node("Third-Party Patcher", model=["clone", 0], scale=scale),
            "steps": sampling("steps", "1"),
            **grid(["patched", 0], X=["steps", 0]),
        }
        own = picture(["patched", 0], steps=1)
        outputs = server.run({**nodes, **own, "latent": nodes["latent"]})
        found.append(cells(server, outputs, 1)[0, 0])
        assert difference(found[-1], cells(server, outputs, 1, "picture")[0, 0]) == 0, scale
    assert difference(found[0], found[1]) > 10 and difference(found[0], found[2]) == 0


@pytest.fixture
def upstream(comfy: ModuleType) -> Iterator[ModuleType]:
    from comfy_execution.graph import DynamicPrompt
    from comfy_execution.progress import reset_progress_state
    from lora_pack.xy import upstream

    yield upstream
    reset_progress_state("test", DynamicPrompt({}))


def before(upstream: ModuleType, prompt: dict[str, Node], of: str = "grid") -> str:
    from comfy_execution.graph import DynamicPrompt
    from comfy_execution.progress import reset_progress_state

    reset_progress_state("test", DynamicPrompt(prompt))
    return upstream.settings_before(of)


def wired(model: Node, grid_id: str = "grid", model_id: str = "m", **settings: Any) -> dict[str, Node]:
    return {
        "ckpt": node("Loader", name="a.safetensors"),
        model_id: model,
        "image": node("LoadImage", image="face.png"),
        grid_id: node("PM XY Grid", model=[model_id, 0], clip=["ckpt", 1], vae=["ckpt", 2], seed=1, **settings),
    }


PATCHER = node("Patcher", model=["ckpt", 0], image=["image", 0], weight=1.0)


@pytest.mark.parametrize(
    "change",
    [
        lambda prompt: prompt["m"]["inputs"].update(weight=0.5),
        lambda prompt: prompt["image"]["inputs"].update(image="other.png"),
        lambda prompt: prompt["image"].update(is_changed=["another file of that name"]),
        lambda prompt: prompt["m"].update(class_type="Other Patcher"),
        lambda prompt: prompt["grid"]["inputs"].update(vae=["ckpt", 3]),
        lambda prompt: prompt["grid"]["inputs"].update(model=["ckpt", 0]),
        lambda prompt: prompt["grid"]["inputs"].pop("clip"),
    ],
)
def test_every_setting_before_the_model_makes_another_cell(upstream: ModuleType, change: Any):
    prompt = wired(PATCHER | {"inputs": dict(PATCHER["inputs"])})
    first = before(upstream, prompt)
    assert before(upstream, prompt) == first != ""
    change(prompt)
    assert before(upstream, prompt) != first


def test_ids_of_nodes_and_settings_behind_the_model_make_no_other_cell(upstream: ModuleType):
    first = before(upstream, wired(PATCHER))
    renamed = wired(PATCHER, "12", "34", steps=30, X=["axis", 0]) | {"axis": node("XY: PM Sampling", values="1, 2")}
    assert before(upstream, renamed, "12") == first
    search = wired(PATCHER)
    search["grid"]["class_type"] = "PM LoRA Find Strengths"
    assert before(upstream, search) == first
    # values that have another text in each run, such as the objects that a loop passes on
    assert len({before(upstream, wired(node("Patcher", model=["ckpt", 0], given=object()))) for _ in range(2)}) == 1
    assert len({before(upstream, wired(PATCHER | {"is_changed": [float("nan")]})) for _ in range(2)}) == 1


def test_a_program_without_a_prompt_has_nothing_before_its_model(upstream: ModuleType):
    assert before(upstream, {}, "grid") == upstream.settings_before(None) == ""


@pytest.fixture
def embeddings(comfy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder with embeddings."""
    import folder_paths

    endings = folder_paths.folder_names_and_paths["embeddings"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([str(tmp_path)], endings))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    (tmp_path / "style").mkdir()
    for name in ("style/ink.v2.safetensors", "other.pt"):
        (tmp_path / name).write_bytes(b"an embedding")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a cat, ink.v2, other", False),
        ("a cat, embedding:ink.v2", True),
        ("(embedding:ink.v2:1.2), a cat", True),
        ("embedding:ink.v2, a cat", True),
        ("embedding:ink.v2.safetensors", True),
        ("embedding:style/ink.v2<b>", True),
        ("embedding:other", False),
        ("embedding:ink", False),
        ("embedding:missing embedding:", False),
    ],
)
def test_a_changed_embedding_is_encoded_again_where_its_name_is_in_the_text(
    runs: Runs, embeddings: Path, text: str, named: bool
):
    inputs = runs.inputs()
    runs.base = replace(runs.base, positive=text)
    for content in (b"an embedding", b"another embedding", b"another embedding"):
        (embeddings / "style" / "ink.v2.safetensors").write_bytes(content)
        os.utime(embeddings / "style" / "ink.v2.safetensors", (len(content), len(content)))
        runs.draw(SEEDS, None, inputs=inputs)
    assert len(runs.sampled) == 3 * (2 if named else 1)


def test_brackets_in_the_name_of_an_embedding_are_escaped_in_the_text(embeddings: Path):
    from lora_pack.xy.comfy_sampling import embeddings_in

    (embeddings / "neg(v1).pt").write_bytes(b"an embedding")
    assert [file for file, *_ in embeddings_in("embedding:neg\\(v1\\), a cat")] == ["neg(v1).pt"]


def test_the_embeddings_of_a_text_that_is_not_used_do_not_count(runs: Runs, embeddings: Path):
    inputs = runs.inputs(positive="given")
    for content in (b"an embedding", b"another embedding"):
        (embeddings / "other.pt").write_bytes(content)
        runs.base = replace(runs.base, positive="embedding:other")
        runs.draw(SEEDS, None, inputs=inputs)
    assert len(runs.sampled) == 3


@pytest.mark.parametrize("changed", ["tokenizer_options", "apply_hooks_to_conds"])
def test_a_text_is_encoded_again_by_a_text_encoder_with_other_options(runs: Runs, changed: str):
    class Options(OtherPacksCapsule):
        def pre_define_model(self, model: Model, clip: Clip, vae: Any) -> tuple[Model, Clip, Any]:
            model, clip, vae = super().pre_define_model(model, clip, vae)
            setattr(clip, changed, {"t5xxl_min_length": len(self.name)} if "options" in changed else self)
            return model, clip, vae

    runs.draw(capsules(Options("p", []), Options("qq", [])), None)
    assert sorted(runs.encoded) == ["a cat", "a cat", "bad", "bad"]


def test_a_file_that_changes_while_the_plot_is_sampled_is_refused_by_its_name(
    runs: Runs, server: Server, comfy: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    """Half of the grid would show the old file, and the new file's pictures would be kept as the old one's."""
    import folder_paths
    from lora_pack.xy import sweep
    from lora_pack.xy.capsule import axis
    from lora_pack.xy.cell import Cell

    folders = [str(server.loras)], folder_paths.folder_names_and_paths["loras"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", folders)
    # the models here have no weights that could be asked or patched
    monkeypatch.setattr(sweep, "_base_models", lambda model, clip: [])
    monkeypatch.setattr(sweep, "model_names", lambda model, clip: None)
    monkeypatch.setattr(sweep, "apply_lora", lambda model, clip, lora: (model.patched(lora.name), clip))
    path = server.loras / "last.safetensors"
    write_lora(path, rank=2, seed=1, modules=[UNET])
    swept = sweep.Sweep([sweep.LoraFile("last.safetensors")], Cell("concat"), device="cpu", dtype="float32")
    plotted = axis(swept, [({"strength 1": value}, str(value)) for value in (0.5, 1.0)])
    inputs = runs.inputs()

    def overwrite(place: tuple[int, int]) -> None:
        if place == (1, 0):
            write_lora(path, rank=4, seed=2, modules=[UNET])

    axes = runs.axis.read_axis("X", plotted), runs.axis.read_axis("Y", None)
    plan = runs.axis.samplings(runs.base, *axes)
    with pytest.raises(LoraError, match=r"last has changed since this plot began\. Run the workflow again"):
        list(runs.run.sample_cells(inputs, *axes, plan, begins=overwrite))
    assert len(runs.sampled) == 1
    runs.draw(plotted, None, inputs=inputs)
    assert len(runs.sampled) == 3  # neither of the new file's cells was kept from the old one
    path.unlink()


@pytest.mark.parametrize(
    ("latent", "mask", "expected"),
    [
        ((2, 4, 8, 8), (2, 1, 64, 64), (1, 1, 64, 64)),
        ((2, 4, 8, 8), (2, 64, 64), (1, 64, 64)),
        ((2, 4, 8, 8), (64, 64), (64, 64)),
        ((2, 16, 5, 8, 8), (2, 1, 5, 8, 8), (1, 1, 5, 8, 8)),
        ((2, 16, 5, 8, 8), (17, 1, 64, 64), (17, 1, 64, 64)),  # of a video: a mask for each frame
    ],
)
def test_the_first_of_several_latents_has_its_own_mask(
    runs: Runs, latent: tuple[int, ...], mask: tuple[int, ...], expected: tuple[int, ...]
):
    import comfy.utils

    given = {"samples": torch.zeros(latent), "noise_mask": torch.rand(mask)}
    found = runs.grid.first_latent(given)
    assert found["noise_mask"].shape == expected and found["samples"].shape == (1, *latent[1:])
    whole = comfy.utils.reshape_mask(given["noise_mask"], latent)[:1]
    assert torch.equal(comfy.utils.reshape_mask(found["noise_mask"], (1, *latent[1:])), whole)
