"""Merge methods: pure functions on tensors, and their registry. Knows nothing of LoRAs or files."""
