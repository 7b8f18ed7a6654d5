"""XY: PM LoRA Sweep in the page: it grows, greys out what doesn't count, and helps to write values."""

from __future__ import annotations

import pytest
from lora_pack.tests.browser.canvas import CLASSIC, SCREENSHOTS, Canvas
from lora_pack.tests.browser.test_growing_inputs import expect_loras, linked, merger_with, texts
from lora_pack.tests.browser.test_merge_options import VISIBLE, follows
from lora_pack.tests.browser.test_widgets import greyed
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.workflows import checkpoint, node

SWEEP = "XY: PM LoRA Sweep"
OF_ALL_MODES = ["density", "svd_rank", "svd_conv_rank", "seed"]
X_AID, Y_AID = "add or remove x values", "add or remove y values"


def visible(canvas: Canvas, sweep: object) -> list[str]:
    return canvas.page.evaluate(f"id => {VISIBLE[canvas.kind]}", sweep)


def test_a_sweep_grows_and_keeps_its_axes(canvas: Canvas):
    sweep, loaders = merger_with(canvas, 3, SWEEP)
    chosen = {"x_parameter": "strength 3", "x_values": "0..1 x 5", "y_parameter": "seed", "y_values": "1, 2"}
    for name, value in chosen.items():
        canvas.call("choose", sweep, name, value)
    assert linked(canvas, sweep) == texts(loaders)
    canvas.call("reload")
    expect_loras(canvas, sweep, *loaders)
    assert chosen.items() <= canvas.prompt()[str(sweep)]["inputs"].items()
    (copy,) = canvas.call("paste", [sweep])
    assert chosen.items() <= canvas.prompt()[str(copy)]["inputs"].items()
    canvas.call("disconnect", sweep, "lora1")
    expect_loras(canvas, sweep, *loaders[1:])


@pytest.mark.parametrize(
    ("settings", "unused"),
    [
        ({}, [*OF_ALL_MODES, "y_values"]),
        ({"mode": "ties"}, ["svd_rank", "svd_conv_rank", "seed", "y_values"]),
        ({"mode": "add_svd", "y_parameter": "density"}, ["density", "seed"]),
        ({"x_parameter": "mode"}, ["y_values"]),
        ({"y_parameter": "mode"}, []),
    ],
)
def test_widgets_that_do_not_count_are_greyed_out(canvas: Canvas, settings: dict[str, str], unused: list[str]):
    sweep = canvas.call("add", SWEEP, 600, 150)
    for name, value in settings.items():
        canvas.call("choose", sweep, name, value)
    assert sorted(greyed(canvas, sweep)) == sorted(unused)
    canvas.call("reload")
    assert sorted(greyed(canvas, sweep)) == sorted(unused)


def test_an_empty_field_shows_an_example_for_its_parameter(canvas: Canvas):
    sweep = canvas.call("add", SWEEP, 600, 150)
    canvas.call("choose", sweep, "x_values", "")
    shown = "[...document.querySelectorAll('textarea')].filter(e => e.checkVisibility()).map(e => e.placeholder)"
    hints = {"density": "0.3, 0.5, 0.8 or 0.2..1 x 5", "svd_rank": "4, 8, 32 or 1..64 x 4"}
    for parameter, hint in hints.items():
        canvas.call("choose", sweep, "x_parameter", parameter)
        canvas.until(f"{shown}.includes(argument)", hint)
    canvas.screenshot(SCREENSHOTS / f"sweep-hint-{canvas.kind}.png")
    canvas.call("reload")  # the page draws the boxes anew
    canvas.until(f"{shown}.includes(argument)", hints["svd_rank"])


def test_names_are_picked_from_a_list_that_only_parameters_with_names_have(canvas: Canvas):
    sweep = canvas.call("add", SWEEP, 600, 150)
    if follows(canvas, sweep):
        assert not {X_AID, Y_AID} & set(visible(canvas, sweep))
    canvas.call("choose", sweep, "x_values", "")
    canvas.call("choose", sweep, "x_parameter", "mode")
    for mode in ("ties_svd", "concat", "np_svd", "concat"):
        canvas.call("choose", sweep, X_AID, mode)
    canvas.call("choose", sweep, "y_parameter", "strength_rule")
    for rule in ("of the mode", "of the sum"):
        canvas.call("choose", sweep, Y_AID, rule)
    inputs = canvas.prompt()[str(sweep)]["inputs"]
    assert (inputs["x_values"], inputs["y_values"]) == ("ties_svd, np_svd", "of the mode, of the sum")
    assert X_AID not in inputs
    if follows(canvas, sweep):
        canvas.call("frame")
        assert {X_AID, Y_AID} <= set(visible(canvas, sweep))
    canvas.screenshot(SCREENSHOTS / f"sweep-names-{canvas.kind}.png")
    canvas.call("reload")
    again = canvas.prompt()[str(sweep)]["inputs"]
    assert (again["x_values"], again["y_values"]) == ("ties_svd, np_svd", "of the mode, of the sum")


def test_a_sweep_that_the_page_queues_runs(canvas: Canvas, server: Server):
    sweep, _ = merger_with(canvas, 2, SWEEP)
    for name, value in {
        "x_parameter": "mode",
        "x_values": "concat, ties_svd, np_svd",
        "y_parameter": "density",
    }.items():
        canvas.call("choose", sweep, name, value)
    canvas.call("choose", sweep, "y_values", "0.3..0.9 x 2")
    canvas.screenshot(SCREENSHOTS / f"sweep-{canvas.kind}.png")
    settings = {"seed": 0, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    prompt = {
        **checkpoint(),
        **canvas.prompt(),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "grid": node(
            "PM XY Grid",
            **{"model": ["checkpoint", 0], "clip": ["checkpoint", 1], "vae": ["checkpoint", 2]},
            **{"latent_image": ["latent", 0], "positive": "a lighthouse", "negative": "", **settings},
            **{"X": [str(sweep), 0], "Y": [str(sweep), 1]},
        ),
        "cells": node("SaveImage", images=["grid", 1], filename_prefix="swept"),
    }
    outputs = server.run(prompt)
    assert len(server.images(outputs, "cells")) == 6
    if canvas.kind == CLASSIC:
        (shown,) = server.images(outputs, "grid")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        (SCREENSHOTS / "sweep-grid.png").write_bytes(shown.read_bytes())
