"""The texts in locales/, in ComfyUI's own format.

English repeats the texts in the nodes' Python code; `UPDATE_LOCALES=1 pytest tests/comfy/test_locales.py` rewrites it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from lora_pack.tools.comfy_server import Server

LOCALES = Path(__file__).resolve().parents[2] / "locales"
ENGLISH = LOCALES / "en" / "nodeDefs.json"
OTHERS = sorted(path.name for path in LOCALES.iterdir() if path.name != "en")


def read(language: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8"))


def from_python(server: Server) -> dict[str, Any]:
    nodes = {}
    for name, info in server.object_info().items():
        if info["category"] != "LoRA PowerMerge":
            continue
        inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
        outputs = enumerate(info.get("output_tooltips") or [])
        nodes[name] = {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": {key: {"tooltip": spec[1]["tooltip"]} for key, spec in inputs.items() if "tooltip" in spec[1]},
        }
        tooltips = {str(number): {"tooltip": text} for number, text in outputs}
        if tooltips:
            nodes[name]["outputs"] = tooltips
    return nodes


def test_english_locale_matches_the_nodes(server: Server):
    texts = from_python(server)
    if os.environ.get("UPDATE_LOCALES"):
        ENGLISH.write_text(json.dumps(texts, ensure_ascii=False, indent=2) + "\n", "utf-8", newline="\n")
    assert read("en") == texts


@pytest.mark.parametrize("language", OTHERS)
def test_translations_have_the_same_keys_as_english(language: str):
    english, translated = read("en"), read(language)
    assert set(translated) == set(english)
    for name, texts in english.items():
        there = translated[name]
        assert there["display_name"] and there["description"]
        for part in ("inputs", "outputs"):
            missing = {key for key in texts.get(part, {}) if "tooltip" not in there.get(part, {}).get(key, {})}
            assert missing == set(), f"{name}: {part}"
            assert set(there.get(part, {})) == set(texts.get(part, {})), f"{name}: {part}"


def test_the_server_serves_the_locales(server: Server):
    texts = server.get("/i18n")
    for language in ("en", *OTHERS):
        assert texts[language]["nodeDefs"]["PM LoRA Merger"] == read(language)["PM LoRA Merger"]
