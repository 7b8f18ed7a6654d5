"""The form of the tables of models: what one row says."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]
# our architecture, ComfyUI's class in comfy.supported_models, the configuration
Entry = tuple[str, str, Config]
