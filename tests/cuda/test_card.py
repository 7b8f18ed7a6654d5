"""The checks of check.py as tests, on the accelerator that TEST_DEVICE names or the first there is."""

from __future__ import annotations

import os

import pytest
from lora_pack.tests.cuda import memory, results
from lora_pack.tests.cuda.card import KINDS, Card, first_device, why_missing

pytestmark = pytest.mark.cuda


@pytest.fixture(scope="module")
def card() -> Card:
    name = os.environ.get("TEST_DEVICE") or first_device()
    if name is None:
        pytest.skip(f"no accelerator here ({', '.join(KINDS)})")
    missing = why_missing(name)
    if missing:
        pytest.skip(missing)
    return Card(name)


@pytest.mark.parametrize("operation", results.OPERATIONS)
def test_the_card_gives_the_cpu_s_result(card: Card, operation: str):
    found = results.compare(operation, card.device)
    assert found.good, found


def test_memory_that_runs_out_and_the_room_that_is_asked_for(card: Card):
    bad = [check for check in memory.checks(card) if not check.good]
    assert not bad
