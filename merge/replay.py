"""Makes a LoRA again from the recipe in its file (see provenance/recipe.py)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch

from .adapters.base import Lora
from .block_weights.apply import with_block_weights
from .compute.context import DTYPES, CancelCheck, Compute
from .errors import LoraError
from .files import READABLE, adapter_config, load, save
from .formats import peft_config
from .formats.key_styles import STYLES
from .formats.trainer_scale import AS_BEFORE, CONFIG_HASH, AlphaFrom
from .io.hashing import sha256_of
from .io.paths import folder_name
from .merging.merge_deltas import merge_deltas
from .merging.merge_factors import merge_factors
from .merging.options import AS_GIVEN, OF_THE_MODE, MergeOptions
from .merging.resize import resize
from .names import Style
from .names.recognition import architecture_named
from .provenance.recipe import ARCHITECTURE, FROM_MODEL, KEY
from .provenance.recipe_text import MAX_GENERATIONS, OLDER_STEPS, parsed
from .version import VERSION

log = logging.getLogger(__name__)

# As JSON gave it: anything in it can be missing or of the wrong type.
Recipe = Mapping[str, Any]
_STYLES: dict[object, Style | None] = {None: None, **{style: style for style in STYLES}}
_ALPHAS_FROM = (*get_args(AlphaFrom), AS_BEFORE)


@dataclass(frozen=True)
class Replayed:
    """A LoRA made again, with the strengths, dtype and names that it was saved with."""

    lora: Lora
    dtype: torch.dtype | None
    names: Style | None


def recipe_of(lora: Lora) -> Recipe:
    """The recipe in a LoRA's metadata. Raises LoraError if there is none of this pack."""
    made = parsed(lora.metadata.get(KEY))
    if not isinstance(made, dict) or "operation" not in made:
        raise LoraError(f"{lora.name} has no recipe: it was not saved by LoRA Power-Merger 1.0 or later.")
    return made


def replay(lora: Lora, folder: Path, scratch: Path, compute: Compute) -> Replayed:
    """The LoRA made again from the files of its inputs, which are looked for in ``folder`` and its subfolders.

    All settings come from the recipe, none from today's defaults. An input whose file is gone but that has a recipe is
    made again too, as a file in ``scratch``, which must exist until the result is saved. Raises LoraError, before long
    work, that names every input that is missing or has changed; also if the LoRA depends on a model's weights.
    """
    recipe = recipe_of(lora)
    if recipe["operation"] == "extract":
        raise LoraError(f"{lora.name} is the difference of two models. Extract it again from their files.")
    if recipe.get("version") != VERSION:
        log.warning(
            "%s was made with version %s and is made again with %s: the values may differ.",
            *(lora.name, recipe.get("version"), VERSION),
        )
    files = _find(recipe, folder, lora.name, compute.check)
    try:
        return _Maker(files, scratch, compute).saved(recipe)
    except LoraError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise LoraError(f"The recipe of {lora.name} is damaged ({type(error).__name__}: {error}).") from None


class _Maker:
    """Makes the results of recipes, each only once: ``parsed`` gives one object for a step that has several uses."""

    def __init__(self, files: dict[str, Path], scratch: Path, compute: Compute) -> None:
        self._files, self._scratch, self._compute = files, scratch, compute
        self._done: dict[int, Lora] = {}

    def saved(self, recipe: Recipe) -> Replayed:
        """The LoRA that the file with this recipe was saved from."""
        made = self._made(recipe)
        lora = made.with_strengths(float(recipe.get("strength_model", 1)), float(recipe.get("strength_clip", 1)))
        dtype = DTYPES[recipe["save_dtype"]] if "save_dtype" in recipe else None
        return Replayed(lora, dtype, _STYLES[recipe.get("names")])

    def _made(self, recipe: Recipe) -> Lora:
        if id(recipe) not in self._done:
            inputs = [self._input(entry) for entry in recipe["inputs"]]
            self._done[id(recipe)] = _result(recipe, inputs, self._compute)
        return self._done[id(recipe)]

    def _input(self, entry: Recipe) -> Lora:
        if entry.get("sha256") is None:
            lora = self._made(entry["made"])
        else:
            key = _key(entry)
            if key not in self._files:
                self._files[key] = self._file_again(entry)
            alpha_from = entry.get("alpha_from", AS_BEFORE)
            if alpha_from not in _ALPHAS_FROM:
                raise LoraError(f"The recipe has an alpha_from that this version doesn't know: {alpha_from}.")
            lora = load(self._files[key], entry["name"], self._compute.check, alpha_from)
        for spec in entry.get("block_weights", ()):
            lora = with_block_weights(lora, spec, {})
        return lora.with_strengths(float(entry.get("strength_model", 1)), float(entry.get("strength_clip", 1)))

    def _file_again(self, entry: Recipe) -> Path:
        """The missing file of a merged input, written again with the same strengths, dtype and names."""
        saved, check = self.saved(entry["made"]), self._compute.check
        path = save(saved.lora, self._scratch / "input.safetensors", saved.dtype, check=check, style=saved.names)
        if sha256_of(path, check) != entry["sha256"]:
            log.warning(
                "%s was made again from its own inputs, but the file is not identical. The original was made with "
                "another version, torch or processor, or its metadata was edited.",
                entry["name"],
            )
        return path


