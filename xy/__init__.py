"""XY plots: axes of LoRA merges, for KSampler (Efficient) and for the pack's own grid."""

from .grid import XyGrid
from .lora_axes import PlotModes, PlotStrengths, PlotSvdRank
from .sampling_axis import PlotSampling

# Ids are saved in workflows, also in those of the older Power-Merger pack: they never change.
NODE_CLASSES = {
    "XY: PM LoRA Strengths": PlotStrengths,
    "XY: PM LoRA Modes": PlotModes,
    "XY: PM LoRA SVD Rank": PlotSvdRank,
    "XY: PM Sampling": PlotSampling,
    "PM XY Grid": XyGrid,
}

DISPLAY_NAMES = {
    "XY: PM LoRA Strengths": "XY: LoRA Power-Merge Strengths",
    "XY: PM LoRA Modes": "XY: LoRA Power-Merge Modes",
    "XY: PM LoRA SVD Rank": "XY: LoRA Power-Merge SVD Rank",
    "XY: PM Sampling": "XY: Sampling Values",
    "PM XY Grid": "PM XY Grid",
}
