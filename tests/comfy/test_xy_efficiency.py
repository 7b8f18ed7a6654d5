"""The XY nodes with the real KSampler (Efficient): every wiring, cell by cell.

Requires a copy of efficiency-nodes-comfyui in EFFICIENCY_NODES_PATH, which `python run.py test --efficiency PATH` sets.
Cells are compared with ComfyUI's own sampler and LoraLoader, with the merge nodes, and with PM XY Grid.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from lora_pack.tests.comfy.pictures import pixels
from lora_pack.tests.comfy.xy_prompts import (
    SIZE,
    cells,
    difference,
    files,
    grid,
    merged_picture,
    modes,
    own_picture,
    ranks,
    sampling,
    strengths,
    sweep,
)
from lora_pack.tools.comfy_server import NodeError, Server
from lora_pack.tools.workflows import CHECKPOINT, Link, Node, checkpoint, node

pytestmark = pytest.mark.skipif("EFFICIENCY_NODES_PATH" not in os.environ, reason="needs efficiency-nodes-comfyui")

Cells = dict[tuple[int, int], np.ndarray]
A, B = ("a.safetensors", 1.0, 1.0), ("b.safetensors", 1.0, 1.0)
# Largest allowed difference: ComfyUI's chained loaders round after each LoRA.
ROUNDING = 1


def efficient(x: Link | None, y: Link | None, flip: bool = False, output: str = "Images") -> dict[str, Node]:
    """Efficiency's loader, XY Plot and sampler, set up like workflows.picture(). Its node ids must be numeric."""
    axes = {name: link for name, link in (("X", x), ("Y", y)) if link is not None}
    return {
        "1": node(
            "Efficient Loader",
            ckpt_name=CHECKPOINT,
            vae_name="Baked VAE",
            clip_skip=-1,
            lora_name="None",
            lora_model_strength=1.0,
            lora_clip_strength=1.0,
            positive="a lighthouse at dawn",
            negative="blurry",
            token_normalization="none",
            weight_interpretation="comfy",
            empty_latent_width=SIZE,
            empty_latent_height=SIZE,
            batch_size=1,
        ),
        "3": node(
            "XY Plot",
            grid_spacing=0,
            XY_flip=str(flip),
            Y_label_orientation="Horizontal",
            cache_models="True",
            ksampler_output_image=output,
            dependencies=["1", 6],
            **axes,
        ),
        "4": node(
            "KSampler (Efficient)",
            model=["1", 0],
            seed=0,
            steps=2,
            cfg=4.0,
            sampler_name="euler",
            scheduler="normal",
            positive=["1", 1],
            negative=["1", 2],
            latent_image=["1", 3],
            denoise=1.0,
            preview_method="none",
            vae_decode="true",
            optional_vae=["1", 4],
            script=["3", 0],
        ),
        "5": node("SaveImage", images=["4", 5], filename_prefix="efficient"),
    }


def plot(server: Server, nodes: dict[str, Node], x: Link | None, y: Link | None, columns: int, **wiring: Any) -> Cells:
    outputs = server.run({**nodes, **efficient(x, y, **wiring)})
    return cells(server, outputs, columns, "5")


@pytest.fixture(scope="module")
def own(server: Server) -> Cells:
    """ComfyUI's own pictures for strengths 0 and 1 of LoRA a (column) and b (row), with chained LoraLoaders."""
    return {
        (a, b): own_picture(server, [lora for lora, strength in ((A, a), (B, b)) if strength])
        for a in (0, 1)
        for b in (0, 1)
    }


def assert_same(found: Cells, expected: Cells, allowed: int = ROUNDING) -> None:
    assert found.keys() == expected.keys()
    differences = {place: difference(found[place], expected[place]) for place in expected}
    print("largest difference of each cell, out of 255:", differences)
    assert max(differences.values()) <= allowed, differences


XY: dict[str, Node] = {"10": strengths()}
OF_A, OF_B = ["10", 0], ["10", 1]


