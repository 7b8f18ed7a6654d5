"""rsLoRA: a LoRA whose scale is alpha / sqrt(rank) (arXiv 2312.03732), where a file's metadata says that it is one.

PEFT and diffusers write their configuration under one key, by component: {"unet.use_rslora": true, "unet.r": 8,
"unet.lora_alpha": 8, ...}. ComfyUI's own loader does not look at it.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..lora import Adapter, LowRank

log = logging.getLogger(__name__)

KEY = "lora_adapter_metadata"


def scaled_as_told(adapters: Iterable[Adapter], metadata: Mapping[str, str], name: str) -> list[Adapter]:
    """The adapters with the alpha that gives rsLoRA's scale where the metadata asks for it."""
    config = _config(metadata)
    components = [key.removesuffix(".use_rslora") for key, value in config.items() if _asks(key, value)]
    if not components:
        return list(adapters)
    log.info(
        "%s is an rsLoRA by its metadata: it counts alpha / sqrt(rank), which ComfyUI's own loader does not.", name
    )
    return [_scaled(adapter, components, config) for adapter in adapters]


def _config(metadata: Mapping[str, str]) -> dict[str, object]:
    try:
        config = json.loads(metadata.get(KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _asks(key: str, value: object) -> bool:
    return key.endswith(".use_rslora") and value is True


def _scaled(adapter: Adapter, components: Iterable[str], config: Mapping[str, object]) -> Adapter:
    component = next((one for one in components if adapter.name.startswith(one + ".")), None)
    # a file that has alphas says with them what it means
    if component is None or not isinstance(adapter, LowRank) or adapter.alpha != adapter.rank:
        return adapter
    alpha = _alpha(adapter.name.removeprefix(component + "."), component, config)
    scaled = alpha * math.sqrt(adapter.rank)
    return replace(adapter, alpha=scaled) if math.isfinite(scaled) else adapter  # type: ignore[type-var]


def _alpha(path: str, component: str, config: Mapping[str, object]) -> float:
    """The alpha of a module: its own, where alpha_pattern has one, or that of all; NaN where there is none."""
    pattern = config.get(f"{component}.alpha_pattern")
    owned = pattern.items() if isinstance(pattern, dict) else ()
    own = next((value for module, value in owned if path == module or path.endswith(f".{module}")), None)
    alpha = config.get(f"{component}.lora_alpha") if own is None else own
    try:
        return float(alpha) if isinstance(alpha, int | float) else math.nan
    except OverflowError:  # a whole number of hundreds of digits
        return math.nan
