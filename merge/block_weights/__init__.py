"""Block weights (lbw), one for each block of the model: notation, presets, layouts, and applying them to a LoRA."""
