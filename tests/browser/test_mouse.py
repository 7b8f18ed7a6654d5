"""Connecting LoRAs to a merger with the mouse."""

from __future__ import annotations

import pytest
from lora_pack.tests.browser.canvas import Canvas
from lora_pack.tests.browser.test_growing_inputs import LOADER, expect_loras, linked, merger_with, texts

EMPTY = [1180, 760]  # a point on the canvas without nodes or panels


def drag_lora(canvas: Canvas, loader: int, target: list[float]) -> None:
    canvas.drag(canvas.call("socket", loader, "LoRA", True), target)


def test_a_link_dropped_on_the_free_input_is_added(canvas: Canvas):
    merger, (a, b) = merger_with(canvas, 2)
    c = canvas.call("add", LOADER, 200, 610)
    drag_lora(canvas, c, canvas.call("socket", merger, "lora3"))
    expect_loras(canvas, merger, a, b, c)
    drag_lora(canvas, a, canvas.call("socket", merger, "lora4"))
    expect_loras(canvas, merger, a, b, c, a)
    assert linked(canvas, merger) == texts([a, b, c, a])


@pytest.mark.parametrize("count", [0, 2])
def test_a_link_dropped_on_the_body_goes_to_the_free_input(canvas: Canvas, count: int):
    merger, loaders = merger_with(canvas, count)
    new = canvas.call("add", LOADER, 200, 610)
    drag_lora(canvas, new, canvas.call("place", merger, 0.9, 0.2))
    expect_loras(canvas, merger, *loaders, new)


def test_a_link_dropped_on_a_connected_input_replaces_its_link(canvas: Canvas):
    merger, (a, b) = merger_with(canvas, 2)
    c = canvas.call("add", LOADER, 200, 610)
    drag_lora(canvas, c, canvas.call("socket", merger, "lora1"))
    expect_loras(canvas, merger, c, b)


def test_pulling_off_a_link_closes_the_gap(canvas: Canvas):
    merger, (a, b, c) = merger_with(canvas, 3)
    canvas.page.keyboard.down("Shift")  # otherwise dropping the link opens a search box
    canvas.drag(canvas.call("socket", merger, "lora1"), EMPTY)
    canvas.page.keyboard.up("Shift")
    canvas.page.keyboard.press("Escape")
    expect_loras(canvas, merger, b, c)


def test_a_link_can_be_moved_from_the_first_input_to_the_free_one(canvas: Canvas):
    merger, (a, b, c) = merger_with(canvas, 3)
    canvas.drag(canvas.call("socket", merger, "lora1"), canvas.call("socket", merger, "lora4"))
    expect_loras(canvas, merger, b, c, a)
    assert linked(canvas, merger) == texts([b, c, a])
