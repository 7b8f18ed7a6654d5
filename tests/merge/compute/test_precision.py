"""Products in full float32, whatever another pack has set for the process, and its switches restored afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.compute import precision
from lora_pack.merge.compute.context import Compute
from lora_pack.merge.compute.precision import full_precision
from lora_pack.merge.formats import from_state_dict, to_state_dict
from lora_pack.merge.lazy import LazyTensor
from lora_pack.merge.merging.resize import resize
from lora_pack.tests.support.makers import LINEAR, make_lora, state_dict
from lora_pack.tests.support.merging import ALL_MODES, merge

CUDA: Any = torch.backends.cuda.matmul
ONEDNN: Any = getattr(torch.backends.mkldnn, "matmul", None)
HAS_NEW = ONEDNN is not None and hasattr(CUDA, "fp32_precision")


def set_new(owner: Any, value: str) -> None:
    owner.fp32_precision = value


# What another pack may have set, in order.
REDUCED: dict[str, list[Callable[[], None]]] = {
    "high": [lambda: torch.set_float32_matmul_precision("high")],
    "medium": [lambda: torch.set_float32_matmul_precision("medium")],
    "allow_tf32": [lambda: setattr(CUDA, "allow_tf32", True)],
}
NEW: dict[str, list[Callable[[], None]]] = {
    "cuda": [lambda: set_new(CUDA, "tf32")],
    "oneDNN": [lambda: set_new(ONEDNN, "bf16")],
    "everything": [lambda: set_new(torch.backends, "tf32")],
    "both, the new one last": [REDUCED["high"][0], lambda: set_new(ONEDNN, "bf16")],
    "both, the old one last": [lambda: set_new(CUDA, "tf32"), REDUCED["medium"][0]],
}
SETTINGS = REDUCED | (NEW if HAS_NEW else {})


def switches() -> list[str]:
    """All switches; torch raises an error for the old ones where the new ones disagree."""
    found = []
    for read in (torch.get_float32_matmul_precision, lambda: CUDA.allow_tf32):
        try:
            found.append(str(read()))
        except RuntimeError:
            found.append("unclear")
    owners = [CUDA, ONEDNN, torch.backends, torch.backends.cudnn, torch.backends.mkldnn] if HAS_NEW else []
    return found + [owner.fp32_precision for owner in owners]


def is_full() -> bool:
    return switches()[:2] == ["highest", "False"] and all(one in ("none", "ieee") for one in switches()[2:4])


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")
    if HAS_NEW:
        owners: list[Any] = [torch.backends, CUDA, ONEDNN]
        for owner in owners:
            owner.fp32_precision = "none"
    assert is_full()


@pytest.fixture(params=SETTINGS)
def reduced(request: pytest.FixtureRequest) -> list[str]:
    """The switches as another pack has set them."""
    for step in SETTINGS[request.param]:
        step()
    assert not is_full()
    return switches()


def test_full_precision_inside_and_the_old_switches_afterwards(reduced: list[str]):
    with full_precision():
        assert is_full()
        with full_precision():
            assert is_full()
        assert is_full()
    assert switches() == reduced


def test_full_precision_already_set_is_not_touched():
    before = switches()
    with full_precision():
        assert switches() == before
    assert switches() == before


def test_the_switches_are_restored_after_an_error(reduced: list[str]):
    with pytest.raises(KeyboardInterrupt), full_precision():
        raise KeyboardInterrupt
    assert switches() == reduced


def test_precision_reduced_meanwhile_is_raised_again_at_the_next_step():
    with full_precision():
        torch.set_float32_matmul_precision("high")
        with full_precision():
            assert is_full()
        assert is_full()
    assert torch.get_float32_matmul_precision() == "high"


def test_the_last_of_several_threads_restores_the_switches(reduced: list[str]):
    inside, leave, seen = threading.Event(), threading.Event(), []

    def other() -> None:
        with full_precision():
            inside.set()
            leave.wait(10)
            seen.append(is_full())

    thread = threading.Thread(target=other)
    with full_precision():
        thread.start()
        inside.wait(10)
    assert is_full(), "the other thread still needs it"
    leave.set()
    thread.join()
    assert seen == [True] and switches() == reduced


@pytest.mark.parametrize("operation", [*ALL_MODES, "resize", "reading", "writing"])
def test_every_operation_runs_in_full_precision(reduced: list[str], operation: str):
    seen: list[bool] = []

    def look() -> None:
        seen.append(is_full())

    def made() -> torch.Tensor:
        look()
        return torch.ones(4, 3)

    lora = make_lora(1, shapes={LINEAR: (40, 30)})
    if operation == "resize":
        resize(lora, 2, compute=Compute(check=look))
    elif operation == "reading":
        from_state_dict(state_dict(lora), "lora", check=look)
    elif operation == "writing":

        class Made(LoraModule):
            def tensors(self):  # noqa: ANN202
                yield ".diff", LazyTensor(torch.float32, (4, 3), made)

        to_state_dict(Lora("made", {LINEAR: Made.of(LINEAR, torch.ones(4, 1), torch.ones(1, 3), 1.0)}))
    else:
        merge(operation, [lora, lora], 0.5, 2, compute=Compute(check=look))
    assert seen and all(seen)
    assert switches() == reduced


def test_the_switches_of_torch_before_2_9_and_of_intel_gpus(monkeypatch: pytest.MonkeyPatch):
    """A torch that has only the old switch, and oneDNN's switch for Intel's GPUs."""
    state = {"precision": "medium"}
    onednn = SimpleNamespace(allow_tf32=True)
    old = SimpleNamespace(
        backends=SimpleNamespace(cuda=SimpleNamespace(matmul=SimpleNamespace()), mkldnn=onednn),
        get_float32_matmul_precision=lambda: state["precision"],
        set_float32_matmul_precision=lambda value: state.update(precision=value),
    )
    monkeypatch.setattr(precision, "torch", old)
    for before in ("medium", "high", "highest"):
        state["precision"] = before
        with full_precision():
            assert state["precision"] == "highest" and not onednn.allow_tf32
        assert state["precision"] == before and onednn.allow_tf32
