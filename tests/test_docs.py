"""The docs name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Folders of ours; others (environments, caches) hold files of the same names.
FOLDERS = ("merge", "nodes", "xy", "pictures", "web", "tests", "tools", "benchmarks", "docs", "locales")
FILES = [path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]
FILES += [path.name for path in ROOT.iterdir() if path.is_file()]
# What the docs quote from elsewhere begins with one of these.
ELSEWHERE = (
    "comfy/",
    "peft/",
    "diffusers/",
    "library/",
    "networks/",
    "train_util.py",
    "src/",
    "tuners/lora/",
    "resize_lora.py",
    "lora_merge.py",
    "lora_optimizer.py",
    "loralib/",
)
# Files that a reader writes, or that another program has.
EXAMPLES = ("NAME", "ID", "block_presets.user.txt")
MENTION = re.compile(r"(?<![\w/.-])((?:[\w.-]+/)*[\w.-]+\.(?:py|md|js|mjs|txt|toml|yml))\b")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_the_docs_name_exists(page: Path):
    text = re.sub(r"```.*?```|https?://\S+", "", page.read_text("utf-8"), flags=re.DOTALL)
    named = {match[1] for match in MENTION.finditer(text)}
    ours = {name for name in named if not name.startswith(ELSEWHERE) and not any(word in name for word in EXAMPLES)}
    missing = {name for name in ours if not any(f"/{file}".endswith(f"/{name}") for file in FILES)}
    assert sorted(missing) == []
