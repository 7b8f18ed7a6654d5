"""How the work runs, for every operation of the core: its precision, its progress, and whoever stops it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lora_pack.merge import lowrank
from lora_pack.merge.compute import Compute
from lora_pack.merge.files import load, save
from lora_pack.merge.formats import from_state_dict, to_state_dict
from lora_pack.merge.lora import Lora, LoraError
from lora_pack.merge.resize import resize
from lora_pack.tests import oracle
from lora_pack.tests.makers import LINEAR, make_lora, of_modules, state_dict
from lora_pack.tests.merging import ALL_MODES, DENSE_MODES, merge, three_loras

OPERATIONS: dict[str, Callable[[Compute], Lora]] = {
    **{mode: lambda compute, mode=mode: merge(mode, three_loras("3x3"), compute=compute) for mode in ALL_MODES},
    "resize": lambda compute: resize(make_lora(1, ranks=[5]), 3, compute=compute),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("dtype, within", [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_the_result_is_cast_once_at_the_end(operation: str, dtype: torch.dtype, within: float):
    whole, half = (OPERATIONS[operation](Compute(dtype=d)) for d in (torch.float32, dtype))
    assert list(half.modules) == list(whole.modules)
    for name, module in half.modules.items():
        assert module.up.dtype == module.down.dtype == dtype
        assert torch.equal(module.up, whole.modules[name].up.to(dtype))
        assert torch.equal(module.down, whole.modules[name].down.to(dtype))
        assert module.alpha == whole.modules[name].alpha
        deltas = (oracle.module_delta(m) for m in (module, whole.modules[name]))
        assert oracle.distance(*deltas) < within


@pytest.mark.parametrize("operation", [*ALL_MODES, "resize"])
def test_results_too_large_for_their_precision_are_refused(operation: str):
    """Never an Inf in a value: it would be noticed in a picture, or not at all."""
    lora = make_lora(1, shapes={LINEAR: (14, 11)}, scale=1e6)
    half = Compute(dtype=torch.float16)
    with pytest.raises(LoraError, match=LINEAR):
        resize(lora, 3, compute=half) if operation == "resize" else merge(operation, [lora, lora], compute=half)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_progress_is_told_after_each_module(operation: str):
    steps: list[tuple[int, int]] = []
    count = len(OPERATIONS[operation](Compute(progress=lambda *step: steps.append(step))).modules)
    assert [step for step in steps if step[0] > 0] == [(i, count) for i in range(1, count + 1)]


class Stopped(BaseException):
    """What ComfyUI raises when the user stops; in its newest versions it is no Exception."""


class StopAt:
    """A check that raises at its n-th call; 0: never."""

    def __init__(self, n: int, error: type[BaseException] = Stopped):
        self.n, self.error, self.calls = n, error, 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self.n:
            raise self.error


def assert_stops(work: Callable[[Callable[[], None]], object], least: int) -> None:
    """Whichever call of check raises, that ends the work, and what was raised comes out as it is."""
    never = StopAt(0)
    work(never)
    assert never.calls >= least
    for error in (Stopped, RuntimeError, KeyboardInterrupt):
        for n in sorted({1, 2, 3, never.calls // 2, never.calls - 1, never.calls} - {0}):
            if n <= never.calls:
                check = StopAt(n, error)
                with pytest.raises(error):
                    work(check)
                assert check.calls == n


@pytest.mark.parametrize("operation", OPERATIONS)
def test_whoever_stops_an_operation_is_heard_at_once(operation: str):
    assert_stops(lambda check: OPERATIONS[operation](Compute(check=check)), least=2)


def test_whoever_stops_reading_a_state_dict_is_heard():
    assert_stops(lambda check: from_state_dict(state_dict(make_lora(1)), "x", check=check), least=6)
    assert_stops(lambda check: to_state_dict(make_lora(1), check=check), least=6)


def test_whoever_stops_reading_or_writing_a_file_is_heard(tmp_path: Path):
    path = save(make_lora(1), tmp_path / "a.safetensors")
    assert_stops(lambda check: load(path, check=check), least=6)
    assert_stops(lambda check: save(make_lora(1), path, overwrite=True, check=check), least=6)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("mode", DENSE_MODES)
def test_a_large_delta_asks_often_whether_to_stop(mode: str, monkeypatch: pytest.MonkeyPatch):
    """Not only between modules: one delta can take seconds."""
    monkeypatch.setattr(lowrank, "BLOCK_ELEMENTS", 400 * 20)
    loras = [make_lora(s, shapes={LINEAR: (300, 400)}) for s in (1, 2)]
    never = StopAt(0)
    merge(mode, loras, 0.5, rank=8, compute=Compute(check=never))
    passes = 3 if mode in ("ties_svd", "magnitude_prune_svd") else 1  # a threshold for each, then the merge
    assert never.calls > 15 * passes  # the blocks of rows in a pass


def test_an_empty_lora_is_no_trouble():
    nothing = of_modules([])
    assert not resize(nothing, 4).modules
    assert not merge("ties_svd", [nothing]).modules