def test_both_axes_give_the_pictures_of_comfyuis_loaders(server: Server, own: Cells):
    assert_same(plot(server, XY, OF_A, OF_B, 2), own)


@pytest.mark.parametrize("wires", ["flipped", "crossed", "flipped and crossed"])
def test_flipped_axes_and_swapped_wires_give_the_same_cells(server: Server, own: Cells, wires: str):
    x, y = (OF_B, OF_A) if "crossed" in wires else (OF_A, OF_B)
    found = plot(server, XY, x, y, 2, flip="flipped" in wires)
    turned = own if wires == "flipped and crossed" else {(b, a): cell for (a, b), cell in own.items()}
    assert_same(found, turned)


@pytest.mark.parametrize("role", ["X", "Y"])
def test_an_unconnected_axis_leaves_its_lora_at_1(server: Server, own: Cells, role: str):
    for axis, expected in ((OF_A, [own[0, 1], own[1, 1]]), (OF_B, [own[1, 0], own[1, 1]])):
        if role == "X":
            assert_same(plot(server, XY, axis, None, 2), {(i, 0): cell for i, cell in enumerate(expected)})
        else:
            assert_same(plot(server, XY, None, axis, 1), {(0, i): cell for i, cell in enumerate(expected)})


def test_one_output_on_both_axes(server: Server, own: Cells):
    assert_same(plot(server, XY, OF_A, OF_A, 2), {(i, j): own[j, 1] for i in (0, 1) for j in (0, 1)})


def test_cached_capsules_can_be_rewired(server: Server, own: Cells):
    nodes = {**XY, "11": node("XY Input: Seeds++ Batch", batch_count=2)}
    assert_same(plot(server, nodes, OF_A, OF_B, 2), own)
    found = plot(server, nodes, ["11", 0], OF_B, 2)
    assert_same({place: found[place] for place in ((0, 0), (0, 1))}, {(0, 0): own[1, 0], (0, 1): own[1, 1]})
    assert difference(found[1, 1], own_picture(server, [A, B], seed=1)) <= ROUNDING
    assert_same(plot(server, nodes, None, OF_B, 1), {(0, 0): own[1, 0], (0, 1): own[1, 1]})
    assert_same(plot(server, nodes, OF_B, OF_A, 2), {(b, a): cell for (a, b), cell in own.items()})


STEPS = {
    "first_step": 1,
    "last_step": 2,
    "first_start_step": 0,
    "last_start_step": 1,
    "first_end_step": 1,
    "last_end_step": 2,
    "first_refine_step": 1,
    "last_refine_step": 2,
}
PARTNERS: dict[str, Node] = {
    "seeds": node("XY Input: Seeds++ Batch", batch_count=2),
    "steps": node("XY Input: Steps", target_parameter="steps", batch_count=2, **STEPS),
    "cfg": node("XY Input: CFG Scale", batch_count=2, first_cfg=2.0, last_cfg=5.0),
    "denoise": node("XY Input: Denoise", batch_count=2, first_denoise=0.6, last_denoise=1.0),
    "sampler": node(
        "XY Input: Sampler/Scheduler",
        target_parameter="sampler & scheduler",
        input_count=2,
        **{f"sampler_{n}": name for n, name in enumerate(["euler", "heun", *["None"] * 48], 1)},
        **{f"scheduler_{n}": name for n, name in enumerate(["None", "karras", *["None"] * 48], 1)},
    ),
    "prompt": node(
        "XY Input: Prompt S/R",
        target_prompt="positive",
        search_txt="lighthouse",
        replace_count=1,
        **{f"replace_{n}": "cat" for n in range(1, 50)},
    ),
    "our seeds": sampling("seed +", "0, 5"),
    "our cfg": sampling("cfg", "2, 5"),
    "our samplers": sampling("sampler", "euler, heun"),
    "our prompts": sampling("negative prompt", "blurry, dark"),
}


