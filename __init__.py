"""LoRA Power-Merger: nodes that load, merge, resize, apply, save and plot LoRAs. ComfyUI imports this module."""

from . import nodes, xy
from .nodes.duplicate_ids import warn_about_duplicate_ids
from .nodes.facts_route import serve_facts
from .nodes.help_route import serve_help
from .nodes.log_prefix import prefix_log_lines

NODE_CLASS_MAPPINGS = {**nodes.NODE_CLASSES, **xy.NODE_CLASSES}
NODE_DISPLAY_NAME_MAPPINGS = {**nodes.DISPLAY_NAMES, **xy.DISPLAY_NAMES}
WEB_DIRECTORY = "./web"

prefix_log_lines(__name__)
serve_help()
serve_facts()
warn_about_duplicate_ids(NODE_CLASS_MAPPINGS)

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
