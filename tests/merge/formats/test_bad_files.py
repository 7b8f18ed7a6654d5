"""Every bad or odd file of the table in the core: the message or the deltas, and no file left open."""

from __future__ import annotations

import logging
import os
import pickle
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from lora_pack.merge.adapters.base import Adapter, Lora
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load
from lora_pack.tests.support import oracle
from lora_pack.tests.support.bad_files import (
    BOOM,
    CASES,
    DOTTED,
    LINEAR,
    NOTED,
    REFUSED,
    RIGHT,
    Bomb,
    Case,
    deltas_of,
    document,
)
from lora_pack.tests.support.makers import tensor_bytes

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "bad-files.md"
TOLD_TWICE = {DOTTED: LINEAR}  # two names of one weight in one file
LONGEST = 10.0  # seconds of computing that any file may take
SLOW = ("many_modules.safetensors",)

pytestmark = pytest.mark.filterwarnings("ignore:Validating sparse tensor")

refused = pytest.mark.parametrize("case", [c for c in CASES if c.outcome == REFUSED], ids=lambda case: case.file)
read = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.file, marks=[pytest.mark.slow] if case.file in SLOW else [])
        for case in CASES
        if case.outcome != REFUSED
    ],
)


def made(case: Case, folder: Path) -> Path:
    try:
        return case.make(folder)
    except OSError as error:
        pytest.skip(f"this system allows no such file: {error}")


def refusal(path: Path) -> str:
    with pytest.raises(LoraError) as caught:
        load(path)
    return str(caught.value)


def open_files(path: Path) -> list[Path]:
    handles = [handle for handle in Path("/proc/self/fd").iterdir() if handle.exists()]
    return [handle for handle in handles if path.exists() and os.path.samefile(handle, path)]


def delta(adapter: Adapter) -> np.ndarray:
    """An adapter's delta, in float64 from its factors if it has some."""
    factors = adapter.factors()
    if factors is None:
        return adapter.block_weight * adapter.dense().double().numpy()
    up, down = (factor.double().numpy() for factor in factors)
    return adapter.block_weight * adapter.scale * (up @ down)


def contents(lora: Lora) -> list[object]:
    """Everything that a LoRA holds, for comparison."""
    tensors = [
        (name, ending, tensor.dtype, tuple(tensor.shape), tensor_bytes(tensor.materialize()))
        for name, adapter in lora.modules.items()
        for ending, tensor in adapter.tensors()
    ]
    return [lora.name, lora.strength_model, lora.strength_clip, dict(lora.metadata), tensors]


def test_the_table_has_every_outcome_and_no_file_twice():
    assert len({case.file.lower() for case in CASES}) == len(CASES)
    assert {case.outcome for case in CASES} == {REFUSED, RIGHT, NOTED}


@refused
def test_load_refuses_a_bad_file_with_its_message(case: Case, tmp_path: Path):
    path = made(case, tmp_path)
    began = time.process_time()
    message = refusal(path)
    assert time.process_time() - began < LONGEST
    assert case.pattern().fullmatch(message), message
    assert case.file in message or case.loras_name in message
    assert len(re.findall(r"[.!?](?=\s|$)", message)) <= 2, "one or two sentences"
    assert len(message) < 2500 and message.isprintable()
    assert refusal(path) == message
    assert not (tmp_path / BOOM).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@refused
def test_load_closes_a_file_that_it_refuses(case: Case, tmp_path: Path):
    path = made(case, tmp_path)
    with pytest.raises(LoraError) as caught:
        load(path)
    assert open_files(path) == [], caught  # while the error still holds its frames
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_open_files_finds_an_open_file(tmp_path: Path):
    path = tmp_path / "a"
    path.touch()
    if sys.platform == "linux":
        with path.open("rb"):
            assert len(open_files(path)) == 1


@read
def test_load_reads_an_odd_file_correctly(case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = made(case, tmp_path)
    expected: dict[str, np.ndarray] = {}
    for name, value in deltas_of(path).items():
        name = TOLD_TWICE.get(name, name) if case.file == "two_names.safetensors" else name
        expected[name] = expected.get(name, 0) + value
    began = time.process_time()
    with caplog.at_level(logging.INFO):
        lora = load(path)
    assert time.process_time() - began < LONGEST
    assert set(lora.modules) == set(expected) != set()
    for name, adapter in lora.modules.items():
        assert oracle.distance(delta(adapter), expected[name]) <= 1e-6, name
    notes = [record.getMessage() for record in caplog.records]
    if case.outcome == NOTED:
        assert [note for note in notes if case.pattern().fullmatch(note)], notes
    else:
        assert not [note for note in notes if case.loras_name in note]
    assert contents(load(path)) == contents(lora)


def test_the_pickle_bomb_would_run(tmp_path: Path):
    pickle.loads(pickle.dumps(Bomb(tmp_path)))
    assert (tmp_path / BOOM).exists()


def test_docs_bad_files_matches_the_table():
    if os.environ.get("UPDATE_DOCS"):
        DOCUMENT.write_text(document(), "utf-8", newline="\n")
    assert DOCUMENT.read_text("utf-8") == document()
