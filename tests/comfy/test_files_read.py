"""FilesRead: what counts as a change since a file was read."""

from __future__ import annotations

from types import ModuleType


def test_a_change_between_two_readings_counts(comfy: ModuleType):
    from lora_pack.nodes.files_read import FilesRead

    states: dict[str, int] = {"a": 1, "b": 1}
    read = FilesRead(states.__getitem__)
    read.note("a")
    read.note("b")
    assert read.changes() == read.changes() == 0
    states["a"] = 2
    assert read.changes() == read.changes() == 1
    states["a"] = 3
    read.note("a")  # another node reads it: what the first one read is out of date
    assert read.changes() == read.changes() == 2
    read.note("a")
    assert read.changes() == 2
