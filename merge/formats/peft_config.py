"""PEFT's adapter configuration: the rank and alpha of each module, which give its scale.

PEFT saves it as `adapter_config.json` next to `adapter_model.safetensors`. diffusers saves the same options in the
header of its files, each prefixed with its component: {"unet.r": 16, "unet.lora_alpha": 32, ...}. The
scale is alpha / r, or alpha / sqrt(r) for rsLoRA (arXiv 2312.03732). rank_pattern and alpha_pattern override both for
single modules (PEFT's get_pattern_key).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from reprlib import repr as short
from typing import Any

from ..errors import LoraError
from ..names.prefixes import PEFT
from ..provenance.metadata import ADAPTER_METADATA

FILE = "adapter_config.json"
# PEFT's own default of r and alpha.
DEFAULT = 8
OPTIONS = ("r", "lora_alpha", "alpha", "use_rslora", "rank_pattern", "alpha_pattern")

# The values of peft_type that can be read.
KINDS = ("LORA", "LOHA", "LOKR")
# Options that make an adapter more than its tensors, and initialisations that also change the base model.
UNREADABLE = (
    *("fan_in_fan_out", "use_qalora", "use_bdlora", "kasa_config", "alora_invocation_tokens", "layer_replication"),
    *("arrow_config", "monteclora_config", "target_parameters", "trainable_token_indices", "modules_to_save"),
)
CHANGES_BASE = ("pissa", "olora", "corda", "lora_ga")

_PLAIN = re.compile(r"\^?[\w.-]+\$?", re.ASCII)
# Patterns come from files. These limits keep matching cubic in the length of a name at worst.
_LONGEST_PATTERN, _LONGEST_NAME, _MOST_EXPRESSIONS, _MOST_REPEATS = 200, 200, 20, 2
_REPEAT = re.compile(r"(?<!\\)(?:\*|\+|\{)")
_UNSAFE = re.compile(r"\(\?(?!:)|\)[*+{?]|\\[1-9]|[*+}]\+")


@dataclass(frozen=True)
class Pattern:
    """Numbers by regular expression; the first expression that matches a module's path gives its number.

    In an expression that is a plain path a dot stands for a dot.
    """

    numbers: Mapping[str, float]

    def of(self, path: str, default: float | None) -> float | None:
        tails = [path, *(path[at + 1 :] for at, letter in enumerate(path) if letter == ".")]
        fitting = [self._plain[tail] for tail in tails if tail in self._plain]
        if "^" + path in self._plain:
            fitting.append(self._plain["^" + path])
        if len(path) <= _LONGEST_NAME:
            fitting += [place for place, expression in self._expressions if expression.match(path)]
        return list(self.numbers.values())[min(fitting)] if fitting else default

    @cached_property
    def _plain(self) -> dict[str, int]:
        places = {}
        for place, key in enumerate(self.numbers):
            if _PLAIN.fullmatch(key):
                places.setdefault(key.removesuffix("$"), place)
        return places

    @cached_property
    def _expressions(self) -> list[tuple[int, re.Pattern[str]]]:
        others = [(place, key) for place, key in enumerate(self.numbers) if not _PLAIN.fullmatch(key)]
        return [(place, re.compile(rf"(?:.*\.)?(?:{key})$")) for place, key in others]


NO_PATTERN = Pattern({})


@dataclass(frozen=True)
class PeftConfig:
    """The options of one component that determine the scale of its modules.

    ``component`` prefixes the names of its modules and ends in a dot; "" if the file has a single component. ``rank``
    None means the rank of the tensors. ``origin`` names the configuration in messages, ``sha256`` is that of its file.
    """

    component: str
    alpha: float
    rank: float | None = None
    use_rslora: bool = False
    rank_pattern: Pattern = field(default=NO_PATTERN)
    alpha_pattern: Pattern = field(default=NO_PATTERN)
    origin: str = ADAPTER_METADATA
    sha256: str | None = None

    def path(self, name: str) -> str | None:
        """The module's path in the model that PEFT trained; None for a module of another component."""
        if not name.startswith(self.component):
            return None
        return name.removeprefix(self.component).removeprefix(PEFT)

    def rank_of(self, path: str, own: int | None) -> float | None:
        """The rank of a module; ``own``, that of its tensors, if the configuration gives none."""
        return self.rank_pattern.of(path, own if self.rank is None else self.rank)

    def scale(self, path: str, rank: float) -> float:
        alpha = self.alpha_pattern.of(path, self.alpha)
        assert alpha is not None
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def from_header(metadata: Mapping[str, str]) -> list[PeftConfig]:
    """The configurations in a file's header, the longest component name first.

    Invalid ones are skipped rather than refused: most programs ignore this header.
    """
    try:
        config = json.loads(metadata.get(ADAPTER_METADATA, "{}"))
    except (ValueError, RecursionError):
        return []
    components: dict[str, dict[str, Any]] = {}
    for key, value in config.items() if isinstance(config, dict) else ():
        component, _, option = key.rpartition(".")
        if option in OPTIONS:
            components.setdefault(component, {})[option] = value
    found = []
    for component, options in components.items():
        if "lora_alpha" in options or "alpha" in options:
            try:
                found.append(_config(options, component + "." if component else "", ADAPTER_METADATA))
            except LoraError:
                continue
    return sorted(found, key=lambda one: -len(one.component))


