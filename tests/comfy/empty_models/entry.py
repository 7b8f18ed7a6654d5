"""The type of a row in the tables of models."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]
# our architecture, ComfyUI's class in comfy.supported_models, the configuration
Entry = tuple[str, str, Config]
