"""The patterns that the tables of names are written in."""

from __future__ import annotations

import pytest
from lora_pack.merge.names.patterns import Table, expand


def test_expand_writes_out_all_options():
    assert expand("a.[b|c].{n}", "d") == ("a.b.{n}", "a.c.{n}", "d")
    assert expand("[a|b].[c|d]") == ("a.c", "a.d", "b.c", "b.d")


def test_a_table_prefers_the_pattern_with_fewer_placeholders():
    table = Table([("x.{n}.y.0", "zero"), ("x.{n}.y.2", "two"), ("x.7.y.{m}", "seven"), ("x.{n}.y.{m}", "any")])
    assert table.find("x_3_y_0") == ("zero", {"n": "3"})
    assert table.find("x_12_y_2") == ("two", {"n": "12"})
    assert table.find("x_7_y_1") == ("seven", {"m": "1"})
    assert table.find("x_3_y_1") == ("any", {"n": "3", "m": "1"})
    assert table.find("x_3_y") is None and table.find("x_a_y_0") is None
    with pytest.raises(ValueError, match="twice"):
        Table([("a.b", 1), ("a_b", 2)])


def test_digits_inside_a_word_are_a_number_only_after_block():
    table = Table([("fc1.{n}.conv2x", "a"), ("all.2-1.x", "b")])
    assert table.find("fc1_9_conv2x") == ("a", {"n": "9"})
    assert table.find("all_2-1_x") == ("b", {})
    table = Table([("blocks.block{b}.blocks.0", "a"), ("middle_block.1", "b")])
    assert table.find("blocks_block12_blocks_0") == ("a", {"b": "12"})
    assert table.find("middle_block_1") == ("b", {}) and table.find("middle_block1") is None
