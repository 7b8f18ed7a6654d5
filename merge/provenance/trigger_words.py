"""Trigger words and the base model's name, from a LoRA file's metadata and from the tables beside it (sidecars.py)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from .metadata import TAGS, TRIGGER_KEYS, TRIGGERS

# How many of the training captions' tags are shown, where the file names no trigger words.
MOST_TAGS = 12
MAX_WORDS = 40
MAX_CHARACTERS = 300

Table = Mapping[str, object]


def trigger_words(metadata: Mapping[str, str], tables: Iterable[Table] = ()) -> list[str]:
    """As ``named_words``; if there are none, the most frequent tags of the training captions."""
    return named_words(metadata, tables) or [tag for tag, _ in _tags(metadata)[:MOST_TAGS]]


def named_words(metadata: Mapping[str, str], tables: Iterable[Table] = ()) -> list[str]:
    """The words that switch the LoRA on, each once: from the tables, then from the metadata."""
    words: list[str] = []
    for table in tables:
        for found in (table.get("trainedWords"), table.get("activation text"), _inner(table).get("trainedWords")):
            words += _words(found)
    for key in TRIGGER_KEYS:
        words += _words(metadata.get(key))
    for text in _table(metadata.get(TRIGGERS)).values():
        words += _words(text)
    return list(dict.fromkeys(words))[:MAX_WORDS]


def base_model_named(metadata: Mapping[str, str], tables: Iterable[Table] = ()) -> str:
    """The base model as the trainer or the download site calls it; "" if neither does."""
    for table in tables:
        for found in (table.get("baseModel"), table.get("base_model"), table.get("sd version")):
            if isinstance(found, str) and found.strip() and found != "Unknown":
                return found.strip()[:MAX_CHARACTERS]
    keys = ("modelspec.architecture", "ss_base_model_version", "ss_sd_model_name")
    return next((metadata[key].strip()[:MAX_CHARACTERS] for key in keys if metadata.get(key, "").strip()), "")


def _inner(table: Table) -> Table:
    inner = table.get("civitai")
    return inner if isinstance(inner, dict) else {}


def _words(found: object) -> list[str]:
    """The words in a list, or in a text separated by commas. Civitai's entries may hold several words each."""
    texts = found if isinstance(found, list) else [found]
    parts = (part.strip() for text in texts if isinstance(text, str) for part in _plain(text).split(","))
    return [part[:MAX_CHARACTERS] for part in parts if part]


def _tags(metadata: Mapping[str, str]) -> list[tuple[str, int]]:
    """The tags of all folders with how often they occur, the most frequent first."""
    total: dict[str, int] = {}
    for counts in _table(metadata.get(TAGS)).values():
        for tag, number in counts.items() if isinstance(counts, dict) else ():
            if type(number) is int:
                name = _plain(tag).strip()
                total[name] = total.get(name, 0) + number
    return sorted(((tag, n) for tag, n in total.items() if tag), key=lambda pair: -pair[1])


def _plain(text: str) -> str:
    """Without halves of characters, which JSON can hold but no tokenizer or terminal takes."""
    return text.encode("utf-8", "replace").decode()


def _table(text: str | None) -> dict[str, object]:
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
