"""Work on blocks in a thread of its own: all of it in order, its errors heard, none of it after an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from lora_pack.merge.io import background_writer
from lora_pack.merge.io.background_writer import BackgroundWriter


def block(number: int, size: int = 1) -> memoryview:
    return memoryview(bytes([number]) * size)


@pytest.mark.parametrize(
    "size", [1, background_writer.BATCH_BYTES // 3, background_writer.BATCH_BYTES, 2 * background_writer.BATCH_BYTES]
)
def test_blocks_are_processed_in_order_by_one_other_thread(size: int):
    seen: list[int] = []
    threads: set[int] = set()

    def work(one: memoryview) -> None:
        assert one.nbytes == size
        seen.append(one[0])
        threads.add(threading.get_ident())

    with BackgroundWriter(work) as put:
        for number in range(50):
            put(block(number, size))
        put.finish()
        assert seen == list(range(50))
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_at_most_max_waiting_batches_are_kept():
    """A disk slower than the merge must not fill the memory."""
    go, begun = threading.Event(), threading.Event()
    handed = 0

    def work(one: memoryview) -> None:
        begun.set()
        assert go.wait(30)

    def hand_over() -> None:
        nonlocal handed
        with BackgroundWriter(work) as put:
            for number in range(20):
                put(block(number, background_writer.BATCH_BYTES))
                handed += 1
            put.finish()

    thread = threading.Thread(target=hand_over)
    thread.start()
    assert begun.wait(30)
    settled(lambda: handed)
    assert handed == background_writer.MAX_WAITING
    go.set()
    thread.join(30)
    assert handed == 20


def settled(value: Callable[[], int]) -> None:
    last, since = value(), time.monotonic()
    while time.monotonic() - since < 0.3:
        time.sleep(0.02)
        if value() != last:
            last, since = value(), time.monotonic()


@pytest.mark.parametrize("failing", [0, 3, 19])
def test_an_error_reaches_the_caller_and_stops_the_work(failing: int):
    done: list[int] = []

    def work(one: memoryview) -> None:
        if one[0] == failing:
            raise OSError("disk full")
        done.append(one[0])

    with pytest.raises(OSError, match="disk full"), BackgroundWriter(work) as put:
        for number in range(20):
            put(block(number, background_writer.BATCH_BYTES))
        put.finish()
    assert done == list(range(failing))


def test_leaving_early_drops_pending_work_and_ends_the_thread():
    go, begun = threading.Event(), threading.Event()
    done: list[int] = []

    def work(one: memoryview) -> None:
        begun.set()
        assert go.wait(30)
        done.append(one[0])

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), BackgroundWriter(work) as put:
        for number in range(3):
            put(block(number, background_writer.BATCH_BYTES))
        assert begun.wait(30)
        threading.Timer(0.1, go.set).start()
        raise KeyboardInterrupt
    assert done == [0]
    settled(threading.active_count)
    assert threading.active_count() <= before
