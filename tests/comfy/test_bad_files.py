"""Bad and odd files in a real ComfyUI: what happens at the node that loads them, and that the server lives on.

One file of each kind. All of the table is read in tests/merge/formats/test_bad_files.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lora_pack.tests.support import oracle
from lora_pack.tests.support.bad_files import BOOM, CASES, DOTTED, LINEAR, Case, deltas_of
from lora_pack.tools.comfy_server import NodeError, PromptRejected, Server
from lora_pack.tools.workflows import node
from safetensors.torch import load_file

FOLDER = "bad_files"
BY_NAME = {case.file: case for case in CASES}

REFUSED = ("data_cut.safetensors", "nan.safetensors", "bomb.pt")
READ = ("names_ünï 日本.safetensors", "plain.pt")
NOTED = ("two_names.safetensors",)
# These the pack never sees: ComfyUI lists no folder, and finds no file at the end of the link.
REFUSED_BY_COMFYUI = ("folder.safetensors", "link.safetensors")


def load_and_save(name: str, file_name: str) -> dict[str, Any]:
    return {
        "load": node("PM LoRA Loader", lora_name=name, strength_model=1.0, strength_clip=1.0, lbw=""),
        "save": node("PM LoRA Save", lora=["load", 0], file_name=file_name, extension="safetensors"),
    }


@pytest.fixture(scope="module")
def folder(server: Server) -> Iterator[Path]:
    """A folder among the LoRAs for bad files."""
    path = server.loras / FOLDER
    path.mkdir()
    yield path
    shutil.rmtree(path)
    shutil.rmtree(server.loras / f"{FOLDER}_out", ignore_errors=True)


def made(server: Server, folder: Path, file: str) -> Case:
    """Writes the file, unless this system has no such files or the server's torch opens none of them."""
    torch_version = server.get("/system_stats")["system"]["pytorch_version"]
    if not file.endswith(".safetensors") and tuple(map(int, torch_version.split(".")[:2])) < (2, 10):
        pytest.skip(f"torch {torch_version} opens no pickles")
    try:
        BY_NAME[file].make(folder)
    except OSError as error:
        pytest.skip(f"This system has no such files: {error}")
    return BY_NAME[file]


def run(server: Server, file: str) -> Path:
    """The file that a LoRA is saved to after it was loaded from this one."""
    return server.loras / server.run(load_and_save(f"{FOLDER}/{file}", f"{FOLDER}_out/a"))["save"]["text"][0]


@pytest.mark.parametrize("file", REFUSED)
def test_a_refused_file_is_an_error_of_the_node_that_loads_it(server: Server, folder: Path, file: str):
    case = made(server, folder, file)
    with pytest.raises(NodeError) as caught:
        run(server, file)
    error = caught.value
    assert (error.node_id, error.node_type) == ("load", "PM LoRA Loader")
    assert case.pattern(f"{FOLDER}/").fullmatch(error.exception_message), error.exception_message
    assert error.exception_type.endswith("LoraError")


@pytest.mark.parametrize("file", REFUSED_BY_COMFYUI)
def test_what_is_not_a_file_is_an_error_of_the_node_that_loads_it(server: Server, folder: Path, file: str):
    made(server, folder, file)
    with pytest.raises((NodeError, PromptRejected)) as caught:
        run(server, file)
    if isinstance(caught.value, PromptRejected):
        assert list(caught.value.node_errors) == ["load"]
    else:
        assert caught.value.node_id == "load" and file in caught.value.exception_message


@pytest.mark.parametrize("file", [*READ, *NOTED])
def test_an_odd_file_is_loaded_and_saved_correctly(server: Server, folder: Path, file: str):
    case = made(server, folder, file)
    saved, expected = deltas_of(run(server, file)), dict[str, np.ndarray]()
    for name, delta in deltas_of(folder / file).items():
        name = LINEAR if name == DOTTED else name  # written as every ComfyUI loads it
        expected[name] = expected.get(name, 0) + delta
    assert set(saved) == set(expected)
    for name, delta in expected.items():
        assert oracle.distance(saved[name], delta) <= 1e-6, name
    if file in NOTED:
        assert case.pattern(f"{FOLDER}/").search(server.log())


def test_after_a_pickle_bomb_nothing_has_run_and_the_next_prompt_is_right(server: Server, folder: Path):
    made(server, folder, "bomb.pt")
    with pytest.raises(NodeError):
        run(server, "bomb.pt")
    assert not list(server.base.rglob(BOOM)) and server.alive()
    outputs = server.run(load_and_save("a.safetensors", f"{FOLDER}_out/good"))
    saved, expected = load_file(server.loras / outputs["save"]["text"][0]), load_file(server.loras / "a.safetensors")
    assert set(saved) == set(expected)
    assert all(torch.equal(saved[name], tensor) for name, tensor in expected.items())
