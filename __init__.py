"""LoRA Power-Merger for ComfyUI: load, merge, resize, apply, save and plot LoRAs. This is what ComfyUI imports."""

from . import nodes, xy
from .nodes.help_route import serve_help
from .nodes.same_ids import watch_for_same_ids

NODE_CLASS_MAPPINGS = {**nodes.NODE_CLASSES, **xy.NODE_CLASSES}
NODE_DISPLAY_NAME_MAPPINGS = {**nodes.DISPLAY_NAMES, **xy.DISPLAY_NAMES}
WEB_DIRECTORY = "./web"

serve_help()
watch_for_same_ids(NODE_CLASS_MAPPINGS)

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
