"""The metadata of saved files that other programs read, besides the recipe.

The keys are those of sd-scripts (train_util.build_minimum_network_metadata) and of ModelSpec 1.0.1
(https://github.com/Stability-AI/ModelSpec). The inputs' training settings are dropped, since they don't describe the
result. Trigger words and tag counts are kept, under the name of their LoRA.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import TypeVar

from ..adapters.architecture import architecture_of, architectures_of
from ..adapters.base import Adapter, Lora, LoraModule
from . import recipe
from .base_models import base_metadata
from .recipe_text import MAX_BYTES, size_of

log = logging.getLogger(__name__)

TAGS = "ss_tag_frequency"
PHRASE = "modelspec.trigger_phrase"
# The keys under which trainers write trigger words.
TRIGGER_KEYS = (PHRASE, "trigger_words", "trigger_word", "ss_trigger_words")
# Our own key: trigger words by LoRA.
TRIGGERS = f"{recipe.KEY}.trigger_words"
# Kept in a result if all inputs that have them agree.
SHARED = (
    "ss_base_model_version",
    "ss_v2",
    "modelspec.architecture",
    "modelspec.implementation",
    "modelspec.resolution",
    "modelspec.prediction_type",
)
# diffusers' key for PEFT's adapter configuration in a file's header (LoraLoaderMixin; see peft_config.py).
ADAPTER_METADATA = "lora_adapter_metadata"
# Only true of the tensors of the file that they come from.
OF_THE_TENSORS = (
    *("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256", "ss_new_sd_model_hash"),
    ADAPTER_METADATA,  # its scales are applied to the tensors that we write
)
# The SHA-256 of a file's data after the header, as ModelSpec and sd-scripts define it.
HASH = "modelspec.hash_sha256"


def of_result(recipe_text: str, loras: Sequence[Lora]) -> dict[str, str]:
    """The metadata of a result of these LoRAs: its recipe, and the entries of theirs that are also true of it."""
    used = [lora for lora in loras if lora.strength_model or lora.strength_clip] or loras
    result = {"format": "pt", recipe.KEY: recipe_text}
    for key in SHARED:
        values = {lora.metadata[key] for lora in used if key in lora.metadata}
        if len(values) == 1:
            result[key] = values.pop()
    tags = _bounded(_by_lora(_tags(lora) for lora in used), "tag counts")
    if tags:
        result[TAGS] = json.dumps(tags, ensure_ascii=False)
    phrases = _bounded(_by_lora(_phrases(lora) for lora in used), "trigger words")
    if phrases:
        result[TRIGGERS] = json.dumps(phrases, ensure_ascii=False)
        result[PHRASE] = ", ".join(dict.fromkeys(map(str, phrases.values())))
    return result


def of_file(lora: Lora, written: Lora, settings: Mapping[str, object]) -> dict[str, str]:
    """The metadata for the file of ``lora``, which is saved in the form ``written``; without the file's hash.

    A loaded LoRA keeps the metadata of its file, except for entries that its strengths make wrong.
    """
    modules = list(written.modules.values())
    kept = {key: value for key, value in lora.metadata.items() if key not in OF_THE_TENSORS}
    result = kept | _dimensions(modules)
    plain = all(isinstance(module, LoraModule) for module in modules)
    result.setdefault("ss_network_module", "networks.lora" if plain else "lycoris.kohya")
    for key, value in base_metadata(architecture_of(written), architectures_of(written)).items():
        result.setdefault(key, value)
    result.setdefault("modelspec.sai_model_spec", "1.0.1")
    result.setdefault("modelspec.title", lora.name)
    merged_from = _names(recipe.parsed(lora.metadata.get(recipe.KEY)))
    if merged_from:
        result["modelspec.merged_from"] = ", ".join(merged_from)
    result[recipe.KEY] = recipe.saved_text(lora, settings)
    return result


def fitted(metadata: Mapping[str, str], room: int) -> dict[str, str]:
    """The metadata, without its longest texts if all of it would take more than ``room`` bytes of the header."""
    kept, left_out = _without_longest(metadata, room)
    for key in left_out:
        log.warning("The metadata %.200s is left out: with it, the file's header would be too long to be read.", key)
    return kept


def _dimensions(modules: Iterable[Adapter]) -> dict[str, str]:
    """Rank and alpha as sd-scripts writes them: "Dynamic" if modules differ, as in its resize_lora.py."""
    plain = [module for module in modules if isinstance(module, LoraModule)]
    found = {
        "ss_network_dim": {module.rank for module in plain},
        "ss_network_alpha": {module.alpha * module.block_weight for module in plain},
    }
    return {
        key: f"{next(iter(values)):g}" if len(values) == 1 else "Dynamic" for key, values in found.items() if values
    }


def _names(made: object) -> list[str]:
    """The names of the inputs in a recipe."""
    inputs = made.get("inputs") if isinstance(made, dict) else None
    names = [entry.get("name") for entry in inputs if isinstance(entry, dict)] if isinstance(inputs, list) else []
    return [name for name in names if isinstance(name, str)]


def _tags(lora: Lora) -> dict[str, object]:
    """The tag counts in a LoRA's metadata, by the LoRA that was trained with them."""
    tables = {name: _counts(table) for name, table in _table(lora.metadata.get(TAGS)).items()}
    if _is_result(lora):
        return {name: counts for name, counts in tables.items() if counts}  # already by LoRA
    total: dict[str, int] = {}
    for counts in tables.values():  # by folder
        for tag, number in counts.items():
            total[tag] = total.get(tag, 0) + number
    result: dict[str, object] = {lora.name: total}
    return result if total else {}