def from_file(content: bytes, name: str, sha256: str) -> PeftConfig:
    """The configuration in an `adapter_config.json`; ``name`` is the LoRA's, for messages.

    Raises LoraError if the file is not a valid configuration, and for adapters that can't be merged.
    """
    origin = f"{name}: its {FILE}"

    def no_number(text: str) -> None:
        raise LoraError(f"{origin} holds {text}, which is not a number. Download it again, or correct it.")

    try:
        config = json.loads(content.decode("utf-8"), parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        if isinstance(error, LoraError):
            raise
        raise LoraError(f"{origin} can't be read as JSON ({error}). Download it again, or correct it.") from None
    if not isinstance(config, dict):
        raise LoraError(f"{origin} is not a table of options. Download it again, or correct it.")
    _require_readable(config, origin)
    options = {"r": DEFAULT, "lora_alpha": DEFAULT, **config}
    if config.get("peft_type", "LORA") != "LORA":
        options = {**options, "lora_alpha": config.get("alpha", DEFAULT)}
    found = _config(options, "", origin)
    return replace(found, sha256=sha256)


def _require_readable(config: Mapping[str, Any], origin: str) -> None:
    kind = config.get("peft_type", "LORA")
    if kind not in KINDS:
        raise LoraError(
            f"{origin} says that it is a PEFT adapter of the kind {short(kind)}, which can't be merged (LORA, LOHA and "
            "LOKR can). ComfyUI's own loader doesn't load such adapters right either: merge it into its base model "
            "with PEFT."
        )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(CHANGES_BASE):
        raise LoraError(
            f"{origin} says that it was initialised with {start}, which changes the base model as well. Save it as a "
            "plain LoRA with PEFT (path_initial_model_for_weight_conversion)."
        )
    unreadable = next((option for option in UNREADABLE if config.get(option)), None)
    if unreadable is not None:
        raise LoraError(
            f"{origin} sets {unreadable}, so the adapter is more than its LoRA tensors; ComfyUI's own loader would "
            "drop the rest. Merge it into its base model with PEFT (merge_and_unload)."
        )


def _config(options: Mapping[str, Any], component: str, origin: str) -> PeftConfig:
    rank = options.get("r")
    alpha = options["lora_alpha"] if options.get("lora_alpha") is not None else options.get("alpha")
    rslora = options.get("use_rslora")
    if rslora not in (True, False, None):
        raise LoraError(f"{origin} has {short(rslora)} for use_rslora, which must be true or false.")
    return PeftConfig(
        component,
        _number(alpha, "alpha", origin),
        None if rank is None else _rank(rank, "r", origin),
        bool(rslora),
        _pattern(options, "rank_pattern", origin, _rank),
        _pattern(options, "alpha_pattern", origin, _number),
        origin,
    )


def _number(value: object, option: str, origin: str) -> float:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:  # a whole number of hundreds of digits
        number = math.nan
    if not math.isfinite(number):
        raise LoraError(f"{origin} has {short(value)} for {option}, which must be a number.")
    return number


def _rank(value: object, option: str, origin: str) -> float:
    number = _number(value, option, origin)
    if number < 1 or number != int(number):
        raise LoraError(f"{origin} has {short(value)} for {option}, which must be a whole number of 1 or more.")
    return number


def _pattern(options: Mapping[str, Any], option: str, origin: str, read: Any) -> Pattern:
    table = options.get(option) or {}
    if not isinstance(table, dict):
        raise LoraError(f"{origin} has {short(table)} for {option}, which must be a table of numbers by module.")
    numbers = {key: read(value, f"{option} of {key}", origin) for key, value in table.items()}
    expressions = [key for key in numbers if not _PLAIN.fullmatch(key)]
    unsafe = next((key for key in expressions if not _is_safe(key)), None)
    if unsafe is not None or len(expressions) > _MOST_EXPRESSIONS:
        raise LoraError(
            f"{origin} has an expression in {option} that takes too long to match ({unsafe or expressions[0]!r}). "
            "Write out the modules' names."
        )
    return Pattern(numbers)


def _is_safe(expression: str) -> bool:
    """Whether matching this regular expression can't take long."""
    if len(expression) > _LONGEST_PATTERN or _UNSAFE.search(expression):
        return False
    if len(_REPEAT.findall(expression)) > _MOST_REPEATS:
        return False
    try:
        re.compile(expression)
    except (re.error, OverflowError, RecursionError):
        return False
    return True
