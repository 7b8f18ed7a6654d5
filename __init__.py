"""LoRA Power-Merger for ComfyUI: load, merge, resize, apply and save LoRAs. This is what ComfyUI imports."""

from .nodes import DISPLAY_NAMES as NODE_DISPLAY_NAME_MAPPINGS
from .nodes import NODE_CLASSES as NODE_CLASS_MAPPINGS

WEB_DIRECTORY = "./web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
