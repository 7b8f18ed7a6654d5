"""The evidence benchmark: how well merges of a concept LoRA and a style LoRA keep both, on a small SD 3."""
