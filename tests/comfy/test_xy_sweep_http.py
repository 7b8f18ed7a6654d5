"""XY: PM LoRA Sweep and Files over HTTP, with PM XY Grid: the pictures of the merge nodes, and errors at the nodes."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from lora_pack.tests.comfy.xy_prompts import (
    cells,
    difference,
    files,
    grid,
    loader,
    merged_picture,
    own_picture,
    sampling,
    sweep,
)
from lora_pack.tools.comfy_server import NodeError, PromptRejected, Server
from lora_pack.tools.workflows import checkpoint, node

A, B = ("a.safetensors", 1.0, 1.0), ("b.safetensors", 1.0, 1.0)


def test_a_sweeps_cells_are_the_merge_nodes_pictures(server: Server):
    nodes = {**checkpoint(), **sweep(("mode", "ties, add_svd"), ("density", "0.3, 0.8"), svd_rank=4)}
    found = cells(server, server.run({**nodes, **grid(X=["sweep", 0], Y=["sweep", 1])}), 2)
    for row, density in enumerate((0.3, 0.8)):
        assert difference(found[0, row], merged_picture(server, "ties", density=density)) == 0
    assert difference(found[1, 0], found[1, 1]) == 0  # add_svd ignores the density
    assert difference(found[1, 0], merged_picture(server, "add_svd", svd_rank=4, svd_conv_rank=0)) == 0


def test_one_loras_strengths_and_a_y_of_none(server: Server):
    """lora1 alone, with nothing on the node's Y: a prompt may leave out what is optional."""
    nodes = {**checkpoint(), **sweep(("strength 1", "0, 1"))}
    for left_out in ("lora2", "y_parameter", "y_values"):
        del nodes["sweep"]["inputs"][left_out]
    nodes["seeds"] = sampling("seed +", "0, 1")
    found = cells(server, server.run({**nodes, **grid(X=["sweep", 0], Y=["sweep", 1])}), 2)
    assert difference(found[0, 0], own_picture(server, [])) == 0
    assert difference(found[1, 0], own_picture(server, [A])) <= 1
    beside = cells(server, server.run({**nodes, **grid(X=["sweep", 0], Y=["seeds", 0])}), 2)
    assert difference(beside[1, 0], found[1, 0]) == 0 and difference(beside[1, 1], found[1, 0]) > 1


def test_options_and_stacks_reach_the_sweep(server: Server):
    values = {"np_mu": 0.0, "iso_blend": 0.3, "route_ridge": 1e-4, "della_epsilon": 0.1, "breadcrumbs_gamma": 0.01}
    nodes = {
        **checkpoint(),
        "options": node("PM LoRA Merge Options", mode="np_svd", **values),
        **sweep(("np_mu", "0, 2"), ("strength 2", "1"), mode="np_svd", options=["options", 0]),
    }
    nodes["stack"] = node("PM LoRA Power Loader", rows='[{"lora": "b.safetensors"}]')
    nodes["sweep"]["inputs"] |= {"lora_stack": ["stack", 0]}
    del nodes["sweep"]["inputs"]["lora2"]
    found = cells(server, server.run({**nodes, **grid(X=["sweep", 1], Y=["sweep", 0])}), 1)
    assert difference(found[0, 0], found[0, 1]) > 0
    nodes["merge"] = node(
        "PM LoRA SVD Merger",
        **{"mode": "np_svd", "density": 1.0, "svd_rank": 0, "svd_conv_rank": 0, "device": "cpu", "dtype": "float32"},
        **{"lora1": ["load a", 0], "lora_stack": ["stack", 0], "options": ["options", 0]},
    )
    nodes["apply"] = node("PM LoRA Apply", model=["checkpoint", 0], clip=["checkpoint", 1], lora=["merge", 0])
    own = grid(["apply", 0], clip=["apply", 1])
    expected = cells(server, server.run({**nodes, **own}), 1)
    assert difference(found[0, 0], expected[0, 0]) == 0


@pytest.fixture
def epochs(server: Server) -> Any:
    folder = server.loras / "grid_epochs"
    folder.mkdir()
    for source, name in (("b", "style-000001"), ("a", "style-000002")):
        shutil.copyfile(server.loras / f"{source}.safetensors", folder / f"{name}.safetensors")
    yield "grid_epochs"
    shutil.rmtree(folder)


def test_files_are_plotted_alone_and_on_a_base(server: Server, epochs: str):
    nodes = {**checkpoint(), "load a": loader("a.safetensors"), "files": files("", folder=epochs)}
    found = cells(server, server.run({**nodes, **grid(X=["files", 0])}), 2)
    for column, lora in enumerate((B, A)):
        assert difference(found[column, 0], own_picture(server, [lora])) <= 1
    nodes["files"] = files("style-000001", base=["load a", 0])
    based = cells(server, server.run({**nodes, **grid(Y=["files", 0])}), 1)
    assert difference(based[0, 0], merged_picture(server, "concat")) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_values": "0, much"}, "'much', which is not a number"),
        ({"x_values": "0..1"}, "the range '0..1', which can't be read"),
        ({"x_parameter": "strength 3"}, "'strength 3', but only 2 LoRAs are connected"),
        ({"y_parameter": "strength 1", "y_values": "1"}, "both 'strength 1'"),
        ({"x_parameter": "mode", "x_values": "tie"}, "'tie', which is no mode"),
    ],
)
def test_a_wrong_value_is_refused_at_the_sweep(server: Server, change: dict[str, str], message: str):
    nodes = {**checkpoint(), **sweep(("strength 1", "0, 1"), **change)}
    with pytest.raises(NodeError, match=message) as caught:
        server.run({**nodes, **grid(X=["sweep", 0])})
    assert caught.value.node_id == "sweep"


def test_wrong_files_and_parameters_are_refused(server: Server):
    with pytest.raises(NodeError, match="'nothing like it', which no LoRA file") as caught:
        server.run({**checkpoint(), "files": files("nothing like it"), **grid(X=["files", 0])})
    assert caught.value.node_id == "files"
    with pytest.raises(PromptRejected, match="x_parameter"):
        server.queue({**checkpoint(), **sweep(("strenght", "1")), **grid(X=["sweep", 0])})
