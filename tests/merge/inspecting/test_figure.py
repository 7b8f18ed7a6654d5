"""The picture's data are the numbers: every cell, mark and title."""

from __future__ import annotations

import math

import pytest
import torch
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.formats import from_state_dict
from lora_pack.merge.inspecting.figure import MOST_MAPS, figure_of
from lora_pack.merge.inspecting.inspect import inspect
from lora_pack.tests.support.families import normal

Q, V = (f"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_{part}" for part in "qv")
FAR = "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
TEXT = "lora_te_text_model_encoder_layers_3_self_attn_q_proj"


def lora(name: str, scales: dict[str, float], seed: int = 1) -> Lora:
    modules = {}
    for number, (key, scale) in enumerate(scales.items()):
        columns = 768 if key == TEXT else 1280
        up, down = normal(seed + number, columns, 2), normal(seed + number + 50, 2, columns)
        modules[key] = LoraModule.of(
            key, (scale / torch.linalg.norm(up.double() @ down.double())).float() * up, down, 2.0
        )
    return Lora(name, modules)


A = lora("a", {Q: 3.0, V: 4.0, FAR: 12.0, TEXT: 0.0})
B = lora("b", {Q: 1.0, TEXT: 1.0}, seed=9)


def cell(grid: dict, row: str, group: str) -> float | None:
    columns = [column["group"] for column in grid["columns"]]
    return grid["cells"][grid["rows"].index(row)][columns.index(group)]


def test_cells_are_shares_of_the_energy_per_weight():
    figure = figure_of(inspect([A]))
    (energy,) = figure["maps"]
    assert energy["rows"] == ["self q", "self v"]
    assert [(column["group"], column["number"]) for column in energy["columns"]] == [
        ("MID", None),
        ("OUT", 3),
        ("TE1", 3),
    ]
    assert [column["apart"] for column in energy["columns"]] == [False, False, True]
    assert cell(energy, "self q", "MID") == pytest.approx(9 / 169)
    assert cell(energy, "self q", "OUT") == pytest.approx(144 / 169) == pytest.approx(figure["most"])
    assert cell(energy, "self q", "TE1") == 0
    assert cell(energy, "self v", "OUT") is None, "no weight lies there"
    assert figure["overlaps"] == [] and figure["left_out"] == ""


def test_several_weights_of_a_cell_are_averaged():
    """A block with more weights must not look stronger for that."""
    deep = "lora_unet_middle_block_1_transformer_blocks_{}_attn1_to_q"
    weights = {deep.format(number): 1.0 for number in range(9)} | {deep.format(9): 4.0}
    figure = figure_of(inspect([lora("x", weights)]))
    assert cell(figure["maps"][0], "self q", "MID") == pytest.approx(1 / 10)


def test_maps_of_one_model_share_rows_columns_and_scale():
    figure = figure_of(inspect([A, B]))
    first, second = figure["maps"]
    assert first["rows"] == second["rows"] and first["columns"] == second["columns"]
    assert cell(second, "self v", "MID") is None and cell(second, "self q", "TE1") == pytest.approx(0.5)
    assert [named["label"] for named in figure["loras"]] == ["A", "B"]


def test_overlaps_are_cosines():
    inspection = inspect([A, B])
    figure = figure_of(inspection)
    (overlap,) = figure["overlaps"]
    assert cell(overlap, "self q", "MID") == pytest.approx(inspection.pairs[0].weights[Q].cosine)
    assert cell(overlap, "self v", "MID") is None, "one of the two has no such weight"
    assert cell(overlap, "self q", "TE1") == 0, "a delta of zero affects nothing"
    assert figure["most_overlap"] == 0.2, "weak overlaps must not get the full colour"
    same = figure_of(inspect([B, B]))
    assert same["most_overlap"] == pytest.approx(1) and "cosine 1.00" in same["overlaps"][0]["title"]
    assert "signs differ in 0 %" in same["overlaps"][0]["subtitle"]


def test_what_is_not_measured_is_nan():
    state = {f"{Q}.lora_up.weight": normal(1, 1280, 2), f"{Q}.lora_down.weight": normal(2, 2, 1280)}
    dora = from_state_dict(state | {f"{Q}.dora_scale": torch.ones(1, 1280)}, "dora")
    figure = figure_of(inspect([dora, B]))
    value = cell(figure["maps"][0], "self q", "MID")
    assert value is not None and math.isnan(value)
    assert ("norm", "not measured") in figure["loras"][0]["facts"]
    assert [curve["label"] for curve in figure["curves"]] == ["B"]


def test_curves_and_marks():
    inspection = inspect([A, B])
    for curve, numbers in zip(figure_of(inspection)["curves"], inspection.loras, strict=True):
        assert curve["kept"] == list(numbers.kept) and curve["kept"][-1] == pytest.approx(1)
        assert curve["marks"] == [*zip((90, 95, 99), numbers.rank_for or (), strict=True)]
        assert all(curve["kept"][rank - 1] >= percent / 100 - 1e-9 for percent, rank in curve["marks"])


def test_many_loras_are_left_to_the_report():
    figure = figure_of(inspect([lora(f"lora{n}", {Q: 1.0}, seed=100 * n) for n in range(MOST_MAPS + 2)]))
    assert len(figure["maps"]) == MOST_MAPS and len(figure["loras"]) == MOST_MAPS + 2
    assert len(figure["overlaps"]) == 1, "independent pairs don't need a map each"
    assert figure["left_out"] == "2 more LoRAs and 27 more pairs in the report"
