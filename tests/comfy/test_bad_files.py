"""Every bad or odd file of the table in a real ComfyUI: the node that loads it says what is wrong, or the result is
right; and the server lives on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lora_pack.tests.support import oracle
from lora_pack.tests.support.bad_files import BOOM, CASES, DOTTED, LINEAR, NOTED, REFUSED, Case, deltas_of
from lora_pack.tools.comfy_server import NodeError, PromptRejected, Server
from lora_pack.tools.workflows import node
from safetensors.torch import load_file

FOLDER = "bad_files"
# What ComfyUI says itself, before the pack sees the file.
BY_COMFYUI = {"link.safetensors": "Model in folder 'loras' with filename '.*' not found", "folder.safetensors": ""}

# The file written, NodeError or PromptRejected; None: this system has no such files, or its torch opens none of them.
Result = Any

refused = pytest.mark.parametrize("case", [c for c in CASES if c.outcome == REFUSED], ids=lambda case: case.file)
read = pytest.mark.parametrize("case", [c for c in CASES if c.outcome != REFUSED], ids=lambda case: case.file)


def load_and_save(name: str, file_name: str) -> dict[str, Any]:
    return {
        "load": node("PM LoRA Loader", lora_name=name, strength_model=1.0, strength_clip=1.0, lbw=""),
        "save": node("PM LoRA Save", lora=["load", 0], file_name=file_name, extension="safetensors"),
    }


@pytest.fixture(scope="module")
def results(server: Server) -> Iterator[dict[str, Result]]:
    """What came of each file, in one queue."""
    folder = server.loras / FOLDER
    folder.mkdir()
    found: dict[str, Result] = {}
    queued: dict[str, str] = {}
    torch_version = server.get("/system_stats")["system"]["pytorch_version"]
    old_torch = tuple(map(int, torch_version.split(".")[:2])) < (2, 10)
    for case in CASES:
        if old_torch and not case.file.endswith(".safetensors"):
            found[case.file] = None
        try:
            case.make(folder)
        except OSError:
            found[case.file] = None
    for number, case in enumerate(CASES):
        try:
            prompt = load_and_save(f"{FOLDER}/{case.file}", f"{FOLDER}_out/{number}")
            queued[case.file] = server.queue(prompt)
        except PromptRejected as rejection:
            found.setdefault(case.file, rejection)
    for file, prompt_id in queued.items():
        try:
            found.setdefault(file, Path(server.wait(prompt_id)["outputs"]["save"]["text"][0]))
        except NodeError as error:
            found.setdefault(file, error)
    yield found
    shutil.rmtree(folder)
    shutil.rmtree(server.loras / f"{FOLDER}_out")


def result(results: dict[str, Result], case: Case) -> Result:
    came = results[case.file]
    if came is None:
        pytest.skip("This system has no such files, or its torch is too old to open them.")
    return came


@refused
def test_a_bad_file_fails_at_the_node_that_loads_it(results: dict[str, Result], case: Case):
    came = result(results, case)
    if isinstance(came, PromptRejected):  # a folder is in no list of files
        assert case.file in BY_COMFYUI and list(came.node_errors) == ["load"]
        return
    assert isinstance(came, NodeError), f"written as {came}"
    assert (came.node_id, came.node_type) == ("load", "PM LoRA Loader")
    if case.file in BY_COMFYUI:
        assert case.file in came.exception_message
    else:
        assert case.pattern(f"{FOLDER}/").fullmatch(came.exception_message), came.exception_message
        assert came.exception_type.endswith("LoraError")


@read
def test_an_odd_file_is_loaded_and_saved_right(server: Server, results: dict[str, Result], case: Case):
    written = result(results, case)
    assert isinstance(written, Path), str(written)
    expected: dict[str, np.ndarray] = {}
    for name, delta in deltas_of(server.loras / FOLDER / case.file).items():
        name = LINEAR if name == DOTTED else name  # written as every ComfyUI loads it
        expected[name] = expected.get(name, 0) + delta
    saved = deltas_of(written)
    assert set(saved) == set(expected)
    for name, delta in expected.items():
        assert oracle.distance(saved[name], delta) <= 1e-6, name
    if case.outcome == NOTED:
        assert case.pattern(f"{FOLDER}/").search(server.log())


def test_afterwards_no_program_has_run_and_the_queue_lives_on(server: Server, results: dict[str, Result]):
    assert not list(server.base.rglob(BOOM)) and server.alive()
    outputs = server.run(load_and_save("a.safetensors", f"{FOLDER}_out/good"))
    saved, expected = load_file(outputs["save"]["text"][0]), load_file(server.loras / "a.safetensors")
    assert set(saved) == set(expected)
    assert all(torch.equal(saved[name], tensor) for name, tensor in expected.items())
