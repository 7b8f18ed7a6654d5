"""XY: PM LoRA Sweep in this process: its cells are those of the merge nodes, and its values are read or refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import save
from lora_pack.merge.methods.registry import DELTA_MODES, FACTOR_MODES
from lora_pack.tests.comfy.test_xy_capsules import SEEDS, A, B, Pack, Picture, contents, pack, pairs

__all__ = ["pack"]  # the fixture

MODES = (*FACTOR_MODES, *DELTA_MODES)
SETTINGS = {"mode": "concat", "density": 0.6, "svd_rank": 4, "svd_conv_rank": 2, "device": "cpu", "dtype": "float32"}


def sweep(pack: Pack, x: tuple[str, str], y: tuple[str, str] = ("none", ""), loras: Any = None, **settings: Any) -> Any:
    """The axes of the node, with A at 0.8 and 0.4 and B at 1 as its LoRAs."""
    given = [pack.load(A, (0.8, 0.4)), pack.load(B)] if loras is None else loras
    inputs = {f"lora{number}": lora for number, lora in enumerate(given, 1)}
    axes = dict(zip(("x_parameter", "x_values", "y_parameter", "y_values"), (*x, *y), strict=True))
    return pack.xy["XY: PM LoRA Sweep"]().plot(**SETTINGS | axes | settings, **inputs)


def merged(pack: Pack, a: float = 1.0, b: float = 1.0, **settings: Any) -> Any:
    """What the merge node makes of the same, with the strengths multiplied by a and b."""
    settings = SETTINGS | settings
    on_deltas = settings["mode"].endswith("_svd")
    for name in () if on_deltas else ("svd_rank", "svd_conv_rank"):
        del settings[name]
    merger = "PM LoRA SVD Merger" if on_deltas else "PM LoRA Merger"
    loras = {"lora1": pack.load(A, (0.8 * a, 0.4 * a)), "lora2": pack.load(B, b)}
    return pack.nodes[merger]().merge(**settings, **loras)["result"][0]


def picture(pack: Pack, lora: Any) -> tuple[Picture, Picture]:
    model, clip = pack.apply(pack.model, pack.clip, lora)
    return contents(model.patches), contents(clip.patcher.patches)


def lora_of(pack: Pack, capsule: Any, other: Any = None) -> Any:
    settings = capsule.settings | ({} if other is None else other.settings)
    return capsule.sweep.lora(settings, pack.model, pack.clip)


@pytest.mark.parametrize("mode", MODES)
def test_a_cell_is_saved_with_the_same_bytes_as_the_merge_nodes(pack: Pack, tmp_path: Path, mode: str):
    x, y = sweep(pack, ("all strengths", "1, 2"), ("strength 2", "1, 0.5"), mode=mode, seed=3)
    found = lora_of(pack, x[1][0], y[1][1])
    files = [save(lora, tmp_path / "merged.safetensors") for lora in (found, merged(pack, b=0.5, mode=mode, seed=3))]
    assert files[0] != files[1] and files[0].read_bytes() == files[1].read_bytes()


# name: (mode in which it counts, values, the same as settings of the merge node)
PARAMETERS: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    "mode": ("concat", "ties, add_svd", [{"mode": "ties"}, {"mode": "add_svd"}]),
    "density": ("ties", "0.3, 0.8", [{"density": 0.3}, {"density": 0.8}]),
    "svd_rank": ("add_svd", "1, 0", [{"svd_rank": 1}, {"svd_rank": 0}]),
    "seed": ("dare_ties", f"7, {2**64 - 1}", [{"seed": 7}, {"seed": 2**64 - 1}]),
    "strength_rule": ("ties", "of the sum, of the mode", [{"strength_rule": "of the sum"}, {}]),
    "weights": ("concat", "average; equal energy", [{"weights": "average"}, {"weights": "equal energy"}]),
    "strength 1": ("concat", "-0.5, 0", [{"a": -0.5}, {"a": 0.0}]),
    "strength 2": ("ties_svd", "0..2 x 3", [{"b": 0.0}, {"b": 1.0}, {"b": 2.0}]),
    "all strengths": ("add", "0.5, 2", [{"a": 0.5, "b": 0.5}, {"a": 2.0, "b": 2.0}]),
    "np_mu": ("np_svd", "0, 1.5", [{"options": {"np_mu": 0.0}}, {"options": {"np_mu": 1.5}}]),
    "iso_blend": ("iso_svd", "0.2, 0.9", [{"options": {"iso_blend": 0.2}}, {"options": {"iso_blend": 0.9}}]),
    "route_ridge": ("route_svd", "0.0001, 1", [{"options": {"route_ridge": 1e-4}}, {"options": {"route_ridge": 1.0}}]),
    "della_epsilon": ("della_svd", "0, 0.2", [{"options": {"della_epsilon": e}} for e in (0.0, 0.2)]),
    "breadcrumbs_gamma": ("breadcrumbs_svd", "0, 0.1", [{"options": {"breadcrumbs_gamma": g}} for g in (0.0, 0.1)]),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_can_be_swept(pack: Pack, name: str):
    mode, values, same = PARAMETERS[name]
    x, y = sweep(pack, (name, values), mode=mode)
    assert y is None
    found = pairs(pack.plot(x, None).cells)
    expected = [picture(pack, merged(pack, **{"mode": mode, **settings})) for settings in same]
    assert found == {(column, 0): cell for column, cell in enumerate(expected)}
    assert len({str(cell) for cell in expected}) == len(expected), "the values make no difference here"


def test_every_parameter_of_the_pack_is_tested_and_offered(pack: Pack):
    from lora_pack.merge.methods.registry import PARAMETERS as OF_METHODS
    from lora_pack.xy.sweep_parameters import SWEEP_PARAMETERS

    strengths = {f"strength {number}" for number in range(1, 11)}
    assert set(OF_METHODS) <= set(PARAMETERS) <= set(SWEEP_PARAMETERS)
    assert set(SWEEP_PARAMETERS) == set(PARAMETERS) | strengths


def test_strengths_multiply_each_other_across_the_axes(pack: Pack):
    x, y = sweep(pack, ("strength 1", "0.5, 1"), ("all strengths", "0.5, 2"))
    found = pairs(pack.plot(x, y).cells)
    for (column, row), cell in found.items():
        both = (0.5, 2.0)[row]
        assert cell == picture(pack, merged(pack, a=(0.5, 1.0)[column] * both, b=both))
    assert pairs(pack.plot(y, x).cells) == {(row, column): cell for (column, row), cell in found.items()}


@pytest.mark.parametrize("wires", ["as they are", "flipped", "crossed"])
def test_axes_can_be_flipped_and_crossed(pack: Pack, wires: str):
    x, y = sweep(pack, ("density", "0.3, 0.8, 1"), ("mode", "ties, dare_ties_svd"), seed=2)
    found = {
        "as they are": lambda: pack.plot(x, y),
        "flipped": lambda: pack.plot(y, x, flip=True),
        "crossed": lambda: pack.plot(y, x),
    }[wires]()
    assert (found.column_labels, found.row_labels)[wires == "crossed"] == [
        "density 0.30",
        "density 0.80",
        "density 1.00",
    ]
    for place, cell in pairs(found.cells).items():
        density, mode = place if wires != "crossed" else place[::-1]
        settings = {"density": (0.3, 0.8, 1.0)[density], "mode": ("ties", "dare_ties_svd")[mode], "seed": 2}
        assert cell == picture(pack, merged(pack, **settings)), place


def test_an_unconnected_axis_leaves_the_nodes_own_value(pack: Pack):
    x, y = sweep(pack, ("density", "0.3, 0.8"), ("strength 2", "0, 2"), mode="ties")
    assert pairs(pack.plot(x, None).cells)[1, 0] == picture(pack, merged(pack, mode="ties", density=0.8))
    assert pairs(pack.plot(None, y).cells)[0, 1] == picture(pack, merged(pack, mode="ties", b=2.0))
    beside = pack.plot(x, SEEDS).cells
    assert beside[0, 1][:2] == picture(pack, merged(pack, mode="ties", density=0.3))


def test_axes_of_two_sweeps_are_both_applied(pack: Pack):
    x, _ = sweep(pack, ("strength 1", "0.5"), loras=[pack.load(A)])
    _, y = sweep(pack, ("seed", "0"), ("strength 1", "-1"), loras=[pack.load(B)])
    first, second = (
        pack.nodes["PM LoRA Merger"]().merge("concat", 1.0, "cpu", "float32", lora1=lora)["result"][0]
        for lora in (pack.load(A, 0.5), pack.load(B, -1.0))
    )
    model, clip = pack.apply(*pack.apply(pack.model, pack.clip, first), second)
    assert pairs(pack.plot(x, y).cells)[0, 0] == (contents(model.patches), contents(clip.patcher.patches))


def test_a_single_lora_and_a_stack_can_be_swept(pack: Pack):
    stack = [(B, 1.0, 0.5), (A, 0.3, 0.3)]
    x, _ = sweep(pack, ("strength 3", "0.5"), loras=[pack.load(A)], lora_stack=stack)
    loras = {"lora1": pack.load(A), "lora2": pack.load(B, (1.0, 0.5)), "lora3": pack.load(A, 0.15)}
    expected = pack.nodes["PM LoRA Merger"]().merge("concat", 0.6, "cpu", "float32", **loras)["result"][0]
    assert pairs(pack.plot(x, None).cells) == {(0, 0): picture(pack, expected)}
    alone, _ = sweep(pack, ("strength 1", "0, 0.5"), loras=[pack.load(A)])
    assert pairs(pack.plot(alone, None).cells)[0, 0] == ({}, {})


def test_a_sweep_keeps_its_merges_as_the_other_nodes_do(pack: Pack, monkeypatch: pytest.MonkeyPatch):
    from lora_pack.xy import cell

    merges: list[str] = []
    for name in ("merge_factors", "merge_deltas"):
        original = getattr(cell, name)
        monkeypatch.setattr(cell, name, lambda *args, of=original: merges.append(args[1]) or of(*args))
    x, y = sweep(pack, ("mode", "add, ties, karcher_svd"), ("density", "0.3, 0.8"))
    pack.plot(x, y)
    pack.plot(x, SEEDS)
    assert sorted(merges) == ["add", "karcher_svd", "ties", "ties", "ties"]  # twice 0.3 or 0.8, and the node's own 0.6


def test_labels_say_what_a_cell_has(pack: Pack):
    def labels(name: str, values: str, **settings: Any) -> list[str]:
        return [capsule.getLabel() for capsule in sweep(pack, (name, values), **settings)[0][1]]

    assert labels("strength 1", "0..1 x 3") == ["a 0.00", "a 0.50", "a 1.00"]
    assert labels("strength 2", "0.125, -1") == ["b 0.125", "b -1.000"]
    assert labels("all strengths", "2") == ["all strengths 2.00"]
    assert labels("svd_rank", "8, 0") == ["rank 8", "rank of the inputs"]
    assert labels("strength_rule", "of the sum") == ["strength of the sum"]
    assert labels("weights", "as given") == ["weights as given"]
    assert labels("route_ridge", "0.0001") == ["route_ridge 0.0001"]
    assert labels("seed", "7") == ["seed 7"] and labels("mode", "ties_svd") == ["ties_svd"]


def test_labels_name_the_lora_even_if_another_has_its_name(pack: Pack):
    def names(*loras: Any) -> list[str]:
        axes = sweep(pack, ("strength 1", "0.5"), ("strength 2", "0.5"), loras=loras)
        return [axis[1][0].getLabel().removesuffix(" 0.50") for axis in axes]

    a, b = pack.load(A), pack.load(B)
    assert names(a, b) == ["a", "b"]
    assert names(a, replace(b, name="styles/a")) == ["capsules/a", "styles/a"]
    assert names(a, pack.load(A, 0.5)) == ["a #1", "a #2"]
    merged_first = pack.merge(1.0, 1.0, "concat")
    assert names(merged_first, b) == ["a + b", "b"], "a merge has the label of its last LoRA"
    head, tail = "a_style_with_a_very_long_name_", "_and_what_else_it_has_000010"
    first, second = names(*(replace(a, name=f"{head}{version}{tail}") for version in ("v1", "v2")))
    assert "v1" in first and "v2" in second and len(first) <= 35


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("strength 1", "0, much", "x_values has 'much', which is not a number"),
        ("strength 1", "0.5, 1_0", "'1_0', which is not a number"),
        ("strength 1", "nan", "'nan', which is not a number"),
        ("strength 1", "1e999", "'1e999', which is not a number"),
        ("strength 1", "21", "'21', but strength 1 must be between -20 and 20"),
        ("all strengths", "0..30 x 4", "'0..30 x 4', but all strengths must be between"),
        ("strength 3", "1", "x_parameter is 'strength 3', but only 2 LoRAs are connected"),
        ("density", "0, 0.5", "'0', but density must be between 0.01 and 1"),
        ("svd_rank", "4, 8.5", "'8.5', but svd_rank must be a whole number"),
        ("svd_rank", "-1", "'-1', but svd_rank must be between 0 and 4096"),
        ("seed", str(2**64), f"must be between 0 and {2**64 - 1}"),
        ("della_epsilon", "0.7", "'0.7', but della_epsilon must be between 0 and 0.5"),
        ("mode", "ties, tie", "'tie', which is no mode. Choose from add, concat"),
        ("strength_rule", "of the weakest", "'of the weakest', which is no strength rule"),
        ("weights", "equal", "'equal', which is no weights"),
        ("strength 1", "0..1", "the range '0..1', which can't be read. Write it as 0..1 x 5"),
        ("strength 1", "0..one x 5", "the range '0..one x 5'"),
        ("strength 1", "0..1 x 0", "the range '0..1 x 0', which needs 2 values or more"),
        ("strength 1", "0..1 x 1", "the range '0..1 x 1', which needs 2 values or more"),
        ("strength 1", "0..1 x 99999999999", "at most 320 values"),
        ("strength 1", "0...5 x 3", "the range '0...5 x 3', which can't be read"),
        ("strength 1", "0,5; 0,75; 1", "x_values has '0,5', which would be two values. Write decimals with a point"),
        ("strength 1", "0 0,5 1", "x_values has '0,5', which would be two values"),
        ("strength 1", "-0,5, 1,0", "x_values has '-0,5', which would be two values"),
        ("density", "0,5..1 x 3", "x_values has '0,5', which would be two values"),
        ("seed", ",".join(map(str, range(321))), "321 values for seed; at most 320"),
        ("strength 1", "", "x_values has no values for strength 1"),
        ("mode", " , ;", "x_values has no values for mode. List one or more of add"),
        ("strenght", "1", "x_parameter is 'strenght', which is no parameter"),
    ],
)
def test_a_wrong_value_is_refused_by_its_word(pack: Pack, name: str, values: str, message: str):
    with pytest.raises(LoraError, match=re.escape(message)):
        sweep(pack, (name, values))


def test_one_parameter_on_both_axes_is_refused(pack: Pack):
    with pytest.raises(LoraError, match="x_parameter and y_parameter are both 'density'"):
        sweep(pack, ("density", "0.5"), ("density", "0.6"))


def test_what_fails_in_a_mode_or_without_loras_is_refused_at_the_node(pack: Pack):
    with pytest.raises(LoraError, match="No LoRA is connected"):
        sweep(pack, ("seed", "1"), loras=[])
    with pytest.raises(LoraError, match="density is 0, at which ties keeps nothing"):
        sweep(pack, ("mode", "add, ties"), density=0.0)
    with pytest.raises(LoraError, match="lora1: expected a LoRA"):
        sweep(pack, ("seed", "1"), loras=["a.safetensors"])
    with pytest.raises(LoraError, match="options: expected the output of PM Merge Options"):
        sweep(pack, ("seed", "1"), options=3)


@pytest.mark.parametrize(("mode", "warned"), [("concat", True), ("ties", False)])
def test_an_axis_that_changes_nothing_is_told(pack: Pack, caplog: pytest.LogCaptureFixture, mode: str, warned: bool):
    with caplog.at_level("WARNING"):
        sweep(pack, ("density", "0.3, 0.8"), mode=mode)
    assert ("density: concat makes no use of it" in caplog.text) == warned


def test_values_are_read(pack: Pack):
    from lora_pack.xy.value_list import names, numbers, whole_numbers

    def read(text: str) -> list[float]:
        return numbers("x_values", "strength 1", text, -20.0, 20.0)

    assert read("0, 0.5, 1") == read("0 .5\n1.0") == read("0；0.5，1") == [0.0, 0.5, 1.0]
    assert read("0..1 x 5") == read("0 .. 1X5") == read("0..1 × 5") == read("0..1*5") == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert read("0..1 x 11")[3] == 0.3 and read("-0.3..0.3 x 7")[3] == 0.0
    assert read("1..0 x 3") == [1.0, 0.5, 0.0]
    assert read("2, 0..1 x 2, 1, -1..-0.5 x 2") == [2.0, 0.0, 1.0, -1.0, -0.5]
    assert read("0.5..0.5 x 3") == [0.5]
    assert read("−0.5..−1 x 2") == [-0.5, -1.0]  # noqa: RUF001
    assert read("0,1,2") == read("0,1, 2") == read("0, 1,2,") == [0.0, 1.0, 2.0]
    assert read("0..1 x 2\n2,3") == [0.0, 1.0, 2.0, 3.0]
    assert whole_numbers("x", "rank", "4,8; 16", 0, 4096) == [4, 8, 16]
    assert read("0.00001..0.00002 x 3") == [1e-05, 1.5e-05, 2e-05]
    assert whole_numbers("x", "rank", "1..64 x 4, 8, 16.0", 0, 4096) == [1, 22, 43, 64, 8, 16]
    big = 2**64 - 1
    assert whole_numbers("x", "seed", f"{big - 2}..{big} x 3", 0, big) == [big - 2, big - 1, big]
    assert names("x", "rule", "Of the  Sum,\nof the mode, of the sum", ["of the mode", "of the sum"]) == [
        "of the sum",
        "of the mode",
    ]
    assert names("x", "mode", "ties add_svd;concat", MODES) == ["ties", "add_svd", "concat"]
