"""XY: PM LoRA Files in this process: which files it lists, and what its cells are."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import save
from lora_pack.tests.comfy.test_xy_capsules import A, B, Pack, contents, few_modules, pack, pairs
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.make_lora import write_lora
from safetensors.torch import save_file

__all__ = ["pack"]  # the fixture

RUN = "sweep_run"
EPOCHS = ["style-2", "style-10", "style"]
OTHERS = ["ink[v2].test", "deep/ink", "deep/style-2"]


@pytest.fixture(scope="module", autouse=True)
def run(pack: Pack, server: Server) -> Iterator[Path]:  # noqa: F811
    """A folder of a training run, its files a second apart in this order, with a folder in it."""
    folder = server.loras / RUN
    (folder / "deep").mkdir(parents=True)
    for age, name in enumerate([*EPOCHS, *OTHERS]):
        path = folder / f"{name}.safetensors"
        write_lora(path, rank=2, seed=age, modules=few_modules())
        os.utime(path, ns=(10**18, 10**18 + age * 10**9))
    yield folder
    shutil.rmtree(folder)  # the first file is what a new loader has


def files(pack: Pack, text: str = "", **settings: Any) -> Any:
    node = {"files": text, "folder": RUN, "order": "name", "limit": 0, "strength_model": 1.0, "strength_clip": 1.0}
    return pack.xy["XY: PM LoRA Files"]().plot(**node | settings)[0]


def labels(axis: Any) -> list[str]:
    return [capsule.getLabel() for capsule in axis[1]]


def described(axis: Any) -> list[str]:
    """The files of the cells, without the folder of the run."""
    found = [capsule.sweep.describe(capsule.settings)["loras"][-1]["file"] for capsule in axis[1]]
    return [file.removeprefix(f"{RUN}/").removesuffix(".safetensors") for file in found]


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("", {}, ["deep/ink", "deep/style-2", "ink[v2].test", "style-2", "style-10", "style"]),
        ("", {"order": "newest first", "limit": 2}, ["deep/style-2", "deep/ink"]),
        ("", {"order": "oldest first", "limit": 3}, EPOCHS),
        ("", {"folder": f"{RUN}/deep"}, ["deep/ink", "deep/style-2"]),
        ("style-10\nstyle-2", {"folder": "/"}, ["style-10", "deep/style-2", "style-2"]),
        ("style-10\nstyle-2", {}, ["style-10", "style-2"]),  # style-2 is a path in the folder
        (f"{RUN}/style-2.safetensors\n\n  deep\\style-2 ", {}, ["style-2", "deep/style-2"]),
        ("style\nstyle-*", {}, ["style", "deep/style-2", "style-2", "style-10"]),
        ("style-?\nSTYLE-2", {}, ["deep/style-2", "style-2"]),
        ("style*", {"limit": 2}, ["deep/style-2", "style-2"]),
        ("deep/*", {}, ["deep/ink", "deep/style-2"]),
        ("*/ink", {}, ["deep/ink"]),
        ("ink[v2].test", {}, ["ink[v2].test"]),
    ],
)
def test_files_are_listed(pack: Pack, text: str, settings: dict[str, Any], expected: list[str]):
    assert described(files(pack, text, **settings)) == expected


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("style-2\nstyle-11", {}, f"files has 'style-11', which no LoRA file in the folder {RUN} fits"),
        ("ink-*", {}, "files has 'ink-*', which no LoRA file"),
        ("", {"folder": "nowhere"}, "There is no LoRA file in the folder nowhere"),
        ("a", {}, "files has 'a', which no LoRA file in the folder"),  # it is in another one
        ("style", {"base": "style"}, "base: expected a LoRA"),
    ],
)
def test_what_fits_no_file_is_refused(pack: Pack, text: str, settings: dict[str, Any], message: str):
    with pytest.raises(LoraError, match=re.escape(message)):
        files(pack, text, **settings)


def test_accents_are_found_however_the_disk_stores_them(monkeypatch: pytest.MonkeyPatch, pack: Pack):
    from lora_pack.nodes import comfy_bridge
    from lora_pack.xy.file_list import chosen_files

    stored, typed = (unicodedata.normalize(form, "r\N{LATIN SMALL LETTER E WITH ACUTE}tro") for form in ("NFD", "NFC"))
    monkeypatch.setattr(comfy_bridge, "lora_names", lambda: [f"{stored}.safetensors"])
    assert chosen_files(f"{typed}\nr?tro", "/", "name", 0) == [f"{stored}.safetensors"]


@pytest.mark.parametrize(
    "in_order",
    [
        ["style-000009", "style-000010", "style-step00000500", "style"],  # of sd-scripts and musubi-tuner
        ["style_000000250", "style_000000500", "style_000001000", "style"],  # of AI Toolkit
        ["style_epoch_2", "style_epoch_10", "style"],
        ["deep/style_000000250", "deep/style", "style"],
        ["merged", "merged_00002", "merged_00010"],  # of PM Save LoRA, whose first has no number
        ["1²3", "2", "²"],  # ² is a digit, but no number
    ],
)
@pytest.mark.parametrize("slash", "/\\")
def test_epochs_and_steps_are_in_their_order_with_the_last_file_last(in_order: list[str], slash: str):
    from lora_pack.xy.file_list import FILE_ORDERS

    names = [f"run/{name}.safetensors".replace("/", slash) for name in in_order]
    assert sorted(sorted(names, reverse=True), key=FILE_ORDERS["name"]) == names


def test_a_damaged_file_is_refused_at_the_node_by_its_name(pack: Pack, run: Path):
    torn = run / "torn.safetensors"
    torn.write_bytes(b"\x10\0\0\0\0\0\0\0{")
    try:
        with pytest.raises(LoraError, match="torn.safetensors is not a complete safetensors file.* Or leave it out"):
            files(pack)
        assert labels(files(pack, "style-2")) == ["style-2"]
    finally:
        torn.unlink()


def test_labels_tell_files_apart(pack: Pack):
    from lora_pack.xy.values import LABEL_LENGTH, distinct_labels

    assert labels(files(pack, "style-*")) == [f"{RUN}/deep/style-2", f"{RUN}/style-2", "style-10"]
    head, tail = "a_style_with_a_very_long_name_", "_and_what_else_it_has_000010"
    for names in (
        [f"{head}{epoch}{tail}" for epoch in ("v1", "v2", "v3-longer")],
        [f"x/{head}{tail}{tail}", f"y/{head}{tail}{tail}"],
        ["a" * 50, "a" * 60, "a" * 61],
        [f"{head}{n}{tail}{tail}{m}{tail}" for n in "12" for m in "12"],
    ):
        found = distinct_labels(names)
        assert len(set(found)) == len(names) and max(map(len, found)) <= LABEL_LENGTH, found
    assert "v1" in distinct_labels([f"{head}v1{tail}", f"{head}v2{tail}"])[0]


def test_files_that_differ_in_their_ending_have_it_in_their_label(pack: Pack, run: Path):
    twin = run / "style-2.sft"
    shutil.copyfile(run / "style-2.safetensors", twin)
    try:
        assert labels(files(pack, f"{RUN}/style-2\nstyle-10")) == ["style-2.safetensors", "style-2.sft", "style-10"]
    finally:
        twin.unlink()


def test_a_cell_has_its_file_alone(pack: Pack):
    axis = files(pack, "style-2\nstyle-10", strength_model=0.5, strength_clip=0.25)
    for place, name in enumerate(("style-2", "style-10")):
        lora = pack.load(f"{RUN}/{name}.safetensors", (0.5, 0.25))
        expected = pack.nodes["PM LoRA Merger"]().merge("concat", 1.0, "cpu", "float32", lora1=lora)["result"][0]
        model, clip = pack.apply(pack.model, pack.clip, expected)
        assert pairs(pack.plot(axis, None).cells)[place, 0] == (contents(model.patches), contents(clip.patcher.patches))


def test_a_file_alone_that_concat_would_have_to_decompose_is_applied_as_it_is(pack: Pack, run: Path):
    name, rows, columns, _ = next(module for module in few_modules() if not module[3])
    full = run / "full.safetensors"
    save_file({f"{name}.diff": torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))}, full)
    try:
        axis = files(pack, "full", strength_model=0.5, strength_clip=0.5)
        model, clip = pack.apply(pack.model, pack.clip, pack.load(f"{RUN}/full.safetensors", 0.5))
        expected = contents(model.patches), contents(clip.patcher.patches)
        assert pairs(pack.plot(axis, None).cells) == {(0, 0): expected}
        assert pairs(pack.plot(files(pack, "full", base=pack.load(B)), None).cells) != {(0, 0): expected}
        settings = axis[1][0].settings
        described = axis[1][0].sweep.describe(settings)
        assert list(described) == ["loras"], "the nodes of the cell would have a merger that it hasn't"
        merged, _ = pack.xy["XY: PM LoRA Sweep"]().plot(
            **{"mode": "concat", "density": 0.6, "svd_rank": 0, "svd_conv_rank": 0, "device": "auto"},
            **{"dtype": "float32", "x_values": "1", "lora1": pack.load(f"{RUN}/full.safetensors", 0.5)},
        )
        identities = [one.sweep.identity(one.settings) for one in (axis[1][0], merged[1][0])]
        assert identities[0] != identities[1], "they are sampled from different patches"
    finally:
        full.unlink()


def test_a_base_is_merged_with_each_file_by_concat(pack: Pack, tmp_path: Path):
    axis = files(pack, "style-*", base=pack.load(B, 0.7), strength_model=0.5, strength_clip=0.5)
    for capsule, name in zip(axis[1], ("deep/style-2", "style-2", "style-10"), strict=True):
        loras = {"lora1": pack.load(B, 0.7), "lora2": pack.load(f"{RUN}/{name}.safetensors", 0.5)}
        merged = pack.nodes["PM LoRA Merger"]().merge("concat", 0.6, "cpu", "float32", **loras)["result"][0]
        cell = capsule.sweep.lora(capsule.settings, pack.model, pack.clip)
        found, expected = (save(lora, tmp_path / "merged.safetensors") for lora in (cell, merged))
        assert found.read_bytes() == expected.read_bytes()


def test_files_and_a_sweep_are_both_applied(pack: Pack):
    axis = files(pack, "style-2")
    inputs = {"mode": "concat", "density": 0.6, "svd_rank": 0, "svd_conv_rank": 0, "device": "cpu", "dtype": "float32"}
    sweep = pack.xy["XY: PM LoRA Sweep"]
    x, _ = sweep().plot(**inputs, x_parameter="strength 1", x_values="0.5", lora1=pack.load(A))
    model, clip = pack.model, pack.clip
    for name, strength in ((f"{RUN}/deep/style-2.safetensors", 1.0), (A, 0.5)):
        lora = pack.load(name, strength)
        merged = pack.nodes["PM LoRA Merger"]().merge("concat", 1.0, "cpu", "float32", lora1=lora)["result"][0]
        model, clip = pack.apply(model, clip, merged)
    expected = contents(model.patches), contents(clip.patcher.patches)
    assert pairs(pack.plot(files(pack, "deep/style-2"), x).cells) == {(0, 0): expected}
    assert pairs(pack.plot(axis, x).cells) != {(0, 0): expected}


def test_new_and_changed_files_run_the_node_again(pack: Pack, run: Path):
    changed = pack.xy["XY: PM LoRA Files"].IS_CHANGED
    before = changed("style-*", RUN, "name", 0)
    assert changed("style-*", RUN, "name", 0, strength_model=0.5) == before
    new = run / "style-99.safetensors"
    shutil.copyfile(run / "style-2.safetensors", new)
    try:
        after = changed("style-*", RUN, "name", 0)
        assert after != before
        os.utime(new, ns=(1, 1))
        assert changed("style-*", RUN, "name", 0) != after
        assert changed("nothing", RUN, "name", 0) == changed("nothing", RUN, "name", 0)
    finally:
        new.unlink()
