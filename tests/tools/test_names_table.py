"""What the docs say about families is what the data says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from lora_pack.merge.names import Architecture, mapped_names, target

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_in_the_docs_is_made_from_the_families():
    code = subprocess.run([sys.executable, "-m", "tools.names_table", "--check"], cwd=ROOT).returncode
    assert code == 0, "docs/names.md is older than merge/names: run python -m tools.names_table"


def test_the_family_in_the_guide_reads_as_the_guide_says():
    guide = (ROOT / "docs" / "adding-a-family.md").read_text("utf-8")
    (table,) = re.findall(r'TABLE = """(.*?)"""', guide, re.DOTALL)
    example = Architecture("Example", table, sizes={"w": 2048}, blocks={"blocks": 24})
    qkv = target("diffusion_model.blocks.3.attn.qkv", example)
    parts = [target(f"transformer.transformer_blocks.3.attn.to_{part}", example) for part in "qkv"]
    assert {part.weight for part in parts} == {qkv.weight}
    assert [part.start for part in parts] == [0, parts[0].stop, parts[1].stop] and parts[2].stop == 1
    assert target("blocks.3.attn_qkv", example) == qkv
    assert target("transformer.norm_out.linear", example).swapped
    assert list(mapped_names(target("blocks.3.scale_shift", example), example)) == [
        "diffusion_model.blocks.3.scale_shift"
    ]
    assert example.shapes["blocks.{b}.attn.qkv"] == (6144, 2048)
