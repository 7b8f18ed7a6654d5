"""The docs about families agree with the data."""

from __future__ import annotations

import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

from lora_pack.merge.names import Architecture, RowRange, mapped_names, resolve

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_in_the_docs_is_up_to_date():
    code = subprocess.run([sys.executable, "-m", "tools.names_table", "--check"], cwd=ROOT).returncode
    assert code == 0, "docs/names.md is older than merge/names: run python -m tools.names_table"


def test_the_example_family_of_the_guide_resolves_as_described():
    guide = (ROOT / "docs" / "adding-a-family.md").read_text("utf-8")
    (table,) = re.findall(r'TABLE = """(.*?)"""', guide, re.DOTALL)
    example = Architecture("Example", table, sizes={"w": 2048}, blocks={"blocks": 24})
    qkv = resolve("diffusion_model.blocks.3.attn.qkv", example)
    parts = [resolve(f"transformer.transformer_blocks.3.attn.to_{part}", example) for part in "qkv"]
    assert {part.weight for part in parts} == {qkv.weight}
    assert [part.rows for part in parts] == [RowRange(Fraction(n, 3), Fraction(n + 1, 3)) for n in range(3)]
    assert resolve("blocks.3.attn_qkv", example) == qkv
    assert resolve("transformer.norm_out.linear", example).swapped
    assert list(mapped_names(resolve("blocks.3.scale_shift", example), example)) == [
        "diffusion_model.blocks.3.scale_shift"
    ]
    assert example.shapes["blocks.{b}.attn.qkv"] == (6144, 2048)
