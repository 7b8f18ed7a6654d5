"""What a running grid tells pages, and which."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

PICTURE = torch.zeros(8, 8, 3, dtype=torch.uint8)


@pytest.fixture
def live_grid(comfy: ModuleType) -> ModuleType:
    from lora_pack.xy import live_grid

    return live_grid


def sent(live_grid: ModuleType, monkeypatch: pytest.MonkeyPatch, client: str | None, node: Any) -> list[tuple]:
    """The events of a grid of one cell."""
    from lora_pack.xy.sampling import Sampling

    events: list[tuple] = []
    server = SimpleNamespace(client_id=client, send_sync=lambda *event: events.append(event))
    monkeypatch.setattr(live_grid, "_server", lambda: server)
    monkeypatch.setattr(live_grid.LiveGrid, "_draw", lambda self: None)
    grid = live_grid.LiveGrid(node, [], [], {(0, 0): Sampling(0, 2, 7.0, "euler", "normal", 1.0, "", "")})
    grid.begins((0, 0))
    grid.finished((0, 0), PICTURE)
    return events


def test_a_state_goes_to_the_page_that_queued_the_run_and_names_the_workflow(
    live_grid: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    node = live_grid.PageNode.of("7", {"workflow": {"id": "abc", "nodes": []}})
    events = sent(live_grid, monkeypatch, "client", node)
    assert [(name, state["node"], state["workflow"], to) for name, state, to in events] == [
        ("pm-xy-grid", "7", "abc", "client")
    ] * 2


def test_a_run_of_a_program_is_not_shown_on_every_page(live_grid: ModuleType, monkeypatch: pytest.MonkeyPatch):
    assert sent(live_grid, monkeypatch, None, live_grid.PageNode("7")) == []


@pytest.mark.parametrize("info", [None, {}, {"workflow": None}, {"workflow": {"id": 3}}, [], "text"])
def test_a_workflow_without_an_id_is_none(live_grid: ModuleType, info: object):
    assert live_grid.PageNode.of("7", info) == live_grid.PageNode("7", None)
    assert live_grid.PageNode.of(None, info) is None


def test_a_search_names_its_workflow_while_it_runs_and_in_the_end(
    live_grid: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    from lora_pack.xy.sampling import Sampling
    from lora_pack.xy.search_view import SearchView

    events: list[tuple] = []
    server = SimpleNamespace(client_id="client", send_sync=lambda *event: events.append(event))
    monkeypatch.setattr(live_grid, "_server", lambda: server)
    monkeypatch.setattr(live_grid.LiveGrid, "_draw", lambda self: None)
    view = SearchView(live_grid.PageNode("7", "abc"), 4, Sampling(0, 2, 7.0, "euler", "normal", 1.0, "", ""))
    view.begins("no LoRA")
    view.finished(PICTURE, "no LoRA")
    assert events and {state["workflow"] for _, state, _ in events} == {"abc"}
    assert view.state(stopped=False)["workflow"] == "abc"


@pytest.mark.parametrize("fails", ["save", "unlink"])
def test_a_picture_that_cannot_be_written_or_deleted_ends_no_run(
    live_grid: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, fails: str
):
    """A full disk, or on Windows a file that a page still reads."""
    from lora_pack.xy.sampling import Sampling

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "in use")

    events: list[tuple] = []
    server = SimpleNamespace(client_id="client", send_sync=lambda *event: events.append(event))
    monkeypatch.setattr(live_grid, "_server", lambda: server)
    monkeypatch.setattr(live_grid, "MIN_SECONDS", 0)
    monkeypatch.setattr(live_grid, "DRAWING_TIMES", 0)
    monkeypatch.setattr(live_grid.folder_paths, "get_temp_directory", lambda: str(tmp_path))
    with monkeypatch.context() as failing:
        failing.setattr(*((live_grid.Image.Image, "save") if fails == "save" else (live_grid.Path, "unlink")), refuse)
        plan = {(column, 0): Sampling(0, 2, 7.0, "euler", "normal", 1.0, "", "") for column in range(6)}
        grid = live_grid.LiveGrid(live_grid.PageNode("7"), [], [], plan)
        for place in list(plan)[:5]:
            grid.begins(place)
            grid.finished(place, PICTURE)
        assert events[-1][1]["done"] == [f"{column},1" for column in range(1, 6)]
        assert len(list(tmp_path.iterdir())) == (0 if fails == "save" else 5)
    grid.begins((5, 0))
    grid.finished((5, 0), PICTURE)
    if fails == "unlink":  # as soon as they can be
        assert len(list(tmp_path.iterdir())) == 2
