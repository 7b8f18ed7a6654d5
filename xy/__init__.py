"""XY plots of LoRA merges: axes for KSampler (Efficient) and for the pack's own grid."""

from .find_strengths import FindStrengths
from .grid import XyGrid
from .lora_axes import PlotModes, PlotStrengths, PlotSvdRank
from .lora_files import PlotFiles
from .lora_sweep import PlotSweep
from .reference_pictures import ReferencePictures
from .sampling_axis import PlotSampling

# Workflows store these ids, including workflows saved with the older Power-Merger pack: never change them.
NODE_CLASSES = {
    "XY: PM LoRA Strengths": PlotStrengths,
    "XY: PM LoRA Modes": PlotModes,
    "XY: PM LoRA SVD Rank": PlotSvdRank,
    "XY: PM LoRA Sweep": PlotSweep,
    "XY: PM LoRA Files": PlotFiles,
    "XY: PM Sampling": PlotSampling,
    "PM XY Grid": XyGrid,
    "PM LoRA References": ReferencePictures,
    "PM LoRA Find Strengths": FindStrengths,
}

DISPLAY_NAMES = {
    "XY: PM LoRA Strengths": "XY: LoRA Power-Merge Strengths",
    "XY: PM LoRA Modes": "XY: LoRA Power-Merge Modes",
    "XY: PM LoRA SVD Rank": "XY: LoRA Power-Merge SVD Rank",
    "XY: PM LoRA Sweep": "XY: LoRA Power-Merge Sweep",
    "XY: PM LoRA Files": "XY: LoRA Power-Merge Files",
    "XY: PM Sampling": "XY: Sampling Values",
    "PM XY Grid": "PM XY Grid",
    "PM LoRA References": "PM Reference Pictures",
    "PM LoRA Find Strengths": "PM Find Strengths",
}
