"""Operations on whole LoRAs: matching their weights, merging, resizing. Knows nothing about files."""
