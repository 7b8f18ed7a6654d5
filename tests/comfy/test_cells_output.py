"""The output ``cells`` of PM XY Grid is built for the nodes that use it, and is never taken empty from the cache."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import pytest
import torch
from lora_pack.tests.comfy.events import Events
from lora_pack.tests.comfy.pictures import pixels
from lora_pack.tests.comfy.xy_prompts import cells, difference, grid, strengths
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.workflows import Node, checkpoint, node


@pytest.fixture
def cells_output(comfy: ModuleType) -> ModuleType:
    from lora_pack.xy import cells_output

    return cells_output


def run_in(prompt: dict[str, Node]) -> Any:
    """Let a prompt be the one that runs now; ComfyUI's view of it."""
    from comfy_execution.graph import DynamicPrompt
    from comfy_execution.progress import reset_progress_state

    seen = DynamicPrompt(prompt)
    reset_progress_state("test", seen)
    return seen


@pytest.fixture
def no_prompt_afterwards(comfy: ModuleType):
    yield
    run_in({})


def plot(axis: str = "XY: PM Sampling", **others: Node) -> dict[str, Node]:
    return {"x": node(axis), "5": node("PM XY Grid", X=["x", 0], seed=3), **others}


@pytest.mark.parametrize(
    ("others", "used"),
    [
        ({}, False),
        ({"save": node("SaveImage", images=["5", 0])}, False),
        ({"save": node("SaveImage", images=["5", 1])}, True),
        ({"save": node("SaveImage", images=["55", 1])}, False),
        ({"many": node("Batch", number=1, image=["5", 0], other=["5", 1])}, True),
    ],
)
def test_only_a_link_to_the_output_counts(
    cells_output: ModuleType, no_prompt_afterwards: None, others: dict[str, Node], used: bool
):
    run_in(plot(**others))
    assert cells_output.is_used("5") is used


def test_nodes_that_a_loop_adds_while_it_runs_count(cells_output: ModuleType, no_prompt_afterwards: None):
    prompt = run_in({"loop": node("Loop"), **plot()})
    for name, added in plot(save=node("SaveImage", images=["loop.5", 1])).items():
        links = {key: ["loop.x", 0] if key == "X" else value for key, value in added["inputs"].items()}
        prompt.add_ephemeral_node(f"loop.{name}", added | {"inputs": links}, "loop", "loop")
    assert cells_output.is_used("loop.5")
    assert not cells_output.is_used("5")


def test_cells_that_cannot_be_kept_are_built_whatever_is_connected(
    cells_output: ModuleType, no_prompt_afterwards: None
):
    run_in(plot("XY Input: Lora Block Weight //Inspire"))
    assert cells_output.is_used("5")


def test_a_grid_outside_of_a_prompt_has_its_cells(cells_output: ModuleType, no_prompt_afterwards: None):
    run_in({})
    assert cells_output.is_used("5") and cells_output.is_used(None)


def test_cells_that_were_left_out_are_no_silent_nothing(cells_output: ModuleType):
    assert "left out its cells" in cells_output.output(None).message
    given = torch.zeros(1, 2, 2, 3)
    assert cells_output.output(given) is given


def test_memory_is_said_from_a_gibibyte_on(cells_output: ModuleType):
    large = torch.zeros(1).expand(400, 1024, 1024, 3)
    assert cells_output.memory_text(large) == "4.7 GiB"
    assert cells_output.memory_text(large[:85]) == cells_output.memory_text(None) == ""


def test_cells_that_are_connected_later_are_built_without_sampling(server: Server, events: Events):
    nodes = {**checkpoint(), "xy": strengths(), **grid(X=["xy", 0], Y=["xy", 1], seed=83)}
    save = nodes.pop("cells")
    whole = pixels(server.images(server.wait(events.queue(nodes))["outputs"], "grid")[0])
    before = len(server.log())
    outputs = server.wait(events.queue({**nodes, "cells": save}))["outputs"]
    found = cells(server, outputs, 2)
    assert len(found) == 4
    assert re.findall(r"PM XY Grid: 4 cells x 2 steps, 4 kept", server.log()[before:])
    side = found[0, 0].shape[0]
    assert difference(whole[-side:, -side:], found[1, 1]) == 0