def _counts(table: object) -> dict[str, int]:
    return {tag: n for tag, n in table.items() if isinstance(n, int)} if isinstance(table, dict) else {}


def _is_result(lora: Lora) -> bool:
    """Whether a merge or resize made its metadata; a file that was only loaded and saved has its trainer's."""
    made = recipe.parsed(lora.metadata.get(recipe.KEY))
    return isinstance(made, dict) and made.get("operation") in ("merge", "merge_svd", "resize")


def _phrases(lora: Lora) -> Mapping[str, object]:
    """The trigger words in a LoRA's metadata, by the LoRA that was trained with them."""
    ours = {name: words for name, words in _table(lora.metadata.get(TRIGGERS)).items() if isinstance(words, str)}
    phrase = next((lora.metadata[key].strip() for key in TRIGGER_KEYS if lora.metadata.get(key, "").strip()), "")
    return ours or ({lora.name: phrase} if phrase else {})


def _table(text: str | None) -> dict[str, object]:
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _by_lora(tables: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """All tables in one; if two different LoRAs have the same name, the second gets a number."""
    result: dict[str, object] = {}
    for table in tables:
        for name, value in table.items():
            numbered = (name if number == 1 else f"{name} ({number})" for number in count(1))
            free = next(key for key in numbered if key not in result or result[key] == value)
            result[free] = value
    return result


def _bounded(tables: Mapping[str, object], what: str) -> dict[str, object]:
    """The tables by LoRA, without the longest if together they exceed the size limit of a recipe."""
    kept, left_out = _without_longest(tables, MAX_BYTES)
    for name in left_out:
        log.warning("The %s of %s are left out of the result's metadata: they are too long.", what, name)
    return kept


ValueT = TypeVar("ValueT")


def _without_longest(table: Mapping[str, ValueT], room: int) -> tuple[dict[str, ValueT], list[str]]:
    """The table without as many of its longest entries as needed to fit ``room`` bytes of JSON, and their keys."""
    sizes = {key: size_of(json.dumps({key: value}, ensure_ascii=False)) for key, value in table.items()}
    total, left_out = sum(sizes.values()), []
    for key in sorted(sizes, key=lambda key: sizes[key], reverse=True):
        if total <= room:
            break
        total -= sizes[key]
        left_out.append(key)
    return {key: value for key, value in table.items() if key not in left_out}, left_out
