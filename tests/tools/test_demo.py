"""The parts of `run.py demo` that don't need a server."""

from __future__ import annotations

from pathlib import Path

import pytest
from lora_pack.tools.demo import (
    EXAMPLES,
    check_files,
    copy_example,
    copy_in,
    demo_prompt,
    describe_lora,
    example_prompt,
)
from lora_pack.tools.make_lora import small_modules, write_lora


def test_describe_lora_reads_modules_and_rank_from_the_header(tmp_path: Path):
    write_lora(tmp_path / "a.safetensors", rank=3, modules=small_modules())
    assert describe_lora(tmp_path / "a.safetensors").startswith("84 modules, rank 3, ")


def test_check_files_names_missing_files_and_other_file_types(tmp_path: Path):
    (tmp_path / "picture.png").touch()
    for name in ("absent.safetensors", "picture.png"):
        with pytest.raises(SystemExit, match=name):
            check_files([tmp_path / name])


def test_files_with_the_same_name_stay_separate_and_in_order(tmp_path: Path):
    files = [tmp_path / folder / "lora.safetensors" for folder in ("x", "y")]
    for file in files:
        file.parent.mkdir()
        file.write_text(file.parent.name)
    loras = tmp_path / "loras"
    loras.mkdir()
    for _ in range(2):  # the second time over the files of the first
        names = copy_in(files, loras)
        assert [(loras / name).read_text() for name in names] == ["x", "y"]
    prompt = demo_prompt(names)
    assert [prompt[f"load{number}"]["inputs"]["lora_name"] for number in (1, 2)] == names
    assert prompt["merge"]["inputs"]["lora2"] == ["load2", 0]


def test_the_example_merges_the_shipped_loras_on_the_model_that_they_are_for(tmp_path: Path):
    copy_example(tmp_path)
    prompt = example_prompt()
    files = {
        "loras": [prompt[f"load{number}"]["inputs"]["lora_name"] for number in (1, 2)],
        "diffusion_models": [prompt["unet"]["inputs"]["unet_name"]],
        "vae": [prompt["vae"]["inputs"]["vae_name"]],
    }
    assert files["loras"] == EXAMPLES
    copied = {folder.name: sorted(file.name for file in folder.iterdir()) for folder in tmp_path.iterdir()}
    assert copied == {folder: sorted(names) for folder, names in files.items()}
    for name in EXAMPLES:
        assert "rank 8" in describe_lora(tmp_path / "loras" / name)
    assert prompt["apply"]["inputs"]["model"] == ["unet", 0]
    assert prompt["sampler"]["inputs"]["model"] == ["apply", 0]
