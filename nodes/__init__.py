"""Nodes that load, merge, resize, apply and save LoRAs: thin wrappers, each around one call into merge/."""

from .apply import ApplyLora
from .bake import BakeLora
from .extract import ExtractLora
from .inspect import InspectLora
from .load import LoadLora, LoraStrength
from .merge_loras import MergeLoras, MergeLorasSvd
from .merge_options import MergeOptionsNode
from .power_loader import PowerLoader
from .resize import ResizeLora
from .save import SaveLora
from .stack import LorasFromFolder, StackLoras

# Workflows store these ids, including workflows saved with the older Power-Merger pack: never change them.
NODE_CLASSES = {
    "PM LoRA Loader": LoadLora,
    "PM LoRA Strength": LoraStrength,
    "PM LoRA Merger": MergeLoras,
    "PM LoRA SVD Merger": MergeLorasSvd,
    "PM LoRA Resizer": ResizeLora,
    "PM LoRA Apply": ApplyLora,
    "PM LoRA Save": SaveLora,
    "PM LoRA Stack": StackLoras,
    "PM LoRA from Folder": LorasFromFolder,
    "PM LoRA Merge Options": MergeOptionsNode,
    "PM LoRA Inspect": InspectLora,
    "PM LoRA Power Loader": PowerLoader,
    "PM LoRA Bake": BakeLora,
    "PM LoRA Extract": ExtractLora,
}

DISPLAY_NAMES = {
    "PM LoRA Loader": "PM Load LoRA",
    "PM LoRA Strength": "PM LoRA Strength",
    "PM LoRA Merger": "PM Merge LoRA",
    "PM LoRA SVD Merger": "PM Merge LoRA SVD",
    "PM LoRA Resizer": "PM Resize LoRA",
    "PM LoRA Apply": "PM Apply LoRA",
    "PM LoRA Save": "PM Save LoRA",
    "PM LoRA Stack": "PM LoRA Stack",
    "PM LoRA from Folder": "PM LoRA from Folder",
    "PM LoRA Merge Options": "PM Merge Options",
    "PM LoRA Inspect": "PM Inspect LoRA",
    "PM LoRA Power Loader": "PM Power Loader",
    "PM LoRA Bake": "PM Bake LoRA",
    "PM LoRA Extract": "PM Extract LoRA",
}
