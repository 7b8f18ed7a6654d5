"""The texts in locales/, in ComfyUI's own format.

English repeats the texts in the nodes' Python code; `UPDATE_LOCALES=1 pytest tests/comfy/test_locales.py` rewrites it.
Labels of inputs that should not read as their names (`name`) exist only here, written by hand, and are kept.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from lora_pack.tools.comfy_server import Server

CATEGORY = "LoRA Power-Merger"
LOCALES = Path(__file__).resolve().parents[2] / "locales"
ENGLISH = LOCALES / "en" / "nodeDefs.json"
OTHERS = sorted(path.name for path in LOCALES.iterdir() if path.name != "en")


def read(language: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8"))


def from_python(server: Server) -> dict[str, Any]:
    nodes = {}
    written = read("en")
    for name, info in server.object_info().items():
        if not info["category"].startswith(CATEGORY):
            continue
        inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
        outputs = enumerate(info.get("output_tooltips") or [])
        nodes[name] = {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": {
                key: labels(written, name, key) | {"tooltip": spec[1]["tooltip"]}
                for key, spec in inputs.items()
                if "tooltip" in spec[1]
            },
        }
        tooltips = {str(number): {"tooltip": text} for number, text in outputs}
        if tooltips:
            nodes[name]["outputs"] = tooltips
    return nodes


def labels(written: dict[str, Any], node: str, key: str) -> dict[str, str]:
    """The label of an input in the locale, if it has one of its own."""
    texts = written.get(node, {}).get("inputs", {}).get(key, {})
    return {"name": texts["name"]} if "name" in texts else {}


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


@pytest.mark.parametrize("language", ["en", *OTHERS])
def test_every_category_has_a_translation(server: Server, language: str):
    categories = {info["category"] for info in server.object_info().values() if info["category"].startswith(CATEGORY)}
    translated = json.loads((LOCALES / language / "main.json").read_text("utf-8"))["nodeCategories"]
    assert {part for category in categories for part in category.split("/")} == set(translated)


@pytest.mark.parametrize("language", ["en", *OTHERS])
def test_optional_models_of_a_merge_say_whom_they_are_for(language: str):
    for node in ("PM LoRA Merger", "PM LoRA SVD Merger", "PM LoRA Resizer"):
        inputs = read(language)[node]["inputs"]
        assert all("DoRA" in inputs[name]["name"] for name in ("model", "clip")), node


def test_the_server_serves_the_locales(server: Server):
    texts = server.get("/i18n")
    for language in ("en", *OTHERS):
        assert texts[language]["nodeDefs"]["PM LoRA Merger"] == read(language)["PM LoRA Merger"]
