"""The operations on whole LoRAs: matching their weights, merging, resizing. Knows nothing of files."""