@pytest.mark.parametrize("role", ["X", "Y"])
@pytest.mark.parametrize("partner", PARTNERS)
def test_other_axis_types_give_the_same_pictures_as_our_grid(server: Server, partner: str, role: str):
    nodes = {"10": strengths(min_strength=-0.5, max_strength=1.5), "11": PARTNERS[partner]}
    x, y = (["11", 0], OF_B) if role == "X" else (OF_B, ["11", 0])
    found = plot(server, nodes, x, y, 2)
    ours = cells(server, server.run({**checkpoint(), **nodes, **grid(X=x, Y=y)}), 2)
    assert_same(found, ours, allowed=0)
    assert len({cell.tobytes() for cell in found.values()}) == 4


@pytest.mark.parametrize("role", ["X", "Y"])
def test_next_to_a_clip_skip_axis(server: Server, role: str):
    nodes = {
        **XY,
        "11": node("XY Input: Clip Skip", target_ckpt="Base", batch_count=2, first_clip_skip=-1, last_clip_skip=-2),
    }
    x, y = (["11", 0], OF_B) if role == "X" else (OF_B, ["11", 0])
    found = plot(server, nodes, x, y, 2)
    for place, cell in found.items():
        skip, strength = place if role == "X" else place[::-1]
        expected = own_picture(server, [A, B][: 1 + strength], clip_skip=(-2, -1)[skip])
        assert difference(cell, expected) <= ROUNDING, place


def test_modes_and_densities_give_the_merge_nodes_pictures(server: Server):
    nodes = {"10": modes(modes="ties, dare_linear, add_svd", seed=5)}
    found = plot(server, nodes, OF_A, OF_B, 3)
    for place, (mode, density) in {
        (0, 0): ("ties", 0.3),
        (1, 0): ("dare_linear", 0.3),
        (1, 1): ("dare_linear", 0.8),
    }.items():
        assert difference(found[place], merged_picture(server, mode, density=density, seed=5)) == 0, place
    assert difference(found[2, 0], found[2, 1]) == 0
    flipped = plot(server, nodes, OF_A, OF_B, 2, flip=True)
    assert_same(flipped, {(row, column): cell for (column, row), cell in found.items()}, allowed=0)
    alone = plot(server, nodes, None, OF_B, 1)
    assert difference(alone[0, 0], found[0, 0]) == difference(alone[0, 1], found[0, 1]) == 0


def test_ranks_give_the_svd_merge_nodes_pictures(server: Server, own: Cells):
    nodes = {"10": ranks(max_rank=12, rank_steps=3)}
    found = plot(server, nodes, OF_A, None, 3)
    assert difference(found[0, 0], merged_picture(server, "add_svd", svd_rank=1, svd_conv_rank=1)) == 0
    assert difference(found[2, 0], own[1, 1]) <= ROUNDING  # rank 8 + 4 is all there is


SWEPT: dict[str, Node] = sweep(("strength 1", "0, 1"), ("strength 2", "0..1 x 2"))
SWEPT_A, SWEPT_B = ["sweep", 0], ["sweep", 1]


@pytest.mark.parametrize("wires", ["as they are", "flipped", "crossed"])
def test_a_sweep_of_strengths_gives_the_pictures_of_comfyuis_loaders(server: Server, own: Cells, wires: str):
    x, y = (SWEPT_B, SWEPT_A) if wires == "crossed" else (SWEPT_A, SWEPT_B)
    found = plot(server, SWEPT, x, y, 2, flip=wires == "flipped")
    turned = {(b, a): cell for (a, b), cell in own.items()}
    assert_same(found, own if wires == "as they are" else turned)


@pytest.mark.parametrize("role", ["X", "Y"])
def test_one_axis_of_a_sweep_leaves_the_other_parameter_as_set(server: Server, own: Cells, role: str):
    for axis, expected in ((SWEPT_A, [own[0, 1], own[1, 1]]), (SWEPT_B, [own[1, 0], own[1, 1]])):
        x, y = (axis, None) if role == "X" else (None, axis)
        places = [(0, 0), (1, 0)] if role == "X" else [(0, 0), (0, 1)]
        assert_same(plot(server, SWEPT, x, y, 2 if role == "X" else 1), dict(zip(places, expected, strict=True)))


