"""Several prompts at once, and two ComfyUIs on one loras folder: each gets its own result and no file is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from lora_pack.tests.comfy.test_nodes import loader, merger, saver, svd_merger
from lora_pack.tests.comfy.xy_prompts import cells, difference, grid, modes
from lora_pack.tools.comfy_server import Prompt, Server, link_folder, prepare_base, start, unlink_folder
from lora_pack.tools.workflows import checkpoint

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
LORAS = {"a": loader("a.safetensors", 0.8, 0.6), "b": loader("b.safetensors", -0.5, 1.0)}
MERGES = {
    "concat": merger("a", "b"),
    "dare_ties": merger("a", "b", mode="dare_ties", density=0.5, seed=3),
    "add_svd": svd_merger("a", "b", rank=5),
}


def prompt(mode: str, name: str) -> Prompt:
    return {**LORAS, "m": MERGES[mode], "save": saver("m", name)}


def at_once(work: Sequence[Callable[[], T]]) -> list[T]:
    """Runs all at the same moment, each in a thread; returns results in order. Raises the first error."""
    ready, results, errors = threading.Barrier(len(work)), {}, []

    def run(number: int) -> None:
        try:
            ready.wait()
            results[number] = work[number]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[number]) for number in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(work))]


def written(server: Server, outputs: dict[str, Any]) -> Path:
    return server.loras / outputs["save"]["text"][0]


@pytest.fixture(scope="module")
def alone(server: Server) -> dict[str, bytes]:
    """What each merge writes when nothing else runs."""
    return {mode: written(server, server.run(prompt(mode, f"alone_{mode}"))).read_bytes() for mode in MERGES}


def assert_counted(files: Sequence[Path], name: str) -> None:
    expected = {f"{name}.safetensors", *(f"{name}_{number:05}.safetensors" for number in range(2, len(files) + 1))}
    assert {file.name for file in files} == expected
    assert len({file.parent.resolve() for file in files}) == 1
    assert {file.name for file in files[0].parent.glob(f"*{name}*")} == expected


def test_prompts_queued_at_once_get_their_own_results(server: Server, alone: dict[str, bytes]):
    """The server takes them in threads and runs them one by one; its cache shares what they load."""
    plot = {**checkpoint(), "xy": modes(modes="ties, concat", density_steps=1), **grid(X=["xy", 0])}
    first = cells(server, server.run(plot), 2)
    server.post("/free", {"unload_models": True, "free_memory": True})
    merges = [*MERGES, *MERGES]
    prompts = [*(prompt(mode, "queued") for mode in merges), plot]
    queue: list[Callable[[], str]] = [lambda each=each: server.queue(each) for each in prompts]
    *ids, plotted = at_once(queue)
    files = [written(server, server.wait(prompt_id)["outputs"]) for prompt_id in ids]
    again = cells(server, server.wait(plotted)["outputs"], 2)
    # equal prompts in a row write once: with every node cached the second returns the first one's path
    assert_counted(sorted(set(files)), "queued")
    for mode, file in zip(merges, files, strict=True):
        assert file.read_bytes() == alone[mode], mode
    assert again.keys() == first.keys() and len(first) == 2
    assert all(difference(again[place], first[place]) <= 1 for place in first)
    assert np.abs(first[0, 0] - first[1, 0]).max() > 1, "the two modes give different pictures"


@pytest.fixture(scope="module")
def neighbour(
    server: Server, tmp_path_factory: pytest.TempPathFactory, comfyui_folder: Path, comfyui_python: Path
) -> Iterator[Server]:
    """Another ComfyUI with the first one's loras folder."""
    base = tmp_path_factory.mktemp("neighbour")
    prepare_base(base, ROOT)
    loras = base / "models" / "loras"
    loras.rmdir()
    link_folder(server.loras, loras)
    running = start(comfyui_folder, comfyui_python, base, log_file=base / "server.log")
    try:
        yield running
    finally:
        running.stop()
        for link in (loras, *(base / "custom_nodes").iterdir()):
            unlink_folder(link)


def test_two_servers_saving_to_one_name_lose_nothing(server: Server, neighbour: Server, alone: dict[str, bytes]):
    work = [
        lambda mode=mode, each=each: each.run(prompt(mode, "shared")) for mode in MERGES for each in (server, neighbour)
    ]
    files = [written(server, outputs) for outputs in at_once(work)]
    assert_counted(files, "shared")
    for number, file in enumerate(files):
        mode = [*MERGES][number // 2]
        assert file.read_bytes() == alone[mode], mode
    assert not list(server.loras.glob(".*"))