def _result(recipe: Recipe, inputs: list[Lora], compute: Compute) -> Lora:
    """The result of the recipe's operation on these inputs."""
    operation = recipe["operation"]
    if ARCHITECTURE in recipe:
        architecture = architecture_named(recipe[ARCHITECTURE])
        inputs = [replace(lora, architecture=architecture) for lora in inputs]
    if operation == "load":
        return inputs[0]
    compute = replace(compute, dtype=DTYPES[recipe["dtype"]])
    if operation == "merge":
        mode, density, seed = _mode(recipe)
        return merge_factors(inputs, mode, density, seed, compute, options=_options(recipe))
    if operation == "merge_svd":
        (mode, density, seed), ranks = _mode(recipe), (recipe["rank"], recipe["conv_rank"])
        return merge_deltas(inputs, mode, density, *ranks, seed, compute, options=_options(recipe))
    if operation == "resize":
        ranks = recipe["rank"], recipe["conv_rank"]
        as_lora = recipe.get("as") == "lora"
        return resize(inputs[0], *ranks, recipe["method"], recipe.get("value", 0.9), compute, as_lora)
    raise LoraError(f"The recipe has an operation that this version doesn't know: {operation}.")


def _mode(recipe: Recipe) -> tuple[str, float, int]:
    """The mode of a merge, its density and its seed; those that it doesn't use have no effect."""
    return recipe["mode"], recipe.get("density", 1.0), recipe.get("seed", 0)


def _options(recipe: Recipe) -> MergeOptions:
    return MergeOptions(
        recipe.get("strength_rule", OF_THE_MODE), recipe.get("weights", AS_GIVEN), recipe.get("parameters", {})
    )


# --- the inputs' files ---


def _find(recipe: Recipe, folder: Path, name: str, check: CancelCheck) -> dict[str, Path]:
    """The files of a recipe's inputs, and of their inputs if they have to be made again, by ``_key``."""
    files = _LoraFiles(folder, check)
    found: dict[str, Path] = {}
    seen: dict[int, list[str]] = {}

    def look(recipe: Recipe, depth: int) -> list[str]:
        if id(recipe) not in seen:
            seen[id(recipe)] = look_into(recipe, depth)
        return seen[id(recipe)]

    def look_into(recipe: Recipe, depth: int) -> list[str]:
        missing = []
        if recipe.get(FROM_MODEL):
            raise LoraError(
                f"{name} can't be made again from files only: a connected model decided which weights the names in its "
                "inputs mean."
            )
        for entry in _entries(recipe, name):
            if entry.get(FROM_MODEL):
                raise LoraError(
                    f"{name} can't be made again from files only: {entry.get('name')} was computed from a model's "
                    "weights (DoRA, GLoRA, OFT)."
                )
            problem = files.problem(entry, found) if "sha256" in entry else None
            made = entry.get("made")
            if problem is None and "sha256" in entry:
                continue
            if isinstance(made, dict) and depth < MAX_GENERATIONS:
                deeper = look(made, depth + 1)
                if deeper or problem is None:
                    missing += [problem, *deeper] if problem else deeper
                else:
                    log.warning("%s It is made again from its own inputs.", problem)
                continue
            problem = problem or f"{entry.get('name')} did not come from a file."
            if OLDER_STEPS in entry:
                problem += " The recipe no longer says how it was made."
            missing.append(problem)
        return list(dict.fromkeys(missing))  # several steps may have the same input

    problems = look(recipe, 0)
    if problems:
        raise LoraError(f"{name} can't be made again: {' '.join(problems)}")
    return found


def _key(entry: Recipe) -> str:
    """Identifies the file of an input: its hash, and that of its configuration if that was used."""
    return " ".join(str(entry[part]) for part in ("sha256", CONFIG_HASH) if entry.get(part) is not None)


def _entries(recipe: Recipe, name: str) -> list[Recipe]:
    entries = recipe.get("inputs")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise LoraError(f"The recipe of {name} is damaged: it has no list of inputs.")
    return entries


class _LoraFiles:
    """The LoRA files in a folder and its subfolders, and the hashes of those that were read."""

    def __init__(self, folder: Path, check: CancelCheck) -> None:
        self._folder, self._check = folder, check
        self._files = list(_lora_files(folder))
        self._hashes: dict[Path, str] = {}

    def problem(self, entry: Recipe, found: dict[str, Path]) -> str | None:
        """What is wrong with the file of an input; None if it was found, with its path added to ``found``."""
        sha256, file, key = entry["sha256"], str(entry.get("file", "")), _key(entry)
        if key in found:
            return None
        config_changed = False
        named = [path for path in self._files if path.relative_to(self._folder).as_posix() == file]
        alike = [path for path in self._files if path.name == file.rsplit("/", 1)[-1]]
        sized = [path for path in self._files if path.stat().st_size == entry.get("size")]
        for path in dict.fromkeys([*named, *alike, *sized]):
            if path.stat().st_size == entry.get("size") and self._hash(path) == sha256:
                if self._has_config(path, entry):
                    found[key] = path
                    return None
                config_changed = True
        if config_changed:
            return f"The {peft_config.FILE} of {file} is missing or has changed since."
        if named or alike:
            return f"{file} has changed since (its SHA-256 was {sha256})."
        return f"{file} is missing in {folder_name(self._folder)} (SHA-256 {sha256})."

    def _has_config(self, path: Path, entry: Recipe) -> bool:
        """Whether the file still has the configuration that was used, if there was one."""
        wanted, config = entry.get(CONFIG_HASH), adapter_config(path)
        return wanted is None or (config is not None and self._hash(config) == wanted)

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            self._hashes[path] = sha256_of(path, self._check)
        return self._hashes[path]


def _lora_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in READABLE and path.is_file())