def test_a_sweep_of_modes_and_ranks_gives_the_merge_nodes_pictures(server: Server):
    nodes = sweep(("mode", "ties, dare_ties_svd"), ("svd_rank", "1, 8"), density=0.5, seed=5)
    found = plot(server, nodes, SWEPT_A, SWEPT_B, 2)
    for place, (mode, settings) in {
        (0, 0): ("ties", {}),
        (1, 0): ("dare_ties_svd", {"svd_rank": 1, "svd_conv_rank": 0}),
        (1, 1): ("dare_ties_svd", {"svd_rank": 8, "svd_conv_rank": 0}),
    }.items():
        assert difference(found[place], merged_picture(server, mode, density=0.5, seed=5, **settings)) == 0, place


@pytest.mark.parametrize("role", ["X", "Y"])
@pytest.mark.parametrize("partner", ["seeds", "steps", "prompt", "our cfg"])
def test_a_sweep_beside_other_axis_types(server: Server, partner: str, role: str):
    nodes = {**sweep(("all strengths", "-0.5, 1.5")), "11": PARTNERS[partner]}
    x, y = (["11", 0], SWEPT_A) if role == "X" else (SWEPT_A, ["11", 0])
    found = plot(server, nodes, x, y, 2)
    ours = cells(server, server.run({**checkpoint(), **nodes, **grid(X=x, Y=y)}), 2)
    assert_same(found, ours, allowed=0)
    assert len({cell.tobytes() for cell in found.values()}) == 4


def test_files_alone_and_together_with_a_sweep(server: Server, own: Cells):
    nodes = {**sweep(("strength 1", "0, 1")), "files": files("b\na.safetensors", folder="/")}
    del nodes["sweep"]["inputs"]["lora2"]
    axis = ["files", 0]
    assert_same(plot(server, nodes, axis, None, 2), {(0, 0): own[0, 1], (1, 0): own[1, 0]})
    assert_same(plot(server, nodes, None, axis, 1), {(0, 0): own[0, 1], (0, 1): own[1, 0]})
    found = plot(server, nodes, SWEPT_A, axis, 2)
    assert_same({place: found[place] for place in ((0, 0), (1, 0))}, {(0, 0): own[0, 1], (1, 0): own[1, 1]})
    flipped = plot(server, nodes, SWEPT_A, axis, 2, flip=True)
    assert_same(flipped, {(row, column): cell for (column, row), cell in found.items()})


def test_a_wrong_value_of_a_sweep_is_refused_in_our_node(server: Server):
    with pytest.raises(NodeError, match="'much', which is not a number") as caught:
        plot(server, sweep(("strength 1", "0, much")), SWEPT_A, None, 1)
    assert caught.value.node_type == "XY: PM LoRA Sweep"


def test_axes_of_two_of_our_nodes_give_the_same_pictures_as_our_grid(server: Server):
    nodes = {"10": strengths(), "11": modes()}
    x, y = OF_A, ["11", 0]
    ours = cells(server, server.run({**checkpoint(), **nodes, **grid(X=x, Y=y)}), 2)
    assert_same(plot(server, nodes, x, y, 2), ours, allowed=0)


def test_the_labelled_plot_is_drawn(server: Server):
    outputs = server.run({**XY, **efficient(OF_A, OF_B, output="Plot")})
    whole = pixels(server.images(outputs, "4")[0])
    assert whole.shape[0] > 2 * SIZE and whole.shape[1] > 2 * SIZE


def test_an_unknown_mode_is_refused_in_our_node_and_the_next_plot_runs(server: Server, own: Cells):
    with pytest.raises(NodeError, match="Unknown mode: tie") as caught:
        plot(server, {"10": modes(modes="tie")}, OF_A, None, 1)
    assert caught.value.node_type == "XY: PM LoRA Modes"
    assert_same(plot(server, XY, OF_A, OF_B, 2), own)
