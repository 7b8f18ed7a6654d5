"""Newer modes, their parameters from PM Merge Options, strength rules and weights, over HTTP in a real ComfyUI."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from lora_pack.merge.files import load, save
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.merging.options import MergeOptions
from lora_pack.merge.methods.registry import DELTA_MODES, PARAMETERS
from lora_pack.merge.provenance.recipe import KEY
from lora_pack.tests.comfy.test_nodes import assert_same_file, loader, merger, saver, svd_merger
from lora_pack.tests.comfy.test_xy_capsules import A, B, Pack, pack, pairs
from lora_pack.tools.comfy_server import NodeError, Outputs, PromptRejected, Server
from lora_pack.tools.workflows import Node, node

__all__ = ["pack"]  # the fixture

ROOT = Path(__file__).resolve().parents[2]
NEWER_MODES = DELTA_MODES[5:]
REPLAYED = ("np_svd", "della_svd")  # in a process of their own, which takes seconds: tests/merge replays all modes
PRIMITIVE = "PrimitiveFloat"  # ComfyUI's own node, whose values reach another node unchecked
VALUES = {"np_mu": 1.5, "iso_blend": 0.75, "route_ridge": 0.5, "della_epsilon": 0.2, "breadcrumbs_gamma": 0.05}
SETTINGS = {"density": 0.5, "seed": 7, "device": "cpu", "dtype": "float32"}


def options_node(values: Mapping[str, object] = VALUES) -> Node:
    defaults = {name: parameter.default for name, parameter in PARAMETERS.items()}
    return node("PM LoRA Merge Options", mode="np_svd", **{**defaults, **values})


def prompt(merge: Node, name: str, **more: Node) -> dict[str, Node]:
    loaders = {"a": loader("a.safetensors", 0.8, 0.5), "b": loader("b.safetensors", -0.4, 1.0)}
    return {**loaders, **more, "m": merge, "save": saver("m", f"options/{name}", overwrite=True)}


def saved(server: Server, outputs: Outputs) -> Path:
    return server.loras / outputs["save"]["text"][0]


def recipe(path: Path) -> dict[str, Any]:
    return json.loads(load(path).metadata[KEY])


def replayed(server: Server, path: Path, out: Path) -> Path:
    """The file that `python -m merge replay` makes, in a process of its own."""
    command = [sys.executable, "-m", "merge", "replay", str(path), "--loras", str(server.loras), "-o", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("mode", NEWER_MODES)
def test_a_newer_mode_writes_the_cores_merge_with_its_parameters(server: Server, tmp_path: Path, mode: str):
    rules = {"strength_rule": "as if orthogonal", "weights": "equal energy"}
    merge = svd_merger("a", "b", mode=mode, rank=6, **SETTINGS | rules, options=["o", 0])
    file = saved(server, server.run(prompt(merge, mode, o=options_node())))
    loras = [load(server.loras / f"{name}.safetensors") for name in "ab"]
    loras = [loras[0].with_strengths(0.8, 0.5), loras[1].with_strengths(-0.4, 1.0)]
    expected = merge_deltas(loras, mode, 0.5, 6, 0, 7, options=MergeOptions(*rules.values(), VALUES))
    assert_same_file(file, expected, exact=False)
    assert recipe(file) == recipe(save(expected, tmp_path / "core.safetensors"))
    if mode in REPLAYED:
        assert replayed(server, file, tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("mode", "counted"),
    [
        ("np_svd", {"parameters": {"np_mu": 1.5}}),
        ("della_svd", {"density": 0.5, "seed": 7, "parameters": {"della_epsilon": 0.2}}),
        ("sce_svd", {"density": 0.5}),
        ("karcher_svd", {}),
    ],
)
def test_the_recipe_holds_what_counted_and_nothing_else(server: Server, mode: str, counted: dict[str, Any]):
    merge = svd_merger("a", "b", mode=mode, rank=6, **SETTINGS, options=["o", 0])
    found = recipe(saved(server, server.run(prompt(merge, f"recipe {mode}", o=options_node()))))
    for name in ("version", "operation", "inputs", "mode", "rank", "conv_rank", "dtype"):
        found.pop(name, None)
    assert found == counted


def test_rules_that_change_nothing_are_not_in_the_recipe(server: Server):
    rules = {"strength_rule": "of the mode", "weights": "as given"}
    merge = svd_merger("a", "b", mode="karcher_svd", rank=6, **SETTINGS | rules)
    assert not {"strength_rule", "weights", "parameters"} & set(
        recipe(saved(server, server.run(prompt(merge, "no rules"))))
    )


@pytest.mark.parametrize(("make", "rule"), [(merger, "of the sum"), (svd_merger, "of the strongest")])
def test_the_rules_are_on_the_node_and_in_the_recipe(server: Server, tmp_path: Path, make: Any, rule: str):
    mode = "ties" if make is merger else "ties_svd"
    merge = make("a", "b", mode=mode, **SETTINGS, strength_rule=rule, weights="average")
    outputs = server.run(prompt(merge, f"{mode} {rule}"))
    first = outputs["m"]["text"][0].splitlines()[0]
    assert f"strength {rule}" in first and "weights: average" in first
    file = saved(server, outputs)
    found = recipe(file)
    assert (found["strength_rule"], found["weights"]) == (rule, "average")
    assert replayed(server, file, tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(("name", "value"), [("np_mu", -0.1), ("iso_blend", 1.5), ("route_ridge", 1e9)])
def test_a_value_out_of_range_is_refused_by_name(server: Server, name: str, value: float):
    merge = svd_merger("a", "b", mode="np_svd", **SETTINGS, options=["o", 0])
    with pytest.raises(PromptRejected, match=name):
        server.run(prompt(merge, "refused", o=options_node({name: value})))
    through_a_link = {"p": node(PRIMITIVE, value=value), "o": options_node({name: ["p", 0]})}
    with pytest.raises(NodeError, match=rf"{name} is .*; it must be between") as error:
        server.run(prompt(merge, "refused", **through_a_link))
    assert error.value.node_id == "o"


def test_a_lora_at_options_is_rejected_before_the_run(server: Server):
    with pytest.raises(PromptRejected, match="options"):
        server.run(prompt(svd_merger("a", "b", mode="np_svd", options=["a", 0]), "refused"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("np_mu=1", "options: expected the output of PM Merge Options, got str"),
        ({"np_mu": 5000.0}, "np_mu is 5000; it must be between 0 and 1000"),
        ({"nu": 1.0}, "No merge mode has a parameter nu"),
    ],
)
def test_something_else_at_options_is_refused_with_advice(server: Server, wrong: object, message: str):
    with pytest.raises(NodeError, match=message) as error:
        server.run(prompt(svd_merger("a", "b", mode="np_svd", options=wrong), "refused"))
    assert error.value.node_id == "m"


@pytest.mark.parametrize("make", [merger, svd_merger], ids=["on factors", "on deltas"])
def test_an_unknown_rule_is_rejected_before_the_run(server: Server, make: Any):
    for name in ("strength_rule", "weights"):
        with pytest.raises(PromptRejected, match=name):
            server.run(prompt(make("a", "b", **{name: "of the moon"}), "refused"))


@pytest.mark.parametrize("mode", ["ties", "ties_svd"])
def test_a_prompt_of_1_0_0_gives_the_same_bytes_as_with_the_defaults(server: Server, tmp_path: Path, mode: str):
    make = svd_merger if mode.endswith("_svd") else merger
    file = saved(server, server.run(prompt(make("a", "b", mode=mode, **SETTINGS), f"older {mode}")))
    older = file.read_bytes()
    defaults = {"strength_rule": "of the mode", "weights": "as given", "options": ["o", 0]}
    with_defaults = prompt(make("a", "b", mode=mode, **SETTINGS | defaults), f"older {mode}", o=options_node())
    assert saved(server, server.run(with_defaults)).read_bytes() == older
    loras = [load(server.loras / f"{name}.safetensors") for name in "ab"]
    loras = [loras[0].with_strengths(0.8, 0.5), loras[1].with_strengths(-0.4, 1.0)]
    core = merge_deltas(loras, mode, 0.5, 32, 0, 7) if make is svd_merger else merge_factors(loras, mode, 0.5, 7)
    assert_same_file(file, core, exact=False)
    assert recipe(file) == recipe(save(core, tmp_path / "core.safetensors"))


def test_xy_modes_with_parameters_equal_the_merger(pack: Pack):
    modes = ["np_svd", "iso_svd", "breadcrumbs_svd", "karcher_svd"]
    rules = {"strength_rule": "of the sum", "weights": "equal energy", "options": VALUES}
    x, _ = pack.modes(modes=", ".join(modes), values="0.5", **rules)
    found = pairs(pack.plot(x, None).cells)
    settings = {"density": 0.5, "svd_rank": 0, "svd_conv_rank": 0, **rules}
    assert found == {(i, 0): pack.merged(1.0, 1.0, mode, **settings) for i, mode in enumerate(modes)}
    plain, _ = pack.modes(modes=", ".join(modes), values="0.5")
    assert all(cell != found[place] for place, cell in pairs(pack.plot(plain, None).cells).items())


def test_xy_svd_rank_with_parameters_equals_the_merger(pack: Pack):
    rules = {"strength_rule": "of the strongest", "weights": "average", "options": {"iso_blend": 1.0}}
    found = pairs(pack.plot(pack.ranks(mode="iso_svd", **rules), None).cells)
    assert found == {
        (i, 0): pack.merged(1.0, 1.0, "iso_svd", svd_rank=rank, svd_conv_rank=rank, **rules)
        for i, rank in enumerate((1, 12))
    }


def test_xy_strengths_with_a_strength_rule_equals_the_merger(pack: Pack):
    x, y = pack.strengths(mode="ties", strength_rule="of the sum")
    values = (-0.5, 1.5)
    assert pairs(pack.plot(x, y).cells) == {
        (i, j): pack.merged(values[i], values[j], "ties", strength_rule="of the sum") for i in (0, 1) for j in (0, 1)
    }


@pytest.mark.parametrize(("plot", "mode"), [("modes", {"modes": "np_svd"}), ("ranks", {"mode": "np_svd"})])
def test_xy_nodes_refuse_parameters_out_of_range_by_name(pack: Pack, plot: str, mode: dict[str, str]):
    from lora_pack.merge.errors import LoraError

    with pytest.raises(LoraError, match="np_mu is -1; it must be between 0 and 1000"):
        getattr(pack, plot)(**mode, options={"np_mu": -1.0})


def test_cells_that_differ_in_what_their_mode_ignores_share_a_merge(pack: Pack):
    from lora_pack.xy.cell import Cell

    def cell(mode: str, options: MergeOptions | None = None, **settings: Any) -> Any:
        return Cell.of(mode, options or MergeOptions(), **settings).essential()

    np_mu, both = MergeOptions(parameters={"np_mu": 1.5}), MergeOptions(parameters={"np_mu": 1.5, "iso_blend": 0.75})
    assert cell("np_svd", np_mu) == cell("np_svd", both)  # iso_blend is not its own
    assert cell("np_svd", np_mu) != cell("np_svd")
    assert cell("np_svd", MergeOptions(parameters={"np_mu": 0.5})) == cell("np_svd")  # the default
    assert cell("karcher_svd", both) == cell("karcher_svd") == cell("karcher_svd", density=0.3)
    assert cell("sce_svd", density=0.3) != cell("sce_svd", density=0.4)
    assert cell("ties", both, svd_rank=4, svd_conv_rank=2, seed=1) == cell("ties", svd_rank=8)
    for rules in (MergeOptions(strength_rule="of the sum"), MergeOptions(weights="average")):
        assert cell("karcher_svd", rules) != cell("karcher_svd")


def test_essential_cells_keep_their_merge(pack: Pack):
    from lora_pack.merge.compute.context import CPU
    from lora_pack.merge.formats import to_state_dict
    from lora_pack.xy.cell import Cell

    a, b = pack.load(A), pack.load(B)
    for mode in DELTA_MODES:
        options = MergeOptions("of the sum", "equal energy", VALUES)
        cell = Cell.of(mode, options, density=0.5, svd_rank=3, svd_conv_rank=3, seed=7)
        first, second = (to_state_dict(each.merge([a, b], CPU)) for each in (cell, cell.essential()))
        assert list(first) == list(second)
        assert all(first[key].equal(second[key]) for key in first), mode
