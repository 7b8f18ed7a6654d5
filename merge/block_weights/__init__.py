"""Block weights (lbw): notation, block layouts, applying them. Knows nothing about LoRA files or merging."""
